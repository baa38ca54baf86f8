"""What steered each layer of a run, quantum beside classical."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hqcnn_lab.analysis.metrics import Series
from hqcnn_lab.figures.panel import grid, label_axes, use_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTROLS = {"rate": "learning rate", "momentum": "momentum β", "average_weight": "averaging weight"}
_WIDE = 50  # from the least value to the greatest: what spreads further is drawn on a log scale
_NAMED = 8  # layers of a column in its legend


def layer_controls(metrics: Mapping[str, Series]) -> "Figure | None":
    """Learning rate, momentum and averaging weight of every layer, a row each; None where no layer has its own.

    A column for the circuits and one for the rest, on the same scales. A thin line is a layer, from dark (the first)
    to light; the thick one is the mean of the group, the dotted one the learning rate as its schedule set it.
    """
    layers: dict[str, list[str]] = {"quantum": [], "classical": []}
    for name in metrics:
        if name.startswith("control/layer/"):
            layer = name.removeprefix("control/layer/").rpartition("/")[0]
            group = layers["quantum" if is_circuit(layer) else "classical"]
            group.extend([layer] * (layer not in group))
    layers = {group: names for group, names in layers.items() if names}
    rows = {key: label for key, label in CONTROLS.items() if any(f"control/{g}/{key}" in metrics for g in layers)}
    if not layers or not rows:
        return None
    figure, panels = grid(len(rows), len(layers))
    for row, (key, label) in zip(panels, rows.items(), strict=True):
        drawn: list[np.ndarray] = []
        for axes, (group, names) in zip(row, layers.items(), strict=True):
            drawn += _draw(axes, metrics, group, names, key)
            label_axes(axes, "optimizer step" if row is panels[-1] else "", label if axes is row[0] else "")
            axes.tick_params(labelleft=axes is row[0])
        values = np.concatenate([line[np.isfinite(line) & (line > 0)] for line in drawn] or [np.empty(0)])
        if len(values) and values.max() > _WIDE * values.min():
            use_log_scale(row[0])
    for axes, (group, names) in zip(panels[0], layers.items(), strict=True):
        axes.set_title(group, fontsize=11)
        _name_layers(axes, panels[-1][panels[0].index(axes)], names)
    return figure


def is_circuit(layer: str) -> bool:
    """Whether a layer's name is a circuit's: its tensor is called `weights`, which no layer of torch's is."""
    return layer.rpartition(".")[2] == "weights"


def _draw(axes: "Axes", metrics: Mapping[str, Series], group: str, names: list[str], key: str) -> list[np.ndarray]:
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(names)))
    lines = [(metrics.get(f"control/layer/{n}/{key}"), n, colour) for n, colour in zip(names, shades, strict=True)]
    drawn: list[np.ndarray] = []
    for line, name, colour in lines:
        if line is not None:
            axes.plot(*line, lw=1.0, color=colour, label=name)
            drawn.append(line[1])
    mean = metrics.get(f"control/{group}/{key}")
    if mean is not None and len(names) > 1:
        axes.plot(*mean, lw=2.2, color="black", alpha=0.75, label="mean of the group")
        drawn.append(mean[1])
    if key == "rate" and (given := metrics.get(f"lr/{group}")) is not None:
        axes.plot(*given, lw=1.2, ls=":", color="0.35", label="as the schedule set it", zorder=1.5)
        drawn.append(given[1])
    return drawn


def _name_layers(first: "Axes", last: "Axes", names: list[str]) -> None:
    """Under each column the names of its lines; of many layers some, evenly over the depth."""
    handles, labels = first.get_legend_handles_labels()
    of_layers = [i for i, label in enumerate(labels) if label in names]
    kept = {of_layers[i] for i in np.linspace(0, len(of_layers) - 1, min(_NAMED, len(of_layers))).round().astype(int)}
    shown = [i for i, label in enumerate(labels) if i in kept or label not in names]
    where = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.32), "frameon": False, "ncols": 2}
    title = f"{len(kept)} of {len(of_layers)} layers" if len(kept) < len(of_layers) else ""
    last.legend(
        [handles[i] for i in shown], [labels[i] for i in shown], title=title, fontsize=8, title_fontsize=8, **where
    )
