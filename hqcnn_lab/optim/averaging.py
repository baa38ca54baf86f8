"""Optimizers that average by themselves: what they train is not what is to be judged."""

from __future__ import annotations

from collections.abc import Iterable

from torch.optim import Optimizer


def averages(optimizer: Optimizer | type[Optimizer]) -> bool:
    """Whether an optimizer, or a class of them, has an average of its own, as the `schedulefree` library's have.

    Its `eval()` puts the average x into the parameters, where they are judged; `train()` puts back the point y that
    gradients are taken at. Of a new optimizer both are the same.
    """
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


def put_average(optimizers: Iterable[Optimizer]) -> None:
    """Have the parameters of each optimizer that averages hold its average."""
    for optimizer in filter(averages, optimizers):
        optimizer.eval()  # pyright: ignore


def put_training_point(optimizers: Iterable[Optimizer]) -> None:
    """Have the parameters of each optimizer that averages hold what it trains; without this its `step` fails."""
    for optimizer in filter(averages, optimizers):
        optimizer.train()  # pyright: ignore
