"""What data sets of files share: decoded once into the cache, cut by a named split or as a manifest says."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hqcnn_lab.data.datamodule import ImageDataModule, UnusableData
from hqcnn_lab.data.decode.cache import CachedImages, File, Reader, decode
from hqcnn_lab.data.decode.series import OTHER_PAGES, ImageRecord, as_text
from hqcnn_lab.data.limits import DATASET
from hqcnn_lab.data.split.audit import Audit, audit
from hqcnn_lab.data.split.cut import Split, cut, kept_together
from hqcnn_lab.data.split.duplicates import (
    KEPT_CORRELATION,
    KEPT_HASH_DISTANCE,
    Twins,
    find_twins,
    group_alike,
    group_twins,
)
from hqcnn_lab.data.split.manifest import load_salt, pseudonym, read_manifest, split_from_manifest
from hqcnn_lab.distributed import cores
from hqcnn_lab.limit import check_limits
from hqcnn_lab.record.whole_file import whole_file

N_LISTED = 20  # files that could not be read
# Beside the images that they were found in; of another criterion, another name.
TWINS, ALIKE = "twins-1.npz", f"alike-{KEPT_HASH_DISTANCE}-{KEPT_CORRELATION}.npz"


class FileDataModule(ImageDataModule):
    """Base of the data sets that are files on a disk; a subclass lists them and says what is known of each.

    `split` is one of `split.SPLITS`; or `manifest` is the `split_manifest.csv` of an earlier run, to be followed image
    by image. `fold` of `n_folds` is for `kfold` alone. `workers` decode; by default one for each core.

    After `setup`, an entry for each image: `records`, `patients` ("" unknown), `halves` ("" none) and `groups`, the
    numbers of the groups of copies: those that `twins` make or, where the split promises to keep copies together, the
    wider ones of `group_alike`. An image without a label has label −1 and is in no part.
    `skipped_files` and `left_out` name files as the disk does: not for records, where a path may name a patient.
    """

    published: dict[str, dict[str, int]] | None = None

    def __init__(
        self,
        root: str | Path | None,
        cache_dir: str | Path,
        split: str,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        fold: int = 0,
        n_folds: int = 5,
        manifest: str | Path | None = None,
        image_size: int = 64,
        workers: int | None = None,
        **common: Any,
    ) -> None:
        check_limits(DATASET, locals(), "dataset.", UnusableData)
        super().__init__(**common)
        self.root, self.cache_dir = root, Path(cache_dir).expanduser()
        self.split_kind, self.val_fraction, self.split_seed = split, val_fraction, split_seed
        self.fold, self.n_folds, self.manifest = fold, n_folds, manifest
        self.image_size, self.workers = image_size, workers
        self.records: list[ImageRecord]
        self.patients: np.ndarray
        self.halves: np.ndarray
        self.groups: np.ndarray
        self.twins: Twins
        self.skipped_files: list[tuple[str, str]] = []
        self.left_out: list[tuple[str, str]] = []

    def list_files(self) -> tuple[list[list[File]], Reader, str]:
        """Files in tasks, what reads a task, and the name of its recipe. Raises `ValueError` where there are none."""
        raise NotImplementedError

    def find_labels(self, records: list[ImageRecord]) -> np.ndarray:
        """int64, −1 for an image that has none."""
        raise NotImplementedError

    def half(self, record: ImageRecord) -> str:
        """The published half it is of, or ""."""
        return ""

    def public_name(self, record: ImageRecord, salt: str) -> str:
        """What the records of a run may call an image: no two the same."""
        raise NotImplementedError

    def public_file(self, file: str, salt: str) -> str:
        """What the records of a run may call a file that gave no image."""
        return as_text(file)

    def prepare_data(self) -> None:
        """Fill the cache; once on each machine."""
        if not hasattr(self, "images"):
            self._decode()

    def setup(self, stage: str | None = None) -> None:
        """Map the cache and cut the split, once: it is the same for every stage."""
        if hasattr(self, "images"):
            return
        cached = self._decode()
        try:
            salt = load_salt(self.cache_dir)
        except ValueError as error:
            raise UnusableData(f"dataset.cache_dir={self.cache_dir}: {error}") from None
        self.records, self.labels = cached.records, self.find_labels(cached.records)
        self.halves = np.array([self.half(record) for record in self.records], dtype=str)
        self.patients = np.array([record.patient for record in self.records], dtype=str)
        self.pseudonyms = [pseudonym(record.patient, salt) if record.patient else "" for record in self.records]
        self.names = [self.public_name(record, salt) for record in self.records]
        self.contents = [record.content for record in self.records]
        self.frames = [str(record.frame) for record in self.records]
        self.skipped_files, self.left_out = cached.skipped, cached.left_out
        self.skipped = [(self.public_file(file, salt), reason) for file, reason in cached.skipped]
        self.twins, self.groups = self._find_copies(cached)
        self.split = self._cut()
        self.images = cached.images
        self.require_every_class()

    def _decode(self) -> CachedImages:
        try:
            tasks, read, recipe = self.list_files()
        except ValueError as error:
            raise UnusableData(f"dataset.root={self.root}: {error}") from None
        assert self.root is not None  # list_files has refused it
        if self.workers is not None and self.workers > cores():
            print(f"dataset.workers={self.workers}: more than there are cores; {cores()} decode", flush=True)
            self.workers = cores()
        return decode(Path(self.root).expanduser(), tasks, read, recipe, self.image_size, self.cache_dir, self.workers)

    def _find_copies(self, cached: CachedImages) -> tuple[Twins, np.ndarray]:
        """From the cache where they have been looked for before: among 100,000 images that takes minutes."""
        pixels = np.array([record.pixels for record in self.records], dtype=str)
        twins = Twins(*_stored(cached.folder / TWINS, Twins._fields, lambda: find_twins(cached.images, pixels)))
        if self._kept_together() != "group":
            return twins, group_twins(twins)
        path = cached.folder / ALIKE
        return twins, _stored(path, ("groups",), lambda: (group_alike(cached.images, twins),))[0]

    def _kept_together(self) -> str:
        return kept_together(self.split_kind, self.patients[self.labels >= 0])

    def _cut(self) -> Split:
        chosen = np.flatnonzero(self.labels >= 0)
        if self.manifest is not None:
            files, frames, contents = (
                [column[i] for i in chosen] for column in (self.names, self.frames, self.contents)
            )
            try:
                rows = read_manifest(self.manifest)
                split = split_from_manifest(rows, files, frames, contents, self.labels[chosen], self.classes)
            except ValueError as error:
                raise UnusableData(f"dataset.manifest={self.manifest}: {error}") from None
        else:
            columns = (self.labels, self.groups, self.patients, self.halves)
            labels, groups, patients, halves = (column[chosen] for column in columns)
            rest = (self.val_fraction, self.split_seed, self.fold, self.n_folds)
            try:
                split = cut(self.split_kind, labels, groups, patients, halves, self.classes, *rest)
            except ValueError as error:
                raise UnusableData(f"dataset.split={self.split_kind}: {error}") from None
        return Split(*(chosen[indices] for indices in split))

    @property
    def split_name(self) -> str:
        """What to call the split beside a score."""
        return "manifest" if self.manifest is not None else self.split_kind

    def manifest_groups(self) -> list[str]:
        """What the split keeps together: patients, where it is by patient, else groups of copies."""
        by_patient = self._kept_together() == "patient" and any(self.pseudonyms)
        return self.pseudonyms if by_patient else [str(group) for group in self.groups]

    def audit(self) -> Audit:
        """Which images there are, what occurs twice, and what gives the class away."""
        heights, widths = (np.array([getattr(r, side) for r in self.records]) for side in ("height", "width"))
        columns = (self.images, self.labels, self.halves, self.patients, heights, widths, self.names)
        modes = [record.mode for record in self.records]
        kept = self.groups if self._kept_together() == "group" and self.manifest is None else None
        return audit(*columns, self.twins, self.split, self.split_name, self.classes, self.published, modes, kept)

    def not_used(self) -> list[str]:
        """Counts of what is no image of the kind wanted, and the first files that could not be read."""
        reasons = Counter(reason for _, reason in self.left_out).most_common()
        lines = [f"left out: {n} files, {reason}" for reason, n in reasons]
        lines += [f"skipped {name}: {reason}" for name, reason in self.skipped_files[:N_LISTED]]
        n_more = len(self.skipped_files) - N_LISTED
        return [as_text(line) for line in lines] + [f"skipped {n_more} files more"] * (n_more > 0)

    def describe(self) -> list[str]:
        """Also how many files hold more pages than the one that is taken."""
        n = Counter(reason for _, reason in self.left_out)[OTHER_PAGES]
        return [*super().describe(), *([f"files of several pages, of which the first is taken: {n}"] if n else [])]


def _stored(path: Path, names: Sequence[str], find: Callable[[], Sequence[np.ndarray]]) -> Sequence[np.ndarray]:
    """The arrays of these names in the file at `path`; found and written to it where it is absent or damaged."""
    try:
        with np.load(path) as stored:
            return [stored[name] for name in names]
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile):
        arrays = find()
    # Another machine, which does not know our processes, may take the file for a dead one's and remove it.
    with suppress(FileNotFoundError), whole_file(path) as scratch, scratch.open("wb") as file:
        named: dict[str, Any] = dict(zip(names, arrays, strict=True))
        np.savez(file, **named)
    return arrays
