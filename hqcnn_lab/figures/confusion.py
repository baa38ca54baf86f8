"""The confusion matrix of a test as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hqcnn_lab.figures.panel import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_figure(matrix: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Counts `[n_classes, n_classes]`, true by row and predicted by column, the darker the larger their share of a row.

    A class that has no image leaves its row white.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 2.2 + 0.9 * len(classes)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap=LinearSegmentedColormap.from_list("share", ["white", COLOURS[0]]), vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=30, ha="right")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="prediction", ylabel="label")
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(matrix.shape):
        ink = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, f"{matrix[row, column]:g}", ha="center", va="center", color=ink)
    return figure
