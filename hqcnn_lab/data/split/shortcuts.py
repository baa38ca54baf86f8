"""What can be told about the class without looking at the brain: from the image's size and its border."""

import numpy as np

_BLACK = 0.05  # of the brightest pixel: with compression, black is seldom 0
_BINS = 16
_BLOCK = 4096  # images read at a time


def shortcut_accuracy(
    images: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
) -> dict[str, float]:
    """Share of test images whose class each feature alone predicts, beside the `majority` class, which sees nothing.

    `size` (width × height) and `aspect` are those of the original, each value for itself. Of `images` `[n, H, W]` in
    [0, 1], `border` is the mean of the outermost pixels and `black` the share of them that are black, each in 16 bins
    that hold equally many training images. `together` are the combinations of all. The prediction is the class that
    most training images of the same value have; where there is none, the class that most have. `train` and `test` are
    indices. A network that resizes every image cannot see `size`, but what comes with it perhaps: other scanners, other
    crops. Where copies sit on both sides, `together` recognizes them and is high for that reason too.
    """
    border, black = (_binned(feature, train) for feature in _borders(images))
    size = _numbered(np.stack([widths, heights], 1))
    features = {
        "majority": np.zeros(len(labels), dtype=np.int64),
        "size": size,
        "aspect": _numbered((widths / heights)[:, None]),
        "border": border,
        "black": black,
        "together": _numbered(np.stack([size, border, black], 1)),
    }
    return {name: _accuracy(values, labels, train, test) for name, values in features.items()}


def _borders(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and black share of each image's outermost pixels, float32 `[n]` each."""
    mean, black = np.empty((2, len(images)), dtype=np.float32)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK].astype(np.float32)
        sides = (block[:, 0], block[:, -1], block[:, 1:-1, 0], block[:, 1:-1, -1])
        border = np.concatenate(sides, axis=1)
        mean[start : start + _BLOCK] = border.mean(1)
        black[start : start + _BLOCK] = (border <= _BLACK).mean(1)
    return mean, black


def _binned(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    edges = np.quantile(values[train], np.arange(1, _BINS) / _BINS)
    return np.searchsorted(np.unique(edges), values, side="right")


def _numbered(rows: np.ndarray) -> np.ndarray:
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _accuracy(values: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    n_labels = int(labels.max()) + 1
    cells = np.bincount(values[train] * n_labels + labels[train], minlength=(int(values.max()) + 1) * n_labels)
    counts = cells.reshape(-1, n_labels)
    predicted = np.where(counts.any(1), counts.argmax(1), counts.sum(0).argmax())
    return float((predicted[values[test]] == labels[test]).mean())
