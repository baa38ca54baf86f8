"""Several settings against one reference over the same seeds, corrected for how many were tried."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hqcnn_lab.analysis.p_value import holm, p_text
from hqcnn_lab.analysis.paired import PairedComparison, compare_paired


@dataclass(frozen=True)
class ArmComparison:
    """`arm` against `reference` (the difference is arm − reference), and the p-values after Holm over all arms."""

    arm: str
    reference: str
    paired: PairedComparison
    holm_t: float
    holm_wilcoxon: float
    holm_permutation: float


def compare_arms(values: Mapping[str, Sequence[float] | np.ndarray], reference: str) -> list[ArmComparison]:
    """Compare every arm with the reference, seed by seed: `values` holds one score per seed `[n]`, in the same order.

    Each test is corrected over the family of all arms here: leave none out that was run. Not for all pairs of arms.
    Raises ValueError for an unknown reference, and, naming the arm, for values that cannot be paired.
    """
    if reference not in values or len(values) < 2:
        raise ValueError(
            f"reference {reference!r} and at least one other have to be among the arms: {', '.join(values)}"
        )
    paired = {}
    for arm in values:
        if arm != reference:
            try:
                paired[arm] = compare_paired(values[arm], values[reference])
            except ValueError as error:
                raise ValueError(f"{arm} (a) against {reference} (b): {error}") from error
    return correct_all(paired, reference)


def correct_all(paired: Mapping[str, PairedComparison], reference: str) -> list[ArmComparison]:
    """Every arm's comparison with the `reference`, each test corrected over the family of all arms here.

    Use it where arms have different seeds in common with the reference, so that `compare_arms` cannot pair them.
    """
    p_t = holm({arm: comparison.p_t for arm, comparison in paired.items()})
    p_wilcoxon = holm({arm: comparison.p_wilcoxon for arm, comparison in paired.items()})
    p_permutation = holm({arm: comparison.p_permutation for arm, comparison in paired.items()})
    return [
        ArmComparison(arm, reference, comparison, p_t[arm], p_wilcoxon[arm], p_permutation[arm])
        for arm, comparison in paired.items()
    ]


def markdown_table(arms: Sequence[ArmComparison], scale: float = 1.0, digits: int = 3) -> str:
    """The comparisons of one `compare_arms` as a Markdown table, the reference in the first row.

    Scores and differences are multiplied by `scale` and shown to `digits` decimals: 100 and 2 make percent points of an
    accuracy. A dash is a figure that the data do not define.
    """

    def number(value: float, sign: str = "") -> str:
        return "–" if math.isnan(value) else f"{scale * value:{sign}.{digits}f}"

    def row(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    first = arms[0].paired
    lines = [
        row(
            "", "mean ± std", "difference (95 % interval)", "Holm p: t", "Wilcoxon", "permutation", "g", "seeds needed"
        ),
        row(*["---"] * 8),
        row(f"{arms[0].reference} (n = {first.n})", f"{number(first.mean_b)} ± {number(first.std_b)}", *["–"] * 6),
    ]
    for arm in arms:
        c = arm.paired
        lines.append(
            row(
                arm.arm,
                f"{number(c.mean_a)} ± {number(c.std_a)}",
                f"{number(c.mean_difference, '+')} ({number(c.low, '+')} to {number(c.high, '+')})",
                *(p_text(p) for p in (arm.holm_t, arm.holm_wilcoxon, arm.holm_permutation)),
                "–" if math.isnan(c.hedges_g) else f"{c.hedges_g:+.2f}",
                "–" if c.detectable_seeds is None else f"{c.detectable_seeds:,}",
            )
        )
    return "\n".join(lines)
