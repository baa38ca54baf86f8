"""p-values: corrected for how many there are, and how they are written."""

import math
from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np


@overload
def holm(p_values: Mapping[str, float]) -> dict[str, float]: ...
@overload
def holm(p_values: Sequence[float]) -> list[float]: ...
def holm(p_values: Mapping[str, float] | Sequence[float]) -> dict[str, float] | list[float]:
    """Adjust p-values for how many there are, in the form given; below α, each is significant at a family-wise α.

    Holm's (1979) step-down: the k-th smallest of m times m − k + 1, never less than the one before, at most 1. Valid
    whatever the dependence between tests. Give all tests that were looked at, not those that came out well. Raises
    ValueError for what is no p-value.
    """
    p = np.array(list(p_values.values() if isinstance(p_values, Mapping) else p_values), dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values lie in [0, 1], but {p[~((p >= 0) & (p <= 1))][0]} does not")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return dict(zip(p_values, adjusted.tolist(), strict=True)) if isinstance(p_values, Mapping) else adjusted.tolist()


def p_text(p: float) -> str:
    """A p-value to three decimals; a dash where there is none (NaN)."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
