"""Drawings, as literal text for every kind of gate, and what a figure must hold."""

import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.patches import Circle, Rectangle

from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import ENCODERS, READOUTS, Circuit, make_circuit
from hqcnn_lab.quantum.draw import draw_figure, draw_text
from hqcnn_lab.quantum.gate import CONTROLLED, Gate


def of_gates(*gates: Gate, n_wires: int = 3, measured: tuple[int, ...] | None = None, n_weights: int = 8) -> Circuit:
    measured = tuple(range(n_wires)) if measured is None else measured
    return Circuit(n_wires, "angle_y", gates, "z", measured, (1, n_weights))


def assert_drawn(circuit: Circuit, expected: str, **keywords) -> None:
    assert draw_text(circuit, **keywords) == expected.strip("\n")


def test_one_wire_gates():
    gates = [Gate(name, (wire,)) for wire, names in enumerate((("h", "sdg"), ("x", "y", "z"))) for name in names]
    turns = [Gate(name, (2,), weights=(i,)) for i, name in enumerate(("rx", "ry", "rz"))]
    assert_drawn(
        of_gates(*gates, *turns, Gate("u3", (0,), weights=(3, 4, 5))),
        """
0: ─Ry(x0)─H──────────S†─────────U3(θ[0,3:6])─┤⟨Z⟩
1: ─Ry(x1)─X──────────Y──────────Z────────────┤⟨Z⟩
2: ─Ry(x2)─Rx(θ[0,0])─Ry(θ[0,1])─Rz(θ[0,2])───┤⟨Z⟩
""",
    )


def test_controlled_gates_either_way_up_and_across_a_wire():
    assert_drawn(
        of_gates(
            Gate("cnot", (0, 1)),
            Gate("cnot", (2, 0)),
            Gate("crx", (1, 2), weights=(0,)),
            Gate("crz", (1, 0), weights=(1,)),
            Gate("cu3", (0, 2), weights=(2, 3, 4)),
        ),
        """
0: ─Ry(x0)─╭●─╭X─────────────╭Rz(θ[0,1])─╭●────────────┤⟨Z⟩
1: ─Ry(x1)─╰X─│──╭●──────────╰●──────────│─────────────┤⟨Z⟩
2: ─Ry(x2)────╰●─╰Rx(θ[0,0])─────────────╰U3(θ[0,2:5])─┤⟨Z⟩
""",
    )


def test_gates_go_left_but_not_across_a_line():
    gates = Gate("cnot", (0, 2)), Gate("x", (1,)), Gate("cnot", (1, 2)), Gate("z", (0,))
    assert_drawn(
        of_gates(*gates),
        """
0: ─Ry(x0)─╭●─Z────┤⟨Z⟩
1: ─Ry(x1)─│──X─╭●─┤⟨Z⟩
2: ─Ry(x2)─╰X───╰X─┤⟨Z⟩
""",
    )


def test_a_wire_that_is_not_read_ends_behind_its_last_gate():
    assert_drawn(
        make_circuit(4, 2, "pooling"),
        """
0: ─Ry(x0)─Ry(θ[0,0])─╭●─Ry(θ[0,2])─╭Rz(θ[0,4])───╭Rx(θ[0,5])─Ry(θ[1,0])─╭●─Ry(θ[1,2])─╭Rz(θ[1,4])───╭Rx(θ[1,5])─┤⟨Z⟩
1: ─Ry(x1)─Ry(θ[0,1])─╰X─Ry(θ[0,3])─╰●──────────X─╰●                     │             │             │
2: ─Ry(x2)─Ry(θ[0,0])─╭●─Ry(θ[0,2])─╭Rz(θ[0,4])───╭Rx(θ[0,5])─Ry(θ[1,1])─╰X─Ry(θ[1,3])─╰●──────────X─╰●
3: ─Ry(x3)─Ry(θ[0,1])─╰X─Ry(θ[0,3])─╰●──────────X─╰●
""",
        width=130,
    )


@pytest.mark.parametrize(
    ("encoder", "text"),
    [
        ("angle_y", "0: ─Ry(x0)─Rx(θ[0,0,0])─╭●─┤⟨Z⟩\n1: ─Ry(x1)─Rx(θ[0,1,0])─╰X─┤⟨Z⟩"),
        ("angle_x", "0: ─Rx(x0)─Rx(θ[0,0,0])─╭●─┤⟨Z⟩\n1: ─Rx(x1)─Rx(θ[0,1,0])─╰X─┤⟨Z⟩"),
        ("angle_z", "0: ─H─Rz(x0)─Rx(θ[0,0,0])─╭●─┤⟨Z⟩\n1: ─H─Rz(x1)─Rx(θ[0,1,0])─╰X─┤⟨Z⟩"),
        ("amplitude", "0: ─╭|x⟩─Rx(θ[0,0,0])─╭●─┤⟨Z⟩\n1: ─╰|x⟩─Rx(θ[0,1,0])─╰X─┤⟨Z⟩"),
    ],
)
def test_encoders(encoder, text):
    assert draw_text(make_circuit(2, 1, "basic_entangler", encoder)) == text


def test_reuploading_draws_the_inputs_again():
    text = draw_text(make_circuit(2, 3, encoder="reuploading"))
    assert text.count("Ry(x0)") == text.count("Ry(x1)") == 3


