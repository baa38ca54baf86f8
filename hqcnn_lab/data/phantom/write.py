"""Write the procedural phantom as files in the layouts of the real data sets, with known classes and any number."""

import datetime
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, generate_uid
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from hqcnn_lab.data.limits import WRITE
from hqcnn_lab.data.phantom.generate import generate
from hqcnn_lab.data.phantom.scanner_header import scanner_header
from hqcnn_lab.data.source import clinical, layout
from hqcnn_lab.limit import check_limits
from hqcnn_lab.record.whole_file import holds_something, whole_folder

_GRADES: dict[str, str] = dict(zip(clinical.CLASSES, ("II", "IV", "II", "III"), strict=True))
_CLINICAL_COLUMNS = "SUBJECT_ID,AGE_RANGE,GENDER,DISEASE_TYPE,WHO_GRADE"
_METADATA_COLUMNS = (
    "Series UID,Collection,3rd Party Analysis,Data Description URI,Subject ID,Study UID,Study Description,Study Date,"
    "Series Description,Manufacturer,Modality,SOP Class Name,SOP Class UID,Number of Images,File Size,File Location,"
    "Download Timestamp"
)
_DESCRIPTIONS = ("AX T1, POST GAD", "AX T2", "AX FLAIR", "AX T1", "AX PD")  # the comma is not quoted in metadata.csv

# What differs between the slices of a series has a fixed width, so that the rest is encoded once a series.
_ANY_UID = generate_uid(entropy_srcs=["any slice"])
_ANY_NUMBER, _ANY_POSITION = "+98765", "+9876.50"  # no UID holds a plus

_AXIAL, _SAGITTAL, _CORONAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]
_FIELD_OF_VIEW, _SLICE_GAP = 240.0, 5.0  # mm
_MAX_SIDE = 128  # of a phantom image, which costs more with every pixel; slices enlarge it


def write_kaggle(out: str | Path, n_train: int, n_test: int, seed: int = 0, size: int = 128) -> Path:
    """Write phantom slices as `Training/<class>/*.jpg` and `Testing/<class>/*.jpg`, classes balanced; return it.

    For trying and timing what reads the Kaggle set. The same arguments give the same bytes. The folder appears when it
    is whole; what a killed process left of it is removed.

    Args:
        out: a folder that is not there yet, or empty.
        n_train: images in Training/, four at least.
        n_test: images in Testing/, four at least; drawn from a stream of their own.
        seed: not negative.
        size: pixels a side, 16 at least. 128 costs 7 ms an image, 256 costs 45.

    Raises:
        ValueError: one line, for arguments out of range or a folder that holds something.
    """
    check_limits(WRITE, locals(), "write_kaggle: ")
    with _new_folder(out) as folder, _progress("images") as progress:
        task = progress.add_task("writing images", total=n_train + n_test)
        for stream, (half, n_images) in enumerate(zip(layout.HALVES, (n_train, n_test), strict=True)):
            for name in layout.CLASSES:
                (folder / half / name).mkdir(parents=True)
            for i, (image, label) in enumerate(_phantoms(n_images, (seed, stream), size)):
                name = layout.CLASSES[label]
                path = folder / half / name / f"{half[:2]}-{name[:2]}_{i:05d}.jpg"
                Image.fromarray((image * 255).round().astype(np.uint8)).save(path, quality=95)
                progress.advance(task)
    return Path(out)


