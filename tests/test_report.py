"""The report of runs: what it says, what it must not say, and what a browser makes of it."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from conftest import tiny_config
from one_line import refusal_of, refused
from run_folders import CLASSES, set_status, write_run
from scipy import stats

from hqcnn_lab.analysis import load_runs
from hqcnn_lab.analysis.calibration import reliability
from hqcnn_lab.analysis.predictions import auc, read_predictions, roc
from hqcnn_lab.evaluate import evaluate
from hqcnn_lab.report import main
from hqcnn_lab.reporting import pictures
from hqcnn_lab.reporting.contents import Contents, ReportError, make_contents
from hqcnn_lab.reporting.groups import make_families
from hqcnn_lab.reporting.wording import command, public
from hqcnn_lab.reporting.write import write_report
from hqcnn_lab.run.training import train

OPTIMS = {"Adam": 0.8, "SGD": 0.7, "RMSprop": 0.75}
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 runs: 5 seeds of 3 optimizers, and 9 that came to nothing."""
    top = tmp_path_factory.mktemp("sweep")
    rng = np.random.default_rng(0)
    number = iter(range(24))
    for optim, accuracy in OPTIMS.items():
        for seed in range(5):
            write_run(top / f"{next(number)}_{optim}", optim, seed, accuracy + rng.uniform(-0.1, 0.1))
    ends = [{"status": "failed", "error": "OSError: no space at /home/jane/disk/x.ckpt"}]
    ends += [{"status": "failed", "error": "TrainingDiverged: train/loss is nan"}] * 4
    ends += [{"status": "running"}] * 4
    for seed, status in enumerate(ends, 5):
        set_status(write_run(top / f"{next(number)}_SGD", "SGD", seed), **status)
    return top


@pytest.fixture(scope="module")
def contents(sweep: Path) -> Contents:
    return make_contents(load_runs(sweep), [sweep])


def summaries(sweep: Path, optim: str) -> list[dict[str, Any]]:
    return [json.loads((sweep / path).read_text()) for path in sorted(sweep.glob(f"*_{optim}/summary.json"))]


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"[+-]?\d+\.?\d*", text.replace("−", "-"))]


def test_every_run_has_a_row_and_what_did_not_finish_a_reason(contents: Contents) -> None:
    assert len(contents.runs.rows) == 24
    assert contents.states == {"finished": 15, "diverged": 4, "interrupted": 4, "failed": 1}
    reasons = {row[3]: row[5] for row in contents.lost.rows}
    assert len(contents.lost.rows) == 9
    assert reasons["failed"] == "OSError: no space at …/x.ckpt"
    assert reasons["diverged"] == "TrainingDiverged: train/loss is nan"
    assert "killed" in reasons["interrupted"]
    assert contents.lost.rows[0][4] == "3 of 3"


def test_scores_are_those_of_the_summaries(sweep: Path, contents: Contents) -> None:
    [part] = contents.parts
    for row, optim in zip(part.summary.rows, OPTIMS, strict=True):
        runs = summaries(sweep, optim)
        x = 100 * np.array([run["test/accuracy"] for run in runs])
        low, high = stats.t.interval(0.95, 4, x.mean(), stats.sem(x))
        assert row[0] == optim.lower()
        assert row[1] == ("5 of 14" if optim == "SGD" else "5")
        assert numbers(row[2]) == pytest.approx([x.mean(), x.std(ddof=1)], abs=0.006)
        assert numbers(row[3]) == pytest.approx([low, high], abs=0.006)
        assert numbers(row[5])[0] == pytest.approx(100 * np.mean([run["val/accuracy"] for run in runs]), abs=0.006)
        assert numbers(row[6])[0] == pytest.approx(np.mean([run["train/loss"] for run in runs]), abs=0.0006)
        assert row[7] == "2 (5 of 5)"
        assert numbers(row[8])[0] == pytest.approx(12.0)


