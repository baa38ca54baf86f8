"""Thousands of damaged files: none ends the process, takes seconds or fills the memory.

`HQCNN_FUZZ=2000 pytest tests/data/test_fuzz.py` for the whole study.
"""

import multiprocessing
import os
import resource
import struct
import time
from copy import deepcopy
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, as_file, group, mr_slice
from PIL import Image
from plain_words import is_plain
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from hqcnn_lab.data.decode.series import read_picture, read_series

N_FILES = int(os.environ.get("HQCNN_FUZZ", "200"))
SECONDS, GIB = 5, 2**30
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
# What no codec at hand has to encode: pydicom's own.
ENCODED = (
    "MR_small_RLE.dcm MR_small_jp2klossless.dcm MR_small_jpeg_ls_lossless.dcm JPGExtended.dcm JPEG-lossy.dcm "
    "SC_rgb_jpeg_gdcm.dcm SC_rgb_jpeg_dcmtk.dcm examples_palette.dcm SC_rgb_rle_2frame.dcm liver_1frame.dcm"
)
TAGS = [0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x7FE00010]
EXTREMES = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\1\0\0\0",
    b"\xfe\xff\0\xe0",
    b"\xfe\xff\xdd\xe0",
]


def sound_files() -> list[bytes]:
    """One file of each kind that the readers know."""
    lut = group(LUTDescriptor=[2000, 1000, 16], LUTData=np.arange(2000, dtype=np.uint16).tobytes())
    lut["LUTData"].VR = "OW"
    frames = [group(PlanePositionSequence=[group(ImagePositionPatient=[0, 0, z])]) for z in (3, 1)]
    many = mr_slice(np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=frames)
    windowed = mr_slice(WindowCenter=1000, WindowWidth=400, RescaleSlope="1.5", RescaleIntercept="-3")
    nested = mr_slice(ModalityLUTSequence=[lut], ReferencedStudySequence=[group(ReferencedImageSequence=[group()])])
    nested["ReferencedStudySequence"].is_undefined_length = True
    kinds = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
    files = [as_file(deepcopy(data), kind) for data in (windowed, many, nested) for kind in kinds]
    files.append(as_file(windowed, ImplicitVRLittleEndian, meta=False))
    packed = pydicom.dcmread(BytesIO(as_file(mr_slice())))
    packed.compress(RLELossless)
    files.append(as_file(packed, RLELossless))
    files += [(SHIPPED / name).read_bytes() for name in ENCODED.split()]
    gray, colour = Image.fromarray((RAMP // 16).astype(np.uint8)), Image.new("RGBA", (40, 30), (1, 2, 3, 4))
    for image, kind, options in [
        (gray, "JPEG", {}),
        (gray, "JPEG", {"progressive": True}),
        (gray, "PNG", {}),
        (Image.fromarray(RAMP), "PNG", {}),
        (colour, "PNG", {}),
        (gray.convert("P"), "GIF", {}),
        (gray, "TIFF", {"compression": "tiff_lzw"}),
        (Image.fromarray(RAMP.astype(np.float32)), "TIFF", {}),
        (gray, "BMP", {}),
        (colour, "WEBP", {}),
    ]:
        buffer = BytesIO()
        image.save(buffer, format=kind, **options)
        files.append(buffer.getvalue())
    return files


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four damages: flipped, lost or foreign bytes, extreme lengths, other values for what counts the pixels."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        # Headers are where the harm is; pixels are most of the bytes.
        at = int(rng.integers(min(len(damaged), 1500) if rng.random() < 0.7 else len(damaged)))
        kind = rng.integers(6)
        if kind == 0:
            for place in rng.integers(len(damaged), size=rng.integers(1, 20)):
                damaged[place] ^= 1 << rng.integers(8)
        elif kind == 1:
            del damaged[max(at, 8) :]
        elif kind == 2:
            damaged[at:at] = rng.bytes(rng.integers(1, 40))
        elif kind == 3:
            del damaged[at : at + rng.integers(1, 40)]
        elif kind == 4:
            damaged[at : at + 4] = EXTREMES[rng.integers(len(EXTREMES))]
        else:
            tag = TAGS[rng.integers(len(TAGS))]
            at = damaged.find(struct.pack("<HH", tag >> 16, tag & 0xFFFF)) + int(rng.choice([4, 6, 8, 10]))
            damaged[at : at + 2] = struct.pack(
                "<H", rng.choice([0, 1, 2, 3, 255, 256, 8192, 65535, rng.integers(65536)])
            )
        if len(damaged) < 8:
            break
    return bytes(damaged)


def read_damaged_files(numbers: range, folder: Path, results: Connection) -> None:
    """In a process of its own: read each and say how long it took and what the memory has been at most."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 3 * GIB, now + 3 * GIB))  # for the sake of the machine
    files = sound_files()
    for content in files:  # imports and buffers that stay
        (folder / "sound").write_bytes(content)
        read_series(folder, ["sound"], 32)
        read_picture(folder, "sound", 32)
    results.send((-1, 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, True))
    for number in numbers:
        rng = np.random.default_rng(number)
        (folder / "damaged").write_bytes(damage(files[number % len(files)], rng))
        start = time.perf_counter()
        read = [read_series(folder, ["damaged"], 32), read_picture(folder, "damaged", 32)]
        seconds = time.perf_counter() - start
        accounted = all(d.records or d.skipped or d.left_out for d in read)
        accounted &= all(is_plain(reason) for d in read for _, reason in d.skipped + d.left_out)
        sane = all(np.isfinite(d.images).all() and (d.images >= 0).all() and (d.images <= 1).all() for d in read)
        results.send((number, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, accounted and sane))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit the memory")
def test_damaged_files_do_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    failures: list[str] = []
    slowest, most, baseline, number = 0.0, 0, 0, 0
    while number < N_FILES:
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=read_damaged_files, args=(range(number, N_FILES), tmp_path, sender))
        worker.start()
        sender.close()
        patience = 60  # for the imports
        try:
            while number < N_FILES:
                if not receiver.poll(patience):
                    failures.append(f"file {number} takes more than {patience} s")
                    break
                done, seconds, peak, sound = receiver.recv()
                patience = 2 * SECONDS
                if done < 0:
                    baseline = peak
                    continue
                slowest, most = max(slowest, seconds), max(most, peak - baseline)
                if seconds > SECONDS or peak - baseline > GIB or not sound:
                    failures.append(f"file {done}: {seconds:.1f} s, {(peak - baseline) >> 20} MiB, sound: {sound}")
                number = done + 1
        except EOFError:
            worker.join()
            failures.append(f"file {number} ended the process ({worker.exitcode})")
            assert baseline, "the worker does not start"
        worker.kill()
        worker.join()
        number += bool(failures) and number < N_FILES
        if len(failures) > 20:
            break
    print(f"{N_FILES} damaged files: slowest {slowest:.2f} s, at most {most >> 20} MiB more memory")
    assert not failures
