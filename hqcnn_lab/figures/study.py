"""The pictures of a study, condition by condition, from its rows and its run folders."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hqcnn_lab.analysis.measure import ACCURACY, Measure
from hqcnn_lab.analysis.metrics import Series, by_epoch, series_in
from hqcnn_lab.analysis.study import Row, blocks, several_rates
from hqcnn_lab.figures.arm import (
    Curve,
    anytime_curves,
    controls_over_steps,
    convergence_bands,
    final_scores,
    lr_robustness,
    variance_over_steps,
)
from hqcnn_lab.record.plain_file import Unusable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = ("quantum", "classical")
CROWDED = 4  # arms whose noisy lines can be told apart

CONTROLS = {  # label → metrics, of which a run may have one or the other
    "effective / chosen\nlearning rate, {}": ["control/{}/rate", "effective_lr/{}"],
    "momentum β, {}": ["control/{}/momentum", "momentum/{}", "gvco/{}/momentum"],
    "averaging weight, {}": ["control/{}/average_weight"],
}
VARIANCES = {  # label → metric; the first that the runs have: the second is what older ones call their variance
    "gradient variance": "grad/{}/variance_over_steps",
    "gradient variance\n(spread over elements)": "grad/{}/variance",
}

Runs = Mapping[str, Sequence[tuple[float, Mapping[str, Series]]]]
"""Arm → each of its runs: the learning rate that it was given, and what it logged."""


def study_figures(
    rows: Sequence[Row], runs_dir: str | Path, level: float, measure: Measure = ACCURACY
) -> dict[str, "Figure"]:
    """A study's pictures, by name, under each condition: `convergence_<condition>`, `scores_`, `gradient_variance_`,
    `controls_` and, where several learning rates were run, `lr_range_`. Where the study declares lengths, the name ends
    with each (`scores_exact_3_epochs`), pictures of what runs logged are of the longest, and `anytime` shows them all.

    The first four are of the final stage where each arm has one learning rate; `gradient_variance` of the first four
    arms. `scores` is of the study's `measure`, and so is `lr_range` where every rate is a result; otherwise of its
    validation on the tuning seeds. A picture without data is left out. `level` is the validation accuracy, a share,
    that "how fast" is measured to. Rows are as in `study_statistics`; one of a run that neither finished nor diverged
    is passed over.
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figures: dict[str, Figure] = {}
    for block in blocks(rows):
        ended = [row for row in block.rows if row["status"] in ("finished", "diverged")]
        final, tuning = ([row for row in ended if row["stage"] == stage] for stage in ("final", "tune"))
        if several_rates(final):
            figures[f"lr_range_{block.suffix}"] = lr_robustness(_by_rate(final, arms, measure.key), measure.axis)
        elif several_rates(tuning):
            chosen_by = measure.validation
            by_rate = _by_rate(tuning, arms, chosen_by.key)
            figures[f"lr_range_{block.suffix}"] = lr_robustness(by_rate, f"{chosen_by.axis}, tuning seeds")
        if not final or several_rates(final):
            continue
        scores = {arm: [_score(row, measure.key) for row in final if row["arm"] == arm] for arm in arms}
        # What a run logged is of its own length.
        of_runs = _of_runs(final, arms, Path(runs_dir), level) if block.is_end(final) else {}
        drawn = {
            "convergence": of_runs.pop("convergence", None),
            "scores": final_scores(scores, measure.axis),
            **of_runs,
        }
        figures |= {f"{name}_{block.suffix}": figure for name, figure in drawn.items() if figure is not None}
    if (figure := _anytime(rows, arms, measure)) is not None:
        figures["anytime"] = figure
    return figures