def test_interval_over_images_is_that_of_a_plain_bootstrap_of_groups(sweep: Path, contents: Contents) -> None:
    tables = [csv.DictReader(path.open()) for path in sorted(sweep.glob("*_Adam/predictions.csv"))]
    rights = [[row["label"] == row["prediction"] for row in table] for table in tables]
    by_group = np.mean(rights, 0).reshape(-1, 2).mean(1)  # images 2i and 2i + 1 are copies of each other
    rng = np.random.default_rng(1)
    means = by_group[rng.integers(0, len(by_group), (20_000, len(by_group)))].mean(1)
    shown = numbers(contents.parts[0].summary.rows[0][4])
    assert shown == pytest.approx(100 * np.percentile(means, [2.5, 97.5]), abs=0.8)


def test_differences_are_paired_over_seeds_and_corrected_by_holm(sweep: Path, contents: Contents) -> None:
    [part] = contents.parts
    scores = {optim: np.array([run["test/accuracy"] for run in summaries(sweep, optim)]) for optim in OPTIMS}
    tests = {optim: stats.ttest_rel(scores[optim], scores["Adam"]) for optim in ("SGD", "RMSprop")}
    first, second = sorted(tests, key=lambda optim: tests[optim].pvalue)
    expected = {first: min(2 * tests[first].pvalue, 1)}
    expected[second] = max(expected[first], tests[second].pvalue)
    for row, optim in zip(part.tests.rows, ("SGD", "RMSprop"), strict=True):
        interval = tests[optim].confidence_interval(0.95)
        assert row[1] == "5"
        assert numbers(row[2]) == pytest.approx([100 * (scores[optim] - scores["Adam"]).mean()], abs=0.006)
        assert numbers(row[3]) == pytest.approx([100 * interval.low, 100 * interval.high], abs=0.006)
        assert row[4] == ("< 0.001" if expected[optim] < 0.001 else f"{expected[optim]:.3f}")
        assert numbers(row[9])[0] == pytest.approx(numbers(row[2])[0])
    assert any("cannot give a p below 0.0625" in note for note in part.test_notes)


def test_classes_confusion_and_calibration(sweep: Path, contents: Contents) -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_recall

    [part] = contents.parts
    assert np.sum([run["test/confusion_matrix"] for run in summaries(sweep, "Adam")], 0).tolist() == (
        part.confusions[0].counts
    )
    import torch

    recalls, errors = [], []
    for path in sorted(sweep.glob("*_Adam")):
        test = read_predictions(path)
        p, labels = torch.from_numpy(test.probabilities), torch.from_numpy(test.labels)
        recalls.append(multiclass_recall(torch.from_numpy(test.predicted), labels, 4, average="none").numpy())
        errors.append(float(multiclass_calibration_error(p, labels, 4, n_bins=15)))
    shown = [numbers(cell)[0] for cell in part.classes.rows[0][1:]]
    assert shown[:4] == pytest.approx(100 * np.mean(recalls, 0), abs=0.06)
    assert shown[8] == pytest.approx(100 * np.mean(errors), abs=0.06)


def test_auc_and_roc_agree_with_torchmetrics_and_each_other() -> None:
    import torch
    from torchmetrics.functional.classification import binary_auroc

    rng = np.random.default_rng(0)
    truth, score = rng.random(300) < 0.3, rng.integers(0, 12, 300) / 12  # with many ties
    expected = float(binary_auroc(torch.from_numpy(score), torch.from_numpy(truth).long()))
    at = np.linspace(0, 1, 20_001)
    assert auc(truth, score) == pytest.approx(expected, abs=1e-6)
    assert np.trapezoid(roc(truth, score, at), at) == pytest.approx(expected, abs=1e-3)
    assert np.isnan(auc(np.ones(3, dtype=bool), np.arange(3)))


