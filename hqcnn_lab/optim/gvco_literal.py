"""The paper's words taken literally: a learning rate and a momentum that both fall as gradient variance rises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hqcnn_lab.limit import check_limits
from hqcnn_lab.optim import limits


class GVCOLiteral(torch.optim.Optimizer):
    """Heavy-ball SGD with lr/(1 + V) and momentum μ/(1 + V), V the mean gradient variance of a tensor.

    The shortest reading of the paper's section 3.2 ("learning rates and momentum coefficients" set from variance, with
    conservative updates where it is high). Use it to see what that reading does; not for training: V has the units of a
    squared gradient, so that what counts as high depends on the scale of the loss, and in heavy-ball form a lower
    momentum is the bolder choice only through the rate lr/(1 − μ). `GVCO` is our reconstruction without these flaws.

    For one tensor with gradient g::

        a = EMA_ρ[g], b = EMA_ρ[g²], both bias-corrected
        V = mean(max(b − a², 0))
        v = μ/(1 + V) · v + g
        θ = θ (1 − lr·wd) − lr/(1 + V) · v

    A tensor whose gradient is not finite is left out of that step. `state[p]["lr_scale"]` is 1/(1 + V), `["momentum"]`
    μ/(1 + V), `["noise"]` V.

    Args:
        params: parameters or groups of them, float32 or float64; every argument below may also be given per group.
        lr: learning rate.
        momentum: μ.
        rho: ρ, decay of both averages.
        weight_decay: decoupled.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        *,
        momentum: float = 0.9,
        rho: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "rho": rho, "weight_decay": weight_decay}
        check_limits(limits.GVCO_LITERAL, defaults, "GVCOLiteral: ")
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)
        return loss

    def _step(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, rho = self.state[parameter], group["rho"]
        if grad.layout != torch.strided:
            raise RuntimeError("GVCOLiteral: sparse gradients are not supported; use sparse=False in the layer")
        if not state:
            for name in ("mean", "square", "velocity"):
                state[name] = torch.zeros_like(parameter)
            for name in ("weight", "noise", "lr_scale", "momentum"):
                state[name] = parameter.new_zeros(())
        finite = torch.isfinite(grad).all()
        grad, taken = torch.where(finite, grad, 0.0), finite.to(grad.dtype)
        keep = 1 - taken * (1 - rho)
        state["weight"].mul_(keep).add_(1 - keep)
        state["mean"].mul_(keep).add_((1 - keep) * grad)
        state["square"].mul_(keep).add_((1 - keep) * grad.square())
        weight = state["weight"].clamp(min=torch.finfo(grad.dtype).tiny)
        variance = (state["square"] / weight - (state["mean"] / weight).square()).clamp(min=0).mean()
        state["noise"].copy_(variance)
        state["lr_scale"].copy_(1 / (1 + variance))
        state["momentum"].copy_(group["momentum"] * state["lr_scale"])
        velocity = state["momentum"] * state["velocity"] + grad
        state["velocity"].copy_(torch.where(finite, velocity, state["velocity"]))
        rate = taken * group["lr"]
        parameter.mul_(1 - rate * group["weight_decay"])
        parameter.sub_(rate * state["lr_scale"] * state["velocity"])
