"""Times to a level against hand-worked cases, scipy's estimators and plain means."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hqcnn_lab.analysis.survival import compare_times, time_to_level

HORIZON = 12
epochs = st.one_of(st.none(), st.integers(1, HORIZON))
runs = st.lists(epochs, min_size=2, max_size=9)


def test_by_hand() -> None:
    # S: 1 until 2, 4/5 until 4, 3/5 until 6 (one run broke off at 5), 3/10 from then on
    found = time_to_level([2, 4, None, 6, None], [10, 10, 5, 10, 10], horizon=10)
    assert (found.n, found.n_reached, found.median) == (5, 3, 6)
    assert found.restricted_mean == pytest.approx(2 + 0.8 * 2 + 0.6 * 2 + 0.3 * 4)
    # Greenwood: (area behind t)² d/(n (n − d)) at 2, 4 and 6, and 5/4 for few runs
    variance = 4.0**2 / (5 * 4) + 2.4**2 / (4 * 3) + 1.2**2 / (2 * 1)
    assert found.standard_error == pytest.approx(math.sqrt(variance * 5 / 4))


def test_published_remission_times() -> None:
    """6-mercaptopurine against placebo, weeks (Freireich et al. 1963): median 23 and 8."""
    drug = [6, 6, 6, 7, 10, 13, 16, 22, 23] + [None] * 12
    ends = [36] * 9 + [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    found = time_to_level(drug, ends, horizon=23)
    assert (found.median, found.median_low, found.median_high) == (23, 13, None)
    found = time_to_level(placebo, 36)
    assert (found.median, found.median_low, found.median_high) == (8, 4, 11)  # R: survfit(conf.type = "log-log")
    assert found.restricted_mean == pytest.approx(np.mean(placebo))


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=2, max_size=12), st.integers(1, 9))
@settings(deadline=None, max_examples=80)
def test_equals_scipy_with_runs_of_any_length(observed: list[tuple[int, bool]], horizon: int) -> None:
    times = [t if reached else None for t, reached in observed]
    ends = [t for t, _ in observed]
    horizon = min(horizon, max(ends))
    found = time_to_level(times, ends, horizon)
    if not any(reached for _, reached in observed):
        assert (found.n_reached, found.median, found.restricted_mean, found.standard_error) == (0, None, horizon, 0)
        return
    curve = stats.ecdf(stats.CensoredData.right_censored(ends, [not reached for _, reached in observed])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where nobody is left, the interval is NaN
        interval = curve.confidence_interval(method="log-log")

    def first(probabilities: np.ndarray) -> float | None:
        there = [q for q, p in zip(curve.quantiles, probabilities, strict=True) if p <= 0.5 + 1e-12]
        return there[0] if there else None

    assert found.median == first(curve.probabilities)
    assert found.median_low == first(interval.low.probabilities)
    assert found.median_high == first(interval.high.probabilities)
    fine = np.arange(0, horizon, 0.5)  # the curve only steps at integers
    assert found.restricted_mean == pytest.approx(0.5 * curve.evaluate(fine).sum())


@given(runs)
@settings(deadline=None)
def test_runs_watched_equally_long_have_the_plain_mean(times: list[int | None]) -> None:
    found = time_to_level(times, HORIZON)
    stopped = [HORIZON if t is None else t for t in times]
    assert found.restricted_mean == pytest.approx(np.mean(stopped))
    assert found.standard_error == pytest.approx(stats.sem(stopped), abs=1e-9)
    assert found.n_reached == sum(t is not None for t in times)
    ordered = sorted(math.inf if t is None else t for t in times)
    median = ordered[(len(times) - 1) // 2]
    assert found.median == (None if median == math.inf else median)


def test_a_run_that_never_got_there_counts() -> None:
    there = time_to_level([3, 4, 5, 4], 20)
    with_failures = time_to_level([3, 4, 5, 4, None, math.nan], 20)
    assert with_failures.n == 6
    assert with_failures.n_reached == 4
    assert with_failures.restricted_mean == pytest.approx((16 + 40) / 6)
    assert with_failures.restricted_mean > there.restricted_mean
    assert time_to_level([3, None, None, None], 20).median is None


def test_curve_is_0_once_all_are_there() -> None:
    assert time_to_level([2, 4], 10, horizon=50).restricted_mean == 3
    with pytest.raises(ValueError, match=r"horizon has to lie in \(0, 10\]"):
        time_to_level([2, None], 10, horizon=11)


@given(st.integers(2, 9).flatmap(lambda n: st.tuples(*[st.lists(epochs, min_size=n, max_size=n)] * 2)))
@settings(deadline=None)
def test_comparison_swaps(pair: tuple[list[int | None], list[int | None]]) -> None:
    a, b = pair
    one, other = compare_times(a, b, HORIZON), compare_times(b, a, HORIZON)
    assert one.ratio == pytest.approx(1 / other.ratio)
    assert one.p_paired == other.p_paired
    assert one.p_log_rank == pytest.approx(other.p_log_rank)
    assert 0 < one.p_log_rank <= 1
    assert 0 < one.p_paired <= 1
    assert (one.a, one.b) == (other.b, other.a)
    assert compare_times(a, a, HORIZON).ratio == 1
    assert compare_times(a, a, HORIZON).p_paired == 1


def log_rank_by_hand(a: list[int | None], b: list[int | None]) -> float:
    """Observed against hypergeometric expectation at each time, as in a textbook."""
    seen_a, seen_b = ([math.inf if t is None else t for t in times] for times in (a, b))
    difference = variance = 0.0
    for t in sorted({t for t in seen_a + seen_b if t < math.inf}):
        n_a, n_b = sum(x >= t for x in seen_a), sum(x >= t for x in seen_b)
        n, d = n_a + n_b, seen_a.count(t) + seen_b.count(t)
        difference += seen_a.count(t) - d * n_a / n
        if n > 1:
            variance += d * n_a * n_b * (n - d) / (n * n * (n - 1))
    return math.erfc(abs(difference) / math.sqrt(2 * variance)) if variance > 0 else 1.0


@given(runs, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_log_rank_equals_the_textbook(a: list[int | None], random: object) -> None:
    b = [random.choice([None, *range(1, HORIZON + 1)]) for _ in a]
    assert compare_times(a, b, HORIZON).p_log_rank == pytest.approx(log_rank_by_hand(a, b), abs=1e-9)


def test_comparison_by_hand() -> None:
    found = compare_times([4, 5, 6, 7, 8], [6, 9, None, 30, 9], horizon=20)
    assert found.b.n_reached == 3  # 30 is behind the horizon
    assert found.ratio == pytest.approx(30 / 64)
    assert found.p_paired == 2 / 32  # differences −2, −4, at least −14, at least −13, −1
    assert compare_times([None, None], [None, 25], horizon=20).p_log_rank == 1
    assert compare_times([5, 5], [5, 5], horizon=20).p_log_rank == 1


@pytest.mark.parametrize(
    ("times", "ends", "said"),
    [
        ([3], 10, "2 runs or more"),
        ([0, 3], 10, "count the first epoch or step as 1"),
        ([3, None], [10, 0], "positive"),
        ([3, None], math.inf, "finite"),
        ([3, 12], 10, r"times\[1\] = 12 is later than its run's end, 10"),
        ([3, 4], [10, 10, 10], r"one for each of 2 runs, not \(3,\)"),
    ],
)
def test_impossible_times_are_refused(times: list, ends: float | list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        time_to_level(times, ends)


def test_comparison_needs_the_same_seeds() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        compare_times([1, 2, 3], [1, 2], 10)
