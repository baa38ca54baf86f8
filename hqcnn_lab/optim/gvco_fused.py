"""GVCO's step on a GPU in four launches, however many tensors there are: the rule of `gvco_rule`, as Triton kernels.

As operations of torch it takes dozens of launches, and on a network of usual size nothing else costs time.
"""

# pyright: basic, reportMissingImports=false, reportIndexIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Triton is not installed everywhere, and its annotations do not know how kernels are called)

from __future__ import annotations

import functools
import math
import warnings

import torch
import triton
import triton.language as tl
from torch import Tensor

from hqcnn_lab.optim.gvco_rule import ARMED, MEAN_MEMORY, NOISE_MEMORY, Hyper, Tensors

_BLOCK = 2048  # elements that one program works on; all of one tensor
# What the kernels read from the device, in this order: an argument of theirs would be rounded to single precision.
_HYPER = ("momentum", "rho", "centering", "tau", "least_size", "walk", "recency", "warmup", "eps", "weight_decay")
_LEFT_OUT = {"tau": math.inf, "least_size": math.nan, "walk": math.inf}


class FusedStep:
    """What steps the tensors of a bucket whose state lies end to end; see `gvco_rule` for the rest.

    Use it for contiguous tensors of one precision on one GPU. It never waits for the device and can be captured in a
    CUDA graph, unless the parameters have been moved since the step before.
    """

    def __init__(self, params: Tensors, bold: Tensor, mean: Tensor, variance: Tensor, table: Tensor) -> None:
        self.bold, self.mean, self.variance, self.table, self.params = bold, mean, variance, table, params
        blocks, first, begin = [], [0], 0
        for index, parameter in enumerate(params):
            n = parameter.numel()
            blocks += [(index, begin + at, at, min(_BLOCK, n - at)) for at in range(0, n, _BLOCK)]
            begin += n
            first.append(len(blocks))
        device = mean.device
        self.blocks, self.first = torch.tensor(blocks, device=device), torch.tensor(first, device=device)
        self.sizes = mean.new_tensor([p.numel() for p in params])
        self.sums, self.controls = mean.new_empty(3, len(blocks)), mean.new_empty(7, len(params))
        self.lr = mean.new_empty(())
        self.hyper, self.settings = mean.new_empty(len(_HYPER)), ()
        self.places, self.where = torch.empty(0), []

    def __call__(self, grads: Tensors, hyper: Hyper) -> None:
        """Change parameters and state in place."""
        if (settings := tuple(hyper[name] for name in _HYPER)) != self.settings:
            numbers = [_LEFT_OUT[name] if hyper[name] is None else float(hyper[name]) for name in _HYPER]
            self.settings, self.hyper = settings, self.hyper.new_tensor(numbers)
        if (where := [p.data_ptr() for p in self.params]) != self.where:
            self.places, self.where = torch.tensor(where, device=self.mean.device), where
        self.lr.copy_(hyper["lr"]) if isinstance(hyper["lr"], Tensor) else self.lr.fill_(hyper["lr"])
        grad = torch.cat([g.reshape(-1) for g in grads])
        n_blocks, n = len(self.blocks), len(self.params)
        with torch.cuda.device_of(grad):
            self._launch(grad, n_blocks, n)

    def _launch(self, grad: Tensor, n_blocks: int, n: int) -> None:
        _measure[(n_blocks,)](grad, self.mean, self.places, self.blocks, self.sums, n_blocks, _BLOCK)
        _control[(n,)](
            *(self.sums, self.first, self.sizes, self.table, self.controls, self.hyper, self.lr),
            *(n, n_blocks, ARMED, MEAN_MEMORY, NOISE_MEMORY, 512),
        )
        _update[(n_blocks,)](
            *(grad, self.bold, self.mean, self.variance, self.places, self.blocks, self.controls, self.hyper),
            *(n, _BLOCK),
        )


@functools.cache
def can_run(device: torch.device) -> bool:
    """Whether Triton can build and run a kernel for `device`: it needs a C compiler; where not, warn once."""
    try:
        tensor, bold, mean, variance, grad = torch.ones(5, 4, device=device)
        step = FusedStep([tensor], bold, mean, variance, torch.zeros(6, 1, device=device))
        step([grad], dict.fromkeys(_HYPER, 0.5) | {"lr": 0.0})
        torch.cuda.synchronize(device)
    except Exception as error:  # of compilers, drivers or Triton: of any kind
        why = str(error).strip().split("\n")[0][:120]
        warnings.warn(f"GVCO: Triton does not work here ({why}); steps take several times as long", stacklevel=2)
        return False
    return True


@triton.jit
def _measure(grad, mean, places, blocks, sums, n_blocks, BLOCK: tl.constexpr):
    """The sums of squares of gradient, innovation and parameter over each block."""
    block = tl.program_id(0)
    tensor, start = tl.load(blocks + 4 * block), tl.load(blocks + 4 * block + 1)
    within, count = tl.load(blocks + 4 * block + 2), tl.load(blocks + 4 * block + 3)
    i = tl.arange(0, BLOCK)
    inside = i < count
    m = tl.load(mean + start + i, mask=inside, other=0.0)
    g = tl.load(grad + start + i, mask=inside, other=0.0)
    parameter = tl.load(places + tensor).to(mean.dtype) + within + i
    value = tl.load(parameter, mask=inside, other=0.0)
    tl.store(sums + block, tl.sum(g * g))
    tl.store(sums + n_blocks + block, tl.sum((g - m) * (g - m)))
    tl.store(sums + 2 * n_blocks + block, tl.sum(value * value))


