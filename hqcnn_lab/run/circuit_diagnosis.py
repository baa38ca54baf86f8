"""A diagnosis of circuits: how far they reach, how much they entangle, how their gradients shrink; as tables, files."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hqcnn_lab.config.new_path import free_name
from hqcnn_lab.quantum.check import check_count
from hqcnn_lab.quantum.limits import check_circuit
from hqcnn_lab.record.csv_text import csv_of_mappings
from hqcnn_lab.record.whole_file import holds_something, whole_folder

if TYPE_CHECKING:
    from hqcnn_lab.quantum.diagnostics import GradientSpread


def diagnose(
    ansatz: Sequence[str],
    wires: Sequence[int],
    layers: Sequence[int],
    cost: Sequence[str],
    samples: int,
    pairs: int,
    seed: int,
    out: Path,
) -> None:
    """Measure every ansatz at every number of wires and layers; print tables, and write all into the new folder `out`.

    The parameters are the options of `python -m hqcnn_lab.diagnose`. Raises ValueError, one line, for what cannot be
    asked for, before any time is spent.
    """
    for name, n_wires, n_layers in product(ansatz, wires, layers):
        check_circuit(n_wires, n_layers, name, wires_from="--wires")
    for name in cost:
        if name not in ("local", "global"):
            raise ValueError(f"--cost must be local or global; got {name!r}")
    check_count("--samples", samples, minimum=2)
    check_count("--pairs", pairs)
    check_count("--seed", seed, minimum=0)
    _refuse_used(out)
    if find_spec("matplotlib") is None:
        raise ValueError("matplotlib is needed for the figures: pip install matplotlib")
    circuits = list(product(dict.fromkeys(ansatz), dict.fromkeys(wires), dict.fromkeys(layers)))
    with whole_folder(out) as scratch:
        states, gradients = _measure(circuits, tuple(dict.fromkeys(cost)), samples, pairs, seed)
        _write_csv(scratch / "gradient_variance.csv", map(asdict, gradients), n_samples=samples, seed=seed)
        _write_csv(scratch / "expressibility.csv", states, n_pairs=pairs, seed=seed)
        _draw(scratch, circuits, gradients, seed)
        _refuse_used(out)
    _print_tables(states, gradients)
    print(f"  written to {out}", flush=True)


def _refuse_used(folder: Path) -> None:
    if holds_something(folder):
        free = free_name(folder, holds_something)
        raise ValueError(f"{folder} exists and is not an empty folder: name a new one with --out, such as {free}")


def _measure(
    circuits: list[tuple[str, int, int]], costs: tuple[str, ...], n_samples: int, n_pairs: int, seed: int
) -> "tuple[list[dict[str, Any]], list[GradientSpread]]":
    """A row per circuit of what its states are like, and a row per circuit and cost of what its gradients are like."""
    from rich.console import Console
    from rich.progress import track

    from hqcnn_lab.quantum import diagnostics

    wires = dict.fromkeys(n_wires for _, n_wires, _ in circuits)
    floors = {n: diagnostics.expressibility_floor(n, n_pairs, seed=seed) for n in wires}
    states, gradients = [], []
    for ansatz, n_wires, n_layers in track(circuits, "diagnosing", console=Console(stderr=True), transient=True):
        for cost in costs:
            gradients += diagnostics.gradient_variance(ansatz, (n_wires,), (n_layers,), n_samples, cost=cost, seed=seed)
        circuit = ansatz, n_wires, n_layers, n_pairs
        states.append(
            {
                "ansatz": ansatz,
                "n_wires": n_wires,
                "n_layers": n_layers,
                "expressibility": diagnostics.expressibility(*circuit, seed=seed),
                "expressibility_floor": floors[n_wires],
                "entangling_capability": diagnostics.entangling_capability(*circuit, seed=seed),
            }
        )
    return states, gradients


def _write_csv(path: Path, rows: Iterable[dict[str, Any]], **settings: int) -> None:
    path.write_text(csv_of_mappings([{**row, **settings} for row in rows]), newline="\r\n")


def _draw(folder: Path, circuits: list[tuple[str, int, int]], gradients: "list[GradientSpread]", seed: int) -> None:
    from hqcnn_lab.quantum.circuit import make_circuit
    from hqcnn_lab.quantum.diagnostics import plot_gradient_variance
    from hqcnn_lab.quantum.draw import draw_figure

    plot_gradient_variance(gradients).savefig(folder / "gradient_variance.png", dpi=150)
    # Of the sizes asked for, those nearest to 4 wires and 2 layers make the clearest drawing.
    n_wires = min((n for _, n, _ in circuits), key=lambda n: abs(n - 4))
    n_layers = min((n for _, _, n in circuits), key=lambda n: abs(n - 2))
    for ansatz in dict.fromkeys(name for name, _, _ in circuits):
        circuit = make_circuit(n_wires, n_layers, ansatz, seed=seed)
        draw_figure(circuit).savefig(folder / f"circuit_{ansatz}.png", dpi=150)


def _print_tables(states: list[dict[str, Any]], gradients: "list[GradientSpread]") -> None:
    """A table for each ansatz, 80 columns wide."""
    from rich.console import Console
    from rich.table import Table

    costs = list(dict.fromkeys(row.cost for row in gradients))
    spread = {(row.ansatz, row.n_wires, row.n_layers, row.cost): row for row in gradients}
    for ansatz in dict.fromkeys(row["ansatz"] for row in states):
        table = Table(title=ansatz, title_justify="left", title_style="bold", box=None, padding=(0, 1))
        for name in ("\n\nwires", "\n\nlayers", "\nexpressibility\n(Haar floor)", "\nentangling\ncapability"):
            table.add_column(name, justify="right")
        for cost in costs:
            table.add_column(f"gradient variance\nof a {cost} cost\nmean    middle", justify="right")
        for row in states:
            if row["ansatz"] == ansatz:
                spreads = [spread[ansatz, row["n_wires"], row["n_layers"], cost] for cost in costs]
                table.add_row(
                    str(row["n_wires"]),
                    str(row["n_layers"]),
                    f"{row['expressibility']:.4f} ({row['expressibility_floor']:.4f})",
                    f"{row['entangling_capability']:.3f}",
                    *(f"{cell.mean:.1e}  {cell.middle:.1e}" for cell in spreads),
                )
        Console().print(table, "")
