"""Scores of one network on one set of images, from its logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hqcnn_lab.analysis.bootstrap import bootstrap_accuracy
from hqcnn_lab.analysis.calibration import reliability
from hqcnn_lab.analysis.interval import wilson_interval
from hqcnn_lab.analysis.temperature import fit_temperature


def classification_scores(
    logits: Tensor, labels: Tensor, classes: Sequence[str], groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Accuracy with two intervals, macro F1, AUROC, loss, and each class's recall, precision and F1; flat keys.

    `logits` `[N, n_classes]`, `labels` `[N]`; `groups` `[N]` as in `bootstrap_accuracy`. A class that is never
    predicted has precision 0. Macro F1 and AUROC are over the classes among the labels; the names of others are
    `absent`, a key only where there are any, and their scores None, as is AUROC where there is a single class.
    """
    from torchmetrics.functional.classification import multiclass_auroc, multiclass_confusion_matrix

    n = len(classes)
    confusion = multiclass_confusion_matrix(logits, labels, n).numpy()
    hits, predicted = confusion.diagonal(), confusion.sum(0)
    present = confusion.sum(1) > 0
    recall = hits / np.maximum(confusion.sum(1), 1)
    precision = hits / np.maximum(predicted, 1)
    f1 = 2 * hits / np.maximum(confusion.sum(1) + predicted, 1)
    areas = multiclass_auroc(logits.softmax(1), labels, n, average="none")[torch.from_numpy(present)]
    correct = (logits.argmax(1) == labels).numpy()
    n_groups = len(labels) if groups is None else len(set(groups.tolist()))
    bootstrap = bootstrap_accuracy(correct, groups) if n_groups > 1 else None  # of one group nothing can be drawn
    missing = [name for name, has_image in zip(classes, present, strict=True) if not has_image]
    return {
        "accuracy": float(correct.mean()),
        "accuracy_bootstrap": None if bootstrap is None else [bootstrap.low, bootstrap.high],
        "accuracy_wilson": list(wilson_interval(int(correct.sum()), len(correct))),
        "groups": None if groups is None else n_groups,
        "macro_f1": float(f1[present].mean()),
        "auroc": float(areas.mean()) if len(areas) > 1 else None,
        "loss": float(F.cross_entropy(logits, labels)),
        **{
            f"{score}/{name}": float(value) if is_present else None
            for score, values in (("recall", recall), ("precision", precision), ("f1", f1))
            for name, value, is_present in zip(classes, values, present, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
    } | ({"absent": missing} if missing else {})


def calibration_scores(logits: Tensor, labels: Tensor, val_logits: Tensor, val_labels: Tensor) -> dict[str, Any]:
    """The temperature that suits validation, and calibration error and loss on test before it and with it; flat keys.

    `bins` and `bins_scaled` hold each bin's count, confidence and accuracy, null for an empty one.
    """
    temperature = fit_temperature(val_logits, val_labels)
    scores: dict[str, Any] = {"temperature": temperature}
    for suffix, scaled in (("", logits), ("_scaled", logits.double() / temperature)):
        confidence, predicted = scaled.double().softmax(1).max(1)
        binned = reliability(confidence.numpy(), (predicted == labels).numpy())
        scores |= {f"ece{suffix}": binned.error, f"loss{suffix}": float(F.cross_entropy(scaled, labels))}
        columns = (binned.count.tolist(), binned.confidence.tolist(), binned.accuracy.tolist())
        scores[f"bins{suffix}"] = [
            {"count": count, "confidence": confidence if count else None, "accuracy": accuracy if count else None}
            for count, confidence, accuracy in zip(*columns, strict=True)
        ]
    return scores


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of `labels` `[N]` that `logits` `[N, n_classes]` predict."""
    return float((torch.argmax(logits, 1) == labels).double().mean())
