"""Every DICOM file is read as pydicom and the standard say, or is refused with a reason that can be counted."""

import struct
import sys
import warnings
import zlib
from copy import deepcopy
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, as_file, encapsulated, group, mr_slice
from plain_words import is_plain
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from hqcnn_lab.data.decode import dicom, dicom_elements, dicom_streams, dicom_walk
from hqcnn_lab.data.decode.dicom import LeftOut, read_dicom
from hqcnn_lab.data.decode.dicom_elements import is_dicom
from hqcnn_lab.data.decode.reading import UnreadableImage

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
needs_codecs = pytest.mark.skipif(not find_spec("imagecodecs"), reason="the extra `jpeg` is not installed")


def pixels(content: bytes, any_modality: bool = False) -> np.ndarray:
    (image,) = read_dicom(content, any_modality)
    return image.pixels


def own_files() -> list[Path]:
    """All that pydicom brings along: also of every character set, and of DICOM directories, which have no endings."""
    files = [path for path in SHIPPED.parent.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    return sorted(path for path in files if path.suffix == ".dcm" or is_dicom(path.read_bytes()[:132]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", own_files(), ids=lambda path: path.name)
def test_pydicoms_own_files_are_read_as_pydicom_reads_them(path: Path) -> None:
    content = path.read_bytes()
    assert is_dicom(content[:132]) or path.name == "no_meta.dcm"  # its first element stands one byte late
    try:
        images, reason = [image.pixels for image in read_dicom(content, any_modality=True)], ""
    except UnreadableImage as error:
        images, reason = [], str(error)
    assert "damaged" not in reason  # each is understood
    assert not reason or is_plain(reason), reason
    if "needs a decoder" in reason:
        return
    try:
        ds = pydicom.dcmread(path, force=True)
        expected = pixel_array(ds)
    except Exception:  # without pixels, damaged, or a compression that pydicom lacks a decoder for
        return
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        expected = apply_color_lut(expected, ds)
    elif ds.SamplesPerPixel == 1:
        expected = apply_modality_lut(expected, ds)
        if ds.get("WindowWidth"):
            center, width = (np.ravel(ds[name].value)[0] for name in ("WindowCenter", "WindowWidth"))
            expected = np.clip(expected, center - width / 2, center + width / 2 - 1)
        if ds.PhotometricInterpretation == "MONOCHROME1":
            expected = -expected.astype(float)
    frames = expected.reshape(-1, ds.Rows, ds.Columns, *([3] if expected.shape[-1] == 3 else []))
    assert len(images) == len(frames)
    for image, frame in zip(images, frames, strict=True):
        gray = frame @ [0.299, 0.587, 0.114] if frame.ndim == 3 else frame
        np.testing.assert_allclose(image, gray, rtol=1e-6, atol=2 if frame.ndim == 3 else 1e-4)


PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", PLAIN)
@pytest.mark.parametrize("kind", ["u2", "i2", "u1", "u4"])
def test_every_plain_syntax_and_depth(syntax: str, kind: str) -> None:
    expected = (RAMP % 200 - (100 if kind == "i2" else 0)).astype(kind)
    data = mr_slice(expected)
    if syntax == ExplicitVRBigEndian:
        swapped = expected.astype(">" + kind) if kind != "u1" else expected
        data.PixelData = swapped.tobytes()
    assert np.array_equal(pixels(as_file(data, syntax)), expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_file_without_preamble(syntax: str) -> None:
    content = as_file(mr_slice(), syntax, meta=False)
    assert content[128:132] != b"DICM"
    assert is_dicom(content[:132])
    assert np.array_equal(pixels(content), RAMP)


@pytest.mark.parametrize("head", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM", b"GIF89a", b""])
def test_pictures_are_not_taken_for_dicom(head: bytes) -> None:
    assert not is_dicom(head + bytes(128))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_on_the_way_are_stepped_over(syntax: str, undefined: bool) -> None:
    # Values of nested elements must not be taken for the file's own.
    inner = group(PatientID="inner", ReferencedImageSequence=[group(PatientID="innermost")])
    data = mr_slice(ReferencedStudySequence=[inner, inner], RequestAttributesSequence=[])
    for sequence in (data["ReferencedStudySequence"], inner["ReferencedImageSequence"]):
        sequence.is_undefined_length = undefined
        for item in sequence.value:
            item.is_undefined_length_sequence_item = undefined
    (image,) = read_dicom(as_file(data, syntax))
    assert image.patient == "HF0001"
    assert np.array_equal(image.pixels, RAMP)


def test_walk_finds_the_elements_that_pydicom_finds() -> None:
    contents = [path.read_bytes() for path in sorted(SHIPPED.glob("*.dcm"))]
    windowed = mr_slice(WindowCenter=[600, 40], WindowWidth=[1200, 80], RescaleSlope="1.5")
    contents += [as_file(deepcopy(data), kind) for data in (windowed, enhanced()) for kind in PLAIN]
    n_elements = 0
    for content in contents:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = expected_elements(pydicom.dcmread(BytesIO(content), force=True))
        if is_dicom(content[:132]):
            raw = dicom_elements.read_elements(content).raw
            assert {name: value for name, value in raw.items() if name not in NOT_COMPARED} == expected
        n_elements += len(expected)
    assert n_elements > 1000


NOT_COMPARED = ("PixelData", "Encapsulated", "InWords", "SpecificCharacterSet")  # which pydicom has decoded already


def expected_elements(dataset: pydicom.Dataset) -> dict:
    """By pydicom, in the form of our walk."""
    expected = {}
    for tag, name in dicom_walk._NAMES.items():
        if tag in dataset and name not in NOT_COMPARED:
            if name in dicom_walk.SEQUENCES:
                items = [expected_elements(item) for item in dataset[tag].value]
                expected[name] = items if name.startswith("PerFrame") else items[:1]
            else:
                expected[name] = dataset.get_item(tag).value or b""
    return expected


def test_identity_and_place() -> None:
    # An oblique plane: its normal is (0, -0.6, 0.8), so the position is 0.6·20 + 0.8·30.
    data = mr_slice(ImagePositionPatient=[5, -20, 30], ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6], InstanceNumber=7)
    (image,) = read_dicom(as_file(data))
    assert (image.patient, image.study, image.series, image.instance) == ("HF0001", "1.2.3", "1.2.3.4", 7)
    assert image.position == pytest.approx(36)
    data.ImagePositionPatient = None
    data.SliceLocation = "-3.5"
    assert read_dicom(as_file(data))[0].position == -3.5
    del data.SliceLocation
    assert read_dicom(as_file(data))[0].position == 7
    del data.InstanceNumber, data.PatientID, data.SeriesInstanceUID
    (image,) = read_dicom(as_file(data))
    assert (image.position, image.patient, image.series) == (0, "", "")


def test_patient_in_another_character_set() -> None:
    data = mr_slice(SpecificCharacterSet="ISO_IR 144", PatientID="Ж-7")
    assert read_dicom(as_file(data))[0].patient == "Ж-7"
    data = mr_slice(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientID="山田-7")  # in bytes that are ASCII too
    assert read_dicom(as_file(data))[0].patient == "山田-7"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"RescaleSlope": "2.5", "RescaleIntercept": "-7"}, RAMP * 2.5 - 7),
        ({"RescaleSlope": "0", "RescaleIntercept": "-7"}, RAMP),
        ({"WindowCenter": 1000, "WindowWidth": 400}, np.clip(RAMP, 800, 1199)),
        ({"WindowCenter": [1000, 40], "WindowWidth": [400, 80]}, np.clip(RAMP, 800, 1199)),
        ({"WindowCenter": 1000, "WindowWidth": 401}, np.clip(RAMP.astype(float), 799.5, 1199.5)),
        ({"WindowCenter": 1000, "WindowWidth": 401, "VOILUTFunction": "LINEAR_EXACT"}, np.clip(RAMP, 799.5, 1200.5)),
        (
            {"WindowCenter": 1000, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"},
            800 + 400 / (1 + np.exp(-4 * (RAMP - 1000.0) / 400)),
        ),
        (
            {"WindowCenter": 1000, "WindowWidth": 400, "RescaleSlope": "0.5", "RescaleIntercept": "10"},
            np.clip(RAMP * 0.5 + 10, 800, 1199),
        ),
        ({"WindowCenter": 1000, "WindowWidth": 0.5}, RAMP),
        ({"WindowCenter": 1000, "WindowWidth": 1}, RAMP),
        ({"WindowCenter": 1000, "WindowWidth": -400}, RAMP),
        ({"WindowCenter": 90000, "WindowWidth": 400}, RAMP),
        ({"WindowCenter": 1000}, RAMP),
        ({"PhotometricInterpretation": "MONOCHROME1"}, -RAMP.astype(int)),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 1000, "WindowWidth": 400},
            -np.clip(RAMP.astype(int), 800, 1199),
        ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_modality_and_window(values: dict, expected: np.ndarray) -> None:
    np.testing.assert_allclose(pixels(as_file(mr_slice(**values))), expected, rtol=2e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_lookup_tables(syntax: str) -> None:
    table = np.arange(2000, dtype=np.uint16)[::-1] * 3
    lut = group(LUTDescriptor=[2000, 1000, 16], LUTData=table.tobytes())
    lut["LUTData"].VR = "OW"
    expected = table[np.clip(RAMP.astype(int) - 1000, 0, 1999)]
    modality = mr_slice(ModalityLUTSequence=[lut], WindowCenter=1000, WindowWidth=400)
    assert np.array_equal(pixels(as_file(modality, syntax)), np.clip(expected, 800, 1199))
    lut.LUTDescriptor = [3000, 1000, 16]  # more entries than there are
    with pytest.raises(UnreadableImage, match="its modality lookup table is damaged"):
        read_dicom(as_file(mr_slice(ModalityLUTSequence=[lut]), syntax))
    lut.LUTDescriptor = [2000, 1000, 16]
    # A VOI LUT goes before a window.
    voi = mr_slice(VOILUTSequence=[lut], WindowCenter=1000, WindowWidth=400)
    assert np.array_equal(pixels(as_file(voi, syntax)), expected)


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_real_pixels(name: str, syntax: str) -> None:
    expected = (RAMP / 3000).astype("f4" if name == "FloatPixelData" else "f8")
    absent = dict.fromkeys(("BitsStored", "HighBit", "PixelRepresentation", "PixelData"))
    data = mr_slice(**absent, BitsAllocated=expected.itemsize * 8, **{name: expected.tobytes()})
    (image,) = read_dicom(as_file(data, syntax))
    np.testing.assert_allclose(image.pixels, expected)
    assert image.mode.endswith("float")
    data.WindowCenter, data.WindowWidth = 0.5, 1  # narrower than of integers, and so no window
    assert read_dicom(as_file(data, syntax))[0].pixels.max() > 1.2
    expected[0, 0] = np.nan
    setattr(data, name, expected.tobytes())
    with pytest.raises(UnreadableImage, match="not a finite number"):
        read_dicom(as_file(data, syntax))


def test_white_is_low_where_a_file_says_so_in_either_way_or_both() -> None:
    for values in ({"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}):
        assert np.array_equal(pixels(as_file(mr_slice(**values))), -RAMP.astype(int))
    both = mr_slice(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert np.array_equal(pixels(as_file(both)), -RAMP.astype(int))
    assert np.array_equal(pixels(as_file(mr_slice(PresentationLUTShape="IDENTITY"))), RAMP)


def test_numbers_with_a_comma_and_numbers_that_are_none() -> None:
    # Regression guard: a slope of "1,5" was left away without a word, so that slices of a series were on two scales.
    content = as_file(mr_slice(RescaleSlope="1.5", RescaleIntercept="-7"))
    comma = content.replace(b"1.5 ", b"1,5 ")
    assert comma != content
    np.testing.assert_allclose(pixels(comma), RAMP * 1.5 - 7)
    with pytest.raises(UnreadableImage, match="its rescale slope or intercept is no number"):
        read_dicom(content.replace(b"1.5 ", b"high"))


def test_undecodable_patients_stay_apart() -> None:
    content = as_file(mr_slice(SpecificCharacterSet="ISO_IR 192", PatientID="abcd"))
    ids = [b"\xff\xfea\x80", b"\xff\xfea\x81", b"abcd"]
    patients = {read_dicom(content.replace(b"abcd", patient))[0].patient for patient in ids}
    assert len(patients) == 3


def test_bits_that_hold_no_pixel_are_cleared() -> None:
    overlay = (RAMP | 0xF000).astype(np.uint16)
    assert np.array_equal(pixels(as_file(mr_slice(overlay))), RAMP)
    signed = (RAMP.astype(np.int16) - 1900).astype(np.int16)
    unextended = (signed.view(np.uint16) & 0x0FFF).view(np.int16)
    assert np.array_equal(pixels(as_file(mr_slice(unextended))), signed)
    high = (RAMP << 4 | 5).astype(np.uint16)
    assert np.array_equal(pixels(as_file(mr_slice(high, HighBit=15))), RAMP)


def test_colour_becomes_luminance() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    expected = rgb @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(pixels(as_file(mr_slice(rgb))), expected, atol=0.51)
    planes = mr_slice(rgb, PlanarConfiguration=1, PixelData=np.moveaxis(rgb, -1, 0).tobytes())
    np.testing.assert_allclose(pixels(as_file(planes)), expected, atol=0.51)
    ybr = mr_slice(rgb, PhotometricInterpretation="YBR_FULL")
    assert np.array_equal(pixels(as_file(ybr)), rgb[..., 0])


def enhanced(n_frames: int = 3) -> pydicom.Dataset:
    stack = np.stack([RAMP // (i + 1) for i in range(n_frames)])
    own = [
        group(
            PlanePositionSequence=[group(ImagePositionPatient=[0, 0, 30 - 10 * i])],
            PixelValueTransformationSequence=[group(RescaleSlope=i + 1, RescaleIntercept=5, RescaleType="US")],
        )
        for i in range(n_frames)
    ]
    shared = group(
        PlaneOrientationSequence=[group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        FrameVOILUTSequence=[group(WindowCenter=1000, WindowWidth=400)],
    )
    return mr_slice(
        stack,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=own,
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_functional_groups_of_enhanced_mr(syntax: str) -> None:
    images = read_dicom(as_file(enhanced(), syntax))
    assert [image.frame for image in images] == [0, 1, 2]
    assert [image.position for image in images] == [30, 20, 10]
    for i, image in enumerate(images):
        np.testing.assert_allclose(image.pixels, np.clip(RAMP // (i + 1) * (i + 1) + 5, 800, 1199))


def test_frames_without_positions_keep_their_order() -> None:
    data = mr_slice(np.stack([RAMP, RAMP, RAMP]), ImagePositionPatient=None, InstanceNumber=4)
    assert [image.position for image in read_dicom(as_file(data))] == [4, 5, 6]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"]}, "localizer"),
        ({"SeriesDescription": "3-PLANE LOC"}, "localizer"),
        ({"SeriesDescription": "3 Plane Localizer"}, "localizer"),
        ({"SeriesDescription": "AAHScout_32ch"}, "localizer"),
        ({"SeriesDescription": "Survey_SHC"}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER"]}, "derived image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PROJECTION IMAGE"]}, "derived image"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "derived image"),
        ({"ImageType": ["DERIVED", "PRIMARY", "M", "SUBTRACTION"]}, "derived image"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MIP"]}, "derived image"),
        ({"Modality": "CT"}, "not MR (CT)"),
        ({"Modality": "Who^Knows"}, "not MR (unknown)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4", "Modality": "OT"}, "secondary capture"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_is_no_diagnostic_slice_is_left_out(values: dict, reason: str) -> None:
    content = as_file(mr_slice(**values))
    with pytest.raises(LeftOut) as error:
        read_dicom(content)
    assert str(error.value) == reason
    assert np.array_equal(pixels(content, any_modality=True), RAMP)


@pytest.mark.parametrize(
    "values",
    [
        {"ImageType": ["DERIVED", "PRIMARY"]},  # filtered, corrected for distortion, compressed with loss
        {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]},
        {"ImageType": None, "SeriesDescription": "Block T2 allocation"},
        {"Modality": None},  # its class says that it is MR
    ],
)
def test_what_only_looks_odd_is_kept(values: dict) -> None:
    assert np.array_equal(pixels(as_file(mr_slice(**values))), RAMP)


def test_without_pixels() -> None:
    report = group(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SOPInstanceUID="1.2", Modality="SR")
    for any_modality in (False, True):
        with pytest.raises(LeftOut, match=r"^no pixel data \(SR\)$"):
            read_dicom(as_file(report), any_modality)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_cut_off_files_are_not_filled_up(syntax: str) -> None:
    content = as_file(mr_slice(), syntax)
    with pytest.raises(UnreadableImage, match="3740 bytes of pixel data, but 1 × 40 × 48 pixels take 3840"):
        read_dicom(content[:-100])
    with pytest.raises(UnreadableImage, match="holds no pixels, though it speaks of an image"):
        read_dicom(content[: -RAMP.nbytes - 12])


@pytest.mark.parametrize("values", [{"Rows": 80}, {"Columns": 96}, {"Columns": 24}, {"NumberOfFrames": 2}])
def test_dimensions_that_disagree_with_the_pixels(values: dict) -> None:
    with pytest.raises(UnreadableImage, match="bytes of pixel data, but"):
        read_dicom(as_file(mr_slice(**values)))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "65535×65535 pixels, more than"),
        ({"NumberOfFrames": 2**31 - 1}, "2147483647 frames, more than"),
        ({"Rows": 4096, "Columns": 4096, "NumberOfFrames": 1000}, "more than 256 MiB"),
        ({"Rows": 0}, "how many rows and columns"),
        ({"BitsAllocated": 64}, "are not supported"),
        ({"BitsStored": 17}, "17 bits stored"),
        ({"NumberOfFrames": -1}, "its number of frames makes no sense"),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_absurd_sizes_are_refused_before_decoding(values: dict, reason: str, syntax: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        read_dicom(
            encapsulated([b"\0" * 64], syntax, **values) if syntax == RLELossless else as_file(mr_slice(**values))
        )


def test_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_elements, "MAX_DECODED", 2**24)
    whole = as_file(mr_slice(), DeflatedExplicitVRLittleEndian)
    _, start = dicom_elements._file_meta(whole)
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
    bomb = b"".join(deflater.compress(bytes(2**20)) for _ in range(18)) + deflater.flush()
    assert len(bomb) < 2**17
    for head in (whole[:start], whole[132:start]):  # without its preamble too
        with pytest.raises(UnreadableImage, match="inflates to more than 16 MiB"):
            read_dicom(head + bomb)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2"])
def test_rle(kind: str) -> None:
    expected = (RAMP // 20 - (50 if kind == "i2" else 0)).astype(kind)
    expected[5:20] = 7  # runs
    data = pydicom.dcmread(BytesIO(as_file(mr_slice(np.stack([expected, expected[::-1]])))))
    data.compress(RLELossless)
    images = read_dicom(as_file(data, RLELossless))
    assert np.array_equal(images[0].pixels, expected)
    assert np.array_equal(images[1].pixels, expected[::-1])


def test_rle_bomb_and_gaps() -> None:
    header = struct.pack("<16I", 2, 64, 64 + 2_000_000, *[0] * 13)
    bomb = header + b"\x81\x00" * 2_000_000
    assert pixels(encapsulated([bomb], RLELossless)).max() == 0  # unpacked as far as there are pixels
    with pytest.raises(UnreadableImage, match="an RLE segment holds 0 bytes of 1920"):
        read_dicom(encapsulated([header], RLELossless))
    with pytest.raises(UnreadableImage, match="pixel data of 1 frames, not of 2"):
        read_dicom(encapsulated([bomb], RLELossless, NumberOfFrames=2))


CODED = {JPEGLossless: "JPEG Lossless", JPEGLosslessSV1: "JPEG Lossless", JPEGExtended12Bit: "JPEG Extended"} | {
    JPEGBaseline8Bit: "JPEG Baseline",
    JPEGLSLossless: "JPEG-LS Lossless",
    JPEG2000Lossless: "JPEG 2000 Lossless",
}


@pytest.mark.parametrize("syntax", CODED)
def test_missing_decoder_is_named(syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)  # as if it were not there
    with pytest.raises(UnreadableImage, match=rf'^{CODED[syntax]}.* needs a decoder: pip install "hqcnn-lab\[jpeg\]"'):
        read_dicom(encapsulated([b"\xff\xd8\xff\xd9"], syntax))


def test_syntax_that_nobody_decodes() -> None:
    with pytest.raises(UnreadableImage, match=r"^MPEG2 .* is not supported"):
        read_dicom(encapsulated([b"\0\0"], "1.2.840.10008.1.2.4.100"))
    with pytest.raises(UnreadableImage, match=r"^its transfer syntax is not supported"):
        read_dicom(encapsulated([b"\0\0"], "1.2.840.10008.1.2.4.100").replace(b"1.2.4.100", b"1.2.4.999"))


def stream(syntax: str, image: np.ndarray) -> bytes:
    import imagecodecs

    if syntax in (JPEGLossless, JPEGLosslessSV1):
        predictor = 1 if syntax == JPEGLosslessSV1 else 4
        return imagecodecs.jpeg8_encode(image, lossless=True, predictor=predictor, bitspersample=12)
    if syntax == JPEGExtended12Bit:
        return imagecodecs.jpeg8_encode(image, level=100, bitspersample=12)
    if syntax == JPEGBaseline8Bit:
        return imagecodecs.jpeg8_encode((image // 16).astype(np.uint8), level=100)
    if syntax == JPEGLSLossless:
        return imagecodecs.jpegls_encode(image)
    return imagecodecs.jpeg2k_encode(image, level=0, codecformat="j2k", bitspersample=12)


@needs_codecs
@pytest.mark.parametrize("syntax", CODED)
def test_jpeg_family(syntax: str) -> None:
    image = (RAMP // 16).astype(np.uint8) if syntax == JPEGBaseline8Bit else RAMP
    lossy = syntax in (JPEGBaseline8Bit, JPEGExtended12Bit)
    content = encapsulated([stream(syntax, RAMP)], syntax, image)
    np.testing.assert_allclose(pixels(content), image, atol=3 if lossy else 0)
    # In truth other dimensions: refused before anything is decoded.
    larger = stream(syntax, np.tile(RAMP, (2, 2)))
    with pytest.raises(UnreadableImage, match=r"stream holds 96×80 pixels .* not 48×40"):
        read_dicom(encapsulated([larger], syntax, image))
    with pytest.raises(UnreadableImage, match="cut off"):
        read_dicom(encapsulated([stream(syntax, RAMP)[:-60]], syntax, image))
    with pytest.raises(UnreadableImage):
        read_dicom(encapsulated([b"no stream at all\xff\xd9"], syntax, image))


@needs_codecs
def test_sign_of_an_encoded_slice_is_extended() -> None:
    signed = (RAMP.astype(np.int16) - 1900).astype(np.int16)
    coded = stream(JPEGLosslessSV1, signed.view(np.uint16) & 0x0FFF)
    assert np.array_equal(pixels(encapsulated([coded], JPEGLosslessSV1, signed)), signed)


def test_jpeg_of_endless_scans_is_refused() -> None:
    progressive = b"\xff\xd8\xff\xc2" + struct.pack(">HBHHB", 11, 8, 40, 48, 1) + b"\xff\xd9"
    with pytest.raises(UnreadableImage, match="not a JPEG stream as DICOM knows it"):
        dicom_streams._jpeg_header(progressive, False)
    tiles = b"\xff\x4f\xff\x51" + struct.pack(">HH8IHB", 41, 0, 40, 48, 0, 0, 1, 1, 0, 0, 1, 11)
    with pytest.raises(UnreadableImage, match="JPEG 2000 tiles"):
        dicom_streams._jpeg2000_header(tiles.replace(struct.pack(">II", 40, 48), struct.pack(">II", 4000, 4800)))


def test_nothing_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("MR_truncated.dcm", "badVR.dcm", "no_meta.dcm", "rtplan_truncated.dcm", "emri_small.dcm"):
            if (SHIPPED / name).exists():
                with pytest.raises(UnreadableImage):
                    read_dicom((SHIPPED / name).read_bytes(), any_modality=True)
    assert capfd.readouterr() == ("", "")


def test_reasons_name_no_patient() -> None:
    data = mr_slice(PatientID="HF1702", PatientName="Secret^Name")
    content = as_file(data)
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content[: -RAMP.nbytes] + bytes(50))
        for at in rng.integers(132, len(damaged), 3):
            damaged[at] = rng.integers(256)
        with pytest.raises(UnreadableImage) as error:
            read_dicom(bytes(damaged))
        assert "HF1702" not in str(error.value)
        assert "Secret" not in str(error.value)


def test_equal_pixels_have_one_digest() -> None:
    small = RAMP[:4] // 2
    digests = {dicom.pixel_digest(small.astype(kind)) for kind in ("u1", "u2", "i2", "u4", ">u2")}
    assert len(digests) == 1
    different = [
        small.T,
        small.reshape(8, -1),
        small + 1,
        np.where(small == 3, 70000, small.astype(int)),
        -small.astype(int),
    ]
    assert len(digests | {dicom.pixel_digest(image) for image in different}) == 6
