"""Find the elements of a DICOM file that an image needs, and only those."""

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from hqcnn_lab.data.reading import UnreadableImage

# What a file, or all its frames once decoded, may take in memory: 512 frames of 512×512 in 16 bits.
MAX_DECODED = 2**28

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))

SEQUENCES = frozenset(
    [
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "PixelValueTransformationSequence",
        "FrameVOILUTSequence",
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "ModalityLUTSequence",
        "VOILUTSequence",
    ]
)
PALETTE = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
_PLAIN = [
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "Modality",
    "SeriesDescription",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RescaleIntercept",
    "RescaleSlope",
    "LUTDescriptor",
    "LUTData",
    "PixelData",
] + [f"{name}{part}" for name in PALETTE for part in ("Descriptor", "Data")]
_NAMES: dict[int, str] = {tag_for_keyword(name): name for name in [*_PLAIN, *SEQUENCES]}  # type: ignore[misc]

_PIXEL_DATA, _ITEM, _ITEM_END, _SEQUENCE_END = 0x7FE00010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHI").unpack_from
_length = struct.Struct("<I").unpack_from


class Elements(NamedTuple):
    """Raw values by keyword, one list of `Elements` per sequence; `order` is "<" or ">", as in `struct`."""

    raw: dict
    order: str
    syntax: str

    def texts(self, name: str) -> list[str]:
        """Return the values of a text element, without padding; an absent one has none."""
        value = self.raw.get(name, b"")
        try:
            text = value.decode("ascii")
        except UnicodeDecodeError:
            with _quiet():
                text = decode_bytes(value, convert_encodings(self.texts("SpecificCharacterSet")), set())
        return [part.strip(" \0") for part in text.split("\\")] if text else []

    def text(self, name: str) -> str:
        """Return the first value of a text element, or "" where it is absent."""
        return next(iter(self.texts(name)), "")

    def numbers(self, name: str, count: int = 1) -> list[float] | None:
        """Return the first `count` numbers of a decimal element, or None where they are not all there and finite."""
        try:
            values = [float(text) for text in self.texts(name)[:count]]
        except ValueError:
            return None
        return values if len(values) == count and all(map(math.isfinite, values)) else None

    def integer(self, name: str, default: int = -1) -> int:
        """Return the first value of a 16-bit element."""
        value = self.raw.get(name, b"")
        return struct.unpack_from(f"{self.order}H", value)[0] if len(value) >= 2 else default


