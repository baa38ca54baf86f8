"""Sampled readouts against the binomial's closed forms, parameter-shift gradients against autograd."""

import math

import pytest
import torch

from hqcnn_lab.quantum import shots
from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.circuit import Circuit, make_circuit
from hqcnn_lab.quantum.engine import density
from hqcnn_lab.quantum.gate import Gate
from hqcnn_lab.quantum.noise import Noise
from hqcnn_lab.quantum.shots import parameter_shift, sample, separate

N = 20_000


def exact(angles, weights, circuit, noise=Noise()):  # noqa: B008
    return density.expectations(angles, weights, circuit, noise)


def random_case(circuit, n_circuits=1, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angles = torch.randn(n_circuits, circuit.n_inputs, batch, generator=generator, dtype=torch.float64)
    if circuit.encoder == "amplitude":
        angles /= angles.norm(dim=1, keepdim=True)
    size = math.prod(circuit.weight_shape)
    return angles, torch.randn(n_circuits, size, generator=generator, dtype=torch.float64)


def gradients(run, angles, weights):
    leaves = [t.detach().clone().requires_grad_() for t in (angles, weights)]
    values = run(*leaves)
    upstream = torch.randn(values.shape[1:], generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return torch.autograd.grad((values * upstream).sum(), leaves)


@pytest.mark.parametrize("n_shots", [50, 200, 800])
def test_the_error_of_z_is_the_binomials(n_shots):
    torch.manual_seed(0)
    z = torch.tensor([-0.9, -0.3, 0.0, 0.5, 0.95], dtype=torch.float64)
    samples = sample(z[None, :, None].expand(1, 5, N), make_circuit(5, 1), n_shots)[0]
    sigma = ((1 - z.square()) / n_shots).sqrt()
    assert ((samples.mean(1) - z).abs() <= 5 * sigma / math.sqrt(N)).all()
    torch.testing.assert_close(samples.std(1) / sigma, torch.ones_like(z), atol=0.03, rtol=0)
    counts = (samples + 1) * n_shots / 2
    torch.testing.assert_close(counts, counts.round(), atol=1e-9, rtol=0)
    # wires are sampled independently of each other
    off_diagonal = torch.corrcoef(samples) - torch.eye(5)
    assert off_diagonal.abs().max() <= 5 / math.sqrt(N)


def test_probabilities_are_counts_of_one_multinomial_draw():
    torch.manual_seed(0)
    p, n_shots = torch.tensor([0.4, 0.05, 0.0, 0.1, 0.2, 0.05, 0.15, 0.05], dtype=torch.float64), 100
    samples = sample(p[None, :, None].expand(1, 8, N), make_circuit(3, 1, readout="probabilities"), n_shots)[0]
    torch.testing.assert_close(samples.sum(0), torch.ones(N).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(samples * n_shots, (samples * n_shots).round(), atol=1e-9, rtol=0)
    assert (samples[2] == 0).all()
    covariance = (p.diag() - p[:, None] * p) / n_shots
    assert ((samples.mean(1) - p).abs() <= 5 * (covariance.diag() / N).sqrt()).all()
    # the standard error of a covariance is about √((σ²ᵢσ²ⱼ + cov²)/N)
    spread = ((covariance.diag()[:, None] * covariance.diag() + covariance.square()) / N).sqrt()
    assert ((samples.cov() - covariance).abs() <= 6 * spread + 1e-15).all()
    assert covariance[0, 4].abs() > 20 * spread[0, 4]  # the bound could fail


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("readout", ["z", "probabilities"])
def test_straight_through_is_the_exact_gradient_and_draws_are_fresh_and_seeded(dtype, readout):
    circuit = make_circuit(2, 1, readout=readout)
    values = exact(*(t.to(dtype) for t in random_case(circuit, batch=6)), circuit).requires_grad_()
    torch.manual_seed(1)
    first, second = sample(values, circuit, 10), sample(values, circuit, 10)
    torch.manual_seed(1)
    assert torch.equal(sample(values, circuit, 10), first)
    assert not torch.equal(first, second)
    assert first.dtype == dtype
    upstream = torch.randn_like(values)
    assert torch.equal(torch.autograd.grad(first, values, upstream)[0], upstream)


def test_certain_outcomes_stay_certain_beyond_rounding(monkeypatch):
    binomial = torch.binomial

    def strict(count, prob):  # what torch.binomial makes of other figures is not documented
        assert (prob >= 0).all()
        assert (prob <= 1).all()
        return binomial(count, prob)

    monkeypatch.setattr(torch, "binomial", strict)
    circuit = make_circuit(2, 1)
    values = torch.tensor([1 + 1e-6, -1 - 1e-6], dtype=torch.float32)[None, :, None].expand(1, 2, 50)
    assert torch.equal(sample(values, circuit, 7), values.round())
    circuit = make_circuit(1, 1, readout="probabilities")
    values = torch.tensor([-1e-7, 1 + 1e-7], dtype=torch.float32)[None, :, None].expand(1, 2, 50)
    assert torch.equal(sample(values, circuit, 7), values.round().abs())
    assert sample(values[:, :, :0], circuit, 7).shape == (1, 2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["angle_x", "angle_z", "reuploading"])
@pytest.mark.parametrize("ansatz", list(ANSATZES))
def test_the_shift_rules_are_exact(ansatz, encoder, monkeypatch):
    monkeypatch.setattr(shots, "_draw", lambda values, circuit, n_shots: values)
    circuit = make_circuit(
        4 if ansatz in ("pooling", "qcnn") else 3, 2, ansatz, encoder, "y" if encoder == "angle_z" else "z"
    )
    case = random_case(circuit, n_circuits=2)
    expected = gradients(lambda *case: exact(*case, circuit), *case)
    estimated = gradients(lambda *case: parameter_shift(exact, *case, circuit, 1), *case)
    for ours, theirs in zip(estimated, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
        assert theirs.abs().max() > 0.05


@pytest.mark.parametrize("readout", ["zz", "probabilities"])
def test_the_shift_rules_are_exact_under_noise(readout, monkeypatch):
    monkeypatch.setattr(shots, "_draw", lambda values, circuit, n_shots: values)
    circuit = make_circuit(3, 2, "u3_cu3", "reuploading", readout)
    case = random_case(circuit)

    def noisy(angles, weights, circuit):
        return exact(angles, weights, circuit, Noise(0.05, 0.02, 0.03, 0.1, 0.04))

    expected = gradients(lambda *case: noisy(*case, circuit), *case)
    estimated = gradients(lambda *case: parameter_shift(noisy, *case, circuit, 1), *case)
    for ours, theirs in zip(estimated, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


def test_controlled_rotations_need_four_terms_and_nothing_else_does(monkeypatch):
    monkeypatch.setattr(shots, "_draw", lambda values, circuit, n_shots: values)
    gates = [
        Gate("u3", (0,), weights=(0, 1, 2)),
        Gate("crx", (0, 1), weights=(3,)),
        Gate("crz", (1, 0), weights=(4,)),
        Gate("cu3", (0, 1), weights=(5, 6, 7)),
        Gate("h", (0,)),  # read X: only a control still in superposition shows the frequency ½
    ]
    circuit = Circuit(2, "angle_y", tuple(gates), "x", (0, 1), (8,))
    case = random_case(circuit)
    expected = gradients(lambda *case: exact(*case, circuit), *case)[1]
    monkeypatch.setattr(shots, "NEED_FOUR", set())
    estimated = gradients(lambda *case: parameter_shift(exact, *case, circuit, 1), *case)[1]
    assert ((estimated - expected).abs()[0] > 1e-3).tolist() == [False] * 3 + [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("ansatz", "encoder", "readout"),
    [("pooling", "angle_y", "z"), ("u3_cu3", "reuploading", "zz"), ("hardware_efficient", "angle_z", "probabilities")],
)
def test_sampled_gradients_are_unbiased_and_their_error_falls_with_shots(ansatz, encoder, readout):
    torch.manual_seed(0)
    circuit = make_circuit(2, 1 if ansatz == "pooling" else 2, ansatz, encoder, readout)
    angles, weights = random_case(circuit)
    expected = gradients(lambda *case: exact(*case, circuit), angles, weights)
    copies = 2000
    many = angles.expand(copies, -1, -1), weights.expand(copies, -1)

    def run(angles, weights, circuit):  # all copies are alike
        return exact(angles[:1], weights[:1], circuit).expand(copies, -1, -1)

    spreads = []
    for n_shots in (50, 800):
        estimated = gradients(lambda *case, n=n_shots: parameter_shift(run, *case, circuit, n), *many)
        flat = torch.cat([t.flatten(1) for t in estimated], 1)
        target = torch.cat([t.flatten() for t in expected])
        spreads.append(flat.std(0))
        assert ((flat.mean(0) - target).abs() <= 5 * flat.std(0) / math.sqrt(copies) + 1e-12).all()
    seen = spreads[1] > 1e-6
    assert seen.sum() >= 8
    torch.testing.assert_close(
        (spreads[0] / spreads[1])[seen], torch.full((int(seen.sum()),), 4.0).double(), atol=0.5, rtol=0
    )
    assert spreads[0].max() > 0.02
    # and with shots without end it is the gradient
    estimated = gradients(lambda *case: parameter_shift(exact, *case, circuit, 10**13), angles, weights)
    for ours, theirs in zip(estimated, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_every_evaluation_is_drawn_afresh_and_only_what_needs_a_gradient_is_evaluated():
    circuit = make_circuit(2, 1, "u3_cu3")  # 12 angles, of which two need four terms; 2 inputs
    angles, weights = random_case(circuit)
    calls = []

    def run(*case):
        calls.append(case)
        return exact(*case)

    torch.manual_seed(0)
    for needs, expected in (
        ((True, False), 2 * 2),
        ((False, True), 10 * 2 + 2 * 4),
        ((True, True), 2 * 2 + 10 * 2 + 2 * 4),
    ):
        leaves = [t.clone().requires_grad_(need) for t, need in zip((angles, weights), needs, strict=True)]
        values = parameter_shift(run, *leaves, circuit, 20)
        calls.clear()
        values.sum().backward(retain_graph=True)
        assert len(calls) == expected
        first = [leaf.grad.clone() for leaf in leaves if leaf.requires_grad]
        for leaf in leaves:
            leaf.grad = None
        values.sum().backward()
        assert any(
            not torch.equal(a, leaf.grad) for a, leaf in zip(first, (x for x in leaves if x.requires_grad), strict=True)
        )


def test_separate_gives_every_angle_a_place_of_its_own():
    circuit = make_circuit(4, 1, "pooling", "angle_y")
    apart, weight_of, input_of = separate(circuit)
    assert weight_of == (0, 1, 2, 3, 4, 5) * 2
    assert [w for gate in apart.gates for w in gate.weights] == list(range(12))
    assert input_of == (0, 1, 2, 3)
    circuit = make_circuit(2, 3, "basic_entangler", "reuploading")
    apart, weight_of, input_of = separate(circuit)
    assert weight_of == (0, 1, 2, 3, 4, 5)
    assert input_of == (0, 1) * 3
    assert [gate for gate in apart.gates if gate.inputs][-1] == Gate("ry", (1,), inputs=(5,))
    assert apart.strings == circuit.strings
    angles, weights = random_case(circuit)
    values = exact(angles[:, list(input_of)], weights[:, list(weight_of)], apart)
    torch.testing.assert_close(values, exact(angles, weights, circuit), atol=1e-14, rtol=0)


def test_gradients_of_amplitudes_are_refused():
    circuit = make_circuit(2, 1, encoder="amplitude")
    angles, weights = random_case(circuit)
    with pytest.raises(ValueError, match="'straight_through'") as error:
        parameter_shift(exact, angles.requires_grad_(), weights, circuit, 10)
    assert "\n" not in str(error.value)
    with torch.no_grad():
        assert parameter_shift(exact, angles, weights, circuit, 10).shape == (1, 2, 2)
    parameter_shift(exact, angles.detach(), weights.requires_grad_(), circuit, 10).sum().backward()
    assert weights.grad.abs().sum() > 0
