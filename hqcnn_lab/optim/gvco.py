"""The Gradient Variance-Controlled Optimizer, as torch users hold it; the rule itself is in `gvco_rule`."""

# pyright: reportUnknownMemberType=false
# (torch.compiler.disable is not annotated)

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from hqcnn_lab.limit import check_limits
from hqcnn_lab.optim import limits
from hqcnn_lab.optim.gvco_bucket import Bucket
from hqcnn_lab.optim.gvco_rule import Hyper, Tensors


class GVCO(torch.optim.Optimizer):
    """Measure the gradient variance of each tensor and set its learning rate and momentum from it.

    *This is our reconstruction.* The paper says in words what GVCO does (section 3.2: conservative updates under high
    variance, bolder ones under low variance, no erratic steps), but its equations (section 3.9) are not public: whether
    the rule below is the authors' is not known.

    Use it where gradients are noisy and the noise differs between tensors or over time: circuits with few shots, small
    batches, now and then an erratic gradient. Where noise is already averaged away (a quantum convolution on a large
    batch) it has little to control. Its lr is not Adam's: it holds while signal outweighs noise, and a typical value is
    ten times as large. It needs no schedule; under one, the slow factor works against it.

    For one tensor of n elements with gradient g, learning rate lr and mean gradient m̂ so far::

        d = g − m̂                                 innovation
        d = d · min(1, τ √N / rms(d))             erratic-gradient guard, from the 11th step on, once N > 0
        m = β m + (1 − β)(m̂ + d),  m̂ = m / w      w is m's bias weight
        ŝ = EMA_ρ[(d + φ m̂)²] + ε²                variance of each gradient element, at least (φ m̂)²
        N = EMA_ρ[mean(d²)]                       noise power; both bias-corrected
        S = EMA_σ[⟨m̂_prev + d, m̂_prev⟩ / n]       signal power, not bias-corrected: no signal until there is evidence
        A = S / (|S| + cN)                        agreement of gradients with their mean, c = (1 − β)/(1 + β)
        a = clip[a · exp(η A / √t), 0.01, 4]      slow learning-rate control, 1 at first; t counts steps
        γ = a · clip[max(A, 0)^p, γ_min, 1]       learning-rate control
        β' = clip[1 − √(S⁺ / N), β_min, β_max]     momentum control, for the next step; β_max at first; S⁺ = max(S, 0)
        θ = θ (1 − lr·a·wd) − lr · γ · m̂ / ŝ^(q/2)

    What measures A and β is the tensor, or with `granularity` each element, or the parameter group as a whole (on one
    device, in one precision): then the means over n, N and S are over that. ŝ is always element by element.

    **Relatives.** With β_min = β_max, γ_min = 1, η = 0, τ = None: q = 0 is SGD with bias-corrected momentum, exactly.
    q = 1, φ = 0 is AdaBelief (Zhuang et al. 2020), but that its variance is taken around the mean after the update,
    (g − m)² with m not bias-corrected, and that it adds ε to that at every step and once more to its root. q = 0,
    p = 1, γ_min = 0, η = 0, τ = None is a relative of M-SVAG (Balles & Hennig 2018, which steps by m̂² / (m̂² + c ŝ) · m̂
    for each element) with one factor for the whole tensor, a signal estimated without bias, and c of an infinitely long
    average. The slow factor is related to Pflug's test (1990): in a stationary state gradients oppose the steps before.

    A tensor whose gradient is not finite (or whose squared norm overflows) is left out of that step entirely: neither
    the parameter nor its state changes, weight decay included; of a group that measures as a whole, the other tensors
    go on. On a GPU this costs no host synchronization (but with foreach=False); a step can be captured in a CUDA graph
    after a first one, with lr a 0-dim tensor on the device where it is to change between replays, and again after the
    state was loaded or other parameters have had gradients, since that moves the state. Under `torch.compile` a step
    runs as it is: there is nothing left that a compiler could join.

    To log: `state[p]["lr_scale"]` (γ), `["slow_scale"]` (a), `["momentum"]` (β'), `["noise"]` (N) and `["signal"]` (S,
    so negative where iterates oscillate) are 0-dim tensors on the parameter's device (of its shape, by element).

    Args:
        params: parameters or groups of them; every argument below may also be given per group. float32 or float64 only:
            under mixed precision keep the parameters in float32 and use autocast, with a GradScaler for float16.
        lr: learning rate, a number or a 0-dim tensor.
        momentum_min: β_min, lower bound of the momentum.
        momentum_max: β_max, upper bound of the momentum. Equal bounds switch momentum control off.
        rho: ρ, decay of the variance averages.
        sigma: σ, decay of the signal average.
        power: p, how sharply the learning rate falls with noise; 0 switches that off.
        gamma_min: γ_min, lower bound of the fast factor; 1 switches it off.
        pace: η, how fast the learning rate follows the slow factor a; 0 switches that off.
        tau: τ, how many standard deviations an innovation may be before it is scaled down; None: no guard.
        q: normalization by the element-wise variance: 1 divides by its root, 0 by nothing (and leaves φ and ε out).
        floor: φ; where a gradient stops changing, a step ends at lr·a/φ instead of growing without bound.
        eps: ε, least standard deviation of a gradient element; from 1e-18 on, which float32 can still square.
        granularity: "tensor", "element" (eight more numbers for each, and slower) or "group".
        weight_decay: decoupled, as in AdamW.
        maximize: ascend instead of descend.
        foreach: work on lists of tensors (True), on one tensor at a time (False), or (None) what is fastest: on a GPU
            kernels of Triton where it works, for contiguous tensors that each measure for themselves, and else lists;
            on a CPU, small tensors end to end and large ones one at a time. By element, there is one way only.

    Raises ValueError for an argument out of its range, TypeError for parameters of another precision or complex ones,
    RuntimeError for sparse gradients.

    Source: the paper, section 3.2, for the aim. Normalization: AdaBelief; the factor γ: M-SVAG.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-2,
        *,
        momentum_min: float = 0.85,
        momentum_max: float = 0.96,
        rho: float = 0.99,
        sigma: float = 0.98,
        power: float = 1.5,
        gamma_min: float = 0.05,
        pace: float = 1.0,
        tau: float | None = 2.5,
        q: float = 1.0,
        floor: float = 0.1,
        eps: float = 1e-8,
        granularity: str = "tensor",
        weight_decay: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum_min": momentum_min,
            "momentum_max": momentum_max,
            "rho": rho,
            "sigma": sigma,
            "power": power,
            "gamma_min": gamma_min,
            "pace": pace,
            "tau": tau,
            "q": q,
            "floor": floor,
            "eps": eps,
            "granularity": granularity,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
        }
        _check(defaults)
        self._buckets: dict[int, tuple[list[int], list[Bucket]]] = {}  # by group: of which parameters, and what
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._buckets = {}
        for group in self.param_groups:  # a checkpoint older than an argument gets this optimizer's value for it
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _check(group)
            for parameter in group["params"]:
                if parameter.is_complex():
                    raise TypeError("GVCO: complex parameters are not supported; pass torch.view_as_real(parameter)")
                if parameter.dtype not in (torch.float32, torch.float64):
                    raise TypeError(f"GVCO: params must be float32 or float64 (use autocast), got {parameter.dtype}")
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

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
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p.grad is not None and p.numel()]
            if any(p.grad.layout != torch.strided for p in params):
                raise RuntimeError("GVCO: sparse gradients are not supported; use sparse=False in the layer")
            for bucket in self._buckets_of(index, params):
                bucket.step(group)
        return loss

    def _buckets_of(self, index: int, params: Tensors) -> list[Bucket]:
        """The parameters of a group that have a gradient, by device and precision."""
        group = self.param_groups[index]
        now = [group["granularity"], group["foreach"], *map(id, params)]
        before, buckets = self._buckets.get(index, ([], []))
        if before != now or not all(bucket.holds(self.state) for bucket in buckets):
            kinds: dict[tuple[torch.device, torch.dtype], Tensors] = {}
            for parameter in params:
                kinds.setdefault((parameter.device, parameter.dtype), []).append(parameter)
            buckets = [Bucket(kind, self.state, group) for kind in kinds.values()]
            self._buckets[index] = now, buckets
        return buckets


def _check(hyper: Hyper) -> None:
    check_limits(limits.GVCO, hyper, "GVCO: ")
    if hyper["momentum_min"] > hyper["momentum_max"]:
        most = hyper["momentum_max"]
        raise ValueError(f"GVCO: momentum_min must be at most momentum_max={most!r}, got {hyper['momentum_min']!r}")
