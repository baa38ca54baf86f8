"""What each value of a configuration may be, where the types of conf/*.yaml cannot say it: ranges and choices."""

import re
from collections.abc import Callable
from typing import Any

from hqcnn_lab.data.split.cut import SPLITS
from hqcnn_lab.quantum.limits import ANSATZES, ENCODERS, ENGINES, READOUTS, SHOT_GRADIENTS
from hqcnn_lab.quantum.noise import METHODS, RATES


class Rule:
    """What a value may be: a predicate, and the words that follow "must be". True is no number, unless `also_bool`."""

    def __init__(self, predicate: Callable[[Any], bool], words: str, also_bool: bool = False) -> None:
        self.predicate, self.words, self.also_bool = predicate, words, also_bool

    def holds(self, value: Any) -> bool:
        try:
            return (self.also_bool or not isinstance(value, bool)) and bool(self.predicate(value))
        except TypeError:  # the wrong type for the comparison is the wrong value
            return False


def _at_least(low: float) -> Rule:
    return Rule(lambda x: x >= low, f"at least {low}")


def _whole(low: int) -> Rule:
    """Also where a key is not in conf/, which would tell the type."""
    return Rule(lambda x: isinstance(x, int) and x >= low, f"a whole number from {low} on")


def _given_by_the_lab(how: str) -> Rule:
    return Rule(lambda x: False, f"left out; {how}")


def _between(low: float, high: float) -> Rule:
    return Rule(lambda x: low <= x < high, f"at least {low} and below {high}")


def _one_of(choices: tuple[str, ...]) -> Rule:
    return Rule(lambda x: x in choices, f"one of {', '.join(choices)}")


_POSITIVE = Rule(lambda x: 0 < x < float("inf"), "a positive, finite number")
_PROBABILITY = Rule(lambda x: 0 <= x <= 1, "between 0 and 1")
_SHARE = Rule(lambda x: 0 < x < 1, "between 0 and 1, both excluded")
_BATCHES = Rule(
    lambda x: x >= 1 if isinstance(x, int) else 0 < x <= 1, "a whole number of batches, or a share up to 1.0 of them"
)
_YES_OR_NO = Rule(lambda x: isinstance(x, bool), "true or false", also_bool=True)
_COLUMN = Rule(lambda x: isinstance(x, str), "the name of a column; put a number in quotes")
_AMOUNTS = Rule(lambda x: all(0 < amount <= 180 for amount in x), "a list of numbers, each above 0")
_WIDEST = 65_536  # a layer of more would take minutes and gigabytes to make
_COUNTS = Rule(
    lambda x: len(x) > 0 and all(isinstance(i, int) and 0 < i <= _WIDEST for i in x),
    f"a list of positive whole numbers, each up to {_WIDEST:,}",
)
_COUNTS_OR_ONE = Rule(
    lambda x: _COUNTS.holds([x] if isinstance(x, int) else x),
    f"a positive whole number up to {_WIDEST:,}, or a list of them",
)

_NUMBERS = Rule(
    lambda x: not isinstance(x, str) and all(_whole(0).holds(i) for i in x) and len({*x}) == len(x),
    "a list of whole numbers from 0 on, none twice",
)

# Everything that Lightning's Trainer takes, so that what it would refuse is refused before it is built.
TRAINER: dict[str, Rule] = {
    "_target_": _one_of(("lightning.pytorch.Trainer",)),
    "accelerator": _one_of(("auto", "cpu", "gpu", "cuda", "mps")),
    "devices": Rule(
        lambda x: x >= 1 if isinstance(x, int) else len(x) > 0 and _NUMBERS.holds(x),
        "how many devices, at least 1, or a list of their numbers, none twice",
    ),
    "num_nodes": Rule(lambda x: x == 1, "1; a run is of one machine"),
    "strategy": _one_of(("auto", "ddp")),
    "precision": _one_of(("32-true", "bf16-mixed", "16-mixed")),
    "max_epochs": _at_least(1),
    "min_epochs": _whole(1),
    "max_steps": Rule(
        lambda x: isinstance(x, int) and (x >= 1 or x == -1), "a whole number from 1 on, or -1 for any number"
    ),
    "min_steps": _whole(1),
    "max_time": Rule(lambda x: re.fullmatch(r"\d+:\d\d:\d\d:\d\d", x), "days:hours:minutes:seconds, 00:12:00:00"),
    "fast_dev_run": Rule(
        lambda x: isinstance(x, bool) or _whole(0).holds(x), "true, false or a number of batches", also_bool=True
    ),
    "overfit_batches": Rule(lambda x: x == 0 or _BATCHES.holds(x), f"0, or {_BATCHES.words}"),
    "val_check_interval": _BATCHES,
    "check_val_every_n_epoch": _whole(1),
    "num_sanity_val_steps": _whole(-1),
    "reload_dataloaders_every_n_epochs": _whole(0),
    "accumulate_grad_batches": _at_least(1),
    "log_every_n_steps": _at_least(1),
    "gradient_clip_val": _POSITIVE,
    "gradient_clip_algorithm": _one_of(("norm", "value")),
    "limit_train_batches": _BATCHES,
    "limit_val_batches": _BATCHES,
    "limit_test_batches": _BATCHES,
    "limit_predict_batches": _BATCHES,
    "deterministic": Rule(lambda x: isinstance(x, bool) or x == "warn", "true, false or warn", also_bool=True),
    **dict.fromkeys(("benchmark", "enable_model_summary", "detect_anomaly", "inference_mode"), _YES_OR_NO),
    **dict.fromkeys(("sync_batchnorm", "enable_autolog_hparams"), _YES_OR_NO),
    "profiler": _one_of(("simple", "advanced", "pytorch")),
    "default_root_dir": Rule(lambda x: isinstance(x, str), "a path"),
    "logger": _given_by_the_lab("logger= chooses one"),
    "callbacks": _given_by_the_lab("callbacks.<name>._target_ adds one"),
    "plugins": _given_by_the_lab("the lab gives its own"),
    "use_distributed_sampler": _given_by_the_lab("samplers of the lab know of several processes"),
    "enable_progress_bar": _given_by_the_lab("callbacks.progress=null leaves the bar out"),
    "enable_checkpointing": _given_by_the_lab("callbacks.last_checkpoint=null leaves checkpoints out"),
    "barebones": _given_by_the_lab("it would leave no record"),
    "model_registry": _given_by_the_lab("checkpoints are in the run folder"),
}

