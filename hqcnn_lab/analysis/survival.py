"""Epochs, steps or seconds to a level of accuracy, with the runs that never got there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hqcnn_lab.analysis.paired import sign_flip_p


@dataclass(frozen=True)
class TimeToLevel:
    """How long `n` runs took; None where the data do not define it.

    `median` is the first time by which half of the runs are there, with its 95 % interval (Brookmeyer and Crowley 1982
    on log(−log S)); None where fewer got there, or for a bound that was not reached. `restricted_mean` is the mean time
    when watching stops at `horizon`: always defined, and to be compared at one horizon only.
    """

    n: int
    n_reached: int
    median: float | None
    median_low: float | None
    median_high: float | None
    restricted_mean: float
    standard_error: float
    horizon: float


@dataclass(frozen=True)
class TimeComparison:
    """`ratio` is a's restricted mean time over b's: below 1, a is faster. The p-values are two-sided.

    `p_paired` is of the times' differences over seeds, a run that never got there counting as the horizon. That is less
    than it would have taken, so a difference from such a run is a lower bound, and none where both never got there.
    """

    a: TimeToLevel
    b: TimeToLevel
    ratio: float
    p_log_rank: float
    p_paired: float


def time_to_level(
    times: Sequence[float | None] | np.ndarray,
    censored_at: float | Sequence[float] | np.ndarray,
    horizon: float | None = None,
) -> TimeToLevel:
    """Estimate (Kaplan and Meier 1958) the time to a level from runs `[n]`, None or NaN for one that never got there.

    Such a run counts, as one that would have taken longer than it was watched: `censored_at`, its length, one for all
    or for each. Dropping it would make the optimizer that fails often look fast. `horizon` is where the restricted mean
    stops, by default where the shortest run does. Its standard error is Greenwood's times √(n/(n − 1)): with nothing
    censored before the horizon, that of a mean. A run that diverged has to be given the full length: censored where it
    broke off, it would count as one that was still on its way. Raises ValueError where a time is not positive or later
    than its run's end, or the curve ends before the horizon.
    """
    times = np.array([np.nan if t is None else t for t in times], dtype=float)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times has to hold one time for each of 2 runs or more, but has shape {times.shape}")
    ends = np.asarray(censored_at, dtype=float)
    if ends.shape not in ((), times.shape):
        raise ValueError(f"censored_at has to be one length or one for each of {len(times)} runs, not {ends.shape}")
    ends = np.broadcast_to(ends, times.shape)
    reached = ~np.isnan(times)
    if not (np.isfinite(ends) & (ends > 0)).all() or (times[reached] <= 0).any():
        raise ValueError("times and censored_at have to be positive and finite: count the first epoch or step as 1")
    if (late := np.flatnonzero(times > ends)).size:
        raise ValueError(f"times[{late[0]}] = {times[late[0]]:g} is later than its run's end, {ends[late[0]]:g}")
    observed = np.where(reached, times, ends)
    horizon = float(ends.min() if horizon is None else horizon)
    last = observed.max()
    curve_end = np.finfo(float).max if reached[observed == last].all() else last  # stays at 0 once all are there
    if not 0 < horizon <= curve_end:
        raise ValueError(f"horizon has to lie in (0, {last:g}], where runs were watched, but is {horizon:g}")

    at, n_there = np.unique(times[reached], return_counts=True)
    n_at_risk = (observed >= at[:, None]).sum(1)
    survival = np.cumprod(1 - n_there / n_at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nobody is left, Greenwood's variance is not defined
        increments = n_there / (n_at_risk * (n_at_risk - n_there))
        spread = stats.norm.ppf(0.975) * np.sqrt(np.cumsum(increments)) / np.log(survival)
        low, high = survival ** np.exp(-spread), survival ** np.exp(spread)

    before = at < horizon
    widths = np.diff(np.concatenate([[0.0], at[before], [horizon]]))
    areas = widths * np.append(1.0, survival[before])
    rest = areas[::-1].cumsum()[::-1][1:]  # behind each time
    terms = rest[rest > 0] ** 2 * increments[before][rest > 0]
    n = len(times)
    return TimeToLevel(
        n=n,
        n_reached=int(reached.sum()),
        median=_first(at, survival),
        median_low=_first(at, low),
        median_high=_first(at, high),
        restricted_mean=float(areas.sum()),
        standard_error=float(np.sqrt(terms.sum() * n / (n - 1))),
        horizon=horizon,
    )


def compare_times(
    a: Sequence[float | None] | np.ndarray, b: Sequence[float | None] | np.ndarray, horizon: float
) -> TimeComparison:
    """Compare the times to a level of two settings over the same seeds `[n]`, n ≥ 2.

    None or NaN is a run that was not there by the `horizon`; later times count as such, too. All runs have to be at
    least that long. The log-rank test (Mantel 1966) ignores the pairing and looks at the whole curve; it is approximate
    with few runs. The paired test flips signs, and is exact up to 16 pairs. Raises ValueError as `time_to_level` does.
    """
    a, b = (np.array([np.nan if t is None else t for t in times], dtype=float) for times in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"a and b need one time for each of the same seeds, but have {len(a)} and {len(b)}")
    a, b = (np.where(times > horizon, np.nan, times) for times in (a, b))
    of_a, of_b = time_to_level(a, horizon), time_to_level(b, horizon)
    until_a, until_b = (np.where(np.isnan(times), horizon, times) for times in (a, b))
    return TimeComparison(
        a=of_a,
        b=of_b,
        ratio=of_a.restricted_mean / of_b.restricted_mean,
        p_log_rank=_log_rank_p(until_a, np.isnan(a), until_b, np.isnan(b)),
        p_paired=sign_flip_p(until_a - until_b),
    )


def _first(at: np.ndarray, curve: np.ndarray) -> float | None:
    below = np.flatnonzero(curve <= 0.5 + 1e-12)  # products of fractions miss ½ by a rounding error
    return float(at[below[0]]) if below.size else None


def _log_rank_p(a: np.ndarray, censored_a: np.ndarray, b: np.ndarray, censored_b: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        test = stats.logrank(
            stats.CensoredData.right_censored(a, censored_a), stats.CensoredData.right_censored(b, censored_b)
        )
    return 1.0 if np.isnan(test.pvalue) else float(test.pvalue)  # nobody got there, or all at once: nothing to compare
