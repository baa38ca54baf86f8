"""What a configuration may say: values in range, parts that go together, files that are there."""

import difflib
import importlib.util
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.build import untrusted_targets
from hqcnn_lab.config.checkpoint import check_checkpoint
from hqcnn_lab.config.circuit_fit import check_circuit_fit
from hqcnn_lab.config.combination import check_combination
from hqcnn_lab.config.key import select
from hqcnn_lab.config.limits import TRAINER, limits_of
from hqcnn_lab.config.path import PATHS, check_path
from hqcnn_lab.config.run_name import check_name
from hqcnn_lab.config.wandb_label import check_wandb_labels
from hqcnn_lab.distributed import cores, is_follower, memory_bytes
from hqcnn_lab.error import ConfigError, first_line, shown
from hqcnn_lab.models import FITTED_LAST, GRADIENT_FREE

_PER_CORE = 8  # processes; where they wait for a disk or a GPU, more than one is of use
_BYTES_A_PIXEL = 10  # float32 as drawn and as put together, float16 as kept


def check(config: DictConfig, in_sweep: bool = False) -> None:
    """Raise `ConfigError` for the first value of a composed config that cannot work: ranges, wires, files."""
    for variable in os.environ:
        if variable.startswith("PL_TRAINER_") and os.environ[variable]:
            key = f"trainer.{variable.removeprefix('PL_TRAINER_').lower()}"
            raise ConfigError(f"{variable} is set in the environment, where no record would tell of it; give {key}=…")
    check_values(config)
    name, refers = select(config, "name"), OmegaConf.is_interpolation(config, "name")
    if name is not None or not refers:  # to Hydra's choices, without Hydra to nothing
        check_name("name", name)
    for key, spec in config.callbacks.items():
        if spec is not None and not isinstance(spec, DictConfig):
            raise ConfigError(
                f"callbacks.{key}={shown(str(spec))}: must be a class, callbacks.{key}._target_=…, or null"
            )
    _check_processes(config, in_sweep)
    _check_stages(config)
    _check_learning(config)
    if config.model.get("circuit") is not None:
        check_circuit_fit(config)
    check_combination(config)
    _check_device(config.trainer.accelerator)
    _check_loggers(config, in_sweep)
    check_dataset(config.dataset)
    if config.ckpt_path is not None:
        check_checkpoint(config.ckpt_path, config)


def _check_processes(config: DictConfig, in_sweep: bool) -> None:
    devices = config.trainer.devices
    if devices is None:
        raise ConfigError("trainer.devices=null: must be how many devices, at least 1, or a list of their numbers")
    n = devices if isinstance(devices, int) else len(devices)
    if n == 1 and is_follower():
        raise ConfigError(
            f"LOCAL_RANK={os.environ['LOCAL_RANK']} is set in the environment, which says that this is one process of "
            f"several, and trainer.devices={devices}; unset it"
        )
    if n > 1 and in_sweep:
        raise ConfigError(
            f"trainer.devices={devices}: several are for a single run; the runs of a sweep take one each, "
            "and a launcher may train several at a time"
        )
    if devices not in (n, [0]) and is_on_cpu(config.trainer.accelerator):
        raise ConfigError(
            f"trainer.devices={devices}: a list is of the numbers of GPUs, and this runs on the CPU; give how many"
        )
    if n == 1:
        return
    if n > cores() and is_on_cpu(config.trainer.accelerator):
        raise ConfigError(
            f"trainer.devices={devices}: each is a process, and this machine has {cores()} cores; that is the most"
        )
    if config.optim._target_ in ("hqcnn_lab.optim.QNG", "hqcnn_lab.optim.SPSA"):
        raise ConfigError(
            f"trainer.devices={devices}: {config.optim._target_.rpartition('.')[2]} evaluates circuits on the images "
            "of its own process alone; use trainer.devices=1, or another optimizer"
        )


def check_workers(key: str, n: int | None) -> None:
    """Raise `ConfigError` for processes or threads by the hundred, which would only wait for each other."""
    most = _PER_CORE * cores()
    if n is not None and n > most:
        raise ConfigError(f"{key}={n}: this machine has {cores()} cores; at most {most}, {_PER_CORE} for each")


