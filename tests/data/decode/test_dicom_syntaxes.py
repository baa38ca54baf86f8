"""Every way to store pixels gives the same pixels: plain or compressed, signed or not, of whatever depth."""

from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pydicom
import pytest
from conftest import SHARED
from dicom_files import as_file, encapsulated, mr_slice
from PIL import Image
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from hqcnn_lab.data.decode.dicom import read_dicom
from hqcnn_lab.data.decode.dicom_pixels import ENCAPSULATED
from hqcnn_lab.data.decode.reading import UnreadableImage

needs_codecs = pytest.mark.skipif(not find_spec("imagecodecs"), reason="the extra `jpeg` is not installed")
PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
CODECS = {
    JPEGLossless: lambda image, bits: jpeg_lossless(image, bits, predictor=4),
    JPEGLosslessSV1: lambda image, bits: jpeg_lossless(image, bits, predictor=1),
    JPEGLSLossless: lambda image, bits: codecs().jpegls_encode(image),
    JPEG2000Lossless: lambda image, bits: codecs().jpeg2k_encode(
        image, level=0, codecformat="j2k", bitspersample=bits, mct=False
    ),
    HTJ2KLossless: lambda image, bits: codecs().htj2k_encode(image, reversible=True),
}
CODECS[HTJ2KLosslessRPCL] = CODECS[HTJ2K] = CODECS[HTJ2KLossless]
CODECS[JPEGLSNearLossless] = CODECS[JPEGLSLossless]  # of which no loss is one case


def codecs():
    import imagecodecs

    return imagecodecs


def jpeg_lossless(image: np.ndarray, bits: int, predictor: int) -> bytes:
    image = image.astype("u1" if bits <= 8 else "u2")
    return codecs().jpeg8_encode(image, lossless=True, predictor=predictor, bitspersample=bits)


def values(allocated: int, stored: int, signed: bool, shape: tuple[int, ...] = (17, 23)) -> np.ndarray:
    """Every kind of value that the bits stored can hold, both ends included."""
    low = -(2 ** (stored - 1)) if signed else 0
    picked = np.random.default_rng(stored).integers(low, low + 2**stored, shape)
    picked.flat[:3] = low, low + 2**stored - 1, 0
    return picked.astype(f"{'i' if signed else 'u'}{allocated // 8}")


def words(pixels: np.ndarray, stored: int, high: int, noise: bool) -> np.ndarray:
    """Pixels as they are stored: at their place in the word, beside bits that mean nothing."""
    unsigned = pixels.astype(f"u{pixels.dtype.itemsize}")
    shift = high + 1 - stored
    kept = (unsigned & (2**stored - 1)) << shift
    others = np.random.default_rng(1).integers(0, 2 ** (pixels.itemsize * 8), pixels.shape).astype(unsigned.dtype)
    return (kept | (others & ~np.array((2**stored - 1) << shift, unsigned.dtype))) if noise else kept


def native(pixels: np.ndarray, syntax: str, stored: np.ndarray, **claims: int) -> bytes:
    big = syntax == ExplicitVRBigEndian and stored.itemsize > 1
    data = stored.astype(stored.dtype.newbyteorder(">")) if big else stored
    return as_file(mr_slice(pixels, PixelData=data.tobytes() + b"\0" * (data.nbytes % 2), **claims), syntax)


def claims_of(stored: int, high: int, signed: bool) -> dict[str, int]:
    return {"BitsStored": stored, "HighBit": high, "PixelRepresentation": int(signed)}


def read(content: bytes) -> np.ndarray:
    (image,) = read_dicom(content)
    return image.pixels


DEPTHS = [(8, 8), (8, 6), (16, 8), (16, 10), (16, 12), (16, 13), (16, 16)]
cases = pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
depths = pytest.mark.parametrize(("allocated", "stored"), DEPTHS, ids=lambda bits: str(bits))


@cases
@depths
@pytest.mark.parametrize("syntax", PLAIN)
def test_plain_syntaxes(syntax: str, allocated: int, stored: int, signed: bool) -> None:
    expected = values(allocated, stored, signed)
    for high in {stored - 1, allocated - 1}:
        for noise in (False, True):
            content = native(expected, syntax, words(expected, stored, high, noise), **claims_of(stored, high, signed))
            assert np.array_equal(read(content), expected), (high, noise)


