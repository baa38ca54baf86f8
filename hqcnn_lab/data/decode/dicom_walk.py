"""Step through the elements of a DICOM file, as lenient as pydicom, and keep those that an image needs."""

import re
import struct
from contextlib import suppress
from typing import Any, Literal

from pydicom.datadict import tag_for_keyword

from hqcnn_lab.data.decode.reading import UnreadableImage

MAX_FRAMES = 2**14  # a long functional series; each frame becomes an image of its own
MAX_ITEMS = 2**18  # of the sequences that are used, twice as many as `MAX_FRAMES` need
MAX_DEPTH = 200  # of sequences in sequences; sound files have ten
_USED_DEPTH = 3  # a frame, the window of a frame, the table of a window

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
_OF_FRAMES = "PerFrameFunctionalGroupsSequence"
PALETTE = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_TEXTS = [
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
    "PhotometricInterpretation",
    "NumberOfFrames",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RescaleIntercept",
    "RescaleSlope",
    "PresentationLUTShape",
]
_INTEGERS = [
    "SamplesPerPixel",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
]
_BYTES = [
    "LUTDescriptor",
    "LUTData",
    *PIXELS,
    *(f"{name}{part}" for name in PALETTE for part in ("Descriptor", "Data")),
]
_NAMES: dict[int, str] = {tag_for_keyword(name): name for name in [*_TEXTS, *_INTEGERS, *_BYTES, *SEQUENCES]}  # type: ignore[misc]

_PIXEL_DATA, _ITEM, _ITEM_END, _SEQUENCE_END = 0x7FE00010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_NUMBER_VR = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d", b"SV": "q", b"UV": "Q"}
_TEXT_VR = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
# The VRs that are rewritten, so that texts are texts and integers have 16 bits.
_FOREIGN = dict.fromkeys([*_BYTES, *SEQUENCES], frozenset[bytes]()) | dict.fromkeys(_TEXTS, frozenset(_NUMBER_VR))
_FOREIGN |= dict.fromkeys(_INTEGERS, (_TEXT_VR | _NUMBER_VR.keys()) - {b"US", b"SS"})
_NOT_ZERO = re.compile(rb"[^\0]")
_BYTE_ORDER: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}


def looks_explicit(vr: bytes) -> bool:
    """Say whether the two bytes behind a tag are a VR, known or not, as pydicom does."""
    return len(vr) == 2 and b"A" <= vr[:1] <= b"Z" and b"A" <= vr[1:] <= b"Z"


