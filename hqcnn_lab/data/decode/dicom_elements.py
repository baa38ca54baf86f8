"""What the elements of a DICOM file say, as texts and numbers."""

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from pydicom.charset import convert_encodings, decode_bytes

from hqcnn_lab.data.decode.dicom_walk import LONG_VR, SHORT_VR, Walk, looks_explicit
from hqcnn_lab.data.decode.reading import UnreadableImage

# What all frames of a file may take in memory once decoded, 512 of 512×512 in 16 bits; and how many pixels they may
# have, as numbers of 32 bits may come of each.
MAX_DECODED = 2**28
MAX_VALUES = 2**27

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))


class Elements(NamedTuple):
    """Raw values by keyword, a list of such for a sequence; `order` is "<" or ">", as in `struct`."""

    raw: dict[str, Any]
    order: str
    syntax: str

    def texts(self, name: str) -> list[str]:
        """Return the values of a text element, without padding; an absent one has none."""
        value = self.raw.get(name, b"")
        plain = value.isascii() and b"\x1b" not in value  # which begins a character set of its own
        text = value.decode("ascii") if plain else _decoded(value, self.raw.get("SpecificCharacterSet", b""))
        return [part.strip(" \0") for part in text.split("\\")] if text else []

    def text(self, name: str) -> str:
        """Return the first value of a text element, or "" where it is absent."""
        return next(iter(self.texts(name)), "")

    def numbers(self, name: str, count: int = 1) -> list[float] | None:
        """Return the first `count` numbers of a decimal element, or None where they are not all there and finite.

        A comma is a decimal point: so do some programs write numbers where that is the custom.
        """
        try:
            values = [float(text.replace(",", ".")) for text in self.texts(name)[:count]]
        except ValueError:
            return None
        return values if len(values) == count and all(map(math.isfinite, values)) else None

    def integer(self, name: str, default: int = -1, signed: bool = False) -> int:
        """Return the first value of a 16-bit element."""
        value = self.raw.get(name, b"")
        return struct.unpack_from(f"{self.order}{'h' if signed else 'H'}", value)[0] if len(value) >= 2 else default


def _decoded(value: bytes, character_set: bytes) -> str:
    """Decode a text that is not ASCII. What does not fit its character set stays distinct, as it may name a patient."""
    names = [name.strip(" \0") for name in character_set.decode("ascii", "replace").split("\\")]
    text = "\ufffd"
    with _quiet(), suppress(Exception):  # names of no character set raise whatever they like
        text = decode_bytes(value, convert_encodings(names), set())
    return value.decode("latin-1") if "\ufffd" in text else text


def is_dicom(head: bytes) -> bool:
    """Say whether a file that begins with `head` (132 bytes or more) is DICOM, with its preamble or without.

    Without one it has to begin with an element of group 2 or 8, as no image format of another kind does.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    if head[4:6] in SHORT_VR | LONG_VR:
        return head[:2] in (b"\2\0", b"\x08\0", b"\0\x08") and 0 in head[2:4]
    group, element, length = struct.unpack_from("<HHI", head)
    return group in (2, 8) and element < 0x3000 and length <= 1024


def read_elements(content: bytes) -> Elements:
    """Return the elements of a whole file that `is_dicom`; raises `UnreadableImage` for one made to do harm."""
    syntax, start = _file_meta(content)
    if syntax == DEFLATED:
        content, start = _inflate(content[start:]), 0
    head = content[start : start + 6]
    explicit = looks_explicit(head[4:6])  # whatever the transfer syntax says: some are false
    if not syntax:  # left out by old writers: pydicom's guess
        syntax = BIG_ENDIAN if explicit and head[:1] == b"\0" else EXPLICIT if explicit else IMPLICIT
    order = ">" if syntax == BIG_ENDIAN else "<"
    raw, _ = Walk(content, order, explicit).elements(start, len(content))
    return Elements(raw, order, syntax)


def _file_meta(content: bytes) -> tuple[str, int]:
    """Return the transfer syntax and where the data set begins, after a command set if there is one."""
    at = 132 if content[128:132] == b"DICM" else 0
    walk, syntax = Walk(content, "<", True), ""
    while content[at : at + 2] in (b"\2\0", b"\0\0") and at + 8 <= len(content):
        tag, _, length, value = walk.header(at)
        if tag == length == 0:
            break
        if tag == 0x00020010:
            syntax = content[value : value + length].decode("ascii", "replace").strip(" \0")
        at = value + length
    return syntax, at


def _inflate(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    limit = MAX_DECODED + 2**20  # the pixels, and a little for what stands before them
    try:
        content = inflater.decompress(deflated, limit)
    except zlib.error:
        raise UnreadableImage("damaged: it cannot be inflated, as its transfer syntax says it can") from None
    if inflater.unconsumed_tail and len(content) >= limit:
        raise UnreadableImage(f"it inflates to more than {MAX_DECODED >> 20} MiB")
    return content


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
