"""What Lightning, torch and W&B are given is looked at before anything starts, as the lab's own keys are."""

import gc
from typing import Any

import pytest
from omegaconf import OmegaConf

from hqcnn_lab.config.arguments import check_arguments
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose, hydra_in_place
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.limits import TRAINER
from hqcnn_lab.error import ConfigError


def plain(overrides: list[str]) -> dict[str, Any]:
    with hydra_in_place(compose(["logger=none", *overrides], with_hydra=True)) as config:
        return OmegaConf.to_container(config, resolve=True)


SWA = "_target_:lightning.pytorch.callbacks.StochasticWeightAveraging"
WRONG = {
    # what is typed → what the answer must say
    ("+optim.foo=1",): "optim.foo: hqcnn_lab.optim.GVCO takes no such argument; ",
    (
        "optim=adam",
        "+optim.beta=[0.9,0.99]",
    ): "optim.beta: torch.optim.Adam takes no such argument; did you mean betas?",
    ("optim=adam", "+optim.betas=[1]"): "optim: torch.optim.Adam: Invalid beta parameter",
    ("optim=adam", "optim._target_=torch.optim.Adan"): "optim._target_=torch.optim.Adan: ",
    ("optim=sgd", "optim.nesterov=5"): "optim.nesterov=5: torch.optim.SGD takes bool",
    ("~optim.lr",): "optim.lr: every optimizer needs it",
    (
        "scheduler=cosine",
        "+scheduler.foo=1",
    ): "scheduler.foo: hqcnn_lab.optim.WarmupCosine takes no such argument; it takes warmup",
    (
        "scheduler=cosine",
        "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
        "~scheduler.warmup",
    ): "scheduler.max_lr: ",
    ("+model.foo=1",): "model.foo: hqcnn_lab.models.HQCNN takes no such argument; it takes circuit, kernel",
    ("model=two_stage", "+model.network.foo=1"): "model.network.foo: hqcnn_lab.models.",
    ("model.dropout=abc",): "model.dropout=abc: hqcnn_lab.models.HQCNN takes float",
    ("+dataset.foo=1",): "dataset.foo: hqcnn_lab.data.PhantomDataModule takes no such argument; it takes n_train",
    (
        "+dataset.augment.flips=1",
    ): "dataset.augment.flips: hqcnn_lab.data.Augment takes no such argument; did you mean flip",
    ("+callbacks.x=1",): "callbacks.x=1: must be a class",
    ("+callbacks.x={monitor:val/loss}",): "callbacks.x={'monitor': 'val/loss'}: must be a class",
    (
        "+callbacks.progress.foo=1",
    ): "callbacks.progress.foo: hqcnn_lab.callbacks.Progress takes no such argument; it takes none",
    (
        "+callbacks.swa={" + SWA + "}",
    ): "callbacks.swa.swa_lrs: lightning.pytorch.callbacks.StochasticWeightAveraging needs",
    (
        "+callbacks.swa={" + SWA + ",swa_lrs:-1.0}",
    ): "callbacks.swa: lightning.pytorch.callbacks.StochasticWeightAveraging: ",
    ("callbacks=early_stopping", "callbacks.early_stopping.mode=up"): "callbacks.early_stopping: ",
    (
        "+callbacks.last_checkpoint.save_top_k=-5",
    ): "callbacks.last_checkpoint: lightning.pytorch.callbacks.ModelCheckpoint",
    (
        "logger=wandb",
        "+logger.wandb.foo=1",
    ): "logger.wandb.foo: lightning.pytorch.loggers.WandbLogger takes no such argument",
    ("logger=wandb", "logger.wandb.resume=foo"): "logger.wandb: resume=foo: Input should be 'allow', 'must'",
    ("logger=wandb", "+logger.wandb.settings.foo=1"): "logger.wandb.settings: foo=1: Extra inputs are not permitted",
    ("logger=wandb", "+logger.wandb.reinit=foo"): "logger.wandb",
    ("logger=wandb", "+logger.wandb.config=5"): "logger.wandb.config=5: lightning.pytorch.loggers.WandbLogger takes",
    ("logger=wandb", "+logger.wandb.mode=online"): "logger.wandb.mode=online: would be passed over; logger.wandb.offl",
    ("logger=wandb", "+logger.wandb.experiment=abc"): "logger.wandb.experiment=abc: ",
    ("logger=wandb", "+logger.wandb.resume_from=abc"): "logger.wandb",
    ("logger=wandb", "+logger.wandb.fork_from=abc"): "logger.wandb",
    (
        "logger=mlflow",
        "+logger.mlflow.foo=1",
    ): "logger.mlflow.foo: lightning.pytorch.loggers.MLFlowLogger takes no such",
}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_an_argument_that_a_class_does_not_take_is_refused(overrides: tuple[str, ...]) -> None:
    # Regression: answered once the data was prepared, in a run folder, some by a traceback.
    with pytest.raises(ConfigError) as error:
        check_arguments(plain([*overrides]))
    assert str(error.value).startswith(WRONG[overrides])
    assert "\n" not in str(error.value)


