"""A study: fair by its checks, chosen on validation alone, and whole after any interruption."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import warm
from conftest import TINY_PHANTOM
from one_line import refused
from small_study import TWO_ARMS

from hqcnn_lab import study
from hqcnn_lab.analysis import load_runs
from hqcnn_lab.analysis.measure import LOSS
from hqcnn_lab.config.check import check
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.record.state import state_of
from hqcnn_lab.sweep import study_training
from hqcnn_lab.sweep.declaration import check_study, make_cells, overrides_of
from hqcnn_lab.sweep.jobs import Ended, Job
from hqcnn_lab.sweep.rate_choice import choice_of, choose
from hqcnn_lab.sweep.study_tables import commits, markdown_table

TINY = ", ".join(f'"{line}"' for line in [*TINY_PHANTOM, "trainer.max_epochs=2"])
SMALL = [*TWO_ARMS, "study.lr_factors=[1,3]", "study.tune_seeds=[100]", "study.seeds=[0]", f"overrides=[{TINY}]"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HQCNN_KAGGLE_ROOT", raising=False)
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


WRONG = {
    "study=optimisers": "study=optimisers: there is no such choice; study is one of",
    "scale=mnist": "scale=mnist: there is no such choice; scale is one of kaggle, phantom",
    "study.seed=[1]": "study.seed: there is no such key; did you mean study.seeds?",
    "study.lr_factors=[1,0]": "study.lr_factors=[1, 0]: must be positive numbers, each once",
    "study.lr_factors=[1,1.0]": "must be positive numbers, each once",
    "study.seeds=[0,100]": "study.seeds: 100 is among study.tune_seeds; results take fresh seeds",
    "study.seeds=[]": "study.seeds=[]: needs at least one",
    "study.arms=null": "study.arms=None: must be names, each with a list of overrides",  # regression: a traceback
    "study.tune_seeds=[]": "study.tune_seeds=[]: needs at least one, or study.lr_factors=[1]",
    "study.tune_seeds=[-1]": "study.tune_seeds=[-1]: must be whole numbers from 0 on",
    "sweep=noise": "sweep=noise: sweep is called study now: study=noise",
    "~sweep.arms.sgd": "~sweep.arms.sgd: sweep is called study now: ~study.arms.sgd",
    '+sweep.arms.mine=["optim=adam"]': """now: +study.arms.mine=["optim=adam"]""",
    "sweep.seeds=[0]": "now: study.seeds=[0]",
    "study.score=test/los": "study.score=test/los: must be one of test/accuracy, test/loss",
    "study.final=best": "study.final=best: must be chosen or all",
    "+study.arms.mine=[5]": "study.arms.mine=[5]: must be a list of overrides",
    '+study.arms.mine=["seed=1"]': "study.arms.mine: seed=1 is not to be declared; the study sets ",
    'overrides=["paths.cache_dir=x"]': "overrides: paths.cache_dir=x is not to be declared; the study sets ",
    "workers=0": "workers=0: must be at least 1",
    "workers=100000": "workers=100000: this machine has ",
    "study.name=../x": "study.name=../x: has / in it",
    "scale.name=a/b": "scale.name=a/b: has / in it",
    "out=''": "out=: is empty",
    "scale=kaggle": "scale.root=null: not set; give the folder of the data",
}


@pytest.mark.slow
@pytest.mark.parametrize("argument", WRONG)
def test_a_mistake_is_one_line(argument: str) -> None:
    assert WRONG[argument] in refused(study.main, *SMALL, argument)


@pytest.mark.slow
def test_a_wrong_override_names_study_arm_condition_and_key() -> None:
    said = refused(study.main, *SMALL, '+study.conditions.few=["circuit.shot=8"]', "plan=true")
    assert said == (
        "study=optimizers, arm gvco, condition few: circuit.shot: there is no such key; did you mean circuit.shots?"
    )
    said = refused(study.main, *SMALL, '+study.arms.mine=["optim=adam","optim.lr=-1"]')
    assert said == "study=optimizers, arm mine, condition exact: optim.lr=-1: must be at least 0"


def test_help_lists_every_study_with_its_question_and_needs_no_torch() -> None:
    code = (
        "import sys\nfrom hqcnn_lab.study import main\n"
        "try: main(['--help'])\nfinally: assert not {'torch', 'lightning', 'wandb'} & set(sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": str(CONFIG_DIR.parent)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    for path in (CONFIG_DIR / "study").glob("*.yaml"):
        assert re.search(rf"^  {path.stem} +\w.*\?$", said, re.MULTILINE)
    assert "tune_seeds:" in said


@pytest.mark.slow
def test_a_finished_run_of_no_figures_is_named_and_costs_the_others_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: `summary.json` = `[]` ended the study, its tables unwritten, at every start.
    def run_jobs(jobs: Iterable[Job], workers: int, threads: int) -> Iterator[Ended]:
        for end in plant(lambda lr, seed: {"val/accuracy": 0.5})(jobs, workers, threads):
            if "optim=adam" in end.job.overrides and "seed=5" in end.job.overrides:
                for name in ("summary.json", "environment.json", "metrics.csv", "predictions.csv"):
                    (end.job.folder / name).write_text("[]")
            yield end

    monkeypatch.setattr(study_training, "run_jobs", run_jobs)
    out = here / "multirun" / "optimizers_phantom"
    with pytest.raises(SystemExit) as refused:
        study.main([*TWO_ARMS, "study.lr_factors=[1]", "study.seeds=[5,6]"])
    [damaged] = (here / "multirun" / "runs").glob("*adam*_s5_*")
    assert str(refused.value) == (
        f"error: not whole: adam exact lr×1 seed 5: {damaged}/summary.json holds a list, not names with values (move "
        "the folder away, and it runs again); the same command tries again what failed"
    )
    assert [row["status"] for row in table(out / "runs.csv")] == ["finished", "finished", "unreadable", "finished"]
    assert "| adam | 0.004 (×1) | 1, 1 unreadable |" in (out / "table.md").read_text()


def plant(merit: Callable[[float, int], dict[str, float | None] | str]) -> Callable[..., Iterator[Ended]]:
    """A stand-in for `run_jobs`: what a run of a learning rate and a seed comes to is planted, nothing is trained."""

    def run_jobs(jobs: Iterable[Job], workers: int, threads: int) -> Iterator[Ended]:
        for job in jobs:
            values = dict(line.split("=") for line in job.overrides if line.startswith(("optim.lr=", "seed=")))
            came_to = merit(float(values["optim.lr"]), int(values["seed"]))
            job.folder.mkdir(parents=True)
            if isinstance(came_to, str):
                (job.folder / "status.json").write_text(json.dumps({"status": "failed", "error": came_to}))
            else:
                (job.folder / "status.json").write_text('{"status": "finished"}')
                summary = {"train/loss": 0.3, "val/loss": 1.0, "test/accuracy": 0.5, "seconds/training": 1.0} | came_to
                (job.folder / "summary.json").write_text(json.dumps(summary))
            yield Ended(job, int(isinstance(came_to, str)), 1.0)

    return run_jobs


@pytest.mark.slow
def test_the_choice_is_of_validation_and_never_of_tests(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = {0.09: 0.9, 0.03: 0.7, 0.004: 0.8}  # gvco at ×3, adam at ×1

    def merit(lr: float, seed: int) -> dict[str, float | None]:
        validation = best.get(lr, 0.6)
        return {"val/accuracy": validation, "test/accuracy": 1 - validation}

    monkeypatch.setattr(study_training, "run_jobs", plant(merit))
    study.main([*TWO_ARMS, "study.tune_seeds=[100,101]", "study.seeds=[5,6]"])
    out = here / "multirun" / "optimizers_phantom"
    chosen = {row["arm"]: row for row in table(out / "chosen.csv")}
    assert {arm: float(row["lr"]) for arm, row in chosen.items()} == {"gvco": 0.09, "adam": 0.004}
    assert {row["edge"] for row in chosen.values()} == {""}
    rows = table(out / "runs.csv")
    tuned, final = ([row for row in rows if row["stage"] == stage] for stage in ("tune", "final"))
    assert [(row["arm"], row["factor"], row["seed"]) for row in tuned] == [
        (arm, factor, seed)
        for arm in ("gvco", "adam")
        for factor in ("0.1", "0.3", "1", "3", "10")
        for seed in ("100", "101")
    ]
    assert [(row["arm"], float(row["lr"]), row["seed"]) for row in final] == [
        (arm, lr, seed) for arm, lr in (("gvco", 0.09), ("adam", 0.004)) for seed in ("5", "6")
    ]
    assert all((here / "multirun" / "runs" / row["run"]).is_dir() for row in rows)
    line = "| exact | gvco | 0.09 (×3) | 2 | 0.300 ± 0.000 | 90.00 ± 0.00 | 10.00 ± 0.00 | never | 1.0 |"
    assert line in (out / "table.md").read_text()
    files = ["chosen.csv", "figures", "runs.csv", "statistics.md", "study.yaml", "table.md"]
    assert sorted(path.name for path in out.iterdir()) == files
    assert "| adam | 20.00 ± 0.00 | +10.00 " in (out / "statistics.md").read_text()
    assert {path.name for path in (out / "figures").iterdir()} == {"lr_range_exact.png", "scores_exact.png"}


@pytest.mark.slow
def test_a_study_of_losses_chooses_and_reports_by_loss(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = {0.09: 0.1, 0.004: 0.2}  # gvco at ×3, adam at ×1; accuracy would choose others

    def merit(lr: float, seed: int) -> dict[str, float | None]:
        loss = best.get(lr, 0.6)
        return {"val/accuracy": loss, "val/loss": loss, "test/loss": loss + seed / 1000, "test/accuracy": loss}

    monkeypatch.setattr(study_training, "run_jobs", plant(merit))
    study.main([*TWO_ARMS, "study.score=test/loss", "study.seeds=[5,6]"])
    out = here / "multirun" / "optimizers_phantom"
    assert {row["arm"]: (row["factor"], row["val_loss"]) for row in table(out / "chosen.csv")} == {
        "gvco": ("3", "0.1"),
        "adam": ("1", "0.2"),
    }
    text = (out / "table.md").read_text()
    assert "| training loss | validation loss | test loss | validation % | test % |" in text
    assert "| 0.300 ± 0.000 | 0.1000 ± 0.0000 | 0.1055 ± 0.0007 | 10.00 ± 0.00 | 10.00 ± 0.00 |" in text
    assert "| adam | 0.2055 ± 0.0007 | +0.1000 " in (out / "statistics.md").read_text()


def test_a_failure_to_draw_is_a_line_and_loses_no_table(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no fonts\nat all")

    monkeypatch.setattr(study_training, "run_jobs", plant(lambda lr, s: {"val/accuracy": 0.9}))
    monkeypatch.setattr("hqcnn_lab.figures.study.study_figures", fail)
    study.main([*TWO_ARMS, "study.lr_factors=[1]", "study.seeds=[0]"])
    assert "statistics and figures: not all of them written (no fonts at all)\n" in capsys.readouterr().out
    files = {path.name for path in (here / "multirun" / "optimizers_phantom").iterdir() if path.is_file()}
    assert files == {"chosen.csv", "runs.csv", "statistics.md", "study.yaml", "table.md"}


def test_an_arm_that_diverges_everywhere_is_told_and_the_others_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_jobs = plant(lambda lr, s: {"val/accuracy": 0.9} if lr < 0.005 else "TrainingDiverged: nan")
    monkeypatch.setattr(study_training, "run_jobs", run_jobs)
    arguments = [*TWO_ARMS, "study.lr_factors=[1,3]", "study.seeds=[0]"]
    said = refused(study.main, *arguments)
    assert said.startswith("not whole: gvco exact: diverged at every learning rate; lower study.lr_factors")
    rows = table(here / "multirun" / "optimizers_phantom" / "runs.csv")
    assert [(row["arm"], row["stage"], row["status"]) for row in rows] == [
        ("gvco", "tune", "diverged"),
        ("gvco", "tune", "diverged"),
        ("adam", "tune", "finished"),
        ("adam", "tune", "diverged"),
        ("adam", "final", "finished"),
    ]
    [choice] = table(here / "multirun" / "optimizers_phantom" / "chosen.csv")
    assert (choice["arm"], choice["edge"]) == ("adam", "lowest")


def test_an_arm_is_not_chosen_from_half_its_grid(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_jobs = plant(lambda lr, s: "OSError: no space left" if lr == 0.09 else {"val/accuracy": 0.9})
    monkeypatch.setattr(study_training, "run_jobs", run_jobs)
    said = refused(study.main, *TWO_ARMS, "study.lr_factors=[1,3]", "study.seeds=[0]")
    assert said.startswith("not whole: gvco exact lr×3 seed 100 failed, so gvco is not tuned;")
    assert [row["arm"] for row in table(here / "multirun" / "optimizers_phantom" / "chosen.csv")] == ["adam"]


def test_every_factor_runs_where_nothing_is_chosen(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_training, "run_jobs", plant(lambda lr, s: {"val/accuracy": lr}))
    study.main([*TWO_ARMS, "study.final=all", "study.lr_factors=[1,3]", "study.seeds=[0,1]"])
    rows = table(here / "multirun" / "optimizers_phantom" / "runs.csv")
    assert [row["stage"] for row in rows] == ["final"] * 8
    assert {(row["arm"], row["factor"]) for row in rows} == {(a, f) for a in ("gvco", "adam") for f in "13"}


@pytest.mark.slow
def test_a_study_of_an_older_version_goes_on_and_is_reported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Older versions called what is declared `sweep`, on the command line and in study.yaml.
    monkeypatch.setattr(study_training, "run_jobs", plant(lambda lr, s: {"val/accuracy": 0.9}))
    arguments, out = [*TWO_ARMS, "study.lr_factors=[1]"], here / "multirun" / "optimizers_phantom"
    study.main([*arguments, "study.seeds=[0]"])
    written = (out / "study.yaml").read_text()
    assert written.startswith("study:\n")
    (out / "study.yaml").write_text(written.replace("study:\n", "sweep:\n", 1))
    assert len(load_runs([out])) == 2
    before = results(here / "multirun" / "runs")
    study.main([*arguments, "study.seeds=[0,1]"])
    assert before.items() <= results(here / "multirun" / "runs").items()
    assert (out / "study.yaml").read_text().startswith("study:\n")
    assert len(load_runs([out])) == 4


def tuning_row(factor: float, accuracy: float, loss: float = 1.0, status: str = "finished", test: float = 0.5) -> dict:
    row = {"condition": "exact", "arm": "adam", "factor": factor, "lr": factor / 100, "status": status}
    return row | {"train/loss": 0.3, "val/accuracy": accuracy, "val/loss": loss, "test/accuracy": test}


@pytest.mark.parametrize(
    ("rows", "factor"),
    [
        ([tuning_row(1, 0.8, test=0.1), tuning_row(3, 0.7, test=0.9)], 1),
        ([tuning_row(1, 0.8, loss=0.5), tuning_row(3, 0.8, loss=0.4)], 3),  # a tie goes to the lower loss
        ([tuning_row(3, 0.8), tuning_row(1, 0.8)], 1),  # and then to the lower rate
        ([tuning_row(1, 0.1, 0.9), tuning_row(1, 0.2, 0.9), tuning_row(3, 0.2), tuning_row(3, 0.1)], 1),
        ([tuning_row(1, 0.8), tuning_row(3, 0.9), tuning_row(3, 0.9, status="diverged")], 1),
        ([tuning_row(1, 0.8), tuning_row(3, 0.9, status="failed")], 1),
        ([tuning_row(1, 0.6), tuning_row(1, 0.8), tuning_row(3, 0.9), tuning_row(3, 0.4)], 1),  # the mean
    ],
)
def test_choose(rows: list[dict], factor: float) -> None:
    assert choose(rows)["factor"] == factor


@pytest.mark.parametrize(
    ("rows", "factor"),
    [
        ([tuning_row(1, 0.9, loss=0.5), tuning_row(3, 0.8, loss=0.4)], 3),
        ([tuning_row(1, 0.7, loss=0.4), tuning_row(3, 0.8, loss=0.4)], 3),  # a tie goes to the higher accuracy
        ([tuning_row(3, 0.8, loss=0.4), tuning_row(1, 0.8, loss=0.4)], 1),  # and then to the lower rate
        ([tuning_row(1, 0.9, loss=0.3), tuning_row(1, 0.9, loss=0.7), tuning_row(3, 0.1, loss=0.45)], 3),  # the mean
        ([tuning_row(1, 0.8, loss=0.5), tuning_row(3, 0.9, loss=0.1, status="diverged")], 1),
    ],
)
def test_choose_by_loss(rows: list[dict], factor: float) -> None:
    assert choose(rows, LOSS)["factor"] == factor


def test_nothing_to_choose() -> None:
    assert choose([tuning_row(1, 0.9, status="diverged"), tuning_row(3, 0.9, status="failed")]) is None


@pytest.mark.parametrize(("factor", "edge"), [(0.1, "lowest"), (1, ""), (10, "highest")])
def test_a_choice_at_the_edge_of_the_grid_says_so(factor: float, edge: str) -> None:
    assert choice_of(tuning_row(factor, 0.9), [0.1, 1, 10]).edge == edge


def test_table_counts_what_is_lost_and_says_how_many_arrived() -> None:
    whole = [
        tuning_row(3, accuracy, test=0.9)
        | {"stage": "final", "convergence/epochs_to_85": epochs, "seconds/training": 2.0}
        for accuracy, epochs in ((0.90, 4), (0.92, 7), (0.84, None))
    ]
    lost = [tuning_row(3, 0.0, status="diverged") | {"stage": "final"}, tuning_row(3, 0.99) | {"stage": "tune"}]
    [_, _, line] = markdown_table([*whole, *lost], 0.85).splitlines()
    scores = "0.300 ± 0.000 | 88.67 ± 4.16 | 90.00 ± 0.00"
    assert line == f"| exact | adam | 0.03 (×3) | 3, 1 diverged | {scores} | 5.5 (2 of 3) | 2.0 |"


def test_commits_tells_of_runs_of_several_versions(tmp_path: Path) -> None:
    for name, git in {"a": {"commit": "1" * 40, "changed": False}, "b": {"commit": "2" * 40, "changed": True}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "environment.json").write_text(json.dumps({"git": git}))
    found = list(commits(tmp_path / name for name in "aabc"))
    assert found == ["1" * 12, "2" * 12 + " with changes"]


@pytest.mark.slow
def test_folders_are_named_by_what_is_computed(here: Path) -> None:
    def folders(*arguments: str) -> list[str]:
        config = compose([*TWO_ARMS, "~study.arms.gvco", *arguments], "study")
        [cell] = make_cells(config)
        return [cell.run("tune", factor, 0, here).job.folder.name for factor in config.study.lr_factors]

    first = folders("study.lr_factors=[1,3]")
    assert len(set(first)) == 2
    assert first[0].startswith("phantom_adam_lr0.004_s0_")
    # Another name, cache and logger, and a default said aloud: the same runs.
    said = 'overrides=["logger=wandb","optim.lr=4e-3"]'
    assert folders("study.lr_factors=[1]", "paths.cache_dir=elsewhere", "study.name=other", said) == first[:1]
    # The same learning rate, by another way.
    assert folders("study.lr_factors=[10]", 'overrides=["optim.lr=1.2e-3"]') == first[1:]
    assert folders("study.lr_factors=[1]", 'overrides=["trainer.max_epochs=3"]') != first[:1]


@pytest.mark.slow
def test_a_factor_moves_both_learning_rates(here: Path) -> None:
    config = compose([*TWO_ARMS, 'overrides=["optim.quantum_lr=0.01"]'], "study")
    run = make_cells(config)[0].run("tune", 0.3, 7, here)
    assert run.job.overrides[-3:] == ("seed=7", "optim.lr=0.009", "optim.quantum_lr=0.003")


def start(*arguments: str) -> warm.Process:
    return warm.Process("-m", "hqcnn_lab.study", *SMALL, "workers=2", *arguments, new_session=True)


def results(runs: Path) -> dict[str, int]:
    return {
        path.name: (path / "status.json").stat().st_mtime_ns for path in runs.glob("*") if state_of(path) == "finished"
    }


@pytest.mark.slow
def test_an_interrupted_study_loses_and_repeats_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = here / "multirun" / "runs", here / "multirun" / "optimizers_phantom"
    first = start()  # told to end, as by Ctrl-C, with two runs going on
    for line in first.stdout:
        if line.startswith("1/6"):
            break
    os.killpg(first.pid, signal.SIGINT)
    _, err = first.communicate(timeout=120)
    assert (first.returncode, err) == (1, "error: interrupted; the same command goes on where this one stopped\n")
    rows = table(out / "runs.csv")
    assert rows
    before = results(runs)
    assert {row["run"] for row in rows if row["status"] == "finished"} == set(before)

    second = start()  # killed, and only it: its runs find out by themselves
    for line in second.stdout:
        if line.startswith("tuning"):
            assert line.endswith(f"4 runs, {len(before)} done\n")
            break
    time.sleep(random.uniform(0.5, 2))
    second.kill()
    second.communicate(timeout=120)

    third = start()
    _, err = third.communicate(timeout=240)
    assert (third.returncode, err) == (0, "")
    after = results(runs)
    assert before.items() <= after.items()  # nothing was touched
    rows = table(out / "runs.csv")
    assert len(rows) == 6 == len({row["run"] for row in rows})
    assert {row["status"] for row in rows} == {"finished"}
    assert {row["run"] for row in rows} <= set(after)
    study.main([*SMALL, "plan=true"])
    assert capsys.readouterr().out.endswith("4 runs, 4 done\nresult: 1 seeds each, 2 runs, 2 done\n")
    aside = [path.name for path in runs.glob("*.interrupted-*")]
    assert len(aside) <= 4  # two at a time, twice
    for choice in table(out / "chosen.csv"):
        tuned = [row for row in rows if row["arm"] == choice["arm"] and row["stage"] == "tune"]
        best = max(tuned, key=lambda row: (float(row["val/accuracy"]), -float(row["val/loss"])))
        assert best["factor"] == choice["factor"]


STUDIES = sorted((CONFIG_DIR / "study").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["phantom", "kaggle"])
@pytest.mark.parametrize("declared", STUDIES, ids=lambda path: path.stem)
def test_every_arm_and_condition_composes(declared: Path, scale: str, kaggle_root: Path) -> None:
    config = compose([f"study={declared.stem}", f"scale={scale}"], "study")
    if scale == "kaggle":
        config.scale.root = str(kaggle_root)
    check_study(config)
    arms, conditions = list(config.study.arms), list(config.study.conditions)
    # All pairs would take minutes; at the other scale, the last pair.
    pairs = dict.fromkeys([*((conditions[0], arm) for arm in arms), *((c, arms[0]) for c in conditions)])
    for condition, arm in pairs if scale == "phantom" else [(conditions[-1], arms[-1])]:
        check(compose(list(overrides_of(config, condition, arm))))


def test_plan_counts_and_trains_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.main([*TWO_ARMS, "~study.arms.gvco", "plan=true", "workers=3"])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "1 arms × 1 conditions, 3 runs at a time",
        "tuning: 5 learning rates × 1 seeds each, 5 runs, 0 done",
        "result: 5 seeds each, 5 runs, 0 done",
    ]
    assert not (here / "multirun").exists()


@pytest.mark.slow
def test_a_precision_that_the_cpu_imitates_is_told_with_the_key_of_a_study(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hqcnn_lab.torch_private.has_bfloat16_units", lambda: False)
    study.main([*TWO_ARMS, "~study.arms.gvco", "plan=true", 'overrides=["trainer.precision=bf16-mixed"]'])
    remedy = """'overrides=["trainer.precision=32-true"]'"""
    assert capsys.readouterr().out.rstrip().endswith(f"stop it and add {remedy}")
    study.main([*TWO_ARMS, "~study.arms.gvco", "plan=true", remedy.strip("'")])
    assert "warning" not in capsys.readouterr().out
