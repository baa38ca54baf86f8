"""What runs a sweep's jobs, each with two real ones, and what searches."""

import importlib.util
from pathlib import Path

import pytest
import warm
from conftest import TINY_PHANTOM
from run_results import jobs_of
from warm import TRAIN

pytestmark = pytest.mark.slow

SMALL = [*TINY_PHANTOM, "trainer.max_epochs=1", "logger=none"]
LAUNCHERS = {"basic": None, "cores": "joblib", "slurm_local": "submitit", "ray_local": "ray"}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_runs_two_jobs(launcher: str, tmp_path: Path) -> None:
    plugin = LAUNCHERS[launcher]
    if plugin and importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        pytest.skip(f"the extra of hydra/launcher={launcher} is not installed")
    sweep = ["-m", "optim=adam,sgd", *SMALL, "hydra.sweep.dir=sweep", f"hydra/launcher={launcher}"]
    # What is warm puts forks in the place of joblib's workers: here they are its own.
    run = (warm.run_anew if launcher == "cores" else warm.run)(*TRAIN, *sweep, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = jobs_of(tmp_path / "sweep")
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert {row["overrides"].split()[0] for row in rows} == {"optim=adam", "optim=sgd"}


@pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason="hqcnn-lab[optuna] is not installed"
)
def test_a_search_keeps_its_trials_and_goes_on(tmp_path: Path) -> None:
    import optuna

    sweep = ["-m", "search=optuna_gvco", *SMALL, "hydra.sweep.dir=sweep"]
    for n_new, n in ((2, 2), (1, 3)):
        run = warm.run(*TRAIN, *sweep, f"hydra.sweeper.n_trials={n_new}", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert "alembic" not in run.stdout + run.stderr  # regression: seven lines of plugins that it set up
        study = optuna.load_study(study_name="gvco", storage=f"sqlite:///{tmp_path}/sweep/optuna.db")
        assert len(study.trials) == n
        assert len(jobs_of(tmp_path / "sweep")) == n
    assert len({trial.params["optim.lr"] for trial in study.trials}) == 3
    scores = sorted(trial.value for trial in study.trials)
    assert scores == pytest.approx(sorted(float(row["val/accuracy"]) for row in jobs_of(tmp_path / "sweep")))
