"""One GVCO step as functions of tensors: the controls, then the update by list, by tensor or by element."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Tensors = list[Tensor]
Hyper = Mapping[str, Any]  # a parameter group
Array = Any  # a torch tensor or a numpy array

# The scalars kept for each tensor (or element). They are the rows of one table per bucket of tensors, so that a step
# updates all of them in a handful of vector operations; `state[p][name]` is a view of p's column.
ROWS = ("steps", "mean_weight", "variance_weight", "noise", "signal", "momentum", "lr_scale")

GRANULARITIES = ("tensor", "element", "group")

_ARMED = 10  # steps before the guard may act: until then N is the mean of a few squares


class Controls(NamedTuple):
    """What a step does to each tensor; all such that one with a non-finite gradient stays as it is."""

    finite: Array
    guard: Array  # d ← guard · d
    mean_rate: Array  # m̂ ← m̂ + mean_rate · d
    variance_rate: Array  # ŝ ← ŝ + variance_rate · ((d + φ m̂)² − ŝ)
    step_size: Array  # lr · γ
    keep: Array  # 1 − lr · weight decay


def step_foreach(
    params: Tensors, grads: Tensors, means: Tensors, variances: Tensors, table: Tensor, sizes: Tensor, hyper: Hyper
) -> None:
    """One step, each operation over all tensors at once. Changes params, means, variances and table in place."""
    innovations = torch._foreach_sub(grads, means)
    norms = torch.stack(torch._foreach_norm([*grads, *means, *innovations])).view(3, -1)
    now = Controls(*map(torch.as_tensor, control_on(table, norms, sizes, hyper)))
    # Asking a GPU would stall it: there the repair always runs.
    asks = table.device.type == "cpu"
    if not (asks and bool(now.finite.all())):
        innovations = [torch.where(ok, d, 0.0) for ok, d in zip(now.finite, innovations, strict=True)]
    if not (asks and bool((now.guard == 1).all())):
        torch._foreach_mul_(innovations, now.guard.unbind())
    torch._foreach_addcmul_(means, innovations, now.mean_rate.unbind())
    if hyper["q"] and hyper["floor"]:
        torch._foreach_add_(innovations, means, alpha=hyper["floor"])
    torch._foreach_mul_(innovations, innovations)
    torch._foreach_lerp_(variances, innovations, now.variance_rate.unbind())
    if hyper["weight_decay"]:
        torch._foreach_mul_(params, now.keep.unbind())
    if not hyper["q"]:
        torch._foreach_addcmul_(params, means, now.step_size.neg().unbind())
        return
    divisors = torch._foreach_sqrt(variances) if hyper["q"] == 1 else torch._foreach_pow(variances, hyper["q"] / 2)
    torch._foreach_add_(divisors, hyper["eps"])
    if asks:
        torch._foreach_addcdiv_(params, means, divisors, now.step_size.neg())
    else:
        torch._foreach_mul_(divisors, now.step_size.reciprocal().unbind())  # infinite where there is no step to take
        torch._foreach_addcdiv_(params, means, divisors, value=-1.0)


def step_plain(
    params: Tensors, grads: Tensors, means: Tensors, variances: Tensors, table: Tensor, sizes: Tensor, hyper: Hyper
) -> None:
    """The same step, one tensor after the other: one of moderate size stays in the cache all the way."""
    norm = torch.linalg.vector_norm
    norms = torch.stack([norm(t) for g, m in zip(grads, means, strict=True) for t in (g, m, g - m)])
    columns = zip(*(row.tolist() for row in control_on(table, norms.view(-1, 3).T, sizes, hyper)), strict=True)
    for parameter, grad, mean, variance, column in zip(params, grads, means, variances, columns, strict=True):
        finite, guard, mean_rate, variance_rate, step_size, keep = column
        if not finite:
            continue
        innovation = grad - mean
        if guard != 1:
            innovation.mul_(guard)
        mean.add_(innovation, alpha=mean_rate)
        if hyper["q"] and hyper["floor"]:
            innovation.add_(mean, alpha=hyper["floor"])
        variance.lerp_(innovation.mul_(innovation), variance_rate)
        if hyper["weight_decay"]:
            parameter.mul_(keep)
        if not hyper["q"]:
            parameter.sub_(mean, alpha=step_size)
            continue
        divisor = torch.sqrt(variance, out=innovation) if hyper["q"] == 1 else variance.pow(hyper["q"] / 2)
        parameter.addcdiv_(mean, divisor.add_(hyper["eps"]), value=-step_size)


def step_elementwise(
    params: Tensors, grads: Tensors, means: Tensors, variances: Tensors, table: Tensor, sizes: Tensor, hyper: Hyper
) -> None:
    """The same step with controls of its own for each element: `table` has a column for every one of them."""
    parameter, grad, mean, variance = (
        torch.cat([t.reshape(-1) for t in ts]) for ts in (params, grads, means, variances)
    )
    norms = torch.stack([grad, mean, grad - mean]).abs_()
    now = Controls(*map(torch.as_tensor, control_on(table, norms, sizes, hyper)))
    innovation = torch.where(now.finite, (grad - mean) * now.guard, 0.0)
    mean = mean + innovation * now.mean_rate
    floored = innovation + hyper["floor"] * mean if hyper["q"] else innovation
    variance = torch.lerp(variance, floored.square(), now.variance_rate)
    divisor = variance.pow(hyper["q"] / 2) + hyper["eps"] if hyper["q"] else 1.0
    parameter = parameter * now.keep - mean * now.step_size / divisor
    for targets, values in ((params, parameter), (means, mean), (variances, variance)):
        parts = values.split([t.numel() for t in targets])
        for target, part in zip(targets, parts, strict=True):
            target.copy_(part.view(target.shape))


def control_on(table: Tensor, norms: Tensor, sizes: Tensor, hyper: Hyper) -> Controls:
    """`control` by NumPy where the memory can be shared: its operations on a few numbers cost a third of torch's."""
    if table.device.type != "cpu":
        return control(torch, table, norms, sizes, hyper["lr"], hyper)
    with np.errstate(all="ignore"):
        return control(np, table.numpy(), norms.numpy(), sizes.numpy(), float(hyper["lr"]), hyper)


