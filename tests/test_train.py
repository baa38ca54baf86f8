"""One run, end to end: what it leaves behind, how it goes on after an interruption, and how it fails."""

import csv
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from conftest import TINY_PHANTOM, tiny_config
from interrupted_run import AUGMENT_ALL
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from run_results import best_epoch, rows_of

from hqcnn_lab.build import build
from hqcnn_lab.callbacks import Convergence, WeightAverage
from hqcnn_lab.config.compose import compose
from hqcnn_lab.data import ImageDataModule, PhantomDataModule
from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.error import ConfigError
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.models.classifier import TrainingDiverged
from hqcnn_lab.run import summary
from hqcnn_lab.run.training import train
from hqcnn_lab.train import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three epochs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(tiny_config(folder, "trainer.max_epochs=3"))
    return folder


def test_run_folder_is_a_complete_record(run: Path) -> None:
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    assert yaml.safe_load((run / "config.yaml").read_text())["optim"]["_target_"] == "hqcnn_lab.optim.GVCO"
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    summary = json.loads((run / "summary.json").read_text())
    expected = {
        *("test/accuracy", "test/macro_f1", "test/auroc", "test/loss", "test/recall/glioma", "test/confusion_matrix"),
        *("val/accuracy", "val/best_accuracy", "train/loss", "epochs", "steps", "seconds/epoch"),
        *("params/quantum", "params/classical", "convergence/epochs_to_90", "convergence/seconds_to_98"),
        *("baseline/nearest_neighbour_accuracy", "images/train", "images/val", "images/test"),
    }
    assert expected <= set(summary)
    assert summary["epochs"] == 3
    assert summary["params/quantum"] == 2 * 2 * 4 * 2  # circuits · layers · wires · (Ry, Rz)
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not list(run.rglob("*.part"))


def test_a_run_that_ends_before_its_first_validation_is_tested(tmp_path: Path) -> None:
    # Regression: the training was done and lost, there being no best.ckpt; and Lightning took no list on a CPU.
    early = ["+trainer.max_steps=1", "test_checkpoint=best", "trainer.devices=[0]"]
    train(tiny_config(tmp_path / "early", *early))
    summary = json.loads((tmp_path / "early" / "summary.json").read_text())
    assert summary["steps"] == 1
    assert {"test/accuracy", "val/accuracy"} <= set(summary)


