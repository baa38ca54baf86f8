"""Sweeps on the command line: a run folder and a W&B run for each job, and one failure that harms no other."""

import csv
import json
from pathlib import Path

import pytest
import warm
from conftest import TINY_PHANTOM, write_kaggle_tree
from run_results import jobs_of, status_of
from wandb_log import inspect_wandb, wandb_records
from warm import TRAIN

pytestmark = pytest.mark.slow

SMALL = [*TINY_PHANTOM, "trainer.max_epochs=2"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four jobs on the phantom, two optimizers by two seeds, with W&B offline as by default."""
    folder = tmp_path_factory.mktemp("sweep")
    of_one_run = {"WANDB_RUN_ID": "one", "WANDB_NAME": "one", "WANDB_RESUME": "must", "WANDB_SWEEP_ID": "one"}
    run = warm.run(
        *TRAIN, "-m", "optim=gvco,adam", "seed=0,1", *SMALL, "hydra.sweep.dir=sweep", cwd=folder, **of_one_run
    )
    assert run.returncode == 0, run.stderr
    return folder / "sweep"


def test_each_job_has_its_run_folder_and_its_wandb_run(sweep: Path) -> None:
    runs = sorted(path.parent for path in sweep.glob("*/status.json"))
    assert [run.name.rpartition("_")[0] for run in runs] == [
        f"phantom_hqcnn_{optim}_s{seed}" for optim in ("adam", "gvco") for seed in (0, 1)
    ]
    assert all(status_of(run)["status"] == "finished" for run in runs)
    assert json.loads((runs[0] / "environment.json").read_text())["overrides"][:2] == ["optim=adam", "seed=0"]
    logs = [log for run in runs for log in run.glob("wandb/offline-run-*/run-*.wandb")]
    # Regression: what the shell says to W&B of one run reached all, and they shared its id.
    assert len(logs) == len({log.name for log in logs}) == 4
    accuracies = [json.loads((run / "summary.json").read_text())["test/loss"] for run in runs]
    assert len(set(accuracies)) == 4  # four different trainings


def test_wandb_history_equals_metrics_csv(sweep: Path) -> None:
    run = next(sweep.glob("*_gvco_s0_*"))
    with (run / "metrics.csv").open() as file:
        recorded = [
            {key: float(value) for key, value in row.items() if value and key != "step"} | {"step": int(row["step"])}
            for row in csv.DictReader(file)
        ]
    mirrored = []
    for record in wandb_records(run):
        if record["type"] == "history":
            row = {key: value for key, value in record["history"]["item"].items() if not key.startswith("_")}
            if "test/confusion_matrix._type" not in row:  # pictures, of which metrics.csv knows nothing
                mirrored.append(row | {"step": row.pop("trainer/global_step")})
    assert len(recorded) > 10
    assert len(mirrored) == len(recorded)
    for ours, theirs in zip(recorded, mirrored, strict=True):
        assert ours == pytest.approx(theirs)


def test_wandb_mirrors_config_and_summary(sweep: Path) -> None:
    run = next(sweep.glob("*_adam_s1_*"))
    mirror = json.loads(inspect_wandb(run, "--summary"))
    summary = json.loads((run / "summary.json").read_text())
    for key in ("test/accuracy", "baseline/nearest_neighbour_accuracy", "params/quantum", "epochs"):
        assert mirror["summary"][key] == pytest.approx(summary[key])
    assert (mirror["config"]["optim"]["_target_"], mirror["config"]["seed"]) == ("torch.optim.Adam", 1)
    assert mirror["name"] == "phantom_hqcnn_adam_s1"


def test_one_failing_job_leaves_the_others_whole(tmp_path: Path) -> None:
    run = warm.run(
        *TRAIN,
        "-m",
        "optim=sgd",
        "optim.lr=1e30,0.02",
        "logger=none",
        *SMALL,
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )
    assert run.returncode != 0
    assert "TrainingDiverged: train/loss is nan" in run.stderr
    assert "Traceback" not in run.stderr
    states = {row["state"]: row for row in jobs_of(tmp_path / "sweep")}
    assert len(jobs_of(tmp_path / "sweep")) == 2
    assert states.keys() == {"finished", "diverged"}
    assert "optim.lr=1e+30" in states["diverged"]["overrides"]
    diverged = tmp_path / "sweep" / states["diverged"]["job"]
    assert "TrainingDiverged: train/loss is nan after epoch" in status_of(diverged)["error"]
    assert "Traceback" in status_of(diverged)["traceback"]
    assert not (diverged / "summary.json").exists()


def test_job_refused_for_a_combination_says_so_in_its_folder(tmp_path: Path) -> None:
    run = warm.run(
        *TRAIN,
        *("-m", "model.kernel_size=1,2", "circuit.n_wires=4,6", *TINY_PHANTOM, "trainer.max_epochs=1", "logger=none"),
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )
    # Each value is right in itself, with the first of the others; the fourth job's pair is not.
    assert run.returncode != 0
    rows = jobs_of(tmp_path / "sweep")
    assert sorted(row["state"] for row in rows) == ["failed", "finished", "finished", "finished"]
    [failed] = [row for row in rows if row["state"] == "failed"]
    assert "multiple of model.kernel_size² = 4" in failed["reason"]


def test_terminated_run_says_so(tmp_path: Path) -> None:
    # Regression: Lightning's handler ended a terminated run with exit status 0, as if it had finished.
    arguments = [*TINY_PHANTOM, "trainer.max_epochs=100000", "logger=none", "hydra.run.dir=run"]
    process = warm.Process(*TRAIN, *arguments, cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("epoch 3/"):
            break
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (status_of(tmp_path / "run")["status"], status_of(tmp_path / "run")["error"]) == ("failed", "interrupted")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_wandb_run_of_a_failed_job_is_closed_as_failed(tmp_path: Path) -> None:
    warm.run(*TRAIN, "optim=sgd", "optim.lr=1e30", *SMALL, "hydra.run.dir=run", cwd=tmp_path)
    [end] = [record for record in wandb_records(tmp_path / "run") if record["type"] == "exit"]
    assert end["exit"]["exit_code"] == 1


def test_broken_images_among_good_ones_are_listed_and_the_rest_trains(tmp_path: Path) -> None:
    write_kaggle_tree(tmp_path / "brain", 63)  # 504 good images
    broken = sorted((tmp_path / "brain").rglob("*.jpg"))[::25][:20]
    for i, path in enumerate(broken):
        path.with_name(f"broken_{path.name}").write_bytes(path.read_bytes()[: 10 * i])
    overrides = [o for o in SMALL if not o.startswith("dataset.n_")]
    run = warm.run(
        *TRAIN,
        *("dataset=kaggle", "dataset.root=brain", "paths.cache_dir=cache", "logger=none", "hydra.run.dir=run"),
        *overrides,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("skipped ") == 20
    with (tmp_path / "run" / "skipped_files.csv").open() as file:
        listed = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(listed) == {f"{p.parent.relative_to(tmp_path / 'brain')}/broken_{p.name}" for p in broken}
    assert all(listed.values())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["images/skipped"] == 20
    assert summary["images/train"] + summary["images/val"] + summary["images/test"] == 504
