"""Which part of a network stopped moving while another went on, from what its steps were."""

from collections.abc import Mapping
from typing import Any

LAG = 0.01  # of another group's relative step: what is less has stopped
LONG = 0.1  # of the logged steps


class Standstill:
    """Count, over the logged steps, those in which a parameter group stood still without its gradient saying so.

    It did where its relative step is under 1 % of the largest of the other groups', and its gradient, over what it was
    at the start, has not fallen by as large a factor: a circuit whose gradient has vanished has nothing to step along,
    one whose optimizer has made its rate vanish has. A group whose rate is set to 0 is frozen, and does not count.
    """

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, float]] = {}

    def add(
        self, step: int, relative: Mapping[str, float], norms: Mapping[str, float], rates: Mapping[str, float]
    ) -> None:
        """A logged step: by group its relative step, its gradient's norm, and its rate as set."""
        for group, own in relative.items():
            first = {"steps": 0, "frozen": 0, "stopped": 0, "from": 0, "lags": 0.0, "norm": 0.0}
            count = self.groups.setdefault(group, first)
            count["steps"] += 1
            norm = norms.get(group, 0.0)
            if rates[group] == 0:
                count["frozen"] += 1
                continue
            count["norm"] = count["norm"] or norm
            other = max((value for name, value in relative.items() if name != group), default=0.0)
            if other and count["norm"] and own < LAG * other and own / other < norm / count["norm"]:
                count["from"] = count["from"] if count["stopped"] else step
                count["stopped"] += 1
                count["lags"] += own / other

    def summary(self) -> dict[str, Any]:
        """Flat keys for the run's summary, only of groups that were frozen throughout or stood still for long.

        `step/<group>/stopped_from` is the first such step, `/stopped_share` of the logged steps, `/stopped_ratio` what
        the group's relative step was there, on average, over the other's.
        """
        values: dict[str, Any] = {}
        for group, count in self.groups.items():
            if count["frozen"] == count["steps"]:
                values[f"step/{group}/frozen"] = True
            elif count["stopped"] > LONG * count["steps"]:
                values[f"step/{group}/stopped_from"] = int(count["from"])
                values[f"step/{group}/stopped_share"] = count["stopped"] / count["steps"]
                values[f"step/{group}/stopped_ratio"] = count["lags"] / count["stopped"]
        return values
