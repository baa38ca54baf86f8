"""Networks, and the one LightningModule that trains any of them."""

import importlib
from typing import Any

from hqcnn_lab.lightning_import_private import import_lightning

_HOME = {
    "ANN": "ann",
    "AlexNet": "alexnet",
    "CNNFeatures": "cnn_features",
    "CRNN": "crnn",
    "Ensemble": "ensemble",
    "HOGSVM": "hog_svm",
    "HQCNN": "hqcnn",
    "HQCNNDense": "hqcnn_dense",
    "ImageClassifier": "classifier",
    "KNN": "knn",
    "Linear": "linear",
    "QCNN": "qcnn",
    "Quanvolution": "quanvolution",
    "ResNet": "resnet",
    "SeparableHQCNN": "hqcnn_separable",
    "SimpleCNN": "simple_cnn",
    "TwoStage": "two_stage",
    "UNetEncoder": "unet_encoder",
    "VGG16": "vgg16",
}
# Learn without gradients: no optimizer is theirs.
GRADIENT_FREE = ("Ensemble", "HOGSVM", "KNN", "Linear")
# Have a part that is fitted once the others are trained by gradients.
FITTED_LAST = ("CNNFeatures", "TwoStage")
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import on first use: a network alone predicts without Lightning, which takes seconds to import."""
    if name in _HOME:
        if name == "ImageClassifier":
            import_lightning()
        return getattr(importlib.import_module(f"hqcnn_lab.models.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
