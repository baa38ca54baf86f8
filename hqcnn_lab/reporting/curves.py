"""The lines of a report's charts, as plain data: what was logged over training, ROC and calibration."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hqcnn_lab.analysis.calibration import N_BINS, reliability
from hqcnn_lab.analysis.metrics import Series, by_epoch, series_in
from hqcnn_lab.analysis.predictions import Predictions, roc
from hqcnn_lab.figures.chart import Chart, Line
from hqcnn_lab.figures.panel import COLOURS
from hqcnn_lab.reporting.groups import Group
from hqcnn_lab.reporting.problems import Problems

N_POINTS = 60  # of a line over steps: more cannot be seen
# False-positive rates; denser where good networks differ.
GRID = np.concatenate([np.linspace(0, 0.2, 81), np.linspace(0.22, 1, 40)])
STEEP = 0.85  # a true-positive rate that is reached within GOOD false positives shows nothing on whole axes
GOOD = 0.1
_FEW = 10  # images in a bin of confidence: the accuracy of fewer is noise

KINDS = ("quantum", "classical")
_STEP = "optimizer step"
_LINEAR = "momentum β"  # what is not on a log scale
_ON_LOG_SCALE = "On a log scale: geometric mean"
_BANDS = "from the least to the greatest of them."
_PLATEAU = "A line that falls while the loss does not suggests a plateau."
# Metric, title, unit, how to read it.
_OVER_STEPS = (
    (
        "grad/{}/variance_over_steps",
        "Gradient variance over steps",
        "variance",
        f"The noise of one element. {_PLATEAU}",
    ),
    ("grad/{}/variance", "Gradient spread over elements", "variance", f"Of one step's gradient. {_PLATEAU}"),
    (
        "grad/{}/signal",
        "Gradient signal",
        "signal",
        "The mean gradient's squared size per element; none where it is lost.",
    ),
    (
        "control/{}/rate",
        "Learning rate that acted",
        "learning rate",
        "What the schedule set and the optimizer made of it.",
    ),
    ("control/{}/momentum", "Momentum", "momentum β", "Adam's β₁; of a schedule-free optimizer its interpolation."),
    ("control/{}/average_weight", "Averaging weight", "weight", "The share of a step's iterate in the judged average."),
    (
        "step/{}/relative",
        "Step, relative to the weights",
        "step / weights",
        "Root mean square of a step over that of the weights.",
    ),
)

# Without black and grey, which cannot be seen on the dark or the light background.
LINE_COLOURS = tuple(colour for colour in COLOURS if colour not in ("#000000", "#999999"))


def metrics_of(groups: Sequence[Group], problems: Problems) -> dict[str, dict[str, Series]]:
    """By folder, what each finished run logged; where a file is lost, `problems` gets the reason."""
    read = {}
    for folder in (row["folder"] for group in groups for row in group.finished):
        with problems.noted(folder, "metrics.csv"):
            read[folder] = series_in(Path(folder) / "metrics.csv", growing=False)
    return read


def training_charts(
    prefix: str, groups: Sequence[Group], colours: Mapping[str, str], logged: Mapping[str, Mapping[str, Series]]
) -> list[Chart]:
    """Validation accuracy and training loss by epoch; by step what gradients and optimizer did, quantum and classical.

    Where no run has the variance over steps, the spread over elements that older runs logged.
    """
    over_epochs = "Mean over seeds; the band is one standard deviation either way, where there are two seeds or more."
    has_variance = any(f"grad/{kind}/variance_over_steps" in run for run in logged.values() for kind in KINDS)
    charts = {
        "val/accuracy": Chart(
            f"{prefix}-accuracy", "Validation accuracy", over_epochs, "epoch", "accuracy (%)", percent=True
        ),
        "train/loss": Chart(f"{prefix}-loss", "Training loss", over_epochs, "epoch", "loss"),
    }
    for name, title, unit, caption in _OVER_STEPS:
        if not (name == "grad/{}/variance" and has_variance):
            for kind in KINDS:
                id_ = f"{prefix}-{kind}-{name.rpartition('/')[2]}"
                log = unit != _LINEAR
                about = f"{_ON_LOG_SCALE if log else 'Mean'} over seeds, and {_BANDS} {caption}"
                charts[name.format(kind)] = Chart(id_, f"{title}, {kind}", about, _STEP, unit, log=log)
    for name, chart in charts.items():
        for group in groups:
            runs = [logged[row["folder"]] for row in group.finished if name in logged.get(row["folder"], {})]
            series = [run[name] if chart.xlabel == _STEP else by_epoch(run, name) for run in runs]
            if series := [one for one in series if len(one[0])]:
                points = _over_steps(series, chart.log) if chart.xlabel == _STEP else _over_epochs(series)
                chart.lines.append(Line(group.id, group.name, colours[group.id], *points))
    return [chart for chart in charts.values() if any(len(line.x) for line in chart.lines)]


def _over_epochs(series: Sequence[Series]) -> tuple[np.ndarray, ...]:
    x = np.unique(np.concatenate([epochs for epochs, _ in series]))
    table = np.full((len(series), len(x)), np.nan)
    for row, (epochs, values) in zip(table, series, strict=True):
        row[np.searchsorted(x, epochs)] = values
    held = np.isfinite(table).any(0)
    table, x = table[:, held], x[held]
    mean = np.nanmean(table, 0)
    if len(series) < 2:
        return x, mean
    std = np.array(
        [column[np.isfinite(column)].std(ddof=1) if np.isfinite(column).sum() > 1 else 0.0 for column in table.T]
    )
    return x, mean, mean - std, mean + std


def _over_steps(series: Sequence[Series], log: bool) -> tuple[np.ndarray, ...]:
    """The mean, on a log scale of the logarithm, in each bin of steps."""
    there, back = (np.log, np.exp) if log else (np.positive, np.positive)
    last = max(steps[-1] for steps, _ in series) + 1
    edges = np.linspace(0, last, min(N_POINTS, max(len(values) for _, values in series)) + 1)
    table = np.full((len(series), len(edges) - 1), np.nan)
    for row, (steps, values) in zip(table, series, strict=True):
        kept = np.isfinite(values) & ((values > 0) | (not log))
        at = np.clip(np.searchsorted(edges, steps[kept], side="right") - 1, 0, len(row) - 1)
        counts = np.bincount(at, minlength=len(row))
        sums = np.bincount(at, there(values[kept]), len(row))
        row[counts > 0] = sums[counts > 0] / counts[counts > 0]
    held = np.isfinite(table).any(0)
    table, x = table[:, held], ((edges[:-1] + edges[1:]) / 2)[held]
    mean = back(np.nanmean(table, 0))
    return (x, mean) if len(series) < 2 else (x, mean, back(np.nanmin(table, 0)), back(np.nanmax(table, 0)))


def scored_charts(
    prefix: str, groups: Sequence[Group], colours: Mapping[str, str], tests: Mapping[str, Sequence[Predictions]]
) -> tuple[list[Chart], list[Chart]]:
    """Calibration; and a ROC for each class. `tests` by group id, of the same classes in the same order."""
    calibration = Chart(
        f"{prefix}-reliability",
        "Calibration",
        f"Each dot holds the test images of all seeds whose top probability lies in one of {N_BINS} equal bins ({_FEW} "
        "images or more): how often they are right over how sure the network was. On the diagonal it is as sure as it "
        "should be; below, too sure.",
        *("mean confidence (%)", "accuracy (%)"),
        percent=True,
        diagonal=True,
    )
    curves = [
        Chart(f"{prefix}-roc-{i}", name, "", "false positives (%)", "true positives (%)", percent=True, diagonal=True)
        for i, name in enumerate(next(iter(tests.values()))[0].classes)
    ]
    for group in groups:
        if group.id not in tests:
            continue
        add = _adder(group, colours)
        confidence = np.concatenate([test.probabilities.max(1) for test in tests[group.id]])
        bins = reliability(confidence, np.concatenate([test.correct for test in tests[group.id]]))
        filled = bins.count >= _FEW
        add(calibration, bins.confidence[filled], bins.accuracy[filled])
        for i, chart in enumerate(curves):
            rates = [roc(test.labels == i, test.probabilities[:, i], GRID) for test in tests[group.id]]
            add(chart, GRID, np.mean(rates, 0))
    zoomed = all(np.interp(GOOD, line.x, line.y) > STEEP for chart in curves for line in chart.lines)
    for chart in curves:
        chart.zoomed = zoomed
    return [calibration], curves


def _adder(group: Group, colours: Mapping[str, str]) -> Callable[[Chart, np.ndarray, np.ndarray], None]:
    def add(chart: Chart, x: np.ndarray, y: np.ndarray) -> None:
        chart.lines.append(Line(group.id, group.name, colours[group.id], x, y))

    return add
