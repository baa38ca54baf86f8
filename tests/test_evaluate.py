"""Scores of a finished run agree with the run, calibration with cases worked out by hand, corruption with none at 0."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from one_line import refused
from PIL import Image
from torchmetrics.functional.classification import multiclass_calibration_error

from hqcnn_lab.analysis.calibration import reliability
from hqcnn_lab.analysis.scores import calibration_scores, classification_scores
from hqcnn_lab.analysis.temperature import fit_temperature
from hqcnn_lab.data.corrupt import CORRUPTIONS
from hqcnn_lab.evaluate import evaluate, main

pytestmark = pytest.mark.slow

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
FEW = "robustness={noise: [0.3], blur: [], rotation: []}"


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be written into; its data and their cache stay where they are."""
    return shutil.copytree(trained_run, tmp_path / "run")


def cache_of(trained_run: Path) -> str:
    return f"paths.cache_dir={trained_run.parent}/cache"


def test_a_run_is_scored_as_it_was_by_its_test(
    trained_run: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate([f"run={run}", cache_of(trained_run)])
    summary = json.loads((run / "summary.json").read_text())
    for key in ("accuracy", "macro_f1", "auroc", "loss", *(f"recall/{name}" for name in CLASSES)):
        assert result[f"test/{key}"] == pytest.approx(summary[f"test/{key}"], rel=1e-5), key
    assert result["test/confusion_matrix"] == summary["test/confusion_matrix"]
    assert result["split/manifest"] == summary["split/manifest"]
    out = run / "evaluation-kaggle-last"
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(json.dumps(result))
    for name in ("reliability", "robustness"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width > 900
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "reliability.png", "robustness.png"}
    for name, curve in ((k, v) for k, v in result.items() if k.startswith("robustness/")):
        assert curve[0] == (0.0, result["test/accuracy"]), name
        assert len(curve) == 4
    low, high = result["test/accuracy_wilson"]
    assert low < result["test/accuracy"] < high
    assert f"{100 * result['test/accuracy']:.2f} %" in capsys.readouterr().out
    # Regression: a second time was refused.
    again = evaluate([f"run={run}", cache_of(trained_run), FEW])
    assert again["test/accuracy"] == result["test/accuracy"]
    assert (run / "evaluation-kaggle-last-2/evaluation.json").is_file()
    assert f"; out={out}-3 is free" in refused(main, f"run={run}", f"out={out}")


def test_the_best_checkpoint_is_scored_from_another_place(trained_run: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run.parent / "brain", tmp_path / "moved")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"{trained_run.parent}/brain", "/nowhere/brain"))
    given = [f"run={run}", cache_of(trained_run), "checkpoint=best", FEW]
    assert "dataset.root=/nowhere/brain: there is no such folder" in refused(main, *given)
    result = evaluate([*given, f"dataset.root={tmp_path}/moved"])
    assert result["checkpoint"] == "best.ckpt"
    assert [key for key in result if key.startswith("robustness/")] == ["robustness/noise"]
    assert (run / "evaluation-kaggle-best/evaluation.json").is_file()


