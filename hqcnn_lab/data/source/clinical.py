"""Read the class of each patient from the clinical table that belongs to REMBRANDT."""

import csv
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

from hqcnn_lab.data.source.tables import read_table_bytes
from hqcnn_lab.error import shown

# The class order everywhere: labels, logits, confusion matrices.
CLASSES = ("ASTROCYTOMA", "GBM", "OLIGODENDROGLIOMA", "MIXED")
_ALSO = {"GLIOBLASTOMA_MULTIFORME": "GBM", "GLIOBLASTOMA": "GBM"}
_UNLABELLED = ("UNKNOWN", "NON_TUMOR")  # published values that are none of the four

# Published names of the two columns; the first that a table has is taken.
ID_COLUMNS = ("SUBJECT_ID", "PATIENT_ID", "SUBJECT", "PATIENT", "SAMPLE_ID", "SAMPLE", "CASE_ID")
_N_SHOWN = 20  # names of columns in a message
CLASS_COLUMNS = ("DISEASE_TYPE", "DISEASE", "DIAGNOSIS", "TUMOR_TYPE")


class Diagnosis(NamedTuple):
    """`label` is an index into `CLASSES`, or None with the reason why the patient has no class."""

    label: int | None
    reason: str = ""


def read_clinical(
    path: str | Path | None, id_column: str | None = None, class_column: str | None = None
) -> dict[str, Diagnosis]:
    """Return the diagnosis of every patient of a comma-, semicolon- or tab-separated table with a header line.

    For tables as published or exported from a spreadsheet: case and surrounding blanks do not matter, a patient may
    have several rows that agree. A class that is none of the four is no error, it leaves the patient without a label.

    Args:
        path: the table.
        id_column: name of the column with what DICOM calls PatientID; the first of `ID_COLUMNS` unless given.
        class_column: name of the column with the class; the first of `CLASS_COLUMNS` unless given.

    Raises:
        ValueError: one line that names columns and lines of the table, and never what is written of a patient.
    """
    if path is None:
        raise ValueError(
            "not set; give the clinical table (csv or tsv with a header line) that tells patients' classes"
        )
    text = _text(Path(path).expanduser())
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"line {line} of the clinical table holds a NUL character; save it as UTF-8")
    header = text.lstrip().partition("\n")[0]
    if not header:
        raise ValueError("the clinical table is empty")
    # Strict, or a quote that is never closed would swallow the patients below it without a word.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max("\t;,", key=header.count), strict=True)
    try:
        return _diagnoses(rows, id_column, class_column)
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num} of the clinical table is not well quoted: {error}") from error


def _diagnoses(rows: Any, id_column: str | None, class_column: str | None) -> dict[str, Diagnosis]:
    columns = next((row for row in rows if any(cell.strip() for cell in row)), None)
    if columns is None:
        raise ValueError("the clinical table is empty")
    if any(_label(cell) is not None or _key(cell) in _UNLABELLED for cell in columns):
        raise ValueError("the clinical table has no header line: its first line holds a class")
    id_at = _find(columns, id_column, ID_COLUMNS, "dataset.clinical_id")
    class_at = _find(columns, class_column, CLASS_COLUMNS, "dataset.clinical_class")

    diagnoses: dict[str, Diagnosis] = {}
    first_line: dict[str, int] = {}
    for row in rows:
        if any(cell.strip() for cell in row[len(columns) :]):
            raise ValueError(f"line {rows.line_num} of the clinical table has more cells than its header; quote commas")
        cells = [cell.strip() for cell in row] + [""] * (len(columns) - len(row))
        patient = cells[id_at]
        if not patient:
            continue
        diagnosis = _diagnosis(cells[class_at])
        first = diagnoses.setdefault(patient, diagnosis)
        line = first_line.setdefault(patient, rows.line_num)
        if first.label != diagnosis.label:
            raise ValueError(
                f"lines {line} and {rows.line_num} of the clinical table are of one patient and disagree in column "
                f"{columns[class_at].strip()}; keep one"
            )
    if not diagnoses:
        raise ValueError(f"no patient in column {columns[id_at].strip()} of the clinical table")
    return diagnoses


def _text(path: Path) -> str:
    try:
        content = read_table_bytes(path)
    except OSError as error:
        raise ValueError(f"the clinical table cannot be read: {error.strerror or type(error).__name__}") from error
    if content.startswith(b"PK\x03\x04"):
        raise ValueError("the clinical table is an Excel workbook; save it as csv")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # what spreadsheets write in western Europe; decodes anything
        return content.decode("latin-1")


def _key(text: str) -> str:
    """Names that differ in case, blanks, hyphens or underscores alone are one name."""
    return re.sub(r"[\s_-]+", "_", text.strip()).upper()


def _find(columns: list[str], wanted: str | None, published: tuple[str, ...], config_key: str) -> int:
    keys = [_key(column) for column in columns]
    for name in [wanted] if wanted is not None else published:
        if (n := keys.count(_key(name))) > 1:
            raise ValueError(f"the clinical table has {n} columns {shown(name)}; set {config_key} to one it has once")
        if n:
            return keys.index(_key(name))
    names = f"column {shown(wanted)}" if wanted is not None else f"column {' or '.join(published)}"
    # A first line without any known name may be no header, and hold a patient.
    if not any(_key(name) in keys for name in (*ID_COLUMNS, *CLASS_COLUMNS)):
        raise ValueError(f"the clinical table has no {names} in its first line; set {config_key} to its name")
    have = ", ".join(shown(column.strip()) for column in columns[:_N_SHOWN])
    raise ValueError(f"the clinical table has no {names}; it has {have}; set {config_key} to one of them")


def _label(cell: str) -> int | None:
    name = _key(cell)
    name = _ALSO.get(name, name)
    return CLASSES.index(name) if name in CLASSES else None


def _diagnosis(cell: str) -> Diagnosis:
    label = _label(cell)
    if label is not None:
        return Diagnosis(label)
    if not cell:
        return Diagnosis(None, "no class in the clinical table")
    if _key(cell) in _UNLABELLED:
        return Diagnosis(None, f"{_key(cell)} in the clinical table")
    return Diagnosis(None, "the class in the clinical table is none of the four")
