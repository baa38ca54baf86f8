"""What a step was, how far the weights are from their start, and which of them stood still."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import tiny_config
from test_callbacks import Circuit, fit

from hqcnn_lab.callbacks import GradientVariance, StepSize
from hqcnn_lab.callbacks.standstill import Standstill
from hqcnn_lab.run.summary import standstills
from hqcnn_lab.run.training import train


class Recorded(Circuit):
    """Keeps its weights as they were before each step and after the last."""

    def on_fit_start(self) -> None:
        self.track = [self._now()]

    def optimizer_step(self, *arguments: Any) -> None:
        super().optimizer_step(*arguments)
        self.track.append(self._now())

    def _now(self) -> dict[str, torch.Tensor]:
        weight, bias, angles = (p.detach().clone() for p in self.net.parameters())
        return {"classical": torch.cat([weight.flatten(), bias]), "quantum": angles.flatten()}


def rms(values: torch.Tensor) -> float:
    return values.square().mean().sqrt().item()


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_relative_step_and_distance_are_of_the_group_s_weights(optimizer: Any) -> None:
    module, callback = Recorded(optimizer), StepSize()
    logged = fit(module, callback, max_epochs=2, log_every_n_steps=2).callback_metrics  # six steps
    summary = callback.summary()
    for group in ("quantum", "classical"):
        start, before, now = (module.track[i][group] for i in (0, -2, -1))
        assert logged[f"step/{group}/relative"].item() == pytest.approx(rms(now - before) / rms(before), rel=1e-4)
        assert logged[f"step/{group}/moved"].item() == pytest.approx(rms(now - start), rel=1e-4)
        assert summary[f"step/{group}/moved"] == pytest.approx(rms(now - start), rel=1e-4)
        assert summary[f"step/{group}/start"] == pytest.approx(rms(start), rel=1e-4)


def test_only_logged_steps_are_measured() -> None:
    assert not fit(Circuit(torch.optim.Adam), callback := StepSize(), log_every_n_steps=4).callback_metrics
    assert callback.summary() == {}


def counted(quantum: list[float], norms: list[float] | None = None, lr: float = 0.1) -> dict[str, Any]:
    """A run's summary, of the quantum group's relative steps and gradients; the classical ones have 1 throughout."""
    standstill = Standstill()
    for step, (own, norm) in enumerate(zip(quantum, norms or [1.0] * len(quantum), strict=True), 1):
        relative, gradients = {"quantum": own, "classical": 1.0}, {"quantum": norm, "classical": 1.0}
        standstill.add(10 * step, relative, gradients, {"quantum": lr, "classical": 0.1})
    return standstill.summary()


def test_a_group_that_stops_is_told_with_when_and_how_much() -> None:
    summary = counted([0.5] * 6 + [0.001] * 14)
    assert summary == {
        "step/quantum/stopped_from": 70,
        "step/quantum/stopped_share": pytest.approx(0.7),
        "step/quantum/stopped_ratio": pytest.approx(0.001),
    }
    [line] = standstills(summary)
    assert line.startswith("warning: quantum parameters stood still from step 70 on, in 70 % of the logged steps")
    assert "relative steps 0.001 times the others'" in line
    assert "optim.quantum_lr" in line


def test_a_group_is_not_told_that_only_pauses_or_is_slow_or_has_no_gradient_left() -> None:
    assert counted([0.001, 0.001] + [0.5] * 18) == {}  # a tenth is not more than a tenth
    assert counted([0.011] * 20) == {}
    assert counted([0.5, 0.001] * 10, [1.0, 1e-3] * 10) == {}  # its gradient fell as much
    assert counted([0.5, 0.001] * 10, [1.0, 1e-2] * 10) != {}  # it fell, and the step ten times more
    assert counted([0.0] * 20, [0.0] * 20) == {}  # it never had a gradient


def test_a_frozen_group_is_told_apart() -> None:
    assert counted([0.0] * 20, lr=0.0) == {"step/quantum/frozen": True}
    assert standstills({"step/quantum/frozen": True}) == ["quantum parameters: frozen, as optim.quantum_lr is 0"]


LONG = ["optim=adam", "scheduler=none", "trainer.max_epochs=3", "trainer.log_every_n_steps=1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["optim.quantum_lr=1e-9"], "warning: quantum parameters stood still from step"),
        (["optim.lr=0", "optim.quantum_lr=0.01"], "classical parameters: frozen, as optim.lr is 0"),
        ([], None),
        (["optim=gvco"], None),
        (["optim=sgd"], None),
    ],
    ids=["stopped", "frozen", "adam", "gvco", "sgd"],
)
def test_a_run_says_at_its_end_what_did_not_train(
    given: list[str], said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_config(tmp_path / "run", *LONG, *given))
    printed = capsys.readouterr().out.splitlines()
    found = [line for line in printed if "stood still" in line or "frozen" in line]
    assert [line[: len(said or "")] for line in found] == ([said] if said else [])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert ("step/quantum/stopped_from" in summary) == ("stopped" in (said or "") or "stood" in (said or ""))
    assert ("step/classical/frozen" in summary) == ("frozen" in (said or ""))
    assert summary["step/quantum/start"] > 0


def test_a_resumed_run_counts_on_from_where_it_began(tmp_path: Path) -> None:
    def run(folder: Path, max_epochs: int, **options: Any) -> StepSize:
        callback = StepSize()
        torch.manual_seed(0)
        watching = {"callbacks": [callback, GradientVariance()], "log_every_n_steps": 1, "logger": False}
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder}
        trainer = pl.Trainer(accelerator="cpu", max_epochs=max_epochs, **watching, **quiet)
        data = torch.utils.data.DataLoader(torch.linspace(-1, 1, 48).view(12, 4), 4)
        trainer.fit(Circuit(torch.optim.Adam), data, weights_only=True, **options)
        trainer.save_checkpoint(folder / "last.ckpt")
        return callback

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "cut", 2)
    resumed = run(tmp_path / "resumed", 4, ckpt_path=tmp_path / "cut" / "last.ckpt")
    assert resumed.summary() == whole.summary()
    assert resumed._standstill.groups == whole._standstill.groups
    older = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)
    assert [name for name in older["callbacks"] if name in ("StepSize", "GradientVariance")]
    older["callbacks"] = {}
    torch.save(older, tmp_path / "older.ckpt")
    anew = run(tmp_path / "anew", 4, ckpt_path=tmp_path / "older.ckpt")
    assert anew._standstill.groups["quantum"]["steps"] == 6  # of 12
    assert anew.summary()["step/quantum/start"] != whole.summary()["step/quantum/start"]
