"""The network as it was judged at the end of declared epochs, across interruptions."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from hqcnn_lab.callbacks.lightning_private import has_all_its_batches
from hqcnn_lab.distributed import is_follower
from hqcnn_lab.record.whole_file import whole_file

# No optimizer, no loops: a run cannot be continued from it.
_KEPT = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "hyper_parameters")


class KeptEpochs(pl.Callback):
    """`epoch_3.ckpt` and so on in `dirpath`: the weights that are judged at the end of each of `epochs` (from 1 on).

    Use it to read one run at several lengths, none of them chosen by what comes out. Not to continue from, nor to pick
    the best: see `BestCheckpoint`. The weights are those that every callback puts into a checkpoint of that moment, so
    averaged ones where they are averaged. A run that goes on from a checkpoint takes along what lies beside that. An
    epoch that training ends within is not kept. No `Checkpoint`, which Lightning would call last: a run that is killed
    after its `last.ckpt` is written has this one too. Give it to the trainer after the callbacks that average.
    """

    def __init__(self, dirpath: str | Path, epochs: Sequence[int]) -> None:
        self.dirpath = Path(dirpath)
        self.epochs = tuple(epochs)

    def path_of(self, epoch: int) -> Path:
        """Where an epoch's weights are."""
        return self.dirpath / kept_name(epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch in self.epochs and has_all_its_batches(trainer):
            trainer.save_checkpoint(self.path_of(epoch), storage_options={"only": _KEPT})

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit" or is_follower():
            return
        assert trainer.ckpt_path is not None
        before = Path(trainer.ckpt_path).parent
        n_done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        for epoch in (epoch for epoch in self.epochs if epoch <= n_done):
            source, own = before / kept_name(epoch), self.path_of(epoch)
            if source.is_file() and source.resolve() != own.resolve():
                own.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(own) as scratch:
                    shutil.copyfile(source, scratch)


def kept_name(epoch: int) -> str:
    """What the file of an epoch is called."""
    return f"epoch_{epoch}.ckpt"
