"""A folder becomes its series, in order and on one scale; whatever is wrong with a file stays with that file."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from dicom_files import RAMP, as_file, group, mr_slice
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import ImplicitVRLittleEndian

from hqcnn_lab.data.decode import reading, series
from hqcnn_lab.data.decode.dicom import read_dicom
from hqcnn_lab.data.decode.reading import read_image
from hqcnn_lab.data.decode.series import Decoded, read_picture, read_pictures, read_series
from hqcnn_lab.data.inputs import read_inputs


def write(root: Path, name: str, content: bytes) -> str:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
    return name


def shrunk(pixels: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR))


def test_series_is_ordered_along_its_normal_and_scaled_as_a_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 4000, (5, 40, 48)).astype(np.uint16) // np.arange(1, 6)[:, None, None].astype(np.uint16)
    heights = [30, -10, 20, 0, 10]  # neither the names nor the instance numbers are in this order
    names = [
        write(tmp_path, f"a/1-{i}.dcm", as_file(mr_slice(stack[i], ImagePositionPatient=[0, 0, heights[i]])))
        for i in range(5)
    ]
    decoded = read_series(tmp_path, names, 16)
    order = np.argsort(heights)
    assert [record.file for record in decoded.records] == [names[i] for i in order]
    assert [record.slice for record in decoded.records] == [0, 1, 2, 3, 4]
    assert decoded.images.dtype == np.float16
    low, high = np.percentile(stack, [1, 99])
    expected = [shrunk(np.clip((stack[i] - low) / (high - low), 0, 1), 16) for i in order]
    np.testing.assert_allclose(decoded.images, expected, atol=1e-3)
    # Scaled alone, each of these slices would fill the whole range.
    assert decoded.images.reshape(5, -1).max(1).min() < 0.3
    assert not decoded.skipped
    assert not decoded.left_out


def test_record_tells_where_an_image_comes_from(tmp_path: Path) -> None:
    first = write(tmp_path, "a/1.dcm", as_file(mr_slice()))
    second = write(tmp_path, "a/2.dcm", as_file(mr_slice(InstanceNumber=2), ImplicitVRLittleEndian))
    third = write(tmp_path, "a/3.dcm", as_file(mr_slice(RAMP.reshape(48, 40), InstanceNumber=3)))
    a, b, c = read_series(tmp_path, [first, second, third], 16).records
    assert (a.patient, a.study, a.series, a.frame, a.height, a.width) == ("HF0001", "1.2.3", "1.2.3.4", 0, 40, 48)
    assert a.pixels == b.pixels != c.pixels  # one picture in two files; the same numbers in another shape
    assert a.content != b.content
    assert len(a.content) == len(a.pixels) == 32
    assert int(a.content, 16) >= 0


def test_series_and_patients_of_one_folder_stay_apart(tmp_path: Path) -> None:
    dark, bright = RAMP // 4, RAMP
    names = [
        write(tmp_path, "d/1", as_file(mr_slice(dark, SeriesInstanceUID="1.9"))),
        write(tmp_path, "d/2", as_file(mr_slice(bright, SeriesInstanceUID="1.8"))),
        # Two patients of one name, and of one series number, as careless anonymization leaves them.
        write(tmp_path, "d/3", as_file(mr_slice(dark // 2, SeriesInstanceUID="1.9", PatientID="HF0002"))),
    ]
    decoded = read_series(tmp_path, names, 16)
    assert [(r.patient, r.series, r.slice) for r in decoded.records] == [
        ("HF0001", "1.8", 0),
        ("HF0001", "1.9", 0),
        ("HF0002", "1.9", 0),
    ]
    for image in decoded.images:  # each fills the range of its own series
        assert image.min() < 0.02
        assert image.max() > 0.98


def test_equal_positions_are_ordered_by_instance_and_file(tmp_path: Path) -> None:
    names = [
        write(tmp_path, f"{name}.dcm", as_file(mr_slice(InstanceNumber=i)))
        for name, i in zip("cab", (2, 1, 1), strict=True)
    ]
    assert [record.file for record in read_series(tmp_path, names, 8).records] == ["a.dcm", "b.dcm", "c.dcm"]


def test_frames_of_one_file(tmp_path: Path) -> None:
    stack = np.stack([RAMP, RAMP[::-1], RAMP // 2])
    places = [group(PlanePositionSequence=[group(ImagePositionPatient=[0, 0, z])]) for z in (3, 1, 2)]
    name = write(tmp_path, "m.dcm", as_file(mr_slice(stack, PerFrameFunctionalGroupsSequence=places)))
    decoded = read_series(tmp_path, [name], 16)
    assert [(record.frame, record.slice) for record in decoded.records] == [(1, 0), (2, 1), (0, 2)]
    assert len({record.pixels for record in decoded.records}) == 3
    assert len({record.content for record in decoded.records}) == 1


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(["u1", "u2", "i2", "i4", "f4"]), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_percentiles_are_numpys(seed: int, kinds: list[str], side: int) -> None:
    rng = np.random.default_rng(seed)
    images = [(rng.integers(0, 100, (side, side + 1)) - (50 if kind[0] != "u" else 0)).astype(kind) for kind in kinds]
    expected = np.percentile(np.concatenate([image.ravel().astype(float) for image in images]), [1, 99])
    np.testing.assert_allclose(series._percentiles(images), expected, atol=1e-4)


def test_padding_is_black_and_has_no_part_in_the_scale(tmp_path: Path) -> None:
    # Regression guard: a padding of −2000 around a round field of view squeezed all that was scanned into white.
    outside = np.hypot(*(np.indices(RAMP.shape) - np.array(RAMP.shape)[:, None, None] / 2)) > 18
    pixels = np.where(outside, -2000, RAMP.astype(np.int16)).astype(np.int16)
    values = {"BitsStored": 16, "HighBit": 15}
    with_padding = as_file(mr_slice(pixels, PixelPaddingValue=-2000, **values))
    black = np.where(outside, RAMP[~outside].min(), RAMP).astype(np.int16)
    without = as_file(mr_slice(black, **values))
    names = [write(tmp_path, "a/1.dcm", with_padding), write(tmp_path, "b/1.dcm", without)]
    first, second = (read_picture(tmp_path, name, 16).images for name in names)
    np.testing.assert_array_equal(first, second)
    first = read_series(tmp_path, names[:1], 16).images[0]
    low, high = np.percentile(RAMP[~outside], [1, 99])
    expected = shrunk(np.clip((np.where(outside, low, RAMP) - low) / (high - low), 0, 1), 16)
    np.testing.assert_allclose(first, expected, atol=1e-3)
    # A range, in values of which the bits that hold no pixel are set; and one of several slices that is nothing else.
    words = np.where(outside, 4000 + np.arange(RAMP.size).reshape(RAMP.shape) % 90, RAMP).astype(np.uint16)
    said = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 0xFFFF}
    ranged, empty = mr_slice(words, **said), mr_slice(np.full_like(words, 4000), InstanceNumber=2, **said)
    names = [write(tmp_path, f"c/{i}.dcm", as_file(data)) for i, data in enumerate((ranged, empty))]
    decoded = read_series(tmp_path, names, 16)
    np.testing.assert_array_equal(decoded.images[0], first)
    assert not decoded.images[1].any()
    (image,) = read_dicom(as_file(mr_slice(RAMP + np.uint16(257), PixelPaddingValue="")))  # up to 4095; says nothing
    assert image.padding is None


def test_what_is_left_out_is_kept_apart_from_what_is_broken(tmp_path: Path) -> None:
    names = [
        write(tmp_path, "good.dcm", as_file(mr_slice())),
        write(tmp_path, "wrong_ending.png", as_file(mr_slice(InstanceNumber=2))),
        write(tmp_path, "no_ending", as_file(mr_slice(InstanceNumber=3), meta=False)),
        write(tmp_path, "loc.dcm", as_file(mr_slice(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))),
        write(tmp_path, "ct.dcm", as_file(mr_slice(Modality="CT"))),
        write(tmp_path, "torn.dcm", as_file(mr_slice())[:-50]),
        write(tmp_path, "LICENSE", b"Data use policy"),
        write(tmp_path, "empty.dcm", b""),
        "gone.dcm",
    ]
    (tmp_path / "folder.dcm").mkdir()
    (tmp_path / "dangling.dcm").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.dcm")
    decoded = read_series(tmp_path, [*names, "folder.dcm", "dangling.dcm", "pipe.dcm"], 16)
    assert [record.file for record in decoded.records] == names[:3]
    assert decoded.left_out == [("loc.dcm", "localizer"), ("ct.dcm", "not MR (CT)")]
    reasons = dict(decoded.skipped)
    assert reasons.pop("torn.dcm").startswith("3790 bytes of pixel data, but")
    assert reasons == {
        "LICENSE": "not a DICOM file",
        "empty.dcm": "not a DICOM file",
        "gone.dcm": "it cannot be opened: No such file or directory",
        "folder.dcm": "a folder",
        "dangling.dcm": "it cannot be opened: No such file or directory",
        "pipe.dcm": "no regular file",
    }


def test_file_without_permission(tmp_path: Path) -> None:
    name = write(tmp_path, "closed.dcm", as_file(mr_slice()))
    (tmp_path / name).chmod(0)
    if os.access(tmp_path / name, os.R_OK):
        pytest.skip("this user may read everything")
    assert read_series(tmp_path, [name], 16).skipped == [(name, "it cannot be opened: Permission denied")]


def test_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "huge.dcm").open("wb") as file:
        file.truncate(2**30 + 2**20)  # takes no space on the disk
    for decoded in (read_series(tmp_path, ["huge.dcm"], 16), read_picture(tmp_path, "huge.dcm", 16)):
        assert decoded.skipped == [("huge.dcm", "1025 MiB, more than 300")]


def test_series_of_one_value_is_skipped(tmp_path: Path) -> None:
    flat = [
        write(tmp_path, f"{i}.dcm", as_file(mr_slice(np.full((8, 8), 7, np.uint16), InstanceNumber=i))) for i in (1, 2)
    ]
    good = write(tmp_path, "3.dcm", as_file(mr_slice(SeriesInstanceUID="1.9")))
    decoded = read_series(tmp_path, [*flat, good], 16)
    assert [record.file for record in decoded.records] == [good]
    reason = "the 1 and 99 % percentiles of its series have the same value"
    assert decoded.skipped == [(name, reason) for name in flat]


def test_slopes_beyond_all_numbers_are_skipped(tmp_path: Path) -> None:
    name = write(tmp_path, "1.dcm", as_file(mr_slice(RescaleSlope="1e39", RescaleIntercept="0")))
    assert [file for file, _ in read_series(tmp_path, [name], 16).skipped] == [name]
    assert [file for file, _ in read_picture(tmp_path, name, 16).skipped] == [name]


def test_no_files_and_travelling_to_a_worker(tmp_path: Path) -> None:
    decoded = pickle.loads(pickle.dumps(read_series))(tmp_path, [], 16)
    assert decoded.images.shape == (0, 16, 16)
    assert isinstance(pickle.loads(pickle.dumps(decoded)), Decoded)


@pytest.mark.parametrize("name", ["gray.png", "colour.jpg", "sixteen.png", "png_named.jpg"])
def test_picture_is_read_as_always(name: str, tmp_path: Path) -> None:
    gray = RAMP // 16
    images = {
        "gray.png": Image.fromarray(gray.astype(np.uint8)),
        "colour.jpg": Image.fromarray(np.dstack([gray, gray // 2, gray]).astype(np.uint8)),
        "sixteen.png": Image.fromarray(RAMP),
        "png_named.jpg": Image.fromarray(gray.astype(np.uint8)),
    }
    images[name].save(tmp_path / name, format="JPEG" if name == "colour.jpg" else "PNG")
    decoded = read_picture(tmp_path, name, 16)
    (record,) = decoded.records
    assert (record.file, record.patient, record.series, record.slice) == (name, "", "", 0)
    assert (record.height, record.width) == RAMP.shape
    assert np.array_equal(decoded.images[0], read_image(tmp_path / name, 16).astype(np.float16))


def test_picture_and_dicom_of_equal_pixels_have_one_digest(tmp_path: Path) -> None:
    gray = (RAMP // 16).astype(np.uint8)
    colour = np.dstack([gray] * 3)
    write(tmp_path, "ct.dcm", as_file(mr_slice(gray, Modality="CT")))
    write(tmp_path, "rgb.dcm", as_file(mr_slice(colour)))
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(colour).save(tmp_path / "rgb.png")
    decoded = [read_picture(tmp_path, name, 16) for name in ("ct.dcm", "rgb.dcm", "gray.png", "rgb.png")]
    assert len({d.records[0].pixels for d in decoded}) == 1
    assert decoded[0].records[0].patient == "HF0001"
    for d in decoded[1:]:
        np.testing.assert_array_equal(d.images, decoded[0].images)


def test_dicom_picture_of_many_frames(tmp_path: Path) -> None:
    write(tmp_path, "us.dcm", as_file(mr_slice(np.stack([RAMP, RAMP // 2]), Modality="US")))
    decoded = read_picture(tmp_path, "us.dcm", 16)
    assert [record.frame for record in decoded.records] == [0, 1]
    # Each by itself from 0 to 1.
    np.testing.assert_allclose(decoded.images[0], decoded.images[1], atol=2e-3)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture_is_skipped(content: bytes, tmp_path: Path) -> None:
    decoded = read_picture(tmp_path, write(tmp_path, "x.jpg", content), 16)
    ((name, reason),) = decoded.skipped
    assert name == "x.jpg"
    assert reason.startswith("cannot identify it as one of the kinds of image that are read")
    assert decoded.images.shape == (0, 16, 16)


def test_other_pages_are_said_to_be_left_out(tmp_path: Path) -> None:
    pages = [Image.fromarray((RAMP // (16 + i)).astype(np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "page.tiff")
    names = ["page.tiff", "pages.tiff"]
    decoded = read_pictures(tmp_path, names, 16)
    assert [record.file for record in decoded.records] == names
    assert np.array_equal(decoded.images[0], decoded.images[1])
    assert decoded.left_out == [("pages.tiff", "pages after the first")]
    # And so does `predict`, of a file and of a folder.
    for path in (tmp_path, tmp_path / "pages.tiff"):
        assert read_inputs(path, 16, by_series=False).skipped == [("pages.tiff", "pages after the first")]


def test_predict_reads_as_training_reads(tmp_path: Path) -> None:
    # What a file says of itself is asked in both: its orientation, padding, sign, and real numbers.
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray((RAMP // 16).astype(np.uint8)).save(tmp_path / "turned.png", exif=turned)
    Image.fromarray((RAMP // 16).astype(np.uint8).T[:, ::-1]).save(tmp_path / "upright.png")
    write(tmp_path, "padded.dcm", as_file(mr_slice(PixelPaddingValue=int(RAMP.max()))))
    absent = dict.fromkeys(("BitsStored", "HighBit", "PixelRepresentation", "PixelData"))
    real = mr_slice(**absent, BitsAllocated=32, FloatPixelData=RAMP.astype(np.float32).tobytes())
    write(tmp_path, "real.dcm", as_file(real))
    names = ["padded.dcm", "real.dcm", "turned.png", "upright.png"]
    trained = read_pictures(tmp_path, names, 16)
    predicted = read_inputs(tmp_path, 16, by_series=False)
    assert predicted.names == [record.file for record in trained.records] == names
    assert np.array_equal(predicted.images, trained.images)
    assert np.array_equal(trained.images[2], trained.images[3])
    for name in names[:2]:
        series = read_inputs(tmp_path / name, 16, by_series=True)
        assert np.array_equal(series.images, read_series(tmp_path, names, 16).images[[names.index(name)]])


def test_jpeg_of_endless_scans_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray((RAMP // 16).astype(np.uint8)).save(tmp_path / "many.jpg", progressive=True)
    assert read_picture(tmp_path, "many.jpg", 16).records
    monkeypatch.setattr(reading, "MAX_SCANS", 2)
    assert read_picture(tmp_path, "many.jpg", 16).skipped == [("many.jpg", "more than 2 JPEG scans")]
