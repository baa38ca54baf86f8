"""Intervals for a share of images."""

_LEVEL = 0.950004209703559  # 2 Φ(1.96) − 1: the 95 % of textbooks, whose quantile is rounded to 1.96


def wilson_interval(n_right: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share (Wilson 1927).

    Says how far another draw of test images could move the score; not how far another seed could, nor another hospital.
    """
    from scipy.stats import binomtest  # half a second to import, and a training needs it only at its end

    interval = binomtest(n_right, n).proportion_ci(_LEVEL, method="wilson")
    return float(interval.low), float(interval.high)
