"""DICOM files for the tests, made of numbers alone."""

from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

RAMP = (np.arange(40 * 48, dtype=np.uint16) * 2).reshape(40, 48)  # 0 … 3838: twelve bits of sixteen


def mr_slice(pixels: np.ndarray = RAMP, **values: Any) -> Dataset:
    """One ordinary MR slice without a window; `values` are set last, and taken away where they are None."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, generate_uid()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.Modality, ds.SeriesDescription = "MR", "AX T1 POST"
    ds.PatientName, ds.PatientID = "1^2", "HF0001"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.InstanceNumber = 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-100, -100, 12.5], [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    ds.PhotometricInterpretation = "RGB" if ds.SamplesPerPixel == 3 else "MONOCHROME2"
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    shape = pixels.shape[:-1] if ds.SamplesPerPixel == 3 else pixels.shape
    ds.Rows, ds.Columns = shape[-2:]
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in values.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def as_file(ds: Dataset, syntax: str = ExplicitVRLittleEndian, meta: bool = True) -> bytes:
    """The bytes of a file; `meta` False leaves the preamble and the file meta information away."""
    buffer = BytesIO()
    if meta:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(buffer, enforce_file_format=True)
    else:
        ds.save_as(buffer, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True)
    return buffer.getvalue()


def encapsulated(streams: list[bytes], syntax: str, pixels: np.ndarray = RAMP, **values: Any) -> bytes:
    """A file around frames that are encoded already; `pixels` says what its elements claim."""
    ds = mr_slice(pixels, **values)
    ds.PixelData = encapsulate(streams)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return as_file(ds, syntax)


def group(**values: Any) -> Dataset:
    """A data set of a sequence."""
    ds = Dataset()
    for name, value in values.items():
        setattr(ds, name, value)
    return ds
