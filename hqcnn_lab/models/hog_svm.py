"""Histograms of oriented gradients, and a support vector machine."""

import numpy as np

from hqcnn_lab.models.estimator import Estimator
from hqcnn_lab.models.limits import check_arguments


class HOGSVM(Estimator):
    """Classify by where edges are and how they are turned: HOG (Dalal and Triggs 2005) and a support vector machine.

    Use it as what image classification was before deep learning; minutes of one core for some thousand images. Its
    scores are decision values, one class against the rest, and no probabilities: `hqcnn_lab.evaluate` fits a
    temperature.

    Histograms of `orientations` bins are of squares of `cell` pixels, normalized over blocks of 2×2 squares. Raises
    ValueError for images that are smaller than a block.
    """

    def __init__(self, n_classes: int, image_size: int, C: float = 10.0, orientations: int = 9, cell: int = 8) -> None:
        check_arguments("HOGSVM", locals())
        from sklearn.svm import SVC

        if image_size < 2 * cell:
            raise ValueError(f"image_size={image_size}: is smaller than 2×2 cells of model.cell={cell} pixels")
        super().__init__(SVC(C=C))
        self.orientations, self.cell = orientations, cell

    def describe(self, images: np.ndarray) -> np.ndarray:
        from skimage.feature import hog

        layout = {"pixels_per_cell": [self.cell] * 2, "cells_per_block": (2, 2)}
        features = [hog(np.asarray(image, np.float32), self.orientations, **layout) for image in images]
        return np.stack(features).astype(np.float32)

    def recipe(self) -> str:
        return f"HOG {self.orientations} {self.cell}"

    @property
    def n_values(self) -> int:
        return self.fitted.classifier.support_vectors_.size + self.fitted.classifier.dual_coef_.size
