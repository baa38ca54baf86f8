"""A figure over seeds: its mean, its scatter, and the interval of the mean."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # stdtrit is the t distribution's quantile; scipy.stats would take half a second to import


@dataclass(frozen=True)
class Spread:
    """A figure over seeds: mean, standard deviation (NaN for one seed), and the t interval of the mean."""

    n: int
    mean: float
    std: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of one figure over seeds; None where there is no value. Not for images: see `bootstrap_accuracy`."""
    if not values:
        return None
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Spread(n, mean, math.nan, math.nan, math.nan)
    std = statistics.stdev(values)
    half = float(special.stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return Spread(n, mean, std, mean - half, mean + half)


def band(values: np.ndarray, few: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper edge over seeds, each `[n]`, of values `[seeds, n]`; NaN is left out.

    With `few` the edges are the least and the greatest; otherwise those of the 95 % t-interval of the mean, which takes
    the seeds for a sample from a normal distribution. One seed has no width, none gives NaN.
    """
    seeds = np.ma.masked_invalid(values)
    mean = seeds.mean(0)
    if few:
        low, high = seeds.min(0), seeds.max(0)
    else:
        n = seeds.count(0)
        half = np.ma.filled(seeds.std(0, ddof=1), 0) * np.where(n > 1, special.stdtrit(np.maximum(n - 1, 1), 0.975), 0)
        half /= np.sqrt(np.maximum(n, 1))
        low, high = mean - half, mean + half
    return np.ma.filled(mean, np.nan), np.ma.filled(low, np.nan), np.ma.filled(high, np.nan)
