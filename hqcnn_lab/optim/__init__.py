"""Optimizers for hybrid networks; plain torch, usable from a notebook."""

from hqcnn_lab.optim.gvco import GVCO
from hqcnn_lab.optim.parameter_groups import parameter_groups
from hqcnn_lab.optim.schedule import WarmupCosine

__all__ = ["GVCO", "WarmupCosine", "parameter_groups"]
