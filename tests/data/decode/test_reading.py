"""Every file that Pillow can read is read right, whatever its name says; every other one is refused with the reason."""

import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image, ImageOps
from plain_words import is_plain

from hqcnn_lab.data.decode.reading import UnreadableImage, decode, read_image

RAMP = np.tile(np.arange(64, dtype=np.float32) * 4, (64, 1))  # 0 … 252 from left to right
SCALED = RAMP / RAMP.max()


def _palette() -> Image.Image:
    # Index i stands for grey level 255 - i: reading the index would invert the image.
    image = Image.fromarray(RAMP.astype(np.uint8), mode="P")
    image.putpalette([255 - i for i in range(256) for _ in range(3)])
    return image


def _rgba() -> Image.Image:
    gray = RAMP.astype(np.uint8)
    alpha = np.full_like(gray, 255)
    alpha[:32] = 0
    return Image.fromarray(np.dstack([gray, gray, gray, alpha]))


IMAGES = {
    "gray.png": (Image.fromarray(RAMP.astype(np.uint8)), SCALED),
    "rgb.png": (Image.fromarray(RAMP.astype(np.uint8)).convert("RGB"), SCALED),
    "png_named.jpg": (Image.fromarray(RAMP.astype(np.uint8)), SCALED),
    "palette.png": (_palette(), 1 - SCALED),
    "transparent_half.png": (_rgba(), SCALED),
    "sixteen_bits.png": (Image.fromarray((RAMP * 100).astype(np.uint16)), SCALED),
    "no_ending": (Image.fromarray(RAMP.astype(np.uint8)), SCALED),
    "float.tiff": (Image.fromarray(RAMP / 7), SCALED),
}


@pytest.mark.parametrize("name", IMAGES)
def test_pixels_survive_any_mode(name: str, tmp_path: Path) -> None:
    image, expected = IMAGES[name]
    image.save(tmp_path / name, format="TIFF" if name.endswith("tiff") else "PNG")
    np.testing.assert_allclose(read_image(tmp_path / name, 64), expected, atol=1e-5)


CORNER = np.add.outer(np.arange(24) * 6, np.arange(40) * 2).astype(np.uint8)  # no two of its eight turns look alike
TURNED = {  # as EXIF defines its orientations: how the array that is shown comes from the one that is stored
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a.T[::-1, ::-1],
    8: lambda a: a.T[::-1],
}
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = value
    return exif


@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG"])
@pytest.mark.parametrize("value", TURNED)
def test_picture_is_turned_as_exif_says(kind: str, value: int) -> None:
    # Regression guard: it was read as stored, a quarter turn from what the one who labelled it saw.
    options = LOSSLESS.get(kind, {"quality": 100})
    gray, mode, _ = decode(stored(Image.fromarray(CORNER), kind, exif=orientation(value), **options))
    np.testing.assert_allclose(gray, TURNED[value](CORNER), atol=2 if kind == "JPEG" else 0)
    assert mode in ("L", "RGB")
    if kind in ("PNG", "TIFF"):  # of 16 bits too
        deep = CORNER.astype(np.uint16) * 200
        content = stored(Image.fromarray(deep), kind, exif=orientation(value))
        assert np.array_equal(decode(content)[0], TURNED[value](deep))


def test_shared_picture_is_turned() -> None:
    folder = SHARED.parent / "cases" / "pictures"
    if not folder.is_dir():
        pytest.skip("the cases are not on this machine")
    turned, as_stored = (decode((folder / name).read_bytes())[0] for name in ("turned_by_exif.jpg", "as_stored.png"))
    assert turned.shape == as_stored.shape[::-1]
    np.testing.assert_allclose(turned.astype(int), TURNED[6](as_stored.astype(int)), atol=8)
    with Image.open(folder / "turned_by_exif.jpg") as image:
        assert np.array_equal(turned, np.asarray(ImageOps.exif_transpose(image).convert("L")))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0junk", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"\0" * 9, orientation(9).tobytes()]
)
def test_image_with_damaged_exif_is_read_as_stored(exif: bytes) -> None:
    assert np.array_equal(decode(stored(Image.fromarray(CORNER), "PNG", exif=exif))[0], CORNER)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_first_of_several_pages_is_read_and_called_so(kind: str) -> None:
    first, *others = (Image.fromarray(np.roll(CORNER, n, 1)) for n in (0, 7, 13))
    gray, _, several = decode(stored(first, kind, save_all=True, append_images=others, **LOSSLESS.get(kind, {})))
    assert np.array_equal(gray, CORNER)
    assert several
    assert not decode(stored(first, kind, **LOSSLESS.get(kind, {})))[2]


