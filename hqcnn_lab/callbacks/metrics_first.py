"""No checkpoint before the metrics of the steps that it counts as done."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.exceptions import SIGTERMException

from hqcnn_lab.callbacks.checkpoint_io import WholeFileIO


class MetricsFirst(pl.Callback):
    """Hold back the checkpoints of a batch's or an epoch's end until what was logged there is written.

    Lightning saves first and then gives its loggers that step's metrics: of a run that is killed in between and resumed
    they would be in no run folder. So the older checkpoint stands until then, and a step may be trained again. Give it
    to the trainer before other callbacks, with `WholeFileIO`.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        _files(trainer).hold()

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        _files(trainer).hold()

    # Whichever comes next; the loggers have been called by then.
    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        _files(trainer).settle()

    def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
        _files(trainer).settle()

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        _files(trainer).settle()

    def on_train_end(self, trainer: pl.Trainer, *args: Any) -> None:
        _files(trainer).settle()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):  # which ends a loop where all is logged
            _files(trainer).settle()
        else:
            _files(trainer).drop()


def _files(trainer: pl.Trainer) -> WholeFileIO:
    files = trainer.strategy.checkpoint_io
    assert isinstance(files, WholeFileIO)
    return files
