"""A run of each optimizer that is killed at an epoch's end and told to end within another: as if it never had been."""

import json
import signal
from pathlib import Path

import pytest
from conftest import tiny_config
from interrupted_run import RESUMED, assert_same_result, cut, into, killed, logged, told

from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow

SMALL = ["dataset.n_train=48", "dataset.n_test=8", "dataset.batch_size=8", "trainer.max_epochs=3"]
# Within the last epoch, the first, and at an epoch's first batch; an epoch has 5.
PLACES = [(2, 3), (0, 2), (2, 0)]


def test_every_optimizer_is_resumed() -> None:
    optimizers = {path.stem for path in (CONFIG_DIR / "optim").glob("*.yaml")} - {"none"}
    assert {chosen[0] for chosen in RESUMED} == optimizers


@pytest.mark.parametrize(
    "index",
    [pytest.param(i, id=chosen[0]) for i, chosen in enumerate(RESUMED)],
)
def test_run_interrupted_twice_equals_an_uninterrupted_one(index: int, tmp_path: Path) -> None:
    # Regression: with `max_steps`, a run that was resumed twice trained an epoch too many (adamw). And:
    # Lightning makes the first iterator after a resume before it tells the sampler the epoch, and dropout
    # and augmentation drew on whatever the generator had come to.
    name, *overrides = RESUMED[index]
    number = (signal.SIGTERM, signal.SIGINT)[index % 2]
    log = f"trainer.log_every_n_steps={1 + index % 2}"
    config = tiny_config(tmp_path, f"optim={name}", *overrides, *SMALL, log, "test_checkpoint=best", "test_after=[1,2]")
    train(into(config, tmp_path / "whole"))

    kill, tell = (None, "training", 1, 0, killed), (128 + number, "training", *PLACES[index % 3], told(number))
    runs = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    last = None
    for run, how in zip(runs, sorted((kill, tell), key=lambda how: how[2:4]), strict=False):
        cut(into(config, run, ckpt_path=last), *how)
        status = json.loads((run / "status.json").read_text())
        assert status["status"] == "failed"
        assert status["error"].startswith("ConnectionAbortedError" if how is kill else "interrupted")
        last = f"{run}/checkpoints/last.ckpt"
    train(into(config, runs[-1], ckpt_path=last))
    assert not list(tmp_path.rglob("*.part"))
    assert_same_result(tmp_path / "whole", runs[-1])
    # Nothing is logged twice, and nothing is missing.
    assert logged(*runs) == logged(tmp_path / "whole")
