"""What the lab uses of Lightning's inside, which Lightning does not promise to keep.

`tests/callbacks/test_lightning_private.py` says what broke after an upgrade.
"""

# pyright: reportPrivateUsage=false

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loops.progress import _ProcessedTracker


def is_amid_an_epoch(trainer: pl.Trainer) -> bool:
    """Whether a batch has just ended with an optimizer step, and neither validation nor the epoch's end is next."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None  # a fit has one
    return not (loop._should_accumulate() or loop._num_ready_batches_reached() or loop._should_check_val_fx(fetcher))


def has_all_its_batches(trainer: pl.Trainer) -> bool:
    """Whether the epoch that ends now was gone through: `max_steps` and `max_time` end one before."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def end_as_by_sigterm(trainer: pl.Trainer) -> None:
    """Have Lightning end the loop where the batch, or the epoch, is complete and logged."""
    trainer._signal_connector.received_sigterm = True


def take_back_an_epoch(trainer: pl.Trainer) -> None:
    """Lightning takes every run of so many steps for one that stopped within an epoch: it comes to the end of the last
    epoch once more, without training, and counts it and its last step again."""
    loop = trainer.fit_loop
    loop.epoch_loop._batches_that_stepped -= 1
    for counts in (_epochs(trainer), _epochs(trainer, total=True)):
        counts.processed -= 1
        if not loop.restarted_on_epoch_end:  # there, Lightning does not count it as begun again
            counts.ready, counts.started = counts.ready - 1, counts.started - 1


def forget_loader(checkpoint: dict[str, Any]) -> None:
    """Take out of a checkpoint where its loader was. Lightning goes on from there unless a schedule has asked for the
    loader's length; at the end of an epoch, of a run of so many steps, that made the next epoch one without batches."""
    checkpoint["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)


def is_within_an_epoch(trainer: pl.Trainer) -> bool:
    """Whether an epoch has begun whose batches are not all done."""
    epochs = _epochs(trainer)
    return epochs.processed < epochs.ready


def count_last_epoch(trainer: pl.Trainer) -> None:
    """Count the epochs whose batches are done as complete."""
    epochs = _epochs(trainer)
    epochs.completed = epochs.processed


def _epochs(trainer: pl.Trainer, total: bool = False) -> _ProcessedTracker:
    """The counts of epochs, of this fit or of all."""
    progress = trainer.fit_loop.epoch_progress
    counts = progress.total if total else progress.current
    assert isinstance(counts, _ProcessedTracker)
    return counts


class EpochBar(RichProgressBar):
    """The progress bar, with `describe_epoch` for what stands beside it."""

    def describe_epoch(self, epoch: int) -> str:
        """What to call an epoch, whose number begins at 0."""
        raise NotImplementedError

    def _get_train_description(self, current_epoch: int) -> str:
        return self.describe_epoch(current_epoch)


class CountedAveraging(WeightAveraging):
    """Averaging that tells how many steps it has seen, and gives the average to the model when it is asked to."""

    @property
    def n_steps_seen(self) -> int:
        """The trainer's step at the last update."""
        return self._latest_update_step

    def give_average_to(self, pl_module: pl.LightningModule) -> None:
        """Put the averaged weights into the model."""
        self._copy_average_to_current(pl_module)


class ColumnFile(CSVLogger):
    """`metrics.csv` in `folder`; `add_columns` writes it anew where a metric is logged that was not before."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, name="", version="")

    @staticmethod
    def add_columns(path: Path, columns: list[str]) -> None:
        """Write the file again with these columns, each row as it was."""
        raise NotImplementedError

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if not isinstance(self._experiment, _Writer):
            self._experiment = _Writer(self.log_dir)
            self._experiment.add_columns = self.add_columns
        return self._experiment


class _Writer(ExperimentWriter):
    add_columns: Any

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.add_columns(Path(self.metrics_file_path), fieldnames)
