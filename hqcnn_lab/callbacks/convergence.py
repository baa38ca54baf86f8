"""How fast a run got there: epochs, steps and seconds to fixed validation accuracies."""

import time
from typing import Any

import lightning.pytorch as pl


class Convergence(pl.Callback):
    """Note when validation accuracy first reached each level, and what an epoch costs.

    `summary()` gives `convergence/epochs_to_95`, `steps_to_95`, `seconds_to_95` for every level (None: never reached),
    the best validation accuracy and its epoch, and `seconds/epoch`, the mean over this process's epochs. Seconds are of
    training and validation, and go on counting where a resumed run left off.
    """

    def __init__(self, levels: tuple[float, ...] | list[float] = (0.90, 0.95, 0.98)) -> None:
        self.levels = list(levels)
        self.reached: dict[str, list[float]] = {}  # level → [epochs, steps, seconds]
        self.best = [0.0, 0]  # accuracy, epochs
        self.seconds = 0.0
        self._epoch_seconds: list[float] = []
        self._before = 0.0  # seconds of this epoch before an interruption
        self._since: float | None = None  # None: between epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter() - self._before  # counts where an epoch is resumed, which has no start

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter()

    def _epoch_so_far(self) -> float:
        return 0.0 if self._since is None else time.perf_counter() - self._since

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        accuracy = trainer.callback_metrics.get("val/accuracy")
        if accuracy is None or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        epochs, accuracy = trainer.current_epoch + 1, float(accuracy)
        if accuracy > self.best[0]:
            self.best = [accuracy, epochs]
        seconds = self.seconds + self._epoch_so_far()
        for level in self.levels:
            if accuracy >= level:
                self.reached.setdefault(f"{100 * level:g}", [epochs, trainer.global_step, seconds])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_seconds.append(self._epoch_so_far())
        self.seconds += self._epoch_seconds[-1]
        self._since = None

    def summary(self) -> dict[str, float | int | None]:
        """Flat keys for the run's summary."""
        values: dict[str, float | int | None] = {"val/best_accuracy": self.best[0], "val/best_epoch": self.best[1]}
        for level in self.levels:
            reached = self.reached.get(f"{100 * level:g}", [None, None, None])
            for unit, value in zip(("epochs", "steps", "seconds"), reached, strict=True):
                values[f"convergence/{unit}_to_{100 * level:g}"] = value
        if self._epoch_seconds:
            values["seconds/epoch"] = sum(self._epoch_seconds) / len(self._epoch_seconds)
        return values | {"seconds/training": self.seconds}

    def state_dict(self) -> dict[str, Any]:
        return {"reached": self.reached, "best": self.best, "seconds": self.seconds, "epoch": self._epoch_so_far()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reached, self.best, self.seconds = state["reached"], state["best"], state["seconds"]
        self._before = state.get("epoch", 0.0)
