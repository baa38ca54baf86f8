"""The small problems say what they claim, and GVCO solves them."""

import pytest
import torch

from hqcnn_lab.optim import GVCO
from hqcnn_lab.optim.problems import CircuitEnergy, LogisticRegression, NoisyQuadratic, Rosenbrock

pytestmark = pytest.mark.slow


def descend(problem, optimizer_of, n_steps, copies=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    params = [torch.nn.Parameter(row.clone()) for row in problem.start(copies, generator)]
    optimizer = optimizer_of(params)
    for _ in range(n_steps):
        theta = torch.stack([p.detach() for p in params])
        for parameter, gradient in zip(params, problem.gradient(theta, generator), strict=True):
            parameter.grad = gradient
        optimizer.step()
    if isinstance(optimizer, GVCO):
        optimizer.eval()
    return problem.error(torch.stack([p.detach() for p in params]))


@pytest.mark.parametrize(
    ("problem", "tolerance"),
    [(NoisyQuadratic(), 0.1), (Rosenbrock(), 0.05), (LogisticRegression(), 0.05), (CircuitEnergy(shots=64), 0.05)],
)
def test_the_mean_gradient_is_that_of_the_error(problem, tolerance):
    generator = torch.Generator().manual_seed(0)
    theta = (problem.start(1, generator) + 0.1).requires_grad_()
    n = 40 if isinstance(problem, CircuitEnergy) else 1
    mean = torch.zeros_like(theta)
    repeats = 20 if n > 1 else 2000
    for _ in range(repeats):
        mean += problem.gradient(theta.detach().expand(n, -1), generator).mean(0) / repeats
    if isinstance(problem, CircuitEnergy):
        exact = CircuitEnergy(shots=None).gradient(theta.detach(), generator)
    else:
        [exact] = torch.autograd.grad(problem.error(theta).sum(), theta)
    assert (mean - exact).abs().max() < tolerance
    assert exact.abs().max() > 5 * tolerance


def test_the_circuit_energy_is_that_of_the_hamiltonian():
    problem = CircuitEnergy()
    z, x, one = torch.tensor([[1.0, 0], [0, -1]]), torch.tensor([[0, 1.0], [1, 0]]), torch.eye(2)

    def on(*factors):
        return torch.kron(torch.kron(factors[0], factors[1]), factors[2])

    hamiltonian = -(on(z, z, one) + on(one, z, z) + on(z, one, z) + on(x, one, one) + on(one, x, one) + on(one, one, x))
    lowest = torch.linalg.eigvalsh(hamiltonian).min().item()
    assert lowest == pytest.approx(-4, abs=1e-5)
    # All angles 0: |000⟩, whose energy is −3.
    assert problem.error(torch.zeros(1, 21, dtype=torch.float64)).item() == pytest.approx(-3 - lowest, abs=1e-5)


def test_exact_circuits_reach_the_ground_energy_from_every_start():
    errors = descend(CircuitEnergy(shots=None), lambda params: torch.optim.Adam(params, lr=0.1), 250, copies=20)
    assert errors.max() < 1e-6
    assert errors.min() > -1e-9


@pytest.mark.parametrize(
    ("problem", "n_steps"),
    [
        (NoisyQuadratic(), 300),
        (NoisyQuadratic(erratic=0.01), 300),
        (LogisticRegression(), 400),
        (CircuitEnergy(), 60),
    ],
)
def test_gvco_solves_it_at_its_own_rate(problem, n_steps):
    start = problem.error(problem.start(4, torch.Generator().manual_seed(0)))
    errors = descend(problem, lambda params: GVCO(params, warmup=10, recency=1), n_steps)
    assert errors.isfinite().all()
    assert errors.median() < 0.25 * start.min()