def control(xp: Any, table: Array, norms: Array, sizes: Array, lr: float | Tensor, hyper: Hyper) -> Controls:
    """Update the table `[len(ROWS), n]` by the norms `[3, n]` of gradient, mean and innovation; say what to do.

    `xp` is the module whose arrays these are, torch or numpy.
    """
    steps, mean_weight, variance_weight, noise, signal, momentum, _ = table
    powers = norms * norms / sizes
    finite = xp.isfinite(powers.sum(0))
    if hyper["granularity"] == "group":
        share = xp.where(finite, sizes, 0.0)
        share = share / share.sum().clip(1.0, None)
        pooled = (xp.where(finite, powers, 0.0) * share).sum(1)
        grad_power, mean_power, power = pooled[:, None] + xp.zeros_like(powers)
    else:
        grad_power, mean_power, power = powers

    tau = math.inf if hyper["tau"] is None else hyper["tau"]
    # With N = 0 (no gradient so far, a dead unit) the guard would hold d at 0 for ever.
    armed = (steps >= _ARMED) & (noise > 0) & (tau < math.inf)
    guard = xp.where(armed, tau * xp.sqrt(noise / power), 1.0).clip(None, 1.0)
    # ⟨m̂ + d, m̂⟩/n out of three norms, the fastest reduction: 2⟨d, m̂⟩ = |g|² − |m̂|² − |d|² before the guard.
    overlap = mean_power + guard * (grad_power - mean_power - power) / 2

    # Bias-corrected averages, x ← x + rate · (new − x).
    rho, sigma = hyper["rho"], hyper["sigma"]
    mean_weight = momentum * mean_weight + (1 - momentum)
    variance_weight = rho * variance_weight + (1 - rho)
    mean_rate, variance_rate = (1 - momentum) / mean_weight, (1 - rho) / variance_weight
    noise = noise + variance_rate * (power * guard * guard - noise)
    signal = sigma * signal + (1 - sigma) * overlap  # not corrected: none until there is evidence

    tiny = xp.finfo(table.dtype).tiny
    found = signal.clip(0.0, None)
    left_in_mean = noise * (1 - momentum) / (1 + momentum)
    lr_scale = (found / (found + left_in_mean).clip(tiny, None)) ** hyper["power"]
    lr_scale = lr_scale.clip(hyper["gamma_min"], 1.0)
    momentum = (1 - xp.sqrt(found / noise.clip(tiny, None))).clip(hyper["momentum_min"], hyper["momentum_max"])

    new = [steps + 1, mean_weight, variance_weight, noise, signal, momentum, lr_scale]
    table[:] = xp.where(finite, xp.stack(new), table)
    decay = xp.zeros_like(guard) + lr * hyper["weight_decay"]
    factors = xp.stack([guard, mean_rate, variance_rate, lr * lr_scale, decay])
    guard, mean_rate, variance_rate, step_size, decay = xp.where(finite, factors, 0.0)
    return Controls(finite, guard, mean_rate, variance_rate, step_size, 1 - decay)
