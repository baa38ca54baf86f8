"""Optimizers for hybrid networks; plain torch, usable from a notebook."""

from hqcnn_lab.optim.gvco import GVCO
from hqcnn_lab.optim.gvco_literal import GVCOLiteral
from hqcnn_lab.optim.parameter_groups import parameter_groups
from hqcnn_lab.optim.qng import QNG
from hqcnn_lab.optim.schedule import WarmupCosine
from hqcnn_lab.optim.spsa import SPSA

__all__ = ["GVCO", "QNG", "SPSA", "GVCOLiteral", "WarmupCosine", "parameter_groups"]
