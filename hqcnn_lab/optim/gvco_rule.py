"""One GVCO step as functions of tensors: norms, what follows from them for each tensor, then the update."""

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
    foreach_addcmul_,
    foreach_div_,
    foreach_lerp_,
    foreach_mul,
    foreach_mul_,
    foreach_norm,
    foreach_sqrt,
    foreach_sub,
    foreach_sub_,
)

Tensors = list[Tensor]
Hyper = Mapping[str, Any]  # a parameter group
Array = Any  # a torch tensor or a numpy array

# The numbers kept for each tensor. They are the rows of one table per bucket of tensors, so that a step updates all of
# them in a handful of vector operations; `state[p][name]` is a view of p's column.
ROWS = ("steps", "noise", "rate", "peak_rate", "weight_sum", "average_weight")

ARMED = 10  # steps before the guard may act: until then N is the mean of a few squares
MEAN_MEMORY = 0.9  # decay of the mean gradient
NOISE_MEMORY = 0.99  # decay of N


class Controls(NamedTuple):
    """What a step does to each tensor; all such that one with a non-finite gradient stays as it is."""

    guard: Array  # d ← guard · d
    mean_rate: Array  # m ← m + mean_rate · d
    variance_rate: Array  # v ← v + variance_rate · (e² − v)
    rate: Array  # z ← z − rate · u
    pull: Array  # y ← y + pull · (z − y) − drift · u, both as they were
    drift: Array
    finite: Array


Begun = tuple[Tensor, Callable[[Controls], None]]
"""The norms `[3, n]` of a step's gradients, innovations and parameters; and what finishes it, in place."""


def take_step(begun: list[Begun], table: Tensor, sizes: Tensor, hyper: Hyper) -> None:
    """Finish steps that have begun, with controls computed for all of their tensors together.

    Changes `table`, a column of `ROWS` for each tensor in their order, and what the steps were begun with.
    """
    norms = torch.cat([norms for norms, _ in begun], dim=1) if len(begun) > 1 else begun[0][0]
    now, start = control_on(table, norms, sizes, hyper), 0
    for norms, finish in begun:
        finish(Controls(*(values[start : start + norms.shape[1]] for values in now)))
        start += norms.shape[1]


def begin_list(
    params: Tensors, grads: Tensors, bolds: Tensors, means: Tensors, variances: Tensors, hyper: Hyper
) -> Begun:
    """A step in which each operation is over all tensors at once; on a GPU it never waits for the device."""
    innovations = foreach_sub(grads, means)

    def finish(now: Controls) -> None:
        now, steps = Controls(*map(torch.as_tensor, now)), innovations
        if now.guard.device.type != "cpu" or not bool(now.finite.all()):  # to ask a GPU would make it wait
            steps = [torch.where(ok, d, 0.0) for ok, d in zip(now.finite, steps, strict=True)]
        foreach_mul_(steps, now.guard.unbind())
        squares = foreach_mul(means, 1 - hyper["centering"])
        foreach_add_(squares, steps)
        foreach_mul_(squares, squares)
        foreach_lerp_(variances, squares, now.variance_rate.unbind())
        foreach_add_(steps, means)  # the gradients, guarded
        foreach_lerp_(means, steps, now.mean_rate.unbind())
        divisors = foreach_sqrt(variances)
        foreach_add_(divisors, hyper["eps"])
        foreach_div_(steps, divisors)
        if hyper["weight_decay"]:
            foreach_add_(steps, params, alpha=hyper["weight_decay"])
        foreach_lerp_(params, bolds, now.pull.unbind())
        foreach_addcmul_(params, steps, now.drift.neg().unbind())
        foreach_addcmul_(bolds, steps, now.rate.neg().unbind())

    return torch.stack(foreach_norm([*grads, *innovations, *params])).view(3, -1), finish


def begin_alone(
    params: Tensors,
    grads: Tensors,
    bolds: Tensors,
    means: Tensors,
    variances: Tensors,
    scratch: Tensors,
    hyper: Hyper,
) -> Begun:
    """The same step, one tensor after the other: one of moderate size stays in the cache all the way.

    `scratch` has a tensor like each parameter, all in the same memory. New memory would cost more than the computing.
    """
    norm = cast("Callable[[Tensor], Tensor]", torch.linalg.vector_norm)
    norms: Tensors = []
    for param, grad, mean, innovation in zip(params, grads, means, scratch, strict=True):
        norms += [norm(grad), norm(torch.sub(grad, mean, out=innovation)), norm(param)]
    centering, eps, decay = hyper["centering"], hyper["eps"], hyper["weight_decay"]

    def finish(now: Controls) -> None:
        columns = zip(*(values.tolist() for values in now), strict=True)
        tensors = zip(params, grads, bolds, means, variances, scratch, strict=True)
        for (param, grad, bold, mean, variance, free), column in zip(tensors, columns, strict=True):
            guard, mean_rate, variance_rate, rate, pull, drift, finite = column
            if not finite:
                continue
            if guard != 1:
                grad = torch.lerp(mean, grad, guard)
            square = torch.sub(grad, mean, alpha=centering, out=free)
            variance.mul_(1 - variance_rate).addcmul_(square, square, value=variance_rate)
            mean.lerp_(grad, mean_rate)
            divisor = torch.sqrt(variance, out=free).add_(eps)
            if decay:
                direction = torch.div(grad, divisor, out=free).add_(param, alpha=decay)
                param.lerp_(bold, pull).sub_(direction, alpha=drift)
                bold.sub_(direction, alpha=rate)
            else:  # two passes over memory less
                param.lerp_(bold, pull).addcdiv_(grad, divisor, value=-drift)
                bold.addcdiv_(grad, divisor, value=-rate)

    return torch.stack(norms).view(-1, 3).T, finish


