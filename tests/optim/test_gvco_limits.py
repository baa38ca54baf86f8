"""GVCO's limits: the optimizer that it becomes with its controls off, and gradients of any size."""

import math
import os

import pytest
import torch
from gvco_runs import gradient_stream, run
from schedulefree import AdamWScheduleFree

from hqcnn_lab.optim import GVCO

OFF = {"centering": 0.0, "tau": None, "least_size": None, "walk": None}


@pytest.mark.parametrize("foreach", [True, False, None])
@pytest.mark.parametrize("recency", [0.0, 1.5])
def test_all_controls_off_is_schedule_free_adamw(foreach, recency):
    shapes = [(5, 3), (), (120, 100)]  # end to end, and alone
    stream = list(gradient_stream(shapes, 60, seed=2))
    common = {"lr": 0.01, "weight_decay": 0.1}
    ours, optimizer = run(shapes, stream, foreach=foreach, warmup=20, recency=recency, **common, **OFF)
    generator = torch.Generator().manual_seed(0)
    theirs = [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]
    anchor = AdamWScheduleFree(theirs, warmup_steps=20, r=recency, foreach=False, **common)
    anchor.train()
    for gradients in stream:
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone()  # it divides them in place
        anchor.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for each in (optimizer, anchor):
        each.eval()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for each in (optimizer, anchor):
        each.train()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("control", [{"centering": 0.9}, {"tau": 2.5}, {"least_size": 0.1}, {"walk": 0.05}])
def test_each_control_alone_changes_the_path(control):
    stream = list(gradient_stream([(5, 3)], 60, seed=2))
    (off,), _ = run([(5, 3)], stream, lr=0.01, **OFF)
    (on,), _ = run([(5, 3)], stream, lr=0.01, **OFF | control)
    assert (on - off).abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("foreach", [True, False, None])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e-6, 1e6, 1e12, 1e18])
def test_stays_finite_at_any_gradient_scale(scale, foreach):
    shapes = [(), (1,), (6, 5)]
    stream = [[scale * g for g in gs] for gs in gradient_stream(shapes, 40, seed=6, dtype=torch.float32)]
    params, optimizer = run(shapes, stream, torch.float32, foreach=foreach)
    for parameter in params:
        assert parameter.isfinite().all()
        assert parameter.abs().max() < 10  # whatever the gradients' scale, a step is a share of the tensor's size
        assert all(value.isfinite().all() for value in optimizer.state[parameter].values())


@pytest.mark.slow
def test_stays_finite_over_many_steps():
    # Every scale at once, zeros, one element that alone has a gradient, one NaN step; HQCNN_STEPS=100000 for more.
    n_steps = int(os.environ.get("HQCNN_STEPS", "2000"))
    scales = [*(10.0**k for k in range(-12, 13, 3)), 0.0]
    params = [torch.nn.Parameter(torch.ones(8)) for _ in scales] + [torch.nn.Parameter(torch.ones(8)) for _ in range(3)]
    optimizer = GVCO(params)
    generator = torch.Generator().manual_seed(0)
    only_one = torch.zeros(8)
    only_one[3] = 1.0
    for t in range(n_steps):
        noise = torch.randn(len(params), 8, generator=generator)
        for parameter, scale, row in zip(params, scales, noise, strict=False):
            parameter.grad = scale * row
        params[-3].grad = only_one * noise[-3]
        params[-2].grad = noise[-2] * 10.0 ** (12 * (-1) ** t)
        params[-1].grad = noise[-1] * (math.nan if t == n_steps // 2 else 1.0)
        optimizer.step()
        if t % 100 == 0 or t == n_steps - 1:
            assert all(bool(p.isfinite().all()) for p in params), t
    assert torch.equal(params[len(scales) - 1].detach(), torch.ones(8))
    assert params[-3].detach()[[0, 7]].tolist() == [1.0, 1.0]
