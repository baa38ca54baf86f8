"""Diagnose circuits before training them: `python -m hqcnn_lab.diagnose --help`."""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from hqcnn_lab.config.command import CommandParser
from hqcnn_lab.config.new_path import free_name, holds_something
from hqcnn_lab.quantum.check import check_count
from hqcnn_lab.quantum.limits import ANSATZES, check_circuit
from hqcnn_lab.record.whole_file import whole_folder

DESCRIPTION = """\
Diagnose circuits at initialization, before anything is trained: how far their states reach (expressibility), how much
they entangle, and how their gradients shrink with the number of wires (barren plateaus). Prints a table and leaves a
new folder with the figures as CSV and PNG, and a drawing of each ansatz. How to read them: docs/diagnostics.md."""


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, diagnose, print; a wrong argument is answered in one line, with exit status 1."""
    arguments = _parser().parse_args(argv)
    try:
        _check(arguments)
        _run(arguments)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted, nothing was written")


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


def _check(arguments: argparse.Namespace) -> None:
    """Say what cannot be before anything heavy is imported or any time is spent."""
    for ansatz, n_wires, n_layers in product(arguments.ansatz, arguments.wires, arguments.layers):
        check_circuit(n_wires, n_layers, ansatz, wires_from="--wires")
    for cost in arguments.cost:
        if cost not in ("local", "global"):
            raise ValueError(f"--cost must be local or global; got {cost!r}")
    check_count("--samples", arguments.samples, minimum=2)
    check_count("--pairs", arguments.pairs)
    check_count("--seed", arguments.seed, minimum=0)
    _refuse_used(arguments.out)
    if find_spec("matplotlib") is None:
        raise ValueError("matplotlib is needed for the figures: pip install matplotlib")


def _refuse_used(folder: Path) -> None:
    if holds_something(folder):
        free = free_name(folder, holds_something)
        raise ValueError(f"{folder} exists and is not an empty folder: name a new one with --out, such as {free}")


def _run(arguments: argparse.Namespace) -> None:
    out = arguments.out
    with whole_folder(out) as scratch:
        circuits, gradients = _measure(arguments)
        _write(scratch, arguments, circuits, gradients)
        _refuse_used(out)
    _print_tables(circuits, gradients)
    print(f"  written to {out}", flush=True)


def _measure(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Any]]:
    """A row per circuit of what its states are like, and a row per circuit and cost of what its gradients are like."""
    from rich.console import Console
    from rich.progress import track

    from hqcnn_lab.quantum import diagnostics

    n_wires, n_layers, costs = (dict.fromkeys(values) for values in (arguments.wires, arguments.layers, arguments.cost))
    every = list(product(dict.fromkeys(arguments.ansatz), n_wires, n_layers))
    floors = {n: diagnostics.expressibility_floor(n, arguments.pairs, seed=arguments.seed) for n in n_wires}
    circuits, gradients = [], []
    for ansatz, n, depth in track(every, "diagnosing", console=Console(stderr=True), transient=True):
        for cost in costs:
            gradients += diagnostics.gradient_variance(
                ansatz, (n,), (depth,), arguments.samples, cost=cost, seed=arguments.seed
            )
        circuits.append(
            {
                "ansatz": ansatz,
                "n_wires": n,
                "n_layers": depth,
                "expressibility": diagnostics.expressibility(ansatz, n, depth, arguments.pairs, seed=arguments.seed),
                "expressibility_floor": floors[n],
                "entangling_capability": diagnostics.entangling_capability(
                    ansatz, n, depth, arguments.pairs, seed=arguments.seed
                ),
            }
        )
    return circuits, gradients


def _write(folder: Path, arguments: argparse.Namespace, circuits: list[dict[str, Any]], gradients: list[Any]) -> None:
    from hqcnn_lab.quantum.circuit import make_circuit
    from hqcnn_lab.quantum.diagnostics import plot_gradient_variance
    from hqcnn_lab.quantum.draw import draw_figure

    settings = {"n_samples": arguments.samples, "seed": arguments.seed}
    _write_csv(folder / "gradient_variance.csv", [{**asdict(row), **settings} for row in gradients])
    settings = {"n_pairs": arguments.pairs, "seed": arguments.seed}
    _write_csv(folder / "expressibility.csv", [{**row, **settings} for row in circuits])
    plot_gradient_variance(gradients).savefig(folder / "gradient_variance.png", dpi=150)
    # Of the sizes asked for, those nearest to 4 wires and 2 layers make the clearest drawing.
    n_wires = min(arguments.wires, key=lambda n: abs(n - 4))
    n_layers = min(arguments.layers, key=lambda n: abs(n - 2))
    for ansatz in dict.fromkeys(arguments.ansatz):
        circuit = make_circuit(n_wires, n_layers, ansatz, seed=arguments.seed)
        draw_figure(circuit).savefig(folder / f"circuit_{ansatz}.png", dpi=150)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _print_tables(circuits: list[dict[str, Any]], gradients: list[Any]) -> None:
    """A table for each ansatz, 80 columns wide."""
    from rich.console import Console
    from rich.table import Table

    costs = list(dict.fromkeys(row.cost for row in gradients))
    spread = {(row.ansatz, row.n_wires, row.n_layers, row.cost): row for row in gradients}
    for ansatz in dict.fromkeys(row["ansatz"] for row in circuits):
        table = Table(title=ansatz, title_justify="left", title_style="bold", box=None, padding=(0, 1))
        for name in ("\n\nwires", "\n\nlayers", "\nexpressibility\n(Haar floor)", "\nentangling\ncapability"):
            table.add_column(name, justify="right")
        for cost in costs:
            table.add_column(f"gradient variance\nof a {cost} cost\nmean    middle", justify="right")
        for row in circuits:
            if row["ansatz"] == ansatz:
                here = [spread[ansatz, row["n_wires"], row["n_layers"], cost] for cost in costs]
                table.add_row(
                    str(row["n_wires"]),
                    str(row["n_layers"]),
                    f"{row['expressibility']:.4f} ({row['expressibility_floor']:.4f})",
                    f"{row['entangling_capability']:.3f}",
                    *(f"{cell.mean:.1e}  {cell.middle:.1e}" for cell in here),
                )
        Console().print(table, "")


if __name__ == "__main__":
    main()
