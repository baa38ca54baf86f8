"""A run's `predictions.csv`, image by image, and what it says beyond an accuracy: ROC, confusion, recall."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hqcnn_lab.record.plain_file import Unusable, read_table


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
    """The predictions of a run folder; None where there is no file. Raises `Unusable` where it is no such table."""
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


def read_correct(folder: str | Path) -> tuple[list[str], np.ndarray]:
    """Of a run's `predictions.csv`, the files of the test images and whether each was classified right `[n_images]`."""
    rows = _columns(Path(folder) / "predictions.csv", "file", "label", "prediction")
    return [file for file, *_ in rows], np.array([label == guess for _, label, guess in rows], dtype=bool)


def read_groups(folder: str | Path, files: Sequence[str]) -> np.ndarray | None:
    """The `group` of each of a run's test images, `files` as `read_correct` has them; None where the split has none.

    Frames of one file have its name in `predictions.csv`: they are taken in the manifest's order. Raises ValueError for
    a file that is no test image of the manifest.
    """
    groups: dict[str, list[str]] = {}
    for file, split, group in _columns(Path(folder) / "split_manifest.csv", "file", "split", "group"):
        if split == "test":
            groups.setdefault(file, []).append(group)
    frames: Counter[str] = Counter()
    image_groups = []
    for name in files:
        if frames[name] >= len(groups.get(name, [])):
            raise ValueError(f"{name} is predicted, and not among the test images of {folder}/split_manifest.csv")
        image_groups.append(groups[name][frames[name]])
        frames[name] += 1
    return np.array(image_groups) if any(image_groups) else None


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

    Ties count half. NaN where there is nothing on one side.
    """
    from sklearn.metrics import roc_auc_score

    return float("nan") if _one_sided(is_class) else float(roc_auc_score(is_class, score))


def roc(is_class: np.ndarray, score: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The true-positive rate at the false-positive rates `at` `[n]`, on lines between the thresholds.

    Where there is nothing on one side the curve is flat: 0 without an image of the class, 1 without any other.
    """
    from sklearn.metrics import roc_curve

    if _one_sided(is_class):
        return np.full(len(at), float(is_class.any()))
    # Every threshold is kept: a dropped one may be the last before the curve turns vertical.
    false_positives, true_positives, _ = roc_curve(is_class, score, drop_intermediate=False)
    top = np.append(np.diff(false_positives) > 0, True)  # of the points where the curve is vertical, the highest
    return np.interp(at, false_positives[top], true_positives[top])


def _one_sided(is_class: np.ndarray) -> bool:
    return bool(is_class.all() or not is_class.any())


def _columns(path: Path, *names: str) -> list[tuple[str, ...]]:
    """The cells under `names` of each row. Raises ValueError, one line, where a row does not have them."""
    try:
        rows = read_table(path)
        _, head = next(rows, (0, []))
        at = [head.index(name) for name in names]
        return [tuple(cells[i] for i in at) for _, cells in rows]
    except Unusable as error:
        raise ValueError(f"{path} {error}") from None
    except (ValueError, IndexError):
        raise ValueError(f"{path} is no table with {', '.join(names)} in each row") from None
