"""What the lab does with torchmetrics that torchmetrics does not promise to allow.

`tests/test_torchmetrics_private.py` says what broke after an upgrade.
"""

# pyright: reportPrivateUsage=false

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchmetrics import Metric


def set_update_count(metric: "Metric", count: int) -> None:
    """Say how often a metric was updated, where its state is put back: without any update it warns of that."""
    metric._update_count = count
