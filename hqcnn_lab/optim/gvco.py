"""The Gradient Variance-Controlled Optimizer: the class torch users hold, and the step as functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor

Tensors = list[Tensor]
Hyper = Mapping[str, Any]  # a parameter group

# The scalars kept for each tensor. They are the rows of one table per bucket of tensors, so that a step updates all of
# them in a handful of vector operations; `state[p][name]` is a 0-dim view of p's column.
ROWS = ("steps", "mean_weight", "variance_weight", "noise", "signal", "momentum", "lr_scale")


class GVCO(torch.optim.Optimizer):
    """Measure the gradient variance of each tensor and set its learning rate and momentum from it.

    *This is our reconstruction.* The paper says in words what GVCO does (section 3.2: conservative updates under high
    variance, bolder ones under low variance, no erratic steps), but its equations (section 3.9) are not public: whether
    the rule below is the authors' is not known.

    Use it where gradients are noisy and the noise differs between tensors or over time: circuits with few shots, small
    batches. Where noise is already averaged away (a quantum convolution on a large batch) it has little to control.
    Its lr is not Adam's: a typical value is about three times as large.

    For one tensor of n elements with gradient g, learning rate lr and mean gradient m̂ so far::

        d = g − m̂                                 innovation
        d = d · min(1, τ √N / rms(d))             erratic-gradient guard, after the warm-up, once N > 0
        ŝ = EMA_ρ[d²], bias-corrected             variance of each gradient element
        m = β m + (1 − β)(m̂ + d),  m̂ = m / w      w is m's bias weight
        N = mean(ŝ)                               noise power
        S = EMA_σ[⟨m̂_prev + d, m̂_prev⟩ / n]       signal power, not bias-corrected: no signal until there is evidence
        γ = clip[(S / (S + cN))^p, γ_min, 1]      learning-rate control, c = (1 − β)/(1 + β), S clipped at 0
        β' = clip[1 − κ √(S / N), β_min, β_max]   momentum control, for the next step; β_max at first
        θ = θ (1 − lr·wd) − lr · γ · m̂ / (ŝ^(q/2) + ε)

    A tensor whose gradient is not finite (or whose squared norm overflows) is left out of that step entirely: neither
    the parameter nor its state changes, weight decay included. On a GPU this costs no host synchronization.

    To log: `state[p]["lr_scale"]` (γ), `["momentum"]` (β'), `["noise"]` (N) and `["signal"]` (S before it is clipped at
    0, so negative when iterates oscillate) are 0-dim tensors on the parameter's device, updated in place.

    Args:
        params: parameters or groups of them; every argument below may also be given per group. float32 or float64 only:
            under mixed precision keep the parameters in float32 and use autocast.
        lr: learning rate.
        momentum_min: β_min, lower bound of the momentum.
        momentum_max: β_max, upper bound of the momentum. Equal bounds switch momentum control off.
        rho: ρ, decay of the variance average.
        sigma: σ, decay of the signal average.
        kappa: κ, strength of momentum control; 0 switches it off (momentum stays at `momentum_max`).
        power: p, how sharply the learning rate falls with noise; 0 switches that off.
        gamma_min: γ_min, lower bound of the learning-rate factor; 1 switches learning-rate control off.
        tau: τ, how many standard deviations an innovation may be before it is scaled down; None or inf: no guard.
        q: normalization by the element-wise variance: 1 divides by its root, 0 by nothing (and leaves ε out).
        eps: ε, added to the divisor.
        warmup: steps before the guard may act.
        weight_decay: decoupled, as in AdamW.
        maximize: ascend instead of descend.
        foreach: work on lists of tensors (None or True: faster), or on one tensor at a time (False: less memory).

    Source: the paper, section 3.2, for the aim. Normalization: AdaBelief (Zhuang et al. 2020); the factor γ: M-SVAG
    (Balles & Hennig 2018).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        *,
        momentum_min: float = 0.85,
        momentum_max: float = 0.96,
        rho: float = 0.99,
        sigma: float = 0.98,
        kappa: float = 1.0,
        power: float = 0.5,
        gamma_min: float = 0.35,
        tau: float | None = 2.5,
        q: float = 1.0,
        eps: float = 1e-8,
        warmup: int = 10,
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
            "kappa": kappa,
            "power": power,
            "gamma_min": gamma_min,
            "tau": tau,
            "q": q,
            "eps": eps,
            "warmup": warmup,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
        }
        _check(defaults)
        self._buckets: dict[tuple[int, torch.device, torch.dtype], _Bucket] = {}
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
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            by_kind: dict[tuple[int, torch.device, torch.dtype], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.layout != torch.strided:
                    raise RuntimeError("GVCO: sparse gradients are not supported; use sparse=False in the layer")
                by_kind.setdefault((index, parameter.device, parameter.dtype), []).append(parameter)
            take_step = gvco_plain if group["foreach"] is False else gvco_foreach
            for kind, params in by_kind.items():
                states = [self.state[p] for p in params]
                bucket = self._buckets.get(kind)
                if bucket is None or not bucket.holds(states):
                    bucket = self._buckets[kind] = _Bucket.gather(params, states, group)
                grads = [-p.grad if group["maximize"] else p.grad for p in params]
                take_step(params, grads, bucket.means, bucket.variances, bucket.table, bucket.sizes, group)
        return loss


@dataclass
class _Bucket:
    """The state of the tensors that step together, as lists and one table; `state[p]` holds the same memory."""

    means: list[Tensor]
    variances: list[Tensor]
    table: Tensor  # len(ROWS) × number of tensors
    sizes: Tensor
    noise: list[Tensor]

    @classmethod
    def gather(cls, params: list[Tensor], states: list[dict[str, Tensor]], group: Hyper) -> _Bucket:
        first = dict.fromkeys(ROWS, 0.0) | {"momentum": group["momentum_max"], "lr_scale": group["gamma_min"]}
        for parameter, state in zip(params, states, strict=True):
            for name in ("mean", "variance"):
                if name not in state:
                    state[name] = torch.zeros_like(parameter)
            for name in ROWS:
                if name not in state:
                    state[name] = parameter.new_full((), first[name])
        table = torch.stack([torch.stack([state[name] for state in states]) for name in ROWS])
        for row, name in zip(table, ROWS, strict=True):
            for scalar, state in zip(row.unbind(), states, strict=True):
                state[name] = scalar
        return cls(
            means=[state["mean"] for state in states],
            variances=[state["variance"] for state in states],
            table=table,
            sizes=table.new_tensor([max(p.numel(), 1) for p in params]),
            noise=[state["noise"] for state in states],
        )

    def holds(self, states: list[dict[str, Tensor]]) -> bool:
        # Not so once a checkpoint was loaded, the state moved to another device, or other parameters have gradients.
        return len(states) == len(self.noise) and all(map(is_, (s.get("noise") for s in states), self.noise))


def gvco_foreach(
    params: Tensors, grads: Tensors, means: Tensors, variances: Tensors, table: Tensor, sizes: Tensor, hyper: Hyper
) -> None:
    """One step, each operation over all tensors at once. Changes params, means, variances and table in place."""
    innovations = torch._foreach_sub(grads, means)
    norms = torch.stack(torch._foreach_norm([*grads, *means, *innovations])).view(3, -1)
    finite, guard, mean_rate, variance_rate, step_size, keep = _control(table, norms, sizes, hyper)
    if table.device.type != "cpu" or not finite.all():  # on a GPU asking would stall it: there the repair always runs
        innovations = [torch.where(ok, d, 0.0) for ok, d in zip(finite, innovations, strict=True)]
    torch._foreach_mul_(innovations, guard.unbind())
    torch._foreach_addcmul_(means, innovations, mean_rate.unbind())
    torch._foreach_mul_(innovations, innovations)
    torch._foreach_lerp_(variances, innovations, variance_rate.unbind())
    if hyper["weight_decay"]:
        torch._foreach_mul_(params, keep.unbind())
    if not hyper["q"]:
        torch._foreach_addcmul_(params, means, step_size.neg().unbind())
        return
    divisors = innovations  # the same memory: three fresh lists a step cost more in page faults than this copy
    torch._foreach_copy_(divisors, variances)
    torch._foreach_sqrt_(divisors) if hyper["q"] == 1 else torch._foreach_pow_(divisors, hyper["q"] / 2)
    torch._foreach_add_(divisors, hyper["eps"])
    torch._foreach_mul_(divisors, step_size.reciprocal().unbind())  # infinite where there is no step to take
    torch._foreach_addcdiv_(params, means, divisors, value=-1.0)


def gvco_plain(
    params: Tensors, grads: Tensors, means: Tensors, variances: Tensors, table: Tensor, sizes: Tensor, hyper: Hyper
) -> None:
    """The same step, one tensor after the other."""
    for i, (parameter, grad, mean, variance) in enumerate(zip(params, grads, means, variances, strict=True)):
        innovation = grad - mean
        norms = torch.stack([tensor.norm() for tensor in (grad, mean, innovation)])
        finite, guard, mean_rate, variance_rate, step_size, keep = _control(table[:, i], norms, sizes[i], hyper)
        innovation = torch.where(finite, innovation, 0.0) * guard
        mean.addcmul_(innovation, mean_rate)
        variance.lerp_(innovation.square(), variance_rate)
        if hyper["weight_decay"]:
            parameter.mul_(keep)
        divisor = variance.pow(hyper["q"] / 2).add_(hyper["eps"]) if hyper["q"] else 1.0
        parameter.sub_(mean * step_size / divisor)


def _control(table: Tensor, norms: Tensor, sizes: Tensor, hyper: Hyper) -> tuple[Tensor, ...]:
    """Update the table and return, per tensor: finite?, guard, rates of m̂ and ŝ, step size, weight-decay factor.

    All factors are such that a tensor with a non-finite gradient stays as it is. `table` is a matrix, or its column of
    one tensor.
    """
    steps, mean_weight, variance_weight, noise, signal, momentum, _ = table.unbind()
    grad_power, mean_power, power = norms.square().div_(sizes).unbind()
    finite = torch.isfinite(grad_power + mean_power + power)
    tiny, huge = torch.finfo(table.dtype).tiny, torch.finfo(table.dtype).max

    guard = torch.ones_like(power)
    if hyper["tau"] is not None and hyper["tau"] != math.inf:
        # With N = 0 (no gradient so far, a dead unit) the guard would hold d at 0 for ever.
        armed = (steps >= hyper["warmup"]) & (noise > 0)
        guard = torch.where(armed, (hyper["tau"] * (noise / power).sqrt()).clamp(max=1.0), guard)
    # ⟨m̂ + d, m̂⟩/n out of three norms, the fastest reduction: 2⟨d, m̂⟩ = |g|² − |m̂|² − |d|² before the guard.
    overlap = mean_power + guard * (grad_power - mean_power - power) / 2

    # m̂ ← m̂ + mean_rate · d and ŝ ← ŝ + variance_rate · (d² − ŝ) are the bias-corrected averages, written as increments.
    mean_weight = torch.lerp(torch.ones_like(momentum), mean_weight, momentum)
    mean_rate = (1 - momentum) / mean_weight
    variance_weight = hyper["rho"] * variance_weight + (1 - hyper["rho"])
    variance_rate = (1 - hyper["rho"]) / variance_weight
    noise = noise + variance_rate * (power * guard.square() - noise)  # the mean of ŝ, by the same recursion
    signal = hyper["sigma"] * signal + (1 - hyper["sigma"]) * overlap

    clipped = signal.clamp(min=0)
    share = (1 - momentum) / (1 + momentum)
    lr_scale = (clipped / (clipped + share * noise).clamp(min=tiny)).pow(hyper["power"]).clamp(hyper["gamma_min"], 1.0)
    ratio = (clipped / noise.clamp(min=tiny)).clamp(max=huge)  # finite, so that κ = 0 makes 0 of it
    momentum = (1 - hyper["kappa"] * ratio.sqrt()).clamp(hyper["momentum_min"], hyper["momentum_max"])

    new = torch.stack([steps + 1, mean_weight, variance_weight, noise, signal, momentum, lr_scale])
    table.copy_(torch.where(finite, new, table))
    decay = torch.full_like(guard, hyper["lr"] * hyper["weight_decay"])
    factors = torch.stack([guard, mean_rate, variance_rate, hyper["lr"] * lr_scale, decay])
    guard, mean_rate, variance_rate, step_size, decay = torch.where(finite, factors, 0.0).unbind()
    return finite, guard, mean_rate, variance_rate, step_size, 1 - decay


def _check(hyper: Hyper) -> None:
    def refuse_unless(allowed: bool, name: str, says: str) -> None:
        if not allowed:
            raise ValueError(f"GVCO: {name} must be {says}, got {hyper[name]!r}")

    for name in ("lr", "kappa", "power", "q", "warmup", "weight_decay"):
        refuse_unless(0 <= hyper[name] < math.inf, name, "finite and not negative")
    refuse_unless(0 < hyper["eps"] < math.inf, "eps", "finite and above 0")
    for name in ("rho", "sigma", "momentum_max"):
        refuse_unless(0 <= hyper[name] < 1, name, "in [0, 1)")
    refuse_unless(0 <= hyper["momentum_min"] <= hyper["momentum_max"], "momentum_min", "in [0, momentum_max]")
    refuse_unless(0 <= hyper["gamma_min"] <= 1, "gamma_min", "in [0, 1]")
    refuse_unless(hyper["tau"] is None or hyper["tau"] > 0, "tau", "above 0, or None for no guard")