def _anytime(rows: Sequence[Row], arms: Sequence[str], measure: Measure) -> "Figure | None":
    """The score over the lengths that the study declares; None where it declares none, or no rate is an arm's own."""
    kept = [row for row in rows if row["stage"] == "final" and row.get("epochs") is not None]
    kept = [row for row in kept if row["status"] == "finished" and row.get(measure.key) is not None]
    if len({row["epochs"] for row in kept}) < 2 or any(several_rates(block.rows) for block in blocks(kept)):
        return None
    panels: dict[str, dict[str, list[Curve]]] = {}
    for condition in dict.fromkeys(row["condition"] for row in rows):
        panels[condition] = {arm: [] for arm in arms}
        for arm in arms:
            of_arm = [row for row in kept if (row["condition"], row["arm"]) == (condition, arm)]
            for seed in dict.fromkeys(row["seed"] for row in of_arm):
                of_seed = sorted((row for row in of_arm if row["seed"] == seed), key=lambda row: row["epochs"])
                curve = [row["epochs"] for row in of_seed], [row[measure.key] for row in of_seed]
                panels[condition][arm].append(curve)
    along = {row["arm"] for row in kept if row["epochs"] < row["of_epochs"]}
    return anytime_curves(panels, measure.axis, [arm for arm in arms if arm not in along])


def _of_runs(rows: Sequence[Row], arms: Sequence[str], runs_dir: Path, level: float) -> dict[str, "Figure | None"]:
    runs = {arm: list(_read([row for row in rows if row["arm"] == arm], runs_dir)) for arm in arms}
    accuracies = {
        arm: [by_epoch(run, "val/accuracy") for _, run in of_arm if "val/accuracy" in run]
        for arm, of_arm in runs.items()
    }
    variances = {
        label: {group: _curves(runs, arms[:CROWDED], [name.format(group)]) for group in GROUPS}
        for label, name in VARIANCES.items()
    }
    variances = {
        label: {group: curves for group, curves in panels.items() if any(curves.values())}
        for label, panels in variances.items()
    }
    kind = next((label for label, panels in variances.items() if panels), None)
    controls = {
        label.format(group): _curves(runs, arms, [name.format(group) for name in names])
        for label, names in CONTROLS.items()
        for group in GROUPS
    }
    controls = {label: curves for label, curves in controls.items() if any(curves.values())}
    return {
        "convergence": convergence_bands(accuracies, level) if any(accuracies.values()) else None,
        "gradient_variance": variance_over_steps(variances[kind], kind) if kind else None,
        "controls": controls_over_steps(controls) if controls else None,
    }


def _by_rate(rows: Sequence[Row], arms: Sequence[str], name: str) -> dict[str, dict[float, list[float]]]:
    points: dict[str, dict[float, list[float]]] = {arm: {} for arm in arms}
    for row in rows:
        points[row["arm"]].setdefault(row["factor"], []).append(_score(row, name))
    return points


def _score(row: Row, name: str) -> float:
    return row[name] if row["status"] == "finished" and row.get(name) is not None else np.nan


def _read(rows: Sequence[Row], runs_dir: Path) -> Iterator[tuple[float, dict[str, Series]]]:
    for row in rows:
        try:
            yield row["lr"], series_in(runs_dir / row["run"] / "metrics.csv")
        except FileNotFoundError:  # a run diverged before anything was logged
            continue
        except Unusable as error:
            print(f"figures: without {row['run']}, whose metrics.csv {error}", flush=True)


def _curves(runs: Runs, arms: Sequence[str], names: Sequence[str]) -> dict[str, list[Curve]]:
    """Arm → of each run the first of `names` that it logged; an arm that has none keeps its colour.

    Learning rates are over the run's own: those of arms lie powers of ten apart, what is done with them does not.
    """
    curves: dict[str, list[Curve]] = {arm: [] for arm in arms}
    for arm in arms:
        for lr, run in runs[arm]:
            if (name := next((n for n in names if n in run), None)) is not None:
                steps, values = run[name]
                curves[arm].append(
                    (steps, values / lr if name.endswith("/rate") or name.startswith("effective_lr/") else values)
                )
    return curves
