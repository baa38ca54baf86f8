"""REMBRANDT as a data set, on trees of the phantom: labels by patient, no patient on two sides, traps listed."""

import csv
import os
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hqcnn_lab.data import RembrandtDataModule
from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.data.phantom.write import write_dicom
from hqcnn_lab.data.source.clinical import CLASSES
from hqcnn_lab.data.split.manifest import manifest_hash

N_PATIENTS, N_SLICES = 24, 3
SKIPPED_REASON = "bytes of pixel data"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom(tmp_path_factory.mktemp("dicom") / "tree", N_PATIENTS, N_SLICES, 2, size=32)


@pytest.fixture
def tree(exported: Path, tmp_path: Path) -> Path:
    """A tree that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "tree"))


def rembrandt(tree: Path, tmp_path: Path, **options: object) -> RembrandtDataModule:
    given = {"root": tree, "clinical": tree / "clinical.csv", "image_size": 16, "val_fraction": 0.2} | options
    data = RembrandtDataModule(cache_dir=tmp_path / "cache", **given)
    data.prepare_data()
    data.setup()
    return data


def table(tree: Path) -> dict[str, str]:
    with (tree / "clinical.csv").open() as file:
        return {row["SUBJECT_ID"]: row["DISEASE_TYPE"] for row in csv.DictReader(file)}


def series_of(tree: Path, patient: int = 1) -> list[Path]:
    """The folders of a patient's series, localizers left out."""
    folders = {path.parent for path in (tree / "REMBRANDT" / f"PHANTOM-{patient:04d}").rglob("*.dcm")}
    return sorted(folder for folder in folders if not folder.name.startswith("1."))


def edit(folder: Path, **values: object) -> None:
    for path in folder.rglob("*.dcm"):
        ds = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(ds, name, value)
        ds.save_as(path)


def test_labels_are_the_tables_and_patients_without_one_are_left_out_and_listed(tree: Path, tmp_path: Path) -> None:
    data, diagnoses = rembrandt(tree, tmp_path), table(tree)
    assert data.classes == tuple(name.lower() for name in CLASSES)
    assert len(data.records) == N_PATIENTS * 2 * N_SLICES
    for patient, label in zip(data.patients, data.labels, strict=True):
        assert label == (CLASSES.index(diagnoses[patient]) if diagnoses.get(patient) in CLASSES else -1)
    assert data.unlabelled == {
        f"PHANTOM-{i:04d}": why
        for i, why in {
            10: "UNKNOWN in the clinical table",
            11: "NON_TUMOR in the clinical table",
            12: "not in the clinical table",
            22: "UNKNOWN in the clinical table",
            23: "NON_TUMOR in the clinical table",
            24: "not in the clinical table",
        }.items()
    }
    assert "no class: patient PHANTOM-0012, not in the clinical table" in data.not_used()
    in_parts = np.concatenate(data.split)
    assert sorted(in_parts) == np.flatnonzero(data.labels >= 0).tolist()
    assert len(in_parts) == 18 * 2 * N_SLICES


def test_localizers_are_left_out_and_counted(tree: Path, tmp_path: Path) -> None:
    data = rembrandt(tree, tmp_path)
    assert len(data.left_out) == N_PATIENTS // 2 * 3
    assert all("/1.000000-" in file for file, _ in data.left_out)
    assert [line for line in data.not_used() if line.startswith("left out")] == ["left out: 36 files, localizer"]


@pytest.mark.parametrize("split", ["patient", "kfold"])
def test_no_patient_is_on_two_sides_and_every_part_has_every_class(split: str, tree: Path, tmp_path: Path) -> None:
    tested: Counter[str] = Counter()
    for fold in range(3):
        options = {"fold": fold, "n_folds": 3} if split == "kfold" else {"split_seed": fold}
        data = rembrandt(tree, tmp_path, split=split, **options)
        patients = [set(data.patients[indices]) for indices in data.split]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 18
        assert all(set(data.labels[indices]) == {0, 1, 2, 3} for indices in data.split)
        audit = data.audit()
        assert audit.shared_patients == {"val": 0, "test": 0}
        assert audit.patients == {part: len(p) for part, p in zip(("train", "val", "test"), patients, strict=True)}
        tested.update(patients[2])
    if split == "kfold":
        assert set(tested.values()) == {1}
        assert len(tested) == 18


def test_the_papers_split_by_slice_shares_patients_and_says_so(tree: Path, tmp_path: Path) -> None:
    data = rembrandt(tree, tmp_path, split="random")
    shared = data.audit().shared_patients["test"]
    assert shared == len(set(data.patients[data.split.test]) & set(data.patients[np.concatenate(data.split[:2])])) > 0
    for split, words in {
        "official": "=official: .*no published halves",
        "patients": " must be one of .*'patients'",
    }.items():
        with pytest.raises(UnusableData, match=rf"dataset\.split{words}"):
            rembrandt(tree, tmp_path, split=split)