def begin_end_to_end(
    params: Tensors, grads: Tensors, bold: Tensor, mean: Tensor, variance: Tensor, hyper: Hyper
) -> Begun:
    """The same step on tensors laid end to end, as `bold`, `mean` and `variance` are.

    For tensors so small that on a CPU calls for each cost more than what they compute.
    """
    lengths = [p.numel() for p in params]
    rows = torch.empty(3, len(mean), dtype=mean.dtype)
    gradient, step, value = rows
    torch.cat([g.reshape(-1) for g in grads], out=gradient)
    torch.cat([p.reshape(-1) for p in params], out=value)
    torch.sub(gradient, mean, out=step)
    with np.errstate(all="ignore"):  # a sum that overflows makes a step that is not taken
        starts = np.cumsum([0, *lengths[:-1]])
        norms = torch.from_numpy(np.add.reduceat(rows.square().numpy(), starts, axis=1)).sqrt_()

    def finish(now: Controls) -> None:
        spread = torch.from_numpy(np.repeat(np.stack(now[:-1]), lengths, axis=1))
        guard, mean_rate, variance_rate, rate, pull, drift = spread
        step.mul_(guard)
        if not now.finite.all():
            step[torch.from_numpy(np.repeat(~now.finite, lengths))] = 0.0
        variance.lerp_(torch.add(step, mean, alpha=1 - hyper["centering"]).square_(), variance_rate)
        direction = step.add_(mean)
        mean.lerp_(direction, mean_rate)
        direction.div_(variance.sqrt().add_(hyper["eps"]))
        if hyper["weight_decay"]:
            direction.add_(value, alpha=hyper["weight_decay"])
        value.sub_(bold).mul_(pull).addcmul_(direction, drift)
        bold.addcmul_(direction, rate, value=-1.0)
        foreach_sub_(params, _split(value, params))

    return norms, finish


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
    """Update the table `[len(ROWS), n]` by the norms `[3, n]` of gradient, innovation and parameter; say
    what to do.

    `xp` is the module whose arrays these are, torch or numpy.
    """
    steps, noise, _, peak, weight_sum, _ = table
    finite = xp.isfinite(
        16 * norms[0] * norms[0]
    )  # m lies among gradients: nothing that is squared is 4 times as large
    power = norms[1] * norms[1] / sizes
    steps = steps + 1

    tau = math.inf if hyper["tau"] is None else hyper["tau"]
    # With N = 0 (no gradient so far, a dead unit) the guard would keep d at 0 from then on.
    armed = (steps > ARMED) & (noise > 0) & (tau < math.inf)
    guard = xp.where(armed, tau * xp.sqrt(noise / power), 1.0).clip(None, 1.0)
    noise = noise + _rate(xp, NOISE_MEMORY, steps) * (power * guard * guard - noise)

    rate = lr * xp.ones_like(steps)
    if hyper["walk"] is not None:
        furthest = hyper["walk"] / xp.sqrt(steps)
        rate = xp.where(furthest < rate, furthest, rate)
    rate = rate * (steps / max(hyper["warmup"], 1)).clip(None, 1.0)
    if hyper["least_size"] is not None:
        rate = rate * (norms[2] / xp.sqrt(sizes)).clip(hyper["least_size"], None)
    peak = xp.where(rate > peak, rate, peak)
    weight = steps ** hyper["recency"] * peak * peak
    weight_sum = weight_sum + weight
    average_weight = xp.where(weight_sum > 0, weight / weight_sum, 0.0)
    drift = rate * (1 - hyper["momentum"] * (1 - average_weight))

    table[:] = xp.where(finite, xp.stack([steps, noise, rate, peak, weight_sum, average_weight]), table)
    rates = [_rate(xp, MEAN_MEMORY, steps), _rate(xp, hyper["rho"], steps)]
    factors = xp.where(finite, xp.stack([guard, *rates, rate, average_weight, drift]), 0.0)
    guard, mean_rate, variance_rate, rate, average_weight, drift = factors
    return Controls(guard, mean_rate, variance_rate, rate, average_weight, drift, finite)


def _rate(xp: Any, memory: float, steps: Array) -> Array:
    """How far a bias-corrected average with this decay moves towards the newest value: 1 at the first."""
    if memory == 0:
        return xp.ones_like(steps)
    return -math.expm1(math.log(memory)) / -xp.expm1(math.log(memory) * steps)
