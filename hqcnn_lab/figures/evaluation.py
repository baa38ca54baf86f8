"""Pictures of one evaluation: how well the network knows what it knows, and what it keeps when images get worse."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hqcnn_lab.figures.panel import COLOURS, label_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = {
    "noise": "noise (white = 1)",
    "blur": "blur (pixels)",
    "rotation": "rotation (degrees)",
}


def reliability_figure(scores: Mapping[str, Any]) -> "Figure":
    """Accuracy by confidence, before and with the temperature: on the diagonal a network is right as often as it says.

    A bar's shade is its share of the images; `scores` as `calibration_scores` returns them.
    """
    figure = new_figure(4.2)
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"": "as trained", "_scaled": f"at temperature {scores['temperature']:.2f}"}
    for axes, (suffix, title) in zip(panels, titles.items(), strict=True):
        bins = scores[f"bins{suffix}"]
        most, width = max(one["count"] for one in bins), 1 / len(bins)
        axes.plot([0, 1], [0, 1], color="0.4", lw=1, ls=(0, (4, 3)))
        for index, one in enumerate(bins):
            if one["count"]:
                shade = 0.3 + 0.7 * (one["count"] / most) ** 0.5
                style = {"color": COLOURS[0], "alpha": shade, "edgecolor": "white"}
                axes.bar(index * width, one["accuracy"], width, align="edge", **style)
                axes.plot([one["confidence"]], [one["accuracy"]], "o", ms=4, color=COLOURS[5])
        axes.set_title(f"{title}: ECE {100 * scores[f'ece{suffix}']:.1f} %", fontsize=10)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        label_axes(axes, "confidence (%)", "accuracy (%)" if not suffix else "")
    panels[1].yaxis.set_major_formatter(panels[0].yaxis.get_major_formatter())
    figure.supxlabel("bar: a bin, darker with more images     dot: at its mean confidence", fontsize=8, color="0.35")
    return figure


def robustness_figure(curves: Mapping[str, Sequence[tuple[float, float]]], chance: float) -> "Figure":
    """Accuracy over the amount of each change, a panel each; `curves` hold (amount, accuracy), `chance` is drawn."""
    figure = new_figure(3.4)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for index, (axes, (name, curve)) in enumerate(zip(panels, curves.items(), strict=True)):
        axes.axhline(chance, color="0.4", lw=1, ls=(0, (4, 3)))
        axes.plot(*zip(*curve, strict=True), "o-", ms=5, color=COLOURS[index])
        axes.set_ylim(0, 1.02)
        label_axes(axes, UNITS[name], "accuracy (%)" if index == 0 else "")
    for axes in panels[1:]:
        axes.yaxis.set_major_formatter(panels[0].yaxis.get_major_formatter())
    figure.supxlabel("dashed: the share of the most frequent class", fontsize=8, color="0.35", x=0.99, ha="right")
    return figure
