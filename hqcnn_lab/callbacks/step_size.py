"""What each step did to the weights, whatever the optimizer calls its rate."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from hqcnn_lab.callbacks.parameter_names import Named, logs_step, named_parameters
from hqcnn_lab.callbacks.standstill import Standstill
from hqcnn_lab.callbacks.step_watch import Gradients, StepWatch
from hqcnn_lab.torch_private import foreach_norm, foreach_sub


class StepSize(pl.Callback):
    """Log how far each parameter group went in a step, and how far it is from where it began.

    `step/<group>/relative` is the root mean square of the parameters' change in the step, over their own; `moved` that
    of their distance from the first step's, in their own unit: radians for circuits. The parameters are those that are
    trained, of a schedule-free optimizer y, where the gradient is taken. Logged every `trainer.log_every_n_steps`
    steps, with a copy of the parameters at those alone, and one transfer.

    `summary()` has `step/<group>/start` (root mean square at the start), `moved` at the last logged step, and what
    `Standstill` says. The start is in checkpoints; from one without it, it is where the run went on.
    """

    def __init__(self) -> None:
        self._standstill = Standstill()
        self._last: dict[str, dict[str, float]] = {}  # group → start, moved
        self._start: dict[str, Tensor] = {}  # by the parameter's name
        self._steps: list[_Watched] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()
        for optimizer in trainer.optimizers:
            named = named_parameters(optimizer, pl_module)
            for one in named:
                before = self._start.get(one.key)
                if before is None or before.shape != one.parameter.shape:
                    self._start[one.key] = one.parameter.detach().clone()
                else:
                    self._start[one.key] = before.to(one.parameter)
            self._steps.append(_Watched(trainer, optimizer, named, [self._start[one.key] for one in named]))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for watched in self._steps:
            if (found := watched.take()) is None:
                continue
            numbers, rates = found
            relative = {g: n["change"] / n["size"] if n["size"] else math.nan for g, n in numbers.items()}
            self._last |= {group: {"start": n["start"], "moved": n["moved"]} for group, n in numbers.items()}
            gradients = {group: n["gradient"] for group, n in numbers.items()}
            self._standstill.add(trainer.global_step, relative, gradients, rates)
            pl_module.log_dict(
                {f"step/{group}/relative": value for group, value in relative.items()}
                | {f"step/{group}/moved": n["moved"] for group, n in numbers.items()}
            )

    def summary(self) -> dict[str, Any]:
        """Flat keys for the run's summary."""
        went = {f"step/{group}/{name}": x for group, of_one in self._last.items() for name, x in of_one.items()}
        return went | self._standstill.summary()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._end()

    def _end(self) -> None:
        for watched in self._steps:
            watched.watch.end()
        self._steps = []

    def state_dict(self) -> dict[str, Any]:
        return {"start": self._start, "last": self._last, "standstill": self._standstill.groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start, self._last = dict(state["start"]), state["last"]
        self._standstill.groups = state["standstill"]


class _Watched:
    """One optimizer's steps: norms are taken around those that are to be logged, and kept on the device."""

    def __init__(self, trainer: pl.Trainer, optimizer: Optimizer, named: list[Named], start: list[Tensor]) -> None:
        self._trainer, self._optimizer, self._named, self._start = trainer, optimizer, named, start
        self._parameters = [one.parameter.detach() for one in named]
        self._before: list[Tensor] = []
        self._norms: dict[str, list[Tensor]] = {}
        self._rates: dict[str, float] = {}
        self._done = False
        self.watch = StepWatch(optimizer, self._see, self._begin, self._finish)

    def _begin(self) -> None:
        self._norms, self._before, self._done = {}, [], False
        if logs_step(self._trainer, self._trainer.global_step + 1):
            self._before = [parameter.clone() for parameter in self._parameters]
            # By the end of the batch the scheduler has already set the next step's.
            self._rates = {}
            for group in self._optimizer.param_groups:
                kind = group.get("group", "other")
                self._rates[kind] = max(self._rates.get(kind, 0.0), float(group["lr"]))

    def _see(self, gradients: Gradients) -> None:
        if self._before and any(g is not None for g in gradients):
            zero = self._before[0].new_zeros(())
            norms = iter(foreach_norm([g for g in gradients if g is not None]))
            self._norms["gradient"] = [zero if g is None else next(norms) for g in gradients]

    @torch.no_grad()
    def _finish(self) -> None:
        if self._norms:
            parts = {
                "change": foreach_sub(self._parameters, self._before),
                "size": self._before,
                "moved": foreach_sub(self._parameters, self._start),
                "start": self._start,
            }
            self._norms |= {name: list(foreach_norm(tensors)) for name, tensors in parts.items()}
            self._done = True
        self._before = []

    def take(self) -> tuple[dict[str, dict[str, float]], dict[str, float]] | None:
        """By group the root mean squares, the gradient's norm, and the rates; None where no logged step was taken."""
        if not self._done:
            return None
        self._done = False
        kinds = list(self._norms)
        flat = torch.stack([norm.float() for norms in self._norms.values() for norm in norms]).tolist()
        n = len(self._named)
        norms = {kind: flat[i * n : (i + 1) * n] for i, kind in enumerate(kinds)}
        found: dict[str, dict[str, float]] = {}
        for group in dict.fromkeys(one.group for one in self._named):
            members = [i for i, one in enumerate(self._named) if one.group == group]
            size = sum(self._parameters[i].numel() for i in members)
            sums = {kind: math.hypot(*(of_kind[i] for i in members)) for kind, of_kind in norms.items()}
            found[group] = {k: s if k == "gradient" else s / math.sqrt(max(size, 1)) for k, s in sums.items()}
        return found, self._rates
