"""Find the files of a data set by its published folder layout; opens none of them."""

from pathlib import Path
from typing import NamedTuple

# The class order everywhere: labels, logits, confusion matrices.
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
HALVES = ("Training", "Testing")
PUBLISHED = {
    "Training": {"glioma": 1321, "meningioma": 1339, "notumor": 1595, "pituitary": 1457},
    "Testing": {"glioma": 300, "meningioma": 306, "notumor": 405, "pituitary": 300},
}


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

    Hidden files are left out. Raises `ValueError` with one line that says what to put where.
    """
    if root is None:
        raise ValueError("not set; give the folder that holds Training/ and Testing/ (or set HQCNN_KAGGLE_ROOT)")
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ValueError("there is no such folder; it should hold Training/ and Testing/, each with a folder per class")
    files = []
    for half in HALVES:
        for label, name in enumerate(CLASSES):
            for path in sorted((root / half / name).rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    status = path.stat()
                    place = path.relative_to(root).as_posix()
                    files.append(ImageFile(place, half, label, status.st_size, status.st_mtime_ns))
    for half in HALVES:
        if not (root / half).is_dir():
            inner = next((path for path in sorted(root.iterdir()) if (path / half).is_dir()), None)
            hint = (
                f"did you mean {inner}?"
                if inner
                else "it should hold Training/ and Testing/, each with a folder per class"
            )
            raise ValueError(f"there is no {half}/ in it; {hint}")
        missing = [
            name for label, name in enumerate(CLASSES) if not any(f.half == half and f.label == label for f in files)
        ]
        if missing:
            raise ValueError(
                f"no images in {half}/{{{','.join(missing)}}}; it should hold Training/ and Testing/ as published"
            )
    return files
