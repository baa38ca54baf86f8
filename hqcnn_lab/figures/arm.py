"""Pictures of many runs side by side: pure functions of arrays.

An arm is what is compared, an optimizer say, with a curve or a score for each of its seeds. Its colour is that of its
place among the arms, so give every picture of a study the same arms in the same order. Lines hold the numbers as they
are given; an axis that is labelled "(%)" shows shares as percentages.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hqcnn_lab.analysis.spread import band
from hqcnn_lab.figures.panel import COLOURS, add_legend, dots_of, label_axes, new_figure, stack, use_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]
"""One seed's line: where (epochs or optimizer steps), and the values there."""

FEW_SEEDS = 5  # with fewer, a band is the range; a t-interval of 3 seeds is wider than any reader would guess


def convergence_bands(
    curves: Mapping[str, Sequence[Curve]], level: float | None = None, ylabel: str = "validation accuracy (%)"
) -> "Figure":
    """How fast each arm gets there: the mean over its seeds at each epoch, in a band.

    The band is the range of the seeds where an arm has fewer than 5, otherwise the 95 % t-interval of the mean; the
    legend says which. Seeds that are missing or NaN at an epoch are left out there, and the legend counts them as
    incomplete. `level` is drawn across, for "epochs to 95 %".

    Args:
        curves: for each arm, in the order of the colours, a curve for each seed; an arm without any keeps its colour.
        level: in the units of the values, shares for an axis in percent.
    """
    figure = new_figure(4.2)
    axes = figure.subplots()
    notes = _draw_bands(axes, curves, _few(curves))
    if level is not None:
        axes.axhline(
            level,
            color="0.4",
            lw=1,
            ls=(0, (4, 3)),
            zorder=1.5,
            label=f"{100 * level:g} %" if "(%)" in ylabel else f"{level:g}",
        )
    label_axes(axes, "epoch", ylabel)
    add_legend(figure, [axes], _band_title(curves), notes)
    return figure


