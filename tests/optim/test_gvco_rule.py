"""GVCO against its definition, element by element, and what its controls do."""

import math
from unittest import mock

import pytest
import torch
from gvco_runs import gradient_stream, run
from hypothesis import given, settings
from hypothesis import strategies as st

from hqcnn_lab.optim import GVCO, gvco_bucket, gvco_rule

STARTING_VALUES = {
    "lr": 3e-2,
    "momentum_min": 0.85,
    "momentum_max": 0.96,
    "rho": 0.99,
    "sigma": 0.98,
    "power": 1.5,
    "gamma_min": 0.05,
    "pace": 1.0,
    "tau": 2.5,
    "q": 1.0,
    "floor": 0.1,
    "eps": 1e-8,
    "granularity": "tensor",
    "weight_decay": 0.0,
    "maximize": False,
    "foreach": None,
}


class Reference:
    """The definition in docs/gvco.md, one float at a time, with sums written as sums. Knows nothing of norms or tables.

    One of them is what has a γ and a β of its own: a tensor, an element, or a group, which `sizes` says the tensors of.
    """

    def __init__(self, theta, sizes=None, **hyper):
        self.h = STARTING_VALUES | hyper
        self.theta, self.n = list(theta), len(theta)
        self.m, self.s = [0.0] * self.n, [0.0] * self.n
        self.w, self.t, self.N, self.S, self.ws = 0.0, 0, 0.0, 0.0, 0.0
        self.beta, self.gamma, self.a = self.h["momentum_max"], self.h["gamma_min"], 1.0

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
        s_hat = [s / (1 - h["rho"] ** self.t) + h["eps"] ** 2 for s in self.s]
        self.ws = h["rho"] * self.ws * self.N + (1 - h["rho"]) * sum(x * x for x in d) / n  # N's sum, before its bias
        self.N, self.ws = self.ws / (1 - h["rho"] ** self.t), 1 - h["rho"] ** self.t
        product = sum((y + x) * y for y, x in zip(before, d, strict=True)) / n
        self.S = h["sigma"] * self.S + (1 - h["sigma"]) * product
        S, c = max(self.S, 0.0), (1 - b) / (1 + b)
        A = self.S / (abs(self.S) + c * self.N) if abs(self.S) + c * self.N > 0 else 0.0
        self.a = min(max(self.a * math.exp(h["pace"] * A / math.sqrt(self.t)), 0.01), 4.0)
        self.gamma = self.a * min(max(max(A, 0.0) ** h["power"], h["gamma_min"]), 1.0)
        wanted = 1 - math.sqrt(S / self.N) if self.N > 0 else (1.0 if S == 0 else -math.inf)
        self.beta = min(max(wanted, h["momentum_min"]), h["momentum_max"])
        for i in range(n):
            divisor = s_hat[i] ** (h["q"] / 2) if h["q"] else 1.0
            self.theta[i] *= 1 - h["lr"] * self.a * h["weight_decay"]
            self.theta[i] -= h["lr"] * self.gamma * m_hat[i] / divisor


