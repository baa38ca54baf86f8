"""Small files that claim to be large are refused before they take a GiB, with a reason; sound ones are still read."""

import multiprocessing
import resource
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from dicom_bytes import ITEM_END, NESTED, REFERENCES, SEQUENCE_END, SHARED, UNDEFINED, element, file, item, meta
from dicom_files import as_file, mr_slice
from PIL import Image
from plain_words import is_plain
from pydicom.uid import DeflatedExplicitVRLittleEndian

from hqcnn_lab.data.decode.series import read_picture, read_series

pytestmark = pytest.mark.slow

GIB = 2**30
MANY = 10**6


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, row: bytes, before: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(row * height, 1)) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    buffer = BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG")
    return buffer.getvalue()


def jpeg_that_says(width: int, height: int) -> bytes:
    content = bytearray(jpeg())
    at = content.find(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def tiff(entries: list[tuple[int, int, int, int]], values: bytes) -> bytes:
    usual = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags = b"".join(struct.pack("<HHII", *entry) for entry in sorted([*usual, *entries]))
    return b"II*\0" + struct.pack("<IH", 8, len(tags) // 12) + tags + values


def hostile() -> Iterator[tuple[str, bytes, str]]:
    """Name, content, and what the reason says of it."""
    wide = 2**26
    yield "wide.png", png(wide, 1, bytes(wide + 1)), "a side longer than"
    yield "tall.png", png(1, wide, b""), "a side longer than"
    bitmap = struct.pack("<IIIIiiHHIIiiII", 0, 0, 62, 40, wide, 1, 1, 1, 0, 0, 0, 0, 2, 2)
    yield "wide.bmp", b"BM" + bitmap + bytes(99), "a side longer than"
    yield "says_4_gib.jpg", jpeg_that_says(65500, 65500), "more than 67108864 pixels"
    yield "says_1_gib.jpg", jpeg_that_says(65500, 16384), "more than 67108864 pixels"
    screen, frame = struct.pack("<HHBBB", 65535, 16384, 0, 0, 0), struct.pack("<HHHHB", 0, 0, 65535, 16384, 0)
    yield "says_1_gib.gif", b"GIF89a" + screen + b"," + frame + b"\2\2L\1\0;", "more than 67108864 pixels"
    note = b"a\0\0" + zlib.compress(bytes(10**7), 1)
    yield "note.png", png(9, 9, bytes(10), chunk(b"zTXt", note)), "its notes or its colour profile are too large"
    yield "profile.png", png(9, 9, bytes(10), chunk(b"iCCP", note)), "its notes or its colour profile are too large"
    strips = [(273, 4, 4 * MANY, 200), (278, 3, 1, 1), (279, 4, 4 * MANY, 200)]
    yield "strips.tif", tiff(strips, bytes(16 * MANY)), "numbers in the tags"
    exif = b"\xff\xe1" + struct.pack(">H", 1000) + b"Exif\0\0".ljust(998, b"\0")
    yield "exif.jpg", jpeg()[:2] + exif * 200 + jpeg()[2:], "more than 100 JPEG EXIF blocks"
    one = element(0x00289145, b"SQ", item(element(0x00281053, b"DS", b"1 ")))
    yield "shared_items.dcm", file(before=element(SHARED, b"SQ", item(one) * MANY)), "more than 262144 entries"
    shared = element(SHARED, b"SQ", item(one + ITEM_END, UNDEFINED) * 300_000 + SEQUENCE_END, length=UNDEFINED)
    yield "undefined_items.dcm", file(before=shared), "more than 262144 entries"
    inner = element(0x00209113, b"SQ", item(b"") * 20_000)
    yield "positions.dcm", file(before=element(0x52009230, b"SQ", item(inner) * 20)), "more than 262144 entries"
    for name, tag in (("deep.dcm", REFERENCES), ("deep_shared.dcm", SHARED)):
        start = element(tag, b"SQ", item(b"", UNDEFINED), length=UNDEFINED)
        deep = start * 10_000 + (ITEM_END + SEQUENCE_END) * 10_000
        yield name, file(start=meta() + deep), "nested more than 200 deep"
    yield "frames.dcm", file({0x00280008: (b"IS", b"2147483647")}), "2147483647 frames, more than 16384"
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    whole = as_file(mr_slice(), DeflatedExplicitVRLittleEndian)
    bomb = b"".join(deflater.compress(bytes(2**20)) for _ in range(300)) + deflater.flush()
    yield "deflated.dcm", whole[:132] + element(0x00020010, b"UI", b"1.2.840.10008.1.2.1.99") + bomb, "inflates to more"
    yield "zeros.dcm", meta() + bytes(10**7), "no pixel data"


def sound() -> Iterator[tuple[str, bytes]]:
    """What only looks like them."""
    many = item(NESTED + ITEM_END, UNDEFINED) * 50_000 + SEQUENCE_END
    yield "references.dcm", file(start=meta() + element(REFERENCES, b"SQ", many, length=UNDEFINED))
    same = [(tag, 1, 10**6, 200) for tag in range(1000, 41_000)]  # one range of bytes, 40,000 times
    yield "tags.tif", tiff([(273, 4, 1, 500_000), (278, 3, 1, 64), (279, 4, 1, 4096), *same], bytes(range(256)) * 8000)
    buffer = BytesIO()
    pages = [Image.linear_gradient("L").rotate(turn) for turn in range(90)]
    pages[0].save(buffer, "GIF", save_all=True, append_images=pages[1:] * 2)
    yield "pages.gif", buffer.getvalue()


def read_all(folder: Path, names: list[str], results: Connection) -> None:
    """In a process of its own, which may have a GiB more than it has at the start."""
    for name in ("references.dcm", "pages.gif"):  # imports that stay
        read_picture(folder, name, 32)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + GIB, now + GIB))
    for name in names:
        read = [read_picture(folder, name, 32)]
        if name.endswith(".dcm"):
            read.append(read_series(folder, [name], 32))
        results.send([(len(d.records), [reason for _, reason in d.skipped + d.left_out]) for d in read])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit the memory")
def test_no_file_takes_a_gib(tmp_path: Path) -> None:
    # Regression guard: of these, three ended the process or could not be refused for lack of memory.
    reasons: dict[str, str] = {}
    for name, content, reason in hostile():
        (tmp_path / name).write_bytes(content)
        reasons[name] = reason
    with (tmp_path / "sparse.jpg").open("wb") as sparse:  # says a GiB, and takes no place on the disk
        sparse.truncate(GIB)
    reasons["sparse.jpg"] = "1024 MiB, more than 300"
    for name, content in sound():
        (tmp_path / name).write_bytes(content)
        reasons[name] = ""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=read_all, args=(tmp_path, list(reasons), sender))
    worker.start()
    sender.close()
    try:
        for name, reason in reasons.items():
            for n_records, given in receiver.recv():
                if reason:
                    assert n_records == 0, name
                    assert reason in given[0], (name, given)
                    assert is_plain(given[0]), (name, given)
                else:
                    assert n_records == 1, (name, given)
    except EOFError:
        pytest.fail(f"{name} ended the process")
    finally:
        worker.kill()
        worker.join()
