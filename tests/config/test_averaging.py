"""With an optimizer that averages by itself come no schedule and no averaging callback; what is asked for wins."""

from pathlib import Path

import pytest
import warm
import yaml
from conftest import TINY_PHANTOM
from omegaconf import DictConfig

from hqcnn_lab.config.check import check
from hqcnn_lab.config.command import help_of_train
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.record.digest import digest
from hqcnn_lab.sweep.declaration import make_cells

AVERAGING = ["schedule_free_adamw", "schedule_free_sgd"]
SIZE = [line for line in TINY_PHANTOM if not line.startswith("figures")]


def jobs_of(*overrides: str, multirun: bool = False) -> list[DictConfig]:
    """What a command line comes to, as it is checked and run."""
    jobs: list[DictConfig] = []
    check_command_line(list(overrides), multirun, check=lambda config: (check(config), jobs.append(config)))
    return jobs


def comes_with(config: DictConfig) -> tuple[bool, float | None]:
    """Whether there is a schedule, and the decay of the weight average."""
    average = config.callbacks.weight_average
    return config.scheduler._target_ is not None, None if average is None else average.decay


@pytest.mark.parametrize("optim", AVERAGING)
@pytest.mark.parametrize(
    ("more", "schedule", "decay"),
    [
        ([], False, None),
        (["scheduler=cosine"], True, None),
        (["callbacks.weight_average.decay=0.9"], False, 0.9),
        (["callbacks.weight_average.decay=0.9", "scheduler=cosine"], True, 0.9),
        (["callbacks.weight_average=null"], False, None),
        (["callbacks=early_stopping"], False, None),
        (["model=hqcnn_twin"], False, None),
    ],
)
def test_of_a_single_run(optim: str, more: list[str], schedule: bool, decay: float | None) -> None:
    [config] = jobs_of(f"optim={optim}", *more)
    assert comes_with(config) == (schedule, decay)
    assert config.optim._target_.startswith("schedulefree.")


@pytest.mark.parametrize("optim", ["adamw", "prodigy", "sgd", "qng"])
def test_of_other_optimizers_nothing_has_changed(optim: str) -> None:
    [config] = jobs_of(f"optim={optim}")
    assert comes_with(config) == (True, 0.995)


def test_of_an_experiment(kaggle_root: Path) -> None:
    data = f"dataset.root={kaggle_root}"
    for experiment in ("hqcnn_adam", "hqcnn_sgd", "models"):
        [config] = jobs_of(f"experiment={experiment}", "optim=schedule_free_adamw", data)
        assert comes_with(config) == (False, None)
        [config] = jobs_of(f"experiment={experiment}", "optim=schedule_free_adamw", "scheduler=cosine", data)
        assert comes_with(config) == (True, None)
    [config] = jobs_of("experiment=hqcnn_adam", data)
    assert comes_with(config) == (True, 0.995)
    [config] = jobs_of("experiment=baseline_hqcnn", "optim=schedule_free_sgd", data)
    assert comes_with(config) == (False, None)


def test_of_a_model_without_gradients_whose_optimizer_is_none() -> None:
    [config] = jobs_of("model=knn")
    assert config.optim._target_ is None
    assert config.scheduler._target_ is None


def test_of_each_job_of_a_sweep() -> None:
    choices = "optim=adam,schedule_free_adamw,schedule_free_sgd"
    assert [comes_with(job) for job in jobs_of(choices, multirun=True)] == [(True, 0.995), (False, None), (False, None)]
    assert [comes_with(job) for job in jobs_of(choices, "scheduler=cosine,none", multirun=True)] == [
        *[(True, 0.995), (True, None), (True, None)],  # one key at a time
        (False, 0.995),
    ]


@pytest.mark.slow
def test_of_the_runs_that_a_sweep_leaves(tmp_path: Path) -> None:
    line = [*SIZE, "figures=false", "logger=none", "trainer.max_epochs=1", "hydra.sweep.dir=sweep"]
    ended = warm.run(*warm.TRAIN, "-m", "optim=adam,schedule_free_sgd", *line, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    runs = {}
    for path in (tmp_path / "sweep").glob("*/config.yaml"):
        config = yaml.safe_load(path.read_text())
        runs[config["optim"]["_target_"]] = (config["scheduler"]["_target_"], config["callbacks"]["weight_average"])
    assert runs["schedulefree.SGDScheduleFree"] == (None, None)
    assert runs["torch.optim.Adam"][0] == "hqcnn_lab.optim.WarmupCosine"
    assert runs["torch.optim.Adam"][1]["decay"] == 0.995


def test_of_the_arms_of_a_study() -> None:
    declared = compose(["study=schedule"], "study")
    declared.study.conditions = {"exact": [], "cosine": ["scheduler=cosine"]}
    declared.study.arms = {
        "adam": ["optim=adam"],
        "free": ["optim=schedule_free_adamw"],
        "both": ["optim=schedule_free_sgd", "scheduler=cosine"],
    }
    cells = make_cells(declared)
    assert {(cell.condition, cell.arm): comes_with(cell.config) for cell in cells} == {
        ("exact", "adam"): (True, 0.995),
        ("exact", "free"): (False, None),
        ("exact", "both"): (True, None),
        ("cosine", "adam"): (True, 0.995),
        ("cosine", "free"): (True, None),
        ("cosine", "both"): (True, None),
    }
    # A study names its runs by what it composed, and a run by what it was given: the same.
    for cell in cells:
        assert digest(cell.config) == digest(compose(cell.overrides))


def test_the_digest_is_of_what_is_computed() -> None:
    free, line = "optim=schedule_free_adamw", ["name=a"]
    by_itself = digest(compose([free, *line]))
    assert by_itself == digest(compose([free, "scheduler=none", "callbacks.weight_average=null", *line]))
    assert by_itself != digest(compose([free, "scheduler=cosine", *line]))
    assert by_itself != digest(compose([free, "callbacks.weight_average.decay=0.9", *line]))


def test_the_help_shows_what_comes() -> None:
    text = help_of_train(["optim=schedule_free_sgd"])
    assert "prodigy, qng, radam, schedule_free_adamw, schedule_free_sgd, sgd, spsa" in text
    config = yaml.safe_load(text.partition("(key=value):\n")[2].rpartition("--cfg job")[0])
    assert config["scheduler"]["_target_"] is None
    assert config["callbacks"]["weight_average"]["decay"] is None
