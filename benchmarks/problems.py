"""Compare optimizers on small noisy problems, each at its own best learning rate, on 20 fresh seeds.

    python benchmarks/problems.py [quadratic circuit …] [--seeds 20]

Every optimizer chooses among the same learning rates, a third of a decade apart, by the mean logarithm of the final
error over 10 tuning seeds; then it runs on other seeds, at a constant rate. "final error" is their geometric mean, p of
paired tests on its logarithm, GVCO against the other: t, then Wilcoxon. "within 2×" counts the rates whose tuning error
is at most twice the best one: how much a badly chosen rate is forgiven.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from pytorch_optimizer import AdaBelief
from schedulefree import AdamWScheduleFree

from hqcnn_lab.analysis.paired import compare_paired
from hqcnn_lab.optim import GVCO
from hqcnn_lab.optim.averaging import put_average, put_training_point
from hqcnn_lab.optim.problems import CircuitEnergy, LogisticRegression, NoisyQuadratic, Rosenbrock

Build = Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]

PROBLEMS: dict[str, tuple[Any, int]] = {  # and the steps they are given
    "quadratic": (NoisyQuadratic(), 300),
    "erratic": (NoisyQuadratic(erratic=0.01), 300),
    "rosenbrock": (Rosenbrock(), 1000),
    "logistic": (LogisticRegression(), 500),
    "circuit": (CircuitEnergy(), 200),
}
OPTIMIZERS: dict[str, Build] = {
    "GVCO": GVCO,
    "Adam": torch.optim.Adam,
    "SGD momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "AdaBelief": lambda groups: AdaBelief(groups, rectify=False),
    "RAdam": torch.optim.RAdam,
    "Schedule-Free AdamW": AdamWScheduleFree,
    "… no centering": lambda groups: GVCO(groups, centering=0),
    "… no guard": lambda groups: GVCO(groups, tau=None),
    "… no sizes": lambda groups: GVCO(groups, least_size=None),
    "… no walk": lambda groups: GVCO(groups, walk=None),
    "… recency": lambda groups: GVCO(groups, recency=1),
}
RATES = np.logspace(-3.5, 0.75, 14)


def final_errors(problem: Any, n_steps: int, build: Build, rates: np.ndarray, seeds: int, first: int) -> np.ndarray:
    """Final error `[rates, seeds]`: every rate starts from the same points."""
    generator = torch.Generator().manual_seed(first)
    start = problem.start(seeds, generator)
    params = [torch.nn.Parameter(row.clone()) for _ in rates for row in start]
    groups = [{"params": params[i * seeds : (i + 1) * seeds], "lr": float(rate)} for i, rate in enumerate(rates)]
    optimizer = build(groups)
    put_training_point([optimizer])
    for _ in range(n_steps):
        theta = torch.stack([p.detach() for p in params])
        for parameter, gradient in zip(params, problem.gradient(theta, generator), strict=True):
            parameter.grad = gradient
        optimizer.step()
    put_average([optimizer])
    errors = problem.error(torch.stack([p.detach() for p in params])).reshape(len(rates), seeds)
    return torch.nan_to_num(errors, nan=1e9, posinf=1e9).clamp(1e-15, 1e9).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", help=f"of {', '.join(PROBLEMS)}; all if none is named")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    if unknown := set(arguments.problems) - set(PROBLEMS):
        sys.exit(f"error: there is no problem {', '.join(unknown)}; there are {', '.join(PROBLEMS)}")
    for name in arguments.problems or PROBLEMS:
        problem, n_steps = PROBLEMS[name]
        print(f"\n{name}: {type(problem).__name__}, {n_steps} steps, {arguments.seeds} seeds")
        print("| optimizer | final error | lr | within 2× | p (t, Wilcoxon) |\n| --- | --- | --- | --- | --- |")
        reference = None
        for title, build in OPTIMIZERS.items():
            tuning = np.log(final_errors(problem, n_steps, build, RATES, 10, first=1000)).mean(1)
            best = int(tuning.argmin())
            errors = final_errors(problem, n_steps, build, RATES[best : best + 1], arguments.seeds, first=0)[0]
            logs = np.log(errors)
            reference = logs if reference is None else reference
            tests = compare_paired(reference, logs)
            said = "" if title == "GVCO" else f"{tests.p_t:.1e}, {tests.p_wilcoxon:.1e}"
            edge = "" if 0 < best < len(RATES) - 1 else " (edge)"
            forgiven = int((tuning < tuning.min() + np.log(2)).sum())
            print(
                f"| {title} | {np.exp(logs.mean()):.2e} | {RATES[best]:.1e}{edge} | {forgiven} | {said} |", flush=True
            )


if __name__ == "__main__":
    main()