hypers = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.0, 1e-3, 0.1]),
        "momentum_min": st.sampled_from([0.0, 0.5, 0.85]),
        "momentum_max": st.sampled_from([0.85, 0.96, 0.999]),
        "rho": st.sampled_from([0.0, 0.9, 0.99, 0.9999]),
        "sigma": st.sampled_from([0.0, 0.9, 0.98]),
        "power": st.sampled_from([0.0, 0.5, 1.0, 1.5]),
        "gamma_min": st.sampled_from([0.0, 0.05, 1.0]),
        "pace": st.sampled_from([0.0, 0.5, 3.0]),
        "tau": st.sampled_from([None, 0.5, 2.5]),
        "q": st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        "eps": st.sampled_from([1e-8, 1e-3]),
        "floor": st.sampled_from([0.0, 0.1, 1.0]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "maximize": st.booleans(),
    }
)
shape_lists = st.lists(st.sampled_from([(), (1,), (7,), (3, 2), (2, 1, 3, 3)]), min_size=1, max_size=3)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(hyper=hypers, shapes=shape_lists, steps=st.integers(1, 40), seed=st.integers(0, 999), broken=st.integers(0, 40))
def test_every_path_follows_the_definition(hyper, shapes, steps, seed, broken):
    stream = list(gradient_stream(shapes, steps, seed))
    if broken < steps:
        stream[broken][0].view(-1)[-1] = math.nan
    by_list, optimizer = run(shapes, stream, foreach=True, **hyper)
    one_by_one, plain_optimizer = run(shapes, stream, foreach=False, **hyper)
    with mock.patch.object(gvco_bucket, "_LARGE", 7):  # end to end up to 6 elements, alone from 7 on
        mixed, mixed_optimizer = run(shapes, stream, **hyper)
    generator = torch.Generator().manual_seed(0)
    for i, shape in enumerate(shapes):
        reference = Reference(torch.randn(shape, generator=generator, dtype=torch.float64).flatten().tolist(), **hyper)
        for gradients in stream:
            reference.step(gradients[i].flatten().tolist())
        expected = torch.tensor(reference.theta, dtype=torch.float64).view(shape)
        pairs = ((by_list[i], optimizer), (one_by_one[i], plain_optimizer), (mixed[i], mixed_optimizer))
        for parameter, holder in pairs:
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=1e-9)
            state = holder.state[parameter]
            measured = [state[key].item() for key in ("noise", "signal", "momentum", "slow_scale", "lr_scale")]
            wanted = [reference.N, reference.S, reference.beta, reference.a, reference.gamma]
            assert measured == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("maximize", [False, True])
def test_by_element_each_element_is_a_tensor_of_its_own(maximize):
    stream = list(gradient_stream([(2, 3), (4,)], 60, seed=8))
    stream[30][0][1, 2] = math.nan  # leaves out that element alone
    settings = {"weight_decay": 0.1, "maximize": maximize}
    together, optimizer = run([(2, 3), (4,)], stream, granularity="element", **settings)
    alone, scalars = run([()] * 10, ([x for g in gs for x in g.flatten()] for gs in stream), **settings)
    torch.testing.assert_close(torch.cat([p.flatten() for p in together]), torch.stack(alone), rtol=1e-12, atol=1e-12)
    for name in ("noise", "lr_scale", "momentum"):
        assert optimizer.state[together[0]][name].shape == (2, 3)
        assert optimizer.state[together[0]][name].flatten().tolist() == pytest.approx(
            [scalars.state[p][name].item() for p in alone[:6]]
        )


