"""Images that someone hands over get what training would have given them; what cannot be used is said in one line."""

import copy
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, tiny_config
from dicom_files import as_file, mr_slice
from omegaconf import OmegaConf
from one_line import refused
from PIL import Image

from hqcnn_lab.build import build
from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.inputs import read_inputs
from hqcnn_lab.data.phantom.write import write_dicom, write_kaggle
from hqcnn_lab.models import HQCNN
from hqcnn_lab.models.explain import NoGradient, integrated_gradients
from hqcnn_lab.models.onnx_file import NotExportable, write_onnx
from hqcnn_lab.models.trained import UnusableRun, load_run
from hqcnn_lab.predict import main
from hqcnn_lab.run.explanation import picture_of
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_a_test_image_gets_its_line_of_predictions_csv(trained_run: Path, tmp_path: Path) -> None:
    expected = rows_of(trained_run / "predictions.csv")
    main([f"run={trained_run}", f"input={trained_run.parent}/brain", f"out={tmp_path}/out.csv"])
    found = rows_of(tmp_path / "out.csv")
    assert len(found) == 48  # both halves
    assert set(expected) <= set(found)
    for file, row in expected.items():
        assert found[file]["prediction"] == row["prediction"]
        for name in (key for key in row if key.startswith("p/")):
            assert float(found[file][name]) == pytest.approx(float(row[name]), abs=2e-6)
    assert len({row["p/glioma"] for row in found.values()}) > 1
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("precision", "accelerator", "device", "dtype"),
    [
        ("bf16-mixed", "cpu", "cpu", torch.bfloat16),
        # Regression: on a CPU Lightning tests in bfloat16 where float16 is asked for, and float16 was predicted.
        ("16-mixed", "cpu", "NVIDIA H100", torch.bfloat16),
        ("16-mixed", "auto", "cpu", torch.bfloat16),
        ("16-mixed", "auto", "NVIDIA H100", torch.float16),
        ("16-mixed", "gpu", "NVIDIA H100", torch.float16),
    ],
)
def test_the_precision_of_the_run_is_used(
    precision: str, accelerator: str, device: str, dtype: torch.dtype, trained_run: Path, tmp_path: Path
) -> None:
    # Regression: a run tested under bf16-mixed had up to 0.016 in predictions.csv that float32 does not give.
    run = shutil.copytree(trained_run, tmp_path / "run")
    images = np.random.default_rng(0).random((4, 16, 16), dtype=np.float32)
    exact = load_run(run).logits(images)
    text = (run / "config.yaml").read_text().replace("precision: 32-true", f"precision: {precision}")
    (run / "config.yaml").write_text(text.replace("accelerator: cpu", f"accelerator: {accelerator}"))
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"device": device}))
    trained = load_run(run)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        expected = trained.net(torch.from_numpy(images).unsqueeze(1)).float()
    assert torch.equal(trained.logits(images), expected)
    assert not torch.equal(exact, expected)