SCHEDULE = "scheduler._target_=torch.optim.lr_scheduler."
WRONG_AT_A_STEP = {
    ("optim=adam", "+optim.differentiable=true"): "optim: Adam cannot take a step: a leaf Variable",
    ("optim=adam", "+optim.capturable=true"): "optim: Adam cannot take a step: If capturable=True",
    ("optim=adam", "optim._target_=torch.optim.SparseAdam"): "optim: ",
    ("optim=adam", "optim._target_=torch.optim.Optimizer"): "optim._target_=torch.optim.Optimizer: is what others",
    ("optim=adam", SCHEDULE.replace("scheduler", "optim", 1) + "StepLR"): "optim.",
    (SCHEDULE + "LRScheduler",): "scheduler._target_=torch.optim.lr_scheduler.LRScheduler: is what others are built",
    (SCHEDULE + "ReduceLROnPlateau",): "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau: is no sched",
    (SCHEDULE + "ExponentialLR", "+scheduler.gamma=1e300"): "scheduler: ExponentialLR makes the learning rate 5e+298",
    (SCHEDULE + "LinearLR", "+scheduler.end_factor=0.5", "+scheduler.total_iters=a"): "scheduler",
    (SCHEDULE + "CyclicLR", "+scheduler.base_lr=-1", "+scheduler.max_lr=1"): "scheduler: CyclicLR makes the learning",
    (SCHEDULE + "PolynomialLR", "+scheduler.total_iters=2", "+scheduler.power=a"): "scheduler",
    (SCHEDULE + "LambdaLR", "+scheduler.lr_lambda=5"): "scheduler: ",
    ("+callbacks.x._target_=lightning.pytorch.LightningModule",): "callbacks.x._target_=lightning.pytorch.Lightning",
}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", WRONG_AT_A_STEP, ids=" ".join)
def test_what_cannot_take_a_step_is_refused(overrides: tuple[str, ...]) -> None:
    # Regression: these were built, and ended at the first step of the training, by torch's assertions and tracebacks.
    first = [] if overrides[0].startswith("optim=") else ["optim=sgd"]
    with pytest.raises(ConfigError) as error:
        check_arguments(plain(["scheduler=none", *first, *overrides]))
    assert str(error.value).startswith(WRONG_AT_A_STEP[overrides])
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "+scheduler.step_size=0",
        "+scheduler.step_size=-3",
        "+scheduler.gamma=-5",
        "+scheduler.T_max=0",
        "+scheduler.T_max=2.5",
        "+scheduler.milestones=[a]",
        "+scheduler.milestones=5",
        "+scheduler.epochs=2",
        "+scheduler.steps_per_epoch=1",
        "+optim.maximize=true",
    ],
)
def test_what_a_schedule_would_take_without_a_word_is_refused(override: str) -> None:
    # Regression: StepLR took gamma=-5, and every other step went up the hill.
    with pytest.raises(ConfigError, match=f"^{override.lstrip('+').partition('=')[0]}=.*: must be "):
        check_command_line(["scheduler=none", override], multirun=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheduler",
    [
        ["OneCycleLR", "+scheduler.max_lr=0.1", "+scheduler.total_steps=null"],
        ["StepLR", "+scheduler.step_size=3"],
        ["MultiStepLR", "+scheduler.milestones=[3,5]"],
        ["CosineAnnealingWarmRestarts", "+scheduler.T_0=7"],
        ["CyclicLR", "+scheduler.base_lr=0.01", "+scheduler.max_lr=0.1"],
    ],
    ids=lambda scheduler: scheduler[0],
)
def test_schedules_of_torch_pass(scheduler: list[str]) -> None:
    check_arguments(plain(["optim=sgd", "scheduler=none", SCHEDULE + scheduler[0], *scheduler[1:]]))