def test_predictions_agree_with_the_summary(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary["images/test"] == len({row["file"] for row in rows})
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert right / len(rows) == pytest.approx(summary["test/accuracy"])
    assert right == sum(summary["test/confusion_matrix"][i][i] for i in range(4))
    assert all(
        sum(float(v) for k, v in row.items() if k.startswith("p/")) == pytest.approx(1, abs=1e-5) for row in rows
    )


def test_metrics_hold_what_a_reader_expects(run: Path) -> None:
    logged = {key for row in rows_of(run) for key, value in row.items() if value}
    assert {
        *("train/loss", "val/loss", "val/accuracy", "val/macro_f1", "val/recall/pituitary", "test/accuracy"),
        *("grad/quantum/variance_over_steps", "grad/classical/signal", "grad/quantum/variance_over_elements"),
        *("grad/layer/kernel.weights/variance_over_steps", "step/quantum/relative", "step/classical/moved"),
        *("control/quantum/rate", "control/layer/kernel.weights/average_weight", "lr/quantum", "lr/classical"),
    } <= logged


def test_gvcos_rate_is_a_share_of_the_angles_size(run: Path) -> None:
    logged = [row for row in rows_of(run) if row["control/quantum/rate"]]
    n_steps = len(logged)
    shares = [float(row["control/quantum/rate"]) / float(row["lr/quantum"]) for row in logged]
    sizes = [share / ((t + 1) / 100) for t, share in enumerate(shares)]  # warm-up is of 100 steps
    assert 0 < n_steps < 100
    assert all(0.1 <= size <= 0.6 for size in sizes)  # angles begin with a standard deviation of 0.3


def test_resumed_run_remembers_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: in its new folder Lightning's ModelCheckpoint forgets the best score, and a later epoch became it.
    overrides = ["optim=sgd", "scheduler=none", "trainer.max_epochs=4", "test_checkpoint=best"]
    accuracies = iter([0.3, 0.9, 0.5, 0.6])

    log = ImageClassifier.log

    def scripted(self: ImageClassifier, name: str, value: object, **options: object) -> None:
        log(self, name, next(accuracies) if name == "val/accuracy" else value, **options)

    monkeypatch.setattr(ImageClassifier, "log", scripted)
    with monkeypatch.context() as patch:
        patch.setattr(Convergence, "on_train_epoch_start", _interrupt_at_epoch_2)
        with pytest.raises(ConnectionAbortedError):
            train(tiny_config(tmp_path / "cut", *overrides))
    train(tiny_config(tmp_path / "resumed", *overrides, f"ckpt_path={tmp_path}/cut/checkpoints/last.ckpt"))
    assert best_epoch(tmp_path / "resumed") == 1
    assert json.loads((tmp_path / "resumed" / "summary.json").read_text())["val/best_epoch"] == 2


def _interrupt_at_epoch_2(self: Convergence, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    if trainer.current_epoch == 2:
        raise ConnectionAbortedError("the machine went away")


def test_checkpoint_reloads_as_plain_data(run: Path) -> None:
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["model"]["_target_"] == "hqcnn_lab.models.HQCNN"
    model = ImageClassifier.load_from_checkpoint(run / "checkpoints/last.ckpt", weights_only=True).eval()
    config = yaml.safe_load((run / "config.yaml").read_text())
    data = build(config["dataset"])
    data.setup()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    [scores] = trainer.test(model, datamodule=data, verbose=False)
    summary = json.loads((run / "summary.json").read_text())
    assert scores["test/accuracy"] == pytest.approx(summary["test/accuracy"])
    assert scores["test/loss"] == pytest.approx(summary["test/loss"], rel=1e-5)


def test_best_checkpoint_is_scored_with_its_averaged_weights(tmp_path: Path) -> None:
    # Regression: for a test after a fit, Lightning's WeightAveraging puts the raw weights back over the averaged ones
    # that were just loaded.
    torch.manual_seed(0)  # of some starts, both weights have the same loss to a thousandth
    config = tiny_config(tmp_path, "optim=adam")
    data = build(OmegaConf.to_container(config.dataset, resolve=True))
    parts = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "optim", "scheduler")}
    model = ImageClassifier(**parts, classes=list(data.classes), image_size=16)
    best = ModelCheckpoint(tmp_path, "best", monitor="val/accuracy", mode="max", save_on_train_epoch_end=True)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=3, callbacks=[WeightAverage(0.9), best], **quiet)
    trainer.fit(model, datamodule=data)
    [scores] = trainer.test(model, datamodule=data, ckpt_path="best", weights_only=True, verbose=False)

    reloaded = ImageClassifier.load_from_checkpoint(best.best_model_path, weights_only=True)
    [expected] = pl.Trainer(**quiet).test(reloaded, datamodule=data, verbose=False)
    assert scores["test/loss"] == pytest.approx(expected["test/loss"], rel=1e-6)
    checkpoint = torch.load(best.best_model_path, weights_only=True)
    reloaded.load_state_dict(checkpoint["current_model_state"])
    [raw] = pl.Trainer(**quiet).test(reloaded, datamodule=data, verbose=False)
    assert scores["test/loss"] != pytest.approx(raw["test/loss"], rel=1e-3)


