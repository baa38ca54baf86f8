"""A run's own pictures: what they hold, where they land, and that no run is lost for want of one."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_config
from matplotlib.axes import Axes
from PIL import Image
from wandb_log import wandb_history

from hqcnn_lab.figures import run as module
from hqcnn_lab.figures.run import run_figures
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow


def write_metrics(folder: Path, *rows: dict[str, float]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def lines_of(axes: Axes) -> dict[str, list[list[float]]]:
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def steps(name: str, *values: float) -> list[dict[str, float]]:
    return [{"epoch": 0, "step": 10 * i + 9, name: value} for i, value in enumerate(values)]


def test_convergence_is_by_epoch(tmp_path: Path) -> None:
    rows = [
        {"epoch": 0, "step": 11, "val/accuracy": 0.5, "val/loss": 1.25},
        {"epoch": 0, "step": 11, "train/accuracy": 0.4, "train/loss": 1.5},
        {"epoch": 1, "step": 23, "val/accuracy": 0.75, "val/loss": 1.0},
        {"epoch": 1, "step": 23, "train/accuracy": 0.6, "train/loss": 1.125},
        {"epoch": 2, "step": 24, "test/accuracy": 0.7},
    ]
    figures = run_figures(write_metrics(tmp_path, *rows))
    assert list(figures) == ["convergence"]
    accuracy, loss = figures["convergence"].axes
    assert lines_of(accuracy) == {"training": [[1, 0.4], [2, 0.6]], "validation": [[1, 0.5], [2, 0.75]]}
    assert lines_of(loss) == {"training": [[1, 1.5], [2, 1.125]], "validation": [[1, 1.25], [2, 1.0]]}
    assert (accuracy.get_ylabel(), loss.get_ylabel(), loss.get_xlabel()) == ("accuracy (%)", "loss", "epoch")


def test_gradient_variance_is_over_steps_with_the_signal_beside_it(tmp_path: Path) -> None:
    rows = steps("grad/quantum/variance_over_steps", 1e-4, 2e-4) + steps("grad/quantum/signal", -1e-6, 1e-5)
    rows += steps("grad/classical/variance_over_steps", 1e-2, 1e-3) + steps("grad/quantum/variance", 1.0, 1.0)
    figures = run_figures(write_metrics(tmp_path, *rows))
    assert list(figures) == ["gradient_variance"]
    quantum, classical = figures["gradient_variance"].axes
    assert (quantum.get_ylabel(), classical.get_ylabel()) == ("quantum gradients", "classical gradients")
    assert lines_of(quantum)["variance over steps"] == [[9, 1e-4], [19, 2e-4]]
    np.testing.assert_array_equal(lines_of(quantum)["signal"], [[9, np.nan], [19, 1e-5]])
    np.testing.assert_array_equal(lines_of(quantum)["negative signal"], [[9, 1e-6], [19, np.nan]])
    assert list(lines_of(classical)) == ["variance over steps"]


def test_an_older_run_s_variance_is_drawn_as_what_it_is(tmp_path: Path) -> None:
    rows = steps("grad/quantum/variance", 1e-4, 0.0, 1e-6) + steps("grad/classical/variance", 1e-2, 1e-3, float("nan"))
    figures = run_figures(write_metrics(tmp_path, *rows))
    assert list(figures) == ["gradient_variance"]
    [axes] = figures["gradient_variance"].axes
    assert axes.get_ylabel() == "gradient variance\n(spread over elements)"
    # A log scale cannot show every value.
    np.testing.assert_array_equal(lines_of(axes)["quantum"], [[9, 1e-4], [19, np.nan], [29, 1e-6]])
    np.testing.assert_array_equal(lines_of(axes)["classical"], [[9, 1e-2], [19, 1e-3], [29, np.nan]])
    assert axes.get_yscale() == "log"
    assert axes.yaxis.get_major_formatter()(2e-3, 0) == "2·10⁻³"


def test_controls_of_any_optimizer_and_of_older_runs(tmp_path: Path) -> None:
    rows = steps("lr/quantum", 0.01, 0.02) + steps("lr/classical", 0.01, 0.02)
    rows += steps("control/classical/rate", 0.01, 0.02) + steps("effective_lr/classical", 0.01, 0.02)
    adam = run_figures(write_metrics(tmp_path, *rows))["controls"]
    assert [axes.get_ylabel() for axes in adam.axes] == ["learning rate"]
    assert [line.get_linestyle() for line in adam.axes[0].lines] == ["-", "--"]  # they coincide, and both are seen
    rows += steps("gvco/quantum/lr_scale", 0.5, 0.75) + steps("gvco/quantum/momentum", 0.9, 0.95)
    rows += steps("effective_lr/quantum", 0.005, 0.015) + steps("gvco/lr_scale", 0.1, 0.1)
    gvco = run_figures(write_metrics(tmp_path, *rows))["controls"]
    drawn = {axes.get_ylabel(): lines_of(axes) for axes in gvco.axes}
    assert drawn["learning-rate scale γ"] == {"quantum": [[9, 0.5], [19, 0.75]]}
    assert drawn["momentum β"] == {"quantum": [[9, 0.9], [19, 0.95]]}
    assert drawn["effective learning rate"]["quantum"] == [[9, 0.005], [19, 0.015]]
    assert set(drawn["learning rate"]) == {"quantum", "classical"}
    rows += steps("momentum/quantum", 0.8, 0.85) + steps("control/quantum/rate", 0.5, 0.25)
    rows += steps("control/quantum/average_weight", 0.5, 0.25)
    both = run_figures(write_metrics(tmp_path, *rows))["controls"]
    drawn = {axes.get_ylabel(): lines_of(axes) for axes in both.axes}
    assert drawn["momentum β"] == {"quantum": [[9, 0.8], [19, 0.85]]}
    assert drawn["averaging weight"] == {"quantum": [[9, 0.5], [19, 0.25]]}
    assert drawn["effective learning rate"]["quantum"] == [[9, 0.5], [19, 0.25]]


def test_controls_by_layer_stand_quantum_beside_classical(tmp_path: Path) -> None:
    rows = steps("control/layer/kernel.weights/rate", 1e-3, 1e-4) + steps("lr/quantum", 0.01, 0.01)
    rows += steps("control/quantum/rate", 1e-3, 1e-4) + steps("control/classical/rate", 0.02, 0.01)
    for layer in range(12):
        rows += steps(f"control/layer/features.{layer}/rate", 0.02, 0.01)
        rows += steps(f"control/layer/features.{layer}/momentum", 0.9, 0.95)
    rows += steps("control/classical/momentum", 0.9, 0.95)
    figure = run_figures(write_metrics(tmp_path, *rows))["controls"]
    rates, momenta = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in rates] == ["quantum", "classical"]
    assert [row[0].get_ylabel() for row in (rates, momenta)] == ["learning rate", "momentum β"]
    assert lines_of(rates[0]) == {
        "kernel.weights": [[9, 1e-3], [19, 1e-4]],
        "as the schedule set it": [[9, 0.01], [19, 0.01]],
    }
    classical = lines_of(rates[1])
    assert len(classical) == 13
    assert classical["features.7"] == classical["mean of the group"] == [[9, 0.02], [19, 0.01]]
    assert rates[0].get_yscale() == rates[1].get_yscale() == "log"  # one scale, so that they compare
    assert rates[0].get_ylim() == rates[1].get_ylim()
    assert lines_of(momenta[0]) == {}
    legend = momenta[1].get_legend()
    assert legend.get_title().get_text() == "8 of 12 layers"
    names = [text.get_text() for text in legend.get_texts()]
    assert (len(names), names[0], names[-2:]) == (9, "features.0", ["features.11", "mean of the group"])


def test_steps_are_drawn_for_every_optimizer(tmp_path: Path) -> None:
    rows = steps("step/quantum/relative", 0.1, 0.01) + steps("step/quantum/moved", 0.1, 0.2)
    relative, moved = run_figures(write_metrics(tmp_path, *rows))["steps"].axes
    assert lines_of(relative) == {"quantum": [[9, 0.1], [19, 0.01]]}
    assert lines_of(moved) == {"quantum": [[9, 0.1], [19, 0.2]]}
    assert "radians" in moved.get_ylabel()


def test_negative_signal_is_masked(tmp_path: Path) -> None:
    rows = steps("gvco/quantum/noise", 1e-3, 1e-3, 2e-3) + steps("gvco/quantum/signal", -1e-5, 1e-6, -2e-5)
    figure = run_figures(write_metrics(tmp_path, *rows))["noise_signal"]
    [axes] = figure.axes
    assert lines_of(axes)["noise power N"] == [[9, 1e-3], [19, 1e-3], [29, 2e-3]]
    np.testing.assert_array_equal(lines_of(axes)["signal power S"], [[9, np.nan], [19, 1e-6], [29, np.nan]])
    assert axes.lines[1].get_markevery() == [1]  # a point between gaps is marked, or it would not be seen
    assert "S ≤ 0" in figure.legends[0].get_title().get_text()


def test_a_run_of_nothing_has_no_pictures(tmp_path: Path) -> None:
    assert run_figures(write_metrics(tmp_path, {"epoch": 0, "step": 0, "test/accuracy": 0.5})) == {}


def test_run_folder_and_wandb_hold_the_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train(tiny_config(run, "figures=true", "logger=wandb"))
    assert "figures: not drawn" not in capsys.readouterr().out
    names = ["controls", "convergence", "gradient_variance", "steps"]
    assert sorted(path.name for path in (run / "figures").iterdir()) == [f"{name}.png" for name in names]
    for name in names:
        with Image.open(run / "figures" / f"{name}.png") as image:
            image.load()
            assert 950 <= image.width <= 1050
    [pictures] = [item for item in wandb_history(run) if any("figures/" in key for key in item)]
    for name in names:
        assert pictures[f"figures/{name}._type"] == "image-file"
        [copy] = run.glob(f"wandb/offline-run-*/files/media/images/figures/{name}_*.png")
        assert copy.read_bytes() == (run / "figures" / f"{name}.png").read_bytes()


def test_a_run_outlives_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("no font\n\nlong story")

    monkeypatch.setattr(module, "run_figures", fail)
    train(tiny_config(tmp_path / "run", "figures=true", "trainer.max_epochs=1"))
    assert "figures: not drawn (no font)\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"
    assert "test/accuracy" in json.loads((tmp_path / "run" / "summary.json").read_text())
    train(tiny_config(tmp_path / "off", "trainer.max_epochs=1"))  # figures=false, as in every other test
    assert "figures:" not in capsys.readouterr().out
    assert not (tmp_path / "off" / "figures").exists()
