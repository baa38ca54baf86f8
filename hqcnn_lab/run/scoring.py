"""Scoring a trained network on the test part of a data set: accuracy, calibration, robustness, and what it had seen."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hqcnn_lab.analysis.scores import accuracy, calibration_scores, classification_scores
from hqcnn_lab.data.corrupt import CORRUPTIONS
from hqcnn_lab.data.split.duplicates import has_twin
from hqcnn_lab.data.split.manifest import Row, manifest_hash
from hqcnn_lab.run.how_far import with_progress

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule
    from hqcnn_lab.models.trained import TrainedModel


def score(
    trained: "TrainedModel",
    data: "ImageDataModule",
    trained_on: list[Row] | None,
    amounts: Mapping[str, Sequence[float] | None],
    seed: int,
) -> dict[str, Any]:
    """What `evaluation.json` says of a network on `data`, flat.

    `trained_on` is the manifest of the network's own run, None where it is lost; `amounts` are those by which images
    get worse, for each of `CORRUPTIONS`; `seed` is of the noise.
    """
    torch.manual_seed(seed)  # for circuits with shots or noise
    test, val = data.split.test, data.split.val
    images, labels = data.images[test], torch.from_numpy(data.labels[test])
    logits = trained.logits(images)
    groups = np.array(data.manifest_groups())[test]
    scores = classification_scores(logits, labels, data.classes, groups if (groups != "").any() else None)
    calibration = calibration_scores(
        logits, labels, trained.logits(data.images[val]), torch.from_numpy(data.labels[val])
    )
    robustness: dict[str, list[tuple[float, float]]] = {}
    changes = [(name, float(amount)) for name in CORRUPTIONS for amount in amounts.get(name) or []]
    for name, amount in with_progress(changes, [len(test)] * len(changes), "scored, made worse,"):
        changed = CORRUPTIONS[name](images, amount, seed)
        curve = robustness.setdefault(f"robustness/{name}", [(0.0, scores["accuracy"])])
        curve.append((amount, accuracy(trained.logits(changed), labels)))
    return {
        "run": None if trained.folder is None else trained.folder.resolve().name,
        "checkpoint": trained.checkpoint.name,
        "epoch": trained.epoch,
        "classes": trained.classes,
        "split/kind": data.split_name,
        "split/manifest": manifest_hash(data.manifest_text()),
        "split/leak": _leak(trained_on, data),
        "images/test": len(test),
        "images/val": len(val),
        **{f"test/{name}": value for name, value in scores.items()},
        **{f"calibration/{name}": value for name, value in calibration.items()},
        **robustness,
    }


def _leak(trained_on: list[Row] | None, data: "ImageDataModule") -> str | None:
    """In one line, how far the run's training or validation saw these test images; None where it did not."""
    if trained_on is None:
        return "not known what the network was trained on: no split_manifest.csv"
    test, fitted = data.split.test, {(row.content, row.frame) for row in trained_on if row.split != "test"}
    seen = np.array([key in fitted for key in zip(data.contents, data.frames, strict=True)])
    reasons = []
    twins = getattr(data, "twins", None)
    met = seen if twins is None else seen | has_twin(twins, seen)
    if n_met := int(met[test].sum()):
        reasons.append(f"{n_met} of {len(test)} test images, or copies of them, were seen in training")
    patients = getattr(data, "patients", np.array([""] * len(seen)))
    tested = set(patients[test].tolist()) - {""}
    if n_shared := len(tested & set(patients[seen].tolist())):
        reasons.append(f"{n_shared} of {len(tested)} test patients were seen in training")
    return ", ".join(reasons) or None
