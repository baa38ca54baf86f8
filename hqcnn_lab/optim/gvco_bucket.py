"""The tensors of a group that GVCO steps together, with their state in memory that one call can change."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import torch
from torch import Tensor

from hqcnn_lab.optim import gvco_rule as rule
from hqcnn_lab.optim.gvco_rule import ROWS, Hyper, Tensors
from hqcnn_lab.torch_private import foreach_neg

_LARGE = 2**13  # elements from which on a tensor steps alone on a CPU; from benchmarks/optimizer.py
_BY_ELEMENT = ("bold", "mean", "variance")


class Bucket:
    """Tensors that step together, and their state in lists and one table; `state[p]` holds the same memory."""

    def __init__(self, params: Tensors, state: Mapping[Tensor, dict[str, Tensor]], group: Hyper) -> None:
        # The small ones come first, end to end; the others in a list or alone, as `foreach` says, or as is faster.
        fuse = _can_fuse(params, group)
        n_small = sum(fuse or _is_small(p, group) for p in params)
        self.params = params = params if fuse else sorted(params, key=lambda p: not _is_small(p, group))
        self.small, self.others = params[:n_small], params[n_small:]
        states = [state[p] for p in params]
        for parameter, its in zip(params, states, strict=True):
            if "bold" not in its:
                its["bold"] = parameter.detach().clone(memory_format=torch.preserve_format)
                its["mean"], its["variance"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            for name in ROWS:
                if name not in its:
                    its[name] = parameter.new_zeros(())
        self.table = torch.stack([_laid_end_to_end(states, name) for name in ROWS])
        for row, name in zip(self.table, ROWS, strict=True):
            _hold(states, name, row)
        self.flat: Tensors = []
        if self.small:
            self.flat = [_laid_end_to_end(states[:n_small], name) for name in _BY_ELEMENT]
            for memory, name in zip(self.flat, _BY_ELEMENT, strict=True):
                _hold(states[:n_small], name, memory)
        self.lists = [[its[name] for its in states[n_small:]] for name in _BY_ELEMENT]
        self.sizes = self.table.new_tensor([p.numel() for p in params])
        self.noise = [its["noise"] for its in states]
        self.fused = None
        if fuse:
            from hqcnn_lab.optim.gvco_fused import FusedStep

            bold, mean, variance = self.flat
            self.fused = FusedStep(params, bold, mean, variance, self.table)
        in_list = group["foreach"] or (group["foreach"] is None and params[0].device.type != "cpu")
        self.scratch: Tensors | None = None
        if self.others and not in_list:
            memory = params[0].new_empty(max(p.numel() for p in self.others))
            self.scratch = [memory.as_strided(mean.shape, mean.stride()) for mean in self.lists[1]]

    def holds(self, state: Mapping[Tensor, dict[str, Tensor]]) -> bool:
        """Whether the optimizer's state still is this memory; not so once it was loaded or moved."""
        if self.fused is not None and not all(p.is_contiguous() for p in self.params):
            return False
        return all(state[p].get("noise") is noise for p, noise in zip(self.params, self.noise, strict=True))

    def step(self, group: Hyper) -> None:
        """Change the parameters and their state in place."""
        begun: list[rule.Begun] = []
        n_small = len(self.small)
        grads = [p.grad for p in self.params if p.grad is not None]
        if group["maximize"]:
            grads = list(foreach_neg(grads))
        if self.fused is not None:
            self.fused(grads, group)
            return
        if self.small:
            bold, mean, variance = self.flat
            begun.append(rule.begin_end_to_end(self.small, grads[:n_small], bold, mean, variance, group))
        if self.others:
            bolds, means, variances = self.lists
            others = (self.others, grads[n_small:], bolds, means, variances)
            begun.append(
                rule.begin_list(*others, group)
                if self.scratch is None
                else rule.begin_alone(*others, self.scratch, group)
            )
        rule.take_step(begun, self.table, self.sizes, group)


def _can_fuse(params: Tensors, group: Hyper) -> bool:
    """Whether Triton's kernels can step these: on a GPU, and without gaps in memory."""
    device = params[0].device
    if device.type != "cuda" or group["foreach"] is not None:
        return False
    if not all(p.is_contiguous() for p in params) or importlib.util.find_spec("triton") is None:
        return False
    from hqcnn_lab.optim.gvco_fused import can_run

    return can_run(device)


def _is_small(parameter: Tensor, group: Hyper) -> bool:
    """Whether a step end to end with others is the fastest for it: a few numbers on a CPU."""
    return group["foreach"] is None and parameter.device.type == "cpu" and parameter.numel() < _LARGE


def _laid_end_to_end(states: list[dict[str, Tensor]], name: str) -> Tensor:
    return torch.cat([state[name].reshape(-1) for state in states])


def _hold(states: list[dict[str, Tensor]], name: str, memory: Tensor) -> None:
    """Let each state's value be the view of its part of `memory`."""
    parts = torch.split(memory, [state[name].numel() for state in states])
    for state, part in zip(states, parts, strict=True):
        state[name] = part.view(state[name].shape)