def test_the_classic_layout_gives_the_same_images_and_follows_a_manifest(
    tree: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("classic") / "tree"
    classic = write_dicom(out, N_PATIENTS, N_SLICES, 2, classic=True, size=32)
    for split in ("random", "patient"):
        one = rembrandt(tree, tmp_path, split=split)
        path = tmp_path / f"{split}.csv"
        path.write_text(one.manifest_text())
        other = rembrandt(classic, tmp_path, manifest=path)
        places = [
            {(r.patient, r.series, r.slice): i for i, r in enumerate(data.records)}
            for data in (one, other)  # by what the files say of themselves
        ]
        assert places[0].keys() == places[1].keys()
        assert len(places[0]) == len(one.images)
        pairs = np.array([(i, places[1][key]) for key, i in places[0].items()])
        np.testing.assert_array_equal(one.images[pairs[:, 0]], other.images[pairs[:, 1]])
        np.testing.assert_array_equal(one.labels[pairs[:, 0]], other.labels[pairs[:, 1]])
        there = dict(pairs.tolist())
        assert [[there[i] for i in part] for part in one.split] == [part.tolist() for part in other.split]
        # Regression: of a split by slice, the run that followed had another hash: patients where groups had been.
        assert manifest_hash(one.manifest_text()) == manifest_hash(other.manifest_text())


def test_two_patients_with_one_name_stay_apart(tree: Path, tmp_path: Path) -> None:
    # With the same numbers of study and series, too, as a careless anonymization leaves them.
    for patient in (1, 2):
        edit(series_of(tree, patient)[0], PatientName="SAME^NAME", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4")
    data = rembrandt(tree, tmp_path)
    of_series = defaultdict(list)
    for record in data.records:
        if record.series == "1.2.4":
            of_series[record.patient].append(record.slice)
    assert of_series == {f"PHANTOM-{i:04d}": list(range(N_SLICES)) for i in (1, 2)}
    assert len(set(data.names)) == len(data.names)


def test_two_series_in_one_folder_stay_apart(tree: Path, tmp_path: Path) -> None:
    one, other = series_of(tree, 2)
    for path in other.iterdir():
        path.rename(one / f"2-{path.name}")
    other.rmdir()
    data = rembrandt(tree, tmp_path)
    slices = Counter((r.series, r.slice) for r in data.records if r.patient == "PHANTOM-0002")
    assert len({series for series, _ in slices}) == 2
    assert len(slices) == 2 * N_SLICES
    assert len(set(data.names)) == len(data.names)


def test_a_patient_in_two_folders_is_one(tree: Path, tmp_path: Path) -> None:
    folder = series_of(tree, 1)[0]
    shutil.move(folder, tree / "REMBRANDT" / "elsewhere" / "1" / folder.name)
    data = rembrandt(tree, tmp_path)
    files = [record.file for record in data.records if record.patient == "PHANTOM-0001"]
    assert len({file.split("/")[1] for file in files}) == 2
    where = [part for part, indices in data.split._asdict().items() if "PHANTOM-0001" in data.patients[indices]]
    assert len(where) == 1
    assert len({data.names[i].split("/")[0] for i in np.flatnonzero(data.patients == "PHANTOM-0001")}) == 1


def test_traps_of_a_tree_are_listed_and_the_rest_is_read(tree: Path, tmp_path: Path) -> None:
    first, second = series_of(tree, 1)[0], series_of(tree, 2)[0]
    torn, garbled, locked = sorted(first.iterdir())[0], sorted(first.iterdir())[1], sorted(second.iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:-100])
    garbled.write_bytes(b"no DICOM file")
    locked.unlink()
    locked.symlink_to(locked.name)  # stands for what cannot be opened, as nothing is locked for root
    (first / "loop").symlink_to(tree / "REMBRANDT")
    (tree / "REMBRANDT" / "PHANTOM-0003" / "empty").mkdir()
    data = rembrandt(tree, tmp_path)
    names = [path.relative_to(tree).as_posix() for path in (torn, garbled)]
    assert [file for file, _ in data.skipped_files] == names
    assert SKIPPED_REASON in data.skipped_files[0][1]
    assert data.skipped_files[1][1] == "not a DICOM file"
    assert dict(data.unread).keys() == {"REMBRANDT/PHANTOM-0003/empty", locked.relative_to(tree).as_posix()}
    assert len(data.records) == N_PATIENTS * 2 * N_SLICES - 3
    assert [(place.split("/")[1], found, said) for place, found, said in data.incomplete] == [("PHANTOM-0002", 2, 3)]
    lines = data.not_used()
    assert any(line.startswith("not listed: REMBRANDT/PHANTOM-0003/empty, holds no images") for line in lines)
    assert any(line.endswith("2 of the 3 files that metadata.csv lists") for line in lines)
    assert any(line.startswith(f"skipped {names[1]}: not a DICOM file") for line in lines)


def test_a_file_that_may_not_be_read_is_listed(tree: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = sorted(series_of(tree, 1)[0].iterdir())[0]
    path.chmod(0)
    assert [file for file, _ in rembrandt(tree, tmp_path).skipped_files] == [path.relative_to(tree).as_posix()]


def test_metadata_csv_is_not_needed(tree: Path, tmp_path: Path) -> None:
    with_table = rembrandt(tree, tmp_path)
    lines = (tree / "metadata.csv").read_text() + "what is this\n"
    (tree / "metadata.csv").unlink()
    without = rembrandt(tree, tmp_path)
    assert without.contents == with_table.contents
    assert without.incomplete == with_table.incomplete == []
    # Regression: a table that is none ended it, and lines that cannot be read were passed over without a word.
    for text, words in (
        ("garbage\0", "metadata.csv: not compared with the files, no NBIA"),
        (lines, "metadata.csv: 1 lin"),
    ):
        (tree / "metadata.csv").write_text(text)
        garbled = rembrandt(tree, tmp_path)
        assert garbled.contents == with_table.contents
        assert any(line.startswith(words) for line in garbled.not_used())
    # The root may also be the folder of patients.
    inner = rembrandt(tree / "REMBRANDT", tmp_path, clinical=tree / "clinical.csv")
    assert inner.contents == with_table.contents


def test_files_without_a_patients_id_are_without_a_class(tree: Path, tmp_path: Path) -> None:
    edit(series_of(tree, 1)[0], PatientID="")
    data = rembrandt(tree, tmp_path)
    assert data.unlabelled[""] == "not in the clinical table"
    assert "no class: patient (no id), not in the clinical table" in data.not_used()
    assert "" not in set(data.patients[np.concatenate(data.split)])
    assert data.audit().shared_patients["test"] == 0


CLINICAL = {
    "SUBJECT_ID,DISEASE_TYPE\n": "no patient in column SUBJECT_ID",
    "CODE,DISEASE_TYPE\nPHANTOM-0001,GBM\n": "no column SUBJECT_ID or .*; it has CODE, DISEASE_TYPE; set dataset.clin",
    "SUBJECT_ID,CLASS\nPHANTOM-0001,GBM\n": "set dataset.clinical_class to one of them",
    "": "the clinical table is empty",
    None: "the clinical table cannot be read: No such file",
}


@pytest.mark.parametrize("content", CLINICAL)
def test_a_wrong_clinical_table_is_one_line_that_names_the_key(content: str | None, tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UnusableData, match=rf"^dataset\.clinical={path}: .*{CLINICAL[content]}") as error:
        rembrandt(tree, tmp_path, clinical=path)
    assert "\n" not in str(error.value)


def test_columns_may_be_named(tree: Path, tmp_path: Path) -> None:
    expected = rembrandt(tree, tmp_path).labels
    path = tmp_path / "other.tsv"
    lines = (tree / "clinical.csv").read_text().replace("SUBJECT_ID", "Code").replace("DISEASE_TYPE", "Kind")
    path.write_text(lines.replace(",", "\t"))
    data = rembrandt(tree, tmp_path, clinical=path, clinical_id="Code", clinical_class="Kind")
    np.testing.assert_array_equal(data.labels, expected)


def test_too_few_patients_of_a_class_and_no_image_at_all(tree: Path, tmp_path: Path) -> None:
    diagnoses = table(tree)
    for patient in [patient for patient, name in diagnoses.items() if name == "GBM"][2:]:
        shutil.rmtree(tree / "REMBRANDT" / patient)
    with pytest.raises(UnusableData, match=r"dataset\.split=patient: class gbm has 2 patients, .* needs 3"):
        rembrandt(tree, tmp_path)
    for path in (tree / "REMBRANDT").rglob("*.dcm"):
        path.write_bytes(b"broken")
    for split in ("patient", "random"):
        with pytest.raises(UnusableData, match=r"class astrocytoma has 0 patients|no image of astrocytoma, gbm"):
            rembrandt(tree, tmp_path, split=split)
    shutil.rmtree(tree / "REMBRANDT")
    (tree / "REMBRANDT" / "PHANTOM-0001").mkdir(parents=True)
    with pytest.raises(UnusableData, match=r"dataset\.root=.*: no images in it \(holds no images\)") as error:
        rembrandt(tree, tmp_path)
    assert "PHANTOM" not in str(error.value)  # Regression: it named the folder, and the error goes into the record
