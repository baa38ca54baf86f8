"""The Kaggle Brain Tumor MRI set (Nickparvar, CC0), as published: Training/ and Testing/ with a folder per class."""

from pathlib import Path
from typing import Any

import numpy as np

from hqcnn_lab.data.decode.cache import File, Reader
from hqcnn_lab.data.decode.series import ImageRecord, as_text, read_pictures, recipe
from hqcnn_lab.data.file_datamodule import FileDataModule
from hqcnn_lab.data.source.layout import PUBLISHED, find_images

_FILES_A_TASK = 32


class KaggleDataModule(FileDataModule):
    """Pictures, or DICOM files, of MR slices in four classes, decoded once into a shared cache.

    `split="official"` trains on Training/ and tests on Testing/; `"random"` is the paper's stratified 80/20 over all
    images. Neither keeps copies apart, and the published halves share many; `"grouped"` and `"kfold"` do.
    """

    published = PUBLISHED

    def __init__(self, root: str | Path | None, cache_dir: str | Path, split: str = "official", **options: Any) -> None:
        super().__init__(root, cache_dir, split, **options)

    def list_files(self) -> tuple[list[list[File]], Reader, str]:
        """Some files a task: each stands alone."""
        images = find_images(self.root)
        self._known = {image.name: image for image in images}
        files = [File(image.name, image.bytes, image.mtime_ns) for image in images]
        tasks = [files[first : first + _FILES_A_TASK] for first in range(0, len(files), _FILES_A_TASK)]
        return tasks, read_pictures, recipe("pictures")

    def find_labels(self, records: list[ImageRecord]) -> np.ndarray:
        """By the folder."""
        return np.array([self._known[record.file].label for record in records], dtype=np.int64)

    def half(self, record: ImageRecord) -> str:
        """By the folder."""
        return self._known[record.file].half

    def public_name(self, record: ImageRecord, salt: str) -> str:
        """The path, as published; with the frame where a DICOM file has several."""
        return as_text(f"{record.file}#{record.frame}" if record.frame else record.file)
