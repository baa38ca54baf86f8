"""Two settings over the same seeds: is the difference more than the seeds' scatter?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

_SAME = 1e-6  # of the largest value: differences of float32 accuracies that are the same in images differ by less
_MAX_EXACT = 16  # pairs whose 2ⁿ sign patterns are all gone through; beyond, _N_FLIPS random ones
_N_FLIPS = 20_000


@dataclass(frozen=True)
class PairedComparison:
    """What `n` pairs say of a − b; standard deviations have n − 1 below.

    `low` and `high` bound the mean difference (95 %, Student's t). `p_t`, `p_wilcoxon` and `p_permutation` are
    two-sided. `hedges_g` is Cohen's d_z, the mean of the differences over their standard deviation, times Hedges'
    (1981) exact correction J(n − 1) for few pairs. `detectable_seeds` is how many pairs a t-test needs to see, at
    α = 0.05 with power 0.8, a true difference with this mean and scatter; it is as uncertain as these are.

    Where all differences are one number, there is no scatter to judge them by: then `p_t` is 1, `low`, `high` and
    `hedges_g` are NaN and `detectable_seeds` None. `hedges_g` is NaN for two pairs, where J is 0, and
    `detectable_seeds` None for a mean difference of 0.
    """

    n: int
    mean_a: float
    mean_b: float
    std_a: float
    std_b: float
    mean_difference: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    p_permutation: float
    hedges_g: float
    detectable_seeds: int | None


def compare_paired(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> PairedComparison:
    """Compare values of two settings, paired over seeds `[n]`, n ≥ 2.

    Use it where run i of both had the same seed and split. Not for folds, which share training images and so are not
    independent, nor for images: see `bootstrap_difference`. Wilcoxon's test takes zero differences as Pratt (1959)
    does, ranked and then dropped; it and the permutation test, which flips the signs of the differences, are exact up
    to 16 pairs and take 20,000 fixed random flips beyond. Differences within 10⁻⁶ of the largest value count as equal.
    Raises ValueError for values that cannot be paired or are not finite.
    """
    a, b = _pairs(a, b)
    n, differences, same = len(a), a - b, _SAME * max(np.abs(a).max(), np.abs(b).max())
    mean, low, high, p_t, d_z = float(differences.mean()), np.nan, np.nan, 1.0, np.nan
    if np.ptp(differences) > same:
        test = stats.ttest_1samp(differences, 0.0)
        low, high = test.confidence_interval(0.95)
        p_t = float(test.pvalue)  # pyright: ignore[reportAttributeAccessIssue]  # SciPy adds it when it runs
        d_z = mean / differences.std(ddof=1)
    return PairedComparison(
        n=n,
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        std_a=float(a.std(ddof=1)),
        std_b=float(b.std(ddof=1)),
        mean_difference=mean,
        low=float(low),
        high=float(high),
        p_t=p_t,
        p_wilcoxon=sign_flip_p(_signed_ranks(differences, same)),
        p_permutation=sign_flip_p(differences, same),
        hedges_g=float(d_z * _hedges_correction(n - 1)) if n > 2 else np.nan,
        detectable_seeds=None if np.isnan(d_z) or abs(mean) <= same else _detectable_seeds(abs(d_z)),
    )


def sign_flip_p(differences: np.ndarray, same: float = 0.0) -> float:
    """The two-sided p of paired differences `[n]`: the share of their sign patterns whose mean is as far from 0.

    Fisher's (1935) test: under the hypothesis, each difference could as well have had the other sign. It asks for no
    normal distribution, but cannot give less than 2/2ⁿ. Exact up to 16 differences; beyond, 20,000 random flips and
    (1 + as extreme)/(1 + flips), which is never 0. `same` is how near two values count as equal.
    """
    n = len(differences)
    if n <= _MAX_EXACT:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], size=(_N_FLIPS, n))
    observed = abs(differences.sum())
    rounding = 1e-12 * np.abs(differences).sum()
    extreme = np.abs(signs @ differences) >= observed - max(n * same, rounding)
    return float(extreme.mean()) if n <= _MAX_EXACT else float((1 + extreme.sum()) / (1 + _N_FLIPS))


def _pairs(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"a and b need one value for each of the same 2 or more seeds, but have {a.shape}, {b.shape}")
    for name, values in (("a", a), ("b", b)):
        if not np.isfinite(values).all():
            where = int(np.argmin(np.isfinite(values)))
            raise ValueError(f"{name}[{where}] is {values[where]}: run that seed again, or leave it out of a and b")
    return a, b


def _signed_ranks(differences: np.ndarray, same: float) -> np.ndarray:
    """Ranks of the sizes, ties sharing theirs, with the signs; 0 for differences of 0, which are ranked too (Pratt)."""
    sizes = np.append(0.0, np.abs(differences))
    order = np.argsort(sizes)
    level = np.empty(len(sizes), dtype=int)  # sizes that count as equal have one level, 0 that of a zero difference
    level[order] = np.append(0, np.cumsum(np.diff(sizes[order]) > same))
    return np.sign(differences) * stats.rankdata(level[1:]) * (level[1:] > 0)


def _hedges_correction(dof: int) -> float:
    return float(np.exp(special.gammaln(dof / 2) - special.gammaln((dof - 1) / 2)) / np.sqrt(dof / 2))


def _detectable_seeds(d_z: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The least n at which the noncentral t gives that power, in the tail that the difference points to.

    Starts at what a known standard deviation would take, which is never more.
    """
    d_z = min(d_z, 100.0)  # 2 seeds are enough from 12 on, and the noncentral t overflows in the end
    n = max(2, int(((special.ndtri(1 - alpha / 2) + special.ndtri(power)) / d_z) ** 2))
    while stats.nct.sf(stats.t.ppf(1 - alpha / 2, n - 1), n - 1, d_z * np.sqrt(n)) < power:
        n += 1
    return n
