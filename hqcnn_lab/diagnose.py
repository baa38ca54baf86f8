"""Diagnose circuits before training them: `python -m hqcnn_lab.diagnose --help`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hqcnn_lab.config.command import CommandParser, errors_in_one_line
from hqcnn_lab.quantum.limits import ANSATZES
from hqcnn_lab.run.circuit_diagnosis import diagnose

DESCRIPTION = """\
Diagnose circuits at initialization, before anything is trained: how far their states reach (expressibility), how much
they entangle, and how their gradients shrink with the number of wires (barren plateaus). Prints a table and leaves a
new folder with the figures as CSV and PNG, and a drawing of each ansatz. How to read them: docs/diagnostics.md."""


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, diagnose, print; a wrong argument is answered in one line, with exit status 1."""
    arguments = _parser().parse_args(argv)
    with errors_in_one_line(ValueError, interrupted="interrupted, nothing was written"):
        diagnose(**vars(arguments))


def _parser() -> CommandParser:
    parser = CommandParser("hqcnn_lab.diagnose", DESCRIPTION)

    def several(name: str, default: tuple, text: str, kind: type = int, **keywords: Any) -> None:
        shown = " ".join(map(str, default))
        parser.add_argument(name, nargs="+", type=kind, default=default, help=f"{text} (default: {shown})", **keywords)

    def one(name: str, default: int, text: str) -> None:
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{text} (default: {default})")

    names = ", ".join(ANSATZES)
    several("--ansatz", ("hardware_efficient",), f"circuits to compare: {names}", str, metavar="NAME")
    several("--wires", (2, 4, 6, 8), "numbers of qubits", metavar="N")
    several("--layers", (1, 2, 5, 10), "numbers of layers", metavar="N")
    several("--cost", ("local", "global"), "whose gradient: local, global", str, metavar="NAME")
    one("--samples", 100, "random circuits behind each gradient variance, at least 2")
    one("--pairs", 2000, "pairs of states behind each expressibility; as many states for entanglement")
    one("--seed", 0, "seed of the random weights and inputs")
    parser.add_argument(
        "--out", type=Path, default=Path("diagnosis"), metavar="FOLDER", help="a new folder (default: diagnosis)"
    )
    return parser


if __name__ == "__main__":
    main()
