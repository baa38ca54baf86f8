"""Read one folder of slices, scaled series by series, and one file of a folder of pictures."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_128_hexdigest

from hqcnn_lab.data.decode.dicom import DICOM_PREPROCESSING, DicomImage, LeftOut, dicom_frames, pixel_digest, read_dicom
from hqcnn_lab.data.decode.dicom_elements import is_dicom
from hqcnn_lab.data.decode.reading import PREPROCESSING, UnreadableImage, decode, fit, read_file, shrink

OTHER_PAGES = "pages after the first"  # what is left out of a file of several
PERCENTILES = (1, 99)  # of all pixels of a series: what becomes 0 and 1


def recipe(name: str) -> str:
    """Name all that decides what a file's pixels become, for a cache's key: `name` of the reader, what each part does.

    Also whether there is a decoder for compressed files, as they are skipped without.
    """
    decoder = "with" if find_spec("imagecodecs") else "without"
    return "; ".join([name, PREPROCESSING, DICOM_PREPROCESSING, f"percentiles {PERCENTILES}", f"{decoder} imagecodecs"])


class ImageRecord(NamedTuple):
    """Where one image comes from.

    `file` is relative to the root, with forward slashes; `slice` its place in the series, from 0 along the normal;
    `height`, `width` and `mode` (how pixels are stored) those of the original. `content` is the same for the same
    file, `pixels` for the same original pixels and shape: 32 hex digits of an XXH3 each (of 128 bits; no secret).
    """

    file: str
    frame: int
    patient: str
    study: str
    series: str
    slice: int
    height: int
    width: int
    mode: str
    content: str
    pixels: str


class Decoded(NamedTuple):
    """`images` float16 `[n, size, size]` in [0, 1], one per record; files that gave none, and why.

    `left_out` are sound files that are no diagnostic MR slice, or what is left out of one that gave an image: under
    reasons that can be counted.
    """

    records: list[ImageRecord]
    images: np.ndarray
    skipped: list[tuple[str, str]]
    left_out: list[tuple[str, str]]


class _Slice(NamedTuple):
    file: str
    content: str
    image: DicomImage


def read_series(root: Path, names: list[str], size: int) -> Decoded:
    """Read the DICOM files of one folder, in the order of series and then along the normal.

    Each series is scaled as a whole, from its 1st to its 99th percentile, and clipped: scaled alone, a slice of little
    tissue would look as bright as one of much. Raises for no file, whatever is wrong with it. The slices of a folder
    are in memory together, so hand over one folder at a time. For pictures that stand alone use `read_picture`.
    """
    slices: list[_Slice] = []
    skipped: list[tuple[str, str]] = []
    left_out: list[tuple[str, str]] = []
    _read_ahead(root, names)
    for name in names:
        try:
            content = read_file(Path(root) / name)
            if not is_dicom(content[:132]):
                raise UnreadableImage("not a DICOM file")
            digest = xxh3_128_hexdigest(content)
            slices += [_Slice(name, digest, image) for image in read_dicom(content)]
            del content  # before all that is made of it
        except LeftOut as error:
            left_out.append((name, str(error)))
        except UnreadableImage as error:
            skipped.append((name, str(error)))
    slices.sort(key=lambda s: (_series(s), s.image.position, s.image.instance, s.file, s.image.frame))
    records: list[ImageRecord] = []
    images: list[np.ndarray] = []
    for _, group in groupby(slices, _series):
        series = list(group)
        scanned = [pixels for s in series if (pixels := _scanned(s.image)).size]
        low, high = _percentiles(scanned) if scanned else (0.0, 0.0)
        if not low < high < np.inf or low == -np.inf:
            reason = f"the {PERCENTILES[0]} and {PERCENTILES[1]} % percentiles of its series have the same value"
            skipped += [(name, reason) for name in dict.fromkeys(s.file for s in series)]
            continue
        records += [_record(s.file, s.content, s.image, place) for place, s in enumerate(series)]
        images += [_scaled(s.image, low, high, size) for s in series]
    return Decoded(records, _stack(images, size), skipped, left_out)


def read_pictures(root: Path, names: list[str], size: int) -> Decoded:
    """Read files that stand alone, one after another, as `read_picture` does."""
    every = [read_picture(root, name, size) for name in names]
    return Decoded(
        [record for one in every for record in one.records],
        np.concatenate([one.images for one in every]),
        [problem for one in every for problem in one.skipped],
        [problem for one in every for problem in one.left_out],
    )


def read_picture(root: Path, name: str, size: int) -> Decoded:
    """Read one file that stands alone, a picture or DICOM of any modality; scaled min-max as pictures are.

    A file of many frames gives many records. Raises for no file, whatever is wrong with it.
    """
    records: list[ImageRecord] = []
    images: list[np.ndarray] = []
    several = False
    try:
        content = read_file(Path(root) / name)
        digest = xxh3_128_hexdigest(content)
        if is_dicom(content[:132]):
            frames: Iterable[DicomImage] = dicom_frames(content, any_modality=True)
        else:
            gray, mode, several = decode(content)
            frames = [DicomImage("", "", "", 0, 0, 0.0, gray, pixel_digest(gray), mode)]
        for place, image in enumerate(frames):
            images.append(fit(_without_padding(image), size))
            records.append(_record(name, digest, image, place))
    except LeftOut as error:
        return Decoded([], _stack([], size), [], [(name, str(error))])
    except UnreadableImage as error:
        return Decoded([], _stack([], size), [(name, str(error))], [])
    return Decoded(records, _stack(images, size), [], [(name, OTHER_PAGES)] if several else [])


def as_text(file: str) -> str:
    """A file's name for people: it may be bytes that are no text."""
    return file.encode("utf-8", "backslashreplace").decode()


