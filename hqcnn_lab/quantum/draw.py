"""Drawings of a circuit, as text and as a matplotlib figure: pure functions of the circuit. Torch-free."""

# pyright: reportUnknownMemberType=false
# (matplotlib leaves `**kwargs` without annotations)

from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from math import ceil
from typing import TYPE_CHECKING, Any

from hqcnn_lab.quantum.circuit import Circuit, basis_change
from hqcnn_lab.quantum.gate import CONTROLLED, Gate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Column = dict[int, Gate]
"""What happens on each wire in one moment: a gate of several wires is under all of them, and under those it crosses."""

Angles = Callable[[Gate], str]

NAMES = {"rx": "Rx", "ry": "Ry", "rz": "Rz", "u3": "U3", "h": "H", "sdg": "S†", "x": "X", "y": "Y", "z": "Z"}
ENDS = {"z": "⟨Z⟩", "x": "⟨X⟩", "y": "⟨Y⟩", "zz": "⟨ZZ⟩", "probabilities": "probs"}
STATE = "|x⟩"  # amplitude encoding: the inputs are the state, no gate makes it
COLOURS = {"input": "#9ecae1", "weight": "#fdd0a2", "fixed": "#e6e6e6"}  # told apart in greys too


def draw_text(circuit: Circuit, weights: Any = None, width: int = 120) -> str:
    """The circuit as text, one line a wire, gates as far left as they go without crossing, folded at `width` columns.

    Use it in a terminal or a log; a wide circuit is easier to read in `draw_figure`. The encoding comes first. `x0` is
    input 0 of a sample, `θ[0,1,0]` is `layer.weights[0, 1, 0]`. A controlled gate is ● on its control; a wire that is
    not read ends behind its last gate. An X or Y readout ends in ⟨X⟩ or ⟨Y⟩, which stands for the gates that turn it.

    Args:
        weights: numbers to show, to two decimals, in place of names: `circuit.weight_shape`, or flat; one circuit's.

    Raises ValueError if the number of weights does not fit.
    """
    columns, last = _columns(circuit)
    angles = _angle_writer(circuit, weights)
    texts = [_text_column(column, index, last, circuit.n_wires, angles) for index, column in enumerate(columns)]
    margin = len(str(circuit.n_wires - 1)) + 2
    ends = len("···─") + len("─┤probs")
    rows = _fold([len(text[0]) + 1 for text in texts], width - margin - ends)
    blocks: list[str] = []
    for indices in rows:
        lines: list[str] = []
        for wire in range(circuit.n_wires):
            alive = last[wire] >= indices[0]
            line = f"{wire}: ".rjust(margin) + ("" if indices[0] == 0 else "···" if alive else "   ")
            line += "─" if alive else " "
            for i in indices:
                line += texts[i][wire] + ("─" if last[wire] > i else " ")
            if last[wire] > indices[-1]:
                line += "···" if indices[-1] < len(columns) - 1 else "┤" + ENDS[circuit.readout]
            lines.append(line.rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def draw_figure(circuit: Circuit, weights: Any = None) -> "Figure":
    """The circuit as a matplotlib figure, to be shown by a notebook or saved: `draw_figure(layer.circuit).savefig(…)`.

    Coloured by where a gate's angles come from: a sample's inputs, the weights, or nowhere. Names, `weights` and errors
    as in `draw_text`. A long circuit is folded into rows. No pyplot: nothing global is touched, nothing need be closed.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns, last = _columns(circuit)
    angles = _angle_writer(circuit, weights)
    widths = [_figure_width(column, angles) for column in columns]
    total = sum(widths)
    rows = _fold(widths, total / ceil(total / MAX_ROW) + max(widths) / 2)  # rows of about the same length
    length = max(sum(widths[i] for i in row) for row in rows)
    height = len(rows) * (circuit.n_wires + 1) - 1
    figure = Figure(figsize=(SCALE * (length + 2.4), SCALE * (height + 1.0)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1.2, length + 1.2), ylim=(0.4 - height, 0.7), aspect="equal")
    axes.set_axis_off()
    for row, indices in enumerate(rows):
        _figure_row(axes, circuit, columns, indices, widths, last, angles, -row * (circuit.n_wires + 1.0))
    kinds = {_kind(gate) for column in columns for gate in column.values()}
    meaning = {"input": "an input x", "weight": "a weight θ", "fixed": "fixed"}
    patches = [
        Patch(facecolor=COLOURS[kind], edgecolor="black", label=text) for kind, text in meaning.items() if kind in kinds
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=9)
    return figure


SCALE = 0.62  # inches from wire to wire
MAX_ROW = 24  # such units before a figure is folded


def _columns(circuit: Circuit) -> tuple[list[Column], list[int]]:
    """The circuit in moments, and after which of them each wire ends: far beyond for one that is read."""
    gates = list(circuit.encoding)
    if circuit.encoder == "amplitude":
        gates = [Gate("state", tuple(range(circuit.n_wires)), inputs=tuple(range(circuit.n_inputs)))]
    turned = len(basis_change(circuit.readout, circuit.measured))
    gates += circuit.gates[: len(circuit.gates) - turned]
    columns: list[Column] = []
    free = [0] * circuit.n_wires  # the first moment in which each wire has nothing to do
    last = [0] * circuit.n_wires
    for gate in gates:
        span = range(min(gate.wires), max(gate.wires) + 1)
        moment = max(free[wire] for wire in span)
        if moment == len(columns):
            columns.append({})
        for wire in span:
            columns[moment][wire] = gate
            free[wire] = moment + 1
        for wire in gate.wires:
            last[wire] = moment
    for wire in circuit.measured:
        last[wire] = len(columns)
    return columns, last


def _fold(lengths: Sequence[float], room: float) -> list[list[int]]:
    """Indices of columns, row by row, none longer than `room` unless one column alone is."""
    rows: list[list[int]] = [[0]]
    for index in range(1, len(lengths)):
        if sum(lengths[rows[-1][0] : index + 1]) > room:
            rows.append([])
        rows[-1].append(index)
    return rows


def _angle_writer(circuit: Circuit, weights: Any) -> Angles:
    """What to write in a gate's box: `x0`, `θ[0,1,0]`, `θ[0,1,3:6]` or numbers; nothing for a gate without angles."""
    import numpy as np

    shape = circuit.weight_shape
    values = None
    if weights is not None:
        values = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, dtype=float).ravel()
        if values.size != np.prod(shape):
            raise ValueError(
                f"weights must be one circuit's, of shape {list(shape)} or flat; got {values.size} numbers"
            )

    def angles(gate: Gate) -> str:
        if gate.name == "state":
            return ""
        if values is not None:
            texts = [f"{values[i]:.2f}" for i in gate.weights]
        else:
            indices = [tuple(int(i) for i in np.unravel_index(weight, shape)) for weight in gate.weights]
            slots = [index[-1] for index in indices]
            alike = len(slots) > 1 and len({index[:-1] for index in indices}) == 1
            if alike and slots == list(range(slots[0], slots[-1] + 1)):
                return f"θ[{','.join(map(str, indices[0][:-1]))},{slots[0]}:{slots[-1] + 1}]"
            texts = [f"θ[{','.join(map(str, index))}]" for index in indices]
        return ",".join([f"x{i}" for i in gate.inputs] + texts)

    return angles


