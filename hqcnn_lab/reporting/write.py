"""A report's two files: `report.html`, which holds all it shows, and `report.md`."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hqcnn_lab.config.path import why_not_writable
from hqcnn_lab.record.whole_file import whole_file

NAMES = ("report.html", "report.md")


def write_report(folders: Sequence[Path], out: Path | None = None, reference: str | None = None) -> list[Path]:
    """Write `report.html` and `report.md` of all runs under `folders` into `out`, by default the first folder.

    A report that is there already is replaced, another file of that name is not. Raises FileNotFoundError for a folder
    that is not there, ReportError where there is no run or no such reference, FileExistsError for a foreign file,
    OSError where nothing can be written.
    """
    from hqcnn_lab.analysis import load_runs
    from hqcnn_lab.reporting.contents import make_contents

    out = folders[0] if out is None else out
    if reason := why_not_writable(out):
        raise OSError(f"--out {out}: nothing can be written there{reason}")
    for path in (out / name for name in NAMES):
        if path.exists() and b"hqcnn_lab.report" not in _beginning(path):
            raise FileExistsError(f"{path} is not a report of this command: move it, or choose another --out")
    contents = make_contents(load_runs(folders), folders, reference)
    from hqcnn_lab.reporting.markdown import markdown_text
    from hqcnn_lab.reporting.page import html_text

    now = datetime.now().astimezone()
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in zip(NAMES, (html_text(contents, now), markdown_text(contents, now)), strict=True):
        with whole_file(out / name) as scratch:
            scratch.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name may be no text
        paths.append(out / name)
    return paths


def _beginning(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(1500)
