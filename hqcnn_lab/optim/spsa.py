"""Simultaneous perturbation for the circuits, AdamW for the rest."""

# pyright: reportUnknownMemberType=false
# (torch.random is not annotated)

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hqcnn_lab.limit import check_limits
from hqcnn_lab.optim import limits
from hqcnn_lab.optim.circuit_optimizer import CircuitOptimizer


class SPSA(CircuitOptimizer):
    """Step the circuits' weights along a gradient estimated from two losses, as on hardware without gradients.

    All weights θ of the quantum groups are moved at once by random signs Δ, and step number k = 0, 1, … makes::

        c_k = c / (k + 1)^γ
        ĝ = (L(θ + c_k Δ) − L(θ − c_k Δ)) / (2 c_k) · Δ          mean over n_directions draws of Δ
        θ = θ (1 − lr·wd) − lr ĝ

    Use it to see what training without circuit gradients costs. Not where a gradient can be had: for W weights the
    estimate has about W times the gradient's squared length, so lr must be that much smaller.

    The losses come from functions given by `add_loss`, one for each batch since the last step. They do not come from
    `step`'s closure, which usually goes backward too: that would cost three times as much and overwrite the gradients
    of the other parameters. A function computes the loss of its batch and nothing else: no logging, no running averages
    (`ImageClassifier` runs batch normalization on copies of its buffers)::

        optimizer.add_loss(lambda: criterion(net(batch), target))
        optimizer.step()

    Groups `"classical"` are stepped by AdamW, on the gradients of an ordinary backward pass. A step costs that pass,
    where there are such groups, and 2 · `n_directions` forward passes. All evaluations of a step draw the same random
    numbers (dropout, shots, noise) and leave torch's generators as they were. ĝ is left in `.grad`; clipping done
    before the step does not see it.

    There is no decaying a_k = lr/(k + 1 + A)^α: the learning rate is the scheduler's. Spall's own is
    `LambdaLR(optimizer, lambda k: ((1 + A) / (k + 1 + A)) ** 0.602)` with A a tenth of the steps.

    Args:
        params: parameters or groups of them; a group without `"group"` is quantum.
        lr: learning rate; may be given per group, as `betas` and `weight_decay`.
        c: first perturbation, radians: large enough for its effect to stand out of the loss's noise.
        gamma: γ, decay of the perturbation; 0: none.
        n_directions: draws of Δ a step.
        betas: AdamW's, of classical groups.
        weight_decay: decoupled.

    The signs are drawn from a generator of this optimizer's, which torch's default one seeds; its state is in
    `state_dict`, so that a resumed run draws on.

    Raises RuntimeError in `step` where no loss was added.

    Source: Spall 1998, "Implementation of the simultaneous perturbation algorithm", IEEE Trans. Aerosp. Electron. Syst.
    34(3); γ = 0.101 and α = 0.602 are its.
    """

    _losses: tuple[Callable[[], Tensor], ...] = ()  # a copy begins with none, because these losses are of this network

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        c: float = 0.2,
        gamma: float = 0.101,
        n_directions: int = 1,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        given = {"lr": lr, "c": c, "gamma": gamma, "n_directions": n_directions, "betas": betas}
        check_limits(limits.SPSA, given | {"weight_decay": weight_decay}, "SPSA: ")
        super().__init__(params, lr, weight_decay, betas)
        with torch.random.fork_rng([]):  # a run with another optimizer and the same seed draws the same numbers
            seed = int(torch.randint(2**62, ()))
        # A perturbation is of all groups at once, so this is of none of them, and the first one keeps it: the state of
        # a parameter would be cast to its dtype on loading.
        self.param_groups[0].update(
            {"c": c, "gamma": gamma, "n_directions": n_directions, "n_steps": 0},
            generator=torch.Generator().manual_seed(seed).get_state(),
        )

    def add_loss(self, loss: Callable[[], Tensor]) -> None:
        """Give the loss of one more batch of the coming step: a function that returns it, called without gradients."""
        self._losses = (*self._losses, loss)

    def _directions(self) -> dict[Tensor, Tensor]:
        losses, self._losses = self._losses, ()
        weights = [p for group in self._groups("quantum") for p in group["params"] if p.requires_grad]
        if not weights:
            return {}
        if not losses:
            raise RuntimeError("SPSA: no loss to evaluate; call add_loss(lambda: …) before each step")
        rule = self.param_groups[0]
        generator = torch.Generator()
        generator.set_state(rule["generator"].cpu())
        size = rule["c"] / (rule["n_steps"] + 1) ** rule["gamma"]
        estimates = [torch.zeros_like(p) for p in weights]
        for _ in range(rule["n_directions"]):
            signs = [(2 * torch.randint(2, p.shape, generator=generator) - 1).to(p) for p in weights]
            slope = _slope(losses, weights, signs, size) / rule["n_directions"]
            for estimate, sign in zip(estimates, signs, strict=True):
                estimate += slope * sign
        rule["n_steps"] += 1
        rule["generator"] = generator.get_state()
        for weight, estimate in zip(weights, estimates, strict=True):
            weight.grad = estimate
        return dict(zip(weights, estimates, strict=True))


def _slope(losses: Sequence[Callable[[], Tensor]], weights: list[Tensor], signs: list[Tensor], size: float) -> Tensor:
    """The losses' mean central difference along the signs; the weights are as before afterwards, to the bit."""
    before = [weight.clone() for weight in weights]
    devices = sorted({weight.device.index for weight in weights if weight.is_cuda})
    values: list[Tensor] = []
    try:
        for side in (size, -size):
            for weight, start, sign in zip(weights, before, signs, strict=True):
                weight.copy_(start + side * sign)
            with torch.random.fork_rng(devices):
                first, *others = (loss() for loss in losses)
                values.append(sum(others, first) / len(losses))
    finally:
        for weight, start in zip(weights, before, strict=True):
            weight.copy_(start)
    return (values[0] - values[1]) / (2 * size)
