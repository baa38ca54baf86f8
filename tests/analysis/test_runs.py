import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import tiny_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_folders import set_status, write_run

from hqcnn_lab.analysis import load_runs
from hqcnn_lab.run.training import train

FILES = ("status.json", "config.yaml", "summary.json", "environment.json", "metrics.csv")


def test_every_column_of_a_whole_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", "AdamW", seed=3)
    [row] = load_runs(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert {key: row[key] for key in summary} == summary
    expected = {
        "folder": str(folder),
        "state": "finished",
        "error": None,
        "name": "tiny_adamw_s3",
        "dataset": "kaggle",
        "model": "hqcnn",
        "optim": "adamw",
        "seed": 3,
        "commit": "a" * 40,
        "changed": False,
        "started": "2026-01-01T10:00:03+00:00",
        "ended": "2026-01-01T11:00:00+00:00",
        "torn": [],
        "config/optim.lr": 0.01,
        "config/dataset.split": "official",
        "versions/torch": "2.13.0+cpu",
        "device": "cpu",
    }
    assert {key: row[key] for key in expected} == expected
    assert row["overrides"][0] == "optim=adamw"
    assert not any(key.startswith("last/") for key in row)


def test_any_number_of_folders_nested_in_order_and_none_twice(tmp_path: Path) -> None:
    for n in (10, 2, 1):
        write_run(tmp_path / "sweep" / "day" / f"{n}_x", seed=n)
    write_run(tmp_path / "alone", seed=7)
    rows = load_runs([tmp_path / "sweep", tmp_path / "alone", tmp_path])
    assert [row["seed"] for row in rows] == [1, 2, 10, 7]


def test_older_attempts_only_where_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    aside = write_run(tmp_path / "a.failed-1")
    write_run(tmp_path / "a.interrupted-12")
    assert [row["folder"] for row in load_runs(tmp_path)] == [str(tmp_path / "a")]
    assert len(load_runs(tmp_path, asides=True)) == 3
    assert [row["folder"] for row in load_runs(aside)] == [str(aside)]


def test_absent_and_empty(tmp_path: Path) -> None:
    assert load_runs(tmp_path) == []
    with pytest.raises(FileNotFoundError, match=r"nowhere: there is no such folder"):
        load_runs(tmp_path / "nowhere")


def test_states(tmp_path: Path) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    cases = {
        "running": {"status": "running", "process": os.getpid(), "started": now},
        # The same number, and a process that began long after the run: another one.
        "interrupted": {"status": "running", "process": os.getpid(), "started": "2001-01-01T00:00:00+00:00"},
        "failed": {"status": "failed", "error": "OSError: no\n\nmore of it"},
        "diverged": {"status": "failed", "error": "TrainingDiverged: train/loss is nan"},
    }
    if not Path("/proc/self/stat").exists():
        cases["interrupted"]["process"] = 2**22 + 1
    for state, status in cases.items():
        set_status(write_run(tmp_path / state), **status)
    set_status(write_run(tmp_path / "stopped"), status="failed", error="interrupted")
    rows = {Path(row["folder"]).name: row for row in load_runs(tmp_path)}
    assert {name: row["state"] for name, row in rows.items()} == {name: name for name in cases} | {
        "stopped": "interrupted"
    }
    assert rows["failed"]["error"] == "OSError: no"
    assert rows["running"]["last/epochs"] == 3
    assert rows["running"]["last/val/accuracy"] == pytest.approx(0.7)


def test_a_job_killed_in_its_first_moment_has_a_row(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "output.log").touch()
    [row] = load_runs(tmp_path)
    assert (row["state"], row["name"], row["seed"]) == ("interrupted", "job", None)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_costs_its_own_columns_only(tmp_path: Path, name: str) -> None:
    (write_run(tmp_path / "a") / name).unlink()
    [row] = load_runs(tmp_path)
    assert row["torn"] == []
    assert ("config/optim.lr" in row) == (name != "config.yaml")
    assert ("test/accuracy" in row) == (name != "summary.json")
    assert (row["commit"] is None) == (name == "environment.json")
    assert row["state"] == ("interrupted" if name == "status.json" else "finished")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), content=st.one_of(st.floats(0, 1), st.binary(max_size=40)))
def test_whatever_a_file_holds_the_others_are_read(tmp_path: Path, name: str, content: float | bytes) -> None:
    folder = tmp_path / "run"
    if not folder.exists():
        write_run(folder)
    whole = (folder / name).read_bytes()
    cut = whole[: int(len(whole) * content)] if isinstance(content, float) else content
    summary = (folder / "summary.json").read_bytes()
    try:
        (folder / name).write_bytes(cut)
        if name == "metrics.csv":
            (folder / "summary.json").unlink()  # or it would not be looked at
        [row] = load_runs(folder)
    finally:
        (folder / name).write_bytes(whole)
        (folder / "summary.json").write_bytes(summary)
    assert name == "summary.json" or name == "metrics.csv" or row["test/accuracy"] == 0.8
    assert name == "config.yaml" or row["config/optim.lr"] == 0.01
    assert name == "environment.json" or row["commit"] == "a" * 40
    assert set(row["torn"]) <= {name}


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"status": 3}', '{"status": "failed"}', '{"status": "failed", "error": null}']
)
def test_a_status_of_another_kind_is_no_crash(tmp_path: Path, text: str) -> None:
    (write_run(tmp_path / "a") / "status.json").write_text(text)
    assert load_runs(tmp_path)[0]["state"] in ("interrupted", "failed")


def test_a_study_stands_for_its_runs(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / "runs" / f"r{seed}", seed=seed)
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.yaml").touch()
    lines = ["condition,arm,stage,run", "exact,gvco,tune,r0", "exact,gvco,final,r2", "exact,adam,final,gone"]
    (study / "runs.csv").write_text("\n".join(lines))
    rows = load_runs(study)
    assert [(row["seed"], row["condition"], row["arm"], row["stage"]) for row in rows] == [
        (0, "exact", "gvco", "tune"),
        (2, "exact", "gvco", "final"),
    ]
    assert len(load_runs(tmp_path)) == 3


@pytest.mark.slow
def test_a_real_run_and_what_wandb_left_of_it_read_the_same(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", "logger=wandb", "seed=2"))
    [whole] = load_runs(tmp_path)
    assert (whole["state"], whole["dataset"], whole["model"], whole["torn"]) == ("finished", "phantom", "hqcnn", [])
    [offline] = load_runs(tmp_path / "run" / "wandb")
    for key in ("state", "name", "dataset", "model", "optim", "seed", "commit", "epochs", "config/optim.lr"):
        assert offline[key] == whole[key], key
    for key in ("test/accuracy", "val/accuracy", "train/loss", "params/quantum"):
        assert offline[key] == pytest.approx(whole[key]), key
    path = next((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    path.write_bytes(b"")
    [torn] = load_runs(path.parent)
    assert (torn["state"], torn["torn"]) == ("interrupted", [path.name])
