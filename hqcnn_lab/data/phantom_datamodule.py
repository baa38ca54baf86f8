"""The procedural phantom as a data set: the embedded default, so that the lab runs with nothing downloaded."""

import numpy as np
from xxhash import xxh3_128_hexdigest

from hqcnn_lab.data.datamodule import ImageDataModule, UnusableData
from hqcnn_lab.data.limits import DATASET
from hqcnn_lab.data.phantom.kept import kept_or_drawn
from hqcnn_lab.data.split.cut import split_images
from hqcnn_lab.limit import check_limits

# The two sides are drawn from different streams, whatever the split seed.
_TRAIN_STREAM, _TEST_STREAM = 0, 1


class PhantomDataModule(ImageDataModule):
    """Brain-like MR slices made on the spot, for trying the lab, for tests, and for comparing optimizers in minutes.

    Not evidence about real images. Every image is drawn on its own, so no split of it leaks.
    """

    def __init__(
        self,
        n_train: int = 2400,
        n_test: int = 800,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        image_size: int = 64,
        batch_size: int = 64,
        augment: dict[str, float] | None = None,
        seed: int = 0,
        balance: str | None = None,
    ) -> None:
        check_limits(DATASET, locals(), "dataset.", UnusableData)
        super().__init__(batch_size, augment, seed, balance)
        self.n_train, self.n_test = n_train, n_test
        self.val_fraction, self.split_seed, self.image_size = val_fraction, split_seed, image_size

    def setup(self, stage: str | None = None) -> None:
        """Generate both sides once, and cut the validation part from the training side."""
        if hasattr(self, "images"):
            return
        train = self._draw("n_train", _TRAIN_STREAM)
        test = self._draw("n_test", _TEST_STREAM)
        self.images = np.concatenate([train[0], test[0]])
        self.labels = np.concatenate([train[1], test[1]])
        in_test = np.arange(self.n_train + self.n_test) >= self.n_train
        self.names = [f"phantom/{'test' if t else 'train'}/{i:06d}" for i, t in enumerate(in_test)]
        self.contents = [xxh3_128_hexdigest(image.tobytes()) for image in self.images]
        self.frames = [""] * len(self.names)
        self.split = split_images(self.labels, in_test, self.val_fraction, self.split_seed)
        self.require_every_class()

    def _draw(self, argument: str, stream: int) -> tuple[np.ndarray, np.ndarray]:
        n_images = getattr(self, argument)
        try:
            return kept_or_drawn(n_images, 2 * self.split_seed + stream, self.image_size, self.keep_in)
        except ValueError as error:
            raise UnusableData(f"dataset.{argument}={n_images}: {error}") from None
