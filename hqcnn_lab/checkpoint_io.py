"""Checkpoint files that are whole or absent, whenever the process dies."""

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from hqcnn_lab.rules import first_line


class WholeFileIO(TorchCheckpointIO):
    """Write beside the file and rename; Lightning writes to the temporary folder, and from there to another disk a
    rename is a copy, of which a killed process leaves half."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.part")
        try:
            torch.save(checkpoint, scratch)
        except (OSError, RuntimeError) as error:  # of a full disk, torch says "unexpected pos 64 vs 0"
            scratch.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free / 1e6
            raise OSError(f"{path}: not written, {free:.1f} MB are free there ({first_line(error)[:80]})") from error
        scratch.replace(path)