@pytest.mark.parametrize("seed", range(5))
def test_roc_is_the_highest_rate_at_each_share_of_false_positives(seed: int) -> None:
    # scikit-learn leaves out points on a line; the last one before the curve turned vertical was missing.
    rng = np.random.default_rng(seed)
    truth, score = rng.random(50) < 0.4, rng.integers(0, 20, 50)
    points = [(np.mean(score[~truth] >= least), np.mean(score[truth] >= least)) for least in range(21)]
    highest = {false: max(hits for other, hits in points if other == false) for false, _ in points}
    assert roc(truth, score, np.array(list(highest))) == pytest.approx(list(highest.values()), abs=1e-12)


def test_roc_of_a_class_that_is_absent_or_alone_is_flat() -> None:
    at, score = np.linspace(0, 1, 3), np.array([0.1, 0.7])
    assert roc(np.zeros(2, dtype=bool), score, at).tolist() == [0, 0, 0]
    assert roc(np.ones(2, dtype=bool), score, at).tolist() == [1, 1, 1]


@pytest.mark.slow
def test_report_and_evaluate_say_the_same_calibration_error(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    # Regression: the report had 10 bins and the evaluation 15.
    result = evaluate([f"run={trained_run}", f"paths.cache_dir={trained_run.parent}/cache", f"out={tmp_path}/scores"])
    [part] = make_contents(load_runs(trained_run), [trained_run]).parts
    assert part.classes.head[-1] == "ECE %"
    assert part.classes.rows[0][-1] == f"{100 * result['calibration/ece']:.1f}"
    test = read_predictions(trained_run)
    error = reliability(test.probabilities.max(1), test.correct).error
    assert error == pytest.approx(result["calibration/ece"], abs=1e-5)


def test_leak_baseline_and_unequal_budgets_are_said(contents: Contents) -> None:
    [part] = contents.parts
    assert "Leakage: official split: 38 % of test images have a twin in training." in part.leak
    assert any("nearest neighbour" in line and "90.00 %" in line for line in part.leak)
    assert "Unequal numbers of seeds a setting: 5 to 14." in part.budget_notes


def with_summary(run: Path, **figures: Any) -> Path:
    """The run, with other figures; `_` in a name stands for `/`."""
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {k.replace("__", "/"): v for k, v in figures.items()}))
    return run


def test_each_setting_has_its_own_nearest_neighbour(tmp_path: Path) -> None:
    # Regression: of many data sets the three lowest stood for all, "35.00 % or 37.50 % or 48.00 %", and the 61 % of the
    # run in the headline was not among them.
    neighbours = {0.48: 0.7, 0.35: 0.5, 0.61: 0.9, 0.375: 0.6}
    for n, (neighbour, validation) in enumerate(neighbours.items()):
        for seed in range(2):
            run = write_run(tmp_path / f"{n}_{seed}", seed=seed, augment=n)
            with_summary(run, baseline__nearest_neighbour_accuracy=neighbour, val__accuracy=validation)
    [part] = make_contents(load_runs(tmp_path), [tmp_path]).parts
    assert part.summary.head[-1] == "nearest neighbour %"
    assert [row[-1] for row in part.summary.rows] == [f"{100 * share:.2f} ± 0.00" for share in neighbours]
    assert part.headline[-1] == "On its images a nearest neighbour, which learns nothing, comes to 61.00 ± 0.00 %."
    [line] = [line for line in part.leak if "nearest neighbour" in line]
    assert "a test accuracy of 35.00 to 61.00 %; the settings' images differ, and the table has each" in line


@pytest.mark.parametrize("summary", ["[]", "{}", '{"test/accuracy": 2}', ""])
def test_of_two_runs_the_one_that_can_be_used_counts(tmp_path: Path, summary: str) -> None:
    # The later one counted, damaged or not, and the score of the other was lost without a word.
    write_run(tmp_path / "whole", accuracy=0.8)
    damaged = write_run(tmp_path / "zz_again", accuracy=0.8)
    status = json.loads((damaged / "status.json").read_text())
    (damaged / "status.json").write_text(json.dumps(status | {"started": "2999-01-01T00:00:00+00:00"}))
    (damaged / "summary.json").write_text(summary)
    [part] = make_contents(load_runs(tmp_path), [tmp_path]).parts
    [row] = part.summary.rows
    assert "80.00" in " ".join(map(str, row))


