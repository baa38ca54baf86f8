"""An exponential moving average of the weights, used wherever the model is judged."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging

from hqcnn_lab.callbacks.lightning_private import CountedAveraging
from hqcnn_lab.torch_private import foreach_copy_, foreach_lerp_


class WeightAverage(CountedAveraging):
    """Validate, test and save the exponential moving average of the weights; training goes on from the raw ones.

    Update number t keeps the share min(`decay`, (1 + t) / (10 + t)) of the old average (the rule of TensorFlow's
    `ExponentialMovingAverage`), so a short run is not judged by its initialization. 0.995 looks back about 200 steps.
    """

    def __init__(self, decay: float = 0.995) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        averages = (StochasticWeightAveraging, WeightAveraging)
        callbacks: list[pl.Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it
        for other in (c for c in callbacks if isinstance(c, averages) and c is not self):
            name = type(other).__name__
            print(
                f"warning: WeightAverage's weights are judged, not {name}'s; callbacks.weight_average=null", flush=True
            )

    @torch.no_grad()
    def _average(self, averaged: list[torch.Tensor], current: list[torch.Tensor], n_averaged: Any) -> None:
        if not averaged[0].is_floating_point():  # counters of batch normalization
            foreach_copy_(averaged, current)
            return
        n = self.n_steps_seen  # the same count as n_averaged, without asking the device for it
        foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + n) / (10 + n)))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning calls this for `test(ckpt_path=...)` too, and would put the raw weights back over the averaged ones.
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Also where nothing was left to train, and no training has ended: a run that is resumed for its test.
        self.give_average_to(pl_module)
