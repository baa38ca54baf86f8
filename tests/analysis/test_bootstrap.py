"""Bootstrap intervals against the binomial distribution, a resampling loop and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hqcnn_lab.analysis.bootstrap import bootstrap_accuracy, bootstrap_difference


def some_right(n: int, share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def loop(values: np.ndarray, groups: np.ndarray, n_resamples: int = 2000) -> np.ndarray:
    """Means of resamples, drawn one by one as lists of groups."""
    rng = np.random.default_rng(1)
    images_of = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    means = np.empty(n_resamples)
    for i in range(n_resamples):
        drawn = rng.integers(0, len(images_of), len(images_of))
        means[i] = values[np.concatenate([images_of[g] for g in drawn])].mean()
    return means


@pytest.mark.parametrize(("n", "share"), [(50, 0.5), (200, 0.9), (655, 0.98)])
def test_single_images_give_the_binomial_interval(n: int, share: float) -> None:
    correct = some_right(n, share)
    found = bootstrap_accuracy(correct, n_resamples=50_000)
    low, high = stats.binom(n, correct.mean()).ppf([0.025, 0.975]) / n
    assert found.estimate == correct.mean()
    assert (found.low, found.high) == pytest.approx((low, high), abs=1.01 / n)  # at most one image off
    assert found.high - found.low == pytest.approx(2 * 1.96 * correct.std() / np.sqrt(n), abs=2.01 / n)


def test_groups_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, 200) ** 2 // 20  # of many sizes
    values = (rng.random(groups.max() + 1)[groups] > rng.random(200)).astype(bool)
    found, expected = bootstrap_accuracy(values, groups), loop(values, groups)
    width = np.diff(np.percentile(expected, [2.5, 97.5])).item()
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])), abs=0.07 * width)
    single = bootstrap_accuracy(values)
    assert found.high - found.low > 1.2 * (single.high - single.low)


def test_runs_are_averaged_and_their_images_drawn_jointly() -> None:
    easy = np.random.default_rng(0).random(120)
    runs = np.stack([some_right(120, 1.0 - 0.5 * easy, seed) for seed in range(5)])
    found, expected = bootstrap_accuracy(runs), loop(runs.mean(0), np.arange(120), 4000)
    assert found.estimate == pytest.approx(runs.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])), abs=0.01)
    assert bootstrap_accuracy(np.stack([runs[0]] * 4)) == bootstrap_accuracy(runs[0])  # nothing new in a repetition


@given(st.integers(0, 1000), st.integers(2, 5))
@settings(deadline=None, max_examples=15)
def test_copies_add_no_certainty(seed: int, n_copies: int) -> None:
    correct = some_right(80, 0.8, seed)
    groups = np.random.default_rng(seed).integers(0, 40, 80)
    copied = bootstrap_accuracy(np.tile(correct, n_copies), np.tile(groups, n_copies))
    assert copied == bootstrap_accuracy(correct, groups)
    ungrouped = bootstrap_accuracy(np.tile(correct, n_copies))
    assert ungrouped.high - ungrouped.low < copied.high - copied.low


def test_names_and_order_of_groups_do_not_matter() -> None:
    correct, groups = some_right(60, 0.7), np.arange(60) // 3
    names = np.array([f"patient {97 * g % 61}" for g in groups])
    order = np.random.default_rng(0).permutation(60)
    assert bootstrap_accuracy(correct[order], names[order]) == bootstrap_accuracy(correct, groups)


def test_difference_is_paired_on_images() -> None:
    hard = np.random.default_rng(0).random(400)
    a, b = hard < 0.9, hard < 0.87  # b fails wherever a does, and on some more
    found = bootstrap_difference(a, b, n_resamples=50_000)
    lost = (a & ~b).sum()
    low, high = stats.binom(400, lost / 400).ppf([0.025, 0.975]) / 400
    assert found.estimate == pytest.approx(lost / 400)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1.01 / 400)
    assert found.share_at_most_0 == pytest.approx(stats.binom(400, lost / 400).pmf(0), abs=5e-4)


def test_difference_equals_scipy() -> None:
    a, b = some_right(300, 0.9, 1), some_right(300, 0.85, 2)
    found = bootstrap_difference(a, b)
    expected = stats.bootstrap(
        (a.astype(float) - b,), np.mean, method="percentile", n_resamples=10_000, random_state=np.random.default_rng(0)
    )
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=1.5 / 300)
    assert found.share_at_most_0 == pytest.approx((expected.bootstrap_distribution <= 1e-12).mean(), abs=0.015)


def test_difference_swaps_and_takes_unequal_numbers_of_runs() -> None:
    a = np.stack([some_right(90, 0.9, s) for s in range(3)])
    b = np.stack([some_right(90, 0.8, 10 + s) for s in range(2)])
    groups = np.arange(90) // 2
    one, other = bootstrap_difference(a, b, groups), bootstrap_difference(b, a, groups)
    assert one.estimate == pytest.approx(a.mean() - b.mean())
    assert one.estimate == -other.estimate
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.01)
    assert one.share_at_most_0 + other.share_at_most_0 >= 1 - 0.01
    repeated = bootstrap_difference(np.repeat(a, 2, 0), b, groups)
    assert (repeated.estimate, repeated.low, repeated.high) == pytest.approx((one.estimate, one.low, one.high))


def test_equal_predictions_have_no_difference() -> None:
    a = some_right(50, 0.8)
    found = bootstrap_difference(a, a)
    assert (found.estimate, found.low, found.high, found.share_at_most_0) == (0, 0, 0, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    a = some_right(50, 0.8)
    assert bootstrap_accuracy(a, seed=3) == bootstrap_accuracy(a, seed=3)


def test_what_cannot_be_resampled_is_refused() -> None:
    right = some_right(6, 0.5)
    with pytest.raises(ValueError, match=r"correct has to be bool .* float64"):
        bootstrap_accuracy(np.ones(4))
    with pytest.raises(ValueError, match="correct_b has to be bool"):
        bootstrap_difference(right, right[None, None])
    with pytest.raises(ValueError, match="6 and 5"):
        bootstrap_difference(right, right[:5])
    with pytest.raises(ValueError, match="one group for each of 6 images"):
        bootstrap_accuracy(right, np.arange(5))
    with pytest.raises(ValueError, match="all images are in one group"):
        bootstrap_accuracy(right, np.zeros(6))
