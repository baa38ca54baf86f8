"""The walk against `Path.rglob`, on the layouts that download tools write; the metadata table with its commas."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqcnn_lab.data.source import rembrandt_layout
from hqcnn_lab.data.source.rembrandt_layout import Folder, Series, find_folders, missing_files, read_metadata

DESCRIPTIVE = "REMBRANDT/P-0001/06-21-2005-11987/4.000000-85223"
CLASSIC = "REMBRANDT/P-0001/1.2.3.4/1.2.3.4.5"


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def names(folders: list[Folder]) -> set[str]:
    return {f"{folder.name}/{file.name}" for folder in folders for file in folder.files}


@pytest.mark.parametrize("series", [DESCRIPTIVE, CLASSIC, "a", "a/b/c/d/e/f/g"])
def test_every_layout_is_found_with_size_and_time(series: str, tmp_path: Path) -> None:
    files = [f"{series}/1-{i:02}.dcm" for i in (2, 1, 10)] + [f"{series}-2/000001", f"{series}-2/I.0001.IMA"]
    write(tmp_path, *files)
    folders, problems = find_folders(tmp_path)
    assert problems == []
    assert [folder.name for folder in folders] == [series, f"{series}-2"]
    assert [file.name for file in folders[0].files] == ["1-01.dcm", "1-02.dcm", "1-10.dcm"]
    for folder in folders:
        for file in folder.files:
            status = (tmp_path / folder.name / file.name).stat()
            assert (file.size, file.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_what_is_no_image_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, f"{DESCRIPTIVE}/1-01.dcm", f"{DESCRIPTIVE}/LICENSE", f"{DESCRIPTIVE}/.hidden", "metadata.csv")
    write(
        tmp_path, "manifest.tcia", "clinical.XLSX", "DICOMDIR", "notes.txt", ".cache/1-01.dcm", f"{CLASSIC}.part/1.dcm"
    )
    folders, problems = find_folders(tmp_path)
    assert names(folders) == {f"{DESCRIPTIVE}/1-01.dcm"}
    assert problems == []


def test_files_at_the_root_and_beside_folders_are_found(tmp_path: Path) -> None:
    write(tmp_path, "1.dcm", "a/2.dcm", "a/b/3.dcm")
    assert names(find_folders(tmp_path)[0]) == {"./1.dcm", "a/2.dcm", "a/b/3.dcm"}


def test_empty_series_and_unreadable_folders_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/1.dcm", "licensed/LICENSE", "locked/1.dcm")
    (tmp_path / "empty" / "within").mkdir(parents=True)
    (tmp_path / "a" / "broken.dcm").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "a" / "pipe")
    scandir = os.scandir

    def refuse(path: Path):  # permissions do not stop root, who may run the tests
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(rembrandt_layout.os, "scandir", refuse)
    folders, problems = find_folders(tmp_path)
    assert names(folders) == {"a/1.dcm"}
    assert problems == [
        ("a/broken.dcm", "No such file or directory"),
        ("a/pipe", "neither a file nor a folder"),
        ("empty/within", "holds no images"),
        ("licensed", "holds no images"),
        ("locked", "Permission denied"),
    ]


def test_links_are_followed_but_never_round_or_twice(tmp_path: Path) -> None:
    write(tmp_path, "root/z/1.dcm", "elsewhere/b/2.dcm")
    root = tmp_path / "root"
    (root / "z" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "z")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "z" / "linked.dcm").symlink_to(tmp_path / "elsewhere" / "b" / "2.dcm")
    folders, problems = find_folders(root)
    assert names(folders) == {"z/1.dcm", "z/linked.dcm", "out/b/2.dcm"}
    assert problems == []


@pytest.mark.parametrize("root", [None, "absent", "empty", "file"])
def test_unusable_roots_say_what_to_give(root: str | None, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="the folder that NBIA Data Retriever wrote") as error:
        find_folders(tmp_path / root if root else None)
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


name = st.text(st.sampled_from("abXY01-. é"), min_size=1, max_size=4).filter(lambda n: n.strip(".") and n[0] != ".")


@given(paths=st.lists(st.lists(name, min_size=1, max_size=4), min_size=1, max_size=8))
def test_any_tree_is_listed_whole_and_in_order(
    paths: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for path in paths:
        root.joinpath(*path[:-1], "d").mkdir(parents=True, exist_ok=True)
        root.joinpath(*path[:-1], "d", path[-1] + ".dcm").touch()
    folders, _ = find_folders(root)
    expected = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert names(folders) == expected
    assert folders == sorted(folders)
    assert all(folder.files == sorted(folder.files) for folder in folders)


HEADER = (
    "Series UID,Collection,3rd Party Analysis,Data Description URI,Subject ID,Study UID,Study Description,Study Date,"
    "Series Description,Manufacturer,Modality,SOP Class Name,SOP Class UID,Number of Images,File Size,File Location,"
    "Download Timestamp"
)


def row(uid: str, *, study: str = "MR BRAIN", series: str = "AX T1", n: int = 20, where: str = DESCRIPTIVE) -> str:
    return (
        f"{uid},REMBRANDT,NO,https://doi.org/10.7937/K9/TCIA.2015.588OZUZB,P-0001,1.3.6.1.4.1.14519.5.2.1.11987,{study},"
        f"06-21-2005,{series},GE MEDICAL SYSTEMS,MR,MR Image Storage,1.2.840.10008.5.1.4.1.1.4,{n},10.5 MB,./{where},"
        "2024-01-01T00:00:00.0"
    )


UID = "1.3.6.1.4.1.14519.5.2.1.85223"


@pytest.mark.parametrize(
    "line",
    [
        row(UID),
        row(UID, series="AX T1, POST GAD"),
        row(UID, study="BRAIN, W/WO, 1.2.3.4.5 ,", series=",,"),
        row(UID, series='"AX'),
        f'"{row(UID).replace(",", chr(34) + "," + chr(34))}"',
        row(UID).replace("/", "\\").replace("https:\\", "https:/"),
    ],
)
def test_metadata_is_read_despite_commas_and_quotes(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes(f"{HEADER}\r\n{line}\r\n\r\n{row('1.2.3.4.9', n=3)}\r\n".encode("utf-8-sig"))
    series, problems = read_metadata(path)
    assert series == {UID: Series(20, DESCRIPTIVE), "1.2.3.4.9": Series(3, DESCRIPTIVE)}
    assert problems == []


def test_a_location_may_hold_commas(tmp_path: Path) -> None:
    where = "REMBRANDT/P-0001/06-21-2005-11987/4.000000-AX T1, POST, GAD-85223"
    (tmp_path / "metadata.csv").write_text(f"{HEADER}\n{row(UID, series='AX T1, POST, GAD', where=where)}\n")
    assert read_metadata(tmp_path / "metadata.csv")[0] == {UID: Series(20, where)}


def test_metadata_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(f"Number of Images,File Location,Series UID\n7,./a/b,{UID}\n")
    assert read_metadata(tmp_path / "metadata.csv")[0] == {UID: Series(7, "a/b")}


def test_lines_and_tables_that_are_no_metadata_are_told(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(f"{HEADER}\n{row(UID)}\nwhat is this\n{UID},cut short\n")
    assert read_metadata(path)[1] == [(f"line {i}", "not a line of a metadata table") for i in (3, 4)]
    path.write_text("Series UID,Collection\n")
    with pytest.raises(ValueError, match="no column number of images, file location"):
        read_metadata(path)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_metadata(tmp_path / "absent.csv")


@pytest.mark.parametrize("root", [".", "REMBRANDT", "REMBRANDT/P-0001", "REMBRANDT/P-0001/06-21-2005-11987"])
def test_series_with_too_few_files_are_named(root: str, tmp_path: Path) -> None:
    whole, short, absent = (DESCRIPTIVE.replace("4.0", f"{i}.0") for i in (4, 5, 6))
    write(tmp_path, f"{whole}/1-01.dcm", f"{whole}/1-02.dcm", f"{short}/1-01.dcm")
    series = {"1.1": Series(2, whole), "1.2": Series(2, short), "1.3": Series(2, absent)}
    folders, _ = find_folders(tmp_path / root)
    assert missing_files(tmp_path / root, folders, series) == [(short, 1, 2), (absent, 0, 2)]
