"""One GVCO step as functions of tensors: norms, the controls that follow from them, then the update."""

# pyright: reportUnknownMemberType=false
# (torch.linalg and torch.from_numpy are not annotated)

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from hqcnn_lab.torch_private import (
    foreach_add_,
    foreach_addcdiv_,
    foreach_addcmul_,
    foreach_lerp_,
    foreach_mul_,
    foreach_norm,
    foreach_pow,
    foreach_sqrt,
    foreach_sub,
    foreach_sub_,
)

Tensors = list[Tensor]
Hyper = Mapping[str, Any]  # a parameter group
Array = Any  # a torch tensor or a numpy array

# The scalars kept for each tensor (or element). They are the rows of one table per bucket of tensors, so that a step
# updates all of them in a handful of vector operations; `state[p][name]` is a view of p's column.
ROWS = ("steps", "mean_weight", "variance_weight", "noise", "signal", "momentum", "slow_scale", "lr_scale")

SLOW = (0.01, 4.0)  # what the slow control may make of the learning rate
ARMED = 10  # steps before the guard may act: until then N is the mean of a few squares


class Controls(NamedTuple):
    """What a step does to each tensor; all such that one with a non-finite gradient stays as it is."""

    finite: Array
    guard: Array  # d ← guard · d
    mean_rate: Array  # m̂ ← m̂ + mean_rate · d
    variance_rate: Array  # ŝ ← ŝ + variance_rate · ((d + φ m̂)² + ε² − ŝ)
    step_size: Array  # lr · γ
    keep: Array  # 1 − lr · a · weight decay


Begun = tuple[Tensor, Callable[[Controls], None]]
"""The norms `[3, n]` of a step's gradients, means and innovations; and what finishes it, in place."""


def take_step(begun: list[Begun], table: Tensor, sizes: Tensor, hyper: Hyper) -> None:
    """Finish steps that have begun, with controls computed for all of their tensors together.

    Changes `table`, a column of `ROWS` for each tensor (or element) in their order, and what the steps were begun with.
    """
    norms = torch.cat([norms for norms, _ in begun], dim=1) if len(begun) > 1 else begun[0][0]
    now, start = control_on(table, norms, sizes, hyper), 0
    for norms, finish in begun:
        finish(Controls(*(values[start : start + norms.shape[1]] for values in now)))
        start += norms.shape[1]


def begin_list(params: Tensors, grads: Tensors, means: Tensors, variances: Tensors, hyper: Hyper) -> Begun:
    """A step in which each operation is over all tensors at once; on a GPU it never waits for the device."""
    innovations = foreach_sub(grads, means)

    def finish(now: Controls) -> None:
        now, squares = Controls(*map(torch.as_tensor, now)), innovations
        on_cpu = now.guard.device.type == "cpu"  # to ask a GPU would make it wait, so there the repair always runs
        if not (on_cpu and bool(now.finite.all())):
            squares = [torch.where(ok, d, 0.0) for ok, d in zip(now.finite, squares, strict=True)]
        if not (on_cpu and bool((now.guard == 1).all())):
            foreach_mul_(squares, now.guard.unbind())
        foreach_addcmul_(means, squares, now.mean_rate.unbind())
        if floor := _floor(hyper):
            foreach_add_(squares, means, alpha=floor)
        foreach_mul_(squares, squares)
        foreach_add_(squares, hyper["eps"] ** 2)
        foreach_lerp_(variances, squares, now.variance_rate.unbind())
        if hyper["weight_decay"]:
            foreach_mul_(params, now.keep.unbind())
        if not hyper["q"]:
            foreach_addcmul_(params, means, now.step_size.neg().unbind())
            return
        divisors = foreach_sqrt(variances) if hyper["q"] == 1 else foreach_pow(variances, hyper["q"] / 2)
        if on_cpu:
            foreach_addcdiv_(params, means, divisors, now.step_size.neg())
        else:  # where there is no step to take, the divisor becomes infinite
            foreach_mul_(divisors, now.step_size.reciprocal().unbind())
            foreach_addcdiv_(params, means, divisors, value=-1.0)

    return torch.stack(foreach_norm([*grads, *means, *innovations])).view(3, -1), finish


def begin_alone(
    params: Tensors, grads: Tensors, means: Tensors, variances: Tensors, scratch: Tensors, hyper: Hyper
) -> Begun:
    """The same step, one tensor after the other: one of moderate size stays in the cache all the way.

    `scratch` has a tensor like each parameter, all in the same memory. New memory would cost more than the computing.
    """
    norm = cast("Callable[[Tensor], Tensor]", torch.linalg.vector_norm)
    norms: Tensors = []
    for grad, mean, innovation in zip(grads, means, scratch, strict=True):
        norms += [norm(grad), norm(mean), norm(torch.sub(grad, mean, out=innovation))]
    floor = _floor(hyper)

    def finish(now: Controls) -> None:
        columns = zip(*(values.tolist() for values in now), strict=True)
        tensors = zip(params, grads, means, variances, scratch, strict=True)
        for (parameter, grad, mean, variance, innovation), column in zip(tensors, columns, strict=True):
            finite, guard, mean_rate, variance_rate, step_size, keep = column
            if not finite:
                continue
            if guard == 1:  # d + φ m̂ is stretch · g − (stretch − φ) · m̂_prev then: two passes over memory less
                stretch = 1 + floor * mean_rate
                floored = torch.sub(grad, mean, alpha=1 - floor / stretch, out=innovation)
                mean.lerp_(grad, mean_rate)
            else:
                stretch = 1.0
                mean.add_(torch.sub(grad, mean, out=innovation).mul_(guard), alpha=mean_rate)
                floored = innovation.add_(mean, alpha=floor)
            added = torch.tensor(variance_rate * hyper["eps"] ** 2, dtype=variance.dtype)
            torch.add(added, variance, alpha=1 - variance_rate, out=variance)  # a product and a sum in one pass
            variance.addcmul_(floored, floored, value=variance_rate * stretch * stretch)
            if hyper["weight_decay"]:
                parameter.mul_(keep)
            if not hyper["q"]:
                parameter.sub_(mean, alpha=step_size)
                continue
            divisor = torch.sqrt(variance, out=innovation) if hyper["q"] == 1 else variance.pow(hyper["q"] / 2)
            parameter.addcdiv_(mean, divisor, value=-step_size)

    return torch.stack(norms).view(-1, 3).T, finish


