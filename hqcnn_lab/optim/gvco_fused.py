"""GVCO's step on a GPU in four launches, however many tensors there are: the rule of `gvco_rule`, as Triton kernels.

As operations of torch it takes dozens of launches, and on a network of usual size nothing else costs time.
"""

# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# (Triton is not installed everywhere, and its decorator has no annotations)

from __future__ import annotations

import functools
import math
import warnings

import torch
import triton
import triton.language as tl
from torch import Tensor

from hqcnn_lab.optim.gvco_rule import ARMED, SLOW, Hyper, Tensors

_BLOCK = 2048  # elements that one program works on; all of one tensor
# What the kernels read from the device, in this order: an argument of theirs would be rounded to single precision.
_HYPER = ("momentum_min", "momentum_max", "rho", "sigma", "power", "gamma_min", "pace", "tau", "floor", "eps")
_HYPER += ("weight_decay",)


class FusedStep:
    """What steps the tensors of a bucket whose `mean` and `variance` lie end to end; see `gvco_rule` for the rest.

    Use it for contiguous tensors of one precision on one GPU that each measure for themselves. It never waits for the
    device and can be captured in a CUDA graph, unless the parameters have been moved since the step before.
    """

    def __init__(self, params: Tensors, mean: Tensor, variance: Tensor, table: Tensor) -> None:
        self.mean, self.variance, self.table, self.params = mean, variance, table, params
        blocks, first, begin = [], [0], 0
        for index, parameter in enumerate(params):
            n = parameter.numel()
            blocks += [(index, begin + at, at, min(_BLOCK, n - at)) for at in range(0, n, _BLOCK)]
            begin += n
            first.append(len(blocks))
        device = mean.device
        self.blocks, self.first = torch.tensor(blocks, device=device), torch.tensor(first, device=device)
        self.sizes = mean.new_tensor([p.numel() for p in params])
        self.sums, self.controls = mean.new_empty(3, len(blocks)), mean.new_empty(6, len(params))
        self.lr = mean.new_empty(())
        self.hyper, self.settings = mean.new_empty(len(_HYPER) + 1), ()
        self.places, self.where = torch.empty(0), []

    def __call__(self, grads: Tensors, hyper: Hyper) -> None:
        """Change parameters and state in place."""
        if (settings := tuple(hyper[name] for name in _HYPER)) != self.settings:
            numbers = [math.inf if number is None else number for number in settings]
            self.settings, tiny = settings, torch.finfo(self.hyper.dtype).tiny
            self.hyper = self.hyper.new_tensor([*numbers, tiny])
        if (where := [p.data_ptr() for p in self.params]) != self.where:
            self.places, self.where = torch.tensor(where, device=self.mean.device), where
        self.lr.copy_(hyper["lr"]) if isinstance(hyper["lr"], Tensor) else self.lr.fill_(hyper["lr"])
        grad = torch.cat([g.reshape(-1) for g in grads])
        n_blocks, n, (least, most) = len(self.blocks), len(self.params), SLOW
        with torch.cuda.device_of(grad):
            _measure[(n_blocks,)](grad, self.mean, self.blocks, self.sums, n_blocks, _BLOCK)
            _control[(n,)](
                *(self.sums, self.first, self.sizes, self.table, self.controls, self.hyper, self.lr),
                *(n, n_blocks, ARMED, least, most, 512),
            )
            _update[(n_blocks,)](
                *(grad, self.mean, self.variance, self.places, self.blocks, self.controls, self.hyper),
                *(n, float(hyper["q"]), _BLOCK),
            )


@functools.cache
def can_run(device: torch.device) -> bool:
    """Whether Triton can build and run a kernel for `device`: it needs a C compiler; where not, warn once."""
    try:
        tensor, other = torch.ones(2, 4, device=device)
        step = FusedStep([tensor], torch.zeros_like(tensor), torch.ones_like(tensor), torch.zeros(8, 1, device=device))
        group = dict.fromkeys(_HYPER, 0.5) | {"lr": 0.0, "q": 1.0}
        step([other], group)
        torch.cuda.synchronize(device)
    except Exception as error:  # of compilers, drivers or Triton: of any kind
        why = str(error).strip().split("\n")[0][:120]
        warnings.warn(f"GVCO: Triton does not work here ({why}); steps take several times as long", stacklevel=2)
        return False
    return True


