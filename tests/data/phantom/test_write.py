"""The written trees: valid DICOM as pydicom reads it, the published layouts, known classes, the same bytes again."""

import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hqcnn_lab.data.decode.reading import read_image
from hqcnn_lab.data.phantom import write
from hqcnn_lab.data.phantom.write import write_dicom, write_kaggle
from hqcnn_lab.data.source import clinical
from hqcnn_lab.data.source.clinical import read_clinical
from hqcnn_lab.data.source.layout import CLASSES, find_images
from hqcnn_lab.data.source.rembrandt_layout import find_folders, missing_files, read_metadata

N_PATIENTS, N_SLICES, N_SERIES, SIZE = 13, 7, 3, 48

# fmt: off
# PS3.3, table A.4-1, MR Image Storage: every attribute of type 1 that these objects need, with a value …
TYPE_1 = {
    "SOPClassUID", "SOPInstanceUID", "Modality", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "ImageType", "ScanningSequence", "SequenceVariant", "SamplesPerPixel", "PhotometricInterpretation", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "WindowCenter", "WindowWidth",
}
# … and of type 2, there even if empty.
TYPE_2 = {
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "SeriesNumber", "PositionReferenceIndicator", "Manufacturer", "InstanceNumber",
    "SliceThickness", "ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength", "RepetitionTime",
    "ContentDate", "ContentTime", "PatientPosition",
}
# fmt: on


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom(tmp_path_factory.mktemp("dicom") / "tree", N_PATIENTS, N_SLICES, N_SERIES, size=SIZE)


@pytest.fixture(scope="module")
def slices(tree: Path) -> dict[str, Dataset]:
    """Every file as pydicom reads it, by its name below the root."""
    paths = sorted(tree.rglob("*.dcm"))
    return {path.relative_to(tree).as_posix(): pydicom.dcmread(path, force=False) for path in paths}


def of_series(slices: dict[str, Dataset]) -> dict[str, list[Dataset]]:
    series = defaultdict(list)
    for name, data_set in slices.items():
        series[name.rpartition("/")[0]].append(data_set)
    return series