def test_run_may_be_scored_at_its_best_epoch(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", "test_checkpoint=best", "trainer.max_epochs=3"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    model = ImageClassifier.load_from_checkpoint(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    data = build(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["dataset"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    [scores] = trainer.test(model, datamodule=data, verbose=False)
    assert scores["test/loss"] == pytest.approx(summary["test/loss"], rel=1e-5)


def test_a_run_of_other_settings_cannot_be_continued(run: Path, tmp_path: Path) -> None:
    last = f"ckpt_path={run}/checkpoints/last.ckpt"
    wrong = {
        "optim.lr=0.5": "was trained with optim.lr=0.03, not 0.5",
        "model.n_circuits=3": "was trained with model.n_circuits=2, not 3",
        "circuit.n_layers=1": "was trained with model.circuit.n_layers=2, not 1",
        "model=hqcnn_twin": "was trained with model.kernel=quantum, not classical",
        "scheduler=cosine": "was trained with scheduler._target_=None, not hqcnn_lab.optim.WarmupCosine",
        "label_smoothing=0.2": "was trained with label_smoothing=0.05, not 0.2",
        "callbacks.weight_average.decay=0.9": "callbacks.weight_average must be on, or null",
        "trainer.max_epochs=3": "its 3 epochs are trained",
    }
    for index, (override, words) in enumerate(wrong.items()):
        config = tiny_config(tmp_path / str(index), "trainer.max_epochs=5", last, override)
        with pytest.raises(ConfigError, match=words):
            train(config)


@pytest.mark.parametrize("override", ["dataset.split_seed=5", "dataset.n_train=120", "seed=3", "dataset.n_test=28"])
def test_a_run_on_other_images_cannot_be_continued(override: str, run: Path, tmp_path: Path) -> None:
    # Regression: images that are in test now may have been trained on before.
    last = f"ckpt_path={run}/checkpoints/last.ckpt"
    with pytest.raises(UnusableData, match="other images, another split or another seed"):
        train(tiny_config(tmp_path / "run", override, "trainer.max_epochs=5", last))
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


def test_diverged_run_fails_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"optim\.lr"):
        train(tiny_config(tmp_path / "run", "optim=sgd", "optim.lr=1e30", "trainer.max_epochs=3"))
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert "TrainingDiverged: train/loss is" in status["error"]
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_run_is_never_overwritten(run: Path) -> None:
    before = (run / "metrics.csv").read_text()
    with pytest.raises(FileExistsError, match="never overwritten"):
        train(tiny_config(run))
    assert (run / "metrics.csv").read_text() == before


def test_checkpoint_may_be_scored_on_other_images(run: Path) -> None:
    # Only going on training with other images is refused.
    data = PhantomDataModule(n_train=40, n_test=12, image_size=16, split_seed=9)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    last = run / "checkpoints/last.ckpt"
    model = ImageClassifier.load_from_checkpoint(last, weights_only=True)
    [scores] = trainer.test(model, datamodule=data, ckpt_path=last, weights_only=True, verbose=False)
    assert model.confusion_matrix.sum() == 12
    assert 0 <= scores["test/accuracy"] <= 1


def test_planted_target_in_a_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["model"] = {"_target_": "os.system", "command": "true"}
    torch.save(checkpoint, tmp_path / "planted.ckpt")
    with pytest.raises(ValueError, match=r"_target_=os\.system is refused"):
        ImageClassifier.load_from_checkpoint(tmp_path / "planted.ckpt", weights_only=True)


def test_quantum_group_may_have_a_learning_rate_of_its_own(tmp_path: Path) -> None:
    train(
        tiny_config(
            tmp_path / "run", "optim.quantum_lr=0.001", "optim.lr=0.01", "scheduler=none", "trainer.max_epochs=1"
        )
    )
    row = next(row for row in rows_of(tmp_path / "run") if row["lr/quantum"])
    assert (float(row["lr/quantum"]), float(row["lr/classical"])) == (pytest.approx(0.001), pytest.approx(0.01))


