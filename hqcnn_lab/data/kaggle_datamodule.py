"""The Kaggle Brain Tumor MRI set (Nickparvar, CC0), as published: Training/ and Testing/ with a folder per class."""

from pathlib import Path

import numpy as np

from hqcnn_lab.data.cache import decode_images
from hqcnn_lab.data.datamodule import ImageDataModule
from hqcnn_lab.data.layout import CLASSES, HALVES, PUBLISHED, find_images
from hqcnn_lab.data.split import split_images, stratified

TEST_FRACTION = 0.2  # of the paper's random split


class KaggleDataModule(ImageDataModule):
    """MR slices of four classes, decoded once into a shared cache.

    `split="official"` trains on Training/ and tests on Testing/; `"random"` is the paper's stratified 80/20 over all
    images. Neither keeps near-duplicates apart, and the published halves share many: read a score beside the nearest
    neighbour's. The validation part is always cut from the training side by `split_seed`.
    """

    def __init__(
        self,
        root: str | Path,
        cache_dir: str | Path,
        split: str = "official",
        val_fraction: float = 0.1,
        split_seed: int = 0,
        image_size: int = 64,
        batch_size: int = 64,
        augment: dict[str, float] | None = None,
        seed: int = 0,
        balance: str | None = None,
    ) -> None:
        super().__init__(batch_size, augment, seed, balance)
        self.root, self.split_kind = Path(root).expanduser(), split
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.image_size, self.cache_dir = image_size, Path(cache_dir)
        self._halves: np.ndarray

    def prepare_data(self) -> None:
        """Fill the cache; once on each machine."""
        if hasattr(self, "images"):
            return
        decode_images(self.root, find_images(self.root), self.image_size, self.cache_dir)

    def setup(self, stage: str | None = None) -> None:
        """Map the cache and cut the split, once: it is the same for every stage."""
        if hasattr(self, "images"):
            return
        decoded = decode_images(self.root, find_images(self.root), self.image_size, self.cache_dir)
        self.images, self.skipped = decoded.images, decoded.skipped
        self.labels = np.array([file.label for file in decoded.files], dtype=np.int64)
        self.names = [file.name for file in decoded.files]
        self._halves = np.array([file.half for file in decoded.files])
        if self.split_kind == "official":
            in_test = self._halves == "Testing"
        else:
            in_test = stratified(self.labels, TEST_FRACTION, self.split_seed)
        self.split = split_images(self.labels, in_test, self.val_fraction, self.split_seed)
        self.require_every_class()

    def describe(self) -> list[str]:
        """Counts against the published ones, then the split."""
        lines = []
        for half in HALVES:
            counts = np.bincount(self.labels[self._halves == half], minlength=len(CLASSES))
            cells = [f"{name} {n} of {PUBLISHED[half][name]}" for name, n in zip(CLASSES, counts, strict=True)]
            lines.append(f"{half}: {', '.join(cells)} published")
        return [*lines, *super().describe()]
