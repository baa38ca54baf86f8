"""Sweeps that survive: what dies harms no other job, and the same command does what is missing and nothing twice."""

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import warm
from conftest import TINY_PHANTOM
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from one_line import refusal_of
from run_folders import write_run
from run_results import jobs_of
from warm import TRAIN

from hqcnn_lab.config.compose import compose_sweep
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.environment import code_version
from hqcnn_lab.sweep.multirun import run_job

pytestmark = pytest.mark.slow

SMALL = [*TINY_PHANTOM, "trainer.max_epochs=1", "logger=none"]
# HQCNN_SWEEP_JOBS=24 for the real thing; a job takes seconds to start.
N_JOBS = int(os.environ.get("HQCNN_SWEEP_JOBS", "4"))
TWO_AT_A_TIME = ["hydra/launcher=cores", "hydra.launcher.n_jobs=2"]
needs_joblib = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None, reason="hqcnn-lab[joblib] is not installed"
)

needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason="hqcnn-lab[optuna] is not installed"
)


def sweep_of(folders: list[Path]) -> list[str]:
    """Jobs that differ in where they keep their last checkpoint, so that a test decides which has no room."""
    return [
        *("-m", f"callbacks.last_checkpoint.dirpath={','.join(map(str, folders))}", *SMALL),
        *("hydra.sweep.dir=sweep", *TWO_AT_A_TIME),
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KiB, smaller than a checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("a small file system can only be mounted by root")  # as CI does
    yield folder
    subprocess.run(["umount", folder], check=True)


def kill_the_job_of(sweep: Path, wanted: str, starter: warm.Process) -> None:
    """Kill -9 the process of the first job that begins to train with `wanted` in its configuration."""
    while starter.poll() is None:
        for config in sweep.glob("*/config.yaml"):
            status = config.with_name("status.json")
            if wanted in config.read_text() and '"running"' in status.read_text():
                os.kill(json.loads(status.read_text())["process"], signal.SIGKILL)
                return
        time.sleep(0.01)
    raise AssertionError("the job that was to be killed had ended")


@needs_joblib
def test_three_jobs_die_and_only_they_run_again(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = [tmp_path / f"kept{i:02}" for i in range(N_JOBS - 2)]
    arguments = sweep_of([*kept, small_disk, tmp_path / "file"])
    starter = warm.Process(*TRAIN, *arguments, cwd=tmp_path)
    kill_the_job_of(tmp_path / "sweep", f"dirpath: {kept[1]}\n", starter)
    said, _ = starter.communicate()
    assert starter.returncode == 1
    rows = jobs_of(tmp_path / "sweep")
    lost = {row["job"]: row["reason"] for row in rows if row["state"] != "finished"}
    assert (len(rows), len(lost)) == (N_JOBS, 3), said
    assert sorted(lost.values())[-1] == "killed by SIGKILL"
    assert any("file" in reason for reason in lost.values())
    assert any(f"{small_disk}/last.ckpt: not written, 0.0 MB are free there" in reason for reason in lost.values())

    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    (tmp_path / "file").unlink()
    again = warm.run(*TRAIN, *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    new = {row["job"]: row for row in jobs_of(tmp_path / "sweep")}
    assert all(row["state"] == "finished" for row in new.values())
    assert len(new) == N_JOBS
    assert all(new[row["job"]] == row for row in rows if row["job"] not in lost)  # their times too
    assert again.stdout.count(": starts") == 3


@needs_joblib
def test_a_sweep_killed_three_times_loses_and_repeats_nothing(tmp_path: Path) -> None:
    arguments = sweep_of([tmp_path / f"kept{i:02}" for i in range(N_JOBS)])
    seen: dict[str, str] = {}
    chance = random.Random()

    def collect() -> None:
        for path in (tmp_path / "sweep").glob("*/status.json"):
            text = path.read_text()
            if path.with_name("summary.json").exists() and '"finished"' in text:
                assert seen.setdefault(path.parent.name, text) == text

    for sign in ("status.json", "summary.json", "summary.json"):  # once before there is any result
        process = warm.Process(*TRAIN, *arguments, cwd=tmp_path, new_session=True)
        while len(list((tmp_path / "sweep").glob(f"*/{sign}"))) <= len(seen) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        with suppress(ProcessLookupError):  # done before its time
            os.killpg(process.pid, signal.SIGKILL)  # this process, its workers and its jobs
        process.wait()
        collect()
    end = warm.run(*TRAIN, *arguments, cwd=tmp_path)
    assert end.returncode == 0, end.stderr
    assert end.stdout.count(": starts") == N_JOBS - len(seen)
    collect()
    assert len(seen) == N_JOBS
    assert {row["state"] for row in jobs_of(tmp_path / "sweep")} == {"finished"}
    assert not list((tmp_path / "sweep").glob("*.finished-*"))


def test_job_of_a_killed_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    # In a sweep what stopped is moved aside first: resume=auto has to find it there.
    sweep = ["-m", "seed=0", *TINY_PHANTOM, "trainer.max_epochs=12", "logger=none", "resume=auto"]
    sweep += ["figures=false", "hydra.sweep.dir=sweep"]
    process = warm.Process(*TRAIN, *sweep, cwd=tmp_path, new_session=True)
    while not list((tmp_path / "sweep").glob("*/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    [stopped] = (path.parent for path in (tmp_path / "sweep").glob("*/status.json"))
    again = warm.run(*TRAIN, *sweep, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    said = (stopped / "output.log").read_text()
    assert f"resume=auto: continuing {stopped.with_name(f'{stopped.name}.interrupted-1')} from epoch" in said
    assert json.loads((stopped / "summary.json").read_text())["epochs"] == 12
    assert {row["state"] for row in jobs_of(tmp_path / "sweep")} == {"finished"}


TWO_JOBS = ["-m", "optim=adam,sgd", *SMALL, "hydra.sweep.dir=sweep"]


@pytest.fixture(scope="module")
def done_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a sweep of two jobs has ended; a test takes a copy."""
    folder = tmp_path_factory.mktemp("two")
    run = warm.run(*TRAIN, *TWO_JOBS, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "sweep: 2 jobs, 1 at a time, into sweep" in run.stdout
    return folder


def test_a_result_of_other_code_is_neither_taken_nor_overwritten(done_before: Path, tmp_path: Path) -> None:
    shutil.copytree(done_before, tmp_path, dirs_exist_ok=True)
    [adam] = (tmp_path / "sweep").glob("*adam*")
    environment = json.loads((adam / "environment.json").read_text())
    (adam / "environment.json").write_text(json.dumps(environment | {"code": "0123456789ab"}))
    before = {path: path.read_bytes() for path in adam.rglob("*") if path.is_file()}
    run = warm.run(*TRAIN, *TWO_JOBS, cwd=tmp_path)
    assert run.returncode == 1
    assert "holds a result of other code (0123456789ab, now" in run.stderr
    assert {path: path.read_bytes() for path in adam.rglob("*") if path.is_file()} == before
    assert {row["state"] for row in jobs_of(tmp_path / "sweep")} == {"refused", "finished"}


def test_a_sweep_says_what_it_will_do_and_grows(done_before: Path, tmp_path: Path) -> None:
    shutil.copytree(done_before, tmp_path, dirs_exist_ok=True)
    more = warm.run(*TRAIN, "-m", "optim=adam,sgd,radam", *SMALL, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert "sweep: 3 jobs, 1 at a time, into sweep; it holds 2 results, kept as they are; about" in more.stdout
    assert more.stdout.count("(was there)") == 2
    assert len(jobs_of(tmp_path / "sweep")) == 3


@pytest.mark.parametrize(
    ("search", "shown"), [([], True), pytest.param(["search=optuna_gvco"], False, marks=needs_optuna)]
)
def test_a_search_shows_validation_alone(
    search: list[str], shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Regression: every trial printed its test accuracy, to choose by which the docs forbid.
    config = compose_sweep([*TINY_PHANTOM, *search, "name=a", f"hydra.sweep.dir={tmp_path}"])
    config.hydra.job.num = 0
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config.copy())
    with open_dict(config):
        del config["hydra"]
    run = write_run(tmp_path / f"a_{digest(config)}", accuracy=0.75)
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"code": code_version()}))
    summary = json.loads((run / "summary.json").read_text())
    assert run_job(config) == summary["val/accuracy"]
    test = ", test/accuracy 75.0 %" if shown else ""
    said = capsys.readouterr().out
    assert said == f"[0] {run.name}: val/accuracy {100 * summary['val/accuracy']:.1f} %{test} (was there)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+hydra.callbacks.x._target_=os.system"], "hydra.callbacks.x._target_=os.system: refused"),
        (["-m", "+hydra.launcher.x={_target_: os.system}"], "hydra.launcher.x._target_=os.system: refused"),
        (["+hydra.job_logging.handlers.x.class=os.system"], "hydra.job_logging.handlers.x.class=os.system: refused"),
        (["search=optuna_gvco"], "search=optuna_gvco: a search is a sweep, and needs -m"),
    ],
)
def test_hydra_is_given_nothing_else_to_call(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert refusal_of(warm.run(*TRAIN, *arguments, *SMALL, cwd=tmp_path)).startswith(message)
    assert not list(tmp_path.iterdir())
