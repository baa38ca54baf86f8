"""Figures that put a score in its place, and `load_runs`, which reads run folders into one table."""

from hqcnn_lab.analysis.runs import load_runs

__all__ = ["load_runs"]