# Ranges that the types of conf/*.yaml cannot express. A key that the composed config lacks is passed over.
RULES: dict[str, Rule] = {
    "seed": Rule(lambda x: 0 <= x < 2**32, "at least 0 and below 2³²"),
    "resume": _one_of(("auto",)),
    "monitor": _one_of(("val/accuracy", "val/macro_f1", "val/auroc")),
    "test_checkpoint": _one_of(("last", "best")),
    "label_smoothing": _between(0, 1),
    "dataset.batch_size": _at_least(1),
    "dataset.image_size": Rule(lambda x: x >= 16 and x % 8 == 0, "a multiple of 8, at least 16"),
    "dataset.n_train": _at_least(40),
    "dataset.n_test": _at_least(4),
    "dataset.split": _one_of(SPLITS),
    "dataset.fold": _at_least(0),
    "dataset.n_folds": _at_least(2),
    "dataset.clinical_id": _COLUMN,
    "dataset.clinical_class": _COLUMN,
    "dataset.workers": _at_least(1),
    "robustness.noise": _AMOUNTS,
    "robustness.blur": _AMOUNTS,
    "robustness.rotation": _AMOUNTS,
    "checkpoint": _one_of(("last", "best")),
    "write.n_patients": _at_least(1),
    "write.slices_per_series": _at_least(1),
    "write.series_per_patient": _at_least(1),
    "write.n_train": _at_least(4),
    "write.n_test": _at_least(4),
    "write.size": _at_least(16),
    "write.seed": _at_least(0),
    "dataset.split_seed": _at_least(0),
    "dataset.val_fraction": _SHARE,
    "dataset.balance": _one_of(("sampler", "loss")),
    "dataset.augment.flip": _PROBABILITY,
    "dataset.augment.degrees": _between(0, 181),
    "dataset.augment.shift": _between(0, 1),
    "dataset.augment.scale": _between(0, 1),
    "dataset.augment.intensity": _between(0, 1),
    "dataset.augment.noise": _between(0, 1),
    "dataset.augment.cutout": _PROBABILITY,
    "dataset.augment.mixup": Rule(lambda x: 0 <= x < float("inf"), "a finite number, at least 0"),
    "circuit.n_layers": Rule(lambda x: 1 <= x <= 1000, "at least 1 and at most 1,000"),
    "circuit.ansatz": _one_of(tuple(ANSATZES)),
    "circuit.encoder": _one_of(ENCODERS),
    "circuit.readout": _one_of(READOUTS),
    "circuit.engine": _one_of(ENGINES),
    "circuit.shots": _at_least(1),
    "circuit.shot_gradient": _one_of(SHOT_GRADIENTS),
    "circuit.seed": Rule(lambda x: 0 <= x < 2**32, "at least 0 and below 2³²"),
    **{f"circuit.noise.{rate}": _PROBABILITY for rate in RATES},
    "circuit.noise.method": _one_of(METHODS),
    "circuit.noise.n_trajectories": _at_least(1),
    "model.kernel": _one_of(("quantum", "classical", "frozen")),
    "model.widths": _COUNTS,
    "model.n_circuits": _at_least(1),
    "model.kernel_size": _at_least(1),
    "model.dropout": _between(0, 1),
    "model.hidden": _COUNTS_OR_ONE,
    "model.depth": Rule(lambda x: x in (18, 50), "18 or 50"),
    "model.n_clusters": _at_least(2),
    "model.n_levels": _at_least(2),
    "model.n_neighbors": _at_least(1),
    "model.side": _at_least(1),
    "model.C": _POSITIVE,
    "model.orientations": _at_least(1),
    "model.cell": _at_least(1),
    "model.classifier": _one_of(("svm", "random_forest", "knn")),
    "model.voting": _one_of(("soft", "hard")),
    "optim.lr": _POSITIVE,
    "optim.quantum_lr": _POSITIVE,
    "optim.tau": _POSITIVE,
    "optim.weight_decay": _at_least(0),
    "optim.momentum": _between(0, 1),
    "optim.betas": Rule(
        lambda x: len(x) == 2 and all(0 <= b < 1 for b in x), "two numbers, each at least 0 and below 1"
    ),
    "optim.momentum_min": _between(0, 1),
    "optim.momentum_max": _between(0, 1),
    "optim.rho": _between(0, 1),
    "optim.sigma": _between(0, 1),
    "optim.power": _at_least(0),
    "optim.gamma_min": _PROBABILITY,
    "optim.pace": _at_least(0),
    "optim.q": Rule(lambda x: 0 <= x <= 2, "between 0 and 2"),
    "optim.floor": _at_least(0),
    "optim.granularity": _one_of(("tensor", "element", "group")),
    "optim.eps": _POSITIVE,
    "optim.damping": _POSITIVE,
    "optim.c": _POSITIVE,
    "optim.gamma": _at_least(0),
    "optim.n_directions": _at_least(1),
    "optim.maximize": Rule(lambda x: x is False, "false; the loss is to fall", also_bool=True),
    "scheduler.warmup": _between(0, 1),
    "scheduler.total_steps": Rule(lambda x: False, "null; it is filled in, from trainer.max_epochs"),
    **dict.fromkeys(
        ("scheduler.epochs", "scheduler.steps_per_epoch"),
        _given_by_the_lab("+scheduler.total_steps=null is filled in, and says as much"),
    ),
    **dict.fromkeys(("scheduler.step_size", "scheduler.T_max", "scheduler.T_0", "scheduler.T_mult"), _whole(1)),
    "scheduler.milestones": _NUMBERS,
    "scheduler.gamma": _POSITIVE,
    "logger.images": _at_least(0),
    "logger.wandb.settings.init_timeout": _POSITIVE,
    "logger.wandb.settings.finish_timeout": _POSITIVE,
    "logger.tensorboard.flush_secs": _whole(1),
    "logger.tensorboard.max_queue": _whole(1),
    "logger.mlflow.tracking_uri": Rule(
        lambda x: re.match(r"((https?|file|sqlite|mysql|postgresql|mssql)(\+\w+)?|databricks):|databricks$|[^:]+$", x),
        "a folder or an address, such as sqlite:///mlflow.db",
    ),
    "callbacks.weight_average.decay": _between(0, 1),
    "callbacks.convergence.levels": Rule(lambda x: all(0 < level <= 1 for level in x), "shares between 0 and 1"),
    **{f"trainer.{name}": rule for name, rule in TRAINER.items()},
}

