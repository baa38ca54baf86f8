"""Paired tests against brute force, scipy and published sample sizes."""

import itertools
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hqcnn_lab.analysis.paired import compare_paired, sign_flip_p

N_IMAGES = 655
counts = st.integers(600, N_IMAGES)
values = st.floats(-1e3, 1e3).map(lambda x: round(x, 6))
pairs_of_counts = st.lists(st.tuples(counts, counts), min_size=2, max_size=10)


def normal_pairs(n: int, seed: int, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    return a + shift, b


def brute_force_p(scores: list[float]) -> float:
    """The share of sign patterns of integer (or half-integer) scores that are as extreme, one by one."""
    sums = [
        abs(sum(s * x for s, x in zip(p, scores, strict=True))) for p in itertools.product((1, -1), repeat=len(scores))
    ]
    return sum(total >= abs(sum(scores)) for total in sums) / len(sums)


def pratt_ranks(differences: list[int]) -> list[float]:
    sizes = [abs(d) for d in differences]
    rank = {s: sum(t < s for t in sizes) + (sizes.count(s) + 1) / 2 for s in sizes}
    return [math.copysign(rank[abs(d)], d) if d else 0.0 for d in differences]


@pytest.mark.parametrize("n", [2, 3, 5, 12, 40])
def test_t_test_and_interval_equal_scipy(n: int) -> None:
    a, b = normal_pairs(n, seed=n)
    found, expected = compare_paired(a, b), stats.ttest_rel(a, b)
    assert found.n == n
    assert found.p_t == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    assert (found.mean_a, found.mean_b) == pytest.approx((np.mean(a), np.mean(b)))
    assert (found.std_a, found.std_b) == pytest.approx((np.std(a, ddof=1), np.std(b, ddof=1)))
    assert found.mean_difference == pytest.approx(np.mean(a) - np.mean(b))


def test_by_hand() -> None:
    found = compare_paired([3.0, 5.0, 4.0], [2.0, 3.0, 1.0])  # differences 1, 2, 3: mean 2, std 1, t = 2√3 with 2 dof
    t = 2 * math.sqrt(3)
    assert found.p_t == pytest.approx(1 - t / math.sqrt(t**2 + 2))  # Student's t with 2 dof in closed form
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert found.p_wilcoxon == found.p_permutation == 2 / 8
    assert found.hedges_g == pytest.approx(2 * math.gamma(1) / math.gamma(0.5))  # J(2) = Γ(1)/(√1 Γ(½))


@pytest.mark.parametrize(("n", "published"), [(5, 0.7979), (10, 0.9139), (20, 0.9599), (50, 0.9846)])
def test_hedges_correction(n: int, published: float) -> None:
    a, b = normal_pairs(n, seed=n)
    d = (a - b).mean() / (a - b).std(ddof=1)
    found = compare_paired(a, b).hedges_g / d
    assert found == pytest.approx(published, abs=2e-4)  # Γ(m/2)/(√(m/2) Γ((m − 1)/2)), m = n − 1
    assert found == pytest.approx(1 - 3 / (4 * (n - 1) - 1), abs=3e-3)  # Hedges' approximation


@given(pairs_of_counts)
@settings(deadline=None, max_examples=60)
def test_exact_tests_equal_brute_force_with_ties_and_zeros(pairs: list[tuple[int, int]]) -> None:
    differences = [x - y for x, y in pairs]
    for dtype in (np.float64, np.float32):  # what a run reports: a share of images, whose differences tie only nearly
        a, b = (np.array(side, dtype=dtype) / dtype(N_IMAGES) for side in zip(*pairs, strict=True))
        found = compare_paired(a, b)
        assert found.p_permutation == brute_force_p(differences)
        assert found.p_wilcoxon == brute_force_p(pratt_ranks(differences))


@given(st.lists(st.tuples(values, values), min_size=2, max_size=20))
@settings(deadline=None, max_examples=60)
def test_swapping_flips_signs_and_keeps_p(pairs: list[tuple[float, float]]) -> None:
    a, b = map(np.array, zip(*pairs, strict=True))
    one, other = compare_paired(a, b), compare_paired(b, a)
    for name in ("p_t", "p_wilcoxon", "p_permutation"):
        assert getattr(one, name) == getattr(other, name)
        assert 0 < getattr(one, name) <= 1
    assert one.detectable_seeds == other.detectable_seeds
    assert one.detectable_seeds is None or one.detectable_seeds >= 2
    np.testing.assert_array_equal(
        [one.mean_difference, one.low, one.high, one.hedges_g],
        [-other.mean_difference, -other.high, -other.low, -other.hedges_g],
    )
    assert (one.mean_a, one.std_a, one.mean_b, one.std_b) == (other.mean_b, other.std_b, other.mean_a, other.std_a)


@pytest.mark.parametrize("n", [4, 9, 16, 30])
def test_wilcoxon_without_ties_equals_scipy(n: int) -> None:
    a, b = normal_pairs(n, seed=n, shift=0.3)
    expected = stats.wilcoxon(a, b, method="exact").pvalue
    error = 0 if n <= 16 else 4 * math.sqrt(expected * (1 - expected) / 20_000)
    assert compare_paired(a, b).p_wilcoxon == pytest.approx(expected, rel=1e-9, abs=error)


@pytest.mark.slow
@pytest.mark.parametrize("n", [7, 16, 17, 60])
def test_permutation_equals_scipy(n: int) -> None:
    a, b = normal_pairs(n, seed=n, shift=0.4)
    expected = stats.permutation_test(
        (a - b,),
        np.mean,
        permutation_type="samples",
        n_resamples=2**16,
        vectorized=True,
        random_state=np.random.default_rng(0),
    ).pvalue
    error = 0 if n <= 16 else 5 * math.sqrt(expected * (1 - expected) / 20_000)
    assert compare_paired(a, b).p_permutation == pytest.approx(expected, rel=1e-9, abs=error)


def test_the_least_p_of_few_pairs() -> None:
    a = np.array([0.1, 0.25, 0.3, 0.7, 0.75])
    found = compare_paired(a, np.zeros(5))
    assert found.p_permutation == found.p_wilcoxon == 2 / 32
    assert compare_paired(np.arange(1.0, 7), np.zeros(6)).p_wilcoxon == 2 / 64
    assert sign_flip_p(np.ones(30)) == 1 / 20_001  # none of the random flips is as extreme: never 0


def test_random_flips_are_fixed() -> None:
    a, b = normal_pairs(25, seed=1)
    assert compare_paired(a, b) == compare_paired(a, b)


def test_no_difference_at_all() -> None:
    found = compare_paired([0.9, 0.8, 0.95], [0.9, 0.8, 0.95])
    assert (found.p_t, found.p_wilcoxon, found.p_permutation, found.detectable_seeds) == (1, 1, 1, None)
    assert found.mean_difference == 0


def test_a_rounding_error_is_no_difference() -> None:
    found = compare_paired([0.1 + 0.2, 0.9, 0.8, 0.7], [0.3, 0.8, 0.6, 0.4])
    assert found.p_wilcoxon == 2 / 8  # the pair without a difference says nothing: three are left


def test_differences_without_scatter_are_not_called_certain() -> None:
    found = compare_paired([0.7, 0.8, 0.9], [0.6, 0.7, 0.8])  # 0.1 up to rounding: t would be about 10¹⁵
    assert (found.p_t, found.p_permutation, found.detectable_seeds) == (1, 2 / 8, None)
    assert all(math.isnan(x) for x in (found.low, found.high, found.hedges_g))


def test_two_pairs_have_no_corrected_effect() -> None:
    found = compare_paired([1.0, 2.0], [0.0, 0.5])
    assert math.isnan(found.hedges_g)
    assert all(not math.isnan(v) for k, v in asdict(found).items() if k != "hedges_g")


@pytest.mark.parametrize(("d_z", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_detectable_seeds_as_published(d_z: float, seeds: int) -> None:
    # what G*Power 3.1 gives for a two-sided paired t-test, α 0.05, power 0.8
    pattern = np.array([1.0, -1, 1, -1, 0, 0])
    pattern /= pattern.std(ddof=1)
    assert compare_paired(pattern + d_z, np.zeros(6)).detectable_seeds == seeds


@pytest.mark.parametrize("d_z", [0.7, 1.5, 3.25, 6.0, 20.0, 1e4])
def test_detectable_seeds_reach_the_power_and_one_less_does_not(d_z: float) -> None:
    pattern = np.array([1.0, -1, 1, -1])
    pattern /= pattern.std(ddof=1)
    n = compare_paired(pattern + d_z, np.zeros(4)).detectable_seeds

    def power(n: int) -> float:
        """Integrated over the χ² of the variance: no noncentral t."""
        variance = stats.chi2(n - 1).ppf((np.arange(20_000) + 0.5) / 20_000) / (n - 1)
        critical = stats.t.ppf(0.975, n - 1) * np.sqrt(variance)
        shift = min(d_z, 1e3) * math.sqrt(n)
        return float((stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift)).mean())

    assert power(n) >= 0.8 - 1e-4
    assert n == 2 or power(n - 1) < 0.8


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([1.0, float("nan")], [1.0, 2.0], r"a\[1\] is nan"),
        ([1.0, 2.0], [float("inf"), 2.0], r"b\[0\] is inf"),
        ([1.0], [2.0], "2 or more seeds"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], r"\(2,\), \(3,\)"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"\(1, 2\)"),
    ],
)
def test_what_cannot_be_paired_is_refused(a: list, b: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compare_paired(a, b)
