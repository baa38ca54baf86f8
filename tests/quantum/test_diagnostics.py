"""Diagnostics against closed forms, and the command that prints them."""

import csv
import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from one_line import refused
from PIL import Image

from hqcnn_lab import diagnose
from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer, diagnostics
from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import make_circuit
from hqcnn_lab.quantum.diagnostics import (
    entangling_capability,
    expressibility,
    expressibility_floor,
    gradient_variance,
    meyer_wallach,
    parameter_shift_gradients,
    plot_gradient_variance,
    two_design_variance,
)
from hqcnn_lab.quantum.engine import statevector

torch.set_num_threads(1)


def spread(ansatz: str, n_wires: int, n_layers: int, **keywords) -> diagnostics.GradientSpread:
    (row,) = gradient_variance(ansatz, (n_wires,), (n_layers,), **keywords)
    return row


# --- gradient variance


@pytest.mark.parametrize("cost", diagnostics.COSTS)
def test_one_turn_on_one_wire_has_the_variance_of_a_sine(cost):
    # Ry(x) then Ry(θ): ⟨Z⟩ = cos(x + θ), derivative −sin, of variance 1/2
    row = spread("real_amplitudes", 1, 1, n_samples=20_000, cost=cost)
    assert row.middle == pytest.approx(0.5, rel=0.02)
    assert row.mean == pytest.approx(0.5, rel=0.02)


def test_a_turn_no_readout_can_see_has_no_gradient():
    # Rz behind Ry: half of separable's weights turn phases before a Z readout
    row = spread("separable", 1, 1, n_samples=2000)
    assert row.middle == pytest.approx(0.5, rel=0.05)
    assert row.mean == pytest.approx(row.middle / 2, rel=1e-9)


@pytest.mark.parametrize("n_wires", [2, 4])
def test_the_global_cost_of_separate_wires_is_a_product(n_wires):
    # p = Π cos²(φᵢ/2): the derivative of 2p − 1 is −sin φ of one wire times cos²(φ/2), of mean square 3/8, of others
    row = spread("separable", n_wires, 1, n_samples=20_000, cost="global")
    assert row.middle == pytest.approx(0.5 * 0.375 ** (n_wires - 1), rel=0.1)


def test_a_closing_ring_leaves_all_zeros_where_they_are():
    # CNOTs map |0…0⟩ to itself, so one layer of hardware_efficient has exactly the global cost of its separable twin
    assert spread("hardware_efficient", 4, 1, cost="global").mean == pytest.approx(
        spread("separable", 4, 1, cost="global").mean, rel=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize("cost", diagnostics.COSTS)
@pytest.mark.parametrize("n_wires", [2, 4])
def test_a_deep_circuit_is_a_two_design(cost, n_wires):
    row = spread("hardware_efficient", n_wires, 12, n_samples=1500, cost=cost)
    assert row.middle == pytest.approx(two_design_variance(n_wires, cost), rel=0.12)


def test_deep_circuits_have_a_plateau_and_separate_wires_have_none():
    deep = gradient_variance("hardware_efficient", (2, 4, 6, 8), (10,))
    assert all(a.mean > 2.5 * b.mean for a, b in pairwise(deep))
    flat = gradient_variance("separable", (2, 8), (10,))
    assert flat[1].middle == pytest.approx(flat[0].middle, rel=0.5)
    steep = gradient_variance("separable", (2, 8), (10,), cost="global")
    assert steep[0].mean > 100 * steep[1].mean


def test_a_row_does_not_depend_on_the_rest_of_the_scan_nor_on_memory(monkeypatch):
    together = gradient_variance("pooling", (4, 8), (1, 2), n_samples=20, readout="x")
    assert [(row.n_wires, row.n_layers) for row in together] == [(4, 1), (4, 2), (8, 1), (8, 2)]
    assert spread("pooling", 8, 1, n_samples=20, readout="x") == together[2]
    states = expressibility("pooling", 4, 1, n_pairs=50), entangling_capability("pooling", 4, 1, n_samples=50)
    monkeypatch.setattr(diagnostics, "MAX_AMPLITUDES", 1)
    assert spread("pooling", 8, 1, n_samples=20, readout="x").mean == pytest.approx(together[2].mean, rel=1e-9)
    assert expressibility("pooling", 4, 1, n_pairs=50) == pytest.approx(states[0], rel=1e-9)
    assert entangling_capability("pooling", 4, 1, n_samples=50) == pytest.approx(states[1], rel=1e-9)


def test_the_gradient_is_that_of_the_states_the_circuit_makes():
    # central differences on ⟨Z⟩ of the middle wire, straight from an engine that shares no code with autograd here
    circuit = make_circuit(3, 2)
    torch.manual_seed(0)
    weights, inputs = torch.rand(1, 12, dtype=torch.float64), torch.rand(1, 3, 1, dtype=torch.float64)
    observable = diagnostics._observable(circuit, "local")
    free = weights.clone().requires_grad_()
    (diagnostics.states(inputs, free, circuit)[..., 0].abs().square() @ observable).sum().backward()

    def middle(w):
        return statevector.expectations(inputs, w, circuit)[0, 1, 0]

    step = 1e-5 * torch.eye(12, dtype=torch.float64)
    numeric = torch.stack([(middle(weights + s) - middle(weights - s)) / 2e-5 for s in step])
    torch.testing.assert_close(free.grad[0], numeric, atol=1e-8, rtol=0)


@pytest.mark.parametrize(("name", "value"), [("cost", "middle"), ("readout", "zz")])
def test_unknown_costs_and_readouts_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be one of .*; got '{value}'"):
        gradient_variance(**{name: value})


@pytest.mark.slow
def test_the_plot_has_a_panel_each_and_a_line_a_depth(tmp_path):
    rows = [
        row
        for ansatz in ("hardware_efficient", "separable")
        for cost in diagnostics.COSTS
        for row in gradient_variance(ansatz, (2, 3), (1, 2), n_samples=5, cost=cost)
    ]
    figure = plot_gradient_variance(rows)
    assert len(figure.axes) == 4
    for panel in figure.axes:
        assert panel.get_yscale() == "log"
        assert len(panel.lines) == 2 * 2 + 2  # mean and middle of each depth, the guide, and a word on the dotted ones
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 3]
    assert list(line.get_ydata()) == [row.mean for row in rows if row.n_layers == 1][:2]
    figure.savefig(tmp_path / "plot.png")


