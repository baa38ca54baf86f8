"""Parameterized quantum circuits as torch layers, exact and fast, usable from a notebook.

`limits` is importable without torch; everything else is imported at first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hqcnn_lab.quantum.conv import QuantumConv2d
    from hqcnn_lab.quantum.folded import FoldedModule
    from hqcnn_lab.quantum.layer import QuantumLayer

_HOME = {"FoldedModule": "folded", "QuantumConv2d": "conv", "QuantumLayer": "layer"}

__all__ = ["FoldedModule", "QuantumConv2d", "QuantumLayer"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