def anytime_curves(
    curves: Mapping[str, Mapping[str, Sequence[Curve]]], ylabel: str = "test loss", each_length: Collection[str] = ()
) -> "Figure":
    """What each arm is worth after so many epochs, a panel for each condition: the mean over its seeds, in a band.

    Bands as in `convergence_bands`. Only the marks were measured. A solid line joins those of one run; a dashed one
    joins runs of these very lengths, of which none goes through the other's marks.

    Args:
        curves: condition → arm, in the order of the colours → a curve (epochs, scores) for each seed.
        each_length: the arms that have a run of each length.
    """
    n_rows = -(-len(curves) // 2)
    figure = new_figure(1.4 + 2.6 * n_rows)
    columns = min(len(curves), 2)
    panels = [*figure.subplots(n_rows, columns, sharex=True, squeeze=False).flat]
    everything = {(label, arm): seeds for label, panel in curves.items() for arm, seeds in panel.items()}
    notes: dict[str, str] = {}
    for n, (axes, (condition, arms)) in enumerate(zip(panels, curves.items(), strict=False)):
        looks = {arm: {"marker": "o", "ms": 4, "ls": "--" if arm in each_length else "-"} for arm in arms}
        notes |= _draw_bands(axes, arms, _few(everything), looks=looks)
        is_last_row = n + columns >= len(curves)
        label_axes(axes, "epoch" if is_last_row else "", ylabel if n % columns == 0 else "")
        axes.tick_params(labelbottom=is_last_row)
        axes.set_title(condition, fontsize=10, loc="left")
        axes.set_xticks(sorted({x for seeds in arms.values() for places, _ in seeds for x in places}))
    for axes in panels[len(curves) :]:
        axes.remove()
    for arm in each_length:
        notes[arm] = "; ".join(["a run of each length", *filter(None, [notes.get(arm)])])
    add_legend(figure, panels[: len(curves)], _band_title(everything), notes)
    return figure


def variance_over_steps(
    curves: Mapping[str, Mapping[str, Sequence[Curve]]], what: str = "gradient variance"
) -> "Figure":
    """Gradient variance over training, a panel for each parameter group (`quantum`, `classical`), log scale.

    Lines are geometric means over seeds and bands are of the logarithms, as `convergence_bands` has them otherwise:
    variances spread over powers of ten. Zeros cannot be shown and are left out.

    Args:
        curves: parameter group → arm → a curve (optimizer steps, variances) for each seed.
        what: which variance it is, for the labels.
    """
    return _band_panels({f"{group} {what}": arms for group, arms in curves.items()}, log=True)


def controls_over_steps(curves: Mapping[str, Mapping[str, Sequence[Curve]]]) -> "Figure":
    """What steers the step over training, a panel for each control: learning rate, its scale γ, momentum β.

    Bands as in `convergence_bands`.

    Args:
        curves: control, as it is to be labelled → arm → a curve (optimizer steps, values) for each seed.
    """
    return _band_panels(curves)


def lr_robustness(
    points: Mapping[str, Mapping[float, Sequence[float]]], ylabel: str = "validation accuracy (%)"
) -> "Figure":
    """How much each arm depends on its learning rate: every seed a dot, a line through the means.

    A flat, long line is an optimizer that need not be tuned. A run that diverged is NaN: it is in no mean, and a cross
    under the plot, in its arm's row, counts it.

    Args:
        points: arm → learning rate, as a multiple of the arm's default → score of each seed.
    """
    scores = {arm: {x: np.asarray(s, float) for x, s in sorted(rates.items())} for arm, rates in points.items()}
    colours = {arm: _style(arm, index)["color"] for index, arm in enumerate(points)}
    lost = [arm for arm, rates in scores.items() if not all(np.isfinite(s).all() for s in rates.values())]
    figure = new_figure(4.2 + 0.22 * len(lost))
    if lost:
        axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=[3.6, 0.22 * len(lost)])
    else:
        axes = strip = figure.subplots()
    for index, (arm, rates) in enumerate(scores.items()):
        kept = {x: s[np.isfinite(s)] for x, s in rates.items()}
        means = [s.mean() if len(s) else np.nan for s in kept.values()]
        axes.plot(list(rates), means, marker="o", ms=5, label=arm, **_style(arm, index))
        dots = np.repeat(list(kept), [len(s) for s in kept.values()]), np.concatenate([*kept.values(), np.empty(0)])
        axes.plot(*dots, "o", ms=4, mew=0, alpha=0.5, color=colours[arm], zorder=2.5)
    for row, arm in enumerate(lost):
        n_lost = {x: (~np.isfinite(s)).sum() for x, s in scores[arm].items() if not np.isfinite(s).all()}
        strip.plot(list(n_lost), [row] * len(n_lost), "x", ms=6, mew=1.8, color=colours[arm], clip_on=False)
        for x, n in n_lost.items():
            text = f"{n} of {len(scores[arm][x])}"
            strip.annotate(text, (x, row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    label_axes(axes, "", ylabel)
    if lost:
        strip.set(ylim=(len(lost) - 0.5, -0.5), yticks=[])
        strip.set_ylabel("diverged", rotation=0, ha="right", va="center")
        strip.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelbottom=False)
    strip.set_xlabel("learning rate / the optimizer's default")
    ticks = sorted({rate for rates in points.values() for rate in rates})
    strip.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    strip.minorticks_off()
    several = any(len(scores) > 1 for rates in points.values() for scores in rates.values())
    add_legend(figure, [axes], "mean over seeds,\neach seed a dot" if several else "one seed")
    return figure


def final_scores(values: Mapping[str, Sequence[float]], xlabel: str = "test accuracy (%)") -> "Figure":
    """Where each arm ended: every seed a dot, and beside them the mean with its interval (see `convergence_bands`).

    A run that diverged or is missing is NaN: a cross at the left edge, and the arm's name says how many.

    Args:
        values: arm → score of each seed.
    """
    figure = new_figure(1.0 + 0.5 * max(len(values), 1))
    axes = figure.subplots()
    few, several = _few(values), any(len(scores) > 1 for scores in values.values())
    below = 0.14 if several else 0.0
    names = []
    for row, (arm, given) in enumerate(values.items()):
        scores = np.asarray(given, float)
        kept = scores[np.isfinite(scores)]
        colour = _style(arm, row)["color"]
        axes.plot(kept, np.full(len(kept), row + below), "o", ms=6, mew=0, alpha=0.6, color=colour)
        names.append(arm)
        if len(kept) > 1:
            mean, low, high = (edge.item() for edge in band(kept[:, None], few))
            axes.plot([low, high], [row - below] * 2, lw=2, color=colour, solid_capstyle="butt")
            axes.plot([mean], [row - below], "D", ms=6, mec="white", mew=0.8, color=colour)
        if len(kept) < len(scores):
            names[-1] += f"\n{len(scores) - len(kept)} of {len(scores)} lost"
            edge = axes.get_yaxis_transform()
            axes.plot([0.0], [row + below], "x", ms=7, mew=2, color=colour, transform=edge, clip_on=False, zorder=5)
    axes.set(ylim=(max(len(names), 1) - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
    label_axes(axes, xlabel, "")
    axes.tick_params(axis="y", length=0, pad=9)
    axes.grid(visible=False, axis="y")
    edges = "range of the seeds" if few else "its 95 % t-interval"
    caption = f"dot: a seed     diamond: mean and {edges}" if several else "dot: the one seed"
    figure.supxlabel(caption, fontsize=8, color="0.35", x=0.99, ha="right")
    return figure


def _band_panels(curves: Mapping[str, Mapping[str, Sequence[Curve]]], log: bool = False) -> "Figure":
    curves = curves or {"": {}}
    figure, columns = stack(len(curves))
    arms = list(dict.fromkeys(arm for panel in curves.values() for arm in panel))
    notes: dict[str, str] = {}
    everything = {(label, arm): seeds for label, panel in curves.items() for arm, seeds in panel.items()}
    for axes, (label, panel) in zip(columns, curves.items(), strict=True):
        notes |= _draw_bands(axes, {arm: panel.get(arm, ()) for arm in arms}, _few(everything), log)
        label_axes(axes, "optimizer step" if axes is columns[-1] else "", label)
    add_legend(figure, columns, _band_title(everything, log), notes)
    return figure


def _draw_bands(
    axes: "Axes",
    curves: Mapping[str, Sequence[Curve]],
    few: bool,
    log: bool = False,
    looks: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, str]:
    """One line and band for each arm; what is to be noted of an arm, by its name. `looks` is how a line differs."""
    notes = {}
    opacity = 0.16 if len(curves) <= 4 else 0.09
    for index, (arm, seeds) in enumerate(curves.items()):
        if not seeds:
            continue
        x, values = _align(seeds)
        if log:
            values = np.log10(np.where(values > 0, values, np.nan))
        mean, low, high = band(values, few)
        if log:
            mean, low, high = 10**mean, 10**low, 10**high
        if n_short := int((~np.isfinite(values)).any(1).sum()):
            notes[arm] = f"{n_short} of {len(seeds)} seeds incomplete"
        style = _style(arm, index)
        axes.plot(x, mean, label=arm, **(style | dots_of(mean) | (looks or {}).get(arm, {})))
        if len(seeds) > 1:
            axes.fill_between(x, low, high, color=style["color"], alpha=opacity, lw=0, zorder=style["zorder"] - 1)
    if log:
        use_log_scale(axes)
    return notes


def _align(seeds: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Every place that any seed has a value at, `[n]`, and the seeds' values there, `[seeds, n]`, else NaN."""
    places = [np.asarray(x, float) for x, _ in seeds]
    x = np.unique(np.concatenate(places))
    values = np.full((len(seeds), len(x)), np.nan)
    for row, place, (_, given) in zip(values, places, seeds, strict=True):
        row[np.searchsorted(x, place)] = given
    return x, values


def _few(curves: Mapping[Any, Sequence[Any]]) -> bool:
    """One kind of band a picture, so that arms compare: that of the arm with the fewest seeds, one seed apart."""
    return min((len(seeds) for seeds in curves.values() if len(seeds) > 1), default=0) < FEW_SEEDS


def _band_title(curves: Mapping[Any, Sequence[Any]], log: bool = False) -> str:
    counts = sorted({len(seeds) for seeds in curves.values() if len(seeds)})
    if not counts or counts == [1]:
        return "one seed each" if counts else ""
    n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    edges = "their range" if _few(curves) else "its 95 % t-interval"
    return f"{'geometric mean' if log else 'mean'} of {n} seeds,\nband: {edges}"


def _style(arm: str, index: int) -> dict[str, Any]:
    """An arm's look, the same in every picture; GVCO's line lies on top."""
    ours = arm.lower().startswith("gvco")
    dashes = "-" if index < len(COLOURS) else "--"
    return {
        "color": COLOURS[index % len(COLOURS)],
        "ls": dashes,
        "lw": 2.2 if ours else 1.5,
        "zorder": 4 if ours else 3,
    }
