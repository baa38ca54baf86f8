"""Classes of unequal size: drawn equally often, or weighted in the loss."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hqcnn_lab.data import KaggleDataModule
from hqcnn_lab.data.datamodule import BalancedShuffle
from hqcnn_lab.data.source.layout import CLASSES


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=5), seed=st.integers(0, 9), epoch=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_every_class_comes_equally_often_and_its_images_in_turn(counts: list[int], seed: int, epoch: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    sampler = BalancedShuffle(labels, seed, lambda: epoch)
    drawn = np.array(list(sampler))
    assert len(drawn) == len(sampler) == len(labels)
    assert np.ptp(np.bincount(labels[drawn], minlength=len(counts))) <= 1
    times = np.bincount(drawn, minlength=len(labels))
    for label in range(len(counts)):
        assert np.ptp(times[labels == label]) <= 1


def test_balanced_draw_depends_on_seed_and_epoch_alone() -> None:
    labels, epoch = np.repeat([0, 1, 2], [50, 8, 20]), 0
    sampler = BalancedShuffle(labels, 3, lambda: epoch)
    first = list(sampler)
    torch.manual_seed(99)
    assert list(sampler) == first
    epoch = 1
    assert list(sampler) != first
    assert list(BalancedShuffle(labels, 4, lambda: 0)) != first


def test_over_epochs_every_image_has_its_turn_and_no_place_belongs_to_a_class() -> None:
    labels = np.repeat([0, 1], [90, 10])
    draws = [list(BalancedShuffle(labels, 0, lambda epoch=epoch: epoch)) for epoch in range(200)]
    times = np.bincount(np.concatenate(draws), minlength=100)
    np.testing.assert_array_equal(times[90:], 1000)  # five times an epoch
    assert np.abs(times[:90] - 200 * 50 / 90).max() < 5 * np.sqrt(200 * 5 / 9 * 4 / 9)
    share_of_rare = labels[np.array(draws)].mean(0)
    assert np.abs(share_of_rare - 0.5).max() < 5 * np.sqrt(0.25 / 200)


def kaggle(root: Path, tmp_path: Path, **options: object) -> KaggleDataModule:
    """Training parts of 3, 3, 2 and 1 images, in the order of `CLASSES`."""
    for name, removed in ((CLASSES[2], 1), (CLASSES[3], 2)):
        for path in sorted((root / "Training" / name).iterdir())[:removed]:
            path.unlink()
    data = KaggleDataModule(
        root, image_size=16, batch_size=3, val_fraction=0.25, cache_dir=tmp_path / "cache", **options
    )
    data.prepare_data()
    data.setup()
    return data


def test_class_weights_are_those_by_hand(kaggle_root: Path, tmp_path: Path) -> None:
    data = kaggle(kaggle_root, tmp_path, balance="loss")
    assert np.bincount(data.labels[data.split.train]).tolist() == [3, 3, 2, 1]
    torch.testing.assert_close(data.class_weights, torch.tensor([9 / 12, 9 / 12, 9 / 8, 9 / 4]))
    assert data.class_weights[data.labels[data.split.train]].mean() == pytest.approx(1)
    seen = np.concatenate([batch["index"] for batch in data.train_dataloader()])
    assert sorted(seen) == sorted(data.split.train)  # weights change no draw


@pytest.mark.parametrize("balance", [None, "sampler"])
def test_weights_are_the_loss_option_s_alone(balance: str | None, kaggle_root: Path, tmp_path: Path) -> None:
    data = kaggle(kaggle_root, tmp_path, balance=balance)
    assert data.class_weights is None
    batches = list(data.train_dataloader())
    assert [len(batch["label"]) for batch in batches] == [3, 3, 3]
    counts = torch.cat([batch["label"] for batch in batches]).bincount().tolist()
    assert counts == ([3, 3, 2, 1] if balance is None else [3, 2, 2, 2])
    index = torch.cat([batch["index"] for batch in batches])
    assert set(index.tolist()) <= set(data.split.train.tolist())


def test_an_unknown_balance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset.balance must be one of sampler, loss, or None; got"):
        KaggleDataModule(tmp_path, tmp_path, balance="weights")
