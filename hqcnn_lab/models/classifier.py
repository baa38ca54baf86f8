"""The one LightningModule: trains any network, optimizer and schedule, each given as a plain dict."""

from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassRecall,
)

from hqcnn_lab.build import build
from hqcnn_lab.distributed import gather
from hqcnn_lab.optim import parameter_groups
from hqcnn_lab.optim.averaging import averages
from hqcnn_lab.torch_private import BatchNorm


class TrainingDiverged(RuntimeError):
    """The loss stopped being a finite number."""


class ImageClassifier(pl.LightningModule):
    """Classify images with the network that `model` describes.

    The arguments are plain dicts and numbers and the objects are built inside, so a checkpoint reloads on its own under
    `weights_only=True`. Logs `train|val|test/loss` and `/accuracy`; for val and test also `macro_f1`, `auroc` (one
    class against the rest, macro) and `recall/<class>`, all three for the classes that have an image among the
    scored. After a test, `predictions` holds `index [N]` and `probabilities [N, n_classes]`, and `confusion_matrix
    [n_classes, n_classes]` counts true (row) against predicted (column).

    `train/loss` is what is minimized: smoothed, mixed where a batch brings `share` and `mixed_label` (see `Augment`),
    and weighted where the data module has `class_weights`. Validation and test loss is plain cross entropy.
    `train/accuracy` asks for `label`, of a mixed image the label of its larger part.

    `test_name` is what a test's scores are logged as: one by another name than `test` is beside a run's own, logs no
    recall, and leaves `predictions` and `confusion_matrix` as they are.
    """

    def __init__(
        self,
        model: dict[str, Any],
        optim: dict[str, Any],
        scheduler: dict[str, Any] | None = None,
        classes: list[str] | tuple[str, ...] = (),
        image_size: int = 64,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        classes = list(classes)
        self.save_hyperparameters(logger=False)  # the run's whole config is logged instead
        self.net = build(model, n_classes=len(classes), image_size=image_size)
        n = len(classes)
        scores = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(n, average="micro"),
                "macro_f1": MulticlassF1Score(n, average="none"),
                "auroc": MulticlassAUROC(n, average="none", thresholds=None),
                "recall": MulticlassRecall(n, average="none"),
                "confusion_matrix": MulticlassConfusionMatrix(n),
            },
            compute_groups=False,
        )
        # No buffer: a weight average would average it, and a checkpoint keep it.
        self.class_weights: Tensor | None = None
        # Metrics, not numbers for Lightning to average: a checkpoint within an epoch keeps them (`ResumeState`).
        self.train_loss = MeanMetric(nan_strategy="disable")
        self.train_accuracy = MulticlassAccuracy(n, average="micro")
        self.scores = torch.nn.ModuleDict({"val_scores": scores.clone(), "test_scores": scores.clone()})
        self.test_name = "test"
        self.predictions: dict[str, Tensor] = {}
        self.confusion_matrix: Tensor | None = None
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, n_classes]` of images `[B, 1, H, W]` in [0, 1]."""
        return self.net(images)

    def on_fit_start(self) -> None:
        """Refuse to average by Lightning's callback where the weights would change unasked, or after the checkpoint."""
        callbacks: list[pl.Callback] = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it
        if not any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
            return
        normalizes = any(isinstance(part, BatchNorm) for part in self.net.modules())
        is_averaged = any(isinstance(callback, WeightAveraging) for callback in callbacks)
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if averages(optimizer):
            name = type(optimizer).__name__
            raise MisconfigurationException(f"StochasticWeightAveraging: not with {name}, which averages by itself")
        if hasattr(optimizer, "add_loss") or not (normalizes or is_averaged):
            raise MisconfigurationException(
                "StochasticWeightAveraging: not with SPSA, nor for a network without batch normalization, whose last "
                "checkpoint it would come after; use callbacks.weight_average"
            )

    def on_train_start(self) -> None:
        """Take over the data module's class weights, once the device is known."""
        for part in self.net.modules():
            if hasattr(part, "is_fitted"):  # of a run that goes on from its end: fitted on what now changes
                part.is_fitted = False
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  a connector sets it
        weights: Tensor | None = getattr(data, "class_weights", None)
        self.class_weights = None if weights is None else weights.to(self.device)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Give an optimizer that evaluates losses itself (SPSA) this batch's, the closure being too much: it logs."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if hasattr(optimizer, "add_loss"):
            optimizer.add_loss(partial(self._loss_alone, batch))

    def _loss_alone(self, batch: dict[str, Tensor]) -> Tensor:
        """The training loss, and nothing else: no metric is logged, no running average moved."""
        buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        with self.trainer.precision_plugin.train_step_context():
            logits = torch.func.functional_call(self.net, buffers, (batch["image"],)).float()
            return self._training_loss(logits, batch)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        logits = self(batch["image"]).float()
        loss = self._training_loss(logits, batch)
        self.train_accuracy(logits.detach(), batch["label"])
        self.train_loss.update(loss.detach())
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def _training_loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        if self.class_weights is None and "share" not in batch:
            # The two ways round differently; this one is that of the runs that are published.
            return F.cross_entropy(logits, batch["label"], label_smoothing=self.hparams["label_smoothing"])
        loss = self._losses(logits, batch["label"])
        if "share" in batch:
            loss = torch.lerp(self._losses(logits, batch["mixed_label"]), loss, batch["share"])
        return loss.mean()

    def _losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """Weighted by each image's class, `[B]`; torch's own `weight` would take each batch's weights to mean 1."""
        loss = F.cross_entropy(logits, label, label_smoothing=self.hparams["label_smoothing"], reduction="none")
        return loss if self.class_weights is None else loss * self.class_weights[label]

    def on_train_epoch_end(self) -> None:
        """Stop a run whose loss is no longer a number; it could only go on logging nonsense."""
        loss = self.trainer.callback_metrics.get("train/loss")
        if loss is not None and not torch.isfinite(loss):
            raise TrainingDiverged(
                f"train/loss is {loss.item()} after epoch {self.current_epoch}; try a smaller optim.lr"
            )

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        self._outputs.append((batch["index"], self._evaluate("test", batch)))

    def _evaluate(self, part: str, batch: dict[str, Tensor]) -> Tensor:
        logits = self(batch["image"]).float()
        probabilities = logits.softmax(-1)
        self._scores_of(part).update(probabilities, batch["label"])
        # A float: of several processes Lightning takes the mean of their counts, and would round that of whole numbers.
        n_images: Any = float(len(logits))
        self.log(
            f"{self._name_of(part)}/loss", F.cross_entropy(logits, batch["label"]), batch_size=n_images, sync_dist=True
        )
        return probabilities

    def on_validation_epoch_start(self) -> None:
        self._share_buffers()

    def on_test_epoch_start(self) -> None:
        self._share_buffers()

    def _share_buffers(self) -> None:
        """Of several processes, each has normalized its own batches: all judge the network of the first."""
        if self.trainer.world_size > 1:
            for buffer in self.net.buffers():
                buffer.copy_(self.trainer.strategy.broadcast(buffer))

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        confusion_matrix = self._log_scores("test").cpu()
        if self.test_name != "test":
            self._outputs.clear()
            return
        self.confusion_matrix = confusion_matrix
        mine = [torch.cat(column).cpu() for column in zip(*self._outputs, strict=True)]
        shares = gather(mine)
        # Of several processes, each has had every second image, or third, and so on.
        turns = torch.cat([rank + len(shares) * torch.arange(len(share[0])) for rank, share in enumerate(shares)])
        index, probabilities = (torch.cat(column)[turns.argsort()] for column in zip(*shares, strict=True))
        self.predictions = {"index": index, "probabilities": probabilities}
        self._outputs.clear()

    def _name_of(self, part: str) -> str:
        return self.test_name if part == "test" else part

    def _scores_of(self, part: str) -> MetricCollection:
        scores = self.scores[f"{part}_scores"]
        assert isinstance(scores, MetricCollection)
        return scores

    def _log_scores(self, part: str) -> Tensor:
        scores = self._scores_of(part).compute()
        self._scores_of(part).reset()
        confusion_matrix = scores.pop("confusion_matrix")
        present = confusion_matrix.sum(1) > 0
        recalls = zip(self.hparams["classes"], present.tolist(), scores.pop("recall"), strict=True)
        logged = self._name_of(part)
        for name, is_present, recall in recalls:
            if is_present and logged == part:
                self.log(f"{part}/recall/{name}", recall, sync_dist=True)  # equal in all processes by now
        # Where no class is absent, both are torchmetrics' own macro averages, to the bit.
        scores["macro_f1"] = (scores["macro_f1"][present] / present.sum()).sum()
        areas = scores["auroc"][present]
        scores["auroc"] = areas.mean() if len(areas) > 1 else torch.full_like(areas.sum(), torch.nan)
        for name, value in scores.items():
            self.log(f"{logged}/{name}", value, prog_bar=name == "accuracy", sync_dist=True)
        return confusion_matrix

    def configure_optimizers(self) -> Any:
        """Parameter groups `quantum` and `classical`; the schedule, where there is one, moves every optimizer step."""
        optim = dict(self.hparams["optim"])
        groups = parameter_groups(self.net, optim["lr"], optim.pop("quantum_lr", None), optim.pop("weight_decay", 0.0))
        optimizer = build(optim, groups)
        if hasattr(optimizer, "watch"):  # QNG asks the circuits for their inputs
            optimizer.watch(self.net)
        scheduler = dict(self.hparams["scheduler"] or {})
        if scheduler.get("_target_") is None:
            return optimizer
        if "total_steps" in scheduler:
            scheduler["total_steps"] = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": build(scheduler, optimizer), "interval": "step"}}