def _symbol(gate: Gate, wire: int) -> str:
    """What a gate is on one wire: a dot, a name, or nothing where it only passes."""
    if gate.name == "state":
        return STATE
    if gate.name not in CONTROLLED:
        return NAMES[gate.name]
    return {gate.wires[0]: "●", gate.wires[1]: NAMES[CONTROLLED[gate.name]]}.get(wire, "")


def _kind(gate: Gate) -> str:
    return "input" if gate.inputs else "weight" if gate.weights else "fixed"


def _text_column(column: Column, index: int, last: list[int], n_wires: int, angles: Angles) -> list[str]:
    """One column's text on every wire, all of one length."""
    joins = any(len(gate.wires) > 1 for gate in column.values())
    cells: list[str] = []
    for wire in range(n_wires):
        gate = column.get(wire)
        join = "─" if last[wire] >= index else " "
        cell = ""
        if gate is not None:
            symbol = _symbol(gate, wire)
            inside = angles(gate) if symbol not in ("", "●") else ""
            cell = f"{symbol}({inside})" if inside else symbol
            if len(gate.wires) > 1:
                join = "╭" if wire == min(gate.wires) else "╰" if wire == max(gate.wires) else "├" if symbol else "│"
        cells.append(join + cell if joins else cell)
    length = max(map(len, cells))
    # Behind the last gate of a wire that is not read there is no line.
    return [cell.ljust(length, "─" if last[wire] > index else " ") for wire, cell in enumerate(cells)]