def _read_ahead(root: Path, names: list[str]) -> None:
    """Ask the system for files that are read next, where it can be asked: a disk is read while others are decoded."""
    if hasattr(os, "posix_fadvise"):
        for name in names:
            with suppress(OSError, ValueError):  # whatever is wrong with a file is said when it is read
                file = os.open(Path(root) / name, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
                try:
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(file)


def _series(one: _Slice) -> tuple[str, str, str]:
    # Anonymized files of two patients may share a number that should be theirs alone.
    return one.image.patient, one.image.study, one.image.series


def _record(file: str, content: str, image: DicomImage, place: int) -> ImageRecord:
    height, width = image.pixels.shape
    of_series = (file, image.frame, image.patient, image.study, image.series, place)
    return ImageRecord(*of_series, height, width, image.mode, content, image.digest)


def _scanned(image: DicomImage) -> np.ndarray:
    """Return the pixels that have a meaning, in one row where there are others."""
    return image.pixels if image.padding is None else image.pixels[~image.padding]


def _without_padding(image: DicomImage) -> np.ndarray:
    """Show what was not scanned as the darkest of what was."""
    scanned = _scanned(image)
    if image.padding is None or not scanned.size:
        return image.pixels
    return np.where(image.padding, scanned.min(), image.pixels)


def _percentiles(images: list[np.ndarray]) -> tuple[float, float]:
    """Return what `np.percentile` over all pixels would, in a fifth of the time and without a copy of them."""
    n_pixels = sum(image.size for image in images)
    places = [percent / 100 * (n_pixels - 1) for percent in PERCENTILES]
    high = max(image.max().item() for image in images)
    low = min([0, *(image.min().item() for image in images if image.dtype.kind != "u")])
    if all(image.dtype.kind in "iu" for image in images) and high - low < 2**20:
        ordered = _ordered_integers(images, low, high)
    else:
        ordered = _ordered_reals(images)

    below, above = (
        ordered(int(place)) * (1 - place % 1) + ordered(min(int(place) + 1, n_pixels - 1)) * (place % 1)
        for place in places
    )
    return below, above


def _ordered_integers(images: list[np.ndarray], low: int, high: int) -> Callable[[int], float]:
    """Return what tells the number at a place of all in order, of integers from `low` to `high`: by counting them."""
    counts = np.zeros(high - low + 1, np.int64)
    for image in images:
        counts += np.bincount((image.astype(np.intp) - low if low else image).ravel(), minlength=len(counts))
    cumulative = counts.cumsum()
    return lambda place: low + int(np.searchsorted(cumulative, place, side="right"))


def _ordered_reals(images: list[np.ndarray]) -> Callable[[int], float]:
    """Return what tells the number at a place of all in order: by counting their upper 16 bits, then the lower."""

    def keys(image: np.ndarray) -> np.ndarray:
        """Integers that are ordered as the real numbers are."""
        bits = image.astype(np.float32).ravel().view(np.int32)
        return bits ^ ((bits >> 31) & 0x7FFFFFFF)

    def counted(parts: Iterable[np.ndarray]) -> np.ndarray:
        return sum((np.bincount(part, minlength=2**16) for part in parts), start=np.zeros(2**16, np.int64)).cumsum()

    upper = counted((keys(image) >> 16) + 2**15 for image in images)

    def ordered(place: int) -> float:
        first = int(np.searchsorted(upper, place, side="right")) - 2**15
        all_keys = (keys(image) for image in images)
        lower = counted(part[part >> 16 == first] & 0xFFFF for part in all_keys)
        before = upper[first + 2**15 - 1] if first > -(2**15) else 0
        key = np.int32(first * 2**16 + int(np.searchsorted(lower, place - before, side="right")))
        return float((key ^ ((key >> 31) & 0x7FFFFFFF)).view(np.float32))

    return ordered


def _scaled(image: DicomImage, low: float, high: float, size: int) -> np.ndarray:
    clipped = image.pixels.astype(np.float32)
    np.clip(clipped, np.float32(low), np.float32(high), out=clipped)
    if image.padding is not None:
        clipped[image.padding] = low
    # Scaled once it is small: the filter's weights sum to one, so the order of the two does not matter.
    scaled = (shrink(clipped, size) - np.float32(low)) * np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1).astype(np.float16)


def _stack(images: Iterable[np.ndarray], size: int) -> np.ndarray:
    return np.array(list(images), np.float16).reshape(-1, size, size)
