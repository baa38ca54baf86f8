"""Optimizers for hybrid networks; plain torch, usable from a notebook."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hqcnn_lab.optim.gvco import GVCO
    from hqcnn_lab.optim.parameter_group import parameter_groups
    from hqcnn_lab.optim.qng import QNG
    from hqcnn_lab.optim.schedule import WarmupCosine
    from hqcnn_lab.optim.spsa import SPSA

# No module may have the same name as what is imported from it: the module would hide that.
_HOME = {
    "GVCO": "gvco",
    "QNG": "qng",
    "SPSA": "spsa",
    "WarmupCosine": "schedule",
    "parameter_groups": "parameter_group",
}
__all__ = ["GVCO", "QNG", "SPSA", "WarmupCosine", "parameter_groups"]


def __getattr__(name: str) -> Any:
    """Import on first use: what is in `limits` is needed to check a configuration, before torch is."""
    if name in _HOME:
        return getattr(importlib.import_module(f"hqcnn_lab.optim.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
