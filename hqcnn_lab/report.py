"""Make one page of any number of runs: `python -m hqcnn_lab.report --help`."""

from collections.abc import Sequence
from pathlib import Path

from hqcnn_lab.config.command import CommandParser, errors_in_one_line
from hqcnn_lab.reporting.write import write_report

DESCRIPTION = """\
Make one page of runs: scores over seeds, tests against a reference, curves, mistakes, and what failed. Writes
report.html, which holds all it shows and asks for nothing else, and report.md. docs/report.md tells how to read them.

  python -m hqcnn_lab.report multirun/2026-01-31_12-00-00
  python -m hqcnn_lab.report multirun/optimizers_kaggle --reference adam
  python -m hqcnn_lab.report runs/a runs/b --out comparison"""


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and write the report; what cannot be is answered in one line, with exit status 1."""
    parser = CommandParser("hqcnn_lab.report", DESCRIPTION)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run folders, or folders above them")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: the first folder)")
    parser.add_argument("--reference", metavar="TEXT", help="compare with the setting whose name has this in it")
    arguments = parser.parse_args(argv)
    with errors_in_one_line(ValueError, interrupted="interrupted, nothing was written"):
        for path in write_report(arguments.folders, arguments.out, arguments.reference):
            print(f"written to {path}", flush=True)


if __name__ == "__main__":
    main()
