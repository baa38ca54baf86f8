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
    "momentum": 0.9,
    "rho": 0.999,
    "centering": 0.9,
    "tau": 2.5,
    "least_size": 0.1,
    "walk": 1.0,
    "recency": 0.0,
    "warmup": 100,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "maximize": False,
    "foreach": None,
    "train_mode": True,
}


class Reference:
    """The definition in docs/gvco.md for one tensor, one float at a time, with x kept and sums written as sums."""

    def __init__(self, theta, **hyper):
        self.h = STARTING_VALUES | hyper
        self.n, self.t = len(theta), 0
        self.x, self.y, self.z = list(theta), list(theta), list(theta)
        self.m, self.v, self.N = [0.0] * self.n, [0.0] * self.n, 0.0  # sums, before their bias is corrected
        self.noise = self.peak = self.weights = self.rate = self.c = 0.0

    def step(self, g):
        h, n = self.h, self.n
        if not all(map(math.isfinite, g)):
            return
        if h["maximize"]:
            g = [-x for x in g]
        m = [x / (1 - 0.9**self.t) if self.t else 0.0 for x in self.m]
        d = [x - y for x, y in zip(g, m, strict=True)]
        rms = math.sqrt(sum(x * x for x in d) / n)
        if h["tau"] is not None and self.t >= 10 and self.noise > 0 and rms > 0:
            d = [x * min(1.0, h["tau"] * math.sqrt(self.noise) / rms) for x in d]
        own_size = math.sqrt(sum(x * x for x in self.y) / n)
        self.t += 1
        self.N = 0.99 * self.N + 0.01 * sum(x * x for x in d) / n
        self.noise = self.N / (1 - 0.99**self.t)
        e = [x + (1 - h["centering"]) * y for x, y in zip(d, m, strict=True)]
        self.v = [h["rho"] * v + (1 - h["rho"]) * x * x for v, x in zip(self.v, e, strict=True)]
        deviation = [math.sqrt(v / (1 - h["rho"] ** self.t)) + h["eps"] for v in self.v]
        u = [(x + y) / s + h["weight_decay"] * w for x, y, s, w in zip(m, d, deviation, self.y, strict=True)]
        self.m = [0.9 * a + 0.1 * (x + y) for a, x, y in zip(self.m, m, d, strict=True)]
        self.rate = h["lr"] if h["walk"] is None else min(h["lr"], h["walk"] / math.sqrt(self.t))
        self.rate *= min(1.0, self.t / max(h["warmup"], 1))
        if h["least_size"] is not None:
            self.rate *= max(own_size, h["least_size"])
        self.z = [z - self.rate * s for z, s in zip(self.z, u, strict=True)]
        self.peak = max(self.peak, self.rate)
        self.weights += self.t ** h["recency"] * self.peak**2
        self.c = self.t ** h["recency"] * self.peak**2 / self.weights if self.weights else 0.0
        self.x = [(1 - self.c) * x + self.c * z for x, z in zip(self.x, self.z, strict=True)]
        self.y = [(1 - h["momentum"]) * z + h["momentum"] * x for z, x in zip(self.z, self.x, strict=True)]


hypers = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.0, 1e-3, 0.1]),
        "momentum": st.sampled_from([0.5, 0.9, 0.99]),
        "rho": st.sampled_from([0.0, 0.9, 0.999]),
        "centering": st.sampled_from([0.0, 0.9, 1.0]),
        "tau": st.sampled_from([None, 0.5, 2.5]),
        "least_size": st.sampled_from([None, 0.1, 1.0]),
        "walk": st.sampled_from([None, 0.05, 1.0]),
        "recency": st.sampled_from([0.0, 0.5, 2.0]),
        "warmup": st.sampled_from([0, 1, 10]),
        "eps": st.sampled_from([1e-8, 1e-3]),
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
    runs = [run(shapes, stream, foreach=foreach, **hyper) for foreach in (True, False)]
    with mock.patch.object(gvco_bucket, "_LARGE", 7):  # end to end up to 6 elements, alone from 7 on
        runs.append(run(shapes, stream, **hyper))
    generator = torch.Generator().manual_seed(0)
    for i, shape in enumerate(shapes):
        reference = Reference(torch.randn(shape, generator=generator, dtype=torch.float64).flatten().tolist(), **hyper)
        for gradients in stream:
            reference.step(gradients[i].flatten().tolist())
        for params, optimizer in runs:
            held = (params[i].detach(), optimizer.state[params[i]]["bold"])
            for values, wanted in zip(held, (reference.y, reference.z), strict=True):
                expected = torch.tensor(wanted, dtype=torch.float64).view(shape)
                torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-9)
            state = optimizer.state[params[i]]
            measured = [state[key].item() for key in ("noise", "rate", "average_weight")]
            assert measured == pytest.approx([reference.noise, reference.rate, reference.c], rel=1e-6, abs=1e-9)
    for params, optimizer in runs:
        optimizer.eval()
        x = params[-1].detach().flatten().tolist()
        assert x == pytest.approx(reference.x, rel=1e-6, abs=1e-8)


