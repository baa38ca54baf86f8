"""REMBRANDT (TCIA): DICOM slices of brain tumour patients, with their classes in a separate clinical table."""

from pathlib import Path
from typing import Any

import numpy as np

from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.data.decode.cache import File, Reader
from hqcnn_lab.data.decode.series import ImageRecord, as_text, read_series, recipe
from hqcnn_lab.data.file_datamodule import FileDataModule
from hqcnn_lab.data.limits import DATASET
from hqcnn_lab.data.source.clinical import CLASSES, Diagnosis, read_clinical
from hqcnn_lab.data.source.rembrandt_layout import Folder, find_folders, missing_files, read_metadata
from hqcnn_lab.data.split.manifest import pseudonym
from hqcnn_lab.limit import check_limits


class RembrandtDataModule(FileDataModule):
    """MR slices of glioma patients in four classes, decoded once into a shared cache, scaled series by series.

    `clinical` is the table that tells patients' classes, in `clinical_class`, by `clinical_id`: the columns' published
    names unless given. Slices of patients without a class are left out. `split="patient"` keeps each patient on one
    side; `"random"`, the paper's, puts slices of one patient on both, so that its score says little about new patients.

    Patients appear in a run's records under pseudonyms alone. `unlabelled` are those left out, and why; `unread` places
    on the disk that could not be listed; `incomplete` series with fewer files than metadata.csv says, and `unclear`
    what of that table could not be read.
    """

    classes = tuple(name.lower() for name in CLASSES)

    def __init__(
        self,
        root: str | Path | None,
        cache_dir: str | Path,
        clinical: str | Path | None,
        clinical_id: str | None = None,
        clinical_class: str | None = None,
        split: str = "patient",
        **options: Any,
    ) -> None:
        check_limits(DATASET, locals(), "dataset.", UnusableData)
        super().__init__(root, cache_dir, split, **options)
        self.clinical, self.clinical_id, self.clinical_class = clinical, clinical_id, clinical_class
        self.unlabelled: dict[str, str] = {}
        self.unread: list[tuple[str, str]] = []
        self.incomplete: list[tuple[str, int, int]] = []
        self.unclear: list[str] = []

    def list_files(self) -> tuple[list[list[File]], Reader, str]:
        """A task is a folder: in every layout, a series."""
        folders, self.unread = find_folders(self.root)
        assert self.root is not None  # find_folders has refused it
        self.incomplete, self.unclear = _compare(Path(self.root).expanduser(), folders)
        tasks = [
            [File(f"{folder.name}/{f.name}".removeprefix("./"), f.size, f.mtime_ns) for f in folder.files]
            for folder in folders
        ]
        return tasks, read_series, recipe("series")

    def find_labels(self, records: list[ImageRecord]) -> np.ndarray:
        """By the patient's id in the DICOM file; who is not in the table has no class."""
        try:
            diagnoses = read_clinical(self.clinical, self.clinical_id, self.clinical_class)
        except ValueError as error:
            raise UnusableData(f"dataset.clinical={self.clinical}: {error}") from None
        absent = Diagnosis(None, "not in the clinical table")
        by_patient = {patient: diagnoses.get(patient, absent) for patient in {record.patient for record in records}}
        self.unlabelled = {patient: d.reason for patient, d in sorted(by_patient.items()) if d.label is None}
        labels = {patient: -1 if d.label is None else d.label for patient, d in by_patient.items()}
        return np.array([labels[record.patient] for record in records], dtype=np.int64)

    def public_name(self, record: ImageRecord, salt: str) -> str:
        """patient/series/slice, the first two under pseudonyms: folders are named for patients and dates."""
        series = pseudonym(f"{record.file.rpartition('/')[0]} {record.study} {record.series}", salt)[:6]
        return f"{pseudonym(record.patient, salt)}/{series}/{record.slice:04d}"

    def public_file(self, file: str, salt: str) -> str:
        """A pseudonym: `prepare` prints the real name, on the terminal alone."""
        return pseudonym(file, salt)

    def not_used(self) -> list[str]:
        """Also series that are not whole, and patients without a class."""
        lines = [
            f"{as_text(place)}: {n_files} of the {n_listed} files that metadata.csv lists"
            for place, n_files, n_listed in self.incomplete
        ]
        lines += [f"metadata.csv: {problem}" for problem in self.unclear]
        lines += [f"not listed: {as_text(place)}, {reason}" for place, reason in self.unread]
        lines += [f"no class: patient {patient or '(no id)'}, {why}" for patient, why in self.unlabelled.items()]
        return [*lines, *super().not_used()]


def _compare(root: Path, folders: list[Folder]) -> tuple[list[tuple[str, int, int]], list[str]]:
    """Compare the folders with the metadata.csv in the root, or beside it where the root is its REMBRANDT folder.

    Returns place, number of files and number listed of each series that is not whole; and what of the table could not
    be read, which costs no image.
    """
    path = next((p for p in (root / "metadata.csv", root.parent / "metadata.csv") if p.is_file()), None)
    if path is None:
        return [], []
    try:
        series, problems = read_metadata(path)
    except ValueError as error:
        return [], [f"not compared with the files, {error}"]
    unclear = [f"{len(problems)} lines could not be read, such as {problems[0][0]}"] if problems else []
    return missing_files(root, folders, series), unclear
