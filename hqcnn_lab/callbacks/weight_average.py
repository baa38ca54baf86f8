"""An exponential moving average of the weights, used wherever the model is judged."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage(WeightAveraging):
    """Validate, test and save the exponential moving average of the weights; training goes on from the raw ones.

    `decay` is the share of the old average kept each step: 0.995 looks back about 200 steps. Not for runs of a few
    dozen steps, whose average is still mostly the initialization.
    """

    def __init__(self, decay: float = 0.995) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning calls this for `test(ckpt_path=...)` too and would then put the raw weights back over the averaged
        # ones just loaded.
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
