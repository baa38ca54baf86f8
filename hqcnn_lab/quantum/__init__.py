"""Parameterized quantum circuits as torch layers, exact and fast, usable from a notebook.

`gate`, `circuit`, `ansatz`, `noise`, `limits`, `check`, `draw` and `engine.plan` need no torch, so that a configuration
is checked quickly. The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hqcnn_lab.quantum.circuit import make_circuit
    from hqcnn_lab.quantum.conv import QuantumConv2d, QuantumPool2d
    from hqcnn_lab.quantum.draw import draw_figure, draw_text
    from hqcnn_lab.quantum.folded_module import FoldedModule
    from hqcnn_lab.quantum.layer import QuantumLayer
    from hqcnn_lab.quantum.noise import Noise

_HOME = {
    "FoldedModule": "folded_module",
    "Noise": "noise",
    "QuantumConv2d": "conv",
    "QuantumLayer": "layer",
    "QuantumPool2d": "conv",
    "draw_figure": "draw",
    "draw_text": "draw",
    "make_circuit": "circuit",
}

__all__ = [
    "FoldedModule",
    "Noise",
    "QuantumConv2d",
    "QuantumLayer",
    "QuantumPool2d",
    "draw_figure",
    "draw_text",
    "make_circuit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
