"""Find the files of a DICOM download, series by series, and what metadata.csv says should be there; opens no image."""

import csv
import os
import re
from pathlib import Path
from typing import NamedTuple

from hqcnn_lab.data.source.layout import existing_folder
from hqcnn_lab.data.source.tables import read_table_bytes

# What download tools put beside the images. A DICOM file may have any ending, or none.
_NO_IMAGE_NAMES = frozenset({"license", "dicomdir", "readme", "thumbs.db"})
_NO_IMAGE_ENDINGS = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".xml", ".xls", ".xlsx", ".tcia", ".md", ".html", ".pdf", ".log", ".zip", ".part"}
)
_WANTED = "the folder that NBIA Data Retriever wrote: it holds REMBRANDT/ with a folder per patient"
_UID = re.compile(r"\d+(\.\d+)+")

Problem = tuple[str, str]  # where, and why nothing of it is used


class DicomFile(NamedTuple):
    """`name` within its folder; size in bytes and time of change in ns tell whether it is still the same file."""

    name: str
    size: int
    mtime_ns: int


class Folder(NamedTuple):
    """A folder that directly holds files: in every layout of NBIA, a series. `name` is relative to the root."""

    name: str
    files: list[DicomFile]


class Series(NamedTuple):
    """What metadata.csv says of one series: how many images, and its folder as written there."""

    n_images: int
    location: str


def find_folders(root: str | Path | None) -> tuple[list[Folder], list[Problem]]:
    """List every folder below `root` that directly holds files, with those files, both sorted by name.

    For NBIA's descriptive and classic layouts and any other nesting. Left out: hidden and `.part` names, and what is no
    image by its name (tables, texts, LICENSE, DICOMDIR). Links to folders are followed, each real folder once. A folder
    or file that cannot be read and a folder with nothing in it are listed as problems. Names have forward slashes.

    Raises:
        ValueError: one line that says what to put where, if `root` is not set, is no folder or holds no file.
    """
    if root is None:
        raise ValueError(f"not set; give {_WANTED} (or set HQCNN_REMBRANDT_ROOT)")
    root = existing_folder(root, f"it should be {_WANTED}")
    folders: list[Folder] = []
    problems: list[Problem] = []
    seen: set[tuple[int, int]] = set()
    waiting, links = [""], []
    while waiting or links:
        name = (waiting or links).pop()  # links last: a folder is listed under its own name rather than a link's
        try:
            status = (root / name).stat()
            if (status.st_dev, status.st_ino) in seen:  # a link to a folder listed already, or above this one
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / name) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            problems.append((name or ".", _reason(error)))
            continue
        prefix = f"{name}/" if name else ""
        files, has_folders = [], False
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    has_folders = True
                    if not entry.name.endswith(".part"):  # a download under way
                        (links if entry.is_symlink() else waiting).append(prefix + entry.name)
                elif not _is_no_image(entry.name):
                    status = entry.stat()
                    if entry.is_file():
                        files.append(DicomFile(entry.name, status.st_size, status.st_mtime_ns))
                    else:
                        problems.append((prefix + entry.name, "neither a file nor a folder"))
            except OSError as error:
                problems.append((prefix + entry.name, _reason(error)))
        if files:
            folders.append(Folder(name or ".", files))
        elif not has_folders and name:
            problems.append((name, "holds no images"))
    if not folders:
        because = f" ({problems[0][1]})" if problems else ""  # where, may name a patient, and errors are recorded
        raise ValueError(f"no images in it{because}; it should be {_WANTED}")
    return sorted(folders), sorted(problems)


def _is_no_image(name: str) -> bool:
    name = name.lower()
    return name in _NO_IMAGE_NAMES or os.path.splitext(name)[1] in _NO_IMAGE_ENDINGS  # noqa: PTH122 (Path costs 5 µs)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def read_metadata(path: str | Path) -> tuple[dict[str, Series], list[Problem]]:
    """Return what NBIA's metadata.csv says of each Series UID, and the lines that could not be read.

    The file is written without quotes, so a comma in a description moves every column after it. Such a line is read
    from its last UID (SOP Class UID) on: the number of images follows it, and the location starts with a dot or slash.

    Raises:
        ValueError: one line, if the file cannot be read or is no such table.
    """
    try:
        content = read_table_bytes(Path(path).expanduser())
    except OSError as error:
        raise ValueError(f"the metadata table cannot be read: {_reason(error)}") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="replace")
    lines = re.split("\r\n|\r|\n", text)
    header = [cell.strip().strip('"').lower() for cell in lines[0].split(",")]
    wanted = ("series uid", "number of images", "file location")
    absent = [name for name in wanted if name not in header]
    if absent:
        raise ValueError(f"no NBIA metadata table: its first line has no column {', '.join(absent)}")
    if twice := [name for name in wanted if header.count(name) > 1]:
        raise ValueError(f"no NBIA metadata table: its first line has several columns {', '.join(twice)}")
    uid_at, count_at, location_at = (header.index(name) for name in wanted)
    series: dict[str, Series] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        # Other tools do quote. Line by line: a lone quote in a description must not swallow the lines below.
        quoted, plain = _quoted(line), line.split(",")
        cells = next((cells for cells in (quoted, plain) if len(cells) == len(header)), None)
        if cells:
            uid, count, location = (cells[i].strip() for i in (uid_at, count_at, location_at))
        else:
            uid, count, location = _anchored(plain)
        if not (_UID.fullmatch(uid) and re.fullmatch("[0-9]{1,9}", count)):
            problems.append((f"line {number}", "not a line of a metadata table"))
            continue
        series[uid] = Series(int(count), location.replace("\\", "/").removeprefix("./").strip("/"))
    return series, problems


def _quoted(line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error:  # a cell of 128 KiB and more
        return []


def _anchored(cells: list[str]) -> tuple[str, str, str]:
    uids = [i for i, cell in enumerate(cells) if _UID.fullmatch(cell) and cell.count(".") > 2]
    if not uids or uids[0] > 0 or uids[-1] + 1 == len(cells):
        return "", "", ""
    rest = cells[uids[-1] + 2 :]  # file size, location, time of download; a location may hold commas too
    start = next((i for i, cell in enumerate(rest) if cell.startswith((".", "/", "\\"))), len(rest))
    stop = len(rest) - bool(rest and re.match(r"\d{4}-\d\d-\d\d[T ]", rest[-1]))
    return cells[uids[0]], cells[uids[-1] + 1], ",".join(rest[start:stop])


def missing_files(root: str | Path, folders: list[Folder], series: dict[str, Series]) -> list[tuple[str, int, int]]:
    """Return location, files found and files expected of every series of which fewer are there than metadata.csv says.

    A folder is a series' own if patient, study and series folder have the same names, whichever of them `root` is.
    """
    above = Path(root).expanduser().resolve().parts
    n_files = {_last_three((*above, *folder.name.split("/"))): len(folder.files) for folder in folders}
    missing = []
    for entry in series.values():
        n_found = n_files.get(_last_three(tuple(entry.location.split("/"))), 0)
        if n_found < entry.n_images:
            missing.append((entry.location, n_found, entry.n_images))
    return sorted(missing)


def _last_three(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in parts if part != ".")[-3:]
