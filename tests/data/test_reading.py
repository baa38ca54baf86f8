"""Every file that Pillow can read is read right, whatever its name says; every other one is refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image

from hqcnn_lab.data.reading import UnreadableImage, read_image

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
