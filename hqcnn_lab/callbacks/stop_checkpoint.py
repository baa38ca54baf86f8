"""`last.ckpt` within an epoch: when the run is told to end, and every minute."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from hqcnn_lab.callbacks.lightning_private import end_as_by_sigterm, is_amid_an_epoch
from hqcnn_lab.distributed import lost_process
from hqcnn_lab.error import first_line

_SAVE = 1  # no signal to end has this number or a lower one
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopCheckpoint(Checkpoint):
    """End a run that gets SIGTERM or SIGINT at the next optimizer step, its checkpoint written; exit code 143 or 130.

    The checkpoint is `last.ckpt` in `dirpath`, and a run that is resumed from it equals one that was not interrupted,
    to the bit on a CPU in float32. It is also written every `seconds` of training, so a killed run loses no more than
    those; the epoch's end is for `ModelCheckpoint`. What `ResumeState` keeps belongs to it.

    After a batch that validation follows, as after an epoch's last, nothing is written: a signal during validation
    ends the run at the next batch of it, at once, and resuming repeats what was trained since the last write: at
    most `seconds` and a batch. (Several processes end together, so there it ends after validation, with the epoch's
    checkpoint.) A second SIGINT ends the run where it is. In the test that follows, a signal does so too:
    `last.ckpt` then holds the whole training and resuming goes straight to the test.
    """

    def __init__(self, dirpath: str | Path, seconds: float = 60.0) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.seconds = seconds
        self.signal = 0  # the one received
        self._saved_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_at = time.monotonic()
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:  # Lightning puts back, after the fit, what there was before
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise SystemExit(128 + number)
        self.signal = number

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Resumed from here, a validation that is due now would not be made up for.
        if not is_amid_an_epoch(trainer):
            return
        due = time.monotonic() - self._saved_at >= self.seconds
        if wanted := _highest(trainer, self.signal or due * _SAVE):
            trainer.save_checkpoint(self.path)
            self._saved_at = time.monotonic()
            self._end_after_this(trainer, wanted)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if self.signal and trainer.state.fn == "fit" and trainer.world_size == 1:
            raise SystemExit(128 + self.signal)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_at = time.monotonic()
        self._end_after_this(trainer, _highest(trainer, self.signal))

    def _end_after_this(self, trainer: pl.Trainer, wanted: int) -> None:
        if wanted > _SAVE:
            self.signal = wanted
            end_as_by_sigterm(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):
            # The first process is ended by force where another one's code is not 0.
            exception.code = 128 + self.signal if trainer.is_global_zero else 0
        elif trainer.is_global_zero and (processes := getattr(trainer.strategy.launcher, "procs", [])):
            if type(exception) is RuntimeError and (lost := lost_process(processes)):
                exception.args = (f"{lost}; what it said is above ({first_line(exception)[:80]})",)
            for process in processes:  # they would wait for this one
                process.kill()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.signal:  # it came after the last epoch
            raise SystemExit(128 + self.signal)


def _highest(trainer: pl.Trainer, number: int) -> int:
    """Of all processes, so that they save and end together."""
    if trainer.world_size == 1:
        return int(number)
    return int(trainer.strategy.reduce(torch.tensor(int(number), device=trainer.strategy.root_device), reduce_op="max"))
