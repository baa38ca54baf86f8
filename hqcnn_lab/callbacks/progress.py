"""Progress on a terminal, and where there is none."""

import sys
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """A live bar on a terminal; in a log file or a pipe, one line an epoch."""

    def __init__(self) -> None:
        super().__init__()
        if not sys.stdout.isatty():
            self.disable()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self.is_disabled and trainer.is_global_zero:
            shown = {name: trainer.callback_metrics.get(name) for name in ("train/loss", "val/loss", "val/accuracy")}
            figures = "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items() if value is not None)
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {figures}", flush=True)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Without `v_num`, which names nothing here."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
