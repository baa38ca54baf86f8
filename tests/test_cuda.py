"""On a GPU: every network trains and is read, every optimizer's run is interrupted and goes on as if never so."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from every_network import MODELS, QUICK
from interrupted_run import RESUMED, assert_same_result, cut, into, told

from hqcnn_lab.config.compose import compose
from hqcnn_lab.data import PhantomDataModule
from hqcnn_lab.models import alexnet, vgg16
from hqcnn_lab.models.trained import load_run
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.gpu


@pytest.fixture
def deterministic():
    """`trainer.deterministic=true` is for the process; let it end with the test."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", MODELS)
def test_model_trains_on_a_gpu_and_is_the_same_on_a_cpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vgg16, "_CHANNELS", [[8, 8], [8, 8], [8, 8, 8], [8, 8, 8], [8, 8, 8]])
    monkeypatch.setattr(vgg16, "_N_DENSE", 16)
    monkeypatch.setattr(alexnet, "_N_DENSE", 16)
    quick = [line for line in QUICK if not line.startswith("trainer.accelerator")] + ["trainer.accelerator=gpu"]
    chosen = [f"model={name}"]
    if name == "ensemble":
        for member in ("knn", "linear"):
            train(compose([*quick, f"model={member}", f"paths.output_dir={tmp_path}/{member}"]))
        chosen.append(f"model.runs=[{tmp_path}/knn,{tmp_path}/linear]")
    train(compose([*quick, *chosen, f"paths.output_dir={tmp_path}/run"]))
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = PhantomDataModule(n_train=40, n_test=8, image_size=64)
    data.setup()
    trained = load_run(tmp_path / "run")
    expected = torch.tensor([[float(row[f"p/{name}"]) for name in trained.classes] for row in rows])
    for device in ("cuda", "cpu"):
        trained.net.to(device)
        probabilities = trained.logits(data.images[data.split.test]).softmax(1)
        torch.testing.assert_close(probabilities, expected, atol=5e-3, rtol=0, msg=lambda m, d=device: f"{d}: {m}")


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("chosen", RESUMED, ids=lambda chosen: chosen[0])
def test_run_interrupted_on_a_gpu_goes_on_bit_for_bit(chosen: list[str], tmp_path: Path) -> None:
    name, *overrides = chosen
    small = ["dataset.n_train=60", "dataset.n_test=9", "dataset.batch_size=8", "trainer.max_epochs=2"]
    device = ["trainer.accelerator=gpu", "trainer.deterministic=true"]
    config = tiny_config(tmp_path, f"optim={name}", *overrides, *small, *device)
    train(into(config, tmp_path / "whole"))
    cut(into(config, tmp_path / "cut"), 128 + signal.SIGTERM, "training", 1, 3, told(signal.SIGTERM))
    train(into(config, tmp_path / "resumed", ckpt_path=f"{tmp_path}/cut/checkpoints/last.ckpt"))
    assert_same_result(tmp_path / "whole", tmp_path / "resumed")


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_learns_as_single_precision_does(precision: str, tmp_path: Path) -> None:
    # float16 comes with a GradScaler, and GVCO must see its gradients unscaled.
    losses = {}
    for kind in ("32-true", precision):
        line = [f"trainer.precision={kind}", "trainer.accelerator=gpu", "trainer.max_epochs=6", "optim=gvco"]
        train(tiny_config(tmp_path / kind, *line))
        losses[kind] = json.loads((tmp_path / kind / "summary.json").read_text())["train/loss"]
    assert losses[precision] == pytest.approx(losses["32-true"], abs=0.1)


@pytest.mark.parametrize("noise", ["circuit.shots=16", "circuit.noise.depolarizing=0.01"])
def test_noisy_circuits_train_on_a_gpu(noise: str, tmp_path: Path) -> None:
    line = ["trainer.accelerator=gpu", noise] + ["circuit.shot_gradient=parameter_shift"] * ("shots" in noise)
    train(tiny_config(tmp_path / "run", *line))
    assert 0 < json.loads((tmp_path / "run/summary.json").read_text())["train/loss"] < 3


def test_one_process_of_nccl_trains_as_none_does(tmp_path: Path) -> None:
    # As a script: a process group stays with its process.
    for name, more in {"alone": [], "nccl": ["trainer.strategy=ddp"]}.items():
        line = ["name=tiny", "model.widths=[8,8]", "model.n_circuits=2", "dataset.image_size=16", "logger=none"]
        line += ["dataset.n_train=80", "dataset.n_test=24", "trainer.max_epochs=2", "figures=false", *more]
        line += ["trainer.accelerator=gpu", f"paths.output_dir={tmp_path}/{name}"]
        subprocess.run([sys.executable, "-m", "hqcnn_lab.train", *line], check=True)
    one, other = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("alone", "nccl"))
    assert one["train/loss"] == pytest.approx(other["train/loss"], abs=1e-3)
