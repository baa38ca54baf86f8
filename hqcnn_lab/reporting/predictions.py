"""What a run's `predictions.csv` says beyond an accuracy: calibration, ROC, confusion, recall."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from hqcnn_lab.record.plain_file import Unusable, read_table

N_BINS = 10  # of confidence, of equal width


@dataclass(frozen=True)
class Predictions:
    """A test, image by image: `labels` and `predicted` are indices into `classes`, `probabilities` `[n, n_classes]`."""

    files: list[str]
    classes: list[str]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return self.labels == self.predicted


def read_predictions(folder: str | Path) -> Predictions | None:
    """Of a run folder; None where the file is absent. Raises `Unusable` where it is no table of predictions."""
    try:
        lines = read_table(Path(folder) / "predictions.csv")
        _, head = next(lines, (0, []))
        rows = list(lines)
    except FileNotFoundError:
        return None
    classes = [name.removeprefix("p/") for name in head[3:]]
    index = {name: i for i, name in enumerate(classes)}
    if head[:3] != ["file", "label", "prediction"] or not classes or len(index) < len(classes):
        raise Unusable("has no header that names file, label, prediction and each class once")
    if not rows:
        raise Unusable("holds no prediction")
    for line, row in rows:
        if len(row) != len(head) or row[1] not in index or row[2] not in index:
            raise Unusable(f"has a line that is no prediction ({line})")
    try:
        probabilities = np.array([row[3:] for _, row in rows], dtype=float)
    except ValueError:
        raise Unusable("has a probability that is no number") from None
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise Unusable("has a probability that is not between 0 and 1")
    labels, predicted = (np.array([index[row[column]] for _, row in rows]) for column in (1, 2))
    return Predictions([row[0] for _, row in rows], classes, labels, predicted, probabilities)


def confusion(tests: list[Predictions]) -> np.ndarray:
    """Images `[n_classes, n_classes]`, true by row, predicted by column, summed over tests."""
    n = len(tests[0].classes)
    counts = np.zeros((n, n), dtype=int)
    for test in tests:
        np.add.at(counts, (test.labels, test.predicted), 1)
    return counts


def recalls(test: Predictions) -> np.ndarray:
    """The share of each class's images that is found `[n_classes]`; NaN for a class without images."""
    counts = confusion([test])
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts.diagonal() / counts.sum(1)


def auc(is_class: np.ndarray, score: np.ndarray) -> float:
    """The area under one class's ROC, one against the rest: how often an image of it scores above one that is not.

    Mann and Whitney's; ties count half. NaN where there is nothing on one side.
    """
    n_in, n_out = int(is_class.sum()), int((~is_class).sum())
    if not n_in or not n_out:
        return float("nan")
    return float((rankdata(score)[is_class].sum() - n_in * (n_in + 1) / 2) / (n_in * n_out))


def roc(is_class: np.ndarray, score: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The true-positive rate at the false-positive rates `at` `[n]`, on lines between the thresholds."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # of equal scores all are in, or none
    hits = np.append(0, np.cumsum(is_class[order])[last]) / max(is_class.sum(), 1)
    false = np.append(0, np.cumsum(~is_class[order])[last]) / max((~is_class).sum(), 1)
    steps = np.append(np.diff(false) > 0, True)  # where it is vertical, the top
    return np.interp(at, false[steps], hits[steps])


def reliability(tests: list[Predictions]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and number of images in each of the bins `[N_BINS]`; NaN in an empty one."""
    confidence = np.concatenate([test.probabilities.max(1) for test in tests])
    right = np.concatenate([test.correct for test in tests])
    bins = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.bincount(bins, confidence, N_BINS) / counts,
            np.bincount(bins, right, N_BINS) / counts,
            counts,
        )


def calibration_error(test: Predictions) -> float:
    """ECE (Naeini et al. 2015): the gap between confidence and accuracy, weighted by the images in each bin."""
    confidence, accuracy, counts = reliability([test])
    held = counts > 0
    return float((counts[held] * np.abs(confidence - accuracy)[held]).sum() / counts.sum())