@triton.jit
def _control(
    sums,
    first,
    sizes,
    table,
    controls,
    hyper,
    lr,
    n,
    n_blocks,
    ARMED: tl.constexpr,
    MEAN_MEMORY: tl.constexpr,
    NOISE_MEMORY: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """`gvco_rule.control` for one tensor."""
    at = tl.program_id(0)
    low, high, size = tl.load(first + at), tl.load(first + at + 1), tl.load(sizes + at)
    j = tl.arange(0, CHUNK)
    g_sums = tl.zeros([CHUNK], size.dtype)
    d_sums = tl.zeros([CHUNK], size.dtype)
    p_sums = tl.zeros([CHUNK], size.dtype)
    for begin in range(low, high, CHUNK):
        k = begin + j
        g_sums += tl.load(sums + k, mask=k < high, other=0.0)
        d_sums += tl.load(sums + n_blocks + k, mask=k < high, other=0.0)
        p_sums += tl.load(sums + 2 * n_blocks + k, mask=k < high, other=0.0)
    power, own_size = tl.sum(d_sums) / size, tl.sqrt(tl.sum(p_sums) / size)

    momentum, rho, tau = tl.load(hyper), tl.load(hyper + 1), tl.load(hyper + 3)
    least_size, walk = tl.load(hyper + 4), tl.load(hyper + 5)
    recency, warmup = tl.load(hyper + 6), tl.load(hyper + 7)
    steps, noise = tl.load(table + at) + 1, tl.load(table + n + at)
    peak, weight_sum = tl.load(table + 3 * n + at), tl.load(table + 4 * n + at)

    finite = 16 * tl.sum(g_sums) < float("inf")
    armed = (steps > ARMED) & (noise > 0) & (tau < float("inf"))
    guard = tl.where(armed, tau * tl.sqrt(noise / power), 1.0)
    guard = tl.where(guard < 1, guard, 1.0)
    mean_rate = (1 - MEAN_MEMORY) / (1 - tl.exp(steps * tl.log(size * 0 + MEAN_MEMORY)))
    noise_rate = (1 - NOISE_MEMORY) / (1 - tl.exp(steps * tl.log(size * 0 + NOISE_MEMORY)))
    variance_rate = (1 - rho) / (1 - tl.exp(steps * tl.log(rho)))
    noise = noise + noise_rate * (power * guard * guard - noise)
    furthest = walk / tl.sqrt(steps)
    rate = tl.load(lr)
    rate = tl.where(furthest < rate, furthest, rate)
    warm = steps / tl.maximum(warmup, 1.0)
    rate = rate * tl.where(warm < 1, warm, 1.0)
    is_relative = least_size == least_size  # not so where it is NaN
    rate = tl.where(is_relative, rate * tl.where(own_size > least_size, own_size, least_size), rate)
    peak = tl.where(rate > peak, rate, peak)
    weight = tl.exp(recency * tl.log(steps)) * peak * peak
    weight_sum = weight_sum + weight
    average_weight = tl.where(weight_sum > 0, weight / weight_sum, 0.0)

    tl.store(controls + at, finite.to(size.dtype))
    tl.store(controls + n + at, guard)
    tl.store(controls + 2 * n + at, mean_rate)
    tl.store(controls + 3 * n + at, variance_rate)
    tl.store(controls + 4 * n + at, rate)
    tl.store(controls + 5 * n + at, average_weight)
    tl.store(controls + 6 * n + at, rate * (1 - momentum * (1 - average_weight)))
    if finite:
        tl.store(table + at, steps)
        tl.store(table + n + at, noise)
        tl.store(table + 2 * n + at, rate)
        tl.store(table + 3 * n + at, peak)
        tl.store(table + 4 * n + at, weight_sum)
        tl.store(table + 5 * n + at, average_weight)


@triton.jit
def _update(grad, bold, mean, variance, places, blocks, controls, hyper, n, BLOCK: tl.constexpr):
    """State and parameter of one block; nothing where the step is not to be taken."""
    block = tl.program_id(0)
    tensor, start = tl.load(blocks + 4 * block), tl.load(blocks + 4 * block + 1)
    within, count = tl.load(blocks + 4 * block + 2), tl.load(blocks + 4 * block + 3)
    if tl.load(controls + tensor) > 0:
        guard, mean_rate = tl.load(controls + n + tensor), tl.load(controls + 2 * n + tensor)
        variance_rate, rate = tl.load(controls + 3 * n + tensor), tl.load(controls + 4 * n + tensor)
        pull, drift = tl.load(controls + 5 * n + tensor), tl.load(controls + 6 * n + tensor)
        centering, eps, decay = tl.load(hyper + 2), tl.load(hyper + 8), tl.load(hyper + 9)
        i = tl.arange(0, BLOCK)
        inside = i < count
        parameter = tl.load(places + tensor).to(mean.dtype) + within + i
        y = tl.load(parameter, mask=inside, other=0.0)
        z = tl.load(bold + start + i, mask=inside, other=0.0)
        m = tl.load(mean + start + i, mask=inside, other=0.0)
        v = tl.load(variance + start + i, mask=inside, other=1.0)
        d = (tl.load(grad + start + i, mask=inside, other=0.0) - m) * guard
        e = d + (1 - centering) * m
        v = (1 - variance_rate) * v + variance_rate * e * e
        u = (m + d) / (tl.sqrt(v) + eps) + decay * y
        tl.store(mean + start + i, m + mean_rate * d, mask=inside)
        tl.store(variance + start + i, v, mask=inside)
        tl.store(parameter, y + pull * (z - y) - drift * u, mask=inside)
        tl.store(bold + start + i, z - rate * u, mask=inside)
