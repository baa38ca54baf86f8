"""What QNG and SPSA share: the circuits are stepped by a rule of their own, everything else by AdamW."""

# pyright: reportUnknownMemberType=false
# (torch.compiler.disable is not annotated)

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.adamw import adamw

KINDS = ("quantum", "classical")


class CircuitOptimizer(torch.optim.Optimizer):
    """Base of optimizers whose rule is for circuits alone; not for use by itself.

    Groups with `"group": "quantum"`, which is the default, are stepped along `_directions`, those with `"classical"` by
    AdamW. `weight_decay` is decoupled in both. Everything that a resumed run needs is in `state_dict`, as tensors and
    numbers. Under `torch.compile` a step runs as it is: the circuits in it reuse memory, which a compiler cannot trace.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        **rule: Any,
    ) -> None:
        # AdamW checks its arguments, and gives the others their defaults.
        adamw_defaults = torch.optim.AdamW([torch.empty(0)], lr=lr, weight_decay=weight_decay, betas=betas).defaults
        super().__init__(params, {"group": "quantum", **adamw_defaults, **rule})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        kind = param_group.get("group", "quantum")
        if kind not in KINDS:
            raise ValueError(f'{type(self).__name__}: "group" must be one of {", ".join(KINDS)}, got {kind!r}')
        super().add_param_group(param_group)

    def _groups(self, kind: str) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["group"] == kind]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if torch.compiler.is_compiling():  # not as a decorator: that imports the compiler, for a second
            return cast("Callable[..., Any]", torch.compiler.disable(self._step))(closure)
        return self._step(closure)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        directions = self._directions()
        for group in self._groups("quantum"):
            for parameter in group["params"]:
                if parameter in directions:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(group["lr"] * directions[parameter])
        for group in self._groups("classical"):
            self._step_by_adamw(group)
        return loss

    def _step_by_adamw(self, group: dict[str, Any]) -> None:
        # The function, not an optimizer inside this one, whose state would be left out of copies and checkpoints.
        params = [p for p in group["params"] if p.grad is not None]
        if any(p.grad.is_sparse for p in params):
            name = type(self).__name__
            raise RuntimeError(f"{name}: sparse gradients are not supported; use sparse=False in the layer")
        names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]
        for parameter in params:
            if not self.state[parameter]:
                place = parameter.device if group["capturable"] or group["fused"] else "cpu"
                self.state[parameter] = {"step": torch.zeros((), device=place)}
                self.state[parameter] |= {name: torch.zeros_like(parameter) for name in names}
        states = [self.state[parameter] for parameter in params]
        means, squares, largest, steps = (
            [state[name] for state in states if name in state]
            for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step")
        )
        options = ("lr", "weight_decay", "eps", "amsgrad", "maximize", "foreach", "capturable", "differentiable")
        beta1, beta2 = group["betas"]
        adamw(
            *(params, [p.grad for p in params], means, squares, largest, steps),
            **{name: group[name] for name in (*options, "fused")},
            beta1=beta1,
            beta2=beta2,
            has_complex=any(p.is_complex() for p in params),
        )

    def _directions(self) -> dict[Tensor, Tensor]:
        """The direction of each parameter of the quantum groups; the step goes the opposite way."""
        raise NotImplementedError
