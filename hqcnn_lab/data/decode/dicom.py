"""Read one DICOM file: what it is, where it lies in its series, and its pixels as they are meant to be seen."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_128

from hqcnn_lab.data.decode.dicom_elements import Elements, read_elements
from hqcnn_lab.data.decode.dicom_format import PixelFormat, pixel_format, used_bits
from hqcnn_lab.data.decode.dicom_pixels import LookupTable, gray_frames, lookup_table
from hqcnn_lab.data.decode.dicom_walk import PIXELS
from hqcnn_lab.data.decode.reading import UnreadableImage

# Part of every cache key, as `reading.PREPROCESSING`: raise it whenever a change changes a pixel or what is left out.
DICOM_PREPROCESSING = "modality, VOI in the units of the modality, MONOCHROME1 negated, luminance; 2"

_MR_IMAGES = "1.2.840.10008.5.1.4.1.1.4"  # also .4.1 enhanced, .4.3 enhanced colour, .4.4 legacy converted
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOCALIZER = re.compile(r"locali[sz]er|scout|survey|3[ _-]?(plane|pl)(?![a-z])|(?<![a-z])loc(?![a-z])")
# Computed images, by what vendors write as one of the values of ImageType.
_COMPUTED = re.compile(
    r"(CSA )?(MPR|MIP|MINIP|MPVR)|CURVED|.*PROJECTION.*|REFORMATTED.*|.*SUBTRACT.*|SUB|ADD|DIVISION|MEAN|MOSAIC"
    r"|ADC|ADC_.*|E?ADC.*MAP|FA|FRACT.*ANISO.*|.*TENSOR.*|[TR][12]\*?[ _]MAP|PHASE[ _]MAP|FIELD[ _]MAP"
    r"|R?CB[FV]|.*_CB[FV]|MTT|TTP|TMAX|RELCB[FV]|RELMTT|PERFUSION.*|SCREEN ?SAVE|.*SPECTRO.*|CSI|.*_MAP"
)


class LeftOut(UnreadableImage):
    """A sound DICOM file that is no diagnostic MR slice; the message is a short category, to be counted."""


class DicomImage(NamedTuple):
    """One frame of a file.

    `position` is in mm along the normal of its plane. `pixels` `[H, W]` are in the units of the modality: the integers
    stored where nothing rescales them, else float32. `digest` is that of the pixels stored, before any table or window.
    `mode` is how they are stored, such as "MONOCHROME2 12 bit". `padding` `[H, W]` is true where a file says that
    nothing was scanned, so that the pixel's value means nothing; None where it says so of no pixel.
    """

    patient: str
    study: str
    series: str
    instance: int
    frame: int
    position: float
    pixels: np.ndarray
    digest: str
    mode: str
    padding: np.ndarray | None = None


def read_dicom(content: bytes, any_modality: bool = False) -> list[DicomImage]:
    """Return the frames of a DICOM file, all or none: see `dicom_frames`."""
    return list(dicom_frames(content, any_modality))


def dicom_frames(content: bytes, any_modality: bool = False) -> Iterator[DicomImage]:
    """Yield the frames of a DICOM file, given whole.

    Modality LUT or slope and intercept; then the VOI LUT or the first window, clipped but not stretched, so that the
    slices of one series stay comparable (a window narrower than 1, or beyond all that the bits stored can hold, is
    ignored); then MONOCHROME1 negated; colour as luminance. Enhanced objects: frame by frame, from their functional
    groups. With `any_modality` everything that has pixels is an image.

    Raises `LeftOut` for what is no diagnostic MR slice: another modality, localizers by type or description, secondary
    captures, and what is computed from images — anything SECONDARY, and projections, reformats, maps and subtractions
    whatever else they claim. DERIVED\\PRIMARY alone is kept: so a slice has to be called that was only filtered,
    corrected for distortion or compressed with loss. Raises `UnreadableImage` for everything else that is wrong; no
    reason quotes the file, which may name the patient.
    """
    try:
        elements = read_elements(content)
        reason = _no_image(elements) or (None if any_modality else _not_diagnostic(elements))
        if reason:
            raise LeftOut(reason)
        if not elements.raw.keys() & set(PIXELS):
            raise UnreadableImage("it holds no pixels, though it speaks of an image; perhaps it is cut off")
        yield from _frames(elements)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("it does not fit in memory") from None
    except Exception as error:
        # Whatever pydicom or numpy meet in a damaged file. Their messages quote it, and speak to programmers.
        raise UnreadableImage("a damaged DICOM file") from error


def pixel_digest(pixels: np.ndarray) -> str:
    """Return 32 hex digits, an XXH3 over a gray image: equal for equal shapes and values of whatever depth."""
    kind = "<f4"
    if pixels.dtype.kind in "iub":
        sixteen = pixels.dtype == np.uint16 or (pixels.min() >= 0 and pixels.max() < 2**16)
        kind = "<u2" if sixteen else "<i8"
    digest = xxh3_128(f"{pixels.shape[0]}×{pixels.shape[1]} {kind}".encode())
    digest.update(np.ascontiguousarray(pixels, kind).data)
    return digest.hexdigest()


def _no_image(elements: Elements) -> str | None:
    if elements.raw.keys() & {*PIXELS, "Rows"}:
        return None
    if not {"SOPClassUID", "Modality", "StudyInstanceUID"} & elements.raw.keys():
        return "no pixel data"
    return f"no pixel data ({_modality(elements)})"


def _not_diagnostic(elements: Elements) -> str | None:
    kind = [value.upper() for value in elements.texts("ImageType")]
    sop_class = elements.text("SOPClassUID")
    modality = _modality(elements)
    if sop_class == _SECONDARY_CAPTURE or sop_class.startswith(f"{_SECONDARY_CAPTURE}."):
        return "secondary capture"
    if modality != "MR" and not (modality == "none" and f"{sop_class}.".startswith(f"{_MR_IMAGES}.")):
        return f"not MR ({modality})"
    described = elements.text("SeriesDescription").lower()
    if {"LOCALIZER", "SCOUT"} & set(kind) or _LOCALIZER.search(described):
        return "localizer"
    if "SECONDARY" in kind[:2] or any(_COMPUTED.fullmatch(value) for value in kind):
        return "derived image"
    return None


def _modality(elements: Elements) -> str:
    code = elements.text("Modality").upper()
    if not code:
        return "none"
    return code if re.fullmatch("[A-Z]{2,9}", code) else "unknown"


def _frames(elements: Elements) -> Iterator[DicomImage]:
    form = pixel_format(elements)
    patient, study, series = (elements.text(name) for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
    number = elements.numbers("InstanceNumber")
    instance = int(number[0]) if number else 0
    for frame, stored in enumerate(gray_frames(elements, form)):
        own = _of_frame(elements, frame)
        yield DicomImage(
            patient,
            study,
            series,
            instance,
            frame,
            _position(own, instance, frame if form.frames > 1 else 0),
            _displayed(stored, own, form),
            pixel_digest(stored),
            f"{form.colours} {form.stored} bit{' float' if form.kind == 'f' else ''}",
            _padding(stored, elements, form),
        )


def _of_frame(elements: Elements, frame: int) -> Elements:
    """Return the elements that hold for one frame: the functional groups of its own before those that all share."""
    shared = elements.raw.get("SharedFunctionalGroupsSequence", [])[:1]
    own = elements.raw.get("PerFrameFunctionalGroupsSequence", [])[frame : frame + 1]
    if not shared and not own:
        return elements
    raw = dict(elements.raw)
    for groups in [*shared, *own]:
        for macro in groups.values():
            if isinstance(macro, list) and macro:
                raw |= macro[0]
    return elements._replace(raw=raw)


def _position(elements: Elements, instance: int, frame: int) -> float:
    corner = elements.numbers("ImagePositionPatient", 3)
    axes = elements.numbers("ImageOrientationPatient", 6)
    if corner is not None and axes is not None:
        (a, b, c), (d, e, f) = axes[:3], axes[3:]
        normal = (b * f - c * e, c * d - a * f, a * e - b * d)  # of 3 numbers: numpy would take ten times as long
        return sum(x * y for x, y in zip(corner, normal, strict=True))
    location = elements.numbers("SliceLocation")
    return (location[0] if location else float(instance)) + frame


def _padding(stored: np.ndarray, elements: Elements, form: PixelFormat) -> np.ndarray | None:
    """Return where nothing was scanned, by the value or the range of values that a file says stand for that."""
    if len(elements.raw.get("PixelPaddingValue", b"")) < 2 or form.kind == "f":
        return None
    if not form.colours.startswith("MONOCHROME"):
        return None
    value = elements.integer("PixelPaddingValue", signed=form.kind == "i")
    limit = elements.integer("PixelPaddingRangeLimit", value, signed=form.kind == "i")
    low, high = sorted(used_bits(np.array([value, limit]).astype(stored.dtype), form).tolist())
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() else None


def _displayed(stored: np.ndarray, elements: Elements, form: PixelFormat) -> np.ndarray:
    if not form.colours.startswith("MONOCHROME"):
        return stored
    values, bounds, signed = stored, (form.smallest, form.largest), form.kind == "i"
    slope, intercept = _rescale(elements)
    if table := _table(elements, "ModalityLUTSequence", signed):
        values, bounds = table.apply(stored), (int(table.entries.min()), int(table.entries.max()))
    elif elements.raw.get("ModalityLUTSequence"):
        raise UnreadableImage("its modality lookup table is damaged")
    elif (slope, intercept) != (1, 0) and slope != 0:
        smallest, largest = sorted(slope * bound + intercept for bound in bounds)
        bounds = (smallest, largest)
        if max(map(abs, bounds)) > float(np.finfo(np.float32).max) and form.kind != "f":
            raise UnreadableImage("its rescale slope or intercept is beyond all measure")
        values = stored * np.float32(slope) + np.float32(intercept)
    if table := _table(elements, "VOILUTSequence", signed):
        values = table.apply(np.rint(values))
    else:
        values = _windowed(values, elements, bounds)
    if form.colours == "MONOCHROME1" or elements.text("PresentationLUTShape").upper() == "INVERSE":  # one and the same
        kind = np.float32 if values.dtype.kind == "f" else np.int32 if values.dtype.itemsize < 4 else np.int64
        values = -values.astype(kind)
    return values


def _rescale(elements: Elements) -> tuple[float, float]:
    """Return slope and intercept; raises `UnreadableImage` where there is one that is no number."""
    values = []
    for name, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        number = elements.numbers(name)
        if number is None and elements.text(name):
            raise UnreadableImage("its rescale slope or intercept is no number")
        values.append(number[0] if number else usual)
    return values[0], values[1]


def _table(elements: Elements, name: str, signed: bool) -> LookupTable | None:
    for item in elements.raw.get(name, [])[:1]:
        return lookup_table(item.get("LUTDescriptor", b""), item.get("LUTData", b""), elements.order, signed)
    return None


def _windowed(values: np.ndarray, elements: Elements, bounds: tuple[float, float]) -> np.ndarray:
    """Clip to the first window (DICOM PS3.3, C.11.2.1.2); `bounds` are the values that the bits stored can hold."""
    center, width = elements.numbers("WindowCenter"), elements.numbers("WindowWidth")
    if center is None or width is None or width[0] < 1:
        return values
    low, high = center[0] - width[0] / 2, center[0] + width[0] / 2
    function = elements.text("VOILUTFunction").upper()
    if low >= bounds[1] or high <= bounds[0]:
        return values
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return low + width[0] / (1 + np.exp(-4 / width[0] * (values - np.float32(center[0]))))
    if function != "LINEAR_EXACT":
        high -= 1
    if high <= low:  # of width 1: a threshold, which no clipping can show
        return values
    smallest, largest = values.min().item(), values.max().item()
    if low <= smallest and largest <= high:
        return values
    whole = all(edge.is_integer() for edge in (max(low, float(smallest)), min(high, float(largest))))
    if values.dtype.kind in "iu" and whole and low <= largest and high >= smallest:
        return values.clip(int(max(low, smallest)), int(min(high, largest)))
    return values.astype(np.float32).clip(low, high)
