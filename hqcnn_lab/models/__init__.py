"""Networks, and the one LightningModule that trains any of them."""

import importlib
from typing import Any

_HOME = {
    "HQCNN": "hqcnn",
    "ImageClassifier": "classifier",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import on first use: a network alone predicts without Lightning, which takes seconds to import."""
    if name in _HOME:
        return getattr(importlib.import_module(f"hqcnn_lab.models.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
