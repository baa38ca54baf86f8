"""Hybrid quantum-classical networks on medical images: exact circuits, GVCO, honest evaluation."""

__version__ = "0.1.0"
