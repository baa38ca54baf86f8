"""The loss that is minimized: smoothed, mixed and weighted as asked for; what is judged stays plain."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_config
from omegaconf import OmegaConf

from hqcnn_lab.models import ImageClassifier

WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


def classifier(**options: object) -> ImageClassifier:
    """In evaluation mode, so that dropout does not tell two calls apart; logs are kept in `logged`."""
    config = OmegaConf.to_container(tiny_config(Path("unused")), resolve=True)
    parts = {name: config[name] for name in ("model", "optim", "scheduler")}
    model = ImageClassifier(**parts, classes=["a", "b", "c", "d"], image_size=16, **options)
    logged = {}
    model.log = lambda name, value, **_: logged.update({name: value})
    model.logged = logged
    return model.eval()


def batch(n: int = 8) -> dict[str, torch.Tensor]:
    return {"image": torch.rand(n, 1, 16, 16), "label": torch.arange(n) % 4, "index": torch.arange(n)}


def mixed_batch() -> dict[str, torch.Tensor]:
    share = torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 0.55, 0.65])
    return batch() | {"share": share, "mixed_label": torch.tensor([3, 3, 0, 0, 2, 1, 2, 1])}


def loss_by_hand(
    logits: torch.Tensor, batch: dict[str, torch.Tensor], smoothing: float, weights: torch.Tensor | None
) -> float:
    """Image by image in float64: target probabilities, then their cross entropy times the class's weight."""
    total = 0.0
    for i, row in enumerate(logits.detach().double().numpy()):
        log_probability = row - np.log(np.exp(row).sum())
        parts = [(batch["label"][i], 1.0)]
        if "share" in batch:
            share = batch["share"][i].item()
            parts = [(batch["label"][i], share), (batch["mixed_label"][i], 1 - share)]
        for label, share in parts:
            target = np.full(4, smoothing / 4)
            target[label] += 1 - smoothing
            weight = 1.0 if weights is None else weights[label].item()
            total -= share * weight * (target * log_probability).sum()
    return total / len(logits)


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_training_loss_is_the_one_by_hand(smoothing: float, weights: torch.Tensor | None, mixed: bool) -> None:
    model, given = classifier(label_smoothing=smoothing), mixed_batch() if mixed else batch()
    model.class_weights = weights
    loss = model.training_step(given, 0)
    assert loss.item() == pytest.approx(loss_by_hand(model(given["image"]), given, smoothing, weights), rel=1e-5)
    assert model.logged["train/loss"].compute() == pytest.approx(loss.item())


def test_unmixed_unweighted_loss_is_torch_s_own_bit_for_bit() -> None:
    model, given = classifier(label_smoothing=0.05), batch()
    expected = torch.nn.functional.cross_entropy(model(given["image"]), given["label"], label_smoothing=0.05)
    assert torch.equal(model.training_step(given, 0), expected)


def test_an_image_not_mixed_and_weights_of_one_change_nothing() -> None:
    model, given = classifier(label_smoothing=0.1), batch()
    plain = model.training_step(given, 0)
    model.class_weights = torch.ones(4)
    whole = given | {"share": torch.ones(8), "mixed_label": given["label"].roll(1)}
    torch.testing.assert_close(model.training_step(whole, 0), plain)


def test_train_accuracy_asks_for_the_label_of_the_larger_part() -> None:
    model, given = classifier(), mixed_batch()
    given["label"] = model(given["image"]).argmax(-1)
    given["mixed_label"] = (given["label"] + 1) % 4
    model.training_step(given, 0)
    assert model.train_accuracy.compute() == 1


def test_validation_loss_knows_no_weights() -> None:
    model, given = classifier(label_smoothing=0.3), batch()
    expected = loss_by_hand(model(given["image"]), given, 0, None)
    model.class_weights = WEIGHTS
    model.validation_step(given, 0)
    assert model.logged["val/loss"].item() == pytest.approx(expected, rel=1e-5)


def test_weights_come_from_the_data_module_and_stay_out_of_the_checkpoint() -> None:
    model = classifier()
    before = set(model.state_dict())
    for data, expected in (
        (SimpleNamespace(class_weights=WEIGHTS), WEIGHTS),
        (SimpleNamespace(class_weights=None), None),
        (None, None),
    ):
        model._trainer = SimpleNamespace(datamodule=data)
        model.on_train_start()
        assert model.class_weights is expected or torch.equal(model.class_weights, expected)
    assert set(model.state_dict()) == before
