"""Checkpoint files that are whole or absent, whenever the process dies, and never ahead of the metrics."""

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from hqcnn_lab.error import first_line
from hqcnn_lab.record.whole_file import part_of


class WholeFileIO(TorchCheckpointIO):
    """Write beside the file and rename; Lightning writes to the temporary folder, and from there to another disk a
    rename is a copy, of which a killed process leaves half.

    Between `hold` and `settle` files are written and not renamed: until then the older ones stand (`MetricsFirst`).
    So this is no `whole_file`, which renames as its block ends. Of `storage_options`, `only` names the keys to keep.
    """

    def __init__(self) -> None:
        self._held: dict[Path, Path] | None = None  # by what each is to be called; None: nothing is held back

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        if storage_options:
            checkpoint = {key: checkpoint[key] for key in storage_options["only"]}
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = part_of(path)
        try:
            torch.save(checkpoint, scratch)
        except (OSError, RuntimeError) as error:  # of a full disk, torch says "unexpected pos 64 vs 0"
            scratch.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free / 1e6
            raise OSError(f"{path}: not written, {free:.1f} MB are free there ({first_line(error)[:80]})") from error
        if self._held is None:
            scratch.replace(path)
        else:
            self._held[path] = scratch

    def remove_checkpoint(self, path: str | Path) -> None:
        if self._held and (scratch := self._held.pop(Path(path), None)):
            scratch.unlink(missing_ok=True)
        super().remove_checkpoint(path)

    def hold(self) -> None:
        """Give no file its name before `settle`."""
        self._held = self._held or {}

    def settle(self) -> None:
        """Give the files that were held back their names, in the order they were written in."""
        for path, scratch in (self._held or {}).items():
            scratch.replace(path)
        self._held = None

    def drop(self) -> None:
        """Remove the files that were held back."""
        for scratch in (self._held or {}).values():
            scratch.unlink(missing_ok=True)
        self._held = None
