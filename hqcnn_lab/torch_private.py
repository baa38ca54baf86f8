"""What this package uses of torch that torch does not promise to keep. tests/test_torch_private.py says what broke.

`foreach_*` do one operation on every tensor of a list in one call, as torch's own optimizers do. A name that ends in an
underscore changes its first argument.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownMemberType=false

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

foreach_add_ = torch._foreach_add_
foreach_addcmul_ = torch._foreach_addcmul_
foreach_copy_ = torch._foreach_copy_
foreach_div_ = torch._foreach_div_
foreach_lerp_ = torch._foreach_lerp_
foreach_mul = torch._foreach_mul
foreach_mul_ = torch._foreach_mul_
foreach_neg = torch._foreach_neg
foreach_norm = torch._foreach_norm
foreach_sqrt = torch._foreach_sqrt
foreach_sub = torch._foreach_sub
foreach_sub_ = torch._foreach_sub_

BatchNorm = torch.nn.modules.batchnorm._BatchNorm
"""The base of batch normalization in one, two and three dimensions, and across processes."""


def is_in_torch_func() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, …) is at work, as `autograd.Function` itself asks."""
    return torch._C._are_functorch_transforms_active()


def is_traced() -> bool:
    """Whether `torch.jit.trace` follows the operations."""
    return torch.jit.is_tracing()


def has_bfloat16_units() -> bool:
    """Whether this CPU computes in bfloat16; True where torch, built without oneDNN, does not say."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return True


def has_forward_pre_hook(module: nn.Module, hook: Callable[..., Any]) -> bool:
    """Whether `hook` is registered with `module`, also where a copy of a module has it from the original."""
    return hook in module._forward_pre_hooks.values()
