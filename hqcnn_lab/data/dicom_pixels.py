"""Decode the pixel data of a DICOM file into gray frames, uncompressed, RLE or of the JPEG family."""

import struct
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.uid import UID, UID_dictionary

from hqcnn_lab.data.dicom_elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, MAX_DECODED, PALETTE, Elements
from hqcnn_lab.data.reading import MAX_PIXELS, UnreadableImage

MAX_FRAMES = 2**14  # a long functional series; each frame becomes an image of its own
MAX_TILES = 4096  # of a JPEG 2000 stream; the decoder keeps some memory for each

RLE = "1.2.840.10008.1.2.5"
JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless (first-order prediction)",
}
JPEG_LS = {
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-lossless",
}
JPEG_2000 = {
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}


class PixelFormat(NamedTuple):
    """How the pixels of one file are stored."""

    frames: int
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    colours: str  # PhotometricInterpretation

    @property
    def smallest(self) -> int:
        return -(2 ** (self.stored - 1)) if self.signed else 0

    @property
    def largest(self) -> int:
        return self.smallest + 2**self.stored - 1


def pixel_format(elements: Elements) -> PixelFormat:
    """Read it from the elements; raises `UnreadableImage` where it makes no sense or is too large to be decoded."""
    allocated = elements.integer("BitsAllocated")
    stored = elements.integer("BitsStored", allocated)
    form = PixelFormat(
        frames=int(elements.text("NumberOfFrames") or 1) or 1,
        rows=elements.integer("Rows"),
        columns=elements.integer("Columns"),
        samples=elements.integer("SamplesPerPixel", 1),
        allocated=allocated,
        stored=stored,
        high=elements.integer("HighBit", stored - 1),
        signed=elements.integer("PixelRepresentation", 0) == 1,
        planar=elements.integer("PlanarConfiguration", 0) == 1,
        colours=elements.text("PhotometricInterpretation") or "MONOCHROME2",
    )
    if form.rows < 1 or form.columns < 1 or form.frames < 1:
        raise UnreadableImage("it has no rows, columns or frames")
    if form.rows * form.columns > MAX_PIXELS:
        raise UnreadableImage(f"{form.columns}×{form.rows} pixels, more than {MAX_PIXELS}")
    if form.frames > MAX_FRAMES:
        raise UnreadableImage(f"{form.frames} frames, more than {MAX_FRAMES}")
    if form.allocated not in (1, 8, 16, 32) or form.samples not in (1, 3):
        raise UnreadableImage(f"{form.samples} × {form.allocated} bits per pixel are not supported")
    if not 1 <= form.stored <= form.allocated or not form.stored - 1 <= form.high < form.allocated:
        raise UnreadableImage(f"{form.stored} bits stored up to bit {form.high} of {form.allocated}")
    if form.frames * form.rows * form.columns * form.samples * max(form.allocated, 8) > MAX_DECODED * 8:
        raise UnreadableImage(f"more than {MAX_DECODED >> 20} MiB once decoded")
    return form


def gray_frames(elements: Elements, form: PixelFormat) -> Iterator[np.ndarray]:
    """Yield each frame as `[rows, columns]`, the integers that are stored; colour becomes luminance.

    Raises `UnreadableImage` where the pixel data is not what `form` says, or where its decoder is not installed.
    """
    if elements.syntax in (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN):
        frames: Iterator[np.ndarray] = iter(_native(elements, form))
    elif elements.syntax == RLE:
        frames = (_used_bits(_unpack_rle(frame, form), form) for frame in _encoded_frames(elements, form))
    else:
        frames = _decoded(elements, form)
    return (_gray(frame, elements, form) for frame in frames)