@triton.jit
def _measure(grad, mean, blocks, sums, n_blocks, BLOCK: tl.constexpr):
    """The sums of squares of gradient, mean and innovation over each block."""
    block = tl.program_id(0)
    start, count = tl.load(blocks + 4 * block + 1), tl.load(blocks + 4 * block + 3)
    i = tl.arange(0, BLOCK)
    g = tl.load(grad + start + i, mask=i < count, other=0.0)
    m = tl.load(mean + start + i, mask=i < count, other=0.0)
    d = g - m
    tl.store(sums + block, tl.sum(g * g))
    tl.store(sums + n_blocks + block, tl.sum(m * m))
    tl.store(sums + 2 * n_blocks + block, tl.sum(d * d))


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
    LEAST: tl.constexpr,
    MOST: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """`gvco_rule.control` for one tensor."""
    at = tl.program_id(0)
    low, high, size = tl.load(first + at), tl.load(first + at + 1), tl.load(sizes + at)
    j = tl.arange(0, CHUNK)
    g_sums = tl.zeros([CHUNK], size.dtype)
    m_sums = tl.zeros([CHUNK], size.dtype)
    d_sums = tl.zeros([CHUNK], size.dtype)
    for begin in range(low, high, CHUNK):
        k = begin + j
        g_sums += tl.load(sums + k, mask=k < high, other=0.0)
        m_sums += tl.load(sums + n_blocks + k, mask=k < high, other=0.0)
        d_sums += tl.load(sums + 2 * n_blocks + k, mask=k < high, other=0.0)
    g_sum, m_sum, d_sum = tl.sum(g_sums), tl.sum(m_sums), tl.sum(d_sums)
    grad_power, mean_power, power = g_sum / size, m_sum / size, d_sum / size

    momentum_min, momentum_max = tl.load(hyper), tl.load(hyper + 1)
    rho, sigma, p, gamma_min = tl.load(hyper + 2), tl.load(hyper + 3), tl.load(hyper + 4), tl.load(hyper + 5)
    pace, tau, floor = tl.load(hyper + 6), tl.load(hyper + 7), tl.load(hyper + 8)
    weight_decay, tiny = tl.load(hyper + 10), tl.load(hyper + 11)
    steps, mean_weight = tl.load(table + at), tl.load(table + n + at)
    variance_weight, noise = tl.load(table + 2 * n + at), tl.load(table + 3 * n + at)
    signal, momentum = tl.load(table + 4 * n + at), tl.load(table + 5 * n + at)
    slow = tl.load(table + 6 * n + at)

    reach = (tl.sqrt(g_sum) + tl.sqrt(m_sum) + tl.sqrt(d_sum)) * (1 + floor)
    finite = tl.abs(reach * reach) < float("inf")
    armed = (steps >= ARMED) & (noise > 0) & (tau < float("inf"))
    guard = tl.where(armed, tau * tl.sqrt(noise / power), 1.0)
    guard = tl.where(guard < 1, guard, 1.0)
    overlap = mean_power + guard * (grad_power - mean_power - power) / 2

    mean_weight = momentum * mean_weight + (1 - momentum)
    variance_weight = rho * variance_weight + (1 - rho)
    mean_rate, variance_rate = (1 - momentum) / mean_weight, (1 - rho) / variance_weight
    noise = noise + variance_rate * (power * guard * guard - noise)
    signal = sigma * signal + (1 - sigma) * overlap

    positive = tl.maximum(signal, 0.0)
    left_in_mean = noise * (1 - momentum) / (1 + momentum)
    agreement = signal / tl.maximum(tl.abs(signal) + left_in_mean, tiny)
    slow = slow * tl.exp(pace / tl.sqrt(steps + 1) * agreement)
    slow = tl.minimum(tl.maximum(slow, LEAST), MOST)
    fast = tl.where(agreement > 0, tl.exp(p * tl.log(tl.maximum(agreement, tiny))), tl.where(p == 0, 1.0, 0.0))
    lr_scale = slow * tl.minimum(tl.maximum(fast, gamma_min), 1.0)
    momentum = 1 - tl.sqrt(positive / tl.maximum(noise, tiny))
    momentum = tl.minimum(tl.maximum(momentum, momentum_min), momentum_max)

    rate = tl.load(lr)
    tl.store(controls + at, finite.to(size.dtype))
    tl.store(controls + n + at, tl.where(finite, guard, 0.0))
    tl.store(controls + 2 * n + at, tl.where(finite, mean_rate, 0.0))
    tl.store(controls + 3 * n + at, tl.where(finite, variance_rate, 0.0))
    tl.store(controls + 4 * n + at, tl.where(finite, rate * lr_scale, 0.0))
    tl.store(controls + 5 * n + at, tl.where(finite, 1 - rate * slow * weight_decay, 1.0))
    if finite:
        tl.store(table + at, steps + 1)
        tl.store(table + n + at, mean_weight)
        tl.store(table + 2 * n + at, variance_weight)
        tl.store(table + 3 * n + at, noise)
        tl.store(table + 4 * n + at, signal)
        tl.store(table + 5 * n + at, momentum)
        tl.store(table + 6 * n + at, slow)
        tl.store(table + 7 * n + at, lr_scale)


@triton.jit
def _update(grad, mean, variance, places, blocks, controls, hyper, n, Q: tl.constexpr, BLOCK: tl.constexpr):
    """Mean, variance and parameter of one block; nothing where the step is not to be taken."""
    block = tl.program_id(0)
    tensor, start = tl.load(blocks + 4 * block), tl.load(blocks + 4 * block + 1)
    within, count = tl.load(blocks + 4 * block + 2), tl.load(blocks + 4 * block + 3)
    if tl.load(controls + tensor) > 0:
        guard, mean_rate = tl.load(controls + n + tensor), tl.load(controls + 2 * n + tensor)
        variance_rate, step_size = tl.load(controls + 3 * n + tensor), tl.load(controls + 4 * n + tensor)
        keep, floor, eps = tl.load(controls + 5 * n + tensor), tl.load(hyper + 8), tl.load(hyper + 9)
        i = tl.arange(0, BLOCK)
        inside = i < count
        parameter = tl.load(places + tensor).to(mean.dtype) + within + i
        m = tl.load(mean + start + i, mask=inside, other=0.0)
        v = tl.load(variance + start + i, mask=inside, other=1.0)
        value = tl.load(parameter, mask=inside, other=0.0)
        d = (tl.load(grad + start + i, mask=inside, other=0.0) - m) * guard
        m += mean_rate * d
        if Q == 0.0:
            floor = floor * 0
        floored = d + floor * m
        v += variance_rate * (floored * floored + eps * eps - v)
        step = step_size * m
        if Q == 1.0:
            step = step / tl.sqrt(v)
        elif Q != 0.0:
            step = step / tl.exp(Q / 2 * tl.log(v))
        tl.store(mean + start + i, m, mask=inside)
        tl.store(variance + start + i, v, mask=inside)
        tl.store(parameter, value * keep - step, mask=inside)
