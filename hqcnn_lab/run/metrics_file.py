"""`metrics.csv`, whole whenever the process dies."""

import csv
from pathlib import Path

from hqcnn_lab.callbacks.lightning_private import ColumnFile
from hqcnn_lab.record.whole_file import whole_file


class MetricsFile(ColumnFile):
    """Append what is logged to `metrics.csv` in `folder`; a new metric, which is a new column, never loses the others.

    Lightning's own logger writes the whole file again for a new column, and a process that is killed meanwhile leaves
    nothing of it.
    """

    @staticmethod
    def add_columns(path: Path, columns: list[str]) -> None:
        with path.open(newline="") as before, whole_file(path) as scratch, scratch.open("w", newline="") as after:
            writer = csv.DictWriter(after, columns)
            writer.writeheader()
            writer.writerows(csv.DictReader(before))
