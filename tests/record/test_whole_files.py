"""What a process was writing when it was killed is removed by the next start, and what another is writing is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import tiny_config
from filelock import FileLock
from run_folders import set_status, write_run
from small_study import TWO_ARMS

from hqcnn_lab import study
from hqcnn_lab.record.run_record import RunRecord
from hqcnn_lab.record.state import LOCK, clean_up
from hqcnn_lab.record.whole_file import whole_file, whole_folder
from hqcnn_lab.reporting.write import write_report
from hqcnn_lab.sweep.job_table import write_jobs


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_by(process: int | str, *paths: Path) -> list[Path]:
    """What it was writing to these paths."""
    parts = [path.with_name(f"{path.name}.{process}.part" if process else f"{path.name}.part") for path in paths]
    for part in parts:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text("half")
    return parts


def those_of_a_run(run: Path) -> list[Path]:
    return [run / "status.json", run / "checkpoints" / "last.ckpt", run / "figures" / "convergence.png"]


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, gone: int) -> None:
    path = tmp_path / "a[1].json"
    theirs = left_by(os.getppid(), path) + left_by(gone, tmp_path / "b.json") + left_by("xyz", path)
    for text in ("first", "second"):
        left_by(gone, path)
        with whole_file(path) as scratch:
            assert not path.exists() or path.read_text() == "first"
            scratch.write_text(text)
        assert path.read_text() == text
        assert sorted(tmp_path.iterdir()) == sorted([path, *theirs])
    with pytest.raises(FileNotFoundError), whole_file(path) as scratch:
        scratch.write_text((tmp_path / "nowhere").read_text())
    assert path.read_text() == "second"
    assert sorted(tmp_path.iterdir()) == sorted([path, *theirs])


def test_the_next_run_sweeps_up_after_a_killed_one(tmp_path: Path, gone: int) -> None:
    # Regression: `*.part` of a run that was killed as it wrote stayed for ever.
    killed, old, going_on = (write_run(tmp_path / name) for name in ("killed", "old", "going_on"))
    parts = left_by(gone, *those_of_a_run(killed)) + left_by("", *those_of_a_run(old))  # older code wrote no number
    evaluated = killed / "evaluation-kaggle-last.part"  # not the run's to remove: its process may be at work
    evaluated.mkdir()
    kept = left_by("", *those_of_a_run(going_on)) + left_by(gone, tmp_path / "film.mkv", tmp_path / "mine" / "film.mkv")
    with FileLock(going_on / LOCK):
        record = RunRecord(tmp_path / "new")
        record.fail(KeyboardInterrupt())
    assert not any(part.exists() for part in parts)
    assert all(part.exists() for part in [*kept, evaluated])


def test_the_empty_folder_of_a_run_killed_at_once_goes_and_no_other(tmp_path: Path) -> None:
    names = ("2026-01-31_12-00-00_old", "2026-01-31_12-00-00_new", "2026-01-31_12-00-00_full", "mine")
    old, new, full, mine = folders = [tmp_path / name for name in names]
    for folder in folders:
        folder.mkdir()
    (full / "notes.txt").touch()
    for folder in (old, full, mine):
        os.utime(folder, (0, 0))
    clean_up(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, full, mine])


def test_a_sweep_and_a_report_sweep_up_in_their_folders(tmp_path: Path, gone: int) -> None:
    sweep = tmp_path / "sweep[1]"
    run = write_run(sweep / "job")
    (run / "output.log").touch()
    parts = left_by(gone, *those_of_a_run(run), sweep / "jobs.csv", sweep / "report.html", sweep / "report.md")
    kept = left_by(os.getppid(), sweep / "jobs.csv", sweep / "report.html") + left_by("", sweep / "film.mkv")
    clean_up(sweep)
    write_jobs(sweep)
    write_report([sweep])
    assert not any(part.exists() for part in parts)
    assert all(part.exists() for part in kept)


def test_what_is_continued_is_swept_up_too(
    tmp_path: Path, gone: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hqcnn_lab.run import resume

    config = tiny_config(tmp_path / "new")
    run = write_run(tmp_path / "runs" / "stopped")
    set_status(run, status="running")
    parts = left_by(gone, *those_of_a_run(run))
    place = resume.Place(run, run / "checkpoints" / "last.ckpt", 1, 5)
    monkeypatch.setattr(resume, "_newest_place", lambda runs: place)
    assert resume.continue_run(config, tmp_path / "runs")
    assert not any(part.exists() for part in parts)


@pytest.mark.slow
def test_a_study_sweeps_up_in_its_runs(
    tmp_path: Path, gone: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = left_by(gone, *those_of_a_run(write_run(tmp_path / "multirun" / "runs" / "killed")))
    monkeypatch.setattr("hqcnn_lab.sweep.study.train_runs", lambda *_, **__: None)
    with pytest.raises(SystemExit, match="absent"):
        study.main(TWO_ARMS)
    assert not any(part.exists() for part in parts)


def test_a_folder_is_whole_or_absent(tmp_path: Path, gone: int) -> None:
    path = tmp_path / "a[1]" / "result"
    theirs = path.with_name(f"result.{os.getppid()}.part")
    for name in (theirs.name, f"result.{gone}.part", f"result.{os.getpid()}.part", "result.part", "other.part"):
        (path.parent / name / "inside").mkdir(parents=True)
    with pytest.raises(FileNotFoundError), whole_folder(path) as scratch:
        (scratch / "half.txt").write_text((path / "not there").read_text())
    assert sorted(path.parent.iterdir()) == sorted([theirs, path.with_name("other.part")])
    path.mkdir()  # an empty folder gives way
    with whole_folder(path) as scratch:
        (scratch / "whole.txt").touch()
    assert [file.name for file in path.iterdir()] == ["whole.txt"]
    with pytest.raises(OSError, match="not empty"), whole_folder(path) as scratch:
        (scratch / "another.txt").touch()
    assert [file.name for file in path.iterdir()] == ["whole.txt"]
    assert sorted(path.parent.iterdir()) == sorted([theirs, path.with_name("other.part"), path])
