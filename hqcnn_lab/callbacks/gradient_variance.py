"""The gradients' spread, quantum against classical, as the optimizer is about to see them."""

import lightning.pytorch as pl
import torch
from torch.optim import Optimizer


class GradientVariance(pl.Callback):
    """Log the variance of the gradients the optimizer is about to use, per parameter group and per layer.

    `grad/<group>/variance` and `grad/<group>/norm` pool all elements of the group; `grad/layer/<name>/variance` is of
    one weight tensor (biases and norms are left out). Read in `on_before_optimizer_step`, after accumulation and
    clipping, every `trainer.log_every_n_steps` steps, with one transfer from the device.

    This is the spread over the elements of one step's gradient. Not a barren-plateau test by itself: a circuit that has
    converged also has small gradients; compare with initialization. The variance over time, which GVCO acts on, is
    logged by `OptimizerState`.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if (trainer.global_step + 1) % trainer.log_every_n_steps:
            return
        names = {parameter: name for name, parameter in pl_module.named_parameters()}
        values: dict[str, torch.Tensor] = {}
        pooled: dict[str, list[torch.Tensor]] = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.detach().float().flatten()
                pooled.setdefault(group["group"], []).append(gradient)
                if parameter.dim() > 1:
                    layer = names[parameter].removeprefix("net.").removesuffix(".weight")
                    values[f"grad/layer/{layer}/variance"] = gradient.var(correction=0)
        for name, gradients in pooled.items():
            gradient = torch.cat(gradients)
            values[f"grad/{name}/variance"] = gradient.var(correction=0)
            values[f"grad/{name}/norm"] = gradient.norm()
        pl_module.log_dict(dict(zip(values, torch.stack(list(values.values())).cpu(), strict=True)))
