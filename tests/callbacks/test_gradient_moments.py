"""The estimates of a gradient's mean and variance against their definitions and against simulated gradients."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hqcnn_lab.callbacks.gradient_moments import GradientMoments


def moments_of(*gradients: Tensor, dtype: torch.dtype = torch.float64) -> GradientMoments:
    """Of one tensor, `[n]`, with each row of `gradients` as a step."""
    moments = GradientMoments({"weight": gradients[0].to(dtype)})
    for gradient in gradients:
        moments.update([gradient.to(dtype)])
    return moments


def by_definition(gradients: np.ndarray) -> tuple[float, float]:
    """Variance and signal of `[steps, n]`, with each mean written out as weights of the gradients before."""
    variances, signals = [], []
    for t in range(1, len(gradients)):
        weights = 0.9 ** np.arange(t)[::-1]
        weights /= weights.sum()
        mean = weights @ gradients[:t]
        variances.append(np.mean((gradients[t] - mean) ** 2) / (1 + (weights**2).sum()))
        signals.append(np.mean(gradients[t] * mean))
    memory = 0.99 ** np.arange(len(variances))[::-1]
    return np.average(variances, weights=memory), np.average(signals, weights=memory)


@pytest.mark.parametrize("n_steps", [2, 3, 7, 60])
def test_estimates_are_those_of_the_definition(n_steps: int) -> None:
    gradients = np.random.default_rng(0).normal(0.3, 1.0, (n_steps, 5))
    moments = moments_of(*torch.from_numpy(gradients))
    variance, signal = by_definition(gradients)
    steps, *found = moments.table[:, 0].tolist()
    assert steps == n_steps
    assert found == pytest.approx([variance, signal], rel=1e-9)


@pytest.mark.parametrize("n_steps", [2, 3, 5, 20, 300])
def test_of_white_noise_around_a_mean_neither_is_biased(n_steps: int) -> None:
    # 40,000 elements are as many independent runs; without the correction two steps would say 2 instead of 1, and
    # many 1.05, and a signal that squared the mean's own noise would be 0.3 too large.
    generator = torch.Generator().manual_seed(1)
    mean, std, n = 0.5, 2.0, 40_000
    gradients = [mean + std * torch.randn(n, generator=generator) for _ in range(n_steps)]
    _, variance, signal = moments_of(*gradients, dtype=torch.float32).table[:, 0].tolist()
    # Standard errors of one step's samples; an average of many is nearer. The innovations have a bell curve each.
    assert variance == pytest.approx(std**2, abs=4 * std**2 * math.sqrt(2 / n))
    assert signal == pytest.approx(mean**2, abs=4 * (std**2 + 2 * mean * std) / math.sqrt(n))


def test_a_gradient_that_does_not_change_is_signal_alone() -> None:
    _, variance, signal = moments_of(*[torch.tensor([3.0, 4.0])] * 50).table[:, 0].tolist()
    assert variance == pytest.approx(0, abs=1e-12)
    assert signal == pytest.approx(12.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_gradient_that_is_not_finite_leaves_its_own_tensor_s_estimates(bad: float) -> None:
    torch.manual_seed(0)
    moments = GradientMoments({"a": torch.zeros(3), "b": torch.zeros(2, 2)})
    alone = GradientMoments({"a": torch.zeros(3)})
    for step in range(12):
        a, b = torch.randn(3), torch.randn(2, 2)
        if step in (0, 5):  # also where it is the first
            b[1, 0] = bad
        moments.update([a, b])
        alone.update([a])
    assert torch.equal(moments.table[:, 0], alone.table[:, 0])
    assert moments.table[0].tolist() == [12, 10]
    assert moments.table.isfinite().all()
    assert all(state["mean"].isfinite().all() for state in moments.state_dict().values())


def test_an_absent_gradient_leaves_its_tensor_s_estimates() -> None:
    moments = GradientMoments({"a": torch.zeros(3), "b": torch.zeros(2)})
    moments.update([torch.ones(3), torch.ones(2)])
    before = moments.state_dict()["b"]
    norms = moments.update([torch.ones(3), None])
    after = moments.state_dict()["b"]
    assert norms.tolist() == [pytest.approx(math.sqrt(3)), 0]
    assert torch.equal(before["mean"], after["mean"])
    assert torch.equal(before["table"], after["table"])


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    torch.manual_seed(0)
    steps = [[torch.randn(3), torch.randn(4, 2)] for _ in range(20)]
    parameters = {"a": torch.zeros(3), "b": torch.zeros(4, 2)}
    whole, first, second = (GradientMoments(parameters) for _ in range(3))
    for gradients in steps:
        whole.update(gradients)
    for gradients in steps[:9]:
        first.update(gradients)
    second.load_state_dict(first.state_dict())
    for gradients in steps[9:]:
        second.update(gradients)
    assert torch.equal(second.table, whole.table)
    second.load_state_dict({"a": {"mean": torch.zeros(7), "table": torch.ones(3)}})  # of another size: passed over
    assert torch.equal(second.table, whole.table)


def test_tensors_are_the_same_alone_and_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    parameters = {name: torch.zeros(n) for name, n in (("a", 3), ("b", 4), ("c", 9), ("d", 2))}
    together = GradientMoments(parameters)
    monkeypatch.setattr("hqcnn_lab.callbacks.gradient_moments._IN_CACHE", 7)
    apart = GradientMoments(parameters)
    assert [block.numbers for block in apart._blocks] == [[3, 4], [9], [2]]
    for step in range(20):
        gradients = [torch.randn(p.shape) for p in parameters.values()]
        gradients[2] = None if step == 3 else gradients[2]
        if step == 5:
            gradients[2][1] = math.nan
        torch.testing.assert_close(apart.update(gradients), together.update(gradients), equal_nan=True)
    torch.testing.assert_close(apart.table, together.table)
    assert apart.table[0].tolist() == [20, 20, 18, 20]


@pytest.mark.gpu
def test_a_gpu_estimates_the_same_and_is_never_waited_for() -> None:
    torch.manual_seed(0)
    shapes = {"a": (3,), "b": (64, 9), "c": (1,)}
    on_cpu, on_gpu = (
        GradientMoments({name: torch.zeros(shape, device=device) for name, shape in shapes.items()})
        for device in ("cpu", "cuda")
    )
    for step in range(20):
        gradients = [torch.randn(shape) for shape in shapes.values()]
        if step == 5:
            gradients[1][0, 0] = math.nan
        on_cpu.update(gradients)
        there = [gradient.cuda() for gradient in gradients]
        torch.cuda.set_sync_debug_mode("error")
        try:
            on_gpu.update(there)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(on_gpu.table.cpu(), on_cpu.table)