@cases
@depths
def test_uncompressed_by_the_frame_and_rle(allocated: int, stored: int, signed: bool) -> None:
    expected = values(allocated, stored, signed)
    for high in {stored - 1, allocated - 1}:
        claims = claims_of(stored, high, signed)
        noisy = words(expected, stored, high, noise=True)
        frame = noisy.tobytes() + b"\0" * (noisy.nbytes % 2)
        content = encapsulated([frame], ENCAPSULATED, expected, **claims)
        assert np.array_equal(read(content), expected)
        whole = claims_of(allocated, allocated - 1, signed)  # or pydicom packs one byte of two, and calls them two
        packed = pydicom.dcmread(BytesIO(native(expected, ExplicitVRLittleEndian, noisy, **whole)))
        packed.compress(RLELossless)
        for name, value in claims.items():
            setattr(packed, name, value)
        assert np.array_equal(read(as_file(packed, RLELossless)), expected)


@needs_codecs
@cases
@depths
@pytest.mark.parametrize("syntax", CODECS, ids=lambda syntax: syntax.rpartition(".")[2])
def test_compressed_syntaxes(syntax: str, allocated: int, stored: int, signed: bool) -> None:
    # Regression guard: of a stream of 16 bits, whatever its file stored, the 16th was taken for the sign.
    expected = values(allocated, stored, signed)
    claims = claims_of(stored, stored - 1, signed)
    bare = words(expected, stored, stored - 1, noise=False)
    streams = {
        "whole words": CODECS[syntax](bare, allocated),
        "sign extended": CODECS[syntax](expected.view(bare.dtype), allocated),
        "bits stored alone": CODECS[syntax](bare, stored),
        "left aligned": CODECS[syntax](words(expected, stored, allocated - 1, noise=False), allocated),
    }
    for name, stream in streams.items():
        if name == "left aligned":
            claims["HighBit"] = allocated - 1
        assert np.array_equal(read(encapsulated([stream], syntax, expected, **claims)), expected), name


@needs_codecs
@cases
@pytest.mark.parametrize("stored", [8, 12, 16])
def test_signed_jpeg_2000_streams(stored: int, signed: bool) -> None:
    # Some encoders say in the stream too that it is signed; some say the opposite of the file.
    expected = values(16, stored, signed)
    stream = codecs().jpeg2k_encode(words(expected, stored, stored - 1, False).view("i2"), level=0, codecformat="j2k")
    content = encapsulated([stream], JPEG2000Lossless, expected, **claims_of(stored, stored - 1, signed))
    assert np.array_equal(read(content), expected)


@needs_codecs
def test_jpeg_2000_of_tiny_precincts_is_refused() -> None:
    # Regression guard: of 2048×2048 pixels, a precinct for each took more than two GiB.
    image = np.zeros((2048, 2048), np.uint8)
    stream = codecs().jpeg2k_encode(image, level=0, codecformat="j2k", resolutions=1)
    at = stream.find(b"\xff\x52")
    n = int.from_bytes(stream[at + 2 : at + 4], "big")

    def with_precincts(power: int) -> bytes:
        style = bytes([stream[at + 4] | 1]) + stream[at + 5 : at + 2 + n] + bytes([power << 4 | power])
        return stream[:at] + b"\xff\x52" + (n + 1).to_bytes(2, "big") + style + stream[at + 2 + n :]

    with pytest.raises(UnreadableImage, match="more than 131072 JPEG 2000 precincts"):
        read(encapsulated([with_precincts(0)], JPEG2000Lossless, image))
    assert np.array_equal(read(encapsulated([with_precincts(15)], JPEG2000Lossless, image)), image)


