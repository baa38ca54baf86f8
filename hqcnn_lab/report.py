"""Make one page of any number of runs: `python -m hqcnn_lab.report --help`."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hqcnn_lab.config.command import CommandParser
from hqcnn_lab.config.free_text import why_not_writable
from hqcnn_lab.record.whole_file import whole_file

DESCRIPTION = """\
Make one page of runs: scores over seeds, tests against a reference, curves, mistakes, and what failed. Writes
report.html, which holds all it shows and asks for nothing else, and report.md. docs/report.md tells how to read them.

  python -m hqcnn_lab.report multirun/2026-01-31_12-00-00
  python -m hqcnn_lab.report multirun/optimizers_kaggle --reference adam
  python -m hqcnn_lab.report runs/a runs/b --out comparison"""

NAMES = ("report.html", "report.md")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and write the report; what cannot be is answered in one line, with exit status 1."""
    parser = CommandParser("hqcnn_lab.report", DESCRIPTION)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run folders, or folders above them")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: the first folder)")
    parser.add_argument("--reference", metavar="TEXT", help="compare with the setting whose name has this in it")
    arguments = parser.parse_args(argv)
    try:
        for path in write_report(arguments.folders, arguments.out, arguments.reference):
            print(f"written to {path}", flush=True)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted, nothing was written")


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


if __name__ == "__main__":
    main()
