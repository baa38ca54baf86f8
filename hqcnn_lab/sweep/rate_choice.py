"""The learning rate that each arm of a study gets: the best on validation, by a rule that is the same for all."""

from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

from hqcnn_lab.analysis.measure import ACCURACY, Measure
from hqcnn_lab.sweep.study_tables import Row


class Choice(NamedTuple):
    """The learning rate that an arm gets under a condition, at a length where the study declares some.

    `edge`: `lowest` or `highest` of the grid, or empty.
    """

    condition: str
    arm: str
    factor: float
    lr: float
    edge: str
    val_accuracy: float | None
    val_loss: float | None
    epochs: int | None = None

    @property
    def place(self) -> tuple[str, str, int | None]:
        """Which cell's it is."""
        return self.condition, self.arm, self.epochs


def choose(rows: Iterable[Row], measure: Measure = ACCURACY) -> Row | None:
    """Return a tuning row of a cell's best learning rate, by validation; None if no run finished.

    That is the highest mean `val/accuracy`, with a `measure` of loss the lowest mean `val/loss`. Ties go to the other
    of the two, then to the lower rate. A rate at which any run diverged or failed is out. Tests play no part.
    """
    grid: dict[float, list[Row]] = {}
    for row in rows:
        grid.setdefault(row["factor"], []).append(row)
    whole = [group for group in grid.values() if all(row["status"] == "finished" for row in group)]

    def merit(group: list[Row]) -> tuple[float, float, float]:
        # Rounded: a mean of the same accuracies in another order is a tie, too.
        accuracy, loss = round(_mean(group, "val/accuracy"), 9), -round(_mean(group, "val/loss"), 9)
        first, second = (loss, accuracy) if measure.falls else (accuracy, loss)
        return first, second, -group[0]["factor"]

    best = max(whole, key=merit, default=None)
    return None if best is None else best[0] | {name: _mean(best, name) for name in ("val/accuracy", "val/loss")}


def _mean(group: list[Row], name: str) -> float:
    return fmean(row[name] for row in group)


def choice_of(best: Row, factors: list[float], epochs: int | None = None) -> Choice:
    """What a cell gets, at a length where the study declares some, and whether its grid may have been too narrow."""
    factor = best["factor"]
    edge = "" if min(factors) < factor < max(factors) else "lowest" if factor == min(factors) else "highest"
    scores = best["val/accuracy"], best["val/loss"]
    return Choice(best["condition"], best["arm"], factor, best["lr"], edge, *scores, epochs)
