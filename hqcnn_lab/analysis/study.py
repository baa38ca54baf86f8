"""The rows of a study: which seeds all arms have, and which learning rates come near an arm's best."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hqcnn_lab.analysis.measure import ACCURACY, Measure

Row = Mapping[str, Any]
"""A run of a study, as `sweep.study_tables.row_of` makes it; its folder is `run`, under the study's runs directory."""


class Block(NamedTuple):
    """What is compared with each other: the rows under one condition, at one length where the study declares some."""

    condition: str
    epochs: int | None
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        """What a heading calls it."""
        return self.condition if self.epochs is None else f"{self.condition}, {epochs_text(self.epochs)}"

    @property
    def suffix(self) -> str:
        """What the name of a picture ends with."""
        return self.title.replace(", ", "_").replace(" ", "_")

    @staticmethod
    def is_end(rows: Sequence[Row]) -> bool:
        """Whether all were read where their runs end: then a run's own files are of this very length."""
        return all(row.get("epochs") == row.get("of_epochs") for row in rows)


def blocks(rows: Sequence[Row]) -> Iterator[Block]:
    """The rows by condition, in their order, and under each by length, the shortest first."""
    for condition in dict.fromkeys(row["condition"] for row in rows):
        of_condition = [row for row in rows if row["condition"] == condition]
        for epochs in sorted({row.get("epochs") for row in of_condition}, key=lambda epochs: epochs or 0):
            yield Block(condition, epochs, [row for row in of_condition if row.get("epochs") == epochs])


def epochs_text(n: int) -> str:
    """A length as a text: "1 epoch", "3 epochs"."""
    return f"{n} epoch{'s' * (n > 1)}"


def several_rates(rows: Sequence[Row]) -> bool:
    """Whether any arm ran at more than one learning rate: a grid, and no choice."""
    return len({(row["arm"], row["factor"]) for row in rows}) > len({row["arm"] for row in rows})


def common_seeds(
    rows: Sequence[Row], arms: Sequence[str], kept: Sequence[str] = ("finished",)
) -> tuple[dict[str, list[Row]], list[str]]:
    """Each arm's rows at the seeds where every arm has a `kept` status, in the seeds' order; and what was left out.

    An arm that has no such row is left out whole, or it would take every seed along.
    """
    by_arm = {arm: {row["seed"]: row for row in rows if row["arm"] == arm} for arm in arms}
    present = [arm for arm, of_arm in by_arm.items() if any(row["status"] in kept for row in of_arm.values())]
    notes = []
    if absent := [arm for arm in arms if arm not in present]:
        states = Counter(row["status"] for arm in absent for row in by_arm[arm].values())
        why = f" ({', '.join(f'{n} {state}' for state, n in states.items())})" if states else ""
        notes.append(f"Left out, and not counted by Holm, for want of a finished run{why}: {', '.join(absent)}.")
    whole, lost = [], {}
    for seed in sorted({row["seed"] for row in rows}):
        states = {arm: by_arm[arm][seed]["status"] if seed in by_arm[arm] else "not run" for arm in present}
        if reason := ", ".join(f"{arm} {state}" for arm, state in states.items() if state not in kept):
            lost.setdefault(reason, []).append(seed)
        else:
            whole.append(seed)
    notes += [f"Left out for every arm: {seed_list(seeds)} ({reason})." for reason, seeds in lost.items()]
    return {arm: [by_arm[arm][seed] for seed in whole] for arm in present}, notes


def near_best(
    means: Mapping[float, float], factors: Sequence[float], measure: Measure = ACCURACY
) -> tuple[float, float] | None:
    """The least and the greatest of the grid's `factors` around the best mean, all between them near it.

    `means` lacks the factors that are outside whatever their score, and None is returned where it has none. Of equal
    means, the one at the lowest factor is the best.
    """
    if not means:
        return None
    grid = sorted(factors)
    best = max(means.values(), key=measure.merit)
    good = [factor in means and measure.is_near(means[factor], best) for factor in grid]
    low = high = next(i for i, factor in enumerate(grid) if factor in means and measure.is_best(means[factor], best))
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(grid) - 1 and good[high + 1]:
        high += 1
    return grid[low], grid[high]


def seed_list(seeds: Sequence[int]) -> str:
    """Seeds as a text: "seed 3", "seeds 0, 1, 2"."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
