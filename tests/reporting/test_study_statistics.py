"""What a study's statistics and pictures say of invented rows, worked out by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hqcnn_lab.analysis.bootstrap import bootstrap_difference
from hqcnn_lab.analysis.measure import ACCURACY, LOSS
from hqcnn_lab.analysis.predictions import read_correct, read_groups
from hqcnn_lab.analysis.study import common_seeds, near_best, several_rates
from hqcnn_lab.figures.study import study_figures
from hqcnn_lab.reporting.study_statistics import (
    accuracy_on_images,
    learning_rates,
    over_seeds,
    study_statistics,
    times_to_level,
)

LEVEL = "convergence/epochs_to_95"


def row(arm: str, seed: int, test: float | None = 0.9, status: str = "finished", **more: object) -> dict[str, object]:
    made = {"condition": "exact", "arm": arm, "stage": "final", "factor": 1.0, "lr": 0.01, "seed": seed}
    made |= {"status": status, "val/accuracy": test, "val/loss": 1.0, "test/accuracy": test, LEVEL: None}
    return made | {"run": f"{arm}_{seed}"} | more


def cells(text: str, first: str) -> list[str]:
    """Of the table in the text, the row that starts so."""
    [line] = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def three_arms() -> list[dict[str, object]]:
    scores = {"gvco": (0.90, 0.91, 0.92, 0.93), "adam": (0.91, 0.93, 0.93, 0.95), "sgd": (0.90, 0.90, 0.92, 0.90)}
    return [row(arm, seed, x) for arm, of_arm in scores.items() for seed, x in enumerate(of_arm)]


def test_accuracy_is_paired_with_the_first_arm_and_corrected_over_the_others() -> None:
    text = over_seeds(three_arms(), ["gvco", "adam", "sgd"], "test/accuracy", 100, 2)
    differences = np.array([0.01, 0.02, 0.01, 0.02])
    test = stats.ttest_1samp(differences, 0)
    low, high = 100 * np.array(test.confidence_interval(0.95))
    adam = cells(text, "adam")
    assert adam[1:3] == ["93.00 ± 1.63", f"+1.50 ({low:+.2f} to {high:+.2f})"]
    assert adam[3] == f"{2 * test.pvalue:.3f}"  # the smaller of two
    assert cells(text, "gvco")[0] == "gvco (n = 4)"
    assert "seeds 0, 1, 2, 3." in text
    # 2/2⁴, and twice that
    assert "cannot give a p below 0.125 whatever the data, 0.25 after Holm (arms compared: 2)" in text


def test_any_score_is_compared_and_a_missing_one_is_said() -> None:
    rows = [row(arm, seed, **{"train/loss": 0.3 + 0.01 * seed * n}) for n, arm in enumerate("ab") for seed in (1, 2)]
    text = over_seeds(rows, ["a", "b"], "train/loss")
    assert cells(text, "a")[1] == "0.3000 ± 0.0000"
    assert cells(text, "b")[1] == "0.3150 ± 0.0071"
    assert over_seeds(three_arms(), ["gvco", "adam", "sgd"], "train/loss") == (
        "Not known: a run's summary has no train/loss."
    )


def test_a_lost_seed_is_lost_for_every_arm() -> None:
    rows = three_arms()
    rows[6]["status"], rows[6]["test/accuracy"] = "diverged", None  # adam, seed 2
    del rows[11]  # sgd, seed 3
    kept, notes = common_seeds(rows, ["gvco", "adam", "sgd"])
    assert {arm: [r["seed"] for r in of_arm] for arm, of_arm in kept.items()} == {arm: [0, 1] for arm in kept}
    assert notes == ["Left out for every arm: seed 2 (adam diverged).", "Left out for every arm: seed 3 (sgd not run)."]
    text = over_seeds(rows, ["gvco", "adam", "sgd"], "test/accuracy", 100, 2)
    assert all(note in text for note in notes)
    assert cells(text, "gvco")[:2] == ["gvco (n = 2)", "90.50 ± 0.71"]


def test_an_arm_without_results_takes_no_seed_along() -> None:
    rows = [*three_arms()[:8], *(row("sgd", seed, None, "diverged") for seed in range(4))]
    kept, notes = common_seeds(rows, ["gvco", "adam", "sgd", "qng"])
    assert {arm: len(of_arm) for arm, of_arm in kept.items()} == {"gvco": 4, "adam": 4}
    assert notes == ["Left out, and not counted by Holm, for want of a finished run (4 diverged): sgd, qng."]
    kept, _ = common_seeds(rows, ["gvco", "adam", "sgd"], ("finished", "diverged"))
    assert [r["status"] for r in kept["sgd"]] == ["diverged"] * 4


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("gvco", 0), row("adam", 0)], "Seeds that all arms finished: 1."),
        ([row("gvco", 0), row("adam", 1)], "Seeds that all arms finished: 0."),
        ([row("gvco", 0), row("gvco", 1)], "No arm but gvco has finished"),
        ([row("adam", 0), row("adam", 1)], "gvco, the reference, has no finished run"),
        ([row("gvco", 0, None, "diverged"), row("adam", 0)], "gvco, the reference, has no finished run"),
        ([row("gvco", 0, stage="tune")], "No final run yet."),
        ([row("gvco", s, None, "diverged") for s in (0, 1)], "Every run diverged."),
    ],
)
def test_what_is_missing_is_said(rows: list[dict[str, object]], said: str, tmp_path: Path) -> None:
    assert said in study_statistics(rows, tmp_path, 0.95, "gvco")  # and no run folder is there
    study_figures(rows, tmp_path, 0.95)


def test_no_rows_at_all(tmp_path: Path) -> None:
    assert study_statistics([], tmp_path, 0.95, "gvco").startswith("# Statistics\n")
    assert study_figures([], tmp_path, 0.95) == {}


def test_other_images_are_drawn_by_group() -> None:
    rng = np.random.default_rng(0)
    correct = {arm: rng.random((2, 60)) < p for arm, p in {"gvco": 0.9, "adam": 0.7}.items()}
    groups = np.repeat(np.arange(30).astype(str), 2)
    text = accuracy_on_images(correct, groups)
    two = bootstrap_difference(correct["adam"], correct["gvco"], groups)
    expected = f"{100 * two.estimate:+.2f} ({100 * two.low:+.2f} to {100 * two.high:+.2f})"
    assert cells(text, "adam")[2:] == [expected, f"{100 * two.share_at_most_0:.1f} %"]
    assert cells(text, "gvco")[1].startswith(f"{100 * correct['gvco'].mean():.2f} (")
    assert "the 30 groups of 60 test images" in text
    assert "the 60 test images again" in accuracy_on_images(correct, None)
    assert "too narrow" in accuracy_on_images(correct, np.repeat(np.arange(10), 6))
    assert "one group" in accuracy_on_images(correct, np.zeros(60))


def test_times_count_the_runs_that_never_got_there() -> None:
    times = {"gvco": [4, 6, None], "adam": [2, 3, 4]}
    text = times_to_level(times, {arm: [10, 10, 10] for arm in times})
    # mean of 4, 6, 10 and of 2, 3, 4
    assert cells(text, "gvco")[1:3] == ["2 of 3", "6 (4 to –)"]
    assert cells(text, "gvco")[3].startswith("6.67 ± ")
    adam = cells(text, "adam")
    assert (adam[1], adam[4]) == ("3 of 3", "0.45")
    assert adam[6] == "0.250"  # 2/2³
    assert "Watched for 10 epochs" in text
    # All are watched for as long as the shortest; one that got there later did not.
    text = times_to_level(times, {"gvco": [10, 10, 10], "adam": [5, 10, 10]})
    assert "Watched for 5 epochs" in text
    assert cells(text, "adam")[4] == f"{9 / 14:.2f}"  # 2 + 3 + 4 over 4 + 5 + 5


@pytest.mark.parametrize(
    ("means", "span"),
    [
        ({0.1: 0.80, 0.3: 0.895, 1: 0.90, 3: 0.89, 10: 0.80}, (0.3, 3)),  # to the very point
        ({0.1: 0.90, 0.3: 0.50, 1: 0.905, 3: 0.90, 10: 0.2}, (1, 3)),  # not across a gap
        ({0.1: 0.90, 1: 0.905, 3: 0.90}, (1, 3)),  # 0.3 and 10 diverged
        ({0.1: 0.90, 0.3: 0.80, 1: 0.90}, (0.1, 0.1)),  # of two bests, the lower
        ({}, None),
    ],
)
def test_near_best(means: dict[float, float], span: tuple[float, float] | None) -> None:
    assert near_best(means, [0.1, 0.3, 1, 3, 10]) == span


@pytest.mark.parametrize(
    ("means", "span"),
    [
        ({0.1: 0.30, 0.3: 0.11, 1: 0.10, 3: 0.109, 10: 0.4}, (0.3, 3)),  # within a tenth of the lowest
        ({0.1: 0.10, 0.3: 0.2, 1: 0.10, 3: 0.12, 10: 0.4}, (0.1, 0.1)),  # of two bests, the lower rate
    ],
)
def test_near_the_lowest_loss(means: dict[float, float], span: tuple[float, float]) -> None:
    assert near_best(means, [0.1, 0.3, 1, 3, 10], LOSS) == span


def test_loss_is_tested_first_where_it_is_the_score(tmp_path: Path) -> None:
    losses = {"gvco": (0.20, 0.22, 0.21, 0.25), "adam": (0.26, 0.25, 0.27, 0.28), "sgd": (0.20, 0.23, 0.22, 0.24)}
    rows = three_arms()
    for r in rows:
        r["test/loss"] = losses[r["arm"]][r["seed"]]
    rows += [
        row("gvco", 100, 0.9, stage="tune", factor=factor, **{"val/loss": loss})
        for factor, loss in ((1.0, 0.31), (3.0, 0.3), (10.0, 0.5))
    ]
    text = study_statistics(rows, tmp_path, 0.95, "gvco", LOSS)
    assert "of losses, where the arm is better below 0" in text
    assert "Primary test: paired t on test loss over seeds" in text
    headings = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    assert headings[:3] == ["Test loss over seeds", "Test accuracy over seeds", "Training loss over seeds"]
    assert headings[-1] == "Validation loss by learning rate (tuning seeds)"
    of_loss = text.split("### ")[1]
    p = {arm: stats.ttest_rel(losses[arm], losses["gvco"]).pvalue for arm in ("adam", "sgd")}
    assert p["adam"] < p["sgd"]  # so Holm doubles the first alone
    assert cells(of_loss, "adam")[1] == "0.2650 ± 0.0129"
    assert cells(of_loss, "adam")[2].startswith("+0.0450 (")
    assert [cells(of_loss, arm)[3] for arm in ("adam", "sgd")] == [f"{2 * p['adam']:.3f}", f"{p['sgd']:.3f}"]
    assert cells(text.split("### ")[-1], "gvco")[1:] == ["0.3100", "0.3000", "0.5000", "≥ 0.5 (×1 to ×3)"]
    figures = study_figures(rows, tmp_path, 0.95, LOSS)
    assert figures["scores_exact"].axes[0].get_xlabel() == "test loss"
    assert figures["lr_range_exact"].axes[0].get_ylabel() == "validation loss, tuning seeds"


def test_a_grid_that_was_extended_for_one_arm_is_open_for_the_other() -> None:
    rows = [row(arm, 0, 0.9, factor=factor) for arm in ("gvco", "adam") for factor in (1.0, 3.0)]
    rows += [row("adam", 0, 0.5, factor=10.0)]
    text = learning_rates(rows, ["gvco", "adam"], ACCURACY)
    assert cells(text, "gvco")[-2:] == ["–", "≥ 0.5 (×1 to ×3)"]
    assert cells(text, "adam")[-2:] == ["50.00", "≥ 0.5 (×1 to ×3)"]  # at its lower end


def test_learning_rates_are_means_over_seeds_with_their_span_in_decades() -> None:
    grid = {0.1: (0.80, 0.82), 1.0: (0.90, 0.91), 10.0: (0.89, 0.91), 100.0: (0.99, None)}
    rows = [
        row("gvco", seed, x, "diverged" if x is None else "finished", factor=factor)
        for factor, scores in grid.items()
        for seed, x in enumerate(scores)
    ]
    rows += [row("adam", 0, 0.7, factor=0.1), row("adam", 1, None, "failed", factor=0.1)]
    assert several_rates(rows)
    assert not several_rates(three_arms())
    text = learning_rates(rows, ["gvco", "adam", "sgd"], ACCURACY)
    assert cells(text, "gvco")[1:] == ["81.00", "90.50", "90.00", "1 of 2 diverged", "1.0 (×1 to ×10)"]
    assert cells(text, "adam")[1:] == ["70.00 (1 of 2)", "–", "–", "–", "≥ 0.0 (×0.1 alone)"]
    assert cells(text, "sgd")[1:] == ["–"] * 5
    assert "Mean over seeds 0, 1." in text


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


VARIANCE = "variance_over_steps"


def write_run(
    folder: Path, right: list[bool], groups: list[str], optimizer: dict[str, float], n_epochs: int = 3
) -> None:
    """Three epochs of two steps; test images t0, t1, … of the class `a`."""
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"epochs": n_epochs}))
    images = [{"file": f"t{i}", "label": "a", "prediction": "a" if x else "b"} for i, x in enumerate(right)]
    write_csv(folder / "predictions.csv", images)
    manifest = [{"file": "t0", "split": "train", "group": "other"}]
    manifest += [{"file": image["file"], "split": "test", "group": g} for image, g in zip(images, groups, strict=True)]
    write_csv(folder / "split_manifest.csv", manifest[::-1])
    logged: list[dict[str, object]] = []
    for epoch in range(n_epochs):
        at = {"epoch": epoch, "step": 2 * epoch + 1}
        variance = {f"grad/{group}/{VARIANCE}": 10.0**-epoch for group in ("quantum", "classical")}
        logged += [at | optimizer | variance, at | {"val/accuracy": 0.5 + epoch / 10}]
    write_csv(folder / "metrics.csv", logged)


@pytest.fixture
def study(tmp_path: Path) -> tuple[list[dict[str, object]], Path]:
    """Two arms, seeds 0 to 2, the last of adam diverged; and a tuning stage of two rates."""
    rows = []
    for arm, optimizer in {
        "gvco": {"control/quantum/rate": 0.002, "control/quantum/momentum": 0.95},
        "adam": {"effective_lr/quantum": 0.01, "gvco/quantum/momentum": 0.9},
    }.items():
        for seed in range(3):
            right = [True] * 20 + [arm == "gvco"] * 20
            write_run(tmp_path / f"{arm}_{seed}", right, [str(i // 2) for i in range(40)], optimizer)
            rows.append(row(arm, seed, float(np.mean(right)), **{LEVEL: 2 if arm == "gvco" else None}))
        rows += [row(arm, 100, 0.9, stage="tune", factor=factor) for factor in (1.0, 3.0)]
    rows[7] |= {"status": "diverged", "test/accuracy": None}
    return rows, tmp_path


def test_statistics_of_a_study(study: tuple[list[dict[str, object]], Path]) -> None:
    rows, runs = study
    rows[7] |= {LEVEL: 1}  # a run that diverged may have been there before
    text = study_statistics(rows, runs, 0.95, "gvco")
    accuracy, loss, images, times, rates = text.split("### ")[1:]
    assert "no train/loss" in loss
    assert cells(accuracy, "adam")[1:3] == ["50.00 ± 0.00", "-50.00 (– to –)"]
    assert "Left out for every arm: seed 2 (adam diverged)." in accuracy
    assert "Mean of 2 seeds; 95 % intervals from drawing the 20 groups of 40 test images" in images
    assert cells(images, "adam")[3] == "100.0 %"
    assert cells(times, "adam")[1:5] == ["0 of 3", "–", "3.00 ± 0.00", "1.50"]
    assert cells(times, "gvco")[1:4] == ["3 of 3", "2", "2.00 ± 0.00"]
    assert "(tuning seeds)" in rates
    assert cells(rates, "adam")[1:] == ["90.00", "90.00", "≥ 0.5 (×1 to ×3)"]
    assert "add 0.8 to callbacks.convergence.levels" in study_statistics(rows, runs, 0.8, "gvco")


def test_every_rate_a_result(study: tuple[list[dict[str, object]], Path]) -> None:
    rows = [row(arm, 0, 0.9, factor=factor) for arm in ("gvco", "adam") for factor in (1.0, 3.0)]
    text = study_statistics(rows, study[1], 0.95, "gvco")
    assert text.count("### ") == 1
    assert "### Test accuracy by learning rate\n" in text
    figures = study_figures(rows, study[1], 0.95)
    assert list(figures) == ["lr_range_exact"]
    assert figures["lr_range_exact"].axes[0].get_ylabel() == "test accuracy (%)"


def test_runs_on_other_images_are_not_compared(study: tuple[list[dict[str, object]], Path]) -> None:
    rows, runs = study
    path = runs / "adam_0" / "predictions.csv"
    path.write_text(path.read_text().replace("t3", "t99"))
    assert "The runs of adam were tested on other images" in study_statistics(rows, runs, 0.95, "gvco")
    path.unlink()
    assert "Not known: [Errno 2]" in study_statistics(rows, runs, 0.95, "gvco")


def test_frames_of_a_file_have_groups_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [True, False, True], ["1", "2", "3"], {})
    files, right = read_correct(tmp_path / "run")
    assert (files, right.tolist()) == (["t0", "t1", "t2"], [True, False, True])
    frames = [{"file": name, "split": "test", "group": group} for name, group in (("a", "7"), ("b", "8"), ("a", "9"))]
    write_csv(tmp_path / "run" / "split_manifest.csv", frames)
    assert read_groups(tmp_path / "run", ["a", "a", "b"]).tolist() == ["7", "9", "8"]
    with pytest.raises(ValueError, match="b is predicted, and not among the test images"):
        read_groups(tmp_path / "run", ["b", "b"])
    write_csv(tmp_path / "run" / "split_manifest.csv", [frame | {"group": ""} for frame in frames])
    assert read_groups(tmp_path / "run", ["a", "b"]) is None


@pytest.mark.slow
def test_figures_of_a_study(study: tuple[list[dict[str, object]], Path]) -> None:
    rows, runs = study
    figures = study_figures(rows, runs, 0.95)
    names = ["lr_range", "convergence", "scores", "gradient_variance", "controls"]
    assert list(figures) == [f"{name}_exact" for name in names]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figures["convergence_exact"].axes[0].lines}
    np.testing.assert_allclose(lines["gvco"], [[1, 0.5], [2, 0.6], [3, 0.7]])
    lr, momentum = figures["controls_exact"].axes  # no classical ones were logged
    assert {line.get_label(): line.get_ydata()[0] for line in lr.lines} == pytest.approx({"gvco": 0.2, "adam": 1.0})
    beta = {line.get_label(): line.get_ydata()[0] for line in momentum.lines}
    assert beta == pytest.approx({"gvco": 0.95, "adam": 0.9})
    assert lr.get_ylabel() == "effective / chosen\nlearning rate, quantum"
    assert [axes.get_ylabel() for axes in figures["gradient_variance_exact"].axes] == [
        "quantum gradient variance",
        "classical gradient variance",
    ]
    for run in runs.iterdir():  # as older runs have it
        path = run / "metrics.csv"
        path.write_text(path.read_text().replace(VARIANCE, "variance"))
    older = study_figures(rows, runs, 0.95)["gradient_variance_exact"]
    assert older.axes[0].get_ylabel() == "quantum gradient variance\n(spread over elements)"
    assert figures["lr_range_exact"].axes[0].get_ylabel() == "validation accuracy (%), tuning seeds"
    scores = [label.get_text() for label in figures["scores_exact"].axes[0].get_yticklabels()]
    assert scores == ["gvco", "adam\n1 of 3 lost"]


def test_an_arm_keeps_its_colour_and_only_four_variances_are_drawn(tmp_path: Path) -> None:
    arms = ["gvco", "late", "sgd", "adam", "radam"]
    for arm in arms:
        write_run(tmp_path / f"{arm}_0", [True], ["1"], {})
    rows = [row("late", 100, stage="tune"), *(row(arm, 0) for arm in arms if arm != "late")]
    rows.insert(0, row("gvco", 100, stage="tune"))
    figures = study_figures(rows, tmp_path, 0.95)
    drawn = {name: {line.get_label(): line.get_color() for line in figures[name].axes[0].lines} for name in figures}
    variance, convergence = drawn["gradient_variance_exact"], drawn["convergence_exact"]
    assert list(variance) == ["gvco", "sgd", "adam"]  # of the first four, those that have runs
    assert variance.items() <= convergence.items()
