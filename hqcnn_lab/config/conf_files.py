"""Where the files of `conf/` are, and which choices a group has."""

from pathlib import Path

# In a wheel `conf/` lies inside the package, in a checkout beside it.
_INSIDE = Path(__file__).parents[1] / "conf"
CONFIG_DIR = _INSIDE if _INSIDE.is_dir() else Path(__file__).parents[2] / "conf"


def options_of(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
