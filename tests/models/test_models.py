"""Every `model=` there is: trained, reloaded, asked again; and the combinations that make no sense."""

import csv
from functools import cache
from pathlib import Path

import pytest
import torch
from every_network import MODELS, QUICK
from omegaconf import DictConfig

from hqcnn_lab import models
from hqcnn_lab.build import BuildError
from hqcnn_lab.config.check import check
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.data import PhantomDataModule
from hqcnn_lab.error import ConfigError
from hqcnn_lab.models import alexnet, two_stage, vgg16
from hqcnn_lab.models.trained import load_run
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow


@cache
def on_files(name: str) -> DictConfig:
    """The config of a network on a data set of files, each composed once. Not to be changed."""
    return compose([f"model={name}", "dataset=kaggle"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are, a checkpoint of some takes gigabytes, and a first stage learns from a thousand pictures."""
    monkeypatch.setattr(vgg16, "_CHANNELS", [[8, 8], [8, 8], [8, 8, 8], [8, 8, 8], [8, 8, 8]])
    monkeypatch.setattr(vgg16, "_N_DENSE", 16)
    monkeypatch.setattr(alexnet, "_N_DENSE", 16)
    monkeypatch.setattr("monai.networks.nets.resnet.get_inplanes", lambda: [8, 16, 32, 64])
    monkeypatch.setattr(two_stage, "N_OTHERS", 50)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("small")
def test_model_trains_reloads_and_predicts(name: str, tmp_path: Path) -> None:
    chosen = [f"model={name}"]
    if name == "ensemble":
        for member in ("knn", "linear"):
            train(compose([*QUICK, f"model={member}", f"paths.output_dir={tmp_path}/{member}"]))
        chosen.append(f"model.runs=[{tmp_path}/knn,{tmp_path}/linear]")
    checked: list[DictConfig] = []
    check_command_line(
        [*chosen, *QUICK, f"paths.output_dir={tmp_path}/run"],
        check=lambda config: checked.append(config.copy()) or check(config),
    )
    train(checked[0])
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = PhantomDataModule(n_train=40, n_test=8, image_size=64)
    data.setup()
    trained = load_run(tmp_path / "run")
    probabilities = trained.logits(data.images[data.split.test]).softmax(1)
    expected = torch.tensor([[float(row[f"p/{name}"]) for name in trained.classes] for row in rows])
    torch.testing.assert_close(probabilities, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.usefixtures("small")
def test_transfer_begins_from_the_file_and_needs_it_no_more(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    known = vgg16.VGG16(1000, 64).state_dict()
    torch.save(known, file)
    chosen = ["model=vgg16", f"model.weights={file}", "model.frozen=true", "callbacks.weight_average=null"]
    train(compose([*QUICK, *chosen, f"paths.output_dir={tmp_path}/run"]))
    file.unlink()
    net = load_run(tmp_path / "run").net
    assert torch.equal(net.features[0].weight.cpu(), known["features.0.weight"])  # frozen
    assert not torch.equal(net.classifier[0].weight.cpu(), known["classifier.0.weight"])  # trained

    torch.save({name: value for name, value in known.items() if name != "features.0.bias"}, file)
    with pytest.raises(BuildError, match=r"weights.pth does not fit VGG16: features.0.bias is missing"):
        train(compose([*QUICK, *chosen, f"paths.output_dir={tmp_path}/refused"]))


def test_every_network_has_a_choice() -> None:
    named = {on_files(name).model._target_ for name in MODELS}
    assert named == {f"hqcnn_lab.models.{name}" for name in models.__all__ if name != "ImageClassifier"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=hog_svm", "optim=gvco"], "optim=gvco: HOGSVM learns without gradients and takes no optimizer"),
        (["model=knn", "optim.lr=0.1"], "optim.lr: there is no such key"),
        (["optim=none"], "optim=none: HQCNN learns by gradients; choose an optimizer"),
        (["-m", "model=hqcnn,knn", "optim=adam,sgd"], "optim=adam: KNN learns without gradients"),
        (["model=linear", "test_checkpoint=best"], "test_checkpoint=best: Linear is fitted once, at the end"),
        (["model=cnn_features", "trainer.devices=2"], "trainer.devices=2: CNNFeatures is fitted in one process"),
        (["model=knn", "ckpt_path=x.ckpt"], "ckpt_path=x.ckpt: KNN is fitted at once, there is nothing to continue"),
        (["model=ensemble"], "model.runs: give at least two run folders"),
        (["model=ensemble", "model.runs=[nowhere,either]"], "model.runs: nowhere: there is no such run folder"),
        (["model=vgg16", "model.weights=nowhere.pth"], "model.weights=nowhere.pth: there is no such file"),
        (["model=two_stage", "model@model.network=knn"], "model.network=KNN: the second stage is a network"),
        (["model=resnet", "model.depth=34"], "model.depth=34: must be 18 or 50"),
        (
            ["model=qcnn", "circuit.ansatz=pooling"],
            "circuit.ansatz=pooling, circuit.n_wires=8: model=qcnn is",
        ),
        (["model=qcnn", "circuit.n_wires=6"], "circuit.ansatz=qcnn, circuit.n_wires=6: model=qcnn is the ansatz"),
        (["model=quanvolution", "circuit.n_wires=5"], "circuit.n_wires=5: must be 4 for patches"),
    ],
)
def test_combination_that_makes_no_sense_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_command_line([line for line in overrides if line != "-m"], multirun="-m" in overrides)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", MODELS)
def test_model_goes_with_every_data_set_and_split(name: str, kaggle_root: Path) -> None:
    config = on_files(name).copy()
    config.dataset.root = str(kaggle_root)
    if name == "ensemble":
        config.model.runs = [str(kaggle_root), str(kaggle_root)]
    for split in ("official", "grouped", "random"):
        config.dataset.split = split
        check(config)