def _figure_width(column: Column, angles: Angles) -> float:
    """Room for the longest line in a box of this column; 0.7 for columns of dots and crosses."""
    return max(0.7, *(0.3 + 0.115 * len(angles(gate)) for gate in column.values()))


def _figure_row(
    axes: "Axes",
    circuit: Circuit,
    columns: list[Column],
    indices: list[int],
    widths: list[float],
    last: list[int],
    angles: Angles,
    top: float,
) -> None:
    """The columns `indices` from left to right, wire 0 at the height `top`."""
    length = sum(widths[i] for i in indices)
    left = dict(zip(indices, accumulate((widths[i] for i in indices[:-1]), initial=0.0), strict=True))
    for wire in range(circuit.n_wires):
        y = top - wire
        axes.text(-0.35, y, str(wire), ha="right", va="center", fontsize=9)
        if last[wire] < indices[0]:
            continue
        end = length + 0.2 if last[wire] not in left else left[last[wire]] + widths[last[wire]] / 2
        axes.plot([-0.2, end], [y, y], color="black", lw=0.8, zorder=1)
        if last[wire] not in left:
            text = ENDS[circuit.readout] if indices[-1] == len(columns) - 1 else "···"
            axes.text(end + 0.1, y, text, ha="left", va="center", fontsize=9)
    for index in indices:
        x = left[index] + widths[index] / 2
        for gate, wires in groupby(sorted(columns[index]), key=columns[index].__getitem__):
            _figure_gate(axes, gate, list(wires), x, widths[index] - 0.16, top, angles)


def _figure_gate(
    axes: "Axes", gate: Gate, wires: list[int], x: float, width: float, top: float, angles: Angles
) -> None:
    from matplotlib.patches import Circle, Rectangle

    style: dict[str, Any] = {"facecolor": COLOURS[_kind(gate)], "edgecolor": "black", "lw": 0.8}
    ys = [top - wire for wire in wires]
    if gate.name == "state":
        axes.add_patch(Rectangle((x - width / 2, min(ys) - 0.35), width, max(ys) - min(ys) + 0.7, zorder=3, **style))
        axes.text(x, (max(ys) + min(ys)) / 2, STATE, ha="center", va="center", fontsize=9, zorder=4)
        return
    if len(wires) > 1:
        axes.plot([x, x], [min(ys), max(ys)], color="black", lw=0.8, zorder=2)
    for wire, y in zip(wires, ys, strict=True):
        symbol = _symbol(gate, wire)
        if symbol == "●":
            axes.add_patch(Circle((x, y), 0.09, color="black", zorder=3))
        elif gate.name == "cnot" and symbol:
            axes.add_patch(Circle((x, y), 0.2, zorder=3, **style))
            axes.plot([x - 0.2, x + 0.2], [y, y], color="black", lw=0.8, zorder=4)
            axes.plot([x, x], [y - 0.2, y + 0.2], color="black", lw=0.8, zorder=4)
        elif symbol:
            axes.add_patch(Rectangle((x - width / 2, y - 0.35), width, 0.7, zorder=3, **style))
            inside = angles(gate)
            axes.text(x, y + 0.11 if inside else y, symbol, ha="center", va="center", fontsize=9, zorder=4)
            if inside:
                axes.text(x, y - 0.17, inside, ha="center", va="center", fontsize=6, zorder=4)
