"""Read one image file into the square, min-max scaled array that every network here sees (paper, section 3.3)."""

import stat
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

# Part of every cache key: raise it whenever a change below changes a pixel.
PREPROCESSING = "gray, antialiased bilinear resize to a square, min-max; 1"

# A slice of 8,192² is far beyond any scanner's; more is a mistake, or a file made to exhaust the memory.
MAX_PIXELS = 8192**2
MAX_FILE = 2**30
# A JPEG of ten bytes a scan would be decoded for minutes; sound ones have some ten scans.
MAX_SCANS = 500
# Pillow knows more: EPS, which it would hand to Ghostscript to run; JPEG 2000, which takes 1.2 GiB for `MAX_PIXELS`.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM")


class UnreadableImage(ValueError):
    """A file that is no usable image; the message says why."""


def read_image(path: Path, size: int) -> np.ndarray:
    """Return the file as float32 `[size, size]` in [0, 1], whatever its name's ending says it is.

    Palette and colour become luminance, transparency is ignored, 16-bit depth is kept, the aspect ratio is not (as in
    the paper: padding to a square would leave bars that give the class away). Raises `UnreadableImage` with the reason.
    """
    return fit(decode(read_file(path))[0], size)


def read_file(path: Path) -> bytes:
    """Return the content of a regular file of reasonable size; raises `UnreadableImage` with the reason."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, forever
            raise UnreadableImage("a folder" if stat.S_ISDIR(status.st_mode) else "no regular file")
        if status.st_size > MAX_FILE:
            raise UnreadableImage(f"{status.st_size >> 20} MiB, more than {MAX_FILE >> 20}")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{type(error).__name__}: {error.strerror}") from error


def decode(content: bytes) -> tuple[np.ndarray, str]:
    """Return a picture's gray levels `[H, W]`, as they are stored, and Pillow's name of its mode, such as RGB.

    Raises `UnreadableImage` with the reason.
    """
    if content.count(b"\xff\xda") > MAX_SCANS and content[:2] == b"\xff\xd8":
        raise UnreadableImage(f"more than {MAX_SCANS} JPEG scans")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # before anything is decoded
                raise UnreadableImage(f"{image.width}×{image.height} pixels, more than {MAX_PIXELS}")
            image.load()
            return _to_gray(image), image.mode
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("UnidentifiedImageError: cannot identify the kind of image") from error
    except Exception as error:
        # Pillow's decoders raise whatever they meet (OSError, SyntaxError, struct.error …); for us each is one bad file
        # among good ones.
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error


def fit(gray: np.ndarray, size: int) -> np.ndarray:
    """Resize to a square, antialiased, then scale from the smallest to the largest pixel; float32 in [0, 1]."""
    pixels = shrink(gray, size)
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableImage("a pixel is not a finite number")
    if high <= low:
        raise UnreadableImage("every pixel has the same value")
    return (pixels - low) / (high - low)


def shrink(gray: np.ndarray, size: int) -> np.ndarray:
    """Resize `[H, W]` to float32 `[size, size]` by an antialiased bilinear filter."""
    image = Image.fromarray(np.asarray(gray, dtype=np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _to_gray(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits: "L" would cut them to 8
        return np.asarray(image)
    if image.mode in ("P", "PA"):  # palettes hold colours; "L" of one would use the index
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))