def test_a_leak_is_said(trained_run: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brain = trained_run.parent / "brain"
    rows = (run / "split_manifest.csv").read_text().splitlines()
    trained_on = {row.split(",")[0] for row in rows if ",train," in row or ",val," in row}
    assert evaluate([f"run={run}", cache_of(trained_run), FEW, f"out={tmp_path}/own"])["split/leak"] is None
    other = tmp_path / "other"
    shutil.copytree(brain, other)
    seen = sorted(file for file in trained_on if "/glioma/" in file)[:2]
    for file in seen:
        shutil.copy(brain / file, other / "Testing/glioma" / f"again_{Path(file).name}")
    data = ["dataset=kaggle", f"dataset.root={other}"]
    result = evaluate([f"run={run}", cache_of(trained_run), FEW, *data, f"out={tmp_path}/leak"])
    expected = "2 of 26 test images, or copies of them, were seen in training"
    assert result["split/leak"] == expected
    assert expected in capsys.readouterr().out
    # The run's own test images are others: without dataset= they are asked for, and not there.
    own = refused(main, f"run={run}", cache_of(trained_run), f"dataset.root={other}", f"out={tmp_path}/refused")
    assert "not those of the run's split_manifest.csv" in own


def test_another_data_set_is_scored_and_one_of_other_classes_is_refused(
    trained_run: Path, run: Path, tmp_path: Path
) -> None:
    phantom = ["dataset=phantom", "dataset.n_train=40", "dataset.n_test=12"]
    result = evaluate([f"run={run}", FEW, *phantom])
    assert (result["dataset"], result["images/test"], result["test/groups"]) == ("phantom", 12, None)
    assert (run / "evaluation-phantom-last").is_dir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/1.dcm").write_bytes(b"0")
    (tmp_path / "table.csv").write_text("SUBJECT_ID,DISEASE_TYPE\nA,GBM\n")
    other = ["dataset=rembrandt", f"dataset.root={tmp_path}/folder", f"dataset.clinical={tmp_path}/table.csv"]
    words = refused(main, f"run={run}", *other, f"out={tmp_path}/out", cache_of(trained_run))
    assert "its classes are astrocytoma, gbm, oligodendroglioma, mixed, those of the network glioma" in words


def test_wrong_commands_are_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "checkpoints/last.ckpt", tmp_path / "moved.ckpt")
    phantom = ["dataset=phantom", "dataset.n_train=40", "dataset.n_test=12"]
    assert "run: not set" in refused(main)
    assert "there is no such run folder" in refused(main, "run=/nowhere")
    assert "no run's configuration is beside it" in refused(main, f"run={tmp_path}/moved.ckpt")
    assert "give a new folder, out=" in refused(main, f"run={tmp_path}/moved.ckpt", *phantom)
    assert "there is no such key" in refused(main, f"run={run}", "dataset.rot=brain")
    assert "there is no such choice" in refused(main, f"run={run}", "dataset=brain")
    assert "the network sees 16 pixels" in refused(main, f"run={run}", *phantom, "dataset.image_size=32")
    for unused in ("dataset.augment.flip=1", "dataset.batch_size=8", "dataset.balance=loss", "paths.sweeps_dir=x"):
        assert f"{unused}: nothing here depends on {unused.split('=')[0]}" in refused(main, f"run={run}", unused)
    assert "each above 0" in refused(main, f"run={run}", "robustness.blur=[-1.0]")
    planted = OmegaConf.load(run / "config.yaml")
    planted.dataset._target_ = "os.system"
    OmegaConf.save(planted, run / "config.yaml")
    assert "dataset._target_=os.system: the run's data set is none" in refused(main, f"run={run}")


WRONG: dict[str, list[Any]] = {  # what a record file may say instead, or a key of its data set
    "config.yaml": ["", "[]", "seed: [", "dataset: {}", "[" * 9999],
    "split_manifest.csv": ["", "file,frame,content,split,label,group\n1,2\n", '"', "\0", b"\xe9"],
    "environment.json": ["[]", '{"device": 7}'],
    "split_seed": ["${broken", 2.5, float("inf")],
    "val_fraction": ["${oc.env:HOME}", None, [0.5]],
}


@pytest.mark.parametrize("where", WRONG)
def test_a_damaged_record_is_said_in_one_line_or_does_not_matter(where: str, trained_run: Path, run: Path) -> None:
    # Regression: a split_manifest.csv of another encoding, or a seed that is no whole number, ended in a traceback.
    given = [f"run={run}", cache_of(trained_run), "robustness=null"]  # of no amounts
    for wrong in WRONG[where]:
        if "." in where:
            (run / where).write_bytes(wrong if isinstance(wrong, bytes) else wrong.encode())
        else:
            content = yaml.safe_load((trained_run / "config.yaml").read_text())
            content["dataset"][where] = wrong
            (run / "config.yaml").write_text(yaml.safe_dump(content))
        if where == "environment.json":
            evaluate(given)
        else:
            assert where in refused(main, *given)


