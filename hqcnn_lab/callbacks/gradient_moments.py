"""The variance of a gradient over steps, and the size of its mean, tensor by tensor."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from hqcnn_lab.torch_private import foreach_norm

DECAY = 0.9  # of the mean gradient: what changes more slowly than in ten steps is signal
MEMORY = 0.99  # of the averages that are read

_IN_CACHE = 2**16  # elements


class GradientMoments:
    """Running estimates, over steps, of how a gradient varies around its mean and how large that mean is.

    The same for every optimizer, so that they compare. With m the running mean of the gradient g (decay 0.9, corrected
    for its start) and v the variance that is left in it, step t adds a sample to two averages over the elements and
    over some hundred steps (decay 0.99, corrected as well)::

        variance  ⟨(g_t − m_{t−1})²⟩ / (1 + v_{t−1})     v_t = (1 − β)(1 + βᵗ) / ((1 + β)(1 − βᵗ)),  β = 0.9
        signal    ⟨g_t m_{t−1}⟩

    Both are without bias, from the second step on, for gradients that are independent of each other with a mean that
    does not change: the variance of one element, and the mean gradient's squared size per element. v falls from 1 to
    1/19. Of the signal the factors have independent noise, so it is negative where the truth is near 0. A mean that
    wanders faster than in ten steps counts as variance.

    Nothing waits for the device. A tensor whose gradient is absent, or not finite (or too large to be squared in its
    precision), keeps its estimates.

    Args:
        parameters: by the names that `state_dict` is to have them under; not empty.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.names = list(parameters)
        self.numbers = [p.numel() for p in parameters.values()]
        first = next(iter(parameters.values()))
        double = any(p.dtype == torch.float64 for p in parameters.values())
        empty = first.new_empty(0, dtype=torch.float64 if double else torch.float32)
        self._blocks = [_Block(numbers, empty) for numbers in _shared_out(self.numbers, first.device.type)]

    @property
    def table(self) -> Tensor:
        """Steps, variance and signal of each tensor, `[3, n]`: one transfer of it is all that a reader needs."""
        return torch.cat([block.table for block in self._blocks], dim=1)

    @torch.no_grad()
    def update(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Take in a step's gradients, in the parameters' order; the norm of each, `[n]`, 0 where it is absent."""
        left = iter(gradients)
        return torch.cat([block.update(list(islice(left, len(block.numbers)))) for block in self._blocks])

    def state_dict(self) -> dict[str, Any]:
        means = (mean for block in self._blocks for mean in block.means)
        return {
            name: {"mean": mean.clone(), "table": column.clone()}
            for name, mean, column in zip(self.names, means, self.table.unbind(1), strict=True)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; a tensor that is not in it, or has another size now, begins anew."""
        places = [(block, i) for block in self._blocks for i in range(len(block.numbers))]
        for name, (block, i) in zip(self.names, places, strict=True):
            if name in state and state[name]["mean"].numel() == block.numbers[i]:
                block.means[i].copy_(state[name]["mean"])
                block.table[:, i].copy_(state[name]["table"])


def _shared_out(numbers: list[int], device: str) -> list[list[int]]:
    """Consecutive tensors that are worked on together: on a CPU as many as stay in its cache, or a large one alone."""
    if device != "cpu":
        return [numbers]
    blocks: list[list[int]] = [[]]
    for n in numbers:
        if blocks[-1] and sum(blocks[-1]) + n > _IN_CACHE:
            blocks.append([])
        blocks[-1].append(n)
    return blocks


class _Block:
    """Tensors laid end to end, so that a step is a handful of operations over all of them."""

    def __init__(self, numbers: list[int], like: Tensor) -> None:
        self.numbers = numbers
        self._mean = like.new_zeros(sum(numbers))
        self.means = self._mean.split(numbers)
        self.table = like.new_zeros(3, len(numbers))
        self._sizes = torch.tensor(numbers, device=like.device)

    def update(self, gradients: list[Tensor | None]) -> Tensor:
        given = [mean if g is None else g.reshape(-1) for g, mean in zip(gradients, self.means, strict=True)]
        flat = (torch.cat(given) if len(given) > 1 else given[0]).to(self._mean.dtype)
        innovation = flat - self._mean
        parts = [*flat.split(self.numbers), *self.means, *innovation.split(self.numbers)]
        norms = torch.stack(foreach_norm(parts)).view(3, -1)
        grad_power, mean_power, power = norms.square() / self._sizes
        usable = torch.isfinite(grad_power + power)
        if any(g is None for g in gradients):
            present = torch.tensor([g is not None for g in gradients], device=flat.device)
            usable, norms = usable & present, norms * present
        steps, variance, signal = self.table
        shrunk = DECAY**steps
        left = (1 - DECAY) * (1 + shrunk) / ((1 + DECAY) * (1 - shrunk))
        rate = (1 - MEMORY) / (1 - MEMORY**steps)  # there is one sample less than there are steps
        # 2⟨g, m⟩ = |g|² + |m|² − |g − m|²: norms are the fastest reduction.
        samples = power / (1 + left), (grad_power + mean_power - power) / 2
        variance, signal = (
            torch.where(usable & (steps > 0), old + rate * (new - old), old)
            for old, new in zip((variance, signal), samples, strict=True)
        )
        rates = torch.where(usable, (1 - DECAY) / (1 - shrunk * DECAY), 0.0)
        if len(self.numbers) > 1:
            rates = rates.repeat_interleave(self._sizes, output_size=len(flat))
        self._mean.addcmul_(torch.where(rates > 0, innovation, 0.0), rates)
        self.table = torch.stack([steps + usable, variance, signal])
        return norms[0]
