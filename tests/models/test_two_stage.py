"""Two stages: what is no brain is told, and the classes are those of the network behind."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hqcnn_lab.data import PhantomDataModule
from hqcnn_lab.data.phantom.non_brain import HELD_OUT, LEARNED, non_brain_images
from hqcnn_lab.models.two_stage import TwoStage

pytestmark = pytest.mark.slow

NETWORK = {"_target_": "hqcnn_lab.models.ANN", "hidden": [8]}


@pytest.fixture(scope="module")
def fitted() -> tuple[TwoStage, PhantomDataModule, dict[str, float]]:
    data = PhantomDataModule(n_train=200, n_test=40, image_size=32)
    data.setup()
    model = TwoStage(4, 32, NETWORK).eval()
    return model, data, model.fit(data)


def test_brains_pass_and_other_pictures_do_not(fitted: tuple) -> None:
    model, data, found = fitted
    images = torch.from_numpy(data.images[data.split.test]).float().unsqueeze(1)
    others = torch.from_numpy(non_brain_images(100, 32, 7, HELD_OUT)).unsqueeze(1)
    assert (model.is_brain(images) > 0.5).float().mean() > 0.95
    assert (model.is_brain(others) <= 0.5).float().mean() > 0.95
    assert found["stage_one/brains_accepted"] > 0.95
    assert found["stage_one/others_refused"] > 0.95


def test_scores_are_those_of_the_second_stage(fitted: tuple) -> None:
    model, data, _ = fitted
    images = torch.from_numpy(data.images[data.split.test]).float().unsqueeze(1)
    assert torch.equal(model(images), model.network(images))


def test_both_stages_are_in_the_checkpoint(fitted: tuple) -> None:
    model, _, _ = fitted
    other = TwoStage(4, 32, NETWORK).eval()
    other.load_state_dict(model.state_dict())
    images = torch.rand(6, 1, 32, 32)
    assert torch.equal(other(images), model(images))
    assert torch.equal(other.is_brain(images), model.is_brain(images))


def test_weights_from_a_file_are_for_the_second_stage() -> None:
    model, called = TwoStage(4, 32, NETWORK), []
    model.load_initial_weights()  # a network that begins at random: nothing to do
    model.network.load_initial_weights = lambda: called.append(True)
    model.load_initial_weights()
    assert called == [True]


def test_pictures_of_no_brain() -> None:
    images = non_brain_images(12, 24, seed=3)
    assert images.shape == (12, 24, 24)
    assert images.dtype == np.float32
    assert images.min(axis=(1, 2)).max() == 0
    np.testing.assert_allclose(images.max(axis=(1, 2)), 1, atol=1e-6)
    assert np.array_equal(images, non_brain_images(12, 24, seed=3))
    assert not np.array_equal(images, non_brain_images(12, 24, seed=4))
    assert not set(LEARNED) & set(HELD_OUT)  # or what is held out would have been seen


def test_a_small_training_set_is_no_obstacle() -> None:
    data = SimpleNamespace(
        images=np.random.default_rng(0).random((10, 16, 16)).astype(np.float16),
        split=SimpleNamespace(train=np.arange(6), val=np.arange(6, 10)),
    )
    found = TwoStage(4, 16, NETWORK).fit(data)
    assert 0 <= found["stage_one/others_refused"] <= 1
