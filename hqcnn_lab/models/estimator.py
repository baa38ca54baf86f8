"""scikit-learn's classifiers in the place of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hqcnn_lab.error import first_line

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule

_LEAST = 1e-6  # a probability; its logarithm stays finite


class Fitted(nn.Module):
    """A scikit-learn classifier whose fitted state is part of this module's `state_dict`.

    Use it as a part of a network, on features that the network computes. A checkpoint holds it as skops writes it:
    loading one runs no code, and refuses every type that is not scikit-learn's, numpy's or scipy's.

    `[B, n_features]` → scores `[B, n_classes]`: logarithms of probabilities, or, of a classifier that has none (a
    support vector machine), its decision values. Either way the largest is the prediction.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier, self.is_fitted = classifier, False

    def fit(self, features: np.ndarray, labels: np.ndarray) -> None:
        self.classifier.fit(features, labels)
        self.is_fitted = True

    def forward(self, features: Tensor) -> Tensor:
        on_cpu = features.detach().float().cpu().numpy()
        if hasattr(self.classifier, "predict_proba"):
            scores = np.log(np.maximum(self.classifier.predict_proba(on_cpu), _LEAST))
        else:
            scores = self.classifier.decision_function(on_cpu)
            scores = np.stack([-scores, scores], 1) if scores.ndim == 1 else scores  # of two classes, one value
        return torch.from_numpy(scores).to(features.device, torch.float32)

    def get_extra_state(self) -> Tensor:
        import skops.io

        data = skops.io.dumps(self.classifier) if self.is_fitted else b""
        return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        self.is_fitted = state.numel() > 0
        if self.is_fitted:
            self.classifier = _loaded(state.cpu().numpy().tobytes(), type(self.classifier))


def _loaded(data: bytes, wanted: type) -> Any:
    """A classifier of the type wanted; ValueError for anything else, with nothing of it run."""
    import skops.io

    # skops trusts no tree, since scikit-learn follows its indices without looking: here they are looked at.
    trees = ["sklearn.tree._tree.Tree"] if wanted.__name__ == "RandomForestClassifier" else []
    try:
        classifier = skops.io.loads(data, trusted=trees)
    except Exception as error:  # whatever skops, zipfile or json call it
        raise ValueError(f"its classifier is refused: {first_line(error)[:120]}") from None
    if type(classifier) is not wanted:
        raise ValueError(f"its classifier is refused: a {type(classifier).__name__}, not a {wanted.__name__}")
    if trees and not all(_is_sound(one.tree_) for one in classifier.estimators_):
        raise ValueError("its classifier is refused: a tree of it is damaged")
    return classifier


def _is_sound(tree: Any) -> bool:
    """Whether every node leads further down, to one that is there, by a feature that is there; or is a leaf."""
    nodes = np.arange(tree.node_count)
    is_leaf = (tree.children_left == -1) & (tree.children_right == -1)
    leads_on = (tree.feature >= 0) & (tree.feature < tree.n_features)
    for children in (tree.children_left, tree.children_right):
        leads_on &= (children > nodes) & (children < tree.node_count)
    return bool((is_leaf | leads_on).all())


class Estimator(nn.Module):
    """A model that learns without gradients: `describe` images by features, then fit a classifier on these.

    Trained by `fit` in place of an optimizer; augmentation, schedule and epochs have no say. Takes and returns what a
    network does: `[B, 1, H, W]` in [0, 1] → scores `[B, n_classes]` (`Fitted`).
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.fitted = Fitted(classifier)

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Features `[N, n_features]` float32 of images `[N, H, W]`."""
        raise NotImplementedError

    def recipe(self) -> str:
        """What features depend on beside the images, for their cache."""
        raise NotImplementedError

    def fit(self, data: ImageDataModule) -> None:
        """Learn from the training part of `data`."""
        from hqcnn_lab.data.decode.features import cached_features

        train = data.split.train
        features = cached_features(self.describe, data.images[train], self.recipe(), getattr(data, "cache_dir", None))
        self.fitted.fit(features, data.labels[train])

    @property
    def n_values(self) -> int:
        """How many numbers were learned, or kept."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        features = self.describe(images.detach().squeeze(1).float().cpu().numpy())
        return self.fitted(torch.from_numpy(features)).to(images.device)


class PixelEstimator(Estimator):
    """An `Estimator` whose features are the pixels, averaged to `side`² of them."""

    def __init__(self, classifier: Any, side: int) -> None:
        super().__init__(classifier)
        self.side = side

    def describe(self, images: np.ndarray) -> np.ndarray:
        return averaged(images, self.side)

    def recipe(self) -> str:
        return f"pixels {self.side}"


def averaged(images: np.ndarray, side: int) -> np.ndarray:
    """`[N, H, W]` → `[N, side²]` float32, each the mean of a rectangle of pixels; smaller images stay as they are."""
    small = torch.as_tensor(np.asarray(images, dtype=np.float32))
    side = min(side, small.shape[-1])
    return nn.functional.adaptive_avg_pool2d(small.unsqueeze(1), side).flatten(1).numpy()
