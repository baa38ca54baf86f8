"""How gradients vary over steps, quantum against classical, as every optimizer sees them."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from hqcnn_lab.callbacks.gradient_moments import GradientMoments
from hqcnn_lab.callbacks.parameter_names import Named, logs_step, named_parameters
from hqcnn_lab.callbacks.step_watch import Gradients, StepWatch


class GradientVariance(pl.Callback):
    """Log the variance of the gradients over steps, per parameter group and per layer.

    By group `grad/<group>/variance_over_steps`, the mean over its elements of each element's variance from step to
    step, and `grad/<group>/signal`, the mean gradient's squared size per element: `GradientMoments` says how both are
    estimated, the same for every optimizer. Their ratio is the noise per signal. `grad/<group>/norm` is of the step's
    own gradient. `grad/<group>/variance_over_elements` is the spread over that gradient's elements, which says how
    alike they are in size, nothing of noise. By layer, `grad/layer/<name>/…`, both variances of one weight tensor;
    biases and norms are in their groups alone.

    The gradients are those that the optimizer uses (`StepWatch`); an estimate is kept up at every step and logged every
    `trainer.log_every_n_steps` steps, with one transfer from the device. Nothing of a step that had no gradients, as
    when Lightning's stochastic weight averaging goes through the data once more for batch normalization.

    The estimates are in checkpoints; from one without them they begin anew.

    Not a barren-plateau test by itself: a circuit that has converged also has small gradients; compare with
    initialization.
    """

    def __init__(self) -> None:
        self._moments: list[tuple[list[Named], GradientMoments]] = []
        self._watches: list[StepWatch] = []
        self._loaded: dict[str, Any] = {}
        self._at_step: list[tuple[list[Named], GradientMoments, Tensor, dict[str, Tensor]]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()
        self._moments, self._at_step = [], []
        for optimizer in trainer.optimizers:
            if not (named := named_parameters(optimizer, pl_module)):
                continue
            moments = GradientMoments({one.key: one.parameter for one in named})
            moments.load_state_dict(self._loaded)
            self._moments.append((named, moments))

            def see(gradients: Gradients, named: list[Named] = named, moments: GradientMoments = moments) -> None:
                norms = moments.update(gradients)
                if logs_step(trainer, trainer.global_step + 1) and (elements := _over_elements(named, gradients)):
                    self._at_step.append((named, moments, norms, elements))

            self._watches.append(StepWatch(optimizer, see))
        self._loaded = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for named, moments, norms, elements in self._at_step:
            values = torch.cat([moments.table.flatten(), norms, torch.stack(list(elements.values()))]).tolist()
            n = len(named)
            logged = _over_steps(named, np.reshape(values[: 4 * n], (4, n)), np.array(moments.numbers))
            pl_module.log_dict(logged | dict(zip(elements, values[4 * n :], strict=True)))
        self._at_step = []

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._end()

    def _end(self) -> None:
        for watch in self._watches:
            watch.end()
        self._watches = []

    def state_dict(self) -> dict[str, Any]:
        state = dict(self._loaded)
        for _, moments in self._moments:
            state |= moments.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._loaded = state


def _over_steps(named: list[Named], table: np.ndarray, numbers: np.ndarray) -> dict[str, float]:
    """By group, weighted by elements, and by layer; `table [4, n]`: steps, variance, signal, norm."""
    steps, variance, signal, norm = table
    begun = steps > 1  # before, there is a mean and nothing that was compared with it
    logged: dict[str, float] = {}
    for group in dict.fromkeys(one.group for one in named):
        members = np.array([one.group == group for one in named])
        if norm[members].any():
            logged[f"grad/{group}/norm"] = float(np.sqrt(np.square(norm[members]).sum()))
        if not (known := members & begun).any():
            continue
        for name, values in (("variance_over_steps", variance), ("signal", signal)):
            logged[f"grad/{group}/{name}"] = float(np.average(values[known], weights=numbers[known]))
    for one, known, value in zip(named, begun, variance, strict=True):
        if one.layer is not None and known:
            logged[f"grad/layer/{one.layer}/variance_over_steps"] = float(value)
    return logged


@torch.no_grad()
def _over_elements(named: list[Named], gradients: Gradients) -> dict[str, Tensor]:
    spread: dict[str, Tensor] = {}
    pooled: dict[str, list[Tensor]] = {}
    for one, gradient in zip(named, gradients, strict=True):
        if gradient is None or not gradient.numel():
            continue
        flat = gradient.float().flatten()
        pooled.setdefault(one.group, []).append(flat)
        if one.layer is not None:
            spread[f"grad/layer/{one.layer}/variance_over_elements"] = flat.var(correction=0)
    return spread | {
        f"grad/{group}/variance_over_elements": torch.cat(flats).var(correction=0) for group, flats in pooled.items()
    }
