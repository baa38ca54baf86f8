"""Whether the classes that a configuration names take what it gives them; found out before anything starts."""

import difflib
import importlib
import inspect
import json
import os
import pydoc
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from hqcnn_lab.build import BuildError, build
from hqcnn_lab.error import ConfigError, first_line, shown

# What the lab itself gives each part, and what it keeps from the class.
_OURS = {
    "model": {"n_classes", "image_size"},
    "model.network": {"n_classes", "image_size"},
    "optim": {"params", "lr", "quantum_lr", "weight_decay"},
    "scheduler": {"optimizer", "total_steps"},
}
# What takes the arguments that a class does not name.
_PASSES_ON = {"WandbLogger": "wandb.init", "TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter"}


def check_arguments(plain: dict[str, Any]) -> None:
    """Raise `ConfigError` for a key of a plain, resolved config that its class does not take, or cannot be built with.

    Imports what the configuration names, which takes seconds: the last of all checks. Optimizer, schedule and callbacks
    are built, of a network of one parameter, and thrown away; what is built of data and network waits for the images.
    """
    for key, spec in _specs(plain):
        _check_spec(key, json.dumps(spec))
    if plain["optim"].get("_target_"):
        _check_optimizer(json.dumps(plain["optim"]), json.dumps(plain["scheduler"]))


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
    taken = dict(inspect.signature(cls).parameters)
    if class_name in _PASSES_ON:
        further = dict(inspect.signature(pydoc.locate(_PASSES_ON[class_name])).parameters)
        taken = further | {name: taken[name] for name in taken if name != "kwargs"}
    if class_name == "WandbLogger":
        _check_wandb(key, spec)
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    hints = _hints(cls)
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
        _build(key, spec | {"_target_": target})


def _check_wandb(key: str, spec: dict[str, Any]) -> None:
    """Also what the environment says to W&B, which else looks at both once the data is prepared."""
    import wandb
    from pydantic import ValidationError

    names = {"id": "run_id", "version": "run_id", "tags": "run_tags", "notes": "run_notes", "group": "run_group"}
    names |= {"job_type": "run_job_type", "project": "project", "entity": "entity", "resume": "resume"}
    given = {names[name]: value for name, value in spec.items() if name in names and value is not None}
    settings, where = spec.get("settings") or {}, key
    try:
        wandb.Settings(**given)
        where = f"{key}.settings"
        wandb.Settings(**settings)
        where = "in the environment, as WANDB_…"
        wandb.Settings().update_from_env_vars(dict(os.environ))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: {first['loc'][0]}={shown(str(first['input']))}: {first['msg']}") from None
    except wandb.Error as error:
        raise ConfigError(f"{where}: {first_line(error)}") from None


@cache
def _check_optimizer(optim: str, scheduler: str) -> None:
    from torch import nn

    from hqcnn_lab.optim import parameter_groups

    spec: dict[str, Any] = json.loads(optim)
    if spec.get("lr") is None:
        raise ConfigError("optim.lr: every optimizer needs it")
    rates = spec["lr"], spec.pop("quantum_lr", None), spec.pop("weight_decay", 0.0)
    optimizer = _build("optim", spec, parameter_groups(nn.Linear(1, 1), *rates))
    if (plan := json.loads(scheduler) or {}).get("_target_"):
        _build("scheduler", plan | ({"total_steps": 100} if "total_steps" in plan else {}), optimizer)


def _build(key: str, spec: Mapping[str, Any], *arguments: Any) -> Any:
    try:
        return build(spec, *arguments)
    except BuildError as error:
        raise ConfigError(f"{key}: {first_line(error)}") from None


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)
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
    return True
