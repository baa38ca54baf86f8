"""Decode compressed frames of a DICOM file: RLE, and the JPEG family."""

import struct
from collections.abc import Iterator
from types import ModuleType

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from hqcnn_lab.data.decode.dicom_elements import Elements
from hqcnn_lab.data.decode.dicom_format import PixelFormat, used_bits
from hqcnn_lab.data.decode.reading import UnreadableImage

MAX_TILES = 4096  # of a JPEG 2000 stream; the decoder keeps some memory for each
MAX_PRECINCTS = 2**17  # of a colour of one; sound streams have some hundreds, and each takes a KiB and a half
MAX_JPEG_2000 = 2**25  # values; the decoder takes some ten bytes for each
_TRAILING = 2**12  # bytes behind the end of a stream, which some writers leave

RLE = "1.2.840.10008.1.2.5"
JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
}
JPEG_LOSSLESS = {
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
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 Lossless (RPCL)",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
}
# Their decoders may give values beyond those stored, where white is clipped and must not turn black.
_LOSSY = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203")


def encoded_frames(elements: Elements, form: PixelFormat) -> Iterator[bytes]:
    """Yield the streams of exactly as many frames as there should be."""
    n_frames = 0
    try:
        for frame in generate_frames(bytes(elements.raw["PixelData"]), number_of_frames=form.frames):
            n_frames += 1
            if n_frames > form.frames:
                raise UnreadableImage(f"it holds more pixels than those of the {form.frames} frames that it speaks of")
            yield frame
    except (ValueError, struct.error) as error:  # of pydicom, where lengths or offsets make no sense
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage("its compressed pixels are damaged, or cut off") from None
    if n_frames < form.frames:
        raise UnreadableImage(f"cut off: pixel data of {n_frames} frames, not of {form.frames}")


def decoded_frames(elements: Elements, form: PixelFormat) -> Iterator[np.ndarray]:
    """Yield each frame, `[rows, columns]` and a last axis of colours if there are any."""
    if elements.syntax == RLE:
        return (used_bits(_unpack_rle(frame, form), form) for frame in encoded_frames(elements, form))
    name = (JPEG | JPEG_LOSSLESS | JPEG_LS | JPEG_2000).get(elements.syntax)
    if name is None:
        name = UID(elements.syntax).name
        in_dictionary = name != elements.syntax  # else it may be any text
        raise UnreadableImage(f"{name if in_dictionary else 'its transfer syntax'} is not supported")
    codecs = _codecs()
    if codecs is None:
        raise UnreadableImage(f'{name} needs a decoder: pip install "hqcnn-lab[jpeg]"')
    return (_decode(codecs, name, frame, elements.syntax, form) for frame in encoded_frames(elements, form))


def _decode(codecs: ModuleType, name: str, frame: bytes, syntax: str, form: PixelFormat) -> np.ndarray:
    if frame.rfind(b"\xff\xd9") < len(frame) - _TRAILING or b"\xff\xd9" not in frame:
        raise UnreadableImage(f"the {name} stream has no end: it is cut off")  # it would be filled up without a word
    try:
        if syntax in JPEG_2000:
            frame, header = _jpeg2000_header(frame)
        else:
            header = _jpeg_header(frame, syntax in JPEG_LS)
    except struct.error:
        raise UnreadableImage(f"the {name} stream is damaged") from None
    rows, columns, samples, precision, signed = header
    if (rows, columns, samples) != (form.rows, form.columns, form.samples) or precision > form.allocated:
        raise UnreadableImage(
            f"the {name} stream holds {columns}×{rows} pixels of {samples} × {precision} bits, "
            f"not {form.columns}×{form.rows} of {form.samples} × {form.stored}"
        )
    if syntax in JPEG_2000 and rows * columns * samples > MAX_JPEG_2000:
        raise UnreadableImage(f"{samples} × {columns}×{rows} pixels, more than {MAX_JPEG_2000} in {name}")
    decode, options = codecs.jpeg8_decode, {}
    if syntax in JPEG_2000:
        decode = codecs.jpeg2k_decode
    elif syntax in JPEG_LS:
        decode = codecs.jpegls_decode
    elif syntax in JPEG_LOSSLESS or _is_rgb(frame, form):  # else the decoder makes RGB of YCbCr
        options = {"colorspace": "RGB", "outcolorspace": "RGB"} if samples == 3 else {}
    try:
        pixels = np.asarray(decode(frame, **options))
    except MemoryError:
        raise
    except Exception as error:  # each decoder has its own, and they quote the stream
        raise UnreadableImage(f"the {name} stream is damaged") from error
    pixels = pixels.view(f"{form.kind}{pixels.dtype.itemsize}")
    pixels = pixels.reshape(rows, columns, *([samples] if samples > 1 else []))
    return _of_stream(pixels, form, precision, syntax in _LOSSY and signed == (form.kind == "i"))


def _of_stream(pixels: np.ndarray, form: PixelFormat, precision: int, clip: bool) -> np.ndarray:
    """Return what a stream of this precision stands for: the words of a plain file, or fewer bits of them.

    Encoders are free to write 12 bits as 16, with the sign extended or not, or as the 12 that they are. So what counts
    are the bits stored, as in a plain file, or those of the stream where it has fewer.
    """
    if precision <= form.high:  # no words as they would be stored, but values from bit 0 on
        stored = min(form.stored, precision)
        form = form._replace(stored=stored, high=stored - 1)
    if clip and form.high == form.stored - 1:
        return pixels.clip(int(form.smallest), int(form.largest))
    return used_bits(pixels, form)


