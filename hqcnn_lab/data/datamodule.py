"""What every data set shares: batches from one array, shuffled reproducibly, augmented on the device."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hqcnn_lab.data.augment import Augment
from hqcnn_lab.data.limits import DATASET
from hqcnn_lab.data.source.layout import CLASSES
from hqcnn_lab.data.split.audit import Audit
from hqcnn_lab.data.split.cut import Split
from hqcnn_lab.data.split.manifest import manifest_hash, manifest_text
from hqcnn_lab.limit import check_limits

Batch = dict[str, torch.Tensor]


class UnusableData(ValueError):
    """Images that cannot be trained on as asked; the message is one line that says why."""


class ArrayDataset(Dataset):
    """Batches gathered from one array in a single indexing call; `index` leads a prediction back to its file."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> None:
        self.images, self.labels, self.indices = images, labels, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, positions: list[int]) -> Batch:
        """`image` float32 `[B, 1, H, W]` in [0, 1], `label` and `index` int64 `[B]`."""
        index = self.indices[positions]
        images = torch.from_numpy(self.images[index]).float().unsqueeze(1)  # from float16 thrice as fast as numpy
        return {"image": images, "label": torch.from_numpy(self.labels[index]), "index": torch.from_numpy(index)}


class EpochShuffle(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone: a resumed run sees what an uninterrupted one saw.

    The epoch is asked for when an iterator starts: Lightning makes the first iterator after a resume before it tells
    samplers the epoch. Of `world_size` processes each gets its share of the permutation, taking turns, so that batch
    for batch they see together what one process would; the shares are equally long. `start` positions are left out of
    the next iterator alone.
    """

    def __init__(self, length: int, seed: int, epoch: Callable[[], int], rank: int = 0, world_size: int = 1) -> None:
        self.length, self.seed, self.epoch = length, seed, epoch
        self.rank, self.world_size, self.start = rank, world_size, 0

    def __len__(self) -> int:
        return self.length // self.world_size

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        order = self._order(np.random.default_rng([self.seed, self.epoch()]))
        mine = order[self.rank :: self.world_size][: len(self)]
        return iter(mine[start:].tolist())

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.length)


class BalancedShuffle(EpochShuffle):
    """As `EpochShuffle`, of as many positions, but every class equally often: rare ones repeat, common ones take turns.

    Within an epoch no image comes again before every other of its class has come. Where the number of classes does not
    divide the length, the first classes have one image more.
    """

    def __init__(self, labels: np.ndarray, *args: Any) -> None:
        super().__init__(len(labels), *args)
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        n = math.ceil(self.length / len(self.members))
        rounds = [np.tile(members, (math.ceil(n / len(members)), 1)) for members in self.members]
        columns = [rng.permuted(members, axis=1).ravel()[:n] for members in rounds]
        return rng.permutation(np.stack(columns, axis=1).ravel()[: self.length])


class ResumableLoader(DataLoader):
    """Tells Lightning how many batches of the epoch it has given, for a checkpoint, and goes on after as many."""

    def __iter__(self) -> Iterator[Batch]:
        self._n_given, self._n_before = self._n_before, 0
        for batch in super().__iter__():
            self._n_given += 1
            yield batch

    _n_given = _n_before = 0

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self._n_given, "batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["batch_size"] != self.batch_size:
            raise UnusableData(
                f"dataset.batch_size={self.batch_size}: the checkpoint was made within an epoch of batches of "
                f"{state['batch_size']}; ask for the same again"
            )
        assert isinstance(self.sampler, EpochShuffle)
        assert self.batch_size is not None
        self._n_before = state["batches"]
        self.sampler.start = self._n_before * self.batch_size


class ImageDataModule(pl.LightningDataModule):
    """A data set held as one array `images` with `labels`, `names` and a `split`; a subclass fills them in `setup`.

    `classes` is the order of the labels. `contents` and `frames` tell which image it is whatever its name: a hash of
    the file, and the number of the image in it. `skipped` lists files that could not be read, each with the reason.
    `split_name` is what to call the split beside a score. `balance` is for classes of unequal size: "sampler" draws
    every class equally often in an epoch, "loss" has the classifier weight its training loss by `class_weights`.
    """

    classes = CLASSES
    split_name = "phantom"
    keep_in: str | Path | None = None  # a folder for what takes seconds to make and is the same in another run

    def __init__(
        self,
        batch_size: int = 64,
        augment: dict[str, float] | None = None,
        seed: int = 0,
        balance: str | None = None,
    ) -> None:
        super().__init__()
        check_limits(DATASET, {"batch_size": batch_size, "balance": balance}, "dataset.", UnusableData)
        self.batch_size, self.seed, self.balance = batch_size, seed, balance
        self.augment = Augment(**augment) if augment else None
        self.images: np.ndarray
        self.labels: np.ndarray
        self.names: list[str]
        self.contents: list[str]
        self.frames: list[str]
        self.split: Split
        self.skipped: list[tuple[str, str]] = []

    def require_every_class(self) -> None:
        """Raise `UnusableData` where a class has no image left in a part: scores over such a part would mislead."""
        for part, indices in zip(self.split._fields, self.split, strict=True):
            counts = np.bincount(self.labels[indices], minlength=len(self.classes))
            empty = [name for name, count in zip(self.classes, counts, strict=True) if not count]
            if empty:
                example = f", such as {': '.join(self.skipped[0])}" if self.skipped else ""
                because = f"{len(self.skipped)} files could not be read{example}"
                raise UnusableData(f"dataset: no image of {', '.join(empty)} for {part}; {because}")

    def require_batches(self, trainer: Mapping[str, Any]) -> None:
        """Raise `UnusableData` where the share that a trainer is to take of a part comes to no batch.

        Not known before the data are, and Lightning says so of the test once all is trained.
        """
        n_train = len(self.train_dataloader())
        n_batches = {"train": n_train, "val": len(self.val_dataloader()), "test": len(self.test_dataloader())}
        limits = {f"limit_{part}_batches": n for part, n in n_batches.items()}
        for key, n in (limits | {"overfit_batches": n_train, "val_check_interval": n_train}).items():
            share = trainer.get(key)
            if isinstance(share, float) and 0 < share * n < 1:
                raise UnusableData(f"trainer.{key}={share}: comes to none of {n} batches; {key}=1 takes one")
        if isinstance(every := trainer.get("val_check_interval"), int) and every > n_train:
            raise UnusableData(f"trainer.val_check_interval={every}: an epoch has {n_train} batches, that is the most")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must find again: the images of each part, by name, and the seed that shuffles them."""
        return {"images": manifest_hash(self.manifest_text()), "size": self.images.shape[1], "seed": self.seed}

    def manifest_text(self) -> str:
        """The split as a table, an image a line, that `dataset.manifest` follows."""
        columns = (self.names, self.frames, self.contents, self.labels, self.classes, self.manifest_groups())
        return manifest_text(self.split, *columns)

    def manifest_groups(self) -> list[str]:
        """What the split keeps together, for each image."""
        return [""] * len(self.names)

    def audit(self) -> Audit | None:
        """What was found on looking over the data and the split; None where there is nothing to look for."""
        return None

    def not_used(self) -> list[str]:
        """What gave no image and why, in lines for a terminal alone: a file's own name may tell a patient's."""
        return []

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on training with other images: those now in test may have been trained on."""
        assert self.trainer is not None  # it is the trainer that reads the checkpoint
        if self.trainer.state.fn == "fit" and state_dict != self.state_dict():
            raise UnusableData(
                "the checkpoint was trained on other images, another split or another seed than asked for"
            )

    def describe(self) -> list[str]:
        """What was found, a line each, for the console and the log."""
        parts = zip(self.split._fields, self.split, strict=True)
        return [", ".join(f"{len(indices)} {part}" for part, indices in parts) + " images"]

    @property
    def class_weights(self) -> torch.Tensor | None:
        """`[n_classes]`, inverse to the frequencies in the training part, of mean 1 over its images; or None."""
        if self.balance != "loss":
            return None
        counts = np.bincount(self.labels[self.split.train], minlength=len(self.classes))
        return torch.from_numpy(counts.sum() / (len(counts) * counts)).float()

    def train_dataloader(self) -> DataLoader:
        """Shuffled by `(seed, epoch)`; a last batch that is not full is left out, unless it is the only one."""
        dataset = ArrayDataset(self.images, self.labels, self.split.train)
        order = (self.seed, self._epoch, *self._place())
        if self.balance == "sampler":
            shuffle = BalancedShuffle(self.labels[self.split.train], *order)
        else:
            shuffle = EpochShuffle(len(dataset), *order)
        return ResumableLoader(
            dataset,
            self.batch_size,
            sampler=shuffle,
            drop_last=len(shuffle) >= self.batch_size,
            collate_fn=_as_it_is,
            # A loader draws a number for each iterator it makes; from torch's global generator, that would shift the
            # augmentation.
            generator=torch.Generator(),
        )

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def val_dataloader(self) -> DataLoader:
        """In order. Several processes take the images in turns, so that no image is seen twice.

        Where the trainer takes only some of the batches (`limit_val_batches`), the order is shuffled, the same way in
        all runs: files are sorted by class, so the first ones would be of few classes.
        """
        return self._in_order(self.split.val, self.trainer.limit_val_batches if self.trainer else 1.0)

    def test_dataloader(self) -> DataLoader:
        """As `val_dataloader`."""
        return self._in_order(self.split.test, self.trainer.limit_test_batches if self.trainer else 1.0)

    def _in_order(self, indices: np.ndarray, limit: float) -> DataLoader:
        rank, world_size = self._place()
        batch_size = 4 * self.batch_size
        n_batches = math.ceil(len(indices) / (batch_size * world_size))
        if limit < (n_batches if isinstance(limit, int) else 1.0):
            indices = np.random.default_rng(0).permutation(indices)
        indices = indices[rank::world_size]
        return DataLoader(ArrayDataset(self.images, self.labels, indices), batch_size, collate_fn=_as_it_is)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment on the device, in training only."""
        if self.augment and self.trainer and self.trainer.training:
            batch = self.augment(batch)
        return batch


def _as_it_is(batch: Any) -> Batch:  # a whole batch, not a list of images as the loader believes
    return batch
