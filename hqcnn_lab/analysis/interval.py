"""Intervals for a share of images."""

import math


def wilson_interval(n_right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share, 95 % by default (Wilson 1927).

    Says how far another draw of test images could move the score; not how far another seed could, nor another hospital.
    """
    share, z2 = n_right / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return centre - half, centre + half
