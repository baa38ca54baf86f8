"""Tables that a user hands over, as nobody should write them: read, or refused in a line that names no patient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from garbled_files import garblings

from hqcnn_lab.data.source.clinical import Diagnosis, read_clinical
from hqcnn_lab.data.source.download import DownloadError, _read_manifest
from hqcnn_lab.data.source.rembrandt_layout import read_metadata
from hqcnn_lab.data.split.manifest import Row, read_manifest

SECRET = "HF17"
UID = "1.3.6.1.4.1.14519"
NBIA = "Series UID,Subject ID,Study UID,Series Description,SOP Class UID,Number of Images,File Size,File Location"
TABLES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "split_manifest.csv": (
        read_manifest,
        "file,frame,content,split,label,group\n"
        + "".join(f"Testing/{i}.jpg,,{i:032x},{('train', 'val', 'test')[i % 3]},glioma,{i}\n" for i in range(9)),
    ),
    "clinical.csv": (
        read_clinical,
        "SUBJECT_ID,GENDER,DISEASE_TYPE\n"
        + "".join(f"{SECRET}{i},,{('GBM', 'MIXED', 'UNKNOWN')[i % 3]}\n" for i in range(9)),
    ),
    "metadata.csv": (
        read_metadata,
        f"{NBIA}\n" + "".join(f"{UID}.{i},{SECRET}{i},1.2.3,T1,1.2.840.1.4,{i},1 MB,./a/{i}\n" for i in range(9)),
    ),
    "list.tcia": (_read_manifest, f"ListOfSeriesToDownload=\n{UID}.1\n{UID}.2\n"),
}
# The same for every table, and seconds each; they were tried once.
SLOW = ("large", "large and whole", "many lines", "many rows")


@pytest.mark.parametrize("name", TABLES)
def test_whatever_a_table_holds_is_read_or_refused_in_a_line(name: str, tmp_path: Path) -> None:
    # Regression: a cell of 128 KiB and a table of blank lines ended in tracebacks of the csv module and of Python.
    read, text = TABLES[name]
    n_refused = 0
    for i, (what, garble) in enumerate(garblings("split_manifest.csv", text.encode())):
        if what in SLOW:
            continue
        path = tmp_path / f"{i}-{name}"
        path.write_text(text)
        garble(path)
        said, kind = "", ValueError
        try:
            read(path)
        except (ValueError, DownloadError) as error:
            said, kind = str(error).replace(str(path), ""), type(error)
            n_refused += 1
        assert kind in (ValueError, DownloadError), what  # no kind of theirs, whose words are Python's
        assert said.isprintable(), what
        assert len(said) < 400, what
        assert SECRET not in said, what
    assert n_refused > 15


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("split_manifest.csv", lambda text: text.replace("Testing/1", "Testing/\0"), "line 3: a NUL character"),
        ("split_manifest.csv", lambda text: text.replace(",val,", ',"a\nb",', 1), r"line 4: split 'a\\nb' is none of"),
        ("clinical.csv", lambda text: text.replace(f"{SECRET}1", f"{SECRET}\0"), "line 3 of the clinical table holds"),
        (
            "clinical.csv",
            lambda text: text.replace("GENDER", "DISEASE_TYPE"),
            "has 2 columns DISEASE_TYPE; set dataset.",
        ),
        (
            "clinical.csv",
            lambda text: text.replace("GENDER", "Subject id"),
            "has 2 columns SUBJECT_ID; set dataset.clin",
        ),
        (
            "clinical.csv",
            lambda text: text.partition("\n")[2].replace("GBM", "Gliom"),
            "no column .* in its first line;",
        ),
        ("clinical.csv", lambda text: f"{SECRET},,UNKNOWN\n{text}", "no header line"),
        ("clinical.csv", lambda text: "\n \n,,\n", "the clinical table is empty"),
        ("metadata.csv", lambda text: text.replace("Subject ID", "Series UID"), "several columns series uid"),
    ],
)
def test_the_line_is_named(name: str, change: Callable[[str], str], words: str, tmp_path: Path) -> None:
    read, text = TABLES[name]
    with pytest.raises(ValueError, match=words) as error:
        read(written(tmp_path, name, change(text)))
    assert str(error.value).isprintable()
    assert SECRET not in str(error.value)


def test_a_spreadsheets_marks_and_line_ends_change_nothing(tmp_path: Path) -> None:
    for name, (read, text) in TABLES.items():
        plain = read(written(tmp_path, name, text))
        for other in ("\ufeff" + text, text.replace("\n", "\r\n"), text.rstrip("\n")):
            assert read(written(tmp_path, name, other)) == plain
    assert plain[0].uid == f"{UID}.1"
    for name in ("clinical.csv", "metadata.csv"):
        read, text = TABLES[name]
        (tmp_path / name).write_bytes(text.encode("utf-16"))
        assert read(tmp_path / name) == read(written(tmp_path, f"plain {name}", text))
    assert read_clinical(tmp_path / "clinical.csv")[f"{SECRET}0"] == Diagnosis(1)
    assert read_manifest(tmp_path / "split_manifest.csv")[0] == Row(
        "Testing/0.jpg", "", "0" * 32, "train", "glioma", "0"
    )


def test_one_bad_line_of_metadata_costs_itself_alone(tmp_path: Path) -> None:
    # A cell of 128 KiB, a count of 5,000 digits, and characters that other programs take for the end of a line.
    lines = TABLES["metadata.csv"][1].splitlines()
    lines[2] = lines[2].replace("T1", '"' + "x" * 200_000 + '"')
    lines[4] = lines[4].replace(",3,1 MB", f",{'9' * 5000},1 MB")
    lines[6] = lines[6].replace("T1", "T1\x85\u2028\x0b")
    series, problems = read_metadata(written(tmp_path, "metadata.csv", "\n".join(lines)))
    assert set(series) == {f"{UID}.{i}" for i in range(9) if i != 3}
    assert problems == [("line 5", "not a line of a metadata table")]