def begin_end_to_end(params: Tensors, grads: Tensors, mean: Tensor, variance: Tensor, hyper: Hyper) -> Begun:
    """The same step on tensors laid end to end, as `mean` and `variance` are.

    For controls by element, and on a CPU for tensors so small that calls for each cost more than what they compute.
    """
    grad, lengths = torch.cat([g.reshape(-1) for g in grads]), [p.numel() for p in params]
    innovation = grad - mean
    norms = torch.stack([grad, mean, innovation])
    if by_tensor := hyper["granularity"] != "element":
        starts = np.cumsum([0, *lengths[:-1]])
        with np.errstate(all="ignore"):  # a sum that overflows makes a step that is not taken
            norms = torch.from_numpy(np.add.reduceat(norms.square_().numpy(), starts, axis=1)).sqrt_()
    else:
        norms.abs_()

    def finish(now: Controls) -> None:
        values = (np.repeat(np.asarray(column), lengths) for column in now) if by_tensor else now
        finite, guard, mean_rate, variance_rate, step_size, keep = map(torch.as_tensor, values)
        d = torch.where(finite, innovation * guard, 0.0)
        mean.addcmul_(d, mean_rate)
        square = d.add_(mean, alpha=_floor(hyper)).square_().add_(hyper["eps"] ** 2)
        variance.lerp_(square, variance_rate)
        step = mean * step_size
        if hyper["q"]:
            step.div_(variance.sqrt() if hyper["q"] == 1 else variance.pow(hyper["q"] / 2))
        if hyper["weight_decay"]:
            foreach_mul_(params, _split(keep, params))
        foreach_sub_(params, _split(step, params))

    return norms, finish


def _floor(hyper: Hyper) -> float:
    return hyper["floor"] if hyper["q"] else 0.0  # it is the divisor's


def _split(flat: Tensor, like: Tensors) -> Tensors:
    parts = torch.split(flat, [t.numel() for t in like])
    return [part if t.ndim == 1 else part.view(t.shape) for part, t in zip(parts, like, strict=True)]


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
    steps, mean_weight, variance_weight, noise, signal, momentum, slow, _ = table
    powers = norms * norms / sizes
    reach = norms.sum(0) * (1 + hyper["floor"])  # at least the size of everything that is going to be squared
    finite = xp.isfinite(reach * reach)
    if hyper["granularity"] == "group":
        share = xp.where(finite, sizes, 0.0)
        share = share / share.sum().clip(1.0, None)
        pooled = (xp.where(finite, powers, 0.0) * share).sum(1)
        grad_power, mean_power, power = pooled[:, None] + xp.zeros_like(powers)
    else:
        grad_power, mean_power, power = powers

    tau = math.inf if hyper["tau"] is None else hyper["tau"]
    # With N = 0 (no gradient so far, a dead unit) the guard would keep d at 0 from then on.
    armed = (steps >= ARMED) & (noise > 0) & (tau < math.inf)
    guard = xp.where(armed, tau * xp.sqrt(noise / power), 1.0).clip(None, 1.0)
    # ⟨m̂ + d, m̂⟩/n from three norms, because norms are the fastest reduction:
    # 2⟨d, m̂⟩ = |g|² − |m̂|² − |d|² before the guard.
    overlap = mean_power + guard * (grad_power - mean_power - power) / 2

    # Bias-corrected averages, x ← x + rate · (new − x).
    rho, sigma = hyper["rho"], hyper["sigma"]
    mean_weight = momentum * mean_weight + (1 - momentum)
    variance_weight = rho * variance_weight + (1 - rho)
    mean_rate, variance_rate = (1 - momentum) / mean_weight, (1 - rho) / variance_weight
    noise = noise + variance_rate * (power * guard * guard - noise)
    signal = sigma * signal + (1 - sigma) * overlap  # not corrected: none until there is evidence

    tiny = xp.finfo(table.dtype).tiny
    positive = signal.clip(0.0, None)
    left_in_mean = noise * (1 - momentum) / (1 + momentum)
    agreement = signal / (xp.abs(signal) + left_in_mean).clip(tiny, None)  # −1: oscillation … 1: all the same way
    slow = (slow * xp.exp(hyper["pace"] / xp.sqrt(steps + 1) * agreement)).clip(*SLOW)
    lr_scale = slow * (agreement.clip(0.0, None) ** hyper["power"]).clip(hyper["gamma_min"], 1.0)
    momentum = (1 - xp.sqrt(positive / noise.clip(tiny, None))).clip(hyper["momentum_min"], hyper["momentum_max"])

    new = [steps + 1, mean_weight, variance_weight, noise, signal, momentum, slow, lr_scale]
    table[:] = xp.where(finite, xp.stack(new), table)
    decay = lr * slow * hyper["weight_decay"]
    factors = xp.stack([guard, mean_rate, variance_rate, lr * lr_scale, decay])
    guard, mean_rate, variance_rate, step_size, decay = xp.where(finite, factors, 0.0)
    return Controls(finite, guard, mean_rate, variance_rate, step_size, 1 - decay)
