"""Hooks around an optimizer's step, where its gradients are those that it uses."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Gradients = list[Tensor | None]
"""One for each parameter in the order of the optimizer's groups; None where it has none, or a sparse one."""


class StepWatch:
    """Call `gradients` with what an optimizer is about to use, `before` and `after` around its step, until `end`.

    The gradients are seen after accumulation, unscaling and clipping, and before the step, which may change them in
    place. So not in Lightning's `on_before_optimizer_step`, which comes before clipping, and behind the closure that
    Lightning gives the step, in which they come about; of one that is called several times (LBFGS), the first time.
    SPSA's gradients are its own estimates, which its step leaves behind: they are seen after it.

    Under float16 a GradScaler divides by its scale first, or the optimizer is told the scale (fused Adam) and it is
    divided out here. A step that the scaler leaves out, for a gradient that is not finite, is not seen at all.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        gradients: Callable[[Gradients], None],
        before: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        self._gradients, self._before, self._after = gradients, before, after
        self._estimates = hasattr(optimizer, "add_loss")
        self._handles = [
            optimizer.register_step_pre_hook(self._begin),
            optimizer.register_step_post_hook(self._finish),
        ]

    def end(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._before is not None:
            self._before()
        if self._estimates:
            return None
        closure = kwargs["closure"] if kwargs.get("closure") is not None else (*args[1:], None)[0]
        if closure is None:
            self._gradients(_gradients_of(optimizer))
            return None
        seen = False

        def watched() -> Any:
            nonlocal seen
            loss = closure()
            if not seen:
                self._gradients(_gradients_of(optimizer))
            seen = True
            return loss

        return args[:1], {**kwargs, "closure": watched}

    def _finish(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._estimates:
            self._gradients(_gradients_of(optimizer))
        if self._after is not None:
            self._after()


@torch.no_grad()
def _gradients_of(optimizer: Optimizer) -> Gradients:
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    gradients: Gradients = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None or gradient.layout != torch.strided or not gradient.is_floating_point():
                gradients.append(None)
            else:
                gradients.append(gradient.detach() if scale is None else gradient.detach() / scale)
    return gradients