@pytest.mark.parametrize(
    ("readout", "end"), [("z", "⟨Z⟩"), ("x", "⟨X⟩"), ("y", "⟨Y⟩"), ("zz", "⟨ZZ⟩"), ("probabilities", "probs")]
)
def test_the_readout_is_named_and_its_turning_gates_are_not_drawn(readout, end):
    numbers = [[[0.125, -3.0], [10.0, np.nan]]]
    assert_drawn(
        make_circuit(2, 1, readout=readout),
        f"""
0: ─Ry(x0)─Ry(0.12)──Rz(-3.00)─╭●─╭X─┤{end}
1: ─Ry(x1)─Ry(10.00)─Rz(nan)───╰X─╰●─┤{end}
""",
        weights=numbers,
    )


def test_a_long_circuit_is_folded():
    assert_drawn(
        make_circuit(2, 2, "basic_entangler"),
        """
0: ─Ry(x0)─Rx(θ[0,0,0])─╭●─···
1: ─Ry(x1)─Rx(θ[0,1,0])─╰X─···

0: ···─Rx(θ[1,0,0])─╭●─┤⟨Z⟩
1: ···─Rx(θ[1,1,0])─╰X─┤⟨Z⟩
""",
        width=40,
    )


@pytest.mark.parametrize("ansatz", ANSATZES)
@pytest.mark.parametrize("n_wires", [1, 2, 5, 11])
def test_every_circuit_is_drawn_whole_and_within_the_width(ansatz, n_wires):
    circuit = make_circuit(n_wires, 2, ansatz, encoder="reuploading")
    text = draw_text(circuit, width=60)
    lines = [line for line in text.split("\n") if line]
    assert max(map(len, lines)) <= 60
    assert len(lines) % n_wires == 0
    gates = circuit.encoding + circuit.gates
    assert text.count("●") == sum(gate.name in CONTROLLED for gate in gates)
    assert text.count("(θ") == sum(bool(gate.weights) for gate in gates)
    assert text.count("(x") == sum(bool(gate.inputs) for gate in gates)
    for wire in range(n_wires):  # in the right order on every wire
        row = "".join(line for line in lines if line.strip().startswith(f"{wire}: "))
        boxes = [gate for gate in gates if gate.wires[-1] == wire and (gate.weights or gate.inputs)]
        assert re.findall(r"\w\w\(([xθ])", row) == ["x" if gate.inputs else "θ" for gate in boxes]


def test_weights_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"of shape \[1, 2, 2\] or flat; got 3 numbers"):
        draw_text(make_circuit(2, 1), weights=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="got 3 numbers"):
        draw_figure(make_circuit(2, 1), weights=[1.0, 2.0, 3.0])


def shapes(figure) -> tuple[int, int, int]:
    """Boxes, dots, and the circles of CNOT targets."""
    patches = figure.axes[0].patches
    circles = [patch.radius for patch in patches if isinstance(patch, Circle)]
    return sum(isinstance(p, Rectangle) for p in patches), circles.count(0.09), circles.count(0.2)


def test_a_figure_has_a_box_a_gate_a_dot_a_control_and_every_label(tmp_path):
    circuit = make_circuit(4, 2, "hardware_efficient", readout="x")
    figure = draw_figure(circuit)
    assert shapes(figure) == (4 + 16, 8, 8)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert {"0", "1", "2", "3", "x3", "θ[1,3,1]", "Rz"} <= set(labels)
    assert labels.count("⟨X⟩") == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["an input x", "a weight θ", "fixed"]
    colours = {patch.get_facecolor() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)}
    assert len(colours) == 2
    figure.savefig(tmp_path / "circuit.png")
    assert (tmp_path / "circuit.png").stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", ANSATZES)
@pytest.mark.parametrize(("encoder", "readout"), list(zip(ENCODERS, READOUTS, strict=True)))
def test_every_circuit_has_a_figure(ansatz, encoder, readout):
    circuit = make_circuit(4, 2, ansatz, encoder, readout)
    figure = draw_figure(circuit, weights=np.linspace(-3, 3, int(np.prod(circuit.weight_shape))))
    _, dots, targets = shapes(figure)
    assert dots == sum(gate.name in CONTROLLED for gate in circuit.gates)
    assert targets == sum(gate.name == "cnot" for gate in circuit.gates)


def test_a_long_figure_is_folded_into_rows():
    short, long = draw_figure(make_circuit(4, 2)), draw_figure(make_circuit(4, 8))
    assert long.get_size_inches()[0] < 2 * short.get_size_inches()[0]
    assert long.get_size_inches()[1] > 1.9 * short.get_size_inches()[1]
    assert [text.get_text() for text in long.axes[0].texts].count("⟨Z⟩") == 4


@pytest.mark.slow
def test_drawing_needs_neither_torch_nor_pyplot():
    code = """
import sys
from hqcnn_lab.quantum.circuit import make_circuit
from hqcnn_lab.quantum.draw import draw_figure, draw_text
draw_text(make_circuit(3, 1))
assert not {"torch", "matplotlib"} & set(sys.modules)
draw_figure(make_circuit(3, 1))
assert not {"torch", "matplotlib.pyplot"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
