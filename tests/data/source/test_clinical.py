"""Clinical tables as they come: separators, quotes, encodings, names; and nothing of a patient in a message."""

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from conftest import SHARED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hqcnn_lab.data.source.clinical import CLASSES, Diagnosis, read_clinical


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "clinical.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def labels(path: Path, **columns: str) -> dict[str, int | None]:
    return {patient: diagnosis.label for patient, diagnosis in read_clinical(path, **columns).items()}


PLAIN = "SUBJECT_ID,AGE_RANGE,DISEASE_TYPE\nP1,40-44,ASTROCYTOMA\nP2,,GBM\nP3,,OLIGODENDROGLIOMA\nP4,,MIXED\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ";"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        "\n\n" + PLAIN.replace("\n", "\n\n"),
        PLAIN.rstrip("\n"),
        PLAIN.lower().replace("\np", "\nP"),
        '"Subject ID","Disease Type"\n"P1","ASTROCYTOMA"\n"P2","GBM"\n"P3","OLIGODENDROGLIOMA"\n" P4 ","MIXED"',
        PLAIN.replace(",", "  ,  "),
        PLAIN.replace("40-44", '"40, perhaps\n44"'),
        PLAIN.replace("P2,,GBM", "P2,,Glioblastoma  multiforme,,"),
        PLAIN.replace("P2,,GBM", "P2,Łódź,GBM").encode("utf-8"),
        PLAIN.replace("P2,,GBM", "P2,Zürich,GBM").encode("latin-1"),
        PLAIN.replace("SUBJECT_ID", "Sample").replace("DISEASE_TYPE", "Disease"),
        PLAIN + "P1,45-49,astrocytoma\n,,GBM\n",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_one_table_in_many_forms(text: str | bytes, tmp_path: Path) -> None:
    assert labels(table(tmp_path, text)) == {"P1": 0, "P2": 1, "P3": 2, "P4": 3}


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("UNKNOWN", "UNKNOWN in the clinical table"),
        (" non tumor ", "NON_TUMOR in the clinical table"),
        ("NON_TUMOR", "NON_TUMOR in the clinical table"),
        ("", "no class in the clinical table"),
        ("MENINGIOMA", "the class in the clinical table is none of the four"),
    ],
)
def test_patients_without_a_class_keep_the_reason(cell: str, reason: str, tmp_path: Path) -> None:
    path = table(tmp_path, f"PATIENT_ID,DISEASE\nP1,{cell}\nP2,GBM\n")
    assert read_clinical(path) == {"P1": Diagnosis(None, reason), "P2": Diagnosis(1)}


def test_a_short_row_has_no_class(tmp_path: Path) -> None:
    assert labels(table(tmp_path, "PATIENT_ID,DISEASE\nP1\nP2,GBM\n")) == {"P1": None, "P2": 1}


def test_named_columns_win(tmp_path: Path) -> None:
    path = table(tmp_path, "SUBJECT_ID,Case,DISEASE_TYPE,Review\n1,A,GBM,mixed\n2,B,GBM,astrocytoma\n")
    assert labels(path, id_column="case", class_column=" review") == {"A": 3, "B": 0}


SECRET = "HF0000"


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "is empty"),
        (b"PK\x03\x04...", {}, "an Excel workbook; save it as csv"),
        (f"{SECRET},GBM\nHF1,MIXED\n", {}, "no header line"),
        (
            f"Name,DISEASE\n{SECRET},GBM\n",
            {},
            r"no column SUBJECT_ID or .*; it has Name, DISEASE; set dataset.clinical_id",
        ),
        (f"SUBJECT_ID,What\n{SECRET},GBM\n", {}, r"it has SUBJECT_ID, What; set dataset.clinical_class"),
        (
            f"SUBJECT_ID,DISEASE\n{SECRET},GBM\n",
            {"id_column": "X"},
            "no column X; it has SUBJECT_ID, DISEASE; set dataset.c",
        ),
        (
            f"SUBJECT_ID,DISEASE\n\n{SECRET},GBM\nHF1,GBM\n{SECRET},MIXED\n",
            {},
            "lines 3 and 5 .* disagree in column DISEASE",
        ),
        (f"SUBJECT_ID,DISEASE\n{SECRET},GBM\n{SECRET},UNKNOWN\n", {}, "lines 2 and 3 .* disagree in column DISEASE"),
        (f'SUBJECT_ID,DISEASE\n"{SECRET},GBM\nHF1,GBM\n', {}, "line 3 .* is not well quoted"),
        (f"SUBJECT_ID,DISEASE\n{SECRET},a, b,GBM\n", {}, "line 2 .* more cells than its header"),
        ("SUBJECT_ID,DISEASE\n,GBM\n", {}, "no patient in column SUBJECT_ID"),
    ],
)
def test_refused_with_one_line_and_no_patient(
    text: str | bytes, columns: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_clinical(table(tmp_path, text), **columns)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not set; give the clinical table"):
        read_clinical(None)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_clinical(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_clinical(tmp_path)


cell = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    patients=st.dictionaries(cell.filter(bool), st.sampled_from([*CLASSES, "UNKNOWN", ""]), min_size=1, max_size=8),
    remark=cell,
    delimiter=st.sampled_from(",;\t"),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_is_read_back(
    patients: dict[str, str], remark: str, delimiter: str, newline: str, tmp_path: Path
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline)
    writer.writerow(["SUBJECT_ID", "REMARK", "DISEASE_TYPE"])
    writer.writerows([patient, remark, name] for patient, name in patients.items())
    expected = {p: CLASSES.index(name) if name in CLASSES else None for p, name in patients.items()}
    assert labels(table(tmp_path, text.getvalue())) == expected


def test_the_real_table_is_read() -> None:
    path = SHARED / "rembrandt_labels_partial.csv"
    if not path.is_file():
        pytest.skip("the real clinical table is not on this machine")
    found = read_clinical(path)
    with path.open(newline="") as file:
        expected = {row["patient_id"]: row["disease"] for row in csv.DictReader(file)}
    assert found.keys() == expected.keys()
    counts = Counter(CLASSES[d.label] if d.label is not None else "none" for d in found.values())
    assert counts["GBM"] == sum(name == "GBM" for name in expected.values())
    assert counts["none"] == sum(name in ("UNKNOWN", "NON_TUMOR") for name in expected.values())
