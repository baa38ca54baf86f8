"""A study that reads its arms at several lengths: along one run, or by a run of each; and grids that are extended."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from conftest import TINY_PHANTOM
from one_line import refused
from scipy import stats
from small_study import TWO_ARMS

from hqcnn_lab import study
from hqcnn_lab.analysis import load_runs
from hqcnn_lab.analysis.measure import LOSS
from hqcnn_lab.config.compose import compose
from hqcnn_lab.figures.study import study_figures
from hqcnn_lab.reporting.study_statistics import study_statistics
from hqcnn_lab.sweep import study_training
from hqcnn_lab.sweep.declaration import make_cells
from hqcnn_lab.sweep.jobs import Ended, Job
from hqcnn_lab.sweep.tuning import next_factor

# adam keeps its schedule, gvco has none.
ARMS = [*TWO_ARMS, '+study.arms.constant=["optim=adam","scheduler=none"]', "~study.arms.gvco"]
LENGTHS = [*ARMS, "study.epochs=[2,5]", "study.score=test/loss", "study.lr_factors=[1,3]", "study.seeds=[0,1,2]"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def value_of(job: Job, key: str) -> str:
    """What the last override of a key says."""
    return [line.partition("=")[2] for line in job.overrides if line.partition("=")[0] == key][-1]


Merit = Callable[[Job, int], float | None]
"""The loss that a run has come to after so many epochs; None where it has diverged."""


def plant(merit: Merit, jobs_seen: list[Job]) -> Callable[..., Iterator[Ended]]:
    """A stand-in for `run_jobs`: what a run comes to is planted, nothing is trained."""

    def run_jobs(jobs: Iterable[Job], workers: int, threads: int) -> Iterator[Ended]:
        for job in jobs:
            jobs_seen.append(job)
            length, folder = int(value_of(job, "trainer.max_epochs")), job.folder
            folder.mkdir(parents=True)
            losses = [merit(job, epoch) for epoch in range(1, length + 1)]
            if None in losses:
                (folder / "status.json").write_text('{"status": "failed", "error": "TrainingDiverged: nan"}')
                yield Ended(job, 1, 1.0)
                continue
            summary = {"train/loss": losses[-1], "val/loss": losses[-1], "test/loss": losses[-1], "epochs": length}
            summary |= {"val/accuracy": 0.5, "test/accuracy": 0.5, "seconds/training": 1.0}
            summary |= {"convergence/epochs_to_85": 4, "convergence/steps_to_85": 40}
            if "test_after=" in " ".join(job.overrides):
                for n in json.loads(value_of(job, "test_after")):
                    summary |= {f"test_after/{n}/loss": losses[n - 1], f"test_after/{n}/accuracy": 0.25}
            (folder / "summary.json").write_text(json.dumps(summary))
            lines = [f"{10 * n + 9},{n},{2 * loss}" for n, loss in enumerate(losses)]
            (folder / "metrics.csv").write_text("\n".join(["step,epoch,val/loss", *lines, ""]))
            (folder / "status.json").write_text('{"status": "finished"}')
            yield Ended(job, 0, 1.0)

    return run_jobs


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What was trained: one run of 5 epochs does as well after 2 as a run of 2, but for the schedule's gain of 0.1."""
    seen: list[Job] = []

    def merit(job: Job, epoch: int) -> float:
        lr, seed = float(value_of(job, "optim.lr")), int(value_of(job, "seed"))
        scheduled = "scheduler=none" not in job.overrides
        best = 0.004 if int(value_of(job, "trainer.max_epochs")) == 2 else 0.012  # long runs like ×3
        of_seed = (5, 9, 2) if "optim=sgd" in job.overrides else (3, 1, 4) if scheduled else (0, epoch, epoch / 2)
        scatter = 0.01 * of_seed[seed % 3]
        return 1 / epoch - 0.1 * scheduled + (0.2 if lr != best else 0) + scatter

    monkeypatch.setattr(study_training, "run_jobs", plant(merit, seen))
    return seen


OUT = Path("multirun") / "optimizers_phantom"


