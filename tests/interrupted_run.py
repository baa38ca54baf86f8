"""Runs that are interrupted at a chosen place, to go on from there: equal to those that never were."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from run_results import best_epoch, rows_of

from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.run.training import train

AUGMENT_ALL = [f"dataset.augment.{amount}" for amount in ("intensity=0.3", "noise=0.1", "cutout=0.3", "mixup=0.4")]
RESUMED = [
    ["gvco"],
    ["gvco", "scheduler=cosine", "callbacks.weight_average.decay=0.99", "optim.walk=null"],
    ["adam", "dataset.balance=loss"],
    ["sgd", "dataset.balance=sampler", *AUGMENT_ALL],
    ["adamw", "+trainer.max_steps=100"],  # Lightning counted an epoch and a step twice
    ["radam"],
    ["adabelief"],
    ["qng", "optim.quantum_lr=0.05"],
    ["schedule_free_adamw", "+trainer.max_steps=100"],
    ["schedule_free_sgd", "trainer.accumulate_grad_batches=2", "+trainer.gradient_clip_val=1"],
    ["prodigy", "optim.quantum_lr=0"],
    ["spsa", "optim.quantum_lr=0.01", "circuit.shots=50", "trainer.accumulate_grad_batches=2"],
]


def into(config: DictConfig, folder: Path, **changes: Any) -> DictConfig:
    config = config.copy()
    config.paths.output_dir = str(folder)
    config.merge_with(changes)
    return config


def at(stage: str, epoch: int, batch: int, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `act` called in the middle of one batch of one stage."""
    step = getattr(ImageClassifier, f"{stage}_step")

    def watched(self: ImageClassifier, images: dict[str, torch.Tensor], index: int) -> Any:
        if (self.current_epoch, index) == (epoch, batch):
            act()
        return step(self, images, index)

    monkeypatch.setattr(ImageClassifier, f"{stage}_step", watched)


def told(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def killed() -> None:
    raise ConnectionAbortedError("as if by kill -9: nothing more is written")


def cut(config: DictConfig, code: int | None, *where: Any) -> None:
    """Train until what `at` is told to do there; `code` is the exit status, None where it is no exit."""
    with pytest.MonkeyPatch.context() as patch:
        at(*where, patch)
        with pytest.raises(ConnectionAbortedError if code is None else SystemExit) as stop:
            train(config)
    if code is not None:
        assert stop.value.code == code


def assert_same_result(whole: Path, resumed: Path) -> None:
    one, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, resumed))
    assert one["global_step"] == other["global_step"]
    weights = {"state_dict", "current_model_state", "training_point"} & one.keys()
    assert len(weights) == 2  # what is judged, and what is trained
    for key in weights:
        assert one[key].keys() == other[key].keys()
        assert all(torch.equal(one[key][name], tensor) for name, tensor in other[key].items())
    assert best_epoch(whole) == best_epoch(resumed)
    one, other = (json.loads((run / "summary.json").read_text()) for run in (whole, resumed))
    timeless = {key for key in one if "seconds" not in key}
    assert {key: one[key] for key in timeless} == {key: other[key] for key in timeless}
    assert (whole / "predictions.csv").read_text() == (resumed / "predictions.csv").read_text()


def logged(*runs: Path) -> dict[tuple[str, str], list[str]]:
    """Every value that the runs logged, once for each time it was: (step, name) → values; times left out."""
    values: dict[tuple[str, str], list[str]] = {}
    for row in (row for run in runs for row in rows_of(run)):
        for key, value in row.items():
            if value and not key.startswith("seconds"):
                values.setdefault((row["step"], key), []).append(value)
    return values
