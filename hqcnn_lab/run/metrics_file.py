"""`metrics.csv`, whole whenever the process dies."""

import csv
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from hqcnn_lab.record.whole_file import whole_file


class MetricsFile(CSVLogger):
    """Append what is logged to `metrics.csv` in `folder`; a new metric, which is a new column, never loses the others.

    Lightning's own writes the whole file again for a new column, and a process that is killed meanwhile leaves nothing
    of it.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, name="", version="")

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _WholeWriter(self.log_dir)
        return self._experiment


class _WholeWriter(ExperimentWriter):
    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="") as before, whole_file(path) as scratch, scratch.open("w", newline="") as after:
            writer = csv.DictWriter(after, fieldnames)
            writer.writeheader()
            writer.writerows(csv.DictReader(before))