class Walk:
    """Steps through the elements of one file, and nothing is raised where it ends too early: what is there is kept.

    Never holds more than the file: what no image needs is stepped over. Raises `UnreadableImage` for sequences made to
    exhaust the memory. Without pydicom: that takes four times as long, and builds an object for each item it skips.
    """

    def __init__(self, content: bytes, order: str, explicit: bool) -> None:
        self.content, self.order, self.explicit = content, order, explicit
        self._n_items = 0
        self._explicit = struct.Struct(f"{order}HH2sH").unpack_from
        self._implicit = struct.Struct(f"{order}HHI").unpack_from

    def elements(self, at: int, end: int, depth: int = 0) -> tuple[dict[str, Any], int]:
        """Return the elements of a data set up to the pixel data, its end or `end`; and where that is."""
        content, explicit, unpack = self.content, self.explicit, self._explicit
        raw: dict[str, Any] = {}
        while at + 8 <= end:
            if explicit:  # nine of ten elements are short: read here, as a call would take as long again
                group, element, vr, length = unpack(content, at)
                if vr in SHORT_VR:
                    at += 8
                    name = _NAMES.get(group << 16 | element)
                    if name is not None:
                        raw[name] = self._value(name, vr, content[at : min(at + length, end)])
                    at += length
                    continue
            tag, vr, length, at = self.header(at)
            if tag == _ITEM_END:
                break
            if tag == length == 0:  # what a download that was cut off leaves, millions of them
                filled = _NOT_ZERO.search(content, at)
                at += ((filled.start() if filled else end) - at) // 8 * 8
            name = _NAMES.get(tag)
            if name in SEQUENCES and depth < _USED_DEPTH:
                keep = MAX_FRAMES if name == _OF_FRAMES and not depth else 1  # of the others, one is used
                raw[name], at = self._items(at, length, end, depth + 1, keep)
                continue
            if tag == _PIXEL_DATA and length == _UNDEFINED and not depth:
                raw["PixelData"], raw["Encapsulated"] = memoryview(content)[at:], True
                break
            after = self._end(at) if length == _UNDEFINED else at + length
            if name in PIXELS:
                raw[name] = memoryview(content)[at : min(after, end)]
                if vr == b"OW" and self.order == ">":
                    raw["InWords"] = True  # pairs of 8-bit pixels were swapped with them
                if tag == _PIXEL_DATA and "Columns" in raw:  # else they stand after it, in no order
                    break
            elif name is not None and name not in SEQUENCES:
                raw[name] = self._value(name, vr, content[at : min(after, end)])
            at = after
        return raw, at

    def header(self, at: int) -> tuple[int, bytes, int, int]:
        """Return tag, VR and length of the element at `at`, and where its value begins; b"" is an implicit VR."""
        if self.explicit:
            group, element, vr, length = self._explicit(self.content, at)
            if group != 0xFFFE and looks_explicit(vr):  # else implicit amid explicit ones, as in sequences of VR UN
                if vr not in LONG_VR:
                    return group << 16 | element, vr, length, at + 8
                long = self.content[at + 8 : at + 12]
                return group << 16 | element, vr, int.from_bytes(long, _BYTE_ORDER[self.order]), at + 12
        group, element, length = self._implicit(self.content, at)
        return group << 16 | element, b"", length, at + 8

    def _value(self, name: str, vr: bytes, value: bytes) -> bytes:
        return _rewritten(value, vr, name in _INTEGERS, self.order) if vr in _FOREIGN[name] else value

    def _items(self, at: int, length: int, end: int, depth: int, keep: int) -> tuple[list[dict[str, Any]], int]:
        """Return the first items of a sequence, and where it ends."""
        stop = end if length == _UNDEFINED else min(at + length, end)
        items: list[dict[str, Any]] = []
        while at + 8 <= stop:
            group, element, of_item = self._implicit(self.content, at)
            at += 8
            if group << 16 | element == _SEQUENCE_END:
                return items, at
            self._n_items += 1
            if self._n_items > MAX_ITEMS:
                raise UnreadableImage(f"lists in its header have more than {MAX_ITEMS} entries")
            last = stop if of_item == _UNDEFINED else min(at + of_item, stop)
            raw, at = self.elements(at, last, depth)
            if len(items) < keep:
                items.append(raw)
            if of_item != _UNDEFINED:
                at = last
        return items, stop if length != _UNDEFINED else at

    def _end(self, at: int) -> int:
        """Return where a value of undefined length ends."""
        content, inside = self.content, [_SEQUENCE_END]  # what will end each of the sequences and items we are in
        if not self._is_item(at):
            end = content.find(struct.pack(f"{self.order}HH", 0xFFFE, 0xE0DD), at)
            return end + 8 if end >= 0 else len(content)
        while inside and at + 8 <= len(content):
            tag, _, length, at = self.header(at)
            if tag == _SEQUENCE_END:
                while inside.pop() != _SEQUENCE_END:
                    pass
            elif tag == _ITEM_END:
                if inside[-1] == _ITEM_END:  # else a needless one, after an item that has a length
                    inside.pop()
            elif length != _UNDEFINED:
                at += length
            elif len(inside) == MAX_DEPTH:
                raise UnreadableImage(f"its header is nested more than {MAX_DEPTH} deep")
            else:
                inside.append(_ITEM_END if tag == _ITEM else _SEQUENCE_END)
        return at

    def _is_item(self, at: int) -> bool:
        if at + 8 > len(self.content):
            return False
        group, element, _ = self._implicit(self.content, at)
        return group == 0xFFFE and element in (0xE000, 0xE0DD)


def _rewritten(value: bytes, vr: bytes, as_integer: bool, order: str) -> bytes:
    """Return a value of an unexpected VR as text, or as a 16-bit integer; nothing where it is neither."""
    with suppress(ValueError, OverflowError, struct.error):
        if vr in _NUMBER_VR:
            kind = _NUMBER_VR[vr]
            numbers = struct.unpack(f"{order}{len(value) // struct.calcsize(order + kind)}{kind}", value)
        else:
            numbers = tuple(float(text.strip(" \0")) for text in value.decode("ascii").split("\\"))
        if not as_integer:
            return "\\".join(map(str, numbers)).encode()
        if numbers and numbers[0] == int(numbers[0]):
            return struct.pack(f"{order}{'H' if numbers[0] >= 0 else 'h'}", int(numbers[0]))
    return b""
