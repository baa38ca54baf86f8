"""GVCO against its definition: an element-by-element reference, its limits, its controls, and toy problems."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hqcnn_lab.optim import GVCO

STARTING_VALUES = {
    "lr": 3e-2,
    "momentum_min": 0.85,
    "momentum_max": 0.96,
    "rho": 0.99,
    "sigma": 0.98,
    "power": 1.5,
    "gamma_min": 0.05,
    "tau": 2.5,
    "q": 1.0,
    "floor": 0.1,
    "eps": 1e-8,
    "granularity": "tensor",
    "weight_decay": 0.0,
    "maximize": False,
    "foreach": None,
}
EVERYTHING_OFF = {"momentum_min": 0.9, "momentum_max": 0.9, "gamma_min": 1.0, "tau": None, "q": 0.0}


class Reference:
    """The definition in docs/gvco.md, one float at a time, with sums written as sums. Knows nothing of norms or tables.

    One of them is what has a γ and a β of its own: a tensor, an element, or a group, which `sizes` says the tensors of.
    """

    def __init__(self, theta, sizes=None, **hyper):
        self.h = STARTING_VALUES | hyper
        self.theta, self.n = list(theta), len(theta)
        self.m, self.s = [0.0] * self.n, [0.0] * self.n
        self.w, self.t, self.N, self.S, self.ws = 0.0, 0, 0.0, 0.0, 0.0
        self.beta, self.gamma = self.h["momentum_max"], self.h["gamma_min"]

    def step(self, g):
        h, n = self.h, self.n
        if not all(map(math.isfinite, g)):
            return
        if h["maximize"]:
            g = [-x for x in g]
        before = [m / self.w if self.w else 0.0 for m in self.m]
        d = [x - y for x, y in zip(g, before, strict=True)]
        rms = math.sqrt(sum(x * x for x in d) / n)
        if h["tau"] is not None and self.t >= 10 and self.N > 0 and rms > 0:
            d = [x * min(1.0, h["tau"] * math.sqrt(self.N) / rms) for x in d]
        self.t += 1
        b = self.beta
        self.m = [b * m + (1 - b) * (y + x) for m, y, x in zip(self.m, before, d, strict=True)]
        self.w = b * self.w + (1 - b)
        m_hat = [m / self.w for m in self.m]
        floor = h["floor"] if h["q"] else 0.0
        self.s = [
            h["rho"] * s + (1 - h["rho"]) * (x + floor * y) ** 2 for s, x, y in zip(self.s, d, m_hat, strict=True)
        ]
        s_hat = [s / (1 - h["rho"] ** self.t) for s in self.s]
        self.ws = h["rho"] * self.ws * self.N + (1 - h["rho"]) * sum(x * x for x in d) / n  # N's sum, before its bias
        self.N, self.ws = self.ws / (1 - h["rho"] ** self.t), 1 - h["rho"] ** self.t
        product = sum((y + x) * y for y, x in zip(before, d, strict=True)) / n
        self.S = h["sigma"] * self.S + (1 - h["sigma"]) * product
        S, c = max(self.S, 0.0), (1 - b) / (1 + b)
        share = S / (S + c * self.N) if S + c * self.N > 0 else 0.0
        self.gamma = min(max(share ** h["power"], h["gamma_min"]), 1.0)
        wanted = 1 - math.sqrt(S / self.N) if self.N > 0 else (1.0 if S == 0 else -math.inf)
        self.beta = min(max(wanted, h["momentum_min"]), h["momentum_max"])
        for i in range(n):
            divisor = s_hat[i] ** (h["q"] / 2) + h["eps"] if h["q"] else 1.0
            self.theta[i] *= 1 - h["lr"] * h["weight_decay"]
            self.theta[i] -= h["lr"] * self.gamma * m_hat[i] / divisor


def gradient_stream(shapes, steps, seed, noise=1.0, dtype=torch.float64):
    """A drifting signal, noise of changing size, and now and then an outlier for the guard."""
    generator = torch.Generator().manual_seed(seed)
    signals = [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]
    for t in range(steps):
        size = noise * (1 + t % 3) * (25 if t % 13 == 12 else 1)
        yield [math.cos(t / 9) * s + size * torch.randn(s.shape, generator=generator, dtype=dtype) for s in signals]


def run(shapes, stream, dtype=torch.float64, **hyper):
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]
    optimizer = GVCO(params, **hyper)
    for gradients in stream:
        for parameter, gradient in zip(params, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return params, optimizer


hypers = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.0, 1e-3, 0.1]),
        "momentum_min": st.sampled_from([0.0, 0.5, 0.85]),
        "momentum_max": st.sampled_from([0.85, 0.96, 0.999]),
        "rho": st.sampled_from([0.0, 0.9, 0.99, 0.9999]),
        "sigma": st.sampled_from([0.0, 0.9, 0.98]),
        "power": st.sampled_from([0.0, 0.5, 1.0, 1.5]),
        "gamma_min": st.sampled_from([0.0, 0.05, 1.0]),
        "tau": st.sampled_from([None, math.inf, 0.5, 2.5]),
        "q": st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        "eps": st.sampled_from([1e-8, 1e-3]),
        "floor": st.sampled_from([0.0, 0.1, 1.0]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "maximize": st.booleans(),
    }
)
shape_lists = st.lists(st.sampled_from([(), (1,), (7,), (3, 2), (2, 1, 3, 3)]), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(hyper=hypers, shapes=shape_lists, steps=st.integers(1, 40), seed=st.integers(0, 999), broken=st.integers(0, 40))
def test_both_paths_follow_the_definition(hyper, shapes, steps, seed, broken):
    stream = list(gradient_stream(shapes, steps, seed))
    if broken < steps:
        stream[broken][0].view(-1)[-1] = math.nan
    by_list, optimizer = run(shapes, stream, foreach=True, **hyper)
    one_by_one, plain_optimizer = run(shapes, stream, foreach=False, **hyper)
    generator = torch.Generator().manual_seed(0)
    for i, shape in enumerate(shapes):
        reference = Reference(torch.randn(shape, generator=generator, dtype=torch.float64).flatten().tolist(), **hyper)
        for gradients in stream:
            reference.step(gradients[i].flatten().tolist())
        expected = torch.tensor(reference.theta, dtype=torch.float64).view(shape)
        for parameter, holder in ((by_list[i], optimizer), (one_by_one[i], plain_optimizer)):
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=1e-9)
            state = holder.state[parameter]
            measured = [state[key].item() for key in ("noise", "signal", "momentum", "lr_scale")]
            wanted = [reference.N, reference.S, reference.beta, reference.gamma]
            assert measured == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_defaults_are_the_starting_values():
    assert GVCO([torch.nn.Parameter(torch.zeros(1))]).defaults == STARTING_VALUES


def test_paths_agree_in_single_precision():
    shapes = [(16, 4, 3, 3), (16,), (1,), (), (40, 30)]
    stream = list(gradient_stream(shapes, 30, seed=1, dtype=torch.float32))
    by_list, _ = run(shapes, stream, torch.float32, foreach=True, weight_decay=0.1)
    one_by_one, _ = run(shapes, stream, torch.float32, foreach=False, weight_decay=0.1)
    torch.testing.assert_close(by_list, one_by_one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("foreach", [True, False])
def test_all_controls_off_is_sgd_with_momentum(foreach):
    stream = list(gradient_stream([(5, 3)], 30, seed=2))
    (parameter,), _ = run([(5, 3)], stream, lr=0.1, foreach=foreach, **EVERYTHING_OFF)
    theta = torch.randn((5, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    momentum = torch.zeros(5, 3, dtype=torch.float64)
    for t, (gradient,) in enumerate(stream, start=1):
        momentum = 0.96 * momentum + (1 - 0.96) * gradient
        theta = theta - 0.1 * momentum / (1 - 0.96**t)
    torch.testing.assert_close(parameter.detach(), theta, rtol=1e-12, atol=1e-12)


def test_equal_momentum_bounds_switch_momentum_control_off():
    stream = list(gradient_stream([(50,)], 60, seed=3, noise=0.1))
    (parameter,), optimizer = run([(50,)], stream, momentum_min=0.9, momentum_max=0.9)
    assert optimizer.state[parameter]["momentum"].item() == pytest.approx(0.9)


def steady_state(noise):
    generator = torch.Generator().manual_seed(4)
    stream = [[1.0 + noise * torch.randn(200, generator=generator, dtype=torch.float64)] for _ in range(400)]
    (parameter,), optimizer = run([(200,)], stream)
    return {key: optimizer.state[parameter][key].item() for key in ("noise", "signal", "momentum", "lr_scale")}


def test_noise_raises_momentum_and_lowers_the_learning_rate():
    quiet, noisy = steady_state(0.05), steady_state(20.0)
    assert quiet["lr_scale"] > 0.9
    assert quiet["momentum"] == pytest.approx(0.85)
    assert noisy["lr_scale"] < 0.7
    assert noisy["momentum"] > 0.93


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_measures_the_noise_and_the_signal_that_were_put_in(noise):
    # Catches a signal estimate biased by the noise: |m̂|² would read 1 + c·noise² here.
    state = steady_state(noise)
    assert state["noise"] == pytest.approx(noise**2, rel=0.1)
    assert state["signal"] == pytest.approx(1.0, rel=0.1)


def test_guard_bounds_what_one_erratic_gradient_does():
    stream = [*gradient_stream([(30,)], 12, seed=5), [torch.full((30,), 1e6, dtype=torch.float64)]]
    moved = {}
    for tau in (2.5, None):
        (before,), _ = run([(30,)], stream[:-1], tau=tau, q=0.0)
        (after,), _ = run([(30,)], stream, tau=tau, q=0.0)
        moved[tau] = (after - before).abs().max().item()
    assert moved[2.5] < 0.1
    assert moved[None] > 100


def test_a_tensor_without_gradient_at_first_still_learns_later():
    # Regression: with N = 0 the guard, armed after the warm-up, held every later gradient at 0.
    stream = [[torch.zeros(4)]] * 20 + [[torch.ones(4)]] * 20
    (parameter,), _ = run([(4,)], stream, torch.float32)
    start = torch.randn(4, generator=torch.Generator().manual_seed(0))
    assert (parameter.detach() < start - 0.01).all()


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e-6, 1e6, 1e12, 1e18])
def test_stays_finite_at_any_gradient_scale(scale, foreach):
    shapes = [(), (1,), (6, 5)]
    stream = ([scale * g for g in gs] for gs in gradient_stream(shapes, 40, seed=6, dtype=torch.float32))
    params, optimizer = run(shapes, stream, torch.float32, foreach=foreach)
    for parameter in params:
        assert parameter.isfinite().all()
        assert parameter.abs().max() < 10
        assert all(value.isfinite().all() for value in optimizer.state[parameter].values())


def test_gradients_that_jump_between_scales_stay_finite():
    scales = [10.0 ** (12 * (-1) ** t) for t in range(40)]
    stream = [
        [s * g for g in gs] for s, gs in zip(scales, gradient_stream([(9,)], 40, 7, 1, torch.float32), strict=True)
    ]
    (parameter,), _ = run([(9,)], stream, torch.float32)
    assert parameter.isfinite().all()


def test_no_noise_at_all_is_no_division_by_zero():
    # ρ = 0 forgets at once, so N is exactly 0 and S/N overflows; κ = 0 must still mean "no momentum control".
    (parameter,), optimizer = run([(3,)], [[torch.full((3,), 1e3)]] * 4, torch.float32, rho=0.0, kappa=0.0)
    assert parameter.isfinite().all()
    assert optimizer.state[parameter]["momentum"].item() == pytest.approx(0.96)


@pytest.mark.parametrize("foreach", [True, False])
def test_learns_logistic_regression(foreach):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator)
    y = (x @ torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0]) > 0).float()
    model = torch.nn.Linear(5, 1)
    optimizer = GVCO(model.parameters(), lr=3e-2, foreach=foreach)
    for _ in range(150):
        batch = torch.randint(400, (32,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(x[batch])[:, 0], y[batch]).backward()
        optimizer.step()
    assert ((model(x)[:, 0] > 0) == (y > 0)).float().mean() > 0.95


def test_learns_a_noisy_quadratic():
    generator = torch.Generator().manual_seed(1)
    curvature = torch.logspace(-1, 1, 20)
    parameter = torch.nn.Parameter(torch.ones(20))
    optimizer = GVCO([parameter], lr=3e-2)
    for _ in range(200):
        parameter.grad = curvature * parameter.detach() + 0.5 * torch.randn(20, generator=generator)
        optimizer.step()
    assert (curvature * parameter.detach() ** 2).sum() < 0.01 * curvature.sum()
