"""Learning-rate schedules that torch does not have ready-made."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hqcnn_lab.limit import check_limits
from hqcnn_lab.optim import limits


class WarmupCosine(LambdaLR):
    """Raise the learning rate linearly over the first `warmup` share of the steps, then half a cosine down to zero.

    Step it after every optimizer step. Each group keeps its own peak, the lr it was given.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.05, last_epoch: int = -1) -> None:
        check_limits(limits.WARMUP_COSINE, {"warmup": warmup}, "WarmupCosine: ")
        n_warmup = max(1, round(warmup * total_steps))

        def share(step: int) -> float:
            if step < n_warmup:
                return (step + 1) / n_warmup
            done = (step - n_warmup) / max(1, total_steps - n_warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        super().__init__(optimizer, share, last_epoch)
