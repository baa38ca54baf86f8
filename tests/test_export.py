"""An exported network gives the original's logits, and what cannot be exported exactly is refused."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from one_line import refused
from torch import nn

from hqcnn_lab.data.inputs import read_inputs
from hqcnn_lab.export import main
from hqcnn_lab.models import HQCNN
from hqcnn_lab.models.onnx_file import largest_difference, write_onnx
from hqcnn_lab.models.trained import TrainedModel, load_run
from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer
from hqcnn_lab.quantum.frozen import freeze
from hqcnn_lab.quantum.limits import ANSATZES, ENCODERS, READOUTS

pytestmark = pytest.mark.slow

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason='needs pip install "hqcnn-lab[export]"',
)


@pytest.fixture(scope="module")
def cnn() -> TrainedModel:
    """The classical twin, with running statistics other than the initial ones."""
    torch.manual_seed(0)
    net = HQCNN(4, 16, {"n_wires": 4, "n_layers": 2}, "classical", widths=[8, 8], n_circuits=2)
    net(torch.rand(32, 1, 16, 16))
    return TrainedModel(net.eval(), list("abcd"), 16, 1, Path("x.ckpt"), None, None)


@pytest.fixture(scope="module")
def cnn_file(cnn: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cnn") / "cnn.onnx"
    write_onnx(cnn, path)
    return path


@needs_onnx
def test_a_run_is_exported_and_its_test_images_get_the_same_answers(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    main([f"run={trained_run}", f"out={tmp_path}/new/model.onnx"])
    assert "of the original's" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "new/model.onnx")
    about = session.get_modelmeta().custom_metadata_map
    trained = load_run(trained_run)
    assert (json.loads(about["classes"]), about["image_size"]) == (trained.classes, "16")
    images = read_inputs(trained_run.parent / "brain/Testing", 16, by_series=False).images
    [logits] = session.run(None, {"images": images[:, None].astype(np.float32)})
    assert np.abs(logits - trained.logits(images).numpy()).max() < 1e-4
    assert "model-2.onnx is free" in refused(main, f"run={trained_run}", f"out={tmp_path}/new/model.onnx")
    assert "paths.output_dir=x: nothing here depends on" in refused(main, f"run={trained_run}", "paths.output_dir=x")


@needs_onnx
def test_the_newest_run_is_exported_to_a_name_that_is_free(
    trained_run: Path, cnn_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hqcnn_lab.models.onnx_file.write_onnx", lambda trained, path: shutil.copy(cnn_file, path))
    monkeypatch.setattr("hqcnn_lab.models.onnx_file.largest_difference", lambda trained, path: 0.0)
    for _ in range(2):
        main(["run=latest", f"paths.runs_dir={trained_run.parent}"])
    assert {path.name for path in tmp_path.iterdir()} == {"run.onnx", "run-2.onnx"}


@needs_onnx
def test_the_classical_twin_is_exported(cnn: TrainedModel, cnn_file: Path) -> None:
    assert largest_difference(cnn, cnn_file) < 1e-5


@needs_onnx
def test_a_circuit_that_encodes_again_and_again_is_exported(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), QuantumLayer(4, 2, encoder="reuploading")).eval()
    trained = TrainedModel(net, list("abcd"), 2, 1, Path("x.ckpt"), None, None)
    write_onnx(trained, tmp_path / "model.onnx")
    assert largest_difference(trained, tmp_path / "model.onnx") < 1e-5


@needs_onnx
def test_a_file_that_differs_from_the_original_does_not_appear(
    trained_run: Path, cnn_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hqcnn_lab.models.onnx_file.write_onnx", lambda trained, path: shutil.copy(cnn_file, path))
    assert "not written, its logits differ by" in refused(main, f"run={trained_run}", f"out={tmp_path}/model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ansatz", ANSATZES)
def test_frozen_circuits_are_exact(ansatz: str) -> None:
    torch.manual_seed(0)
    images, n = torch.randn(5, 3, 4, 4), 1 if ansatz in ("pooling", "qcnn") else 2
    for encoder in ENCODERS:
        for readout in READOUTS if ansatz == "efficient_su2" else ("z",):
            options = {"n_layers": n, "ansatz": ansatz, "encoder": encoder, "readout": readout}
            conv = QuantumConv2d(3, 2, 2, **options)
            assert torch.allclose(freeze(conv)(images), conv(images), atol=1e-5), options
            layer = QuantumLayer(3, **options)
            inputs = torch.randn(7, layer.circuit.n_inputs)
            assert torch.allclose(freeze(layer)(inputs), layer(inputs), atol=1e-5), options


def test_freezing_leaves_the_network_as_it_was_and_follows_it_no_more() -> None:
    layer = QuantumLayer(2, 1).train()
    angles = torch.randn(3, 2)
    frozen, before = freeze(layer), layer(angles)
    with torch.no_grad():
        layer.weights.add_(1.0)
    assert layer.training
    assert layer.weights.requires_grad
    assert torch.allclose(frozen(angles), before, atol=1e-6)
    assert not torch.allclose(layer(angles), before, atol=1e-2)


def test_circuits_that_are_no_constants_are_refused() -> None:
    for options in ({"shots": 10}, {"noise": {"depolarizing": 0.1}}):
        with pytest.raises(ValueError, match="drawn anew"):
            freeze(QuantumLayer(2, 1, **options))
    with pytest.raises(ValueError, match="12 wires makes no matrix, at most 10 do"):
        freeze(QuantumLayer(12, 1))


def test_wrong_commands_are_refused_in_one_line(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"out={tmp_path}/model.onnx"
    assert "run: not set" in refused(main, out)
    assert "must be a new file that ends in .onnx" in refused(main, f"run={trained_run}", f"out={tmp_path}/model.pt")
    monkeypatch.setattr("hqcnn_lab.run.onnx_export.find_spec", lambda name: None if name == "onnx" else True)
    assert 'needs onnx; pip install "hqcnn-lab[export]"' in refused(main, f"run={trained_run}", out)
    monkeypatch.setattr("hqcnn_lab.run.onnx_export.find_spec", lambda name: True)
    assert "there is no such run folder" in refused(main, "run=/nowhere", out)
