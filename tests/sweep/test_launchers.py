"""What runs a sweep's jobs, each with two real ones, and what searches."""

import importlib.util
import json
from pathlib import Path

import pytest
import warm
from conftest import TINY_PHANTOM
from run_results import jobs_of
from warm import TRAIN

pytestmark = pytest.mark.slow

TRIALS = """
import json, optuna
study = optuna.load_study(study_name="gvco", storage="sqlite:///sweep/optuna.db")
print(json.dumps([[trial.params["optim.lr"], trial.value] for trial in study.trials]))
"""
SMALL = [*TINY_PHANTOM, "trainer.max_epochs=1", "logger=none"]
# Its plugin, the optimizers that are its jobs, and what spares it work.
LAUNCHERS = {
    "basic": (None, "adam,sgd", []),
    # Workers of joblib and Ray import everything: one job, that no second has to. Two at a time: `test_multirun`.
    "cores": ("joblib", "adam", []),
    "slurm_local": ("submitit", "adam,sgd", []),
    "ray_local": ("ray", "adam", ["+hydra.launcher.ray.init.num_cpus=1"]),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_runs_its_jobs(launcher: str, tmp_path: Path) -> None:
    plugin, optimizers, sparing = LAUNCHERS[launcher]
    if plugin and importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        pytest.skip(f"the extra of hydra/launcher={launcher} is not installed")
    sweep = ["-m", f"optim={optimizers}", *SMALL, "hydra.sweep.dir=sweep", f"hydra/launcher={launcher}", *sparing]
    run = warm.run(*TRAIN, *sweep, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = [(row["overrides"].split()[0], row["state"]) for row in jobs_of(tmp_path / "sweep")]
    assert sorted(rows) == [(f"optim={optimizer}", "finished") for optimizer in optimizers.split(",")]


@pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason="hqcnn-lab[optuna] is not installed"
)
def test_a_search_keeps_its_trials_and_goes_on(tmp_path: Path) -> None:
    sweep = ["-m", "search=optuna_gvco", *SMALL, "hydra.sweep.dir=sweep"]
    for n_new, n in ((2, 2), (1, 3)):
        run = warm.run(*TRAIN, *sweep, f"hydra.sweeper.n_trials={n_new}", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert "alembic" not in run.stdout + run.stderr  # regression: seven lines of plugins that it set up
        rows = jobs_of(tmp_path / "sweep")
        assert len(rows) == n
    trials = json.loads(warm.run("-c", TRIALS, cwd=tmp_path).stdout)
    assert len({lr for lr, _ in trials}) == len(trials) == 3
    assert sorted(value for _, value in trials) == pytest.approx(sorted(float(row["val/accuracy"]) for row in rows))
