"""Read one image file into the square, min-max scaled array that every network here sees (paper, section 3.3)."""

import stat
import struct
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Part of every cache key: raise it whenever a change below changes a pixel.
PREPROCESSING = "gray, turned as EXIF says, antialiased bilinear resize to a square, min-max; 2"

# A slice of 8,192² is far beyond any scanner's; more is a mistake, or a file made to exhaust the memory: with all that
# decoding takes beside it, none takes a GiB.
MAX_PIXELS = 8192**2
MAX_SIDE = 2**16 - 1  # a filter that shrinks a longer one takes more memory than the image
MAX_FILE = 300 * 2**20
MAX_TAG_NUMBERS = 2**21  # of a TIFF; one of `MAX_PIXELS` has a quarter of that, in the smallest tiles
# A JPEG of ten bytes a scan would be decoded for minutes; sound ones have some ten scans.
MAX_SCANS = 500
MAX_EXIF = 100  # blocks of a JPEG; Pillow copies all that it has at each
_PHOTOMETRIC = 262  # the tag of a TIFF that says whether black is zero, or white
# Pillow knows more: EPS, which it would hand to Ghostscript to run; JPEG 2000, which takes 1.2 GiB for `MAX_PIXELS`.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM")

warnings.filterwarnings(
    "ignore", module=r"PIL\."
)  # what it thinks of a file: among thousands it would flood a terminal


class UnreadableImage(ValueError):
    """A file that is no usable image; the message says why."""


def read_image(path: Path, size: int) -> np.ndarray:
    """Return the file as float32 `[size, size]` in [0, 1], whatever its name's ending says it is.

    Turned as EXIF says, and of several pages the first. Palette and colour become luminance, transparency is ignored,
    gray of 16 bits and of real numbers is kept, the aspect ratio is not (as in the paper: padding to a square would
    leave bars that give the class away). Raises `UnreadableImage` with the reason.
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
        raise UnreadableImage(f"it cannot be opened: {error.strerror}") from error


def decode(content: bytes) -> tuple[np.ndarray, str, bool]:
    """Return a picture's gray levels `[H, W]` as a viewer shows them, Pillow's name of its mode, such as RGB, and
    whether it is the first of several pages.

    Raises `UnreadableImage` with the reason.
    """
    if content[:2] == b"\xff\xd8":
        for what, mark, most in (("scans", b"\xff\xda", MAX_SCANS), ("EXIF blocks", b"Exif\0\0", MAX_EXIF)):
            if content.count(mark) > most:
                raise UnreadableImage(f"more than {most} JPEG {what}")
    if _n_tag_numbers(content) > MAX_TAG_NUMBERS:
        raise UnreadableImage(f"more than {MAX_TAG_NUMBERS} numbers in the tags of a TIFF file")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            most = MAX_PIXELS // 2 if image.format == "WEBP" else MAX_PIXELS  # of which its decoder keeps copies
            if image.width * image.height > most:  # before anything is decoded
                raise UnreadableImage(f"{image.width}×{image.height} pixels, more than {most}")
            if max(image.size) > MAX_SIDE:
                raise UnreadableImage(f"{image.width}×{image.height} pixels, a side longer than {MAX_SIDE}")
            image.load()
            with suppress(Exception):  # of damaged EXIF: a viewer shows the image as it is stored
                ImageOps.exif_transpose(image, in_place=True)
            several = getattr(image, "is_animated", False) and image.format != "MPO"  # a photograph and its thumbnail
            return _to_gray(image), image.mode, several
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("it does not fit in memory") from None
    except UnidentifiedImageError as error:
        if content[:4] in (b"II*\0", b"MM\0*"):
            raise UnreadableImage(
                "a TIFF file that is damaged, or of a kind that is not read (64 bits a value)"
            ) from error
        raise UnreadableImage(
            "cannot identify it as one of the kinds of image that are read (JPEG, PNG, TIFF, BMP, GIF, WebP, PPM)"
        ) from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"more than {MAX_PIXELS} pixels") from error
    except Exception as error:
        # Pillow's decoders raise whatever they meet (OSError, SyntaxError, struct.error …), in words for programmers;
        # for us each is one bad file among good ones.
        said, reason = str(error).lower(), "a damaged image"
        if "truncated" in said or isinstance(error, EOFError):
            reason = "truncated: it is cut off"
        elif "too large" in said or "too much memory" in said:
            reason = "its notes or its colour profile are too large"
        elif "conversion" in said:
            reason = "its colours are of a kind that cannot be turned into gray levels"
        raise UnreadableImage(reason) from error


def _n_tag_numbers(content: bytes) -> int:
    """How many numbers there are in the tags of a TIFF's first page: Pillow makes an object of each, at once."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        return 0
    is_big = struct.unpack_from(f"{order}H", content, 2) == (43,)
    start, n_tags, tag = ("8xQ", "Q", "2xHQ8x") if is_big else ("4xI", "H", "2xHI4x")
    try:
        (at,) = struct.unpack_from(order + start, content)
        (n,) = struct.unpack_from(order + n_tags, content, at)
        step, at = struct.calcsize(order + tag), at + struct.calcsize(order + n_tags)
        tags = [struct.unpack_from(order + tag, content, at + i * step) for i in range(min(n, 2**16))]
    except struct.error:
        return 0  # cut off, as Pillow will find
    return sum(count for kind, count in tags if kind not in (1, 2, 6, 7))  # those are read as bytes


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
        gray = np.asarray(image)
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero; Pillow turns 8 bits alone
            gray = -gray.astype(np.float32 if gray.dtype.kind == "f" else np.int32)
        return gray
    if image.mode in ("P", "PA"):  # palettes hold colours; "L" of one would use the index
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))
