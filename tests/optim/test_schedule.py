"""The schedule's shape, worked by hand."""

import math

import pytest
import torch

from hqcnn_lab.optim import WarmupCosine


def rates(total_steps: int, warmup: float, peaks: tuple[float, ...] = (1.0,)) -> list[list[float]]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = WarmupCosine(optimizer, total_steps=total_steps, warmup=warmup)
    seen = []
    for _ in range(total_steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


def test_rises_linearly_then_follows_half_a_cosine_to_zero() -> None:
    seen = [rate for [rate] in rates(100, 0.1)]
    assert seen[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert seen[10] == pytest.approx(1)
    assert seen[55] == pytest.approx(0.5)
    assert seen[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert seen[99] < 1e-3


def test_each_group_keeps_its_own_peak() -> None:
    assert max(rate for rate, _ in rates(50, 0.05, (1.0, 0.2))) == pytest.approx(1)
    assert max(rate for _, rate in rates(50, 0.05, (1.0, 0.2))) == pytest.approx(0.2)


def test_is_never_zero_at_the_start_nor_negative_after_the_end() -> None:
    assert rates(3, 0.0)[0] == [1.0]
    schedule = WarmupCosine(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), total_steps=2)
    for _ in range(5):
        schedule.optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == [0.0]
