"""Read one image file into the square, min-max scaled array that every network here sees (paper, section 3.3)."""

from pathlib import Path

import numpy as np
from PIL import Image

# Part of every cache key: raise it whenever a change below changes a pixel.
PREPROCESSING = "gray, antialiased bilinear resize to a square, min-max; 1"

# A slice of 8,192² is far beyond any scanner's; more is a mistake, or a file made to exhaust the memory.
MAX_PIXELS = 8192**2


class UnreadableImage(ValueError):
    """A file that is no usable image; the message says why."""


def read_image(path: Path, size: int) -> np.ndarray:
    """Return the file as float32 `[size, size]` in [0, 1], whatever its name's ending says it is.

    Palette and colour become luminance, transparency is ignored, 16-bit depth is kept, the aspect ratio is not (as in
    the paper: padding to a square would leave bars that give the class away). Raises `UnreadableImage` with the reason.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:  # before anything is decoded
                raise UnreadableImage(f"{image.width}×{image.height} pixels, more than {MAX_PIXELS}")
            image.load()
            gray = _to_gray(image)
    except UnreadableImage:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever they meet (OSError, SyntaxError, struct.error …); for us each is one bad file
        # among good ones.
        raise UnreadableImage(f"{type(error).__name__}: {error}".replace(str(path), path.name)) from error
    pixels = np.asarray(gray.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableImage("a pixel is not a finite number")
    if high <= low:
        raise UnreadableImage("every pixel has the same value")
    return (pixels - low) / (high - low)


def _to_gray(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits: "L" would cut them to 8
        return Image.fromarray(np.asarray(image, dtype=np.float32))
    if image.mode in ("P", "PA"):  # palettes hold colours; "L" of one would use the index
        image = image.convert("RGB")
    return image.convert("L").convert("F")
