"""What each value of a configuration may be, where the types of conf/*.yaml cannot say it: ranges and choices.

The arguments of this lab's classes have their limits beside the classes, in the `limits.py` of each room; here they get
the keys of a configuration. What stands here itself is of no class of this lab: Lightning's Trainer, torch's schedules,
Hydra's launchers, and keys that only a configuration has.
"""

import re
from collections.abc import Iterator

from omegaconf import DictConfig

from hqcnn_lab.config.key import select
from hqcnn_lab.data.limits import AUGMENT, CORRUPTION, DATASET, WRITE
from hqcnn_lab.limit import (
    POSITIVE,
    PROBABILITY,
    SEED,
    Limit,
    Limits,
    between,
    count,
    one_of,
)
from hqcnn_lab.models.limits import OF_NETWORK
from hqcnn_lab.optim.limits import ANY, OF_LIBRARY, OF_OPTIMIZER, OF_SCHEDULE
from hqcnn_lab.quantum.limits import CIRCUIT
from hqcnn_lab.quantum.noise import NOISE


def _below(key: str, limits: Limits) -> dict[str, Limit]:
    return {f"{key}.{name}": limit for name, limit in limits.items()}


def _whole(low: int) -> Limit:
    """For a key that is not in conf/, where its default would tell the type."""
    return Limit(count(low).holds, f"a whole number from {low} on")


def _given_by_the_lab(how: str) -> Limit:
    return Limit(lambda x: False, f"left out; {how}")


_BATCHES = Limit(
    lambda x: x >= 1 if isinstance(x, int) else 0 < x <= 1, "a whole number of batches, or a share up to 1.0 of them"
)
_YES_OR_NO = Limit(lambda x: isinstance(x, bool), "true or false", also_bool=True)
_NUMBERS = Limit(
    lambda x: not isinstance(x, str) and all(_whole(0).holds(i) for i in x) and len({*x}) == len(x),
    "a list of whole numbers from 0 on, none twice",
)
MOST_EPOCHS = 100  # that one run is read at: a summary with thousands of keys is refused
_EPOCHS = Limit(
    lambda x: (
        not isinstance(x, str) and len(x) <= MOST_EPOCHS and list(x) == sorted({*x}) and all(map(_whole(1).holds, x))
    ),
    f"a list of epochs, whole numbers from 1 on, increasing, at most {MOST_EPOCHS}",
)

# Everything that Lightning's Trainer takes, so that what it would refuse is refused before it is built.
TRAINER: Limits = {
    "_target_": one_of(("lightning.pytorch.Trainer",)),
    "accelerator": one_of(("auto", "cpu", "gpu", "cuda", "mps")),
    "devices": Limit(
        lambda x: x >= 1 if isinstance(x, int) else len(x) > 0 and _NUMBERS.holds(x),
        "how many devices, at least 1, or a list of their numbers, none twice",
    ),
    "num_nodes": Limit(lambda x: x == 1, "1; a run is of one machine"),
    "strategy": one_of(("auto", "ddp")),
    "precision": one_of(("32-true", "bf16-mixed", "16-mixed")),
    "max_epochs": count(1),
    "min_epochs": _whole(1),
    "max_steps": Limit(
        lambda x: isinstance(x, int) and (x >= 1 or x == -1), "a whole number from 1 on, or -1 for any number"
    ),
    "min_steps": _whole(1),
    "max_time": Limit(lambda x: re.fullmatch(r"\d+:\d\d:\d\d:\d\d", x), "days:hours:minutes:seconds, 00:12:00:00"),
    "fast_dev_run": Limit(
        lambda x: isinstance(x, bool) or _whole(0).holds(x), "true, false or a number of batches", also_bool=True
    ),
    "overfit_batches": Limit(lambda x: x == 0 or _BATCHES.holds(x), f"0, or {_BATCHES.words}"),
    "val_check_interval": _BATCHES,
    "check_val_every_n_epoch": _whole(1),
    "num_sanity_val_steps": _whole(-1),
    "reload_dataloaders_every_n_epochs": _whole(0),
    "accumulate_grad_batches": count(1),
    "log_every_n_steps": count(1),
    "gradient_clip_val": POSITIVE,
    "gradient_clip_algorithm": one_of(("norm", "value")),
    "limit_train_batches": _BATCHES,
    "limit_val_batches": _BATCHES,
    "limit_test_batches": _BATCHES,
    "limit_predict_batches": _BATCHES,
    "deterministic": Limit(lambda x: isinstance(x, bool) or x == "warn", "true, false or warn", also_bool=True),
    **dict.fromkeys(("benchmark", "enable_model_summary", "detect_anomaly", "inference_mode"), _YES_OR_NO),
    **dict.fromkeys(("sync_batchnorm", "enable_autolog_hparams"), _YES_OR_NO),
    "profiler": one_of(("simple", "advanced", "pytorch")),
    "default_root_dir": Limit(lambda x: isinstance(x, str), "a path"),
    "logger": _given_by_the_lab("logger= chooses one"),
    "callbacks": _given_by_the_lab("callbacks.<name>._target_ adds one"),
    "plugins": _given_by_the_lab("the lab gives its own"),
    "use_distributed_sampler": _given_by_the_lab("samplers of the lab know of several processes"),
    "enable_progress_bar": _given_by_the_lab("callbacks.progress=null leaves the bar out"),
    "enable_checkpointing": _given_by_the_lab("callbacks.last_checkpoint=null leaves checkpoints out"),
    "barebones": _given_by_the_lab("it would leave no record"),
    "model_registry": _given_by_the_lab("checkpoints are in the run folder"),
}