@pytest.mark.parametrize("content", ["", "x"])
def test_what_a_finished_run_logged_is_there_or_listed(tmp_path: Path, content: str) -> None:
    # A last line without its end is passed over of a run that is going on; here its charts vanished without a word.
    run = write_run(tmp_path / "run")
    (run / "metrics.csv").write_text(content)
    assert "metrics.csv" in str(make_contents(load_runs(tmp_path), [tmp_path]).unusable)


def test_a_leak_is_said_of_the_settings_that_have_it(tmp_path: Path) -> None:
    # It stood for the whole family, also where the other settings were split by patient.
    for n, note in enumerate(["38 % have a twin", None, "38 % have a twin", "2 patients are shared", None, None]):
        with_summary(write_run(tmp_path / f"{n}", augment=n), split__leak=note)
    [part] = make_contents(load_runs(tmp_path), [tmp_path]).parts
    assert part.leak[:2] == [
        "Leakage (augment 0; augment 2): 38 % have a twin.",
        "Leakage (augment 3): 2 patients are shared.",
    ]


@pytest.mark.slow
def test_what_is_cut_short_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three circuits of which two are drawn, and two settings too many for the charts and the table of classes.
    monkeypatch.setattr(pictures, "N_CIRCUITS", 2)
    for n in range(8):
        circuit = {"n_wires": 2, "n_layers": 1 + min(n, 2), "ansatz": "hardware_efficient", "encoder": "angle_y"}
        circuit |= {"readout": "z", "seed": 0}
        model = {"_target_": "hqcnn_lab.models.HQCNN", "kernel": "quantum", "circuit": circuit}
        write_run(tmp_path / str(n), n_test=8, circuit=circuit, model=model, augment=n)
    contents = make_contents(load_runs(tmp_path), [tmp_path])
    assert len(contents.circuits) == 2
    assert "Drawn are 2 circuits of 3." in contents.notes
    [part] = contents.parts
    assert len(part.classes.rows) == 6
    assert part.drawn_note.startswith("Drawn, and told class by class, are 6 of 8 settings")
    path = write_report([tmp_path], tmp_path / "out")[1]
    assert path.read_text(encoding="utf-8").partition("### Class by class")[2].lstrip().startswith("Drawn, and told")


def test_one_run_of_other_classes_does_not_decide_which_are_shown(tmp_path: Path) -> None:
    # The classes of the first run drawn were taken for all, and every other setting left the charts.
    for n, optim in enumerate(("Adam", "SGD", "RMSprop")):
        write_run(tmp_path / str(n), optim, classes=("other", *CLASSES[1:]) if n == 0 else CLASSES)
    [part] = make_contents(load_runs(tmp_path), [tmp_path]).parts
    assert [one.title for one in part.confusions] == ["sgd", "rmsprop"]
    assert part.confusions[0].classes == list(CLASSES)
    assert part.drawn_note == "Not told class by class, as its classes are others: adam."


def test_the_headline_names_the_best_on_validation(sweep: Path, contents: Contents) -> None:
    means = {optim: np.mean([run["val/accuracy"] for run in summaries(sweep, optim)]) for optim in OPTIMS}
    assert f"Best on validation: {max(means, key=means.get).lower()}," in contents.parts[0].headline[0]


def test_groups_are_named_by_what_differs_and_seeds_do_not(tmp_path: Path) -> None:
    for n, (optim, lr, seed) in enumerate([("Adam", 0.1, 0), ("Adam", 0.1, 1), ("Adam", 0.2, 0), ("SGD", 0.1, 0)]):
        write_run(tmp_path / str(n), optim, seed, lr=lr)
    [family] = make_families(load_runs(tmp_path))
    assert [group.name for group in family.groups] == ["adam, lr 0.1", "adam, lr 0.2", "sgd, lr 0.1"]
    assert [len(group.runs) for group in family.groups] == [2, 1, 1]


