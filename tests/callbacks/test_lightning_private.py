"""After an upgrade of Lightning: is what hqcnn_lab/callbacks/lightning_private.py uses still what it was?"""

import inspect
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar, WeightAveraging
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from hqcnn_lab.callbacks import lightning_private

BROKEN = "Lightning's {} is not what hqcnn_lab/callbacks/lightning_private.py expects: mend it there".format


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (RichProgressBar, "_get_train_description", ["self", "current_epoch"]),
        (WeightAveraging, "_copy_average_to_current", ["self", "pl_module"]),
        (ExperimentWriter, "_rewrite_with_new_header", ["self", "fieldnames"]),
    ],
)
def test_methods_that_are_called_or_replaced(owner, name, parameters):
    method = getattr(owner, name, None)
    assert method is not None, BROKEN(f"{owner.__name__}.{name}")
    assert list(inspect.signature(method).parameters) == parameters, BROKEN(f"{owner.__name__}.{name}")


class Watch(pl.Callback):
    """Asks at every batch's end."""

    def __init__(self) -> None:
        self.amid: list[bool] = []

    def on_train_batch_end(self, trainer, *args):
        self.amid.append(lightning_private.is_amid_an_epoch(trainer))


def fit(*callbacks: pl.Callback, **options) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_train_batches=4,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(BoringModel())
    return trainer


@pytest.mark.parametrize(
    ("options", "amid"),
    [
        ({}, [True, True, True, False]),
        ({"accumulate_grad_batches": 2}, [False, True, False, False]),
        ({"val_check_interval": 2}, [True, False, True, False]),
    ],
)
def test_where_an_epoch_can_be_interrupted(options, amid):
    watch = Watch()
    fit(watch, **options)
    assert watch.amid == 2 * amid, BROKEN("TrainingEpochLoop's _should_accumulate and its like")


@pytest.mark.parametrize(("options", "whole"), [({}, [True, True]), ({"max_steps": 6}, [True, False])])
def test_an_epoch_that_is_cut_short_is_known(options, whole):
    class Ends(pl.Callback):
        def __init__(self):
            self.said = []

        def on_train_epoch_end(self, trainer, *args):
            self.said.append(lightning_private.has_all_its_batches(trainer))

    ends = Ends()
    fit(ends, **options)
    assert ends.said == whole, BROKEN("TrainingEpochLoop._num_ready_batches_reached")


def test_a_run_ends_as_by_sigterm():
    class Ends(pl.Callback):
        n_batches = 0

        def on_train_batch_end(self, trainer, *args):
            self.n_batches += 1
            lightning_private.end_as_by_sigterm(trainer)

    ends = Ends()
    with pytest.raises(SIGTERMException):
        fit(ends)
    assert ends.n_batches == 1, BROKEN("Trainer._signal_connector.received_sigterm")


def test_an_epoch_is_taken_back():
    trainer = fit()
    stepped = trainer.fit_loop.epoch_loop._batches_that_stepped
    lightning_private.take_back_an_epoch(trainer)
    assert stepped == 8, BROKEN("TrainingEpochLoop._batches_that_stepped")
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 7
    counts = trainer.fit_loop.epoch_progress.current
    assert (counts.ready, counts.started, counts.processed) == (1, 1, 1), BROKEN("FitLoop.epoch_progress")


def test_a_checkpoint_tells_where_its_loader_was_until_that_is_taken_out():
    class Stateful(DataLoader):
        def state_dict(self):
            return {"batches": 4}

        def load_state_dict(self, state):
            raise AssertionError("was to be forgotten")

    class Model(BoringModel):
        def train_dataloader(self):
            return Stateful(super().train_dataloader().dataset)

    trainer = pl.Trainer(accelerator="cpu", max_steps=4, limit_train_batches=4, logger=False, barebones=True)
    trainer.fit(Model())
    checkpoint = {"loops": {"fit_loop": trainer.fit_loop.state_dict()}}
    state = checkpoint["loops"]["fit_loop"]["state_dict"]
    assert state["combined_loader"] == [{"batches": 4}], BROKEN("FitLoop.on_save_checkpoint")
    lightning_private.forget_loader(checkpoint)
    assert "combined_loader" not in state


def test_averaging_tells_its_steps_and_gives_the_average():
    class Halfway(lightning_private.CountedAveraging):
        steps: list[int] = []

        def on_train_batch_end(self, trainer, *args, **kwargs):
            super().on_train_batch_end(trainer, *args, **kwargs)
            self.steps.append(self.n_steps_seen)

        def on_train_end(self, trainer, pl_module):
            with torch.no_grad():
                pl_module.layer.weight.fill_(7)
            self.give_average_to(pl_module)
            assert not (pl_module.layer.weight == 7).all()

    fit(Halfway())
    assert Halfway.steps == list(range(1, 9)), BROKEN("WeightAveraging._latest_update_step")


def test_a_new_column_is_ours_to_write(tmp_path: Path):
    class Noted(lightning_private.ColumnFile):
        calls: list[tuple[str, list[str]]] = []

        @staticmethod
        def add_columns(path, columns):
            Noted.calls.append((path.name, sorted(columns)))

    logger = Noted(tmp_path)
    assert isinstance(logger, CSVLogger)
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    logger.log_metrics({"b": 2.0}, 1)
    logger.save()
    assert Noted.calls == [("metrics.csv", ["a", "b", "step"])], BROKEN("ExperimentWriter._rewrite_with_new_header")


def test_the_bar_asks_what_an_epoch_is_called():
    class Bar(lightning_private.EpochBar):
        def describe_epoch(self, epoch):
            return f"epoch {epoch + 1}"

    assert Bar()._get_train_description(0) == "epoch 1", BROKEN("RichProgressBar._get_train_description")
