"""A row of the table of runs, and what it says of a configuration."""

import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

Row = dict[str, Any]


def as_mapping(value: Any) -> Mapping[str, Any]:
    """`value`, or nothing where a file that was tampered with holds something else."""
    return value if isinstance(value, dict) else {}


def is_figure(value: object) -> TypeGuard[int | float]:
    """Whether a row's value is a number that can be computed with: there, and neither NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def described(config: Mapping[str, Any], overrides: Any, name: str) -> Row:
    """A run's name, data set, model, optimizer, seed and overrides; `name` is its folder's, where the config is lost.

    The three are called as in `conf/` where the overrides say it, otherwise by class, also where they put another in
    the place of the choice's: only the overrides tell `optim=gvco_lr_only` from `gvco`.
    """
    overrides = [str(line) for line in overrides] if isinstance(overrides, list) else None
    chosen = dict(line.lstrip("+").split("=", 1) for line in overrides or [] if "=" in line)

    def choice(group: str, suffix: str = "") -> str | None:
        target = as_mapping(config.get(group)).get("_target_")
        by_class = str(target).rpartition(".")[2].removesuffix(suffix).lower() if target else None
        kernel = as_mapping(config.get(group)).get("kernel", "quantum")
        if kernel != "quantum":
            by_class = f"{by_class}_{'twin' if kernel == 'classical' else kernel}"
        return by_class if f"{group}._target_" in chosen else chosen.get(group, by_class)

    seed = config.get("seed", chosen.get("seed"))
    return {
        "name": str(config.get("name") or name),
        "dataset": choice("dataset", "DataModule"),
        "model": choice("model"),
        "optim": choice("optim"),
        "seed": int(seed) if re.fullmatch(r"[0-9]{1,20}", str(seed)) else None,
        "overrides": overrides,
    }
