"""The common look of all pictures: colours, panels, labels and legends. matplotlib without pyplot: nothing global."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, told apart without red or green; its yellow, too light for a line on white, is a grey here.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
WIDTH = 8.4  # inches: 1000 pixels at 120 dpi


def dots_of(values: np.ndarray) -> dict[str, Any]:
    """Marks for a line's points that have no neighbour, and would not be seen."""
    finite = np.isfinite(values)
    beside = np.pad(finite, 1)
    alone = np.flatnonzero(finite & ~beside[:-2] & ~beside[2:]).tolist()
    return {"marker": "o", "ms": 4, "markevery": alone} if alone else {}


def new_figure(height: float) -> "Figure":
    """An empty figure, `height` inches high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def stack(n_panels: int) -> tuple["Figure", list["Axes"]]:
    """Panels one above another, over one x axis."""
    figure = new_figure(1.6 + 1.8 * n_panels)
    return figure, list(figure.subplots(n_panels, 1, sharex=True, squeeze=False)[:, 0])


def grid(n_rows: int, n_columns: int) -> tuple["Figure", list[list["Axes"]]]:
    """Rows of panels over one x axis, those of a row on one scale, so that columns compare."""
    figure = new_figure(1.6 + 1.8 * n_rows)
    return figure, figure.subplots(n_rows, n_columns, sharex=True, sharey="row", squeeze=False).tolist()


def label_axes(axes: "Axes", xlabel: str, ylabel: str) -> None:
    """Name the axes, over a light grid and without a frame; "(%)" in a name shows shares as percentages."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(color="0.9", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for axis, label in ((axes.xaxis, xlabel), (axes.yaxis, ylabel)):
        if "(%)" in label:
            axis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}")
    if xlabel in ("epoch", "optimizer step"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def use_log_scale(axes: "Axes") -> None:
    """A log scale for the values drawn so far. matplotlib's own labels are formulas, and take 0.1 s a panel."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 50 else (1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: _as_power(value))
    axes.minorticks_off()


def _as_power(value: float) -> str:
    digit, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if digit == "1" else f"{digit}·{power}"


def add_legend(
    figure: "Figure", columns: Sequence["Axes"], title: str = "", notes: Mapping[str, str] | None = None
) -> None:
    """Beside the panels, where it covers no data: one entry for each name, with its note."""
    named: dict[str, Any] = {}
    for axes in columns:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    labels = [f"{name}\n({notes[name]})" if notes and name in notes else name for name in named]
    if named:
        where = {"loc": "outside right upper", "frameon": False, "alignment": "left"}
        figure.legend(named.values(), labels, title=title, fontsize=9, title_fontsize=8, **where)