# Whatever the optimizer: a configuration has no word on the sign of the loss.
_OPTIM: Limits = {"maximize": Limit(lambda x: x is False, "false; the loss is to fall", also_bool=True)}
# Of torch's schedules.
_TORCH_SCHEDULE: Limits = {
    **dict.fromkeys(("step_size", "T_max", "T_0", "T_mult"), _whole(1)),
    "milestones": _NUMBERS,
    "gamma": POSITIVE,
}
_SCHEDULER: Limits = {
    "total_steps": Limit(lambda x: False, "null; it is filled in, from trainer.max_epochs"),
    **dict.fromkeys(
        ("epochs", "steps_per_epoch"),
        _given_by_the_lab("+scheduler.total_steps=null is filled in, and says as much"),
    ),
}

# By key, whatever the configuration names; one that it lacks is passed over.
_FIXED: Limits = {
    "seed": SEED,
    "resume": one_of(("auto",)),
    "monitor": one_of(("val/accuracy", "val/macro_f1", "val/auroc")),
    "test_checkpoint": one_of(("last", "best")),
    "test_after": _EPOCHS,
    "label_smoothing": between(0, 1),
    "checkpoint": one_of(("last", "best")),
    **_below("dataset", DATASET),
    **_below("dataset.augment", AUGMENT),
    **dict.fromkeys(("robustness.noise", "robustness.blur", "robustness.rotation"), CORRUPTION),
    **_below("write", WRITE),
    **_below("circuit", CIRCUIT),
    **_below("circuit.noise", NOISE),
    "logger.images": count(0),
    "logger.wandb.settings.init_timeout": POSITIVE,
    "logger.wandb.settings.finish_timeout": POSITIVE,
    "logger.tensorboard.flush_secs": _whole(1),
    "logger.tensorboard.max_queue": _whole(1),
    "logger.mlflow.tracking_uri": Limit(
        lambda x: re.match(r"((https?|file|sqlite|mysql|postgresql|mssql)(\+\w+)?|databricks):|databricks$|[^:]+$", x),
        "a folder or an address, such as sqlite:///mlflow.db",
    ),
    "callbacks.weight_average.decay": between(0, 1),
    "callbacks.convergence.levels": Limit(lambda x: all(0 < level <= 1 for level in x), "shares between 0 and 1"),
    **_below("trainer", TRAINER),
}

# Of Hydra's part, what its launchers and sweepers would refuse, or choke on, once the sweep has begun.
HYDRA: Limits = {
    "hydra.launcher.n_jobs": Limit(lambda x: x != 0, "how many at a time; -1 is one to each core"),
    "hydra.launcher.backend": one_of(("loky",)),
    "hydra.launcher.prefer": one_of(("processes", "threads")),
    "hydra.launcher.require": _given_by_the_lab("a job has a process of its own"),
    "hydra.launcher.verbose": count(0),
    "hydra.launcher.timeout": POSITIVE,
    "hydra.launcher.pre_dispatch": Limit(
        lambda x: re.fullmatch(r"all|[1-9]\d*|([1-9]\d*\s*\*\s*)?n_jobs", x), "a number of jobs, all, or 2*n_jobs"
    ),
    "hydra.launcher.batch_size": Limit(lambda x: re.fullmatch(r"auto|[1-9]\d*", x), "auto or a number of jobs"),
    "hydra.launcher.max_nbytes": Limit(lambda x: re.fullmatch(r"\d+(\.\d+)?[KMG]?", x), "a size, such as 1M"),
    "hydra.launcher.mmap_mode": one_of(("r", "r+", "w+", "c")),
    **{
        f"hydra.launcher.{name}": _whole(1)
        for name in ("timeout_min", "cpus_per_task", "mem_gb", "array_parallelism", "tasks_per_node", "nodes")
    },
    "hydra.launcher.gpus_per_node": _whole(0),
    "hydra.launcher.max_num_timeout": _whole(0),
    "hydra.sweeper.max_batch_size": _whole(1),
    "hydra.sweeper.n_trials": _whole(1),
    "hydra.sweeper.n_jobs": _whole(1),
    "hydra.sweeper.direction": Limit(
        lambda x: getattr(x, "name", x) in ("maximize", "minimize"), "one of maximize, minimize"
    ),
    "hydra.sweeper.max_failure_rate": PROBABILITY,
    "hydra.sweeper.storage": Limit(
        lambda x: re.match(r"(sqlite|mysql|postgresql|redis|journal)(\+\w+)?://", x), "such as sqlite:///trials.db"
    ),
    "hydra.sweeper.search_space": _given_by_the_lab("hydra.sweeper.params says what is searched"),
    "hydra.sweeper.custom_search_space": _given_by_the_lab("hydra.sweeper.params says what is searched"),
}


def limits_of(config: DictConfig) -> Iterator[tuple[str, Limit]]:
    """The key and the limit of each value that a composed configuration may have, by the classes that it names."""
    yield from _FIXED.items()
    for part in ("model", "model.network"):
        yield from _below(part, _of_class(config, part, OF_NETWORK) or {}).items()
    of_optimizer, of_schedule = _of_class(config, "optim", OF_OPTIMIZER), _of_class(config, "scheduler", OF_SCHEDULE)
    of_library = OF_LIBRARY.get(str(select(config, "optim._target_")).rpartition(".")[0], {})
    yield from _below("optim", {**ANY, **(of_optimizer or of_library), **_OPTIM}).items()
    yield from _below("scheduler", {**(of_schedule or _TORCH_SCHEDULE), **_SCHEDULER}).items()


def _of_class(config: DictConfig, part: str, limits: dict[str, Limits]) -> Limits | None:
    """The limits of the class that a part names; None where it is none of this lab's."""
    module, _, name = str(select(config, f"{part}._target_")).rpartition(".")
    return limits.get(name) if module.startswith("hqcnn_lab.") else None
