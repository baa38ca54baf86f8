"""Whether the classes that a configuration names take what it gives them; found out before anything starts."""

import collections.abc
import difflib
import gc
import importlib
import inspect
import json
import os
import pydoc
import sys
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from hqcnn_lab.build import BuildError, build
from hqcnn_lab.config.check import is_on_cpu
from hqcnn_lab.error import ConfigError, first_line, shown
from hqcnn_lab.lightning_import_private import import_lightning

# What the lab itself gives each part, and what it keeps from the class.
_OURS = {
    "model": {"n_classes", "image_size"},
    "model.network": {"n_classes", "image_size"},
    "optim": {"params", "lr", "quantum_lr", "weight_decay"},
    "scheduler": {"optimizer", "total_steps"},
}
# What Lightning's logger for W&B decides itself.
_WANDB_INSTEAD = {
    "mode": "logger.wandb.offline says whether to send what is logged",
    "experiment": "a run is begun for each",
    "dir": "logger.wandb.save_dir says where",
}
# What takes the arguments that a class does not name.
_PASSES_ON = {"WandbLogger": "wandb.init", "TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter"}
# What others are built on, and cannot work by itself.
_BASES = ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler")
_STEPS = 100  # that a schedule takes to try


def check_arguments(plain: dict[str, Any]) -> None:
    """Raise `ConfigError` for a key of a plain, resolved config that its class does not take, or cannot be built with.

    Imports what the configuration names, which takes seconds: the last of all checks. Optimizer, schedule and callbacks
    are built, for a network of two numbers, take some steps and are thrown away; what is built of data and network
    waits for the images.
    """
    with _imports_that_stay():
        for key, spec in _specs(plain):
            _check_spec(key, json.dumps(spec))
        if plain["optim"].get("_target_"):
            on_cpu = is_on_cpu(plain["trainer"]["accelerator"])
            _check_optimizer(json.dumps(plain["optim"]), json.dumps(plain["scheduler"]), on_cpu)


@contextmanager
def _imports_that_stay() -> Iterator[None]:
    """Without Python's search for garbage, the first time: of half a million objects that imports make, none is any."""
    if "lightning.pytorch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        import_lightning()
        yield
    finally:
        gc.freeze()  # and none is looked at again
        gc.enable()


def _specs(plain: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in ("dataset", "model", "optim", "scheduler"):
        yield from _with_inner(part, plain[part])
    if augment := plain["dataset"].get("augment"):
        yield "dataset.augment", {"_target_": "hqcnn_lab.data.Augment", **augment}
    for group in ("callbacks", "logger"):
        for name, spec in plain[group].items():
            if group == "callbacks" and spec is not None and not (isinstance(spec, dict) and spec.get("_target_")):
                raise ConfigError(f"{group}.{name}={shown(str(spec))}: must be a class, +{group}.{name}._target_=…")
            yield from _with_inner(f"{group}.{name}", spec)


def _with_inner(key: str, spec: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(spec, dict):
        if spec.get("_target_"):
            yield key, spec
        for name, inner in spec.items():
            yield from _with_inner(f"{key}.{name}", inner)


@cache
def _check_spec(key: str, text: str) -> None:
    spec: dict[str, Any] = json.loads(text)
    target, given = spec.pop("_target_"), _OURS.get(key, set())
    module, _, class_name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), class_name)
    except (AttributeError, ImportError) as error:  # or its module lacks a package
        raise ConfigError(f"{key}._target_={target}: {first_line(error)}") from None
    if target in _BASES:
        raise ConfigError(f"{key}._target_={target}: is what others are built on; choose one of them")
    taken = dict(inspect.signature(cls).parameters)
    hints = _hints(cls.__init__)
    if class_name in _PASSES_ON:
        further: Any = pydoc.locate(_PASSES_ON[class_name])
        hints = _hints(further) | hints
        taken = dict(inspect.signature(further).parameters) | {name: taken[name] for name in taken if name != "kwargs"}
    if class_name == "WandbLogger":
        _check_wandb(key, spec)
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    for name, value in spec.items():
        if name in given:
            continue
        if name not in taken and not is_open:
            near = difflib.get_close_matches(name, taken, n=1)
            there_are = ", ".join(argument for argument in taken if argument not in given) or "none"
            hint = f"did you mean {near[0]}?" if near else f"it takes {there_are}"
            raise ConfigError(f"{key}.{name}: {target} takes no such argument; {hint}")
        default = taken[name].default if name in taken else value
        if value != default and not _fits(value, hints.get(name, Any)):
            said = (
                str(hints[name]).replace("typing.", "") if not isinstance(hints[name], type) else hints[name].__name__
            )
            raise ConfigError(f"{key}.{name}={shown(str(value))}: {target} takes {said}")
    for name, parameter in taken.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in (*spec, *given):
            raise ConfigError(f"{key}.{name}: {target} needs it")
    if key.startswith("callbacks."):
        from lightning.pytorch import Callback

        if not isinstance(_build(key, spec | {"_target_": target}), Callback):
            raise ConfigError(f"{key}._target_={target}: is no callback")


