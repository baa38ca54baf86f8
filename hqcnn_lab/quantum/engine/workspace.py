"""Memory that is used again: on a CPU, touching fresh memory costs more than the arithmetic of a small circuit."""

import math
import threading

import torch
from torch import Tensor

MAX_BYTES = 2**24  # a buffer above this is not kept: it would outlive its use, and its first touch matters less

_buffers = threading.local()


def workspace(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialized tensor of `like`'s type and device, in the same memory each time the same thread uses `name`.

    For intermediates that nobody needs once the caller has returned; never for what autograd keeps. On a GPU, whose
    allocator already does this, and above `MAX_BYTES`, simply a new tensor.
    """
    _buffers.uses = getattr(_buffers, "uses", 0) + 1
    n = math.prod(shape)
    if like.device.type != "cpu" or n * like.element_size() > MAX_BYTES:
        return torch.empty(shape, device=like.device, dtype=like.dtype)
    key = f"{name} {like.dtype}"
    buffer = getattr(_buffers, key, None)
    if buffer is None or buffer.numel() < n:
        with torch.inference_mode(False):
            buffer = torch.empty(n, dtype=like.dtype, device=like.device)
        setattr(_buffers, key, buffer)
    return buffer[:n].view(shape)


def last_use() -> tuple[int, int]:
    """A mark that stays the same until this thread uses a workspace again; another thread's is another mark."""
    return threading.get_ident(), getattr(_buffers, "uses", 0)
