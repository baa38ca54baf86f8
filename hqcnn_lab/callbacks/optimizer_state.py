"""What the optimizer did: rate, momentum and averaging weight, as set and as they came to act."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from hqcnn_lab.callbacks.parameter_names import logs_step, named_parameters
from hqcnn_lab.optim.circuit_optimizer import CircuitOptimizer


class OptimizerState(pl.Callback):
    """Log what steered the step, by parameter group and by layer, under the same names for every optimizer.

    `control/<group>/rate` is the learning rate that acted: what its schedule set times what the optimizer made of it
    (GVCO's control, schedule-free optimizers' warm-up, Prodigy's distance), without the division by each element's
    spread that Adam and GVCO share. `control/<group>/momentum` is β, Adam's β₁, a schedule-free optimizer's
    interpolation. `control/<group>/average_weight` is the share of the step's iterate in the average that is judged,
    where the optimizer keeps one, `noise` and `signal` the gradient's powers where it measures them.

    Where the optimizer steers each tensor by itself (GVCO), these are means over the group's tensors, weighted alike,
    and `control/layer/<layer>/<name>` has rate, momentum and averaging weight of one weight tensor; biases and norms
    are in their groups alone.

    `lr/<group>` is the rate as its schedule set it; `effective_lr/<group>` and `momentum/<group>` repeat the first two.
    Logged every `trainer.log_every_n_steps` steps, with one transfer from the device.
    """

    def __init__(self) -> None:
        self._rates: list[list[float]] = []  # of each optimizer's groups

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rates = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        # By the end of the batch the scheduler has already set the next step's.
        if logs_step(trainer, trainer.global_step + 1):
            self._rates = [[float(group["lr"]) for group in o.param_groups] for o in trainer.optimizers]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not logs_step(trainer, trainer.global_step) or not self._rates:
            return
        by_group: dict[str, list[Tensor]] = {}
        by_layer: dict[str, Tensor] = {}
        values: dict[str, float] = {}
        for optimizer, rates in zip(trainer.optimizers, self._rates, strict=True):
            layers = {one.parameter: one.layer for one in named_parameters(optimizer, pl_module)}
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                kind = group.get("group", "other")
                values[f"lr/{kind}"] = rate
                values |= {f"control/{kind}/{name}": x for name, x in _of_group(optimizer, group, rate).items()}
                for parameter in group["params"]:
                    for name, x in _of_tensor(optimizer.state.get(parameter, {})).items():
                        by_group.setdefault(f"control/{kind}/{name}", []).append(x)
                        if name in _BY_LAYER and (layer := layers[parameter]) is not None:
                            by_layer[f"control/layer/{layer}/{name}"] = x
        own = {name: torch.stack(tensors).mean() for name, tensors in by_group.items()} | by_layer
        values |= dict(zip(own, torch.stack(list(own.values())).tolist(), strict=True)) if own else {}
        for kind in [name.removeprefix("lr/") for name in values if name.startswith("lr/")]:
            values[f"effective_lr/{kind}"] = values[f"control/{kind}/rate"]
            if f"control/{kind}/momentum" in values:
                values[f"momentum/{kind}"] = values[f"control/{kind}/momentum"]
        pl_module.log_dict(values)
        self._rates = []


_BY_LAYER = ("rate", "momentum", "average_weight")


def _of_group(optimizer: Optimizer, group: dict[str, Any], rate: float) -> dict[str, float]:
    """What an optimizer says of a whole group; `rate` is as set."""
    acting = float(group.get("scheduled_lr", rate)) * float(group.get("d", 1.0))  # schedulefree; Prodigy
    controls = {"rate": acting}
    if isinstance(optimizer, CircuitOptimizer) and group["group"] == "quantum":
        return controls  # its betas are those of AdamW, which steps the others
    if "betas" in group or "momentum" in group:
        controls["momentum"] = group["betas"][0] if "betas" in group else group["momentum"]
    if group.get("weight_sum"):  # schedulefree, which has already counted the step
        weight = group["k"] ** group["r"] * group["lr_max"] ** group["weight_lr_power"]
        controls["average_weight"] = weight / group["weight_sum"]
    return controls


def _of_tensor(state: dict[str, Any]) -> dict[str, Tensor]:
    """What an optimizer keeps of a tensor by itself; a mean where it steers each element."""
    names = (*_BY_LAYER, "noise", "signal")
    controls = {name: state[name] for name in names if isinstance(state.get(name), Tensor)}
    return {name: value.detach().float().mean() for name, value in controls.items()} if "rate" in controls else {}
