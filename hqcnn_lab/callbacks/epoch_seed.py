"""Make each epoch's randomness a function of the seed and the epoch."""

import lightning.pytorch as pl
import numpy as np
import torch


class EpochSeed(pl.Callback):
    """Seed torch at the start of every training epoch: dropout and augmentation do not depend on what ran before.

    With it, a run that is resumed at an epoch's end equals one that was never interrupted. Set it to null only to
    compare with code that seeds once.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        entropy = [self.seed, trainer.current_epoch, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1)))