def test_a_continued_run_is_of_the_same_setting_and_its_curve_begins_where_it_went_on(tmp_path: Path) -> None:
    write_run(tmp_path / "0")
    folder = write_run(tmp_path / "1", seed=1, resume="auto", ckpt_path="/home/jane/last.ckpt")
    lines = (folder / "metrics.csv").read_text().splitlines()
    begun = [line for line in lines[1:] if int(line.split(",")[1]) == 0]  # logged before, in another folder
    (folder / "metrics.csv").write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if line not in begun)]) + "\n"
    )
    contents = make_contents(load_runs(tmp_path), [tmp_path])
    assert len(contents.groups) == 1
    accuracy = contents.parts[0].charts[0].lines[0]
    assert accuracy.x.tolist() == [1, 2, 3]
    assert accuracy.y == pytest.approx([0.5, 0.6, 0.7])
    set_status(folder, status="failed", error="interrupted")
    assert load_runs(folder)[0]["last/epochs"] == 3


def test_the_command_runs_every_seed_again_without_a_path_of_this_machine(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed=seed)
    [family] = make_families(load_runs(tmp_path))
    assert command(family.groups[0]) == (
        'python -m hqcnn_lab.train -m optim=adam dataset=kaggle dataset.root="$DATASET_ROOT" seed=0,1'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no /home/jane/brain/x.jpg here", "no …/x.jpg here"),
        ("dataset.root=/home/jane/brain: absent", "dataset.root=…/brain: absent"),
        ("'/home/jane doe/brain' and ~/x", "'…/brain' and …/x"),
        (r"C:\Users\jane\brain", "…/brain"),
        (
            "3/4 of Testing/glioma/1.jpg, https://pytorch.org/docs",
            "3/4 of Testing/glioma/1.jpg, https://pytorch.org/docs",
        ),
    ],
)
def test_paths_lose_what_is_a_persons_or_a_machines(text: str, said: str) -> None:
    assert public(text) == said


def test_neither_file_tells_a_path_or_a_person(sweep: Path, tmp_path: Path) -> None:
    for path in write_report([sweep], tmp_path / "out"):
        text = path.read_text(encoding="utf-8")
        text = text.partition("/**")[0] + text.rpartition("</script>\n\n<script>")[2]  # not plotly's own
        assert "jane" not in text
        assert str(sweep.parent) not in text