def test_a_run_asked_for_float16_on_a_cpu_is_predicted_as_it_was_tested(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", "trainer.precision=16-mixed", "trainer.max_epochs=1")
    train(config)
    data = build(OmegaConf.to_container(config.dataset, resolve=True))
    data.setup()
    predicted = load_run(tmp_path / "run").logits(data.images[data.split.test]).softmax(1)
    tested = [
        [float(row[f"p/{name}"]) for name in data.classes] for row in rows_of(tmp_path / "run/predictions.csv").values()
    ]
    torch.testing.assert_close(predicted, torch.tensor(tested), atol=2e-6, rtol=0)


def test_an_image_is_predicted_and_explained(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sorted((trained_run.parent / "brain/Testing/glioma").iterdir())[0]
    main([f"run={trained_run}", f"input={file}", f"out={tmp_path}/out.json", "explain=true", "checkpoint=best"])
    answer = json.loads((tmp_path / "out.json").read_text())
    [image] = answer["images"]
    assert (image["file"], answer["checkpoint"], answer["skipped"]) == (file.name, "best.ckpt", [])
    assert sum(image["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert image["prediction"] == max(image["probabilities"], key=image["probabilities"].get)
    assert {p.name for p in tmp_path.iterdir()} == {"out.json", "out_explained"}
    with Image.open(tmp_path / f"out_explained/{file.name}.png") as picture:
        assert picture.width > 900
    shown = capsys.readouterr().out
    assert file.name in shown
    assert str(file.parent) not in shown
    assert f"{100 * image['probabilities'][image['prediction']]:.1f} %" in shown


def test_pictures_go_where_one_is_and_overwrite_nothing(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: explain=true asked for out=, said nothing on its way, and advised out= where it was given.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hqcnn_lab.run.prediction.N_SHOWN", 4)
    monkeypatch.setattr("hqcnn_lab.run.explanation.AT_A_TIME", 4)
    monkeypatch.setattr("hqcnn_lab.run.how_far.PATIENCE", 0)
    folder = trained_run.parent / "brain/Testing/glioma"
    before = sorted(folder.iterdir())
    newest = ["run=latest", f"paths.runs_dir={trained_run.parent}", "explain=true"]
    main([*newest, f"input={before[0]}"])
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == f"run=latest: {trained_run}"
    assert said.out.endswith(f"where it looks: a picture for each image, in {before[0].stem}_explained/\n")
    main([*newest, f"input={before[0]}"])
    main([*newest, f"input={folder}", "out=answers.csv"])
    said = capsys.readouterr()
    assert "and 2 images more: all are in answers.csv" in said.out
    assert said.err.splitlines()[-2:] == ["explaining 6 images", "explained 4 of 6 images"]
    names = ["answers.csv", "answers_explained", *(f"{before[0].stem}_explained{again}" for again in ("", "-2"))]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert len(list((tmp_path / "answers_explained").iterdir())) == 6
    assert sorted(folder.iterdir()) == before
    (tmp_path / "answers.csv").rename(tmp_path / "moved.csv")
    words = refused(main, *newest, f"input={folder}", "out=answers.csv")
    assert "answers_explained is there already, and nothing is ever overwritten; out=answers-2.csv is free" in words
    assert "paths.sweeps_dir=x: nothing here depends on" in refused(main, *newest, "input=x", "paths.sweeps_dir=x")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["l" * 251 + ".png", "ö" * 125 + ".png", "a/" + "l" * 251 + ".png", "short.png"])
def test_a_picture_has_a_name_that_a_file_system_takes(name: str, tmp_path: Path) -> None:
    # One image of a long name, and none of the pictures was kept.
    picture = tmp_path / picture_of(name, 7)
    picture.parent.mkdir(exist_ok=True)
    picture.touch()
    assert picture.name == "short.png.png" or picture.name.endswith("…7.png")


def test_a_dicom_file_is_read_as_the_network_was_trained(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scan").write_bytes(as_file(mr_slice(PatientName="Planted^Name", PatientID="PLANTED-7")))
    main([f"run={trained_run}", f"input={tmp_path}/scan", f"out={tmp_path}/out.json"])
    shown = "".join(capsys.readouterr()) + (tmp_path / "out.json").read_text()
    assert "scan" in shown
    assert "lanted" not in shown.lower()
    names, images, skipped = read_inputs(tmp_path / "scan", 16, by_series=False)
    assert (names, skipped) == (["scan"], [])
    assert (float(images.min()), float(images.max())) == (0, 1)  # alone, as pictures are


def test_a_slice_of_a_series_is_scaled_with_its_folder_as_in_training(tmp_path: Path) -> None:
    tree = write_dicom(tmp_path / "tree", 24, 3, 1, size=32)
    given = ["dataset=rembrandt", f"dataset.root={tree}", f"dataset.clinical={tree}/clinical.csv", *TINY]
    given += ["logger=none", "trainer.max_epochs=1", "name=tiny", f"paths.output_dir={tmp_path}/run"]
    train(compose([*given, f"paths.cache_dir={tmp_path}/cache", "dataset.workers=1"]))
    trained = load_run(tmp_path / "run")
    every = read_inputs(tree / "REMBRANDT", 16, trained.by_series)
    probabilities = trained.logits(every.images).softmax(1)
    expected = [
        [float(v) for k, v in row.items() if k.startswith("p/")]
        for row in rows_of(tmp_path / "run/predictions.csv").values()
    ]
    for row in expected:  # named by pseudonyms there
        assert (probabilities - torch.tensor(row)).abs().amax(1).min() < 2e-6
    one = read_inputs(tree / "REMBRANDT" / every.names[4], 16, trained.by_series)
    assert one.names == [Path(every.names[4]).name]
    assert np.array_equal(one.images[0], every.images[4])


def test_unreadable_files_are_named_and_the_rest_is_predicted(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(trained_run.parent / "brain/Testing/glioma", folder / "good")
    (folder / "bad.jpg").write_text("no image")
    (folder / "flat.png").write_bytes(b"")
    main([f"run={trained_run}", f"input={folder}", f"out={tmp_path}/out.csv"])
    shown = capsys.readouterr().err
    assert [line.split(":")[0] for line in shown.splitlines()] == ["skipped bad.jpg", "skipped flat.png"]
    assert len(rows_of(tmp_path / "out.csv")) == 6
    assert all(name.startswith("good/") for name in rows_of(tmp_path / "out.csv"))


def test_wrong_input_and_output_are_refused_in_one_line(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((trained_run.parent / "brain/Testing/glioma").iterdir())
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no image")
    (tmp_path / "there.csv").write_text("kept")
    run = f"run={trained_run}"
    assert "run: not set" in refused(main, f"input={image}")
    assert "input: not set" in refused(main, run)
    assert "input=: is empty" in refused(main, run, "input=")  # and not the folder one is in
    assert "did you mean input?" in refused(main, run, f"imput={image}")
    assert "there is no such file or folder" in refused(main, run, f"input={tmp_path}/absent.png")
    assert "there is no image in it" in refused(main, run, f"input={tmp_path}/empty")
    assert "no image can be read, 1 skipped, such as text.txt" in refused(main, run, f"input={tmp_path}/text.txt")
    assert "ends in .csv or .json" in refused(main, run, f"input={image}", f"out={tmp_path}/out.txt")
    assert f"is there already, and nothing is ever overwritten; out={tmp_path}/there-2.csv is free" in refused(
        main, run, f"input={image}", f"out={tmp_path}/there.csv"
    )
    assert "last, best" in refused(main, run, f"input={image}", "checkpoint=first")
    assert (tmp_path / "there.csv").read_text() == "kept"
    (tmp_path / "checkpoints").mkdir()
    assert "there is no such run folder" in refused(main, "run=/nowhere", f"input={image}")
    assert "there is no checkpoints/last.ckpt" in refused(main, f"run={tmp_path}", f"input={image}")
    assert capsys.readouterr().out == ""


class Planted:
    """Would make a folder where it is loaded by pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


def changed(content: dict[str, Any], **hyper_parameters: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    content["hyper_parameters"] |= hyper_parameters
    return content


def test_a_network_that_fails_on_an_image_is_refused(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: HQCNN, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such memory format\nat all")

    monkeypatch.setattr(HQCNN, "forward", fail)
    with pytest.raises(UnusableRun, match=r"its network fails on an image: no such memory format at all$"):
        load_run(trained_run)


def test_checkpoints_that_cannot_be_trusted_or_used_are_refused(trained_run: Path, tmp_path: Path) -> None:
    whole = (trained_run / "checkpoints/last.ckpt").read_bytes()
    content = torch.load(trained_run / "checkpoints/last.ckpt", weights_only=True)
    model = content["hyper_parameters"]["model"]
    nested = model | {"circuit": model["circuit"] | {"noise": {"_target_": "os.system", "command": "true"}}}
    nan = content | {"state_dict": {k: v * float("nan") for k, v in content["state_dict"].items()}}
    some = {k: v for k, v in content["state_dict"].items() if k != "net.kernel.weights"}
    wrong: dict[str, tuple[Any, str]] = {
        "truncated": (whole[: len(whole) // 2], "no readable checkpoint: truncated"),
        "empty": (b"", "no readable checkpoint: truncated"),
        "planted": (content | {"more": Planted(tmp_path / "planted")}, "refused: it holds more than plain data"),
        "target": (changed(content, model=model | {"_target_": "os.system"}), "_target_=os.system is refused"),
        "nested": (changed(content, model=nested), r"noise\._target_=os\.system is refused"),
        "unknown": (changed(content, model=model | {"_target_": "hqcnn_lab.models.Other"}), "is unknown: this version"),
        "key": (changed(content, model=model | {"new": 1}), "cannot be built, perhaps of another version"),
        "classes": (changed(content, classes=["a", "b"]), "do not fit hqcnn_lab.models.HQCNN and 2 classes"),
        "missing": (content | {"state_dict": some}, "another version's, or changed .Missing key"),
        "diverged": (nan, "the run diverged"),
        "older": ({"state_dict": {}}, "its hyper_parameters lack model"),
        "list": ([1], "there is no state_dict in it"),
        "names": (changed(content, classes=[1, 2, 3, 4]), "its classes are not two names or more"),
        "epoch": (content | {"epoch": None}, "its epoch is not a whole number"),
        # Regression: it took 8 GB, and more.
        "huge": (
            changed(content, model=model | {"circuit": model["circuit"] | {"n_wires": 10**20}}),
            "n_wires is above",
        ),
        "rate": (changed(content, model=model | {"dropout": float("nan")}), "dropout must be at least 0 and below 1"),
    }
    for name, (what, words) in wrong.items():
        file = tmp_path / f"{name}.ckpt"
        file.write_bytes(what) if isinstance(what, bytes) else torch.save(what, file)
        with pytest.raises(UnusableRun, match=words) as error:
            load_run(file)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "planted").exists()


def test_a_checkpoint_away_from_its_run_predicts_the_same(trained_run: Path, tmp_path: Path) -> None:
    shutil.copy(trained_run / "checkpoints/last.ckpt", tmp_path / "moved.ckpt")
    images = np.random.default_rng(0).random((3, 16, 16), dtype=np.float32)
    moved = load_run(tmp_path / "moved.ckpt")
    assert moved.config is None
    assert torch.equal(moved.logits(images), load_run(trained_run).logits(images))


def test_help_shows_every_key_with_its_comment_and_none_that_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "explain: false # true: where the network looks" in shown
    assert "runs_dir: runs # single runs land here" in shown
    assert "sweeps_dir" not in shown


def test_help_needs_no_torch_and_a_prediction_no_lightning() -> None:
    code = """
import sys
import hqcnn_lab.evaluate, hqcnn_lab.export, hqcnn_lab.predict
assert "torch" not in sys.modules
import hqcnn_lab.data.inputs, hqcnn_lab.models.hqcnn, hqcnn_lab.models.trained
assert not {"lightning", "torchmetrics", "wandb", "matplotlib", "scipy"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_stages_say_what_is_no_brain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["model=two_stage", "model@model.network=ann", "dataset.image_size=32", "dataset.n_train=80"]
    base += ["dataset.n_test=8", "trainer.max_epochs=1", "logger=none", "name=tiny", "figures=false"]
    train(compose([*base, f"paths.output_dir={tmp_path}/run"]))
    folder = tmp_path / "input"
    folder.mkdir()
    write_kaggle(tmp_path / "brain", n_train=4, n_test=4, size=32)
    brain = next((tmp_path / "brain").rglob("*.jpg"))
    shutil.copy(brain, folder / "brain.jpg")
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    capsys.readouterr()
    main([f"run={tmp_path}/run", f"input={folder}", f"out={tmp_path}/out.csv"])
    said = capsys.readouterr().out
    assert "noise.png: taken for no brain (" in said
    assert "brain.jpg: taken" not in said
    rows = rows_of(tmp_path / "out.csv")
    assert float(rows["brain.jpg"]["brain"]) > 0.5 >= float(rows["noise.png"]["brain"])
    main([f"run={tmp_path}/run", f"input={folder}", f"out={tmp_path}/out.json"])
    images = json.loads((tmp_path / "out.json").read_text())["images"]
    assert [image["brain"] > 0.5 for image in images] == [True, False]


def test_models_without_a_gradient_are_explained_by_occlusion_and_not_exported(tmp_path: Path) -> None:
    base = ["model=linear", "dataset.image_size=32", "dataset.n_train=80", "dataset.n_test=8", "name=tiny"]
    train(compose([*base, "logger=none", "figures=false", f"paths.output_dir={tmp_path}/run"]))
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    with pytest.raises(NoGradient, match="Linear decides by no gradient"):
        integrated_gradients(load_run(tmp_path / "run").net, torch.rand(1, 1, 32, 32), 0)
    main([f"run={tmp_path}/run", f"input={tmp_path}/image.png", f"out={tmp_path}/out.csv", "explain=true"])
    with Image.open(tmp_path / "out_explained" / "image.png.png") as picture:
        assert picture.width > 500  # the image, and what covering it changes
    with pytest.raises(NotExportable, match="a part of it is a classifier of scikit-learn"):
        write_onnx(load_run(tmp_path / "run"), tmp_path / "model.onnx")
