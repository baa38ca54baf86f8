"""Batch normalization's statistics belong to the weights that are judged."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_config

from hqcnn_lab.callbacks import batch_norm
from hqcnn_lab.data import Augment
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.run.training import train


def train_and_see(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[torch.Tensor]:
    """The images of every batch that statistics were measured on."""
    seen: list[torch.Tensor] = []
    forward = ImageClassifier.forward

    def watched(self: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
        if not self.training and any(part.training for part in self.modules()):
            seen.append(images.clone())
        return forward(self, images)

    monkeypatch.setattr(ImageClassifier, "forward", watched)
    train(tiny_config(folder, "optim=schedule_free_adamw", *overrides))
    return seen


def test_what_is_saved_normalizes_by_training_batches_at_the_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_norm, "N_BATCHES", 3)
    images = train_and_see(tmp_path / "run", monkeypatch, "trainer.max_epochs=1")
    assert [len(batch) for batch in images] == [16, 16, 16]
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    kernel = next(v for k, v in saved["state_dict"].items() if k.endswith("features.1.0.weight"))
    name = next(k for k in saved["state_dict"] if k.endswith("features.1.1.running_mean"))
    net = ImageClassifier.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt").net.eval()
    assert torch.equal(net.features[1][0].weight, kernel)
    before: list[torch.Tensor] = []
    net.features[1][1].register_forward_pre_hook(lambda part, given: before.append(given[0]))
    with torch.no_grad():
        for batch in images:
            net(batch)
    expected = torch.stack([x.mean((0, 2, 3)) for x in before]).mean(0)
    torch.testing.assert_close(saved["state_dict"][name], expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(saved["state_dict"][name], saved["training_point"][name])  # training goes on from its own
    assert saved["state_dict"][name.replace("mean", "var")].min() > 0


@pytest.mark.parametrize("often", [1, 2])
def test_its_images_are_augmented_once(often: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: where no validation came before, Lightning augmented them too.
    calls: list[int] = []
    augmented = Augment.__call__
    monkeypatch.setattr(Augment, "__call__", lambda self, batch: calls.append(1) or augmented(self, batch))
    overrides = [f"+trainer.check_val_every_n_epoch={often}", "trainer.max_epochs=2"]
    images = train_and_see(tmp_path / "run", monkeypatch, *overrides)
    assert len(images) > 0
    assert len(calls) == 2 * len(images)  # an epoch's, for training and for this
