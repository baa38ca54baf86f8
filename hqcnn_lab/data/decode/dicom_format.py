"""How the pixels of a DICOM file are stored, and which of their bits count: one rule for every transfer syntax."""

from typing import NamedTuple

import numpy as np

from hqcnn_lab.data.decode.dicom_elements import MAX_DECODED, MAX_VALUES, Elements
from hqcnn_lab.data.decode.dicom_walk import MAX_FRAMES, PIXELS
from hqcnn_lab.data.decode.reading import MAX_PIXELS, UnreadableImage

_COLOURS = {
    1: ("MONOCHROME2", "MONOCHROME1", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
}


class PixelFormat(NamedTuple):
    """How the pixels of one file are stored, in the `element` of that name.

    `kind` is "u", "i" or "f", as numpy calls unsigned, signed and real numbers; `colours` PhotometricInterpretation.
    """

    element: str
    frames: int
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    kind: str
    planar: bool
    colours: str

    @property
    def smallest(self) -> float:
        return {"u": 0, "i": -(2 ** (self.stored - 1)), "f": -np.inf}[self.kind]

    @property
    def largest(self) -> float:
        return self.smallest + 2**self.stored - 1 if self.kind != "f" else np.inf


def pixel_format(elements: Elements) -> PixelFormat:
    """Read it from the elements; raises `UnreadableImage` where it makes no sense or is too large to be decoded."""
    element = next((name for name in PIXELS if name in elements.raw), PIXELS[0])
    real = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(element)
    allocated = real or elements.integer("BitsAllocated")
    stored = real or elements.integer("BitsStored", allocated)
    high = elements.integer("HighBit", stored - 1)
    samples = elements.integer("SamplesPerPixel", 1)
    form = PixelFormat(
        element,
        frames=_n_frames(elements),
        rows=elements.integer("Rows"),
        columns=elements.integer("Columns"),
        samples=samples,
        allocated=allocated,
        stored=stored,
        high=high if stored <= high < allocated else stored - 1,  # else nonsense, or the usual
        kind="f" if real else "i" if elements.integer("PixelRepresentation", 0) == 1 else "u",
        planar=elements.integer("PlanarConfiguration", 0) == 1,
        colours=_colours(elements, samples),
    )
    if form.rows < 1 or form.columns < 1:
        raise UnreadableImage("it does not say how many rows and columns its image has")
    if form.rows * form.columns > MAX_PIXELS:
        raise UnreadableImage(f"{form.columns}×{form.rows} pixels, more than {MAX_PIXELS}")
    if form.frames > MAX_FRAMES:
        raise UnreadableImage(f"{form.frames} frames, more than {MAX_FRAMES}")
    if allocated < 1:
        raise UnreadableImage("it does not say how many bits its pixels have")
    if (allocated not in (1, 8, 16, 32) and not real) or samples not in _COLOURS:
        raise UnreadableImage(f"{samples} × {allocated} bits per pixel are not supported")
    if not 1 <= stored <= allocated:
        raise UnreadableImage(f"it contradicts itself: {stored} bits stored of {allocated}")
    n_pixels = form.frames * form.rows * form.columns
    if n_pixels * samples * max(allocated, 8) > MAX_DECODED * 8 or n_pixels > MAX_VALUES:
        raise UnreadableImage(f"more than {MAX_DECODED >> 20} MiB, or {MAX_VALUES >> 20} million pixels, once decoded")
    return form


def used_bits(pixels: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Clear the bits that hold no pixel (overlays of old, noise), and extend the sign over them."""
    bits, high = pixels.dtype.itemsize * 8, form.high
    if form.kind == "f" or form.stored == bits:
        return pixels
    smallest, largest = pixels.min(), pixels.max()
    n_below = high + 1 - form.stored
    if n_below and smallest >= form.smallest and largest < 2**form.stored and (pixels & (2**n_below - 1)).any():
        high = form.stored - 1  # a false one: the pixels stand where they usually do
    if high == form.stored - 1 and smallest >= form.smallest and largest <= form.largest:
        return pixels
    return (pixels << (bits - 1 - high)) >> (bits - form.stored)


def _n_frames(elements: Elements) -> int:
    number = elements.numbers("NumberOfFrames")
    if number is None and not elements.text("NumberOfFrames"):
        return 1
    if number is None or number[0] < 0 or not number[0].is_integer():
        raise UnreadableImage("its number of frames makes no sense")
    return int(number[0]) or 1


def _colours(elements: Elements, samples: int) -> str:
    """What the file says, if we read that and it fits the number of samples; if not, what is usual for that number."""
    said = elements.text("PhotometricInterpretation").upper()
    usual = _COLOURS.get(samples, ())
    if said and said not in {name for names in _COLOURS.values() for name in names}:
        raise UnreadableImage("its kind of gray or colour (photometric interpretation) is not supported")
    return said if said in usual or not usual else usual[0]
