"""The split as a table that people can read and another machine can follow, image by image."""

import csv
import hashlib
import io
import os
import secrets
import shutil
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hqcnn_lab.data.split.cut import Split
from hqcnn_lab.error import shown
from hqcnn_lab.record.plain_file import MOST_TABLE_BYTES, Unusable, read_text


class Row(NamedTuple):
    """One image, named by `file` and `frame` (a number as text, "" for a file of one image), known by its `content`.

    `content` is a hash. `split` is train, val or test; `label` a class by name; `group` what the split kept together:
    the number of a group of copies, or a patient's pseudonym.
    """

    file: str
    frame: str
    content: str
    split: str
    label: str
    group: str


def manifest_text(
    split: Split,
    files: Sequence[str],
    frames: Sequence[str],
    contents: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    groups: Sequence[str],
) -> str:
    """Return the table as CSV, a row for each image of `split`, in the images' order.

    Give as `files` paths relative to the data's root, or pseudonyms where a path would name a patient.
    """
    part = np.full(len(files), "", dtype="<U5")
    for name, indices in zip(split._fields, split, strict=True):
        part[indices] = name
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(Row._fields)
    for i in np.flatnonzero(part).tolist():
        writer.writerow(Row(files[i], frames[i], contents[i], part[i], classes[int(labels[i])], groups[i]))
    # A file's name may be bytes that are no text.
    return output.getvalue().encode("utf-8", "backslashreplace").decode()


def manifest_hash(table: str | Sequence[Row]) -> str:
    """Return 16 hex digits that name the split: equal where the same images, labelled the same, are in the same parts.

    Of a table that `manifest_text` made, or of the rows that `read_manifest` read, where others may have written it.
    Names, groups and the order of lines are not in it: they differ from one folder layout to another.
    """
    rows = [*map(Row._make, csv.reader(io.StringIO(table, newline="")))][1:] if isinstance(table, str) else table
    lines = sorted((row.content, row.frame, row.split, row.label) for row in rows)
    return hashlib.blake2b(repr(lines).encode(), digest_size=8).hexdigest()


def read_manifest(path: str | Path) -> list[Row]:
    """Read a table that `manifest_text` made, edited by hand perhaps.

    Raises `ValueError`, one line that names the file and the line, where it is no such table, and where it names an
    image twice.
    """
    path = Path(path).expanduser()
    try:
        text = read_text(path, MOST_TABLE_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except Unusable as error:
        raise ValueError(f"{path} {error}") from None
    rows: list[Row] = []
    seen: dict[tuple[str, str, str], int] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if next(reader, None) != list(Row._fields):
            raise ValueError(f"the columns have to be {','.join(Row._fields)}")
        for cells in reader:
            if not cells:  # an empty line
                continue
            if "\0" in "".join(cells):
                raise ValueError("a NUL character, which no table holds")
            if len(cells) != len(Row._fields):
                raise ValueError(f"{len(cells)} columns, not {len(Row._fields)}")
            row = Row(*cells)
            if row.split not in Split._fields:
                raise ValueError(f"split '{shown(row.split)}' is none of {', '.join(Split._fields)}")
            if not row.content or (row.frame and not row.frame.isdecimal()):
                raise ValueError("content is empty" if not row.content else f"frame '{shown(row.frame)}' is no number")
            if (first := seen.setdefault(row[:3], reader.line_num)) != reader.line_num:
                raise ValueError(f"{shown(row.file)} is on line {first} already")
            rows.append(row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} line {max(reader.line_num, 1)}: {error}") from error
    if not rows:
        raise ValueError(f"{path}: no image in it")
    return rows


def split_from_manifest(
    rows: list[Row],
    files: Sequence[str],
    frames: Sequence[str],
    contents: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
) -> Split:
    """Find the images of `rows` among those at hand by content and frame, wherever they lie and whatever their names.

    Each part is in the table's order, so that training sees the same sequence everywhere. Images with the same content
    are told apart by their file's name, then by their label, then by the order of names. Images that the table does not
    name are in no part. Raises `ValueError`, one line, where an image is missing or is labelled otherwise.
    """
    class_names = [classes[int(label)] for label in labels]
    at_hand: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, key in enumerate(zip(contents, frames, strict=True)):
        at_hand[key].append(i)
    wanted: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        wanted[row.content, row.frame].append(number)
    image_of_row = np.full(len(rows), -1)
    for key, numbers in wanted.items():
        images = at_hand.get(key, [])
        if len(numbers) == len(images) == 1:
            image_of_row[numbers[0]] = images[0]
        else:
            names = [(files[i], class_names[i]) for i in images]
            for row, image in _told_apart([(rows[n].file, rows[n].label) for n in numbers], names):
                image_of_row[numbers[row]] = images[image]
    if (missing := image_of_row < 0).any():
        first = shown(rows[int(np.argmax(missing))].file)
        raise ValueError(f"{missing.sum()} of the manifest's {len(rows)} images are not here, such as {first}")
    images_in_order: list[int] = image_of_row.tolist()
    otherwise = [(i, row.label) for i, row in zip(images_in_order, rows, strict=True) if class_names[i] != row.label]
    if otherwise:
        i, theirs = otherwise[0]
        raise ValueError(
            f"{len(otherwise)} images are labelled otherwise than in the manifest, such as {shown(files[i])}: "
            f"{class_names[i]} here, {shown(theirs)} there"
        )
    parts = np.array([row.split for row in rows])
    return Split(*(image_of_row[parts == name] for name in Split._fields))


def _told_apart(rows: list[tuple[str, str]], images: list[tuple[str, str]]) -> Iterator[tuple[int, int]]:
    """Yield which row is which image, where all have the same content; each is given by its file and its label."""
    some, others = (sorted(range(len(names)), key=names.__getitem__) for names in (rows, images))
    for compared in (slice(0, 2), slice(0, 1), slice(1, 2), slice(0, 0)):  # both, the file, the label, neither
        waiting: dict[tuple[str, ...], deque[int]] = defaultdict(deque)
        for image in others:
            waiting[images[image][compared]].append(image)
        pairs = [(row, queue.popleft()) for row in some if (queue := waiting[rows[row][compared]])]
        yield from pairs
        matched = {row for row, _ in pairs}
        some = [row for row in some if row not in matched]
        others = sorted((image for queue in waiting.values() for image in queue), key=images.__getitem__)


def pseudonym(patient: str, salt: str) -> str:
    """Return 12 hex digits that stand for a patient: the same wherever the salt is, and no way back without it."""
    return hashlib.blake2b(patient.encode("utf-8", "surrogateescape"), key=salt.encode(), digest_size=6).hexdigest()


def load_salt(cache_dir: str | Path) -> str:
    """Return this machine's salt for `pseudonym`, 32 hex digits; the first call makes it, for the owner's eyes alone.

    Two processes that start together get the same one: it appears by a rename, which fails where there is one already.
    """
    folder = Path(cache_dir).expanduser() / "salt"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # No `whole_folder`: this one is for its owner alone from the start, and threads, too, may make it at once.
        scratch = Path(tempfile.mkdtemp(prefix="salt.", suffix=".part", dir=folder.parent))
        try:
            with os.fdopen(os.open(scratch / "salt.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(16))
            scratch.rename(folder)
        except OSError:
            if not folder.exists():  # not another process's, made meanwhile
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    try:
        salt = (folder / "salt.txt").read_text()
    except (OSError, UnicodeDecodeError):
        salt = ""
    if len(salt) != 32 or set(salt) - set("0123456789abcdef"):
        raise ValueError(f"{folder} is damaged; remove it, and patients get other pseudonyms")
    return salt
