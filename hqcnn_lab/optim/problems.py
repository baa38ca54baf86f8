"""Small problems with noisy gradients and a known answer, to try an optimizer in seconds, on many copies at once."""

# pyright: reportUnknownMemberType=false
# (torch.linalg and torch.random are not annotated)

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.func import functional_call

if TYPE_CHECKING:
    from hqcnn_lab.quantum import QuantumConv2d

_FLOAT = torch.float64


class NoisyQuadratic:
    """½ Σ hᵢ θᵢ² from θ = 1, curvatures h of 0.1 to 10, evenly in logarithm, white noise on each gradient element.

    Use it to see how well an optimizer trades speed against the noise that it ends in. `erratic`: the share of steps at
    which the noise is 100 times as large, as if a measurement had failed. The error is the loss, 0 at best.
    """

    def __init__(self, noise: float = 1.0, n: int = 20, erratic: float = 0.0) -> None:
        self.noise, self.erratic = noise, erratic
        self.curvature = torch.logspace(-1, 1, n, dtype=_FLOAT)

    def start(self, copies: int, generator: torch.Generator) -> Tensor:
        """Where `copies` runs begin, `[copies, n]`."""
        return torch.ones(copies, len(self.curvature), dtype=_FLOAT)

    def gradient(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """A noisy gradient for each copy, `[copies, n]`."""
        noise = self.noise * torch.randn(theta.shape, generator=generator, dtype=_FLOAT)
        failed = torch.rand(len(theta), 1, generator=generator, dtype=_FLOAT) < self.erratic
        return self.curvature * theta + noise * torch.where(failed, 100.0, 1.0)

    def error(self, theta: Tensor) -> Tensor:
        """How far from the best each copy is, `[copies]`."""
        return (self.curvature * theta.square()).sum(1) / 2


class Rosenbrock:
    """Σ (1 − x)² + 10 (y − x²)² over `n`/2 pairs from (−1.2, 1), white noise on each gradient element.

    Use it for a curved valley: large steps leave it, small ones take too long. The error is the loss, 0 at best.
    """

    def __init__(self, noise: float = 0.5, n: int = 10) -> None:
        self.noise, self.n = noise, n

    def start(self, copies: int, generator: torch.Generator) -> Tensor:
        return torch.tensor([-1.2, 1.0], dtype=_FLOAT).repeat(copies, self.n // 2)

    def gradient(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        x, y = theta[:, ::2], theta[:, 1::2]
        off = y - x.square()
        exact = torch.stack([-2 * (1 - x) - 40 * x * off, 20 * off], dim=2).flatten(1)
        return exact + self.noise * torch.randn(theta.shape, generator=generator, dtype=_FLOAT)

    def error(self, theta: Tensor) -> Tensor:
        x, y = theta[:, ::2], theta[:, 1::2]
        return ((1 - x).square() + 10 * (y - x.square()).square()).sum(1)


class LogisticRegression:
    """Logistic regression of 2,000 points of 20 features, scaled over a decade, of which 15 % have the wrong label.

    Use it for the noise of small batches on a convex loss. The error is the loss above the smallest possible,
    which Newton's method gives.
    """

    def __init__(self, batch: int = 8, flipped: float = 0.15) -> None:
        generator = torch.Generator().manual_seed(5)
        scales = torch.logspace(-0.5, 0.5, 20, dtype=_FLOAT)
        self.batch = batch
        self.points = torch.randn(2000, 20, generator=generator, dtype=_FLOAT) * scales
        wrong = torch.rand(2000, generator=generator, dtype=_FLOAT) < flipped
        truth = torch.randn(20, generator=generator, dtype=_FLOAT)
        self.labels = ((self.points @ truth > 0) ^ wrong).to(_FLOAT)
        best = torch.zeros(20, dtype=_FLOAT)
        for _ in range(50):
            p = torch.sigmoid(self.points @ best)
            hessian = self.points.T @ (self.points * (p * (1 - p))[:, None])
            best = best - cast(Tensor, torch.linalg.solve(hessian, self.points.T @ (p - self.labels)))
        self.least = self._loss(best[None])

    def start(self, copies: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(copies, 20, dtype=_FLOAT)

    def gradient(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(2000, (len(theta), self.batch), generator=generator)
        points = self.points[chosen]
        residual = torch.sigmoid(torch.einsum("rbn,rn->rb", points, theta)) - self.labels[chosen]
        return torch.einsum("rb,rbn->rn", residual, points) / self.batch

    def error(self, theta: Tensor) -> Tensor:
        return self._loss(theta) - self.least

    def _loss(self, theta: Tensor) -> Tensor:
        logits = theta @ self.points.T
        return (torch.nn.functional.softplus(logits) - self.labels * logits).mean(1)


class CircuitEnergy:
    """The energy −Σ ZᵢZⱼ − Σ Xᵢ of three spins on a ring, prepared by a circuit and measured in finite shots.

    Use it as a variational quantum eigensolver in small: gradients by parameter shift from `shots` measurements each of
    the Z and the X setting, None: exact. With exact gradients, six layers of `real_amplitudes` reach the ground energy,
    −4, from every start, so what remains of the error comes from noise. The error is the exact energy above that.
    """

    def __init__(self, shots: int | None = 16, n_layers: int = 6) -> None:
        self.shots, self.n_layers = shots, n_layers

    def start(self, copies: int, generator: torch.Generator) -> Tensor:
        n = self._layer(1, "x", None).weights.numel()
        return torch.randn(copies, n, generator=generator, dtype=_FLOAT)

    def gradient(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            theta = theta.detach().requires_grad_()
            return torch.autograd.grad(self._energy(theta, self.shots).sum(), theta)[0]

    def error(self, theta: Tensor) -> Tensor:
        with torch.no_grad():
            return self._energy(theta, None) + 4

    def _energy(self, theta: Tensor, shots: int | None) -> Tensor:
        ground = torch.zeros(1, 3 * len(theta), 1, 1, dtype=_FLOAT)
        energy = torch.zeros(len(theta), dtype=_FLOAT)
        for readout in ("zz", "x"):
            layer = self._layer(len(theta), readout, shots)
            values = functional_call(layer, {"weights": theta.view(layer.weights.shape)}, (ground,))
            energy = energy - values.view(len(theta), -1).sum(1)
        return energy

    def _layer(self, copies: int, readout: str, shots: int | None) -> QuantumConv2d:
        from hqcnn_lab.quantum import QuantumConv2d  # late: the other problems need no simulator

        return QuantumConv2d(
            *(3 * copies, 1, 1),
            groups=copies,
            n_layers=self.n_layers,
            ansatz="real_amplitudes",
            readout=readout,
            shots=shots,
            shot_gradient="parameter_shift",
        )
