"""GVCO's kernels in Triton's interpreter, where there is no GPU; on one, `test_gvco_optimizer` runs them."""

import importlib.util
import math
import os
import sys

import pytest
import torch
import warm

from hqcnn_lab.optim import GVCO, gvco_bucket
from hqcnn_lab.optim.gvco_rule import ROWS

HYPERS = [
    {},
    {"weight_decay": 0.1, "maximize": True, "warmup": 0},
    {"tau": None, "recency": 1.0, "walk": 0.1},
    {"tau": None, "centering": 0.0, "least_size": None, "rho": 0.0},
]


def compare_with_lists(**hyper) -> None:
    """In a process that was begun with TRITON_INTERPRET=1: Triton asks for it when it is imported."""
    from hqcnn_lab.optim.gvco_fused import FusedStep

    gvco_bucket._can_fuse = lambda params, group: group["foreach"] is None
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(s, generator=generator, dtype=torch.float64) for s in [(5000,), (3, 7), (), (20,)]]
    by_list, by_kernel = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    lists, fused = GVCO(by_list, lr=0.05, foreach=True, **hyper), GVCO(by_kernel, lr=0.05, **hyper)
    for t in range(16):
        for one, other in zip(by_list, by_kernel, strict=True):
            one.grad = torch.randn(one.shape, generator=generator, dtype=torch.float64) * (100 if t == 12 else 1) + 0.3
            other.grad = one.grad.clone()
        if t == 14:
            by_list[1].grad[0, 0] = by_kernel[1].grad[0, 0] = math.nan
        lists.step()
        fused.step()
    assert isinstance(fused._buckets[0][1][0].fused, FusedStep)
    for one, other in zip(by_list, by_kernel, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)
        for name in ("bold", "mean", "variance", *ROWS):
            torch.testing.assert_close(fused.state[other][name], lists.state[one][name], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_kernels_agree_with_lists() -> None:
    code = f"from {__name__} import HYPERS, compare_with_lists\nfor hyper in HYPERS:\n    compare_with_lists(**hyper)"
    # In a process of its own: the warm one may have imported Triton already, with torch.
    run = warm.run_anew("-c", code, TRITON_INTERPRET="1", PYTHONPATH=os.pathsep.join(sys.path))
    assert run.returncode == 0, run.stderr