def _native(elements: Elements, form: PixelFormat) -> np.ndarray:
    """Return all frames, `[frames, rows, columns]` and a last axis of colours if there are any."""
    data = elements.raw["PixelData"]
    n_pixels = form.frames * form.rows * form.columns
    subsampled = form.colours == "YBR_FULL_422"  # two luminances, then the two colours that they share
    n_bits = n_pixels * form.allocated * (2 if subsampled else form.samples)
    expected = (n_bits + 7) // 8
    padding = max(form.columns * form.samples * form.allocated // 8, 1)
    if len(data) < expected or len(data) > expected + padding:
        # Some writers fill up the last row or an odd length; more says that Rows or Columns are false.
        raise UnreadableImage(
            f"{len(data)} bytes of pixel data, but {form.frames} × {form.rows} × {form.columns} pixels take {expected}"
        )
    if elements.order == ">" and "PixelDataWords" in elements.raw and form.allocated <= 8:
        data = np.frombuffer(data[: len(data) // 2 * 2], "u2").byteswap().tobytes()
    if form.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=n_pixels, bitorder="little")
        return bits.reshape(form.frames, form.rows, form.columns)
    kind = np.dtype(f"{elements.order}{'i' if form.signed else 'u'}{form.allocated // 8}")
    pixels = np.frombuffer(data, kind, n_bits // form.allocated)
    pixels = _used_bits(pixels.astype(kind.newbyteorder("="), copy=False), form)
    if subsampled:
        return pixels.reshape(-1, 4)[:, :2].reshape(form.frames, form.rows, form.columns)
    if form.samples == 1:
        return pixels.reshape(form.frames, form.rows, form.columns)
    if form.planar:
        return np.moveaxis(pixels.reshape(form.frames, form.samples, form.rows, form.columns), 1, -1)
    return pixels.reshape(form.frames, form.rows, form.columns, form.samples)


def _used_bits(pixels: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Clear the bits that hold no pixel (overlays of old, noise), and extend the sign over them."""
    bits = pixels.dtype.itemsize * 8
    if form.high == form.stored - 1 and (
        form.stored == bits or (pixels.max() <= form.largest and (not form.signed or pixels.min() >= form.smallest))
    ):
        return pixels
    return (pixels << (bits - 1 - form.high)) >> (bits - form.stored)


def _encoded_frames(elements: Elements, form: PixelFormat) -> Iterator[bytes]:
    """Yield the streams of exactly as many frames as there should be."""
    n_frames = 0
    for frame in generate_frames(bytes(elements.raw["PixelData"]), number_of_frames=form.frames):
        n_frames += 1
        if n_frames > form.frames:
            raise UnreadableImage(f"more pixel data than for {form.frames} frames")
        yield frame
    if n_frames < form.frames:
        raise UnreadableImage(f"pixel data of {n_frames} frames, not of {form.frames}")


def _unpack_rle(frame: bytes, form: PixelFormat) -> np.ndarray:
    """Decode one RLE frame (DICOM PS3.5, annex G): byte planes, the highest first, each packed by itself."""
    n_bytes, n_pixels = form.allocated // 8, form.rows * form.columns
    n_planes, *starts = struct.unpack_from("<16I", frame)
    if n_planes != n_bytes * form.samples:
        raise UnreadableImage(f"{n_planes} RLE segments, not {n_bytes * form.samples}")
    ends = [*starts[1:n_planes], len(frame)]
    planes = [_unpack_bits(frame[start:end], n_pixels) for start, end in zip(starts[:n_planes], ends, strict=True)]
    samples = np.frombuffer(b"".join(planes), np.uint8).reshape(form.samples, n_bytes, form.rows, form.columns)
    words = np.ascontiguousarray(np.moveaxis(samples, (0, 1), (2, 3)))
    pixels = words.view(f">{'i' if form.signed else 'u'}{n_bytes}")[..., 0]
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return pixels[..., 0] if form.samples == 1 else pixels


def _unpack_bits(packed: bytes, n_bytes: int) -> bytes:
    """Unpack until there are `n_bytes` and no further: a few bytes more could become very many."""
    unpacked, at = bytearray(), 0
    while len(unpacked) < n_bytes and at + 1 < len(packed):
        count = packed[at]
        if count < 128:
            unpacked += packed[at + 1 : at + 2 + count]
            at += 2 + count
        else:
            if count > 128:
                unpacked += packed[at + 1 : at + 2] * (257 - count)
                at += 1
            at += 1
    if len(unpacked) < n_bytes:
        raise UnreadableImage(f"an RLE segment holds {len(unpacked)} bytes of {n_bytes}")
    return bytes(unpacked[:n_bytes])


def _decoded(elements: Elements, form: PixelFormat) -> Iterator[np.ndarray]:
    """Yield frames of the JPEG family, decoded."""
    name = (JPEG | JPEG_LS | JPEG_2000).get(elements.syntax)
    if name is None:
        known = elements.syntax in UID_dictionary  # else it may be any text
        raise UnreadableImage(f"{UID(elements.syntax).name if known else 'its transfer syntax'} is not supported")
    codecs = _codecs()
    if codecs is None:
        raise UnreadableImage(f'{name} needs a decoder: pip install "hqcnn-lab[jpeg]"')
    for frame in _encoded_frames(elements, form):
        if not frame.rstrip(b"\0\xff").endswith(b"\xd9"):  # decoders would fill up the rest without a word
            raise UnreadableImage(f"the {name} stream has no end: it is cut off")
        if elements.syntax in JPEG_2000:
            frame, size = _jpeg2000_header(frame)
            decode = codecs.jpeg2k_decode
        else:
            size = _jpeg_header(frame, elements.syntax in JPEG_LS)
            decode = codecs.jpegls_decode if elements.syntax in JPEG_LS else codecs.jpeg8_decode
        rows, columns, samples, precision = size
        if (rows, columns, samples) != (form.rows, form.columns, form.samples) or precision > form.allocated:
            raise UnreadableImage(
                f"the {name} stream holds {columns}×{rows} pixels of {samples} × {precision} bits, "
                f"not {form.columns}×{form.rows} of {form.samples} × {form.stored}"
            )
        # An RGB stream need not say that it is RGB; the decoder would take it for YCbCr, as Adobe's marker may call it.
        adobe = frame.find(b"Adobe", 0, 4096)
        is_ycc = adobe >= 0 and frame[adobe + 11 : adobe + 12] in (b"\1", b"\2")
        untold = elements.syntax in JPEG and form.colours == "RGB" and not is_ycc
        pixels = decode(frame, colorspace="RGB", outcolorspace="RGB") if untold else decode(frame)
        pixels = np.asarray(pixels)
        kind = np.dtype(f"{'i' if form.signed else 'u'}{pixels.dtype.itemsize}")
        precise = form._replace(stored=precision, high=precision - 1)
        yield _used_bits(pixels.view(kind).reshape(rows, columns, *([samples] if samples > 1 else [])), precise)


def _jpeg_header(frame: bytes, is_ls: bool) -> tuple[int, int, int, int]:
    """Return rows, columns, samples and precision as the stream itself says."""
    at = 2
    while frame[:2] == b"\xff\xd8" and frame[at : at + 1] == b"\xff":
        marker, length = struct.unpack_from(">xBH", frame, at)
        # No progressive or arithmetic coding in DICOM: a stream of thousands of scans would be decoded for hours.
        if marker in ((0xF7,) if is_ls else (0xC0, 0xC1, 0xC3)):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return rows, columns, samples, precision
        if length < 2:
            break
        at += 2 + length
    raise UnreadableImage("not a JPEG stream as DICOM knows it")


def _jpeg2000_header(frame: bytes) -> tuple[bytes, tuple[int, int, int, int]]:
    """Return the codestream without boxes around it, and rows, columns, samples and precision as it says."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise UnreadableImage("not a JPEG 2000 stream")
    right, bottom, left, top, tile_width, tile_height, _, _, samples, depth = struct.unpack_from(
        ">8IHB", frame, start + 8
    )
    rows, columns = bottom - top, right - left
    if min(tile_width, tile_height) < 1 or -(-right // tile_width) * -(-bottom // tile_height) > MAX_TILES:
        raise UnreadableImage(f"more than {MAX_TILES} JPEG 2000 tiles")
    return frame[start:], (rows, columns, samples, (depth & 0x7F) + 1)


def _gray(pixels: np.ndarray, elements: Elements, form: PixelFormat) -> np.ndarray:
    if form.colours == "PALETTE COLOR" and pixels.ndim == 2:
        pixels = np.stack([_palette(pixels, elements, name, form) for name in PALETTE], axis=-1)
    if pixels.ndim == 2:
        return pixels
    if form.colours.startswith("YBR") and elements.syntax not in JPEG | JPEG_2000:
        return np.ascontiguousarray(pixels[..., 0])  # luminance by itself; those decoders made it RGB
    if pixels.dtype == np.uint8:  # to the last bit as for pictures
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _palette(pixels: np.ndarray, elements: Elements, name: str, form: PixelFormat) -> np.ndarray:
    descriptor, data = elements.raw.get(f"{name}Descriptor", b""), elements.raw.get(f"{name}Data", b"")
    table = lookup_table(descriptor, data, elements.order, form.signed)
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


def _codecs() -> ModuleType | None:
    try:
        import imagecodecs  # 45 MB, and most collections have no use for it
    except ImportError:
        return None
    return imagecodecs
