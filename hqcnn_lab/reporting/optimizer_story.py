"""What the optimizer did in the runs of a setting, in a line of words."""

from collections.abc import Mapping, Sequence

import numpy as np

from hqcnn_lab.analysis.metrics import Series
from hqcnn_lab.analysis.row import Row, is_figure
from hqcnn_lab.reporting.groups import Group

_PARTS = {"quantum": "circuits", "classical": "classical part"}
CAPTION = (
    "Rates and noise/signal from the first tenth of training to the last; ∞: no signal in the noise, or gradients that "
    "turn around. Noise is a gradient element's variance over steps, signal its mean's square; distances are root mean "
    "squares."
)
_FEW = 10  # of a run's first and last logged values make its beginning and its end: a tenth of them


def optimizer_stories(groups: Sequence[Group], logged: Mapping[str, Mapping[str, Series]]) -> list[tuple[str, str]]:
    """A setting's id and its line: "circuits: rate 0.004 → 0.0011, moved 0.21 rad from a start of 0.3, noise/signal 3 →
    40; classical part: …".

    Rates and noise/signal are of the first and the last tenth of what was logged, the rate of the first tenth its
    greatest value, which a warm-up only leads to. ∞: no signal in the noise. Of several seeds rates and distances are
    geometric means. Runs from before a figure was logged are
    left out of it, and a setting without any has no line.
    """
    lines: list[tuple[str, str]] = []
    for group in groups:
        runs = [(row, logged[row["folder"]]) for row in group.finished if row["folder"] in logged]
        parts = {part: _of_part(kind, runs) for kind, part in _PARTS.items()}
        if told := "; ".join(f"{part}: {', '.join(words)}" for part, words in parts.items() if words):
            lines.append((group.id, f"{group.name}: {told}."))
    return lines


def _of_part(kind: str, runs: Sequence[tuple[Row, Mapping[str, Series]]]) -> list[str]:
    words: list[str] = []
    rates = [_ends(run[name][1], np.max) for _, run in runs if (name := f"control/{kind}/rate") in run]
    if (rate := _means(rates)) is not None:
        words.append(f"rate {_arrow(rate)}")
    moved = [_figures(row, f"step/{kind}/moved", f"step/{kind}/start") for row, _ in runs]
    if (distance := _means([pair for pair in moved if pair is not None])) is not None:
        words.append(f"moved {_short(distance[0])}{' rad' * (kind == 'quantum')} from a start of {_short(distance[1])}")
    names = f"grad/{kind}/variance_over_steps", f"grad/{kind}/signal"
    measured = [[_ends(run[name][1]) for name in names] for _, run in runs if all(name in run for name in names)]
    if measured:
        noise, signal = np.mean(measured, 0)
        words.append(f"noise/signal {_arrow([n / s if s > 0 else None for n, s in zip(noise, signal, strict=True)])}")
    stopped = [row[f"step/{kind}/stopped_from"] for row, _ in runs if is_figure(row.get(f"step/{kind}/stopped_from"))]
    if stopped:
        share = f" in {len(stopped)} of {len(runs)} runs" if len(runs) > 1 else ""
        words.append(f"stood still from step {min(stopped)} on{share}")
    if runs and all(row.get(f"step/{kind}/frozen") for row, _ in runs):
        words.append("frozen")
    return words


def _ends(values: np.ndarray, of_first=np.mean) -> tuple[float, float]:
    n = max(len(values) // _FEW, 1)
    return float(of_first(values[:n])), float(np.mean(values[-n:]))


def _figures(row: Row, *names: str) -> tuple[float, ...] | None:
    values = [row.get(name) for name in names]
    figures = tuple(value for value in values if is_figure(value))
    return figures if len(figures) == len(names) else None


def _means(pairs: Sequence[tuple[float, ...]]) -> tuple[float, ...] | None:
    """Over runs, geometric; where a value is 0, arithmetic."""
    if not pairs:
        return None
    columns = [np.array(column) for column in zip(*pairs, strict=True)]
    return tuple(float(np.exp(np.log(c).mean())) if (c > 0).all() else float(c.mean()) for c in columns)


def _arrow(ends: Sequence[float | None]) -> str:
    """From the first to the last; None is more than can be told."""
    first, last = ("∞" if end is None else _short(end) for end in ends)
    return first if first == last else f"{first} → {last}"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"
