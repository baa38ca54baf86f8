"""`run=` in evaluate, predict and export: a run, one of its files, or the newest; what it is not is said in a line."""

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.new_path import check_new, free_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.whole_file import holds_something
from hqcnn_lab.run.find_run import find_run, newest_run


def wanted(run: str | Path | None, runs_dir: Path, checkpoint: str | None = None) -> DictConfig:
    run = None if run is None else str(run)
    return OmegaConf.create({"run": run, "checkpoint": checkpoint, "paths": {"runs_dir": str(runs_dir)}})


def refused(run: str | Path | None, runs_dir: Path, checkpoint: str | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        find_run(wanted(run, runs_dir, checkpoint))
    assert "\n" not in str(error.value)
    return str(error.value)


def write_status(folder: Path, started: str, status: str = "finished") -> Path:
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": status, "started": started}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs, by time and not by name, and what is none: unfinished, a run's own folders, damaged."""
    top = tmp_path / "runs"
    write_status(top / "b", "2026-01-02T10:00:00+00:00")
    write_status(top / "c", "2026-01-01T10:00:00+00:00")
    write_status(top / "a" / "nested", "2026-01-02T12:00:00+01:00")  # an hour later there, but not in UTC
    write_status(top / "d", "2026-01-03T10:00:00+00:00", "failed")
    write_status(top / "e", "2026-01-03T10:00:00+00:00", "running")
    write_status(top / "b" / "evaluation" / "copy", "2026-01-04T10:00:00+00:00")
    for number, text in enumerate(("", "[]", "null", '{"status": "finished"}', '{"status": "finished", "started": 7}')):
        (top / f"damaged{number}").mkdir()
        (top / f"damaged{number}" / "status.json").write_text(text)
    (top / "damaged0" / "status.json").write_bytes(b"\xff\x00" * 100)
    return top


def test_latest_is_the_newest_finished_run(runs: Path, tmp_path: Path) -> None:
    assert newest_run(runs) == runs / "a/nested"
    assert find_run(wanted("latest", runs)) == runs / "a/nested"
    assert find_run(wanted(runs / "latest", tmp_path)) == runs / "a/nested"
    assert find_run(wanted(runs / "b", tmp_path)) == runs / "b"
    (runs / "latest").mkdir()  # a folder of that name is itself
    (runs / "latest/config.yaml").touch()
    assert find_run(wanted(runs / "latest", tmp_path)) == runs / "latest"


def test_a_folder_of_runs_is_answered_with_the_newest_in_it(runs: Path, tmp_path: Path) -> None:
    assert refused(runs, runs) == f"run={runs}: is no run folder; run=latest is the newest in it, a/nested"
    words = f"run={tmp_path}: is no run folder; run={tmp_path}/latest is the newest in it, runs/a/nested"
    assert refused(tmp_path, runs) == words
    (tmp_path / "empty").mkdir()
    assert "is no run folder, and holds none that has finished" in refused(tmp_path / "empty", runs)
    assert f"no run in {tmp_path}/empty has finished" in refused("latest", tmp_path / "empty")
    assert f"no run in {tmp_path}/absent has finished" in refused("latest", tmp_path / "absent")
    (runs / "b/checkpoints").mkdir()
    assert "it is inside of one; give the folder above it" in refused(runs / "b/checkpoints", runs)
    assert "run: not set; give a run folder or a checkpoint file, or run=latest" in refused(None, runs)


def test_checkpoint_is_not_passed_over_where_run_is_a_file(tmp_path: Path) -> None:
    # Regression: run=…/last.ckpt checkpoint=best took last.ckpt.
    (file := tmp_path / "last.ckpt").touch()
    assert "checkpoint=best: run= names the file last.ckpt itself" in refused(file, tmp_path, "best")
    for agreeing in (None, "last"):
        assert find_run(wanted(file, tmp_path, agreeing)) == file


def test_a_name_that_is_free_is_offered(tmp_path: Path) -> None:
    for name, expected in (("a.csv", "a-3.csv"), ("scores", "scores-2"), ("v1.2", "v1.2-2"), ("new", "new")):
        (tmp_path / "a-2.csv").touch()
        if name == "a.csv":
            (tmp_path / name).touch()
        elif name != "new":
            (tmp_path / name).mkdir()
        assert free_name(tmp_path / name) == tmp_path / expected
    with pytest.raises(
        ConfigError, match=r"is there already, and nothing is ever overwritten; out=\S*/a-3.csv is free"
    ):
        check_new(tmp_path / "a.csv")
    check_new(tmp_path / "scores", holds_something)  # an empty folder will do
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    assert free_name(tmp_path / "dangling.csv") == tmp_path / "dangling-2.csv"


def test_where_nothing_can_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_new(tmp_path / "some/new/folder/out.csv")
    with pytest.raises(ConfigError, match=r"nothing can be written there, .*file is a file"):
        check_new(tmp_path / "file/out.csv")
    with pytest.raises(ConfigError, match="is too long"):
        check_new(tmp_path / f"{'x' * 300}.csv")
