"""The run folder: everything known about a run, as plain files that are whole or absent."""

import json
import os
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.record.csv_text import csv_text
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.environment import environment
from hqcnn_lab.record.state import LOCK, clean_up
from hqcnn_lab.record.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunRecord:
    """Writes one run's folder; W&B and others may mirror it, nothing is known only to them.

    `status.json` is there from the first second: `running`, then `finished` or `failed` with the error. A folder that
    already holds a run is refused. Each file written here appears by a rename, so a reader never sees half of one;
    `metrics.csv`, which `MetricsFile` appends to, grows.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._started = datetime.now(UTC)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            (self.folder / "status.json").open("x").close()  # of two runs that start together, one gets the folder
        except FileExistsError:
            message = f"{self.folder} already holds a run; runs are never overwritten, choose another folder"
            raise FileExistsError(message) from None
        self._lock = FileLock(self.folder / LOCK)
        self._lock.acquire(timeout=10)  # a process that looks whether a run is going on holds it for a moment
        self._set_status("running")
        clean_up(self.folder.parent)  # after runs that were killed

    def describe(self, config: DictConfig) -> None:
        """Write what is about to run, and on what."""
        self.write("config.yaml", OmegaConf.to_yaml(config, resolve=True))
        overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else None
        self.write_json("environment.json", {"overrides": overrides, "digest": digest(config)} | environment())

    def write(self, name: str, text: str) -> None:
        """Write one file, by way of a temporary name."""
        with whole_file(self.folder / name) as scratch:
            scratch.write_text(text, encoding="utf-8")

    def write_json(self, name: str, content: Any) -> None:
        """Write one file as JSON; what is not a number (NaN, infinity) becomes null."""
        self.write(name, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, header: list[str], rows: Any) -> None:
        """Write one file as CSV."""
        self.write(name, csv_text(header, rows))

    def write_figure(self, name: str, figure: "Figure") -> Path:
        """`figures/<name>.png`, 1000 pixels wide or so; returns where it is."""
        path = self.folder / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as scratch:
            figure.savefig(scratch, format="png", dpi=120)
        return path

    def write_predictions(
        self, names: list[str], labels: np.ndarray, classes: list[str], predictions: dict[str, torch.Tensor]
    ) -> None:
        """`predictions.csv`: file, label, prediction and the probability of each class, a line for each test image."""
        index, probabilities = predictions["index"].tolist(), predictions["probabilities"]
        rows = (
            [names[i], classes[labels[i]], classes[int(p.argmax())], *(f"{x:.6f}" for x in p.tolist())]
            for i, p in zip(index, probabilities, strict=True)
        )
        self.write_table("predictions.csv", ["file", "label", "prediction", *(f"p/{name}" for name in classes)], rows)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write `summary.json` (flat keys) and say that the run is whole."""
        self.write_json("summary.json", summary)
        self._set_status("finished")
        self._lock.release()

    def fail(self, error: BaseException) -> None:
        """Say that the run failed, and why."""
        message = (
            "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else f"{type(error).__name__}: {error}"
        )
        self._set_status("failed", error=message, traceback="".join(traceback.format_exception(error)))
        self._lock.release()

    def _set_status(self, status: str, **details: str) -> None:
        times = {"started": self._started.isoformat(timespec="seconds"), "process": os.getpid()}
        if status != "running":
            times["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.write_json("status.json", {"status": status, **details, **times})


class FollowerRecord(RunRecord):
    """For the other processes of a distributed run, which share the folder of the first: it writes nothing."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def describe(self, config: DictConfig) -> None:
        pass

    def write(self, name: str, text: str) -> None:
        pass

    def finish(self, summary: dict[str, Any]) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass

    def ckpt_path(self) -> str | None:
        """What the first process continues from."""
        return OmegaConf.load(self.folder / "config.yaml").ckpt_path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, torch.Tensor | np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
