"""Runs in processes of their own: the same figures as on the command line, and deaths that harm no other."""

import csv
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm
from conftest import TINY_PHANTOM

from hqcnn_lab.record.state import state_of
from hqcnn_lab.sweep.jobs import Ended, Job, _held_back, run_jobs

pytestmark = pytest.mark.slow

TINY = (*TINY_PHANTOM, "logger=none", "trainer.max_epochs=2")
ENDLESS = (*TINY, "trainer.max_epochs=100000", "optim=sgd")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def kill_once_trained(folder: Path) -> None:
    wait_for(folder / "checkpoints" / "last.ckpt")
    os.kill(json.loads((folder / "status.json").read_text())["process"], signal.SIGKILL)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Five jobs, two at a time: of them one raises, one diverges and one is killed."""
    folder = tmp_path_factory.mktemp("runs")
    overrides = {
        "raises": (*TINY, "circuit.n_wires=6"),
        "killed": ENDLESS,
        "good": (*TINY, "optim=gvco", "seed=3"),
        "diverges": (*TINY, "optim=sgd", "optim.lr=1e30"),
        "other": (*TINY, "optim=adam"),
    }
    threading.Thread(target=kill_once_trained, args=(folder / "killed",), daemon=True).start()
    jobs = [Job(folder / name, lines) for name, lines in overrides.items()]
    return {end.job.folder.name: end for end in run_jobs(jobs, workers=2)}


def test_what_dies_harms_no_other(ended: dict[str, Ended]) -> None:
    states = {name: state_of(end.job.folder) for name, end in ended.items()}
    assert states == {
        "raises": "failed",
        "killed": "interrupted",
        "good": "finished",
        "diverges": "diverged",
        "other": "finished",
    }
    codes = {name: end.exit_code for name, end in ended.items()}
    assert codes == {"raises": 1, "killed": -signal.SIGKILL, "good": 0, "diverges": 1, "other": 0}
    assert "multiple of model.kernel_size² = 4" in (ended["raises"].job.folder / "output.log").read_text()


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in csv.DictReader(file)]


def test_a_job_computes_what_the_command_line_computes(ended: dict[str, Ended], tmp_path: Path) -> None:
    job = ended["good"].job
    run = warm.run(*warm.TRAIN, *job.overrides, "hydra.run.dir=run", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert rows_of(job.folder) == rows_of(tmp_path / "run")
    assert (job.folder / "predictions.csv").read_bytes() == (tmp_path / "run" / "predictions.csv").read_bytes()
    ours, theirs = ((run / "config.yaml").read_text() for run in (job.folder, tmp_path / "run"))
    assert ours.replace(str(job.folder), str(tmp_path / "run")) == theirs
    ours, theirs = (json.loads((run / "environment.json").read_text()) for run in (job.folder, tmp_path / "run"))
    assert ours == theirs
    assert ours["torch_threads"] == 1


def test_a_result_is_left_alone_and_the_rest_is_moved_aside(ended: dict[str, Ended]) -> None:
    jobs = [ended[name].job._replace(overrides=(*TINY, "optim=adam")) for name in ("other", "diverges", "killed")]
    before = [(job.folder / "status.json").stat().st_mtime_ns for job in jobs]
    for end in run_jobs(jobs, workers=1):
        assert end.exit_code == 0
    after = [(job.folder / "status.json").stat().st_mtime_ns for job in jobs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]
    killed = jobs[2].folder
    assert state_of(killed) == "finished"
    assert json.loads((killed.with_name("killed.interrupted-1") / "status.json").read_text())["status"] == "running"


def test_of_two_that_want_a_folder_one_waits_for_the_other(tmp_path: Path) -> None:
    job = Job(tmp_path / "shared", TINY)
    codes: list[int] = []
    both = [threading.Thread(target=lambda: codes.extend(e.exit_code for e in run_jobs([job], 1))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert codes == [0, 0]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["shared"]
    assert state_of(job.folder) == "finished"


def test_closing_ends_what_is_running(tmp_path: Path) -> None:
    jobs: Iterator[Ended] = run_jobs([Job(tmp_path / "endless", ENDLESS), Job(tmp_path / "short", TINY)], workers=2)
    assert next(jobs).job.folder.name == "short"
    wait_for(tmp_path / "endless" / "checkpoints" / "last.ckpt")
    jobs.close()
    status = json.loads((tmp_path / "endless" / "status.json").read_text())
    assert (status["status"], status["error"]) == ("failed", "interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(status["process"], 0)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"status": "running"}, "interrupted"),
        ({"status": "finished"}, "finished"),
        ({"status": "failed", "error": "interrupted"}, "interrupted"),
        ({"status": "failed", "error": "TrainingDiverged: train/loss is nan"}, "diverged"),
        ({"status": "failed", "error": "OSError: no space left"}, "failed"),
        (None, "interrupted"),  # killed before it could write
    ],
)
def test_states(status: dict[str, str] | None, state: str, tmp_path: Path) -> None:
    assert state_of(tmp_path / "nowhere") == "absent"
    (tmp_path / "status.json").write_text("" if status is None else json.dumps(status))
    assert state_of(tmp_path) == state


def test_a_signal_that_another_thread_gets_is_held_back_too() -> None:
    # A Ctrl-C between the start of a run and the note of it left a run that nobody ended: a mask is of one thread.
    go, sent = threading.Event(), threading.Event()

    def get_it() -> None:
        go.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        sent.set()

    thread = threading.Thread(target=get_it)
    thread.start()  # before the mask, as the threads of numpy's libraries
    done: list[str] = []

    def hold() -> None:
        with _held_back(signal.SIGINT):
            go.set()
            sent.wait()
            time.sleep(0.1)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert done == ["all of it"]
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