def test_torch_and_numpy_set_the_same_controls(monkeypatch):
    # The CPU takes numpy, a GPU torch: the same lines, run with both here.
    stream = list(gradient_stream([(2, 3), (4,)], 60, seed=8))
    stream[20][0][0, 0] = math.nan
    by_numpy, _ = run([(2, 3), (4,)], stream, weight_decay=0.1, foreach=True)
    monkeypatch.setattr(
        gvco_rule, "control_on", lambda *tensors: gvco_rule.control(torch, *tensors[:3], 0.03, tensors[3])
    )
    by_torch, _ = run([(2, 3), (4,)], stream, weight_decay=0.1, foreach=True)
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


def test_measures_the_noise_that_was_put_in():
    generator = torch.Generator().manual_seed(4)
    stream = [[1.0 + 3.0 * torch.randn(200, generator=generator, dtype=torch.float64)] for _ in range(400)]
    (parameter,), optimizer = run([(200,)], stream)
    # An innovation also has what is left in the mean of 0.9: (1 − 0.9) / (1 + 0.9) of the variance.
    assert optimizer.state[parameter]["noise"].item() == pytest.approx(9.0 * (1 + 0.1 / 1.9), rel=0.05)


def test_a_steady_gradient_is_followed_more_boldly_than_a_noisy_one():
    generator = torch.Generator().manual_seed(4)
    moved = {}
    for noise in (0.1, 10.0):
        stream = [[1.0 + noise * torch.randn(200, generator=generator, dtype=torch.float64)] for _ in range(50)]
        (parameter,), optimizer = run([(200,)], stream, warmup=0, lr=0.01)
        start = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        moved[noise] = (start - optimizer.state[parameter]["bold"]).mean().item()
    assert moved[0.1] > 20 * moved[10.0] > 0


def test_a_step_is_a_share_of_the_tensors_size():
    # So that one rate suits kernels of 0.05, angles of 0.3 and scales of 1.
    stream = list(gradient_stream([(50,)], 1, seed=3))
    for size in (0.01, 0.1, 3.0, 100.0):
        parameter = torch.nn.Parameter(torch.full((50,), size, dtype=torch.float64))
        parameter.grad = stream[0][0]
        GVCO([parameter], lr=0.02, warmup=0).step()
        step = (parameter - size).square().mean().sqrt().item()
        assert step == pytest.approx(0.02 * max(size, 0.1), rel=1e-6)


def test_guard_bounds_what_one_erratic_gradient_does():
    stream = [*gradient_stream([(30,)], 12, seed=5), [torch.full((30,), 1e6, dtype=torch.float64)]]
    noise = {}
    for tau in (2.5, None):
        (parameter,), optimizer = run([(30,)], stream, tau=tau)
        noise[tau] = optimizer.state[parameter]["noise"].item()
    assert noise[2.5] < 1e3
    assert noise[None] > 1e9


def test_after_an_erratic_gradient_the_next_steps_are_as_bold_as_before():
    # Without the guard its square stays in the variance for a thousand steps, and nothing moves.
    calm = list(gradient_stream([(30,)], 60, seed=5))
    moved = {}
    for tau in (2.5, None):
        stream = [*calm[:20], [torch.full((30,), 1e6, dtype=torch.float64)]]
        (parameter,), optimizer = run([(30,)], stream, tau=tau)
        before = optimizer.state[parameter]["bold"].clone()
        for gradients in calm[20:]:
            parameter.grad = gradients[0]
            optimizer.step()
        moved[tau] = (optimizer.state[parameter]["bold"] - before).norm().item()
    assert moved[2.5] > 50 * moved[None]


def test_a_tensor_without_gradient_at_first_still_learns_later():
    # Regression: with N = 0 the guard, armed after the warm-up, held every later gradient at 0.
    stream = [[torch.zeros(4)]] * 20 + [[torch.ones(4)]] * 20
    (parameter,), _ = run([(4,)], stream, torch.float32)
    start = torch.randn(4, generator=torch.Generator().manual_seed(0))
    assert (parameter.detach() < start - 0.01).all()


@pytest.mark.slow
@pytest.mark.parametrize("foreach", [True, False, None])
def test_a_gradient_that_never_changes_moves_a_bounded_step(foreach):
    # Regression: taken around the mean the variance decays to nothing, and the step would grow without bound.
    slope = torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)
    settings = {"lr": 1e-2, "least_size": None, "rho": 0.99, "foreach": foreach}
    (parameter,), optimizer = run([(3,)], [[slope]] * 3000, **settings)
    before = optimizer.state[parameter]["bold"].clone()
    parameter.grad = slope
    optimizer.step()
    moved = (before - optimizer.state[parameter]["bold"]).tolist()
    assert moved == pytest.approx([1e-2 / 0.1] * 3, rel=1e-3)
