"""What pydicom reads as an image is read equally, however oddly it is written; other files get a plain reason."""

import struct
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pydicom
from dicom_bytes import (
    ITEM_END,
    NESTED,
    NESTED_IMPLICIT,
    PIXELS,
    PRIVATE,
    REFERENCES,
    SEQUENCE_END,
    SHARED,
    SOUND,
    UNDEFINED,
    element,
    file,
    item,
    meta,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_words import is_plain
from pydicom.pixels import pixel_array

from hqcnn_lab.data.decode.dicom import DicomImage, read_dicom
from hqcnn_lab.data.decode.dicom_elements import _quiet, is_dicom
from hqcnn_lab.data.decode.reading import UnreadableImage

HIGH_BIT = 0x00280102  # which pydicom does not look at
FUZZED = SOUND.keys() - {HIGH_BIT}
VRS = [b"US", b"SS", b"UL", b"IS", b"DS", b"CS", b"LO", b"UN", b"OW", b"SQ", b"FD", b"??"]


def odd_texts() -> Iterator[tuple[str, bytes]]:
    """Numbers as texts in odd ways."""
    numbers = [b"1.0", b" 1", b"1 ", b"1\0", b"", b" ", b"\0\0", b"01", b"+1", b"1.", b"1e0", b"1\0\0 ", b"0", b"1\n"]
    numbers += [b"1\\1", b"abc", b"1,0", b"-1", b"1.5", b"\xc3\xa9", b"9" * 400, b"nan", b"1_0", b"2147483648", b"0x1"]
    for text in numbers:
        yield f"NumberOfFrames {text[:20]!r}", file({0x00280008: (b"IS", text)})
    for text in [*numbers, b"1,5\\2,5", b"\\", b"1\\\\2"]:
        for tag in (0x00281050, 0x00281051, 0x00200013, 0x00200032, 0x00201041):
            yield f"{tag:08x} {text[:20]!r}", file({tag: (b"DS", text)})


def odd_types() -> Iterator[tuple[str, bytes]]:
    """Values of other VRs than the standard says, and elements that are absent or there twice."""
    for tag in (0x00280010, 0x00280100, 0x00280101, 0x00280103, 0x00280002):
        n = SOUND[tag][1][0]
        for vr, value in {
            b"UL": struct.pack("<I", n),
            b"SS": struct.pack("<h", n),
            b"SL": struct.pack("<i", n),
            b"IS": str(n).encode(),
            b"DS": f" {n}.0 ".encode(),
            b"UN": struct.pack("<H", n),
            b"FD": struct.pack("<d", n),
            b"US": struct.pack("<HH", n, 77),
        }.items():
            yield f"{tag:08x} as {vr.decode()}", file({tag: (vr, value)})
        for value in (b"", b"\1", b"\0\0", b"\xff\xff"):
            yield f"{tag:08x} of {value!r}", file({tag: (b"US", value)})
    for vr, value in {b"US": b"\1\0", b"FD": struct.pack("<d", 1), b"LO": b"1 ", b"UN": b"1 "}.items():
        yield f"NumberOfFrames as {vr.decode()}", file({0x00280008: (vr, value)})
    for tag in SOUND:
        yield f"without {tag:08x}", file({tag: None})
        yield f"{tag:08x} twice", file(before=element(tag, *SOUND[tag]) if tag < 0x7FE00000 else b"")
    for high in (0, 15, 16, 200):
        yield f"HighBit {high}", file({0x00280102: (b"US", struct.pack("<H", high))})
    for text in (b"monochrome2", b"MONOCHROME1", b"MONOCHROME", b"RGB ", b"", b"GRAY", b"PALETTE COLOR ", b"YBR_FULL"):
        yield f"PhotometricInterpretation {text!r}", file({0x00280004: (b"CS", text)})
    for vr in (b"OB", b"UN", b"OF", b"XX"):
        yield f"PixelData as {vr.decode()}", file({0x7FE00010: (vr, PIXELS.tobytes())})
    for name in (
        b"ISO_IR 100",
        b"ISO 2022 IR 87",
        b"\xff\xfe",
        b"\\ISO 2022 IR 13",
        b"utf8",
        b"undefined",
        b"a\0b",
        b"",
    ):
        changes = {0x00080005: (b"CS", name), 0x00100020: (b"LO", b"\x1b$B\xe4\xff")}
        yield f"SpecificCharacterSet {name!r}", file(changes)


def odd_structures() -> Iterator[tuple[str, bytes]]:
    """Sequences, lengths and beginnings that some writers get wrong."""
    sequences = {
        "defined": element(REFERENCES, b"SQ", item(NESTED)),
        "undefined": element(REFERENCES, b"SQ", item(NESTED) + SEQUENCE_END, length=UNDEFINED),
        "items undefined": element(
            REFERENCES, b"SQ", item(NESTED + ITEM_END, UNDEFINED) * 2 + SEQUENCE_END, length=UNDEFINED
        ),
        "items undefined in a defined one": element(REFERENCES, b"SQ", item(NESTED + ITEM_END, UNDEFINED)),
        "implicit in UN": element(REFERENCES, b"UN", item(NESTED_IMPLICIT) + SEQUENCE_END, length=UNDEFINED),
        "UN of a length": element(REFERENCES, b"UN", item(NESTED_IMPLICIT)),
        "explicit in UN": element(REFERENCES, b"UN", item(NESTED) + SEQUENCE_END, length=UNDEFINED),
        "implicit items": element(
            REFERENCES, b"SQ", item(NESTED_IMPLICIT + ITEM_END, UNDEFINED) + SEQUENCE_END, length=UNDEFINED
        ),
        "private": element(PRIVATE, b"UN", item(NESTED_IMPLICIT) + SEQUENCE_END, length=UNDEFINED),
        "private of no items": element(PRIVATE, b"UN", b"\1\2\3\4" * 9 + SEQUENCE_END, length=UNDEFINED),
        "OB in fragments": element(PRIVATE, b"OB", item(b"") + item(b"\1\2" * 9) + SEQUENCE_END, length=UNDEFINED),
        "empty": element(REFERENCES, b"SQ", b"") + element(REFERENCES, b"SQ", SEQUENCE_END, length=UNDEFINED),
        "needless delimiters": element(REFERENCES, b"SQ", item(NESTED) + ITEM_END + SEQUENCE_END, length=UNDEFINED),
        "shared": element(SHARED, b"SQ", item(element(0x00289145, b"SQ", item(element(0x00281053, b"DS", b"1 "))))),
    }
    deep = b""
    for _ in range(20):
        deep = element(REFERENCES, b"SQ", item(deep + ITEM_END, UNDEFINED) + SEQUENCE_END, length=UNDEFINED)
    for name, sequence in (sequences | {"deep": deep}).items():
        group = struct.unpack_from("<H", sequence)[0]  # at its place, or pydicom's dictionary of elements is another
        yield f"sequence, {name}", file(before=sequence)
        if group == 0x0008:
            yield f"sequence at its place, {name}", file(start=meta() + sequence)
    yield (
        "group lengths",
        file(before=element(0x7FE00000, b"UL", b"\0\0\0\0"), start=meta() + element(0x00080000, b"UL", b"9\0\0\0")),
    )
    yield "private elements", file(before=element(0x00290010, b"LO", b"ACME") + element(PRIVATE, b"UN", b"\0" * 7))
    yield "odd lengths", file({0x00100020: (b"LO", b"HF1"), 0x00080060: (b"CS", b"MR ")})
    yield "unknown VR", file(before=element(PRIVATE, b"ZZ", b"ab"))
    yield "one implicit element", file(before=element(PRIVATE, b"", b"\1\2\3\4", False))
    yield "implicit, said to be explicit", file(explicit=False)
    yield "implicit", file(explicit=False, start=meta(b"1.2.840.10008.1.2\0"))
    yield "explicit, said to be implicit", file(start=meta(b"1.2.840.10008.1.2\0"))
    yield "no transfer syntax", file(start=bytes(128) + b"DICM" + element(0x00020012, b"UI", b"1.2 "))
    yield "no meta", file(start=bytes(128) + b"DICM")
    yield "no preamble", file(start=meta(preamble=b""))
    yield "nothing before the data set", file(start=b"")
    yield "preamble of another format", file(start=meta(preamble=b"II*\0" + bytes(124) + b"DICM"))
    yield "implicit meta", file(start=bytes(128) + b"DICM" + element(0x00020010, b"", b"1.2.840.10008.1.2.1\0", False))
    yield "command set", file(start=meta() + element(0x00000002, b"", b"1.2\0", False))
    yield "spaces in the transfer syntax", file(start=meta(b" 1.2.840.10008.1.2.1 "))
    for junk in (b"\0", b"\0" * 200, b"\xff" * 300, b"junk", element(0xFFFCFFFC, b"OB", bytes(30))):
        yield f"{len(junk)} bytes of {junk[:2]!r} behind", file() + junk
    for n in (1, 2, 3, 15, 16, 17, 95):
        yield f"{n} bytes more pixels", file({0x7FE00010: (b"OW", PIXELS.tobytes() + bytes(n))})
    for n in (1, 2, 50, 96, 100, 110):
        yield f"{n} bytes short", file()[:-n]
    yield (
        "length of the pixels beyond the end",
        file({0x7FE00010: None}) + element(0x7FE00010, b"OW", PIXELS.tobytes(), length=10**6),
    )
    yield (
        "pixels in fragments",
        file({0x7FE00010: None})
        + element(0x7FE00010, b"OB", item(b"") + item(PIXELS.tobytes()) + SEQUENCE_END, length=UNDEFINED),
    )
    yield (
        "rows behind the pixels",
        file({0x00280010: None, 0x00280011: None})
        + element(0x00280010, b"US", b"\6\0")
        + element(0x00280011, b"US", b"\x08\0"),
    )


ODD = dict([*odd_texts(), *odd_types(), *odd_structures()])
# Read by pydicom, and refused here with good reason: as the wrong image, or one that is half of it.
STRICTER = {
    "PhotometricInterpretation b'PALETTE COLOR '": "its palette is missing",
    "17 bytes more pixels": "says a false size",  # more than a row: by rows of a false length an image is sheared
    "95 bytes more pixels": "says a false size",
    "pixels in fragments": "its pixels are compressed, but",
}


def by_pydicom(content: bytes) -> np.ndarray | None:
    with _quiet():
        try:
            return pixel_array(pydicom.dcmread(BytesIO(content), force=True))
        except Exception:
            return None


def by_us(content: bytes) -> tuple[list[DicomImage], str]:
    try:
        images, reason = read_dicom(content, any_modality=True), ""
    except UnreadableImage as error:
        images, reason = [], str(error)
    assert bool(images) != is_plain(reason), reason
    assert "HF0001" not in reason
    assert "OTHER1" not in {image.patient for image in images}, "a nested element is not the file's own"
    return images, reason


def same(images: list[DicomImage], expected: np.ndarray) -> bool:
    """MONOCHROME1 is negated here, by pydicom it is not."""
    frames = np.stack([-image.pixels if image.mode.startswith("MONOCHROME1") else image.pixels for image in images])
    return np.array_equal(frames.reshape(expected.shape), expected)


def test_odd_files_are_read_as_pydicom_reads_them() -> None:
    read = 0
    for name, content in ODD.items():
        assert is_dicom(content[:132]), name
        expected, (images, reason) = by_pydicom(content), by_us(content)
        if name in STRICTER:
            assert expected is not None, name
            assert STRICTER[name] in reason, name
        elif expected is not None:
            assert not reason, name
            assert same(images, expected), name
            read += 1
    assert read > 150


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(FUZZED)), st.sampled_from(VRS), st.binary(max_size=12)), max_size=3),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    st.booleans(),
)
def test_any_file_is_read_as_pydicom_reads_it_or_gets_a_plain_reason(
    values: list[tuple[int, bytes, bytes]], flips: list[tuple[int, int]], explicit: bool
) -> None:
    damaged = bytearray(file({HIGH_BIT: None} | {tag: (vr, value) for tag, vr, value in values}, explicit=explicit))
    for at, byte in flips:
        damaged[132 + at % (len(damaged) - 132)] = byte
    content = bytes(damaged)
    expected, (images, reason) = by_pydicom(content), by_us(content)
    if expected is not None and not reason:
        assert same(images, expected)
