"""What is scored of a part of the images: drawn from all of them, and scored by the classes that are there."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY, tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from run_folders import write_run
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from hqcnn_lab.analysis.runs import load_runs
from hqcnn_lab.analysis.scores import classification_scores
from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.datamodule import ImageDataModule, UnusableData
from hqcnn_lab.data.split.cut import Split
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.reporting.contents import make_contents
from hqcnn_lab.run.summary import absent
from hqcnn_lab.run.training import train

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def sorted_data(batch_size: int = 3, **trainer: object) -> ImageDataModule:
    """25 images of each class, sorted by it, for validation and test alike."""
    data = ImageDataModule(batch_size)
    data.labels = np.repeat(np.arange(4), 25)
    data.images = np.zeros((100, 2, 2), np.float16)
    data.split = Split(*[np.arange(100)] * 3)
    whole = {"limit_val_batches": 1.0, "limit_test_batches": 1.0, "global_rank": 0, "world_size": 1}
    data.trainer = SimpleNamespace(**whole | trainer)
    return data


def drawn(data: ImageDataModule, part: str, n_batches: int) -> list[int]:
    batches = list(getattr(data, f"{part}_dataloader")())
    return [i for batch in batches[:n_batches] for i in batch["index"].tolist()]


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("limit", [2, 0.25, 1])
def test_what_is_cut_is_of_every_class_and_always_the_same(part, limit):
    # Regression: data sets lie sorted by class, and the first batches held two classes of four.
    n_batches = limit if isinstance(limit, int) else int(9 * limit)
    first, again = (drawn(sorted_data(**{f"limit_{part}_batches": limit}), part, n_batches) for _ in range(2))
    assert first == again
    assert {i // 25 for i in first} == {0, 1, 2, 3}


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("limit", [1.0, 9, 10])
def test_what_is_not_cut_stays_in_order(part, limit):
    assert drawn(sorted_data(**{f"limit_{part}_batches": limit}), part, 9) == list(range(100))


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"limit_test_batches": 0.1}, "limit_test_batches=0.1: comes to none of 9 batches"),
        ({"limit_val_batches": 0.1}, "limit_val_batches=0.1: comes to none of 9 batches"),
        ({"limit_train_batches": 0.01}, "limit_train_batches=0.01: comes to none of 33 batches"),
        ({"overfit_batches": 0.01}, "overfit_batches=0.01: comes to none"),
        ({"val_check_interval": 0.01}, "val_check_interval=0.01: comes to none"),
        ({"val_check_interval": 34}, "val_check_interval=34: an epoch has 33 batches"),
    ],
)
def test_a_share_of_no_batch_is_refused_before_training(limit, said):
    # Regression: Lightning said so of the test when all was trained, and the result was lost.
    data = sorted_data()
    with pytest.raises(UnusableData, match=said):
        data.require_batches(limit)
    data.require_batches({"limit_test_batches": 0.2, "limit_val_batches": 1, "val_check_interval": 33})


@pytest.mark.parametrize("limit", [2, 0.5])
def test_two_processes_score_what_one_would(limit):
    alone = drawn(sorted_data(batch_size=6, limit_test_batches=limit), "test", 2)
    both = [drawn(sorted_data(limit_test_batches=limit, world_size=2, global_rank=rank), "test", 2) for rank in (0, 1)]
    assert [i for pair in zip(*both, strict=True) for i in pair] == alone


def by_sklearn(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    present = sorted(set(labels.tolist()))
    predicted = probabilities.argmax(1)
    areas = [roc_auc_score(labels == k, probabilities[:, k]) if len(present) > 1 else np.nan for k in present]
    recalls = recall_score(labels, predicted, labels=present, average=None)
    return {
        "accuracy": (predicted == labels).mean(),
        "macro_f1": f1_score(labels, predicted, labels=present, average="macro", zero_division=0),
        "auroc": np.mean(areas),
        **{f"recall/{CLASSES[k]}": recall for k, recall in zip(present, recalls, strict=True)},
    }


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    config = OmegaConf.to_container(tiny_config(Path("unused")), resolve=True)
    parts = {name: config[name] for name in ("model", "optim", "scheduler")}
    return ImageClassifier(**parts, classes=CLASSES, image_size=16)


@pytest.mark.filterwarnings("ignore:No (positive|negative) samples")
@settings(max_examples=25)
@given(present=st.sets(st.integers(0, 3), min_size=1), n=st.integers(4, 12), seed=st.integers(0, 2**31))
def test_scores_are_scikit_learn_s_over_the_classes_that_are_there(model, present, n, seed):
    # Regression: an absent class counted as AUROC 0, and in macro F1 where it was predicted.
    rng = np.random.default_rng(seed)
    labels = np.concatenate([sorted(present), rng.choice(sorted(present), n - len(present))])
    logits = torch.from_numpy(rng.normal(size=(n, 4)).astype(np.float32))
    expected = by_sklearn(logits.softmax(1).numpy(), labels)
    names = [name for k, name in enumerate(CLASSES) if k not in present]

    logged: dict[str, float] = {}
    model.log = lambda name, value, **_: logged.update({name: float(value)})
    for part in ("val", "test"):
        model.scores[f"{part}_scores"].update(logits.softmax(1), torch.from_numpy(labels))
        model._log_scores(part)
        wanted = {f"{part}/{name}": value for name, value in expected.items()}
        assert {k: v for k, v in logged.items() if k.startswith(part)} == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    assert absent(logged, CLASSES) == ({"val/absent": names, "test/absent": names} if names else {})

    evaluated = classification_scores(logits, torch.from_numpy(labels), CLASSES)
    assert evaluated.get("absent", []) == names
    found = {name: evaluated[name] for name in expected if evaluated[name] is not None}
    assert found == pytest.approx({k: v for k, v in expected.items() if not np.isnan(v)}, abs=1e-6)
    assert all(evaluated[f"{score}/{name}"] is None for score in ("recall", "precision", "f1") for name in names)


def test_a_run_that_scores_a_part_says_so(tmp_path, kaggle_root, capsys):
    data = ["dataset=kaggle", f"dataset.root={kaggle_root}", f"paths.cache_dir={tmp_path}/cache", "dataset.workers=1"]
    limits = ["trainer.limit_test_batches=1", "trainer.limit_train_batches=2", "dataset.batch_size=1"]
    overrides = [
        f"paths.output_dir={tmp_path}/run",
        "name=tiny",
        "logger=none",
        "trainer.max_epochs=1",
        "monitor=val/auroc",
    ]
    train(compose([*TINY, *data, *limits, *overrides]))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    counts = np.sum(summary["test/confusion_matrix"], 1)
    assert counts.sum() == 4
    assert (counts == 0).any()
    assert summary["test/absent"] == [name for name, count in zip(CLASSES, counts, strict=True) if not count]
    assert not any(f"test/recall/{name}" in summary for name in summary["test/absent"])
    said = " ".join(capsys.readouterr().out.split())
    assert "4 images, drawn of 16)" in said
    assert f"not in test {', '.join(summary['test/absent'])}: F1, AUROC and recall are over the other" in said


def test_a_report_says_so(tmp_path):
    write_run(tmp_path / "whole", seed=0)
    summary = write_run(tmp_path / "part", seed=1) / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"test/absent": ["notumor"]}))
    [part] = make_contents(load_runs(tmp_path), [tmp_path]).parts
    assert "Of notumor no image was tested in 1 run: scores are of other classes." in part.leak