def write_dicom(
    out: str | Path,
    n_patients: int,
    slices_per_series: int,
    series_per_patient: int = 2,
    classic: bool = False,
    seed: int = 0,
    size: int = 256,
) -> Path:
    """Write phantom patients as MR slices the way NBIA lays out REMBRANDT, with its tables; return the folder.

    Holds `REMBRANDT/<patient>/<study>/<series>/*.dcm`, `metadata.csv` and `clinical.csv`. For trying and timing what
    reads REMBRANDT: the slices of a patient are one phantom head, enlarged and noisy, and its class is the only truth
    in it. `clinical.CLASSES` stand for the phantom's classes in order. Of twelve patients the last three have no class:
    UNKNOWN, NON_TUMOR, not in the table. Every second patient has a localizer of 3 slices besides, and from one series
    to the next all this varies: explicit or implicit VR, order of InstanceNumber, RescaleSlope, MONOCHROME1 or 2. The
    same arguments give the same bytes; the folder appears when it is whole (see `write_kaggle`).

    Args:
        out: a folder that is not there yet, or empty.
        n_patients: PHANTOM-0001 and so on.
        slices_per_series: axial slices of each series, 1,000 at most.
        series_per_patient: without the localizer; in two studies for every third patient.
        classic: name folders by whole UIDs, not by dates and numbers.
        seed: not negative.
        size: pixels a side, 16 at least; a slice of 256 takes 132 kB.

    Raises:
        ValueError: one line, for arguments out of range or a folder that holds something.
    """
    check_limits(WRITE, locals(), "write_dicom: ")
    metadata, diagnoses = [_METADATA_COLUMNS], [_CLINICAL_COLUMNS]
    n_slices = n_patients * series_per_patient * slices_per_series + 3 * ((n_patients + 1) // 2)
    grain = np.abs(np.random.default_rng(seed).normal(0, 40, (2 * size, 2 * size))).clip(0, 200).astype(np.uint16)
    with _new_folder(out) as folder, _progress("slices") as progress:
        task = progress.add_task("writing slices", total=n_slices)
        for i, (image, label) in enumerate(_phantoms(n_patients, (seed, 2), min(size, _MAX_SIDE))):
            patient = f"PHANTOM-{i + 1:04d}"
            rng = np.random.default_rng((seed, 3, i))
            n_studies = 2 if i % 3 == 0 and series_per_patient > 1 else 1
            plans = [_Series(0, 1, True, 3, 0)] if i % 2 == 0 else []
            for j in range(series_per_patient):
                study = j * n_studies // series_per_patient
                plans.append(_Series(study, j + 2, False, slices_per_series, i * series_per_patient + j))
            for series in plans:
                template = _data_set(series, patient, i, seed, size)
                location = _location(template, classic)
                digits = 6 if classic else max(2, len(str(series.n_slices)))
                paths = [
                    folder / location / (f"{k:0{digits}d}.dcm" if classic else f"1-{k + 1:0{digits}d}.dcm")
                    for k in range(series.n_slices)
                ]
                (folder / location).mkdir(parents=True)
                n_bytes = _write_series(paths, template, series, image, grain, rng)
                metadata.append(_metadata_row(template, series, n_bytes, location))
                progress.advance(task, series.n_slices)
            name = {9: "UNKNOWN", 10: "NON_TUMOR"}.get(i % 12, clinical.CLASSES[label])
            if i % 12 != 11:
                diagnoses.append(f"{patient},,,{name},{_GRADES.get(name, '')}")
        (folder / "metadata.csv").write_bytes("\r\n".join([*metadata, ""]).encode())
        (folder / "clinical.csv").write_bytes("\n".join([*diagnoses, ""]).encode())
    return Path(out)


class _Series(NamedTuple):
    """`index` counts the series of all patients: it decides what varies from series to series."""

    study: int
    number: int
    is_localizer: bool
    n_slices: int
    index: int


def _phantoms(n_images: int, stream: tuple[int, ...], size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Images and labels of a stream, made by the block, so that neither memory nor the first image waits for all."""
    for first in range(0, n_images, 32):
        seed = int(np.random.SeedSequence((*stream, first)).generate_state(1)[0])
        yield from zip(*generate(min(32, n_images - first), seed, size), strict=True)


def _data_set(series: _Series, patient: str, i_patient: int, seed: int, size: int) -> Dataset:
    """All that the slices of a series share, with placeholders for the rest and without pixels."""
    date = datetime.date(2001, 1, 1) + datetime.timedelta(days=17 * (i_patient % 500) + 90 * series.study)
    source = ["phantom", str(seed), patient, str(series.study)]
    slope, intercept = (0.5, 10) if series.index % 4 == 2 else (1, 0)
    d = scanner_header()
    d.SpecificCharacterSet = "ISO_IR 100"
    d.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if series.is_localizer else "OTHER"]
    d.SOPClassUID, d.SOPInstanceUID = MRImageStorage, _ANY_UID
    d.StudyDate = d.SeriesDate = d.ContentDate = date.strftime("%Y%m%d")
    d.StudyTime = d.SeriesTime = d.ContentTime = "120000"
    d.AccessionNumber = d.ReferringPhysicianName = d.PatientBirthDate = d.PatientSex = ""
    d.Modality, d.Manufacturer = "MR", "PHANTOM"
    d.StudyDescription = "MR BRAIN"
    d.SeriesDescription = "3 PLANE LOC" if series.is_localizer else _DESCRIPTIONS[series.index % len(_DESCRIPTIONS)]
    d.PatientName, d.PatientID = patient.replace("-", "^"), patient
    d.BodyPartExamined, d.PatientPosition = "BRAIN", "HFS"
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions, d.MRAcquisitionType = "SE", "NONE", "", "2D"
    d.SliceThickness = d.SpacingBetweenSlices = _SLICE_GAP
    d.RepetitionTime, d.EchoTime, d.EchoTrainLength = 500, 15, 1
    d.StudyInstanceUID = generate_uid(entropy_srcs=source)
    d.SeriesInstanceUID = generate_uid(entropy_srcs=[*source, str(series.number)])
    d.FrameOfReferenceUID = generate_uid(entropy_srcs=[*source, "frame"])
    d.StudyID, d.SeriesNumber, d.AcquisitionNumber = str(series.study + 1), series.number, 1
    d.InstanceNumber, d.PositionReferenceIndicator = _ANY_NUMBER, ""
    d.ImagePositionPatient = [-_FIELD_OF_VIEW / 2, -_FIELD_OF_VIEW / 2, _ANY_POSITION]
    d.ImageOrientationPatient, d.SliceLocation = _AXIAL, _ANY_POSITION
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME1" if series.index % 5 == 3 else "MONOCHROME2"
    d.Rows = d.Columns = size
    d.PixelSpacing = [f"{_FIELD_OF_VIEW / size:.6g}"] * 2
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.WindowCenter, d.WindowWidth = 2048 * slope + intercept, 4096 * slope
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = intercept, slope, "US"
    return d


def _header(data_set: Dataset, implicit: bool) -> bytes:
    """The file up to its pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data_set.SOPClassUID, data_set.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    pixels = bytes(2 * data_set.Rows * data_set.Columns)
    data_set.file_meta = meta
    data_set.add_new("PixelData", "OW", pixels)
    file = io.BytesIO()
    dcmwrite(file, data_set, enforce_file_format=True)
    return file.getvalue()[: -len(pixels)]


def _write_series(
    paths: list[Path],
    data_set: Dataset,
    series: _Series,
    image: np.ndarray,
    grain: np.ndarray,
    rng: np.random.Generator,
) -> int:
    """Write one series, a path a slice, and return how many bytes it takes."""
    n, size = series.n_slices, data_set.Rows
    implicit = series.index % 2 == 1
    headers = []
    for orientation in (_AXIAL, _SAGITTAL, _CORONAL) if series.is_localizer else (_AXIAL,):
        data_set.ImageOrientationPatient = orientation
        headers.append(_header(data_set, implicit))

    # Air around the head, so that a slice may show more than the phantom's picture.
    side = image.shape[0]
    contrast = np.pad(image, side // 4, constant_values=np.quantile(image, 0.1)) ** rng.uniform(0.8, 1.25)
    contrast *= rng.uniform(1500, 3700)
    head = Image.fromarray(contrast.astype(np.float32))
    drift = rng.uniform(-0.04, 0.04, 2)
    corners = rng.integers(0, size, (n, 2))
    order = rng.permutation(n) if series.index % 3 == 1 else np.arange(n)
    for path, k in zip(paths, order.tolist(), strict=True):
        # From the base of the head to its top: widest in the middle.
        t = 2 * k / (n - 1) - 1 if n > 1 else 0.0
        half = side * (1 + 0.3 * t * t) / 2
        x, y = 0.75 * side + drift * side * t
        slice_ = head.resize((size, size), Image.Resampling.BILINEAR, (x - half, y - half, x + half, y + half))
        top, left = corners[k]
        pixels = np.asarray(slice_).astype("<u2") + grain[top : top + size, left : left + size]
        if data_set.PhotometricInterpretation == "MONOCHROME1":
            pixels = 4095 - pixels
        uid = generate_uid(entropy_srcs=[data_set.SeriesInstanceUID, str(k)])
        header = headers[k % len(headers)].replace(_ANY_UID.encode(), uid.encode())
        header = header.replace(_ANY_NUMBER.encode(), b"%-6d" % (k + 1))
        header = header.replace(_ANY_POSITION.encode(), b"%+08.2f" % (_SLICE_GAP * (k - (n - 1) / 2)))
        path.write_bytes(header + pixels.astype("<u2").tobytes())
    return n * (len(headers[0]) + 2 * size * size)


def _location(d: Dataset, classic: bool) -> str:
    if classic:
        return f"REMBRANDT/{d.PatientID}/{d.StudyInstanceUID}/{d.SeriesInstanceUID}"
    study = f"{d.StudyDate[4:6]}-{d.StudyDate[6:]}-{d.StudyDate[:4]}-{d.StudyInstanceUID[-5:]}"
    return f"REMBRANDT/{d.PatientID}/{study}/{d.SeriesNumber}.000000-{d.SeriesInstanceUID[-5:]}"


def _metadata_row(d: Dataset, series: _Series, n_bytes: int, location: str) -> str:
    date = f"{d.StudyDate[4:6]}-{d.StudyDate[6:]}-{d.StudyDate[:4]}"
    return (
        f"{d.SeriesInstanceUID},REMBRANDT,NO,,{d.PatientID},{d.StudyInstanceUID},{d.StudyDescription},{date},"
        f"{d.SeriesDescription},{d.Manufacturer},MR,MR Image Storage,{d.SOPClassUID},{series.n_slices},"
        f"{n_bytes / 1e6:.2f} MB,./{location},2024-01-01T00:00:00.000"
    )


@contextmanager
def _new_folder(out: str | Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` once it is whole; `out` has to be new or empty."""
    out = Path(out).expanduser().resolve()
    if holds_something(out):
        raise ValueError(f"{out} is there already and not empty; give a folder that is new or empty")
    with whole_folder(out) as scratch:
        yield scratch


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} {self.unit}/s")


def _progress(unit: str) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn()
    return Progress(*columns, transient=True)
