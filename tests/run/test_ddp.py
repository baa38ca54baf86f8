"""One run in several processes: it computes what one would, leaves one folder, and ends when any of them does."""

import csv
import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from conftest import TINY, tiny_config
from torch import nn

from hqcnn_lab.config.check import check
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.data.datamodule import BalancedShuffle, EpochShuffle
from hqcnn_lab.error import ConfigError
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow

# Batch normalization is of each process's own images, dropout and augmentation of each one's own random numbers.
SAME = ["dataset.augment=null", "model.dropout=0", "dataset.n_train=72", "dataset.n_test=25", "trainer.max_epochs=2"]
SAME += ["test_after=[1]"]
N_STEPS = 4  # of an epoch: 64 images, 16 a step

PROGRAM = """
import os, signal, sys
import torch
from torch import nn
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.train import main

rank = int(os.environ.get("LOCAL_RANK", 0))
at = os.environ.get("END_AT")
step, seen = ImageClassifier.training_step, []

def watched(self, images, index):
    seen.append((self.current_epoch, images["index"]))
    if f"{rank} {self.current_epoch} {index}" == at:
        os.kill(os.getpid(), int(os.environ["END_BY"]))
    return step(self, images, index)

def on_fit_end(self):
    torch.save({"seen": seen, "state": self.optimizers(False).state_dict()["state"]}, f"rank{rank}.pt")

nn.BatchNorm2d.forward = lambda self, x: x * self.weight[:, None, None] + self.bias[:, None, None]
ImageClassifier.training_step, ImageClassifier.on_fit_end = watched, on_fit_end
if __name__ == "__main__":
    main()
"""


def run(cwd: Path, *overrides: str, anew: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    """In two processes; with `anew`, Lightning and we start them as it does for a user."""
    (cwd / "program.py").write_text(PROGRAM)
    two = ["trainer.devices=2", "trainer.strategy=ddp", "resume=auto"]
    line = ["-m", "program", *TINY, *SAME, *two, *overrides]
    return (warm.run_anew if anew else warm.run)(*line, cwd=cwd, **variables)


def values_of(*runs: Path) -> dict[tuple[str, str], float]:
    rows = [row for run in runs for row in csv.DictReader((run / "metrics.csv").open())]
    figures = [(row["step"], key, value) for row in rows for key, value in row.items() if value and "/" in key]
    values = [((step, key), float(value)) for step, key, value in figures]
    assert len(values) == len(dict(values))
    return dict(values)


@pytest.mark.parametrize("optim", ["gvco", "adam"])  # averaged by itself, and by a callback
def test_interrupted_run_of_two_processes_equals_one_of_one_process(
    optim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second of two micro-batches of a step: it ends after that.
    halves = [f"optim={optim}", "dataset.batch_size=4", "trainer.accumulate_grad_batches=2"]
    first = run(tmp_path, *halves, END_AT="0 1 3", END_BY=str(int(signal.SIGTERM)))
    assert first.returncode == 143, first.stderr
    [cut] = (tmp_path / "runs").iterdir()
    assert json.loads((cut / "status.json").read_text())["error"] == "interrupted"
    second = run(tmp_path, *halves)
    assert second.returncode == 0, second.stderr
    assert f"continuing runs/{cut.name} from epoch 2, step {N_STEPS + 2}" in second.stdout
    assert second.stdout.count("epoch 2/2") == second.stdout.count("run folder") == 1
    [resumed] = [path for path in (tmp_path / "runs").iterdir() if path != cut]
    assert {path.name for path in (resumed / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "epoch_1.ckpt"}
    assert len(list(resumed.glob("wandb/offline-run-*"))) == 1

    monkeypatch.setattr(
        nn.BatchNorm2d, "forward", lambda self, x: x * self.weight[:, None, None] + self.bias[:, None, None]
    )
    train(tiny_config(tmp_path / "one", *SAME, f"optim={optim}", "dataset.batch_size=16"))
    assert values_of(cut, resumed) == pytest.approx(values_of(tmp_path / "one"), rel=1e-3, abs=1e-5)
    one, two = (json.loads((path / "summary.json").read_text()) for path in (tmp_path / "one", resumed))
    timeless = {key for key, value in one.items() if "seconds" not in key and isinstance(value, int | float)}
    assert {key: two[key] for key in timeless} == pytest.approx({key: one[key] for key in timeless}, rel=1e-4)
    assert two["test/confusion_matrix"] == one["test/confusion_matrix"]
    tables = [list(csv.DictReader((path / "predictions.csv").open())) for path in (tmp_path / "one", resumed)]
    assert [row["file"] for row in tables[0]] == [row["file"] for row in tables[1]]  # each once, in order
    for row, other in zip(*tables, strict=True):
        assert float(row["p/glioma"]) == pytest.approx(float(other["p/glioma"]), abs=1e-5)

    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    shares = [torch.cat([index for _, index in rank["seen"]]).tolist() for rank in ranks]
    assert len(shares[0]) == len(shares[1]) == 4 * 4  # the epoch's second half: four micro-batches of four
    assert not set(shares[0]) & set(shares[1])
    for parameter, state in ranks[0]["state"].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(ranks[1]["state"][parameter][name])), name


def test_run_ends_when_one_of_its_processes_dies(tmp_path: Path) -> None:
    ended = run(tmp_path, "logger=none", anew=True, END_AT="1 0 1", END_BY=str(int(signal.SIGKILL)))
    assert ended.returncode not in (0, None)
    [folder] = (tmp_path / "runs").iterdir()
    status = json.loads((folder / "status.json").read_text())
    # Lightning's watch over the processes may come first, and ends this one by force.
    if ended.returncode == 1:
        assert "process 1 of this run ended with exit code -9" in status["error"]
    else:
        assert ended.returncode == -signal.SIGKILL
        assert status["status"] in ("running", "failed")


@pytest.mark.parametrize("kind", ["shuffle", "balanced"])
def test_processes_see_together_what_one_would(kind: str) -> None:
    labels = np.repeat([0, 1, 2], [20, 10, 7])

    def sampler(*place: int) -> EpochShuffle:
        if kind == "shuffle":
            return EpochShuffle(len(labels), 3, lambda: 5, *place)
        return BalancedShuffle(labels, 3, lambda: 5, *place)

    alone, shares = list(sampler()), [list(sampler(rank, 2)) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == len(sampler(0, 2)) == 18
    for batch in range(4):
        together = [position for share in shares for position in share[4 * batch : 4 * batch + 4]]
        assert sorted(together) == sorted(alone[8 * batch : 8 * batch + 8])
    continued = sampler(1, 2)
    continued.start = 8
    assert list(continued) == shares[1][8:]
    assert list(continued) == shares[1]  # of the next iterator alone


@pytest.mark.parametrize(
    ("overrides", "in_sweep", "words"),
    [
        (["trainer.devices=2"], True, "trainer.devices=2: several are for a single run"),
        (["trainer.devices=[0,1]", "seed=0,1"], True, r"trainer.devices=\[0, 1\]: several are for a single run"),
        (["trainer.devices=2", "optim=qng"], False, "QNG evaluates circuits on the images of its own process"),
        (["trainer.devices=2", "optim=spsa"], False, "SPSA evaluates circuits on the images of its own process"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(overrides: list[str], in_sweep: bool, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_command_line(overrides, multirun=in_sweep, check=lambda config: check(config, in_sweep))