# Of Hydra's part, what its launchers and sweepers would refuse, or choke on, once the sweep has begun.
HYDRA: dict[str, Rule] = {
    "hydra.launcher.n_jobs": Rule(lambda x: x != 0, "how many at a time; -1 is one to each core"),
    "hydra.launcher.backend": _one_of(("loky",)),
    "hydra.launcher.prefer": _one_of(("processes", "threads")),
    "hydra.launcher.require": _given_by_the_lab("a job has a process of its own"),
    "hydra.launcher.verbose": _at_least(0),
    "hydra.launcher.timeout": _POSITIVE,
    "hydra.launcher.pre_dispatch": Rule(
        lambda x: re.fullmatch(r"all|[1-9]\d*|([1-9]\d*\s*\*\s*)?n_jobs", x), "a number of jobs, all, or 2*n_jobs"
    ),
    "hydra.launcher.batch_size": Rule(lambda x: re.fullmatch(r"auto|[1-9]\d*", x), "auto or a number of jobs"),
    "hydra.launcher.max_nbytes": Rule(lambda x: re.fullmatch(r"\d+(\.\d+)?[KMG]?", x), "a size, such as 1M"),
    "hydra.launcher.mmap_mode": _one_of(("r", "r+", "w+", "c")),
    **{
        f"hydra.launcher.{name}": _whole(1)
        for name in ("timeout_min", "cpus_per_task", "mem_gb", "array_parallelism", "tasks_per_node", "nodes")
    },
    "hydra.launcher.gpus_per_node": _whole(0),
    "hydra.launcher.max_num_timeout": _whole(0),
    "hydra.sweeper.max_batch_size": _whole(1),
    "hydra.sweeper.n_trials": _whole(1),
    "hydra.sweeper.n_jobs": _whole(1),
    "hydra.sweeper.direction": Rule(
        lambda x: getattr(x, "name", x) in ("maximize", "minimize"), "one of maximize, minimize"
    ),
    "hydra.sweeper.max_failure_rate": _PROBABILITY,
    "hydra.sweeper.storage": Rule(
        lambda x: re.match(r"(sqlite|mysql|postgresql|redis|journal)(\+\w+)?://", x), "such as sqlite:///trials.db"
    ),
    "hydra.sweeper.search_space": _given_by_the_lab("hydra.sweeper.params says what is searched"),
    "hydra.sweeper.custom_search_space": _given_by_the_lab("hydra.sweeper.params says what is searched"),
}
