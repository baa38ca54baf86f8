"""The line that says what an optimizer did, and the charts beside it."""

from typing import Any

import numpy as np

from hqcnn_lab.reporting.curves import training_charts
from hqcnn_lab.reporting.groups import Group
from hqcnn_lab.reporting.optimizer_story import optimizer_stories

STEPS = np.arange(9, 400, 10)  # 40 logged steps


def metrics(**values: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (STEPS, np.broadcast_to(np.asarray(x, float), STEPS.shape)) for name, x in values.items()}


def group_of(*rows: dict[str, Any]) -> Group:
    rows = tuple({"folder": f"run{i}", "seed": i} | row for i, row in enumerate(rows))
    return Group("g", "GVCO", list(rows), {}, finished=list(rows))


def test_a_story_tells_rates_distance_and_noise() -> None:
    rate = np.concatenate([[0.001, 0.004, 0.004, 0.003], np.full(32, 0.002), np.full(4, 0.0011)])
    signal = np.concatenate([[-1.0, 1.0, 1.0, 1.0], np.full(32, 0.5), np.full(4, 0.075)])
    logged = metrics(
        **{
            "control/quantum/rate": rate,
            "grad/quantum/variance_over_steps": 3.0,
            "grad/quantum/signal": signal,
            "control/classical/rate": 0.05,
            "grad/classical/variance_over_steps": 1.0,
            "grad/classical/signal": np.where(STEPS < 100, 0.1, -0.1),  # drowned in the end
        }
    )
    group = group_of({"step/quantum/moved": 0.21, "step/quantum/start": 0.3})
    assert optimizer_stories([group], {"run0": logged}) == [
        (
            "g",
            "GVCO: circuits: rate 0.004 → 0.0011, moved 0.21 rad from a start of 0.3, noise/signal 6 → 40; "
            "classical part: rate 0.05, noise/signal 10 → ∞.",
        )
    ]


def test_seeds_are_told_together_and_what_stood_still_is_told() -> None:
    logged = {f"run{i}": metrics(**{"control/quantum/rate": rate}) for i, rate in enumerate((0.01, 0.0001))}
    stopped = {"step/quantum/stopped_from": 120, "step/classical/frozen": True}
    [(_, line)] = optimizer_stories([group_of(stopped, {"step/classical/frozen": True})], logged)
    assert line == ("GVCO: circuits: rate 0.001, stood still from step 120 on in 1 of 2 runs; classical part: frozen.")


def test_runs_that_logged_nothing_of_it_have_no_line() -> None:
    logged = {"run0": metrics(**{"grad/quantum/variance": 1e-3, "train/loss": 1.0})}
    assert optimizer_stories([group_of({})], logged) == []
    assert optimizer_stories([group_of({})], {}) == []


def test_charts_show_controls_noise_and_signal_and_the_old_spread_only_alone() -> None:
    old = {"grad/quantum/variance": 1e-3}
    new = {
        **{f"grad/quantum/{name}": 1e-3 for name in ("variance_over_steps", "signal")},
        **{f"control/classical/{name}": 0.1 for name in ("rate", "momentum", "average_weight")},
        "step/quantum/relative": 1e-2,
    }
    for given, titles in (
        (old, ["Gradient spread over elements, quantum"]),
        (
            old | new,
            [
                *("Gradient variance over steps, quantum", "Gradient signal, quantum"),
                *("Learning rate that acted, classical", "Momentum, classical", "Averaging weight, classical"),
                "Step, relative to the weights, quantum",
            ],
        ),
    ):
        charts = training_charts("p", [group_of({})], {"g": "#000000"}, {"run0": metrics(**given)})
        assert [chart.title for chart in charts] == titles
        assert len({chart.id for chart in charts}) == len(charts)
    no_signal = metrics(**{"grad/quantum/signal": -1.0})  # a log scale shows nothing of it: no chart
    assert training_charts("p", [group_of({})], {"g": "#000000"}, {"run0": no_signal}) == []