def is_dicom(head: bytes) -> bool:
    """Say whether a file that begins with `head` (132 bytes or more) is DICOM, with its preamble or without.

    Without one it has to begin with an element of group 2 or 8, as no image format of another kind does.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    if head[4:6] in _SHORT_VR | _LONG_VR:
        return head[:2] in (b"\2\0", b"\x08\0", b"\0\x08") and 0 in head[2:4]
    group, element, length = _implicit(head)
    return group in (2, 8) and element < 0x3000 and length <= 1024


def read_elements(content: bytes) -> Elements:
    """Return the elements of a whole file that `is_dicom`; raises `UnreadableImage` or whatever pydicom raises.

    The usual file (little endian, no sequence that matters here) is walked directly: that takes a quarter of the time
    pydicom needs to skip the same elements. Every other one, and every odd one, is left to pydicom.
    """
    syntax, start = _file_meta(content)
    if syntax == DEFLATED:
        content, start = _inflate(content[start:]), 0
    head = content[start : start + 6]
    if not syntax:  # left out by old writers: pydicom's guess
        explicit = head[4:6] in _SHORT_VR | _LONG_VR
        big = explicit and head[:1] == b"\0"
        syntax = BIG_ENDIAN if big else EXPLICIT if explicit else IMPLICIT
    order = ">" if syntax == BIG_ENDIAN else "<"
    raw = None
    if order == "<":
        try:
            raw = _walk(content, start, syntax != IMPLICIT)
        except (struct.error, RecursionError):  # cut short, or stranger than this walk knows
            raw = None
    if raw is None:
        with _quiet():
            dataset = read_dataset(
                BytesIO(content[start:]), syntax == IMPLICIT, order == "<", specific_tags=list(_NAMES)
            )
            raw = _raw(dataset, order)
    return Elements(raw, order, syntax)


def _file_meta(content: bytes) -> tuple[str, int]:
    """Return the transfer syntax and where the data set begins."""
    at = 132 if content[128:132] == b"DICM" else 0
    syntax = ""
    while content[at : at + 2] == b"\2\0":
        tag, length, value = _header(content, at, True)
        if tag == 0x00020010:
            syntax = content[value : value + length].decode("ascii", "replace").strip(" \0")
        at = value + length
    return syntax, at


def _inflate(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    limit = MAX_DECODED + 2**20  # the pixels, and a little for what stands before them
    content = inflater.decompress(deflated, limit)
    if inflater.unconsumed_tail and len(content) >= limit:
        raise UnreadableImage(f"inflates to more than {MAX_DECODED >> 20} MiB")
    return content


def _header(content: bytes, at: int, explicit: bool) -> tuple[int, int, int]:
    """Return the tag of the element at `at`, the length of its value and where that begins."""
    if explicit and content[at : at + 2] != b"\xfe\xff":
        group, element, vr, length = _explicit(content, at)
        if vr in _SHORT_VR:
            return group << 16 | element, length, at + 8
        if vr not in _LONG_VR:
            raise struct.error
        return group << 16 | element, _length(content, at + 8)[0], at + 12
    group, element, length = _implicit(content, at)
    return group << 16 | element, length, at + 8


def _walk(content: bytes, at: int, explicit: bool) -> dict | None:
    """Return the raw elements up to the pixel data; None where a sequence that matters needs to be read."""
    raw: dict[str, bytes | memoryview] = {}
    if not explicit and content[at + 4 : at + 6] in _SHORT_VR:  # a false transfer syntax
        return None
    while True:
        if explicit:  # nine of ten elements are short, so their header is read here: a call would take as long again
            group, element, vr, length = _explicit(content, at)
            if vr in _SHORT_VR:
                at += 8
                name = _NAMES.get(group << 16 | element)
                if name is not None:
                    raw[name] = content[at : at + length]
                at += length
                continue
        tag, length, at = _header(content, at, explicit)
        if tag == _PIXEL_DATA:
            raw["PixelData"] = memoryview(content)[at : None if length == _UNDEFINED else at + length]
            return raw
        name = _NAMES.get(tag)
        if name is not None:
            if name in SEQUENCES or length == _UNDEFINED:
                return None
            raw[name] = content[at : at + length]
        at = _end_of_sequence(content, at, explicit) if length == _UNDEFINED else at + length


def _end_of_sequence(content: bytes, at: int, explicit: bool) -> int:
    """Return where a sequence of undefined length ends, whose first item begins at `at`."""
    while True:
        tag, length, at = _header(content, at, explicit)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise struct.error
        if length != _UNDEFINED:
            at += length
            continue
        while tag != _ITEM_END:
            tag, length, at = _header(content, at, explicit)
            at = _end_of_sequence(content, at, explicit) if length == _UNDEFINED else at + length


def _raw(dataset: Dataset, order: str) -> dict:
    raw = {}
    for tag, name in _NAMES.items():
        if tag not in dataset:
            continue
        if name in SEQUENCES:
            raw[name] = [Elements(_raw(item, order), order, "") for item in dataset[tag].value or []]
            continue
        element = dataset.get_item(tag)
        value = element.value or b""
        if tag == _PIXEL_DATA and order == ">" and element.VR == "OW":
            raw["PixelDataWords"] = value  # pairs of 8-bit pixels were swapped with them
        if isinstance(value, bytes):
            raw[name] = value
    return raw


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what pydicom has to say about a file off the terminal: among 100,000 files it would flood it."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