def _check_stages(config: DictConfig) -> None:
    """Whether there will be what is to be scored at the end."""
    trainer = config.trainer
    if unknown := [key for key in trainer if key not in TRAINER]:
        near = difflib.get_close_matches(unknown[0], TRAINER, n=1)
        hint = f"did you mean trainer.{near[0]}?" if near else "lightning.ai/docs lists what it takes"
        raise ConfigError(f"trainer.{unknown[0]}: Lightning's Trainer takes no such argument; {hint}")
    best = config.test_checkpoint == "best"
    if best and not config.callbacks.get("best_checkpoint"):
        raise ConfigError(
            "test_checkpoint=best: needs callbacks.best_checkpoint, which is null; use test_checkpoint=last"
        )
    if best and trainer.get("fast_dev_run"):
        raise ConfigError(
            f"trainer.fast_dev_run={trainer.fast_dev_run}: keeps no checkpoint for test_checkpoint=best; use "
            "trainer=debug, which does, or test_checkpoint=last"
        )
    if config.test_after and config.test_after[-1] > trainer.max_epochs:
        raise ConfigError(
            f"test_after={config.test_after}: there is no epoch {config.test_after[-1]}, "
            f"trainer.max_epochs={trainer.max_epochs}; leave it out, or train longer"
        )
    every = trainer.get("check_val_every_n_epoch")
    if (every or 1) > 1 and trainer.get("max_steps", -1) != -1 and (config.ckpt_path or config.resume):
        raise ConfigError(
            f"trainer.max_steps={trainer.max_steps}: with trainer.check_val_every_n_epoch={every} Lightning cannot "
            "continue a run as it would have gone on; leave one of them out"
        )
    if every is not None and every > trainer.max_epochs:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch={every}: of {trainer.max_epochs} epochs (trainer.max_epochs) none would "
            f"be validated, and {config.monitor} never be known"
        )


def _check_learning(config: DictConfig) -> None:
    """Whether the model and the optimizer go together, and the files are there that the model begins from."""
    model, optim = config.model, config.optim
    name = model._target_.rpartition(".")[2]
    if name in GRADIENT_FREE and optim._target_ is not None:
        raise ConfigError(
            f"optim={optim._target_.rpartition('.')[2].lower()}: {name} learns without gradients and takes no "
            "optimizer; leave optim= out"
        )
    inner = (model.get("network") or {}).get("_target_", "").rpartition(".")[2]
    if inner in (*GRADIENT_FREE, *FITTED_LAST):
        raise ConfigError(f"model.network={inner}: the second stage is a network that is trained by gradients alone")
    if name not in GRADIENT_FREE and optim._target_ is None:
        raise ConfigError(f"optim=none: {name} learns by gradients; choose an optimizer")
    if name in (*GRADIENT_FREE, *FITTED_LAST):
        if config.test_checkpoint == "best":
            raise ConfigError(f"test_checkpoint=best: {name} is fitted once, at the end; use test_checkpoint=last")
        if config.test_after:
            raise ConfigError(f"test_after={config.test_after}: {name} is fitted once, at the end; leave it out")
        if config.trainer.devices != 1:
            raise ConfigError(f"trainer.devices={config.trainer.devices}: {name} is fitted in one process; use 1")
    if name in GRADIENT_FREE and config.ckpt_path is not None:
        raise ConfigError(f"ckpt_path={config.ckpt_path}: {name} is fitted at once, there is nothing to continue")
    if name == "Ensemble":
        if len(model.runs) < 2:
            raise ConfigError("model.runs: give at least two run folders, model.runs=[runs/a,runs/b]")
        for run in model.runs:
            if not Path(run).expanduser().is_dir():
                raise ConfigError(f"model.runs: {run}: there is no such run folder")
    weights = model.get("weights")
    if weights is not None and not Path(weights).expanduser().is_file():
        raise ConfigError(f"model.weights={weights}: there is no such file")


def check_values(config: DictConfig) -> None:
    """Raise `ConfigError` for the first value out of its range, and for classes that no config may name."""
    plain = OmegaConf.to_container(config, resolve=False)
    for key, target in untrusted_targets(plain):
        raise ConfigError(f"{key}={target}: refused, {_what_may_be_built(key)}")
    for key, limit in limits_of(config):
        value = select(config, key)
        if value is not None and not limit.holds(value):
            raise ConfigError(f"{key}={value}: must be {limit.words_for(value)}")
    for key, value in _without_end(plain):
        raise ConfigError(f"{key}={value}: must be a finite number")
    for key in PATHS:
        if (path := select(config, key)) is not None:
            check_path(key, path)