def tiff(pixels: np.ndarray, photometric: int, bits: int, real: bool) -> bytes:
    """Without Pillow, which does not write every kind that it reads."""
    tags = {256: pixels.shape[1], 257: pixels.shape[0], 258: bits, 259: 1, 262: photometric}
    tags |= {273: 200, 277: 1, 278: pixels.shape[0], 279: pixels.nbytes, 339: 3 if real else 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    return head.ljust(200, b"\0") + pixels.tobytes()


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_tiff_of_which_zero_is_white(kind: str) -> None:
    # Regression guard: Pillow turns 8 bits; of 16 bits and real numbers the negative was read.
    pixels = CORNER.astype(kind)
    bits, real = pixels.itemsize * 8, kind == "f4"
    black_is_zero = decode(tiff(pixels, 1, bits, real))[0].astype(float)
    white_is_zero = decode(tiff(pixels, 0, bits, real))[0].astype(float)
    assert np.array_equal(black_is_zero, CORNER)
    assert np.array_equal(white_is_zero - white_is_zero.max(), -black_is_zero)


def test_jpeg_of_four_inks() -> None:
    # Adobe's are stored inverted.
    rgb = Image.fromarray(np.dstack([CORNER, CORNER[::-1], CORNER]))
    for kind, options in (("JPEG", {"quality": 100}), ("TIFF", {})):
        gray, mode, _ = decode(stored(rgb.convert("CMYK"), kind, **options))
        assert mode == "CMYK"
        np.testing.assert_allclose(gray.astype(int), np.asarray(rgb.convert("L")).astype(int), atol=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_reasons_are_in_plain_words(mode: str, kind: str) -> None:
    image = Image.fromarray(CORNER).convert(mode) if mode != "I;16" else Image.fromarray(CORNER.astype(np.uint16))
    content = stored(image, kind)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(40):
            damaged = bytearray(content[: rng.integers(1, len(content) + 1)])
            for at in rng.integers(0, len(damaged), 3):
                damaged[at] = rng.integers(256)
            try:
                decode(bytes(damaged))
            except UnreadableImage as error:
                reason = str(error)
            else:
                continue
            assert is_plain(reason), reason


def test_jpeg_is_close_and_square_and_fills_the_range(tmp_path: Path) -> None:
    Image.fromarray(np.tile(RAMP.astype(np.uint8), (1, 3))).save(tmp_path / "wide.jpg")
    image = read_image(tmp_path / "wide.jpg", 32)
    assert image.shape == (32, 32)
    assert image.dtype == np.float32
    assert (image.min(), image.max()) == (0, 1)


def test_shrinking_averages_rather_than_drops(tmp_path: Path) -> None:
    # Regression guard: bilinear without antialiasing would sample single pixels of this checkerboard and see a flat or
    # a wild image.
    board = (np.indices((256, 256)).sum(0) % 2 * 100).astype(np.uint8)
    board[:, 128:] += 100
    Image.fromarray(board).save(tmp_path / "board.png")
    image = read_image(tmp_path / "board.png", 16)
    assert image[:, :7].max() < 0.05
    assert image[:, 9:].min() > 0.95


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "cannot identify"),
        ("text.jpg", b"not an image at all", "cannot identify"),
        ("page.png", b"<html></html>", "cannot identify"),
    ],
)
def test_what_is_no_image_is_refused(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as error:
        read_image(tmp_path / name, 64)
    assert str(tmp_path) not in str(error.value)  # folders are the user's business


def test_truncated_and_flat_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "whole.jpg")
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    Image.new("L", (64, 64), 7).save(tmp_path / "flat.png")
    with pytest.raises(UnreadableImage, match="truncated"):
        read_image(tmp_path / "torn.jpg", 64)
    with pytest.raises(UnreadableImage, match="every pixel has the same value"):
        read_image(tmp_path / "flat.png", 64)


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UnreadableImage, match="10000×10000 pixels, more than"):
        read_image(tmp_path / "bomb.png", 16)


def test_real_originals_are_read() -> None:
    files = sorted((SHARED / "originals").rglob("*.jpg"))
    if not files:
        pytest.skip("the original Kaggle files are not on this machine")
    modes = set()
    for path in files:
        with Image.open(path) as image:
            modes.add(image.mode)
        assert read_image(path, 64).std() > 0.05
    assert {"P", "RGBA"} <= modes  # the odd ones are among them


def test_a_sound_tiff_of_a_kind_that_is_not_read_is_not_called_damaged() -> None:
    # Regression: "a damaged image", and "cannot identify it as … TIFF", which it was.
    def tiff(mode: str) -> bytes:
        Image.new(mode, (8, 8)).save(content := BytesIO(), "TIFF")
        return content.getvalue()

    bits = [struct.pack("<HHIHH", 258, 3, 1, n, 0) for n in (32, 64)]
    for content, words in {tiff("LAB"): "its colours are of a kind", tiff("F").replace(*bits): "64 bits"}.items():
        with pytest.raises(UnreadableImage, match=words):
            decode(content)
