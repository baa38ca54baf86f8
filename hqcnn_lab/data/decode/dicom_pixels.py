"""Read the pixel data of a DICOM file as gray frames, plain or compressed."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from hqcnn_lab.data.decode.dicom_elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, Elements
from hqcnn_lab.data.decode.dicom_format import PixelFormat, used_bits
from hqcnn_lab.data.decode.dicom_streams import JPEG, JPEG_2000, decoded_frames, encoded_frames
from hqcnn_lab.data.decode.dicom_walk import PALETTE
from hqcnn_lab.data.decode.reading import UnreadableImage

ENCAPSULATED = "1.2.840.10008.1.2.1.98"  # uncompressed, but frame by frame


def gray_frames(elements: Elements, form: PixelFormat) -> Iterator[np.ndarray]:
    """Yield each frame as `[rows, columns]`, the numbers that are stored; colour becomes luminance.

    Raises `UnreadableImage` where the pixel data is not what `form` says, or where its decoder is not installed.
    """
    if elements.syntax in (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN):
        frames = _plain_frames(elements, form)
    elif elements.syntax == ENCAPSULATED:
        frames = (_words(frame, elements, form) for frame in encoded_frames(elements, form))
    else:
        frames = decoded_frames(elements, form)
    return (_gray(frame, elements, form) for frame in frames)


def _plain_frames(elements: Elements, form: PixelFormat) -> Iterator[np.ndarray]:
    if "Encapsulated" in elements.raw:
        raise UnreadableImage("its pixels are compressed, but its transfer syntax says that they are not")
    data = elements.raw[form.element]
    n_bits = _n_values(form) * form.allocated
    expected = (form.frames * n_bits + 7) // 8
    padding = max(form.columns * form.samples * form.allocated // 8, 1)
    if len(data) < expected or len(data) > expected + padding:
        # Some writers fill up the last row or an odd length; more says that Rows or Columns are false.
        claim = f"{form.frames} × {form.rows} × {form.columns} pixels take {expected}"
        raise UnreadableImage(f"{len(data)} bytes of pixel data, but {claim}; it is cut off, or says a false size")
    if form.allocated == 1:  # frames follow one another within a byte
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=form.frames * n_bits, bitorder="little")
        yield from bits.reshape(form.frames, form.rows, form.columns)
        return
    if "InWords" in elements.raw and form.allocated == 8:
        data = np.frombuffer(data[: len(data) // 2 * 2], "u2").byteswap().tobytes()
    for start in range(0, form.frames * n_bits // 8, n_bits // 8):
        yield _words(data[start : start + n_bits // 8], elements, form)


def _n_values(form: PixelFormat) -> int:
    """How many numbers there are in a plain frame."""
    return form.rows * form.columns * (2 if _is_subsampled(form) else form.samples)


def _is_subsampled(form: PixelFormat) -> bool:
    """Two luminances, then the two colours that they share."""
    return form.colours in ("YBR_FULL_422", "YBR_PARTIAL_422")


def _words(data: bytes, elements: Elements, form: PixelFormat) -> np.ndarray:
    """Return a plain frame, `[rows, columns]` and a last axis of colours if there are any."""
    if len(data) * 8 < _n_values(form) * form.allocated:
        raise UnreadableImage("a frame is cut off")
    kind = np.dtype(f"{elements.order}{form.kind}{form.allocated // 8}")
    pixels = np.frombuffer(data, kind, _n_values(form))
    pixels = used_bits(pixels.astype(kind.newbyteorder("="), copy=False), form)
    if form.kind == "f" and not np.isfinite(pixels).all():
        raise UnreadableImage("a pixel is not a finite number")
    if _is_subsampled(form):
        return pixels.reshape(-1, 4)[:, :2].reshape(form.rows, form.columns)
    if form.samples == 1:
        return pixels.reshape(form.rows, form.columns)
    if form.planar:
        return np.moveaxis(pixels.reshape(form.samples, form.rows, form.columns), 0, -1)
    return pixels.reshape(form.rows, form.columns, form.samples)


def _gray(pixels: np.ndarray, elements: Elements, form: PixelFormat) -> np.ndarray:
    if form.colours == "PALETTE COLOR" and pixels.ndim == 2:
        pixels = np.stack([_palette(pixels, elements, name, form) for name in PALETTE], axis=-1)
    if pixels.ndim == 2:
        return pixels
    if form.colours.startswith("YBR") and not _made_rgb(elements, form):
        return np.ascontiguousarray(pixels[..., 0])  # luminance by itself
    if pixels.dtype == np.uint8:  # to the last bit as for pictures
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _made_rgb(elements: Elements, form: PixelFormat) -> bool:
    """Say whether the decoder made RGB of it."""
    return elements.syntax in JPEG or (elements.syntax in JPEG_2000 and form.colours in ("YBR_ICT", "YBR_RCT"))


def _palette(pixels: np.ndarray, elements: Elements, name: str, form: PixelFormat) -> np.ndarray:
    descriptor, data = elements.raw.get(f"{name}Descriptor", b""), elements.raw.get(f"{name}Data", b"")
    table = lookup_table(descriptor, data, elements.order, form.kind == "i")
    if table is None:
        raise UnreadableImage("its palette is missing, or of a kind that is not supported")
    return table.apply(pixels)


class LookupTable(NamedTuple):
    """What stands for the stored value `first`, the next one and so on; values beyond take the nearest entry."""

    first: int
    entries: np.ndarray

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        return self.entries[np.clip(pixels.astype(np.int64) - self.first, 0, len(self.entries) - 1)]


def lookup_table(descriptor: bytes, data: bytes, order: str, signed: bool) -> LookupTable | None:
    """Read a table (DICOM PS3.3, C.11.1.1); None where it is damaged."""
    if len(descriptor) < 6:
        return None
    n_entries, first, bits = struct.unpack_from(f"{order}H{'h' if signed else 'H'}H", descriptor)
    n_entries = n_entries or 2**16
    if len(data) >= 2 * n_entries:
        return LookupTable(first, np.frombuffer(data, f"{order}u2", n_entries).astype(np.uint16))
    if bits <= 8 and len(data) >= n_entries:
        return LookupTable(first, np.frombuffer(data, np.uint8, n_entries))
    return None
