"""What the pictures of a study hold: the numbers given, and bands as numpy and scipy.stats have them."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from hqcnn_lab.analysis.spread import band
from hqcnn_lab.figures.arm import (
    anytime_curves,
    controls_over_steps,
    convergence_bands,
    final_scores,
    lr_robustness,
    variance_over_steps,
)
from hqcnn_lab.figures.panel import COLOURS

EPOCHS = np.arange(1, 9)
NAMES = ["GVCO", "Adam", "AdamW", "AdaBelief", "SGD", "GVCO, γ off", "GVCO, β off", "RMSprop"]


def curves(n_arms: int, n_seeds: int) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(0)
    return {arm: [(EPOCHS, rng.random(len(EPOCHS))) for _ in range(n_seeds)] for arm in NAMES[:n_arms]}


def line_of(axes: Axes, label: str) -> Line2D:
    [line] = [line for line in axes.lines if line.get_label() == label]
    return line


def corners(axes: Axes, index: int) -> set[tuple[float, float]]:
    [path] = axes.collections[index].get_paths()
    return {tuple(np.round(corner, 12)) for corner in path.vertices}


def legend_texts(figure: Figure) -> list[str]:
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def legend_title(figure: Figure) -> str:
    return figure.legends[0].get_title().get_text()


def save(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), format="png")


def test_anytime_is_the_mean_and_band_at_each_length_a_panel_a_condition() -> None:
    rng = np.random.default_rng(1)
    lengths, losses = [3, 5, 20], rng.random((3, 2, 6, 3))
    given_curves = {
        f"c{i}": {arm: [(lengths, seed) for seed in of_arm] for arm, of_arm in zip(("gvco", "sgd"), panel, strict=True)}
        for i, panel in enumerate(losses)
    }
    given_curves["c2"]["sgd"] = given_curves["c2"]["sgd"][:5]
    figure = anytime_curves(given_curves, "test loss", each_length=["sgd"])
    save(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["c0", "c1", "c2"]  # the fourth panel is removed
    for axes, panel in zip(figure.axes, losses, strict=True):
        assert axes.get_xticks().tolist() == lengths
        for arm, of_arm, style in (("gvco", panel[0], "-"), ("sgd", panel[1], "--")):
            of_arm = of_arm[:5] if (axes, arm) == (figure.axes[2], "sgd") else of_arm
            line = line_of(axes, arm)
            np.testing.assert_allclose(line.get_xydata(), np.column_stack([lengths, of_arm.mean(0)]))
            assert (line.get_linestyle(), line.get_marker()) == (style, "o")
    low, high = stats.t.interval(0.95, 5, losses[1, 0].mean(0), stats.sem(losses[1, 0]))
    corner = {(x, round(y, 12)) for edge in (low, high) for x, y in zip(lengths, edge, strict=True)}
    assert corner <= corners(figure.axes[1], 0)
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "epoch", "epoch"]
    assert legend_texts(figure) == ["gvco", "sgd\n(a run of each length)"]
    assert legend_title(figure).startswith("mean of 5 to 6 seeds,")


@given(st.integers(0, 2**31), st.integers(1, 7), st.booleans())
def test_band_equals_numpy_and_scipy(seed: int, n_seeds: int, few: bool) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((n_seeds, 6)) < 0.25, np.nan, rng.normal(0.9, 0.05, (n_seeds, 6)))
    for place, (mean, low, high) in enumerate(zip(*band(values, few), strict=True)):
        known = [x for x in values[:, place] if x == x]
        if not known:
            assert np.isnan([mean, low, high]).all()
            continue
        expected = min(known), max(known)
        if not few:
            one = (known[0], known[0])
            expected = stats.t.interval(0.95, len(known) - 1, np.mean(known), stats.sem(known)) if known[1:] else one
        assert mean == pytest.approx(np.mean(known), rel=1e-12)
        assert (low, high) == pytest.approx(expected, rel=1e-9)


def test_one_seed_is_drawn_as_it_is_given() -> None:
    given = curves(3, 1)
    figure = convergence_bands(given, level=0.95)
    [axes] = figure.axes
    for arm, [seed] in given.items():
        np.testing.assert_array_equal(line_of(axes, arm).get_xydata(), np.column_stack(seed))
    assert not axes.collections
    assert list(line_of(axes, "95 %").get_ydata()) == [0.95, 0.95]
    assert legend_title(figure) == "one seed each"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "validation accuracy (%)")
    assert axes.yaxis.get_major_formatter()(0.955, 0) == "95.5"


@pytest.mark.parametrize(("n_seeds", "words"), [(2, "their range"), (4, "their range"), (5, "95 % t-interval")])
def test_seeds_are_drawn_as_their_mean_in_a_band(n_seeds: int, words: str) -> None:
    given = curves(2, n_seeds)
    figure = convergence_bands(given)
    [axes] = figure.axes
    for index, (arm, seeds) in enumerate(given.items()):
        values = np.array([y for _, y in seeds])
        np.testing.assert_allclose(line_of(axes, arm).get_xydata(), np.column_stack([EPOCHS, values.mean(0)]))
        if n_seeds < 5:
            edges = values.min(0), values.max(0)
        else:
            edges = stats.t.interval(0.95, n_seeds - 1, values.mean(0), stats.sem(values))
        expected = {tuple(np.round(corner, 12)) for edge in edges for corner in zip(EPOCHS, edge, strict=True)}
        assert corners(axes, index) == expected
    assert f"mean of {n_seeds} seeds" in legend_title(figure)
    assert words in legend_title(figure)


def test_missing_seeds_are_left_out_and_counted() -> None:
    whole, late, broken = np.linspace(0.5, 0.9, 8), np.linspace(0.4, 0.5, 4), np.linspace(0.6, 1.0, 8)
    broken[6:] = np.nan
    given = {"GVCO": [(EPOCHS, whole), (EPOCHS[:4], late), (EPOCHS, broken)], "Adam": [], "SGD": [(EPOCHS, whole)]}
    figure = convergence_bands(given)
    [axes] = figure.axes
    expected = [np.mean([y[i] for y in (whole, late, broken) if i < len(y) and y[i] == y[i]]) for i in range(8)]
    np.testing.assert_allclose(line_of(axes, "GVCO").get_ydata(), expected)
    assert legend_texts(figure) == ["GVCO\n(2 of 3 seeds incomplete)", "SGD"]
    # Adam has no run yet, and SGD the colour that it will have beside it.
    assert line_of(axes, "SGD").get_color() == COLOURS[2]
    assert legend_title(figure) == "mean of 1 to 3 seeds,\nband: their range"


def test_eight_arms_are_told_apart_and_gvco_lies_on_top() -> None:
    [axes] = convergence_bands(curves(8, 2)).axes
    lines = {arm: line_of(axes, arm) for arm in NAMES}
    assert len({line.get_color() for line in lines.values()}) == 8
    assert min(lines[arm].zorder for arm in NAMES if "GVCO" in arm) > max(
        lines[arm].zorder for arm in NAMES if "GVCO" not in arm
    )
    more = convergence_bands({str(i): [(EPOCHS, EPOCHS / 10)] for i in range(16)}).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in more}) == 16


@pytest.mark.parametrize("n_arms", [1, 8])
def test_legend_covers_no_data(n_arms: int) -> None:
    for figure in (convergence_bands(curves(n_arms, 2)), variance_over_steps({"quantum": curves(n_arms, 2)})):
        save(figure)
        legend = figure.legends[0].get_window_extent()
        assert all(axes.get_window_extent().x1 <= legend.x0 for axes in figure.axes)
        assert legend.x1 <= figure.bbox.x1


def test_variance_is_averaged_by_its_logarithm() -> None:
    steps, rng = np.arange(9, 60, 10), np.random.default_rng(1)
    seeds = [(steps, 10 ** rng.uniform(-8, -1, len(steps))) for _ in range(5)]
    flat = [(steps, np.zeros(len(steps)))]
    figure = variance_over_steps({"quantum": {"GVCO": seeds}, "classical": {"GVCO": flat, "Adam": seeds}})
    quantum, classical = figure.axes
    logs = np.log10([y for _, y in seeds])
    np.testing.assert_allclose(line_of(quantum, "GVCO").get_ydata(), 10 ** logs.mean(0))
    [path] = quantum.collections[0].get_paths()
    edges = 10 ** np.concatenate(stats.t.interval(0.95, 4, logs.mean(0), stats.sem(logs)))
    np.testing.assert_allclose(np.unique(path.vertices[:, 1]), np.sort(edges))
    assert quantum.get_yscale() == classical.get_yscale() == "log"
    assert (quantum.get_ylabel(), classical.get_xlabel()) == ("quantum gradient variance", "optimizer step")
    assert np.isnan(line_of(classical, "GVCO").get_ydata()).all()  # zeros have no place on the scale
    assert line_of(classical, "Adam").get_color() == COLOURS[1]
    save(figure)


def test_controls_have_a_panel_each() -> None:
    given = curves(2, 1)
    figure = controls_over_steps({"momentum β": {"GVCO": given["GVCO"]}, "learning rate": given})
    momentum, rate = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["momentum β", "learning rate"]
    for axes, arm in ((momentum, "GVCO"), (rate, "GVCO"), (rate, "Adam")):
        np.testing.assert_array_equal(line_of(axes, arm).get_xydata(), np.column_stack(given[arm][0]))
    assert legend_texts(figure) == ["GVCO", "Adam"]


def test_lr_robustness_holds_means_seeds_and_diverged_runs() -> None:
    nan = float("nan")
    points = {
        "GVCO": {1.0: [0.9, 0.8], 0.1: [0.6, 0.7], 10.0: [0.5, nan]},
        "Adam": {0.1: [0.3, 0.5], 1.0: [nan, nan], 10.0: [0.2, 0.2]},
        "SGD": {0.1: [0.1], 1.0: [0.2], 10.0: [0.3]},
    }
    figure = lr_robustness(points)
    axes, strip = figure.axes
    for arm, expected in (("GVCO", [0.65, 0.85, 0.5]), ("Adam", [0.4, np.nan, 0.2]), ("SGD", [0.1, 0.2, 0.3])):
        line = line_of(axes, arm)
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([[0.1, 1, 10], expected]))
        dots = [
            other for other in axes.lines if other is not line and to_hex(other.get_color()) == to_hex(line.get_color())
        ]
        drawn = sorted(map(tuple, dots[0].get_xydata()))
        assert drawn == sorted((x, y) for x, scores in points[arm].items() for y in scores if y == y)
    assert axes.get_xscale() == "log"
    crosses = {line.get_color(): line.get_xydata().tolist() for line in strip.lines}
    assert crosses == {COLOURS[0]: [[10.0, 0.0]], COLOURS[1]: [[1.0, 1.0]]}
    assert [text.get_text() for text in strip.texts] == ["1 of 2", "2 of 2"]
    assert strip.get_xlabel() == "learning rate / the optimizer's default"
    assert [tick.get_text() for tick in strip.get_xticklabels()] == ["0.1", "1", "10"]
    save(figure)
    assert strip.get_window_extent().y1 <= axes.get_window_extent().y0
    assert len(lr_robustness({"SGD": points["SGD"]}).axes) == 1  # nothing diverged, no strip


def test_final_scores_hold_every_seed_and_their_interval() -> None:
    scores = {"GVCO": [0.9, 0.91, 0.95, 0.92, 0.93], "Adam": [0.9, float("nan"), 0.8, 0.7, 0.75], "SGD": [np.nan] * 5}
    figure = final_scores(scores)
    [axes] = figure.axes
    dots, interval, mean, *others = axes.lines
    assert list(dots.get_xdata()) == scores["GVCO"]
    assert list(mean.get_xdata()) == pytest.approx([np.mean(scores["GVCO"])])
    expected = stats.t.interval(0.95, 4, np.mean(scores["GVCO"]), stats.sem(scores["GVCO"]))
    assert list(interval.get_xdata()) == pytest.approx(expected)
    assert list(others[0].get_xdata()) == [0.9, 0.8, 0.7, 0.75]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [to_hex(line.get_color()) for line in crosses] == [c.lower() for c in COLOURS[1:3]]
    save(figure)
    assert all(line.get_window_extent().x0 < axes.get_window_extent().x0 + 6 for line in crosses)  # at the left edge
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["GVCO", "Adam\n1 of 5 lost", "SGD\n5 of 5 lost"]
    assert "95 % t-interval" in figure.get_supxlabel()
    few = final_scores({"GVCO": [0.9, 0.8], "Adam": [0.7, 0.6]})
    assert "range of the seeds" in few.get_supxlabel()
    assert list(few.axes[0].lines[1].get_xdata()) == [0.8, 0.9]


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_nothing_or_one_point_is_no_error() -> None:
    one = [([3], [0.5])]
    for figure in (
        *(convergence_bands({}), convergence_bands({"GVCO": []}), convergence_bands({"GVCO": [([], [])]})),
        *(convergence_bands({"GVCO": one}), convergence_bands({"GVCO": one * 5}, level=0.9)),
        *(variance_over_steps({}), variance_over_steps({"quantum": {}}), variance_over_steps({"quantum": {"A": one}})),
        *(controls_over_steps({}), controls_over_steps({"lr": {"GVCO": one}})),
        *(lr_robustness({}), lr_robustness({"GVCO": {}}), lr_robustness({"GVCO": {1.0: []}})),
        *(lr_robustness({"GVCO": {1.0: [0.5]}}), lr_robustness({"GVCO": {1.0: [np.nan]}})),
        *(
            final_scores({}),
            final_scores({"GVCO": []}),
            final_scores({"GVCO": [0.5]}),
            final_scores({"GVCO": [np.nan]}),
        ),
    ):
        save(figure)
    [line] = convergence_bands({"GVCO": one}).axes[0].lines
    assert line.get_marker() == "o"  # a line of one point is not seen


def test_drawing_is_imported_late_and_touches_nothing_global() -> None:
    code = """
import sys
from hqcnn_lab.figures.arm import convergence_bands
assert "matplotlib" not in sys.modules and "torch" not in sys.modules
convergence_bands({"GVCO": [([1, 2], [0.5, 0.6])]}).savefig(sys.stdout.buffer, format="png")
assert "matplotlib.pyplot" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.startswith(b"\x89PNG")
