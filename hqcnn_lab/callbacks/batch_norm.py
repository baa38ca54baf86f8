"""Batch normalization's statistics, measured anew for weights that were not trained with."""

import itertools
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from hqcnn_lab.torch_private import BatchNorm

N_BATCHES = 30


@torch.no_grad()
def recalibrate(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Measure the statistics of each batch normalization on the first `N_BATCHES` training batches of this epoch.

    For averaged weights: the running statistics are of the weights that were trained, and judged with them the average
    of a network loses most of what it gains. Nothing where nothing is normalized, or without a data module. Randomness,
    modes and all other buffers are left as they are; the training loader is not touched.
    """
    norms = [part for part in pl_module.modules() if isinstance(part, BatchNorm) and part.track_running_stats]
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it
    if not norms or data is None:
        return
    modes = {part: part.training for part in pl_module.modules()}
    momenta = [part.momentum for part in norms]
    pl_module.eval()  # no dropout
    for part in norms:
        part.reset_running_stats()
        part.momentum = None  # a mean of all batches
        part.train()
    try:
        with torch.random.fork_rng([pl_module.device] if pl_module.device.type == "cuda" else []):
            torch.manual_seed(trainer.current_epoch)  # the same where a resumed run comes by here again
            for batch in itertools.islice(data.train_dataloader(), N_BATCHES):
                batch = move_data_to_device(batch, pl_module.device)
                images = (data.augment(batch) if getattr(data, "augment", None) else batch)["image"]
                with trainer.precision_plugin.train_step_context():
                    pl_module(images)
    finally:
        for part, momentum in zip(norms, momenta, strict=True):
            part.momentum = momentum
        for part, mode in modes.items():
            part.training = mode
