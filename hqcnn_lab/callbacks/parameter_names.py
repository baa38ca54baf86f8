"""What a trained tensor is called in metrics: its parameter group's kind, and its layer."""

from typing import NamedTuple

import lightning.pytorch as pl
from torch import Tensor
from torch.optim import Optimizer


class Named(NamedTuple):
    """`key` is unique; `group` is `quantum`, `classical` or, in groups that do not say, `other`. `layer` is None for
    what has one dimension (biases, norms) or belongs to no module."""

    parameter: Tensor
    key: str
    group: str
    layer: str | None


def named_parameters(optimizer: Optimizer, pl_module: pl.LightningModule) -> list[Named]:
    """The optimizer's parameters in the order of its groups."""
    names = {parameter: name for name, parameter in pl_module.named_parameters()}
    named: list[Named] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            key = names.get(parameter, f"parameter {len(named)}")
            has_layer = parameter.dim() > 1 and parameter in names
            layer = key.removeprefix("net.").removesuffix(".weight") if has_layer else None
            named.append(Named(parameter, key, group.get("group", "other"), layer))
    return named


def logs_step(trainer: pl.Trainer, step: int) -> bool:
    """Whether `trainer.log_every_n_steps` has this step logged."""
    often: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it; 0: never
    return bool(often) and step % often == 0