@needs_codecs
def test_lossy_streams_do_not_wrap_around() -> None:
    # White of 12 bits, compressed as 16 with loss, comes out a little above all that 12 bits hold: it is not black.
    white = np.where(np.indices((64, 64)).sum(0) % 16 < 8, 4095, 0).astype(np.uint16)
    stream = codecs().jpeg2k_encode(white, level=45, codecformat="j2k", reversible=False)
    assert codecs().jpeg2k_decode(stream).max() > 4095
    pixels = read(encapsulated([stream], "1.2.840.10008.1.2.4.91", white))
    assert np.array_equal(pixels > 2048, white > 2048)


def colours() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices((32, 48))
    rgb = np.dstack([x * 5, y * 7, (x + y) * 3]).astype(np.uint8)
    return rgb, np.asarray(Image.fromarray(rgb).convert("YCbCr"))


PLAINLY = {  # what holds the colours as they are given
    JPEGLossless: lambda image: jpeg_lossless(image, 8, predictor=4),
    JPEGLosslessSV1: lambda image: jpeg_lossless(image, 8, predictor=1),
    JPEGLSLossless: lambda image: codecs().jpegls_encode(image),
    JPEG2000Lossless: lambda image: codecs().jpeg2k_encode(image, level=0, codecformat="j2k", mct=False),
    HTJ2KLossless: lambda image: codecs().htj2k_encode(image, reversible=True, rgb=False),
}
BY_THE_STREAM = {  # what makes other colours of them, and says so in the stream
    ("YBR_RCT", JPEG2000Lossless): lambda rgb: codecs().jpeg2k_encode(rgb, level=0, codecformat="j2k"),
    ("RGB", JPEG2000Lossless): lambda rgb: codecs().jpeg2k_encode(rgb, level=0, codecformat="j2k"),
    ("YBR_RCT", HTJ2KLossless): lambda rgb: codecs().htj2k_encode(rgb, reversible=True, rgb=True),
    ("YBR_FULL_422", JPEGBaseline8Bit): lambda rgb: codecs().jpeg8_encode(rgb, level=100),
    ("RGB", JPEGBaseline8Bit): lambda rgb: codecs().jpeg8_encode(rgb, level=100),  # falsely: it is JFIF, so YCbCr
}
IDS = "{0[0]}-{0[1]}"


@needs_codecs
@pytest.mark.parametrize("said", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("syntax", PLAINLY, ids=lambda syntax: syntax.rpartition(".")[2])
def test_colours_that_a_stream_holds_as_they_are(syntax: str, said: str) -> None:
    # Regression guard: of a lossless JPEG of YCbCr, the colours were taken for red, green and blue.
    rgb, ycc = colours()
    stream = PLAINLY[syntax](rgb if said == "RGB" else ycc)
    found = read(encapsulated([stream], syntax, rgb, PhotometricInterpretation=said))
    np.testing.assert_allclose(found, rgb @ [0.299, 0.587, 0.114], atol=1)


@needs_codecs
@pytest.mark.parametrize("case", BY_THE_STREAM, ids=IDS.format)
def test_colours_that_a_stream_changes(case: tuple[str, str]) -> None:
    # Regression guard: of a JFIF stream in a file that says RGB, its luminance was taken for red.
    rgb, _ = colours()
    found = read(encapsulated([BY_THE_STREAM[case](rgb)], case[1], rgb, PhotometricInterpretation=case[0]))
    np.testing.assert_allclose(found, rgb @ [0.299, 0.587, 0.114], atol=2)


@needs_codecs
def test_shared_files() -> None:
    folder = SHARED.parent / "cases" / "dicom"
    if not folder.is_dir():
        pytest.skip("the cases are not on this machine")
    found = {path.stem: read(path.read_bytes()) for path in folder.glob("*.dcm")}
    assert np.array_equal(found["signed_12_bit_jpegls"], found["signed_12_bit_plain"])
    plain = found["signed_12_bit_plain"]
    assert (plain.min(), plain.max()) == (-496, 518)
    for name in ("frames_as_1.0", "bad_character_set"):
        expected = pydicom.dcmread(folder / f"{name}.dcm", force=True).PixelData
        assert found[name].astype("<u2").tobytes() == expected
    real = found["float_pixels"]
    assert real.shape == (32, 32)
    assert (float(real.min()), float(real.max())) == pytest.approx((0.004, 1.018))
