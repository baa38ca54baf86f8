"""What the lab uses of Hydra beyond what its documentation promises; an upgrade may take any of it away.

Hydra documents neither its option parser nor its parser of overrides, which launchers and sweepers are written with. Of
`HydraConfig`, only `get` and `initialized` are documented; the lab also sets it, for a job that it starts itself.
`tests/config/test_hydra_private.py` says what each must do.
"""

from hydra._internal.utils import get_args_parser  # pyright: ignore[reportPrivateUsage]
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)

__all__ = [
    "Glob",
    "GlobalHydra",
    "HydraConfig",
    "IntervalSweep",
    "Override",
    "OverrideType",
    "OverridesParser",
    "Quote",
    "QuotedString",
    "RangeSweep",
    "Transformer",
    "get_args_parser",
]