def _unpack_rle(frame: bytes, form: PixelFormat) -> np.ndarray:
    """Decode one RLE frame (DICOM PS3.5, annex G): byte planes, the highest first, each packed by itself."""
    n_bytes, n_pixels = form.allocated // 8, form.rows * form.columns
    if len(frame) < 64:
        raise UnreadableImage("an RLE frame is cut off")
    n_planes, *starts = struct.unpack_from("<16I", frame)
    if n_planes != n_bytes * form.samples:
        raise UnreadableImage(f"damaged: {n_planes} RLE segments, not {n_bytes * form.samples}")
    ends = [*starts[1:n_planes], len(frame)]
    planes = [_unpack_bits(frame[start:end], n_pixels) for start, end in zip(starts[:n_planes], ends, strict=True)]
    samples = np.frombuffer(b"".join(planes), np.uint8).reshape(form.samples, n_bytes, form.rows, form.columns)
    words = np.ascontiguousarray(np.moveaxis(samples, (0, 1), (2, 3)))
    pixels = words.view(f">{form.kind}{n_bytes}")[..., 0]
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
        raise UnreadableImage(f"cut off: an RLE segment holds {len(unpacked)} bytes of {n_bytes}")
    return bytes(unpacked[:n_bytes])


def _jpeg_header(frame: bytes, is_ls: bool) -> tuple[int, int, int, int, bool]:
    """Return rows, columns, samples, precision and whether it is signed, as the stream itself says."""
    at = 2
    while frame[:2] == b"\xff\xd8" and frame[at : at + 1] == b"\xff":
        marker, length = struct.unpack_from(">xBH", frame, at)
        # No progressive or arithmetic coding in DICOM: a stream of thousands of scans would be decoded for hours.
        if marker in ((0xF7,) if is_ls else (0xC0, 0xC1, 0xC3)):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return rows, columns, samples, precision, False
        if length < 2:
            break
        at += 2 + length
    raise UnreadableImage("not a JPEG stream as DICOM knows it")


def _jpeg2000_header(frame: bytes) -> tuple[bytes, tuple[int, int, int, int, bool]]:
    """Return the codestream without boxes around it, and what `_jpeg_header` does."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise UnreadableImage("not a JPEG 2000 stream")
    right, bottom, left, top, tile_width, tile_height, _, _, samples, depth = struct.unpack_from(
        ">8IHB", frame, start + 8
    )
    rows, columns = bottom - top, right - left
    if min(tile_width, tile_height) < 1 or -(-right // tile_width) * -(-bottom // tile_height) > MAX_TILES:
        raise UnreadableImage(f"more than {MAX_TILES} JPEG 2000 tiles")
    if _n_precincts(frame, start, rows, columns) > MAX_PRECINCTS:
        raise UnreadableImage(f"more than {MAX_PRECINCTS} JPEG 2000 precincts")
    return frame[start:], (rows, columns, samples, (depth & 0x7F) + 1, depth > 0x7F)


def _n_precincts(stream: bytes, at: int, rows: int, columns: int) -> int:
    """The largest number of precincts that a header of the stream asks for, its own or that of a part of a tile."""
    most, at, part_end = 0, at + 2, len(stream)
    while at + 12 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker == 0xFF93:  # data, up to the next part
            if part_end <= at:
                break
            at = part_end
            continue
        if marker == 0xFF90:
            (part,) = struct.unpack_from(">I", stream, at + 6)
            part_end = at + max(part, 12) if part else len(stream)
        elif marker in (0xFF52, 0xFF53):  # for all colours, or for one
            style, sizes = (4, 14) if marker == 0xFF52 else (5, 11)
            if stream[at + style] & 1:
                powers = [(size & 15, size >> 4) for size in stream[at + sizes : at + 2 + length]]
                halved = range(len(powers) - 1, -1, -1)  # the first is of the image halved as often as it is
                n = sum(-(-columns >> x + h) * -(-rows >> y + h) for (x, y), h in zip(powers, halved, strict=True))
                most = max(most, n)
        at += 2 + max(length, 2)
    return most


def _is_rgb(frame: bytes, form: PixelFormat) -> bool:
    """Say whether a lossy JPEG stream holds RGB, by its own marks before what the file says: as pydicom does."""
    at = next((at for kind in (b"\xff\xc0", b"\xff\xc1") if (at := frame.find(kind)) >= 0), len(frame))
    if frame[at + 10 : at + 19 : 3] in (b"RGB", b"rgb"):
        return True
    adobe = frame.find(b"Adobe", 0, 4096)
    is_ycc = adobe >= 0 and frame[adobe + 11 : adobe + 12] in (b"\1", b"\2")
    return form.colours == "RGB" and not is_ycc and b"JFIF" not in frame[:64]


def _codecs() -> ModuleType | None:
    try:
        import imagecodecs  # 45 MB, and most collections have no use for it
    except ImportError:
        return None
    return imagecodecs