def test_training_images_are_augmented_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[bool]] = {"training": [], "validating": [], "testing": []}
    transfer = ImageDataModule.on_after_batch_transfer

    def watched(self: ImageDataModule, batch: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
        before = batch["image"].clone()
        batch = transfer(self, batch, index)
        stage = next(stage for stage in seen if getattr(self.trainer, stage))
        seen[stage].append(torch.equal(before, batch["image"]))
        return batch

    monkeypatch.setattr(ImageDataModule, "on_after_batch_transfer", watched)
    train(tiny_config(tmp_path / "run", "trainer.max_epochs=1"))
    assert seen["training"]
    assert not any(seen["training"])
    assert all(seen["validating"] + seen["testing"])


def test_nearest_neighbour_is_sought_among_training_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The guard of the result table: a baseline that looked into the test side would be right by definition.
    given = {}
    monkeypatch.setattr(
        summary, "nearest_neighbour_right", lambda *arrays: given.update(arrays=arrays) or np.array([True])
    )
    config = tiny_config(tmp_path / "run", "trainer.max_epochs=1")
    train(config)
    data = build(OmegaConf.to_container(config.dataset, resolve=True))
    data.setup()
    images, labels, train_indices, test_indices = given["arrays"]
    np.testing.assert_array_equal(images, data.images)
    np.testing.assert_array_equal(labels, data.labels)
    assert sorted(train_indices) == sorted([*data.split.train, *data.split.val])
    assert list(test_indices) == list(data.split.test)


def test_debug_trainer_looks_at_every_stage(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", "trainer=debug", "trainer.max_epochs=1", "model=hqcnn_twin"))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["params/quantum"] == 0


@pytest.mark.parametrize("balance", ["sampler", "loss"])
def test_everything_on_trains_to_a_complete_record(
    balance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = ImageClassifier.training_step

    def watched(self: ImageClassifier, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        seen.append((set(batch), self.class_weights))
        return step(self, batch, index)

    monkeypatch.setattr(ImageClassifier, "training_step", watched)
    overrides = ["trainer=debug", "trainer.max_epochs=1", f"dataset.balance={balance}", *AUGMENT_ALL]
    train(tiny_config(tmp_path / "run", *overrides))
    assert seen
    for keys, weights in seen:
        assert {"share", "mixed_label"} <= keys
        assert (weights is None) == (balance == "sampler")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 < summary["train/loss"] < 10
    assert summary["val/loss"] > 0


def test_a_run_without_any_callback_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Regression: the table at the end looked for times that a callback takes.
    callbacks = [f"callbacks.{name}=null" for name in compose(["name=a"]).callbacks]
    train(tiny_config(tmp_path / "run", "trainer.max_epochs=1", *callbacks))
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"
    assert "1 epochs" in capsys.readouterr().out


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`main` in an empty folder, with a `train` of the test's own; what it exits with."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(ends: Callable[[DictConfig], None], *overrides: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["train", *TINY_PHANTOM, "logger=none", *overrides])
        monkeypatch.setattr("hqcnn_lab.run.training.train", ends)
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _end_by_a_signal(config: DictConfig, checkpoint: bool = True) -> None:
    if checkpoint:
        (Path(config.paths.output_dir) / "checkpoints").mkdir()
        (Path(config.paths.output_dir) / "checkpoints" / "last.ckpt").write_text("")
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("given", "to_type"),
    [
        (["name=a b"], "'name=a b' resume=auto"),
        (["name=ab", "ckpt_path=null", "resume=null"], "name=ab resume=auto"),
        (["hydra.run.dir=there"], "ckpt_path=HERE/there/checkpoints/last.ckpt"),
        (['hydra.run.dir="a=b c"'], "'ckpt_path=\"HERE/a=b c/checkpoints/last.ckpt\"'"),
    ],
)
def test_an_interrupted_run_says_how_to_go_on(
    given: list[str],
    to_type: str,
    command_line: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command_line(_end_by_a_signal, *given) == 128 + signal.SIGINT
    line = capsys.readouterr().out.splitlines()[-1]
    start = f"interrupted; to go on: python -m hqcnn_lab.train {shlex.join([*TINY_PHANTOM, 'logger=none'])} "
    assert line == start + to_type.replace("HERE", str(tmp_path))


def test_a_run_interrupted_at_once_leaves_no_folder(
    command_line: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Regression: what Hydra had made stayed, empty; and resume=auto was promised, which found nothing to continue.
    assert command_line(partial(_end_by_a_signal, checkpoint=False)) == 128 + signal.SIGINT
    assert list((tmp_path / "runs").iterdir()) == []
    assert capsys.readouterr().out.endswith(
        "interrupted; before there was a checkpoint: the same command starts anew\n"
    )


def test_what_nobody_foresaw_is_said_in_a_line(command_line: Callable[..., Any], tmp_path: Path) -> None:
    def fail(config: DictConfig) -> None:
        (Path(config.paths.output_dir) / "status.json").write_text("{}")
        raise RuntimeError("no such\nmetric")

    said = command_line(fail, "name=a", "hydra.run.dir=run")
    assert said == f"error: a: RuntimeError: no such metric; where it arose is in {tmp_path}/run/status.json"