# --- expressibility


@pytest.mark.parametrize("n_wires", [1, 3, 8])
def test_an_idle_circuit_is_log_of_the_last_bins_mass(n_wires):
    counts = np.zeros(75, dtype=int)
    counts[-1] = 1000  # every fidelity is 1
    expected = (2**n_wires - 1) * math.log(75)
    assert diagnostics._divergence(counts, n_wires) == pytest.approx(expected, rel=1e-12)


def test_the_bins_hold_all_of_haar():
    for n_wires in (1, 2, 5, 8):
        assert np.exp(diagnostics._haar_log_masses(n_wires, 75)).sum() == pytest.approx(1)


def test_one_turn_on_one_wire_has_the_arcsine_law():
    # F = cos²((θ − φ)/2), Haar on one wire is uniform
    edges = np.linspace(0, 1, 76)
    masses = np.diff(2 / np.pi * np.arcsin(np.sqrt(edges)))
    exact = float(np.sum(masses * np.log(75 * masses)))
    assert expressibility("basic_entangler", 1, 1, n_pairs=100_000) == pytest.approx(exact, abs=0.005)


def test_a_haar_random_sample_has_the_floor():
    generator = torch.Generator().manual_seed(0)
    for n_wires in (2, 4):
        amplitudes = torch.randn(2, 20 * 2000, 2**n_wires, dtype=torch.complex128, generator=generator)
        first, second = amplitudes / amplitudes.norm(dim=2, keepdim=True)
        fidelities = (first.conj() * second).sum(1).abs().square().reshape(20, 2000)
        divergences = [diagnostics._divergence(np.histogram(f, 75, (0, 1))[0], n_wires) for f in fidelities.numpy()]
        assert expressibility_floor(n_wires) == pytest.approx(np.mean(divergences), rel=0.15)


def test_closing_cnots_change_no_fidelity():
    # as circuits 1 and 2 of Sim et al., which differ in CNOTs behind the turns only
    ring, separate = (expressibility(name, 4, 1) for name in ("hardware_efficient", "separable"))
    assert ring == pytest.approx(separate, rel=1e-9)


@pytest.mark.slow
def test_the_order_that_sim_et_al_report():
    # fig. 3: layers help until they saturate at the floor; without entanglement they never get there
    one, two, five = (expressibility("hardware_efficient", 4, n) for n in (1, 2, 5))
    assert one > 10 * two > 10 * expressibility_floor(4) / 2
    assert five < 2 * expressibility_floor(4)
    assert expressibility("separable", 4, 5) > 10 * five
    assert expressibility("real_amplitudes", 4, 5) > 5 * five  # real states only


# --- entanglement


def test_products_have_none_and_ghz_states_all_of_it():
    product = torch.tensor([1.0])
    for angle in (0.3, 1.1, 2.0):
        product = torch.kron(product, torch.tensor([math.cos(angle), math.sin(angle)]))
    ghz = torch.zeros(8)
    ghz[0] = ghz[-1] = 0.5**0.5
    one_bell_pair = torch.zeros(8)
    one_bell_pair[0] = one_bell_pair[6] = 0.5**0.5  # wires 0 and 1; wire 2 stays |0⟩
    entanglement = meyer_wallach(torch.stack([product, ghz, one_bell_pair]).to(torch.complex128))
    torch.testing.assert_close(entanglement, torch.tensor([0, 1, 2 / 3], dtype=torch.float64), atol=1e-6, rtol=0)