def digest(root: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        content.update(path.relative_to(root).as_posix().encode())
        content.update(path.read_bytes() if path.is_file() else b"/")
    return content.hexdigest()


@pytest.mark.slow
def test_every_object_is_valid_mr(slices: dict[str, Dataset]) -> None:
    assert len(slices) == N_PATIENTS * N_SERIES * N_SLICES + 7 * 3
    for d in slices.values():
        assert all(d[name].value not in (None, "", []) for name in TYPE_1)
        assert all(name in d for name in TYPE_2)
        assert d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID
        assert d.file_meta.MediaStorageSOPClassUID == d.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
        assert (d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation) == (16, 12, 11, 0)
        assert all(UID(d[f"{level}InstanceUID"].value).is_valid for level in ("Study", "Series", "SOP"))
        assert str(d.PatientName) == d.PatientID.replace("-", "^")
        assert len(d.ImageOrientationPatient) == 6
        pixels = d.pixel_array
        assert pixels.shape == (SIZE, SIZE)
        assert 0 <= pixels.min() < 500 < 1200 < pixels.max() < 2**12 or d.PhotometricInterpretation == "MONOCHROME1"


def test_every_element_can_be_written_again_by_the_rules(slices: dict[str, Dataset], tmp_path: Path) -> None:
    with pydicom.config.strict_reading():  # a value that breaks its VR raises here
        for d in list(slices.values())[::17]:
            for element in d:
                assert element.VR
            d.save_as(tmp_path / "again.dcm", enforce_file_format=True)
            again = pydicom.dcmread(tmp_path / "again.dcm")
            assert {e.tag: str(e.value) for e in again} == {e.tag: str(e.value) for e in d}


def test_identifiers_are_unique_where_they_must_be(slices: dict[str, Dataset]) -> None:
    assert len({d.SOPInstanceUID for d in slices.values()}) == len(slices)
    series = of_series(slices)
    assert len({members[0].SeriesInstanceUID for members in series.values()}) == len(series)
    for members in series.values():
        for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID"):
            assert len({member[name].value for member in members}) == 1
    assert {len({d.StudyInstanceUID for d in slices.values() if d.PatientID == p}) for p in patients(slices)} == {1, 2}


def patients(slices: dict[str, Dataset]) -> list[str]:
    return sorted({d.PatientID for d in slices.values()})


def test_what_real_files_vary_in_varies(slices: dict[str, Dataset]) -> None:
    seen = list(slices.values())
    assert {d.file_meta.TransferSyntaxUID for d in seen} == {ExplicitVRLittleEndian, ImplicitVRLittleEndian}
    assert {d.PhotometricInterpretation for d in seen} == {"MONOCHROME1", "MONOCHROME2"}
    assert {float(d.RescaleSlope) for d in seen} == {0.5, 1.0}
    localizers = [d for d in seen if "LOCALIZER" in d.ImageType]
    assert len(localizers) == 7 * 3
    assert len({tuple(d.ImageOrientationPatient) for d in localizers}) == 3
    disordered = 0
    for members in of_series(slices).values():
        numbers = [int(d.InstanceNumber) for d in members]
        assert sorted(numbers) == list(range(1, len(members) + 1))
        disordered += numbers != sorted(numbers)
        by_number = sorted(members, key=lambda d: d.InstanceNumber)
        steps = np.diff([float(d.ImagePositionPatient[2]) for d in by_number])
        np.testing.assert_allclose(steps, 5)
        assert all(float(d.SliceLocation) == float(d.ImagePositionPatient[2]) for d in members)
    assert 0 < disordered < len(of_series(slices)) / 2


def test_folders_are_named_as_the_retriever_names_them(slices: dict[str, Dataset]) -> None:
    for name, d in slices.items():
        top, patient, study, series, file = name.split("/")
        assert (top, patient) == ("REMBRANDT", d.PatientID)
        date = f"{d.StudyDate[4:6]}-{d.StudyDate[6:]}-{d.StudyDate[:4]}"
        assert study == f"{date}-{d.StudyInstanceUID[-5:]}"
        assert series == f"{d.SeriesNumber}.000000-{d.SeriesInstanceUID[-5:]}"
        assert file in {f"1-{i:02}.dcm" for i in range(1, N_SLICES + 1)}


def test_tables_agree_with_the_files(tree: Path, slices: dict[str, Dataset]) -> None:
    content = (tree / "metadata.csv").read_bytes()
    assert content.count(b"\r\n") == content.count(b"\n") == len(of_series(slices)) + 1
    lines = content.decode().splitlines()
    assert any(line.count(",") > lines[0].count(",") for line in lines)  # the comma that breaks naive parsing
    series, problems = read_metadata(tree / "metadata.csv")
    assert problems == []
    assert {uid: entry.location for uid, entry in series.items()} == {
        members[0].SeriesInstanceUID: name for name, members in of_series(slices).items()
    }
    folders, problems = find_folders(tree)
    assert problems == []
    assert missing_files(tree, folders, series) == []
    assert {folder.name: len(folder.files) for folder in folders} == {
        entry.location: entry.n_images for entry in series.values()
    }


def test_clinical_table_has_every_kind_of_patient(tree: Path, slices: dict[str, Dataset]) -> None:
    table = read_clinical(tree / "clinical.csv")
    assert set(patients(slices)) - table.keys() == {"PHANTOM-0012"}
    assert {p: d.reason for p, d in table.items() if d.label is None} == {
        "PHANTOM-0010": "UNKNOWN in the clinical table",
        "PHANTOM-0011": "NON_TUMOR in the clinical table",
    }
    assert {d.label for d in table.values()} == {None, *range(len(clinical.CLASSES))}


def test_slices_of_a_patient_look_like_one_head(slices: dict[str, Dataset]) -> None:
    """Among the middle slices of all series, the one most like any is of the same patient."""
    middle = [d for d in slices.values() if d.InstanceNumber == (N_SLICES + 1) // 2]
    pixels = np.stack([d.pixel_array.astype(float).ravel() for d in middle])
    dark = np.array([d.PhotometricInterpretation == "MONOCHROME1" for d in middle])
    pixels[dark] = 4095 - pixels[dark]
    likeness = np.corrcoef(pixels) - 2 * np.eye(len(middle))
    assert [middle[i].PatientID for i in likeness.argmax(1)] == [d.PatientID for d in middle]


def test_classic_names_are_whole_uids(tmp_path: Path) -> None:
    write_dicom(tmp_path / "tree", 1, 3, 1, classic=True, size=16)
    for path in (tmp_path / "tree").rglob("*.dcm"):
        d = pydicom.dcmread(path)
        folder = f"REMBRANDT/{d.PatientID}/{d.StudyInstanceUID}/{d.SeriesInstanceUID}"
        assert path.relative_to(tmp_path / "tree").parent.as_posix() == folder
    series, _ = read_metadata(tmp_path / "tree" / "metadata.csv")
    assert missing_files(tmp_path / "tree", find_folders(tmp_path / "tree")[0], series) == []


def test_kaggle_tree_is_found_and_balanced(tmp_path: Path) -> None:
    assert write_kaggle(tmp_path / "tree", 42, 9, size=32) == tmp_path / "tree"
    files = find_images(tmp_path / "tree")
    for half, n_images in (("Training", 42), ("Testing", 9)):
        counts = np.bincount([f.label for f in files if f.half == half], minlength=len(CLASSES))
        assert counts.sum() == n_images
        assert counts.max() - counts.min() <= 1
    with Image.open(tmp_path / "tree" / files[0].name) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "L", (32, 32))
    images = np.stack([read_image(tmp_path / "tree" / f.name, 32) for f in files]).reshape(51, -1)
    distance = np.abs(images[:, None] - images[None]).mean(-1) + np.eye(51)
    assert distance.min() > 0.01  # no image twice, in neither half


@pytest.mark.parametrize("write", [lambda out, seed: write_kaggle(out, 4, 4, seed=seed, size=16),
                                   lambda out, seed: write_dicom(out, 3, 4, 2, seed=seed, size=16)])  # fmt: skip
def test_same_arguments_same_bytes(write, tmp_path: Path) -> None:
    trees = [write(tmp_path / name, seed) for name, seed in (("a", 5), ("b", 5), ("c", 6))]
    first, second, third = (digest(tree) for tree in trees)
    assert first == second != third


def test_nothing_is_overwritten_and_a_killed_process_leaves_no_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tree"
    out.mkdir()
    for name in ("tree.part", "tree.999999999.part"):  # of an older version, of this one
        (tmp_path / name).mkdir()
        (tmp_path / name / "left over").touch()
    written = []
    write_series = write._write_series

    def interrupted(*arguments):
        written.append(write_series(*arguments))
        if len(written) > 2:
            raise KeyboardInterrupt
        return written[-1]

    monkeypatch.setattr(write, "_write_series", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dicom(out, 2, 2, size=16)
    assert [path.name for path in tmp_path.rglob("*")] == ["tree"]
    monkeypatch.undo()
    write_dicom(out, 2, 2, size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    before = digest(out)
    with pytest.raises(ValueError, match="already and not empty; give a folder that is new or empty"):
        write_kaggle(out, 4, 4)
    with pytest.raises(ValueError, match="already and not empty"):
        write_dicom(out / "clinical.csv", 1, 1)
    assert digest(out) == before


@pytest.mark.parametrize(
    "arguments", [(0, 1), (1, 0), (1, 1001), (1, 1, 0), (1, 1, 1, False, -1), (1, 1, 1, False, 0, 8)]
)
def test_bad_arguments_are_named(arguments: tuple, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"write_dicom: \w+ must be"):
        write_dicom(tmp_path / "tree", *arguments)
    with pytest.raises(ValueError, match="write_kaggle: n_test must be"):
        write_kaggle(tmp_path / "tree", 4, 3)
    assert list(tmp_path.iterdir()) == []
