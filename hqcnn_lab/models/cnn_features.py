"""A convolutional network finds the features, a classical classifier decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hqcnn_lab.models.estimator import Fitted
from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments
from hqcnn_lab.models.simple_cnn import SimpleCNN

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule


class CNNFeatures(SimpleCNN):
    """`SimpleCNN`, and once it is trained, a classifier of scikit-learn's on what its last layer sees.

    After Anantharajan et al. 2024 (reference [14] of the paper), who extract features by deep learning and classify by
    machine learning; their network and their segmentation are not public to us. Use it to ask whether a classifier of
    another kind makes more of the same features. Trained as any network; then `fit` gives `classifier` ("svm" with an
    RBF kernel, "random_forest" of 300 trees, "knn" of 5) the features of the training images, unaugmented.

    `[B, 1, H, W]` in [0, 1] → the network's logits until then, the classifier's scores (`Fitted`) afterwards.
    """

    def __init__(
        self,
        n_classes: int,
        image_size: int,
        classifier: str = "svm",
        widths: Sequence[int] = (32, 64, 128),
        dropout: float = 0.3,
        seed: int = 0,
    ) -> None:
        check_arguments("CNNFeatures", locals())
        super().__init__(n_classes, image_size, widths, dropout)
        self.fitted = Fitted(_classifier(classifier, seed))

    @torch.no_grad()
    def fit(self, data: ImageDataModule) -> None:
        """Fit the classifier on the training part of `data`."""
        self.eval()
        device = next(self.parameters()).device
        features = [
            self._describe(torch.from_numpy(data.images[index.numpy()]).to(device).float().unsqueeze(1)).cpu()
            for index in torch.from_numpy(data.split.train).split(256)
        ]
        self.fitted.fit(torch.cat(features).numpy(), data.labels[data.split.train])

    def _describe(self, images: Tensor) -> Tensor:
        """What the last layer sees, `[B, 128]`."""
        return self.head[:-1](self.features(standardized(images)))

    def forward(self, images: Tensor) -> Tensor:
        if self.training or not self.fitted.is_fitted:
            return super().forward(images)
        return self.fitted(self._describe(images))


def _classifier(name: str, seed: int) -> Any:
    if name == "svm":
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        return make_pipeline(StandardScaler(), SVC())
    if name == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(300, random_state=seed)
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5)
