"""Find the files of a data set by its published folder layout; opens none of them."""

import difflib
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

# The class order everywhere: labels, logits, confusion matrices.
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
HALVES = ("Training", "Testing")
PUBLISHED = {
    "Training": {"glioma": 1321, "meningioma": 1339, "notumor": 1595, "pituitary": 1457},
    "Testing": {"glioma": 300, "meningioma": 306, "notumor": 405, "pituitary": 300},
}
_WANTED = "Training/ and Testing/, each with glioma/, meningioma/, notumor/ and pituitary/"
_HALF_LIKE = ("train", "training", "test", "testing")
_N_PLACES = 1000  # that are looked through for what was meant


class ImageFile(NamedTuple):
    """One file of the tree: `name` is its path relative to the root, with forward slashes.

    Its size and time of change tell whether it is still the same.
    """

    name: str
    half: str
    label: int
    bytes: int
    mtime_ns: int


def find_images(root: str | Path | None) -> list[ImageFile]:
    """List every file below `Training/<class>/` and `Testing/<class>/`, sorted by name, whatever its ending.

    Hidden files are left out. Raises `ValueError` with one line that says what to put where, and what is there instead.
    """
    if root is None:
        raise ValueError("not set; give the folder that holds Training/ and Testing/ (or set HQCNN_KAGGLE_ROOT)")
    root = existing_folder(root, f"it should hold {_WANTED}")
    try:
        files = _files(root)
        for half in HALVES:
            if not (root / half).is_dir():
                raise ValueError(f"there is no {half}/ in it; {_hint(root)}")
            present = {file.label for file in files if file.half == half}
            if missing := [name for label, name in enumerate(CLASSES) if label not in present]:
                raise ValueError(f"no images in {half}/{{{','.join(missing)}}}; {_hint(root)}")
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or type(error).__name__}") from None
    return files


def existing_folder(root: str | Path, should: str) -> Path:
    """The folder at `root`, where `~` is a home; `ValueError`, one line that says what it `should` be, if none is."""
    try:
        root = Path(root).expanduser()
        if root.is_dir():
            return root
        is_file = root.exists()
        meant = [path.name for path in _folders(root.parent) if any((path / half).is_dir() for half in HALVES)]
    except RuntimeError:
        raise ValueError("whose home that is, is not known; write out the path") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or type(error).__name__}") from None
    if is_file:
        what = f"unpack it, and {should}" if root.suffix.lower() in (".zip", ".tar", ".gz", ".7z", ".rar") else should
        raise ValueError(f"it is a file, not a folder; {what}")
    if near := difflib.get_close_matches(root.name, meant, n=1):
        should = f"did you mean {root.parent / near[0]}?"
    raise ValueError(f"there is no such folder; {should}")


def _files(root: Path) -> list[ImageFile]:
    files = []
    for half in HALVES:
        for label, name in enumerate(CLASSES):
            for path in sorted((root / half / name).rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    status = path.stat()
                    place = path.relative_to(root).as_posix()
                    files.append(ImageFile(place, half, label, status.st_size, status.st_mtime_ns))
    return files


def _hint(root: Path) -> str:
    """Where the layout is, up to two levels off; else which folders look like it; else what should be there.

    Other folders are not named: they may be called for patients.
    """
    below = list(islice(_below(root), _N_PLACES))
    for place in (*below, *root.absolute().parents[:2]):
        if all((place / half / name).is_dir() for half in HALVES for name in CLASSES) and place != root:
            return f"did you mean {place}?"
    for place in below:
        if halves := [path for path in _folders(place) if _letters(path.name) in _HALF_LIKE]:
            return f"it holds {', '.join(_listed(root, half) for half in halves[:3])}; it should hold {_WANTED}"
    if any(map(_is_class, _folders(root))):
        return f"it holds {_listed(root, root)}; it should hold {_WANTED}"
    return f"it should hold {_WANTED}"


def _below(root: Path) -> Iterator[Path]:
    yield root
    children = _folders(root)
    yield from children
    for child in children:
        yield from _folders(child)


def _listed(root: Path, folder: Path) -> str:
    """As `Training/{glioma,notumor}`, with the folders in it whose names are nearly those of classes."""
    names = [path.name for path in _folders(folder) if _is_class(path)][:8]
    place = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    return f"{place}{{{','.join(names)}}}" if names else place


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in islice(_entries(folder), _N_PLACES) if path.is_dir() and path.name[0] != ".")


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:  # a hint is not worth an error
        return


def _is_class(path: Path) -> bool:
    return _letters(path.name).removesuffix("tumor") in (*CLASSES, "no", "normal", "healthy")


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower()).replace("tumour", "tumor")
