"""Pictures of one run, from its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hqcnn_lab.analysis.metrics import Series, by_epoch, read_metrics
from hqcnn_lab.figures.layers import layer_controls
from hqcnn_lab.figures.panel import COLOURS, add_legend, dots_of, label_axes, stack, use_log_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = {"quantum": COLOURS[0], "classical": COLOURS[1], "all": COLOURS[6]}


def run_figures(folder: str | Path) -> dict[str, "Figure"]:
    """A run's own pictures, by name: `convergence`, `gradient_variance`, `controls`, `steps`; of a run of GVCO's before
    gradients were measured alike for every optimizer, also `noise_signal`.

    One whose metrics were not logged is left out. `figures.arm` draws several runs side by side. Errors as in
    `read_metrics`.
    """
    metrics = read_metrics(folder)
    figures = {
        "convergence": _convergence(metrics) if "train/loss" in metrics else None,
        "gradient_variance": _gradient_variance(metrics),
        "controls": layer_controls(metrics) or _controls(metrics),
        "steps": _steps(metrics),
        "noise_signal": _noise_signal(metrics),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _convergence(metrics: dict[str, Series]) -> "Figure | None":
    def line(name: str) -> Series | None:
        return by_epoch(metrics, name) if name in metrics else None

    panels = {
        label: {part: line(f"{key}/{metric}") for part, key in (("training", "train"), ("validation", "val"))}
        for label, metric in (("accuracy (%)", "accuracy"), ("loss", "loss"))
    }
    colours = {"training": COLOURS[1], "validation": COLOURS[0]}
    return _line_panels(panels, colours, "epoch")


def _gradient_variance(metrics: dict[str, Series]) -> "Figure | None":
    def lines(group: str) -> dict[str, Series | None]:
        variance, signal = (metrics.get(f"grad/{group}/{name}") for name in ("variance_over_steps", "signal"))
        opposed = signal and (signal[0], -signal[1])
        return {
            "variance over steps": variance,
            "signal": signal if signal and (signal[1] > 0).any() else None,
            "negative signal": opposed if opposed and (opposed[1] > 0).any() else None,
        }

    colours = {"variance over steps": COLOURS[5], "signal": COLOURS[2], "negative signal": COLOURS[4]}
    note = "of one element; negative:\nlost in noise, or gradients\nthat turn around"
    panels = {f"{group} gradients": lines(group) for group in GROUPS}
    spread = {group: metrics.get(f"grad/{group}/variance") for group in GROUPS}  # as runs were logged before
    return _line_panels(panels, colours, "optimizer step", log=True, note=note) or _line_panels(
        {"gradient variance\n(spread over elements)": spread}, GROUPS, "optimizer step", log=True
    )


def _controls(metrics: dict[str, Series]) -> "Figure | None":
    """Of an optimizer that steers whole groups, and of runs before there were columns by layer."""

    def lines(*names: str) -> dict[str, Series | None]:
        """Of each group what it has first."""
        return {g: next((metrics[n.format(g)] for n in names if n.format(g) in metrics), None) for g in GROUPS}

    panels = {
        "learning-rate scale γ": lines("gvco/{}/lr_scale"),
        "momentum β": lines("control/{}/momentum", "momentum/{}", "gvco/{}/momentum"),
        "averaging weight": lines("control/{}/average_weight"),
        "learning rate": lines("lr/{}"),
        "effective learning rate": lines("control/{}/rate", "effective_lr/{}"),
    }
    given, acting = panels["learning rate"], panels["effective learning rate"]
    if all(a and b and np.array_equal(a[1], b[1]) for a, b in zip(given.values(), acting.values(), strict=True) if b):
        del panels["effective learning rate"]  # nothing came between
    return _line_panels(panels, GROUPS, "optimizer step")


def _steps(metrics: dict[str, Series]) -> "Figure | None":
    panels = {
        "step, relative\nto the weights": {group: metrics.get(f"step/{group}/relative") for group in GROUPS},
        "moved from the start\n(circuits: radians)": {group: metrics.get(f"step/{group}/moved") for group in GROUPS},
    }
    return _line_panels(panels, GROUPS, "optimizer step", log=True, note="root mean squares")


def _noise_signal(metrics: dict[str, Series]) -> "Figure | None":
    panels = {
        f"{group} gradients": {
            "noise power N": metrics.get(f"gvco/{group}/noise"),
            "signal power S": metrics.get(f"gvco/{group}/signal"),
        }
        for group in GROUPS
    }
    colours = {"noise power N": COLOURS[5], "signal power S": COLOURS[2]}
    return _line_panels(panels, colours, "optimizer step", log=True, note="no line where S ≤ 0")


def _line_panels(
    panels: Mapping[str, Mapping[str, Series | None]],
    colours: Mapping[str, str],
    xlabel: str,
    log: bool = False,
    note: str = "",
) -> "Figure | None":
    """Panels one above another, those without a line left out; None if that leaves none."""
    filled = {label: {name: line for name, line in lines.items() if line} for label, lines in panels.items()}
    filled = {label: lines for label, lines in filled.items() if lines}
    if not filled:
        return None
    figure, columns = stack(len(filled))
    for axes, (label, lines) in zip(columns, filled.items(), strict=True):
        before: list[np.ndarray] = []
        for name, (x, values) in lines.items():
            shown = np.where(values > 0, values, np.nan) if log else values
            hides = any(np.array_equal(shown, other, equal_nan=True) for other in before)
            dashes = (0, (5, 5)) if hides else "-"  # of two lines that coincide both are seen
            axes.plot(x, shown, lw=1.5, ls=dashes, color=colours[name], label=name, **dots_of(shown))
            before.append(shown)
        if log:
            use_log_scale(axes)
        label_axes(axes, xlabel if axes is columns[-1] else "", label)
    add_legend(figure, columns, note)
    return figure
