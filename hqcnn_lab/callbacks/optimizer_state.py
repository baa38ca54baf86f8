"""What the optimizer did: learning rates and momenta, and what GVCO's controls made of them."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch.optim import Optimizer


class OptimizerState(pl.Callback):
    """Log each parameter group's learning rate and momentum, as set and as they came to act.

    For every optimizer `lr/<group>` is the rate its schedule set, `effective_lr/<group>` that rate times the
    optimizer's own control of it (GVCO's γ, a mean over the group's tensors; others have none), and `momentum/<group>`
    β, or Adam's β₁. The division by each element's spread, which Adam and GVCO share, is in neither.

    Under GVCO also `gvco/lr_scale` (γ) and `gvco/momentum` (β, for the next step), means over all tensors, and
    `gvco/<group>/…` over the group's; of these `slow_scale` is γ's slow part a, `noise` and `signal` are the gradient's
    powers N and S. Logged every `trainer.log_every_n_steps` steps, with one transfer from the device.
    """

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        # By the end of the batch the scheduler has already set the next step's.
        self._rates = {group.get("group", "other"): float(group["lr"]) for group in optimizer.param_groups}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        often: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it; 0: never
        if not often or trainer.global_step % often:
            return
        states: dict[str, list[dict[str, Any]]] = {}
        momenta: dict[str, float] = {}
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                kind = group.get("group", "other")
                tensors = [optimizer.state[p] for p in group["params"] if "lr_scale" in optimizer.state.get(p, {})]
                if tensors:  # GVCO's, and with gradients so far
                    states.setdefault(kind, []).extend(tensors)
                if "betas" in group or "momentum" in group:
                    momenta[kind] = group["betas"][0] if "betas" in group else group["momentum"]
        everything = [state for tensors in states.values() for state in tensors]
        means = {f"gvco/{name}": mean for name, mean in _means(everything).items() if name in _CONTROLS}
        for group, tensors in states.items():
            means |= {f"gvco/{group}/{name}": mean for name, mean in _means(tensors).items()}
        values = dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True)) if means else {}
        for group, rate in self._rates.items():
            values[f"lr/{group}"] = rate
            values[f"effective_lr/{group}"] = rate * values.get(f"gvco/{group}/lr_scale", 1.0)
            if (momentum := values.get(f"gvco/{group}/momentum", momenta.get(group))) is not None:
                values[f"momentum/{group}"] = momentum
        pl_module.log_dict(values)


_CONTROLS = ("lr_scale", "momentum")


def _means(states: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    names = [*_CONTROLS, "slow_scale", "noise", "signal"] if states else []
    names = [name for name in names if all(name in state for state in states)]  # not every GVCO has each
    return {name: torch.cat([state[name].flatten() for state in states]).float().mean() for name in names}
