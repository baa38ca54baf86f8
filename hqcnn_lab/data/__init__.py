"""Data sets as Lightning DataModules, over shared pieces: reading, cache, split, augmentation."""

import importlib
from typing import Any

_HOME = {
    "Augment": "augment",
    "ImageDataModule": "datamodule",
    "KaggleDataModule": "kaggle_datamodule",
    "PhantomDataModule": "phantom_datamodule",
    "RembrandtDataModule": "rembrandt_datamodule",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import on first use: the command line is checked with `data.source.layout`, before torch is needed."""
    if name in _HOME:
        return getattr(importlib.import_module(f"hqcnn_lab.data.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