@pytest.mark.parametrize("foreach", [True, False, None])
def test_by_group_its_tensors_measure_as_one(foreach):
    stream = list(gradient_stream([(2, 3), (4,)], 60, seed=8))
    parts, _ = run([(2, 3), (4,)], stream, granularity="group", foreach=foreach)
    whole, _ = run([(10,)], ([torch.cat([g.flatten() for g in gs])] for gs in stream))
    torch.testing.assert_close(torch.cat([p.flatten() for p in parts]), whole[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("foreach", [True, False, None])
def test_by_group_a_broken_gradient_harms_no_other_tensor(foreach):
    stream = list(gradient_stream([(2, 3), (4,)], 30, seed=8))
    stream[20][0][0, 0] = math.inf
    (sick, well), optimizer = run([(2, 3), (4,)], stream[:20], granularity="group", foreach=foreach)
    before = sick.detach().clone(), well.detach().clone()
    for parameter, gradient in zip((sick, well), stream[20], strict=True):
        parameter.grad = gradient
    optimizer.step()
    assert torch.equal(sick, before[0])
    assert not torch.equal(well, before[1])
    assert well.isfinite().all()


@pytest.mark.parametrize("granularity", ["tensor", "element", "group"])
def test_torch_and_numpy_set_the_same_controls(granularity, monkeypatch):
    # The CPU takes numpy, a GPU torch: the same lines, run with both here.
    stream = list(gradient_stream([(2, 3), (4,)], 60, seed=8))
    stream[20][0][0, 0] = math.nan
    by_numpy, _ = run([(2, 3), (4,)], stream, granularity=granularity, weight_decay=0.1)
    monkeypatch.setattr(
        gvco_rule, "control_on", lambda *tensors: gvco_rule.control(torch, *tensors[:3], 0.03, tensors[3])
    )
    by_torch, _ = run([(2, 3), (4,)], stream, granularity=granularity, weight_decay=0.1)
    torch.testing.assert_close(by_numpy, by_torch, rtol=1e-12, atol=1e-12)


def test_defaults_are_the_starting_values():
    assert GVCO([torch.nn.Parameter(torch.zeros(1))]).defaults == STARTING_VALUES


def test_paths_agree_in_single_precision():
    shapes = [(16, 4, 3, 3), (16,), (1,), (), (40, 30)]
    stream = list(gradient_stream(shapes, 30, seed=1, dtype=torch.float32))
    by_list, _ = run(shapes, stream, torch.float32, foreach=True, weight_decay=0.1)
    for foreach in (False, None):
        other, _ = run(shapes, stream, torch.float32, foreach=foreach, weight_decay=0.1)
        torch.testing.assert_close(by_list, other, rtol=1e-6, atol=1e-6)


def test_equal_momentum_bounds_switch_momentum_control_off():
    stream = list(gradient_stream([(50,)], 60, seed=3, noise=0.1))
    (parameter,), optimizer = run([(50,)], stream, momentum_min=0.9, momentum_max=0.9)
    assert optimizer.state[parameter]["momentum"].item() == pytest.approx(0.9)


def steady_state(noise):
    generator = torch.Generator().manual_seed(4)
    stream = [[1.0 + noise * torch.randn(200, generator=generator, dtype=torch.float64)] for _ in range(400)]
    (parameter,), optimizer = run([(200,)], stream, pace=0.0)
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


def test_no_noise_at_all_is_no_division_by_zero():
    # ρ = 0 forgets at once, so N is exactly 0 and S/N overflows: no noise, hence the least momentum.
    (parameter,), optimizer = run([(3,)], [[torch.full((3,), 1e3)]] * 4, torch.float32, rho=0.0)
    assert parameter.isfinite().all()
    assert optimizer.state[parameter]["momentum"].item() == pytest.approx(0.85)


@pytest.mark.slow
@pytest.mark.parametrize("foreach", [True, False, None])
def test_a_gradient_that_never_changes_moves_a_bounded_step(foreach):
    # Regression: without the floor ŝ decays to nothing while m̂ does not, and the step grows without bound.
    slope = torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)
    (parameter,), optimizer = run([(3,)], [[slope]] * 5000, lr=1e-2, pace=0.0, foreach=foreach)
    before = parameter.detach().clone()
    parameter.grad = slope
    optimizer.step()
    assert (before - parameter.detach()).tolist() == pytest.approx([1e-2 / 0.1] * 3, rel=1e-3)


def pace_after(curvature, noise, n_steps=400, **settings):
    """The slow factor after some steps on ½ Σ h θ², from θ = 1."""
    parameter, generator = torch.nn.Parameter(torch.ones(50)), torch.Generator().manual_seed(2)
    optimizer = GVCO([parameter], **settings)
    for _ in range(n_steps):
        parameter.grad = curvature * parameter.detach() + noise * torch.randn(50, generator=generator)
        optimizer.step()
    return optimizer.state[parameter]["slow_scale"].item()


@pytest.mark.slow
def test_pace_seeks_the_rate_between_crawling_and_oscillating():
    assert pace_after(1.0, 0.1, lr=1e-5) == 4.0
    assert pace_after(1.0, 0.1, lr=100.0) < 0.1
    assert pace_after(1.0, 0.1, lr=100.0, pace=0.0) == 1.0


def test_pace_is_not_moved_by_noise_alone():
    assert 0.3 < pace_after(0.0, 1.0, lr=1e-2) < 3


@pytest.mark.slow
def test_pace_is_bounded():
    # An endless slope agrees with itself for ever.
    (parameter,), optimizer = run([(3,)], [[torch.ones(3, dtype=torch.float64)]] * 3000, lr=1e-6)
    assert optimizer.state[parameter]["slow_scale"].item() == pytest.approx(4.0)
