"""Checkpoint files that are whole or absent, whenever the process dies."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class WholeFileIO(TorchCheckpointIO):
    """Write beside the file and rename; Lightning writes to the temporary folder, and from there to another disk a
    rename is a copy, of which a killed process leaves half."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.part")
        torch.save(checkpoint, scratch)
        scratch.replace(path)
