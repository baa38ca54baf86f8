"""GVCO's limits: the optimizers that it becomes or is a relative of, and gradients of any size."""

import math
import os

import pytest
import torch
from gvco_runs import gradient_stream, run

from hqcnn_lab.optim import GVCO

FIXED_MOMENTUM = {"momentum_min": 0.9, "momentum_max": 0.9}
EVERYTHING_OFF = FIXED_MOMENTUM | {"gamma_min": 1.0, "pace": 0.0, "tau": None, "q": 0.0}


def start(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("foreach", [True, False, None])
def test_all_controls_off_is_sgd_with_momentum(foreach):
    stream = list(gradient_stream([(5, 3)], 30, seed=2))
    (parameter,), _ = run([(5, 3)], stream, lr=0.1, foreach=foreach, **EVERYTHING_OFF)
    theta = torch.randn((5, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    momentum = torch.zeros(5, 3, dtype=torch.float64)
    for t, (gradient,) in enumerate(stream, start=1):
        momentum = 0.9 * momentum + (1 - 0.9) * gradient
        theta = theta - 0.1 * momentum / (1 - 0.9**t)
    torch.testing.assert_close(parameter.detach(), theta, rtol=1e-12, atol=1e-12)


def adabelief(theta, stream, own_variance, lr=0.01, beta=0.9, rho=0.99, eps=1e-8):
    """Algorithm 2 of Zhuang et al. 2020 without bounds; `own_variance`: with the term that GVCO has in its place."""
    m, s = torch.zeros_like(theta), torch.zeros_like(theta)
    for t, (g,) in enumerate(stream, start=1):
        before = m / (1 - beta ** (t - 1)) if t > 1 else m
        m = beta * m + (1 - beta) * g
        s = rho * s + ((1 - rho) * ((g - before) ** 2 + eps**2) if own_variance else (1 - rho) * (g - m) ** 2 + eps)
        theta = theta - lr * (m / (1 - beta**t)) / ((s / (1 - rho**t)).sqrt() + (0 if own_variance else eps))
    return theta


@pytest.mark.parametrize("foreach", [True, False, None])
def test_differs_from_adabelief_in_its_variance_and_nothing_else(foreach):
    stream = list(gradient_stream([(5, 3)], 30, seed=2))
    settings = {"lr": 0.01, "gamma_min": 1.0, "pace": 0.0, "tau": None, "floor": 0.0, **FIXED_MOMENTUM}
    (parameter,), _ = run([(5, 3)], stream, foreach=foreach, **settings)
    torch.testing.assert_close(parameter.detach(), adabelief(start((5, 3)), stream, True), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(parameter.detach(), adabelief(start((5, 3)), stream, False), rtol=1e-3)


def m_svag(theta, stream, own_factor, lr=0.1, mu=0.9, rho=0.99, sigma=0.98):
    """M-SVAG (Balles & Hennig 2018, algorithm 2); `own_factor`: with the factor that GVCO has in its place."""
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    noise, signal = 0.0, 0.0
    for t, (g,) in enumerate(stream, start=1):
        before = m / (1 - mu ** (t - 1)) if t > 1 else m
        m, v = mu * m + (1 - mu) * g, mu * v + (1 - mu) * g**2
        mean, square = m / (1 - mu**t), v / (1 - mu**t)
        left = (1 - mu) * (1 + mu**t) / ((1 + mu) * (1 - mu**t))
        variance = (square - mean**2) / (1 - left) if t > 1 else torch.zeros_like(mean)
        factor = mean**2 / (mean**2 + left * variance)
        if own_factor:
            noise = rho * noise + (1 - rho) * ((g - before) ** 2).mean()
            signal = sigma * signal + (1 - sigma) * (g * before).mean()
            positive = max(signal, 0.0)
            factor = positive / (positive + (1 - mu) / (1 + mu) * noise / (1 - rho**t))
        theta = theta - lr * factor * mean
    return theta


@pytest.mark.parametrize("foreach", [True, False, None])
def test_differs_from_m_svag_in_its_factor_and_nothing_else(foreach):
    stream = list(gradient_stream([(5, 3)], 30, seed=2))
    settings = {"lr": 0.1, "q": 0.0, "power": 1.0, "gamma_min": 0.0, "pace": 0.0, "tau": None, **FIXED_MOMENTUM}
    (parameter,), _ = run([(5, 3)], stream, foreach=foreach, **settings)
    torch.testing.assert_close(parameter.detach(), m_svag(start((5, 3)), stream, True), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(parameter.detach(), m_svag(start((5, 3)), stream, False), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["tensor", "element", "group"])
@pytest.mark.parametrize("foreach", [True, False, None])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e-6, 1e6, 1e12, 1e18])
def test_stays_finite_at_any_gradient_scale(scale, foreach, granularity):
    shapes = [(), (1,), (6, 5)]
    stream = [[scale * g for g in gs] for gs in gradient_stream(shapes, 40, seed=6, dtype=torch.float32)]
    params, optimizer = run(shapes, stream, torch.float32, foreach=foreach, granularity=granularity)
    unpaced, _ = run(shapes, stream, torch.float32, foreach=foreach, granularity=granularity, pace=0.0)
    for parameter, small in zip(params, unpaced, strict=True):
        assert parameter.isfinite().all()
        assert small.abs().max() < 10  # whatever the gradients' scale, a step is of the size of lr
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
