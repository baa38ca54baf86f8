"""DICOM files written element by element, so that any of them may be wrong."""

import struct

import numpy as np

PIXELS = np.arange(6 * 8, dtype=np.uint16).reshape(6, 8) * 50
LONG = (b"OB", b"OD", b"OF", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
UNDEFINED = 0xFFFFFFFF
SOUND = {
    0x00080016: (b"UI", b"1.2.840.10008.5.1.4.1.1.4\0"),
    0x00080060: (b"CS", b"MR"),
    0x00100020: (b"LO", b"HF0001"),
    0x0020000D: (b"UI", b"1.2.3\0"),
    0x0020000E: (b"UI", b"1.2.4\0"),
    0x00200013: (b"IS", b"7 "),
    0x00280002: (b"US", b"\1\0"),
    0x00280004: (b"CS", b"MONOCHROME2 "),
    0x00280010: (b"US", b"\6\0"),
    0x00280011: (b"US", b"\x08\0"),
    0x00280100: (b"US", b"\x10\0"),
    0x00280101: (b"US", b"\x0c\0"),
    0x00280102: (b"US", b"\x0b\0"),
    0x00280103: (b"US", b"\0\0"),
    0x7FE00010: (b"OW", PIXELS.tobytes()),
}


def element(tag: int, vr: bytes, value: bytes, explicit: bool = True, length: int | None = None) -> bytes:
    """One element, little endian, with a false `length` where it is given."""
    n = len(value) if length is None else length
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return start + struct.pack("<I", n) + value
    if vr in LONG:
        return start + vr + b"\0\0" + struct.pack("<I", n) + value
    return start + vr + struct.pack("<H", n) + value


def item(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content) if length is None else length) + content


ITEM_END, SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def meta(syntax: bytes = b"1.2.840.10008.1.2.1\0", preamble: bytes = bytes(128) + b"DICM") -> bytes:
    return preamble + element(0x00020010, b"UI", syntax)


def file(changes: dict | None = None, before: bytes = b"", explicit: bool = True, start: bytes | None = None) -> bytes:
    """A sound file with `changes`: a VR and a value, None for an element that is not there; `before` the pixel data."""
    elements = SOUND | (changes or {})
    parts = [element(tag, *elements[tag], explicit) for tag in sorted(elements) if elements[tag] and tag < 0x7FE00000]
    pixels = element(0x7FE00010, *elements[0x7FE00010], explicit) if elements[0x7FE00010] else b""
    return (meta() if start is None else start) + b"".join(parts) + before + pixels


NESTED = element(0x00280010, b"US", b"\x63\0") + element(0x00100020, b"LO", b"OTHER1")  # what must not be taken
NESTED_IMPLICIT = element(0x00280010, b"", b"\x63\0", False) + element(0x00100020, b"", b"OTHER1", False)
REFERENCES, SHARED, PRIVATE = 0x00081140, 0x52009229, 0x00291010