def _without_end(spec: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every infinity and NaN in a nested config, as `(key, value)`."""
    if isinstance(spec, float) and not math.isfinite(spec):
        yield key, spec
    for name, value in spec.items() if isinstance(spec, dict) else enumerate(spec) if isinstance(spec, list) else ():
        yield from _without_end(value, f"{key}.{name}".lstrip("."))


def _what_may_be_built(key: str) -> str:
    if key == "model._target_":
        return (
            "a model is one of this lab's (model=…, --help lists them); one of your own goes into hqcnn_lab/models/, "
            "its name into hqcnn_lab/models/__init__.py, and conf/model/<name>.yaml names it"
        )
    return "a config may only build this lab's, Lightning's and torch.optim's classes"


def is_on_cpu(accelerator: str) -> bool:
    if accelerator != "auto":
        return accelerator == "cpu"
    import torch

    return not torch.accelerator.is_available()


def _check_device(accelerator: str) -> None:
    if accelerator in ("gpu", "cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(f"trainer.accelerator={accelerator}: torch finds no GPU here; use trainer=default")
    if accelerator == "mps":
        import torch

        if not torch.backends.mps.is_available():
            raise ConfigError("trainer.accelerator=mps: torch finds no Apple GPU here; use trainer=default")


def slow_precision(config: DictConfig) -> str | None:
    """What to tell of a precision that the CPU would only imitate; None where all is well. It is right, but slow."""
    precision = config.trainer.precision  # on a CPU, Lightning takes bfloat16 for float16
    if precision not in ("bf16-mixed", "16-mixed") or config.trainer.accelerator not in ("auto", "cpu"):
        return None
    import torch

    from hqcnn_lab.torch_private import has_bfloat16_units

    if (config.trainer.accelerator == "auto" and torch.accelerator.is_available()) or has_bfloat16_units():
        return None
    return (
        f"trainer.precision={precision}: this CPU has no bfloat16 units, and epochs take ten times as long or more; "
        "stop it and add trainer.precision=32-true"
    )


def _check_loggers(config: DictConfig, in_sweep: bool) -> None:
    for name, packages in {"tensorboard": ["tensorboard"], "mlflow": ["mlflow", "sqlalchemy", "alembic"]}.items():
        for package in packages if config.logger.get(name) else []:
            if not importlib.util.find_spec(package):
                raise ConfigError(f'logger={name}: needs the package {package}; pip install "hqcnn-lab[loggers]"')
    for name, spec in config.logger.items():
        if not isinstance(spec, DictConfig):
            continue
        for key in ("id", "version", "run_id") if in_sweep else ():  # TensorBoard's version: "" is none
            if spec.get(key):
                raise ConfigError(f"logger.{name}.{key}={spec[key]}: each run of a sweep gets its own; leave it out")
        if str(spec.get("_target_")).endswith(".WandbLogger"):
            check_wandb_labels(config, f"logger.{name}")


def check_dataset(dataset: DictConfig) -> None:
    """Raise `ConfigError` where a folder or a table of the data set is absent, or is something else."""
    _check_size(dataset)
    if "root" in dataset:
        from hqcnn_lab.data.source.layout import find_images
        from hqcnn_lab.data.source.rembrandt_layout import find_folders

        _hold("dataset.root", dataset.root, find_folders if "clinical" in dataset else find_images)
    if "clinical" in dataset:
        from hqcnn_lab.data.source.clinical import read_clinical

        columns = (dataset.clinical_id, dataset.clinical_class)
        _hold("dataset.clinical", dataset.clinical, lambda path: read_clinical(path, *columns))
    if dataset.get("manifest") is not None:
        from hqcnn_lab.data.split.manifest import read_manifest

        _hold("dataset.manifest", dataset.manifest, read_manifest)


def _check_size(dataset: DictConfig) -> None:
    """Whether images that are drawn, not read, find room: once as they are drawn, and once as they are kept."""
    counts = {key: dataset[key] for key in ("n_train", "n_test") if dataset.get(key) is not None}
    need, have = sum(counts.values()) * dataset.get("image_size", 0) ** 2 * _BYTES_A_PIXEL, memory_bytes()
    if need > have:
        key = max(counts, key=counts.__getitem__)
        raise ConfigError(
            f"dataset.{key}={counts[key]}: so many images need about {int(need) >> 30:,} GiB and this machine has "
            f"{have / 2**30:.0f}"
        )


def _hold(key: str, path: Any, read: Callable[[Any], Any]) -> None:
    try:
        read(path)
    except ValueError as error:
        raise ConfigError(f"{key}={path}: {first_line(error)}") from None
