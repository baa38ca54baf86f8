"""One run read at several lengths: a test of what was kept at the end of declared epochs."""

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from hqcnn_lab.run.summary import metrics

if TYPE_CHECKING:
    from hqcnn_lab.callbacks import KeptEpochs
    from hqcnn_lab.data import ImageDataModule
    from hqcnn_lab.models import ImageClassifier


def score_kept_epochs(
    trainer: pl.Trainer, model: "ImageClassifier", data: "ImageDataModule", kept: "KeptEpochs", seed: int
) -> dict[str, float]:
    """`test_after/<epoch>/` loss, accuracy, macro_f1 and auroc of each kept epoch, on the images of the main test.

    Call it after that: `model` is left with the last kept epoch's weights, its `predictions` as they were. `seed` is of
    circuits with shots or noise. What training did not come to is left out, and a line says so.
    """
    scores: dict[str, float] = {}
    missing = [epoch for epoch in kept.epochs if not kept.path_of(epoch).is_file()]
    if missing and trainer.is_global_zero:
        epochs = f"epoch{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
        print(f"test_after: training ended before {epochs}: not tested", flush=True)
    for epoch in (epoch for epoch in kept.epochs if epoch not in missing):
        model.test_name = f"test_after/{epoch}"
        torch.manual_seed(seed)
        options: dict[str, Any] = {"weights_only": True, "verbose": False}
        trainer.test(model, datamodule=data, ckpt_path=kept.path_of(epoch), **options)
        scores |= metrics(trainer, f"{model.test_name}/")
    model.test_name = "test"
    return scores
