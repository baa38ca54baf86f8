"""When torch does not just run a layer: it may follow the operations, to export them, or transform them."""

# pyright: reportUnknownMemberType=false
# (torch.autograd.forward_ad is not annotated)

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hqcnn_lab.torch_private import is_in_torch_func, is_traced

_Args = ParamSpec("_Args")


def constant(maxsize: int) -> Callable[[Callable[_Args, Tensor]], Callable[_Args, Tensor]]:
    """Keep the tensors that a function made of few, plain arguments; the decorator of all that engines keep.

    They are made outside of inference mode: one that was first made in it could never be used by a training step. While
    torch follows the operations nothing is kept: what is made there belongs to a graph, or is a stand-in for a tensor.
    """

    def decorate(make: Callable[_Args, Tensor]) -> Callable[_Args, Tensor]:
        kept = lru_cache(maxsize)(torch.inference_mode(False)(make))

        @wraps(make)
        def get(*args: _Args.args, **kwargs: _Args.kwargs) -> Tensor:
            if is_traced() or torch.compiler.is_exporting():
                return make(*args, **kwargs)
            return kept(*args, **kwargs)

        get.cache_clear = kept.cache_clear  # pyright: ignore[reportAttributeAccessIssue] a function may have any
        return get

    return decorate


def transform(*tensors: Tensor) -> str | None:
    """What torch does with the operations on these tensors, besides running them and going backward; None: nothing."""
    if is_in_torch_func():
        return "torch.func"
    if torch.compiler.is_exporting():
        return "torch.export"
    if is_traced():
        return "torch.jit.trace"
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        return "forward-mode differentiation"
    return None
