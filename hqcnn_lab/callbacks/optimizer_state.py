"""What the optimizer did: learning rates, and GVCO's two controls."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch.optim import Optimizer


class OptimizerState(pl.Callback):
    """Log the learning rate of each group (`lr/<group>`) and, under GVCO, what its controls have set.

    `gvco/lr_scale` (γ) and `gvco/momentum` (β, for the next step) are means over all tensors, `gvco/<group>/…` over the
    group's; `noise` and `signal` are the gradient's noise and signal power (N, S). Logged every
    `trainer.log_every_n_steps` steps.
    """

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        # By the end of the batch the scheduler has already set the next step's.
        self._rates = {f"lr/{group['group']}": group["lr"] for group in optimizer.param_groups}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps:
            return
        states: dict[str, list[dict[str, Any]]] = {}
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                tensors = [optimizer.state[p] for p in group["params"] if "lr_scale" in optimizer.state.get(p, {})]
                if tensors:  # GVCO's, and with gradients so far
                    states.setdefault(group["group"], []).extend(tensors)
        pl_module.log_dict(self._rates)
        everything = [state for group in states.values() for state in group]
        if everything:
            means = {f"gvco/{name}": _mean(everything, name) for name in ("lr_scale", "momentum")}
            for group, tensors in states.items():
                means |= {
                    f"gvco/{group}/{name}": _mean(tensors, name) for name in ("lr_scale", "momentum", "noise", "signal")
                }
            pl_module.log_dict(dict(zip(means, torch.stack(list(means.values())).cpu(), strict=True)))


def _mean(states: list[dict[str, Any]], name: str) -> torch.Tensor:
    return torch.stack([state[name] for state in states]).float().mean()