@pytest.mark.slow
@pytest.mark.parametrize("group", ["optim", "scheduler", "model", "dataset", "callbacks", "logger"])
def test_every_choice_takes_what_it_is_given(group: str) -> None:
    for choice in sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml")):
        lines = [f"{group}={choice}"]
        check_arguments(
            plain(["optim=adam", "scheduler=none", *lines] if group not in ("optim", "scheduler") else lines)
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["+callbacks.swa={" + SWA + ",swa_lrs:0.01}"],
        ["+callbacks.lr={_target_:lightning.pytorch.callbacks.LearningRateMonitor,logging_interval:step}"],
        ["optim=adam", "optim._target_=torch.optim.NAdam", "+optim.betas=[0.9,0.99]", "optim.lr=1"],
        ["logger=wandb", "+logger.wandb.id=abc", "+logger.wandb.settings.console=off", "+logger.wandb.config={a:1}"],
        ["dataset.augment=null", "callbacks.progress=null", "optim.quantum_lr=null"],
    ],
)
def test_arguments_that_are_right_pass(overrides: list[str]) -> None:
    check_arguments(plain(overrides))


def test_what_the_environment_says_to_wandb_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(ConfigError, match=r"^in the environment, as WANDB_…: .*a/b"):
        check_arguments(plain(["logger=wandb", "+logger.wandb.group=of_this_test"]))


WRONG_FOR_THE_TRAINER = {
    "+trainer.foo=1": "trainer.foo: Lightning's Trainer takes no such argument",
    "+trainer.fast_dev=1": "did you mean trainer.fast_dev_run?",
    "+trainer.fast_dev_run=maybe": "must be true, false or a number of batches",
    "+trainer.profiler=foo": "must be one of simple, advanced, pytorch",
    "+trainer.val_check_interval=abc": "must be a whole number of batches, or a share",
    "+trainer.check_val_every_n_epoch=0": "must be a whole number from 1 on",
    "+trainer.check_val_every_n_epoch=30": "of 20 epochs (trainer.max_epochs) none would be validated",
    "+trainer.overfit_batches=abc": "must be 0, or a whole number of batches",
    "+trainer.max_time=1h": "must be days:hours:minutes:seconds",
    "+trainer.min_epochs=-4": "must be a whole number from 1 on",
    "+trainer.max_steps=0": "must be a whole number from 1 on, or -1",
    "+trainer.max_steps=true": "must be a whole number from 1 on, or -1",
    "+trainer.num_nodes=2": "must be 1",
    "+trainer.gradient_clip_algorithm=foo": "must be one of norm, value",
    "+trainer.logger=false": "must be left out; logger= chooses one",
    "+trainer.barebones=true": "must be left out",
    "trainer.accelerator=foo": "must be one of auto, cpu, gpu",
    "trainer.gradient_clip_val=true": "must be a positive, finite number",
    "trainer._target_=lightning.pytorch.Callback": "must be one of lightning.pytorch.Trainer",
}


@pytest.mark.slow
@pytest.mark.parametrize("override", WRONG_FOR_THE_TRAINER)
def test_a_value_that_the_trainer_does_not_take_is_refused(override: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line([override], multirun=False)
    assert str(error.value).startswith(override.lstrip("+").partition("=")[0])
    assert WRONG_FOR_THE_TRAINER[override] in str(error.value)
    assert "\n" not in str(error.value)


def test_every_argument_of_the_trainer_has_a_rule() -> None:
    # One that Lightning adds is to be looked at before it is let through.
    import inspect

    from lightning.pytorch import Trainer

    assert {*inspect.signature(Trainer).parameters, "_target_"} == set(TRAINER)


def test_the_trainers_variables_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_TRAINER_OVERFIT_BATCHES", "1")
    with pytest.raises(
        ConfigError, match=r"^PL_TRAINER_OVERFIT_BATCHES is set in the environment, .*trainer.overfit_ba"
    ):
        check_command_line([], multirun=False)


def test_only_the_first_check_sets_aside_what_it_has_imported():
    # A later one would set aside what earlier runs of this process have left, and it would never be freed.
    check_arguments(plain([]))
    before = gc.get_freeze_count()
    check_arguments(plain([]))
    assert gc.get_freeze_count() <= before
    assert gc.isenabled()
