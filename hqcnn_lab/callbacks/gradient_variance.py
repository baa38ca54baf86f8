"""The gradients' spread, quantum against classical, as the optimizer saw them."""

from typing import Any

import lightning.pytorch as pl
import torch


class GradientVariance(pl.Callback):
    """Log the variance of the gradients the optimizer has just used, per parameter group and per layer.

    `grad/<group>/variance` and `grad/<group>/norm` pool all elements of the group; `grad/layer/<name>/variance` is of
    one weight tensor (biases and norms are left out). Every `trainer.log_every_n_steps` steps, with one transfer from
    the device. Nothing of a step that had no gradients, as when Lightning's stochastic weight averaging goes through
    the data once more for batch normalization.

    This is the spread over the elements of one step's gradient. Not a barren-plateau test by itself: a circuit that has
    converged also has small gradients; compare with initialization. The variance over time, which GVCO acts on, is
    logged by `OptimizerState`.
    """

    def __init__(self) -> None:
        self._last_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step = trainer.global_step

    # After the step, where gradients still lie: Lightning clips them only after its `on_before_optimizer_step`.
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        often: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it; 0: never
        if step == self._last_step or not often or step % often:  # still accumulating, or not to be logged
            return
        self._last_step = step
        names = {parameter: name for name, parameter in pl_module.named_parameters()}
        values: dict[str, torch.Tensor] = {}
        pooled: dict[str, list[torch.Tensor]] = {}
        for group in (group for optimizer in trainer.optimizers for group in optimizer.param_groups):
            for parameter in group["params"]:
                if parameter.grad is None or not parameter.numel():
                    continue
                gradient = parameter.grad.detach().float().flatten()
                pooled.setdefault(group.get("group", "other"), []).append(gradient)
                if parameter.dim() > 1 and parameter in names:
                    layer = names[parameter].removeprefix("net.").removesuffix(".weight")
                    values[f"grad/layer/{layer}/variance"] = gradient.var(correction=0)
        for name, gradients in pooled.items():
            gradient = torch.cat(gradients)
            values[f"grad/{name}/variance"] = gradient.var(correction=0)
            values[f"grad/{name}/norm"] = gradient.norm()
        if values:
            pl_module.log_dict(dict(zip(values, torch.stack(list(values.values())).cpu(), strict=True)))