def test_calibration_equals_a_case_worked_out_by_hand() -> None:
    # Of two bins, one holds 0.6 (wrong) and 0.8 and 1.0 (right), mean 0.8, accuracy 2/3; the other 0.5 (right).
    confidence, correct = np.array([0.6, 0.8, 1.0, 0.5]), np.array([False, True, True, True])
    bins = reliability(confidence, correct, n_bins=2)
    assert bins.count.tolist() == [1, 3]
    assert bins.confidence.tolist() == pytest.approx([0.5, 0.8])
    assert bins.accuracy.tolist() == pytest.approx([1, 2 / 3])
    assert bins.error == pytest.approx(1 / 4 * 0.5 + 3 / 4 * (0.8 - 2 / 3))
    with pytest.raises(ValueError, match="no prediction"):
        reliability(confidence[:0], correct[:0])


def test_calibration_error_is_torchmetrics_and_0_of_a_perfect_model() -> None:
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(500, 4), torch.randint(4, (500,))
    expected = multiclass_calibration_error(logits.softmax(1), labels, 4, n_bins=15)
    confidence, predicted = logits.softmax(1).max(1)
    bins = reliability(confidence.numpy(), (predicted == labels).numpy())
    assert bins.error == pytest.approx(expected.item(), abs=1e-6)
    assert reliability(np.ones(500), np.ones(500, dtype=bool)).error == 0


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_and_mends_calibration(temperature: float) -> None:
    torch.manual_seed(0)
    truth = 2 * torch.randn(20_000, 4)
    labels = torch.distributions.Categorical(logits=truth).sample()
    logits = temperature * truth
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)
    scores = calibration_scores(logits[:10_000], labels[:10_000], logits[10_000:], labels[10_000:])
    assert scores["ece_scaled"] < 0.02
    assert scores["loss_scaled"] <= scores["loss"] + 1e-4
    if temperature != 1:
        assert scores["ece"] > 3 * scores["ece_scaled"]
    assert sum(one["count"] for one in scores["bins"]) == 10_000


def test_scores_by_class_equal_a_case_worked_out_by_hand() -> None:
    # True 0, 0, 0, 1, 1, 2; predicted 0, 0, 1, 1, 0, 1: class 2 is never predicted.
    logits = 5 * torch.eye(3)[[0, 0, 1, 1, 0, 1]]
    scores = classification_scores(logits, torch.tensor([0, 0, 0, 1, 1, 2]), "abc", np.array([0, 0, 1, 1, 2, 2]))
    assert scores["confusion_matrix"] == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert [scores[f"recall/{c}"] for c in "abc"] == pytest.approx([2 / 3, 1 / 2, 0])
    assert [scores[f"precision/{c}"] for c in "abc"] == pytest.approx([2 / 3, 1 / 3, 0])
    assert [scores[f"f1/{c}"] for c in "abc"] == pytest.approx([2 / 3, 2 / 5, 0])
    assert (scores["accuracy"], scores["groups"]) == (0.5, 3)
    assert scores["accuracy_bootstrap"][0] < 0.5 < scores["accuracy_bootstrap"][1]
    alone = classification_scores(logits, torch.tensor([0, 0, 0, 1, 1, 2]), "abc", np.zeros(6))
    assert alone["accuracy_bootstrap"] is None


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_of_amount_0_changes_nothing_and_more_changes_more(name: str) -> None:
    images = np.random.default_rng(0).random((3, 16, 16)).astype(np.float16)
    corrupt = CORRUPTIONS[name]
    assert np.array_equal(corrupt(images, 0.0, 1), images.astype(np.float32))
    changes = [np.abs(corrupt(images, amount, 1) - images).mean() for amount in (0.3, 0.6, 1.2)]
    assert 0 < changes[0] < changes[1] < changes[2]
    changed = corrupt(images, 30.0, 1)
    assert (changed.shape, changed.dtype) == (images.shape, np.float32)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert np.array_equal(changed[1:2], corrupt(images[1:2], 30.0, 1)) or name == "noise"  # images do not mix


def test_a_right_angle_turns_an_image_about_its_centre() -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4) / 16
    assert np.allclose(CORRUPTIONS["rotation"](image, 90.0, 0), np.rot90(image, axes=(1, 2)), atol=1e-5)