def test_haar_random_states_have_the_known_mean():
    amplitudes = torch.randn(20_000, 8, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    entanglement = meyer_wallach(amplitudes / amplitudes.norm(dim=1, keepdim=True)).mean()
    assert entanglement == pytest.approx(6 / 9, rel=0.01)


def test_entangling_capability_of_known_circuits():
    assert entangling_capability("separable", 4, 3) == pytest.approx(0, abs=1e-12)
    # Rx(θ) on two wires, then CNOT 0→1: cos(θ₀/2)|0⟩|b⟩ − i sin(θ₀/2)|1⟩X|b⟩, so Q = sin²θ₀ (1 − ⟨b|X|b⟩²) = sin²θ₀
    assert entangling_capability("basic_entangler", 2, 1, n_samples=20_000) == pytest.approx(0.5, abs=0.01)
    assert entangling_capability("hardware_efficient", 4, 10) == pytest.approx(14 / 17, abs=0.02)


# --- parameter shift


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", [name for name, kind in ANSATZES.items() if kind.trainable])
@pytest.mark.parametrize(
    ("encoder", "readout", "engine"),
    [("angle_y", "z", "trig"), ("reuploading", "x", "statevector"), ("amplitude", "zz", "folded")],
)
def test_parameter_shift_agrees_with_the_backward_pass(ansatz, encoder, readout, engine):
    torch.manual_seed(1)
    layer = QuantumLayer(5, 2, ansatz, encoder, readout, engine).double()
    angles = torch.randn(3, layer.circuit.n_inputs, dtype=torch.float64)
    layer(angles).sum().backward()
    shifted = parameter_shift_gradients(layer, angles)
    assert shifted.abs().max() > 0.01
    torch.testing.assert_close(shifted, layer.weights.grad, atol=1e-12, rtol=0)


def test_parameter_shift_of_several_circuits():
    torch.manual_seed(0)
    layer = QuantumConv2d(2, ansatz="pooling").double()  # whose pairs share their weights
    angles = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    before = layer.weights.clone()
    layer(angles).sum().backward()
    torch.testing.assert_close(parameter_shift_gradients(layer, angles), layer.weights.grad, atol=1e-12, rtol=0)
    assert torch.equal(layer.weights, before)


# --- the command


TINY = ["--wires", "2", "4", "--layers", "1", "2", "--samples", "5", "--pairs", "50"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_prints_a_table_and_leaves_a_folder(tmp_path, capsys):
    out = tmp_path / "new" / "diagnosis"
    diagnose.main(["--ansatz", "hardware_efficient", "separable", *TINY, "--out", str(out)])
    printed = capsys.readouterr().out
    assert [line.strip() for line in printed.splitlines() if "_" in line or line.startswith("sep")][:2] == [
        "hardware_efficient",
        "separable",
    ]
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert str(out) in printed
    assert {path.name for path in out.iterdir()} == {
        *("gradient_variance.csv", "gradient_variance.png", "expressibility.csv"),
        *("circuit_hardware_efficient.png", "circuit_separable.png"),
    }
    assert [path.name for path in out.parent.iterdir()] == ["diagnosis"]  # nothing partial is left
    gradients = rows_of(out / "gradient_variance.csv")
    assert len(gradients) == 2 * 2 * 2 * 2
    expected = spread("hardware_efficient", 2, 1, n_samples=5)
    assert float(gradients[0]["mean"]) == expected.mean
    assert f"{expected.mean:.1e}" in printed
    states = rows_of(out / "expressibility.csv")
    assert float(states[3]["expressibility"]) == expressibility("hardware_efficient", 4, 2, n_pairs=50)
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ansatz", "nope"], "'nope'"),
        (["--ansatz", "pooling", "--wires", "2", "--layers", "5"], "pooling"),
        (["--wires", "0"], "--wires"),
        (["--wires", "25"], "--wires = 25 wires"),
        (["--wires", "four"], "--wires"),
        (["--layers", "0"], "n_layers"),
        (["--samples", "1"], "--samples must be a whole number of at least 2"),
        (["--cost", "nope"], "'nope'"),
        (["--nope"], "--nope"),
    ],
)
def test_a_wrong_argument_is_answered_in_one_line(arguments, message, tmp_path):
    assert message in refused(diagnose.main, *arguments, "--out", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "gradient_variance.csv").write_text("mine")
    with pytest.raises(SystemExit, match=r"error: .* is not an empty folder: name a new one with --out, such as .*-2"):
        diagnose.main([*TINY, "--out", str(tmp_path)])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(*arguments, **keywords):
        raise OSError("disk full")

    monkeypatch.setattr(diagnostics, "expressibility", broken)
    with pytest.raises(SystemExit, match="error: disk full"):
        diagnose.main([*TINY, "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_and_needs_no_torch():
    start = time.perf_counter()
    code = """
import sys
from hqcnn_lab.diagnose import main
try:
    main(["--help"])
finally:
    assert not {"torch", "matplotlib", "rich"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "barren plateaus" in done.stdout
    assert "strongly_entangling" in done.stdout
    assert time.perf_counter() - start < 5