def test_markdown_has_the_tables_of_the_page(sweep: Path, contents: Contents, tmp_path: Path) -> None:
    _, path = write_report([sweep], tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "### Scores by setting" in text
    for cell in contents.parts[0].summary.rows[0]:
        assert cell in text
    assert text.count("| interrupted |") == 8  # in the table of all runs, and in that of those that are lost


def test_a_report_is_replaced_and_another_file_is_not(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_report([sweep], tmp_path)
    write_report([sweep], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]
    (tmp_path / "report.md").write_text("my own notes")
    with pytest.raises(SystemExit, match=r"report.md is not a report of this command: move it"):
        main([str(sweep), "--out", str(tmp_path)])
    assert (tmp_path / "report.md").read_text() == "my own notes"


def test_what_cannot_be_is_one_line(sweep: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ([str(tmp_path / "nowhere")], "there is no such folder"),
        ([str(tmp_path)], "holds no run"),
        ([str(sweep), "--reference", "lion", "--out", str(tmp_path / "x")], "--reference lion: .*adam; sgd; rmsprop"),
        ([str(sweep), "--out", f"{__file__}/x"], "--out .*: nothing can be written there, .*test_report.py is a file"),
    ):
        assert re.search(said, refused(main, *arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_line_says_so_with_status_1(tmp_path: Path) -> None:
    assert "holds no run" in refusal_of(warm.run("-m", "hqcnn_lab.report", str(tmp_path)))


def test_the_reference_may_be_chosen(sweep: Path) -> None:
    part = make_contents(load_runs(sweep), [sweep], "sgd").parts[0]
    assert part.tests.head[0] == "against sgd"
    with pytest.raises(ReportError):
        make_contents(load_runs(sweep), [sweep], "lion")


def test_nothing_finished_is_a_report_all_the_same(tmp_path: Path) -> None:
    set_status(write_run(tmp_path / "a"), status="failed", error="OSError: x")
    (write_run(tmp_path / "b", "SGD") / "config.yaml").write_text("{")
    contents = make_contents(load_runs(tmp_path), [tmp_path])
    assert {row[2] for row in contents.runs.rows} == {"failed", "finished"}
    assert any("config.yaml" in note for note in contents.notes)
    assert all(path.stat().st_size for path in write_report([tmp_path]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["status.json", "config.yaml", "summary.json", "environment.json", "metrics.csv"])
@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"a": 1}', '{"seed": [1], "test/accuracy": "x", "git": 3}', "step\n"]
)
def test_whatever_a_file_holds_there_is_a_report(tmp_path: Path, name: str, text: str) -> None:
    for seed in range(3):
        write_run(tmp_path / str(seed), seed=seed)
    for file in (name, *(["predictions.csv"] * (name == "metrics.csv"))):
        (tmp_path / "1" / file).write_text(text)
    contents = make_contents(load_runs(tmp_path), [tmp_path])
    assert len(contents.runs.rows) == 3
    assert contents.parts[0].summary.rows[0][1].startswith(("2", "3"))


@pytest.mark.slow
def test_a_real_run_shows_its_mistakes_or_says_why_not(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", "trainer.max_epochs=1"))
    [part] = make_contents(load_runs(tmp_path), [tmp_path]).parts
    [one] = part.mistakes
    assert one.n_wrong == len(one.shown) + max(one.n_wrong - 8, 0) > 0
    assert one.note == ""
    assert all(mistake.label != mistake.prediction for mistake in one.shown)
    assert all(mistake.overlay.startswith("data:image/jpeg;base64,") for mistake in one.shown)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    [one] = make_contents(load_runs(tmp_path), [tmp_path]).parts[0].mistakes
    assert one.note == "Images are not shown: the data or the checkpoint are not where the run found them."


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as running:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = running.chromium.launch(
            executable_path=str(CHROMIUM), args=[*quiet, "--disable-sync", "--no-first-run"]
        )
        yield browser
        browser.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(sweep: Path, tmp_path: Path, browser: Any, width: int, scheme: str) -> None:
    wrong = tmp_path / "wrong"  # names that would be code
    evil = "<script>window.stolen = 1</script>"
    dataset = {"_target_": "hqcnn_lab.data.KaggleDataModule", "split": evil}  # a part of its own
    write_run(wrong / "<img src=x onerror=eval('stolen=1')>", "Adamax", classes=(evil, *CLASSES[1:]), dataset=dataset)
    html, _ = write_report([sweep, wrong], tmp_path / "out")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
    )
    page.goto(html.as_uri())
    page.wait_for_function("plots.every(plot => plot.querySelector('.trace, .scatterlayer path'))")
    assert page.get_by_text(evil).count() > 5  # as text
    assert page.evaluate("plots.length") == 2 * 9  # of each part: 2 of training, 2 of gradients, calibration, 4 classes
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.stolen") is None
    rows = page.locator(".runs tbody tr:visible")
    assert rows.count() == 25
    page.get_by_label("sgd", exact=True).uncheck()
    assert rows.count() == 11
    drawn = "Object.fromEntries(plots[0].data.map(trace => [trace.name || '', trace.visible]))"
    assert page.evaluate(drawn) == {
        "": page.evaluate(drawn)[""],
        "adam": True,
        "sgd": False,
        "rmsprop": True,
    }
    page.get_by_label("filter settings and runs").fill("rms")
    assert rows.count() == 5
    assert page.locator(".summary tbody tr:visible").count() == 1
    page.get_by_label("filter settings and runs").fill("7_SGD")
    assert rows.count() == 0  # its box is not checked
    assert complaints == []
    page.close()
