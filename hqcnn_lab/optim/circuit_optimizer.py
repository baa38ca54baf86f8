"""What QNG and SPSA share: the circuits are stepped by a rule of their own, everything else by AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

KINDS = ("quantum", "classical")


class CircuitOptimizer(torch.optim.Optimizer):
    """Base of optimizers whose rule is for circuits alone; not for use by itself.

    Groups with `"group": "quantum"`, which is the default, are stepped along `_directions`, those with `"classical"` by
    AdamW. `weight_decay` is decoupled in both. Everything that a resumed run needs is in `state_dict`, as tensors and
    numbers.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        **rule: Any,
    ) -> None:
        # AdamW checks its arguments and has more of them than matter here; it keeps its state in this optimizer's.
        self._adamw = torch.optim.AdamW([torch.empty(0)], lr=lr, weight_decay=weight_decay, betas=betas)
        super().__init__(params, {"group": "quantum", **self._adamw.defaults, **rule})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        kind = param_group.get("group", "quantum")
        if kind not in KINDS:
            raise ValueError(f'{type(self).__name__}: "group" must be one of {", ".join(KINDS)}, got {kind!r}')
        super().add_param_group(param_group)

    def _groups(self, kind: str) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["group"] == kind]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
        self._adamw.state, self._adamw.param_groups = self.state, self._groups("classical")
        self._adamw.step()
        return loss

    def _directions(self) -> dict[Tensor, Tensor]:
        """What each parameter of the quantum groups is to be moved against."""
        raise NotImplementedError