def _check_wandb(key: str, spec: dict[str, Any]) -> None:
    """Also what the environment says to W&B, which else looks at both once the data is prepared."""
    import wandb
    from pydantic import ValidationError

    from hqcnn_lab.wandb_private import check_environment

    names = {"id": "run_id", "version": "run_id", "tags": "run_tags", "notes": "run_notes", "group": "run_group"}
    names |= {"job_type": "run_job_type", "project": "project", "entity": "entity", "resume": "resume"}
    names |= {name: name for name in ("reinit", "mode", "resume_from", "fork_from")}
    for name, instead in _WANDB_INSTEAD.items():
        if spec.get(name) is not None:
            raise ConfigError(f"{key}.{name}={shown(str(spec[name]))}: would be passed over; {instead}")
    given = {names[name]: value for name, value in spec.items() if name in names and value is not None}
    settings, where = spec.get("settings") or {}, key
    try:
        wandb.Settings(**given)
        where = f"{key}.settings"
        wandb.Settings(**settings)
        where = "in the environment, as WANDB_…"
        check_environment(os.environ)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: {first['loc'][0]}={shown(str(first['input']))}: {first['msg']}") from None
    except wandb.Error as error:
        raise ConfigError(f"{where}: {first_line(error)}") from None


@cache
def _check_optimizer(optim: str, scheduler: str, on_cpu: bool) -> None:
    import torch
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

    from hqcnn_lab.optim import parameter_groups
    from hqcnn_lab.optim.averaging import put_training_point

    spec: dict[str, Any] = json.loads(optim)
    if spec.get("lr") is None:
        raise ConfigError("optim.lr: every optimizer needs it")
    if not on_cpu:
        spec.pop("capturable", None)  # which parameters on a CPU cannot be
    rates = spec["lr"], spec.pop("quantum_lr", None), spec.pop("weight_decay", 0.0)
    optimizer = _build("optim", spec, parameter_groups(network := nn.Linear(1, 1), *rates))
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"optim._target_={spec['_target_']}: is no optimizer")
    put_training_point([optimizer])
    schedule = None
    if (plan := json.loads(scheduler) or {}).get("_target_"):
        schedule = _build("scheduler", plan | ({"total_steps": _STEPS} if "total_steps" in plan else {}), optimizer)
        if not isinstance(schedule, LRScheduler) or isinstance(schedule, ReduceLROnPlateau):
            raise ConfigError(f"scheduler._target_={plan['_target_']}: is no schedule that goes by the step alone")
    with torch.random.fork_rng([]), warnings.catch_warnings(action="ignore"):
        _take_steps(network, optimizer, schedule)


def _take_steps(network: Any, optimizer: Any, schedule: Any) -> None:
    """Raise `ConfigError` for what is said only as a step is taken, and for learning rates that lead nowhere."""
    import torch

    def closure() -> Any:
        optimizer.zero_grad()
        loss = network(torch.ones(1, 1)).square().sum()
        loss.backward()
        return loss

    for number in range(_STEPS if schedule else 2):
        key, stepped = "optim", optimizer
        try:
            if number < 2:
                optimizer.step(closure)
            if schedule:
                key, stepped = "scheduler", schedule
                schedule.step()
        except Exception as error:  # whatever torch calls it
            raise ConfigError(f"{key}: {type(stepped).__name__} cannot take a step: {first_line(error)}") from None
        for group in optimizer.param_groups:
            if not 0 <= (rate := float(group["lr"])) <= torch.finfo(torch.float32).max:
                raise ConfigError(f"{key}: {type(stepped).__name__} makes the learning rate {rate:g}")


def _build(key: str, spec: Mapping[str, Any], *arguments: Any) -> Any:
    try:
        return build(spec, *arguments)
    except BuildError as error:
        raise ConfigError(f"{key}: {first_line(error)}") from None


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that are there for a type checker alone
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a configuration may be what a signature asks for; of what is not plain, one cannot tell."""
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is typing.Literal:
        return value in inner
    if origin in (bool, str):
        return isinstance(value, origin)
    if origin in (int, float):
        return isinstance(value, int if origin is int else (int, float)) and not isinstance(value, bool)
    if origin is type(None):
        return value is None
    if origin in (dict, collections.abc.Mapping):
        return isinstance(value, dict)
    if origin in (list, tuple, collections.abc.Sequence, collections.abc.Iterable):
        return isinstance(value, list)
    return True