def test_arms_without_a_schedule_are_read_along_one_run(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    study.main([*LENGTHS, "plan=true"])
    planned = capsys.readouterr().out
    assert "read after 2, 5 epochs; along one run: constant; by a run of each length: adam\n" in planned
    assert "tuning: 2 learning rates × 1 seeds each, 6 runs, 0 done\nresult: 3 seeds each, 9 runs, 0 done\n" in planned
    study.main(LENGTHS)
    trained = [(value_of(job, "trainer.max_epochs"), "scheduler=none" in job.overrides) for job in jobs]
    cells = [("2", False), ("5", False), ("5", True)]
    assert trained == [cell for n in (2, 3) for cell in cells for _ in range(n)]  # two rates, then three seeds
    read_at = [line for job in jobs for line in job.overrides if line.startswith("test_after")]
    assert read_at == ["test_after=[2]"] * 3  # not where rates are tried
    chosen = [(row["arm"], row["epochs"], row["factor"]) for row in table(OUT / "chosen.csv")]
    assert chosen == [("adam", "2", "1"), ("adam", "5", "3"), ("constant", "5", "3")]


def test_a_row_for_each_reading(jobs: list[Job]) -> None:
    study.main(LENGTHS)
    rows = [row for row in table(OUT / "runs.csv") if row["stage"] == "final" and row["seed"] == "0"]
    assert [(row["arm"], row["epochs"], row["of_epochs"], row["factor"]) for row in rows] == [
        ("adam", "2", "2", "1"),
        ("adam", "5", "5", "3"),
        ("constant", "2", "5", "3"),
        ("constant", "5", "5", "3"),
    ]
    assert [float(row["test/loss"]) for row in rows] == pytest.approx([0.43, 0.13, 0.5, 0.2])
    assert [row["test/accuracy"] for row in rows] == ["0.5", "0.5", "0.25", "0.5"]
    # Validation of that epoch, as it was logged; what is not known of it is empty.
    assert float(rows[2]["val/loss"]) == pytest.approx(1.0)
    assert (rows[2]["train/loss"], rows[2]["convergence/epochs_to_85"], rows[2]["convergence/steps_to_85"]) == (
        "",
        "",
        "",
    )
    assert rows[3]["convergence/epochs_to_85"] == "4"
    assert rows[2]["run"] == rows[3]["run"]
    assert len(load_runs([OUT])) == 15  # runs, none twice


def test_each_length_is_a_block_with_its_own_holm(jobs: list[Job]) -> None:
    study.main([*LENGTHS, '+study.arms.third=["optim=sgd"]', "study.lr_factors=[1]"])
    text = (OUT / "statistics.md").read_text()
    assert "Holm over the arms of a condition at a length" in text
    assert "has one learning rate, chosen at the longest length" in text
    blocks = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert list(blocks) == ["exact, 2 epochs", "exact, 5 epochs"]
    assert "on other images" not in blocks["exact, 2 epochs"]  # some arm has no predictions of then
    assert "on other images" in blocks["exact, 5 epochs"]
    for epochs, block in zip((2, 5), blocks.values(), strict=True):
        rows = [row for row in table(OUT / "runs.csv") if row["epochs"] == str(epochs)]
        losses = {
            arm: [float(r["test/loss"]) for r in rows if r["arm"] == arm] for arm in ("adam", "constant", "third")
        }
        p = {arm: stats.ttest_rel(losses[arm], losses["adam"]).pvalue for arm in ("constant", "third")}
        first, second = sorted(p, key=p.__getitem__)
        of_loss = block.split("### ")[1]
        assert of_loss.startswith("Test loss over seeds")
        for arm, expected in ((first, 2 * p[first]), (second, max(2 * p[first], p[second]))):
            [line] = [line for line in of_loss.splitlines() if line.startswith(f"| {arm} ")]
            shown = line.split("|")[4].strip()
            assert shown == ("< 0.001" if expected < 0.001 else f"{min(expected, 1):.3f}")
    lines = [line for line in (OUT / "table.md").read_text().splitlines() if line.startswith("| exact")]
    assert [line.split("|")[2:4] for line in lines] == [
        *([" 2 ", " adam "], [" 2 of 5 ", " constant "], [" 2 ", " third "]),
        *([" 5 ", " adam "], [" 5 ", " constant "], [" 5 ", " third "]),
    ]


def test_pictures_of_each_length_and_of_all(jobs: list[Job]) -> None:
    study.main(LENGTHS)
    names = {path.stem for path in (OUT / "figures").iterdir()}
    assert {"anytime", "scores_exact_2_epochs", "scores_exact_5_epochs", "convergence_exact_5_epochs"} - names == {
        "convergence_exact_5_epochs"  # no accuracy was logged
    }
    rows = [
        {
            key: float(value) if key in ("epochs", "of_epochs", "factor", "test/loss") and value else value
            for key, value in row.items()
        }
        for row in table(OUT / "runs.csv")
    ]
    figure = study_figures(rows, Path("multirun/runs"), 0.85, LOSS)["anytime"]
    [axes] = figure.axes
    assert (axes.get_title(loc="left"), axes.get_ylabel(), axes.get_xticks().tolist()) == ("exact", "test loss", [2, 5])
    drawn = {line.get_label(): line for line in axes.lines}
    of = [row["test/loss"] for row in rows if (row["arm"], row["stage"], row["epochs"]) == ("constant", "final", 2)]
    assert drawn["constant"].get_ydata()[0] == pytest.approx(sum(of) / 3)
    assert (drawn["constant"].get_linestyle(), drawn["adam"].get_linestyle()) == ("-", "--")
    assert "adam\n(a run of each length)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_an_arm_may_be_declared_to_be_read_along_one_run(jobs: list[Job]) -> None:
    study.main([*LENGTHS, "study.along=[adam]", "study.lr_factors=[1]", "study.seeds=[0]"])
    assert [value_of(job, "trainer.max_epochs") for job in jobs] == ["5", "2", "5"]
    assert "test_after=[2]" in jobs[0].overrides


def test_a_run_that_diverges_late_is_lost_at_every_length(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Job] = []
    late = lambda job, epoch: None if epoch == 5 and "seed=1" in job.overrides else 0.5 + 0.01 * epoch  # noqa: E731
    monkeypatch.setattr(study_training, "run_jobs", plant(late, seen))
    study.main([*LENGTHS, "study.lr_factors=[1]"])
    lost = [row for row in table(OUT / "runs.csv") if row["status"] == "diverged"]
    assert [(row["arm"], row["epochs"], row["seed"], row["test/loss"]) for row in lost] == [
        ("adam", "5", "1", ""),
        ("constant", "2", "1", ""),
        ("constant", "5", "1", ""),
    ]
    assert "seed 1 (constant diverged)" in (OUT / "statistics.md").read_text().split("## exact, 5")[0]


def test_a_summary_that_lacks_a_reading_is_told(jobs: list[Job]) -> None:
    arguments = [*LENGTHS, "study.lr_factors=[1]", "study.seeds=[0]"]
    study.main(arguments)
    [folder] = [job.folder for job in jobs if "test_after=[2]" in job.overrides]
    summary = json.loads((folder / "summary.json").read_text())
    del summary["test_after/2/accuracy"]
    (folder / "summary.json").write_text(json.dumps(summary))
    said = refused(study.main, *arguments)
    assert f"{folder}/summary.json lacks val/accuracy or test_after/2/accuracy (move the folder away" in said
    states = {(row["arm"], row["epochs"]): row["status"] for row in table(OUT / "runs.csv")}
    assert states[("constant", "2")] == "unreadable"
    assert states[("constant", "5")] == states[("adam", "2")] == "finished"


def test_a_study_without_lengths_is_named_and_tabulated_as_before() -> None:
    without = make_cells(compose([*ARMS], "study"))
    assert [cell.place for cell in without] == [("exact", "adam", None), ("exact", "constant", None)]
    ten = make_cells(compose([*ARMS, "study.epochs=[10]"], "study"))  # the length that the scale has anyway
    names = [[cell.run("final", 1, 0, Path()).job.folder.name for cell in cells] for cells in (without, ten)]
    assert names[0] == names[1]


TRAINER, READS = "trainer.max_epochs=3 is not", "test_checkpoint=best: study.epochs reads the last weights"
WRONG = {
    "study.extend=-1": "study.extend=-1: must be a whole number from 0 to 10",
    "study.extend=11": "study.extend=11: must be a whole number from 0 to 10",
    "study.epochs=[5,3]": "study.epochs=[5, 3]: must be whole numbers from 1 on, increasing",
    "study.epochs=[0]": "study.epochs=[0]: must be whole numbers from 1 on",
    "study.epochs=[1.5]": "study.epochs=[1.5]: must be whole numbers",
    "study.along=[mine]": "study.along: mine is none of study.arms: adam, constant",
    'overrides=["trainer.max_epochs=3"]': f"overrides: {TRAINER} to be declared; study.epochs=[2, 5] sets trainer",
    '+study.arms.mine=["test_after=[1]"]': "study.arms.mine: test_after=[1] is not to be declared; study.epochs",
    'overrides=["test_checkpoint=best"]': f"arm adam, condition exact: {READS}",
    'overrides=["+trainer.max_steps=9"]': "trainer.max_steps: may end a run before a length of study.epochs",
    'overrides=["callbacks=early_stopping"]': "callbacks.early_stopping: may end a run before a length of study.epochs",
}


@pytest.mark.parametrize("argument", WRONG)
def test_a_mistake_is_one_line(argument: str) -> None:
    assert WRONG[argument] in refused(study.main, *LENGTHS, argument)


@pytest.mark.parametrize(
    ("grid", "then"),
    [
        ([0.1, 0.3, 1, 3, 10], [30, 100, 300]),
        ([10, 3, 1, 0.3, 0.1], [0.03, 0.01, 0.003]),
        ([1, 2, 4], [8, 16]),
        ([1, 3], [9, 27]),
    ],
)
def test_a_grid_goes_on_as_it_is_spaced(grid: list[float], then: list[float]) -> None:
    for factor in then:
        assert next_factor(grid) == factor
        grid = [*grid, factor]


def extended(best: float | None, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[Job]:
    """The runs of a study of one arm (lr 0.004) whose loss is lowest at `best`; None: it falls for ever."""
    seen: list[Job] = []

    def merit(job: Job, epoch: int) -> float | None:
        lr = float(value_of(job, "optim.lr"))
        return 1 / (1 + lr) if best is None else None if lr > max(2 * best, 0.1) else abs(math.log(lr / best)) + 0.1

    monkeypatch.setattr(study_training, "run_jobs", plant(merit, seen))
    study.main([*ONE_ARM, "study.extend=2", *arguments])
    return seen


ONE_ARM = [*TWO_ARMS, "~study.arms.gvco", "study.epochs=[2]", "study.seeds=[0]", "study.score=test/loss"]


@pytest.mark.parametrize(
    ("best", "tried", "edge"),
    [
        (0.004, [], ""),  # within the grid
        (0.04, [30], ""),  # 30 has diverged: nothing beyond
        (0.12, [30, 100], ""),
        (None, [30, 100], "highest"),  # no more than two
        (0.00012, [0.03, 0.01], ""),
    ],
)
def test_a_grid_is_extended_where_its_edge_is_best(
    best: float | None,
    tried: list[float],
    edge: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study.main([*ONE_ARM, "study.extend=2", "plan=true"])
    assert "beyond an edge: at most 2 more each, 2 runs; wanted so far 0, 0 done\n" in capsys.readouterr().out
    jobs = extended(best, monkeypatch)
    said = capsys.readouterr().out
    rates = [float(value_of(job, "optim.lr")) for job in jobs]
    assert rates[5:-1] == pytest.approx([0.004 * factor for factor in tried])
    for factor in tried:
        assert f"adam exact 2 epochs: its best is at the edge, trying ×{factor:g} too\n" in said
    [choice] = table(OUT / "chosen.csv")
    assert choice["edge"] == edge
    assert float(choice["lr"]) == rates[-1] == pytest.approx(best or 0.4, rel=0.01)
    tuned = [float(row["factor"]) for row in table(OUT / "runs.csv") if row["stage"] == "tune"]
    assert tuned == pytest.approx([0.1, 0.3, 1, 3, 10, *tried])
    study.main([*ONE_ARM, "study.extend=2", "plan=true"])
    assert (
        f"wanted so far {len(tried)}, {len(tried)} done\nresult: 1 seeds each, 1 runs, 1 done"
        in capsys.readouterr().out
    )


def test_an_extension_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Job] = []
    run_jobs = plant(lambda job, epoch: 1 / (1 + float(value_of(job, "optim.lr"))), seen)

    def stopped(jobs: Iterable[Job], workers: int, threads: int) -> Iterator[Ended]:
        for end in run_jobs(jobs, workers, threads):
            yield end
            if len(seen) == 6:
                raise KeyboardInterrupt

    monkeypatch.setattr(study_training, "run_jobs", stopped)
    assert refused(study.main, *ONE_ARM, "study.extend=2").startswith("interrupted")
    assert len(table(OUT / "runs.csv")) == 6
    monkeypatch.setattr(study_training, "run_jobs", run_jobs)
    study.main([*ONE_ARM, "study.extend=2"])
    rates = [float(value_of(job, "optim.lr")) / 0.004 for job in seen]
    assert rates == pytest.approx([0.1, 0.3, 1, 3, 10, 30, 100, 100])


def test_nothing_is_extended_unless_declared_and_where_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(extended(None, monkeypatch, "study.extend=0")) == 6
    said = refused(study.main, *ONE_ARM, "study.extend=2", "study.final=all")
    assert said == "study.extend=2: no learning rate is chosen that could be at an edge; use 0"


@pytest.mark.slow
def test_real_runs_are_read_along_the_way() -> None:
    tiny = ", ".join(f'"{line}"' for line in TINY_PHANTOM)
    arguments = [*LENGTHS, "~study.arms.adam", "study.epochs=[1,2]", "study.lr_factors=[1]", "study.seeds=[0]"]
    study.main([*arguments, f"overrides=[{tiny}]"])
    first, second = table(OUT / "runs.csv")
    assert (first["epochs"], second["epochs"], first["run"] == second["run"]) == ("1", "2", True)
    summary = json.loads((Path("multirun/runs") / first["run"] / "summary.json").read_text())
    assert float(first["test/loss"]) == summary["test_after/1/loss"]
    assert float(second["test/loss"]) == summary["test/loss"]
    assert 0 < float(first["val/loss"]) != summary["val/loss"]
    assert 0 < float(first["train/loss"]) != summary["train/loss"]
    assert study_statistics([], Path(), 0.5, "x")  # nothing to read is no error
