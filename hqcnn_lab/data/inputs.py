"""Images that someone hands over, read exactly as a data set's are."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from hqcnn_lab.data.decode.series import Decoded, as_text, read_pictures, read_series
from hqcnn_lab.data.source.rembrandt_layout import find_folders


class Inputs(NamedTuple):
    """`images` float16 `[n, size, size]` in [0, 1], their `names`, and the files that gave none, each with why.

    Names are relative to what was handed over, with `#frame` after the first frame of a file.
    """

    names: list[str]
    images: np.ndarray
    skipped: list[tuple[str, str]]


def read_inputs(path: str | Path, size: int, by_series: bool) -> Inputs:
    """Read a file, or every file below a folder that is an image by its name, into squares of `size` pixels.

    `by_series` is for networks that were trained on DICOM series, which are scaled as a whole: then a file is read
    together with its folder, or it would come out brighter or darker than in training. Otherwise each image stands
    alone. Raises `ValueError`, one line, where there is no such file or folder, or none in it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_folder(path, size, by_series)
    if not path.exists():
        raise ValueError("there is no such file or folder")
    names = [path.name]
    if by_series:
        names = sorted(file.name for file in path.parent.iterdir() if file == path or file.is_file())
    read = (read_series if by_series else read_pictures)(path.parent, names, size)
    chosen = [i for i, record in enumerate(read.records) if record.file == path.name]
    problems = [problem for problem in [*read.skipped, *read.left_out] if problem[0] == path.name]
    return _inputs([read._replace(records=[read.records[i] for i in chosen], images=read.images[chosen])], problems)


def _read_folder(root: Path, size: int, by_series: bool) -> Inputs:
    try:
        folders, problems = find_folders(root)
    except ValueError:  # whose words are for who wants to train
        raise ValueError("there is no image in it") from None
    parts = []
    for folder in folders:
        names = [f"{folder.name}/{file.name}".removeprefix("./") for file in folder.files]
        parts.append((read_series if by_series else read_pictures)(root, names, size))
    return _inputs(parts, [*problems, *(problem for part in parts for problem in [*part.skipped, *part.left_out])])


def _inputs(parts: list[Decoded], problems: list[tuple[str, str]]) -> Inputs:
    records = [record for part in parts for record in part.records]
    names = [as_text(f"{record.file}#{record.frame}" if record.frame else record.file) for record in records]
    skipped = [(as_text(name), reason) for name, reason in problems]
    return Inputs(names, np.concatenate([part.images for part in parts]), skipped)
