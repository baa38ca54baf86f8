"""A run that is told to end, or is killed, at any moment: going on equals never having stopped."""

import csv
import json
import re
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from conftest import TINY_PHANTOM, tiny_config
from filelock import FileLock
from interrupted_run import assert_same_result, cut, into, killed, logged, told
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.analysis.metrics import read_metrics
from hqcnn_lab.callbacks import StopCheckpoint
from hqcnn_lab.config.check import check
from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.error import ConfigError
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.state import LOCK, is_live
from hqcnn_lab.run.metrics_file import MetricsFile
from hqcnn_lab.run.resume import continue_run, find_unfinished, matching_runs
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow

SMALL = ["dataset.n_train=60", "dataset.n_test=9", "dataset.batch_size=8", "trainer.max_epochs=2"]


def test_run_of_mixed_precision_and_gathered_gradients_is_resumed(tmp_path: Path) -> None:
    # Four batches of six, and then the two that are left: the signal comes in the second.
    overrides = ["trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=4", "trainer.log_every_n_steps=1"]
    config = tiny_config(tmp_path, *SMALL, *overrides)
    train(into(config, tmp_path / "whole"))
    cut(into(config, tmp_path / "cut"), 143, "training", 1, 1, told(signal.SIGTERM))
    last = tmp_path / "cut/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 3
    train(into(config, tmp_path / "resumed", ckpt_path=str(last)))
    assert_same_result(tmp_path / "whole", tmp_path / "resumed")
    assert logged(tmp_path / "cut", tmp_path / "resumed") == logged(tmp_path / "whole")
    assert 0 < json.loads((tmp_path / "whole/summary.json").read_text())["train/loss"] < 10


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    return tiny_config(tmp_path_factory.mktemp("nowhere"), *SMALL, "trainer.accumulate_grad_batches=2")


@pytest.fixture(scope="module")
def whole(config: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted; of steps of two batches."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(into(config, folder))
    return folder


@pytest.fixture
def saved_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopCheckpoint.__init__, "__defaults__", (0.0,))


@pytest.mark.parametrize(("batch", "step"), [(0, 3), (3, 4), (5, 5)])
@pytest.mark.usefixtures("saved_every_step")
def test_killed_run_goes_on_from_its_last_step(
    batch: int, step: int, config: DictConfig, whole: Path, tmp_path: Path
) -> None:
    cut(into(config, tmp_path / "cut"), None, "training", 1, batch, killed)
    last = tmp_path / "cut/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == step
    train(into(config, tmp_path / "resumed", ckpt_path=str(last)))
    assert_same_result(whole, tmp_path / "resumed")


@pytest.mark.usefixtures("saved_every_step")
def test_no_checkpoint_is_ahead_of_the_metrics(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: killed between the two, a run lost all that was logged of the step.
    counted, replace = [], Path.replace

    def watched(self: Path, target: Path) -> Path:
        replaced = replace(self, target)
        if target.name == "last.ckpt":
            checkpoint = torch.load(target, weights_only=True)
            epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
            metrics = read_metrics(tmp_path / "run")
            on_disk = [len(metrics[name][0]) for name in ("control/quantum/rate", "train/loss") if name in metrics]
            counted.append((checkpoint["global_step"], epochs, *on_disk))
        return replaced

    monkeypatch.setattr(Path, "replace", watched)
    train(into(config, tmp_path / "run"))
    assert counted == [(1, 0, 1), (2, 0, 2), (3, 1, 3, 1), (4, 1, 4, 1), (5, 1, 5, 1), (6, 2, 6, 2)]


@pytest.mark.parametrize("written", range(4))
def test_a_new_metric_loses_no_other_whenever_the_run_is_killed(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: for a new column the file was emptied and written again.
    logger = MetricsFile(tmp_path)
    for step in range(3):
        logger.log_metrics({"a": step}, step)
        logger.save()

    class Killed(BaseException):
        pass

    def rows_then_killed(writer: csv.DictWriter, rows: Iterable[dict[str, Any]]) -> None:
        for row in list(rows)[:written]:
            writer.writerow(row)
        raise Killed

    logger.log_metrics({"b": 1}, 3)
    monkeypatch.setattr(csv.DictWriter, "writerows", rows_then_killed)
    with pytest.raises(Killed):
        logger.save()
    assert read_metrics(tmp_path)["a"][0].tolist() == [0, 1, 2]


@pytest.mark.usefixtures("saved_every_step")
def test_signal_in_validation_ends_it_at_once(config: DictConfig, whole: Path, tmp_path: Path) -> None:
    cut(into(config, tmp_path / "cut"), 143, "validation", 0, 0, told(signal.SIGTERM))
    last = tmp_path / "cut/checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (0, 2)  # before the epoch's third and last step
    train(into(config, tmp_path / "resumed", ckpt_path=str(last)))
    assert_same_result(whole, tmp_path / "resumed")


@pytest.mark.parametrize("early", [False, True])
def test_signal_in_the_test_leaves_only_the_test_to_do(early: bool, tmp_path: Path) -> None:
    # Early stopping after the first epoch: a resumed run that forgot it would train on.
    overrides = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optim.lr=1e-9"] if early else []
    config = tiny_config(tmp_path, *SMALL, "trainer.max_epochs=4" if early else "trainer.max_epochs=1", *overrides)
    train(into(config, tmp_path / "whole"))
    epochs = json.loads((tmp_path / "whole/summary.json").read_text())["epochs"]
    assert epochs == (2 if early else 1)
    cut(into(config, tmp_path / "runs/cut"), 143, "test", epochs, 0, lambda: sys.exit(143))
    resumed = into(config, tmp_path / "runs/resumed", resume="auto")
    assert continue_run(resumed, tmp_path / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageClassifier, "training_step", lambda *_: pytest.fail("trained again"))
        train(resumed)
    one, other = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("whole", "runs/resumed"))
    timeless = {key for key in one if "seconds" not in key}
    assert {key: one[key] for key in timeless} == {key: other[key] for key in timeless}


def test_checkpoint_within_an_epoch_is_of_its_batches(config: DictConfig, tmp_path: Path) -> None:
    cut(into(config, tmp_path / "cut"), 143, "training", 0, 1, told(signal.SIGTERM))
    again = into(config, tmp_path / "again", ckpt_path=f"{tmp_path}/cut/checkpoints/last.ckpt")
    again.dataset.batch_size = 10
    with pytest.raises(UnusableData, match="batches of 8; ask for the same again"):
        train(again)


@pytest.fixture(scope="module")
def stopped(config: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was told to end within its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    cut(into(config, folder), 143, "training", 1, 2, told(signal.SIGTERM))
    return folder


def copied(run: Path, to: Path, started: str, **status: str) -> Path:
    shutil.copytree(run, to)
    text = json.loads((run / "status.json").read_text()) | {"started": f"2030-01-01T00:00:{started}"} | status
    (to / "status.json").write_text(json.dumps(text))
    return to


def test_newest_run_that_can_be_continued_is_found(
    config: DictConfig, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    now = into(config, tmp_path / "new", resume="auto")
    assert continue_run(now, runs)
    assert now.ckpt_path is None
    assert "starting anew" in capsys.readouterr().out
    first = copied(stopped, runs / "b", "01")
    second = copied(stopped, runs / "a", "02")
    killed_early = copied(stopped, runs / "c", "03", status="running")
    shutil.rmtree(killed_early / "checkpoints")
    other = into(config, tmp_path / "other")
    other.optim.lr = 0.5
    assert find_unfinished(runs, other) is None
    assert matching_runs(runs, now) == [killed_early, second, first]
    assert find_unfinished(runs, now) == second
    assert continue_run(now, runs)
    assert now.ckpt_path == f"{second}/checkpoints/last.ckpt"
    line = capsys.readouterr().out
    assert line == f"resume=auto: continuing {second} from epoch 2, step 5 (last.ckpt)\n"
    # That run is claimed now.
    assert is_live(second)
    with pytest.raises(ConfigError, match="a is going on right now"):
        continue_run(into(config, tmp_path / "third", resume="auto"), runs)


def test_torn_checkpoint_is_passed_over(config: DictConfig, stopped: Path, tmp_path: Path) -> None:
    older, newer = copied(stopped, tmp_path / "older", "01"), copied(stopped, tmp_path / "newer", "02")
    last = newer / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    assert find_unfinished(tmp_path, config) == newer  # at its best epoch
    (newer / "checkpoints/best.ckpt").write_bytes(b"")
    assert find_unfinished(tmp_path, config) == older
    now = into(config, tmp_path / "new")
    assert continue_run(now, tmp_path)
    assert now.ckpt_path == f"{older}/checkpoints/last.ckpt"


def test_nothing_is_written_where_validation_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A run that was killed in that validation was resumed after it, and its metrics were in no run folder.
    written: list[int] = []
    monkeypatch.setattr(StopCheckpoint.__init__, "__defaults__", (0.0,))
    monkeypatch.setattr(StopCheckpoint, "on_train_epoch_end", lambda *_: None)
    monkeypatch.setattr(
        *(StopCheckpoint, "_end_after_this"),
        lambda self, trainer, wanted: written.append(trainer.fit_loop.epoch_loop.batch_idx),
    )
    train(tiny_config(tmp_path / "run", "trainer.max_epochs=1", "dataset.n_train=112", "+trainer.val_check_interval=3"))
    assert written == [0, 1, 3, 4]  # of batches 0 to 5


@pytest.mark.parametrize("weights", [None, {}, []])
def test_checkpoint_without_weights_is_passed_over(
    config: DictConfig, stopped: Path, tmp_path: Path, weights: Any
) -> None:
    # Every resume=auto after it failed, though the best epoch lay beside it.
    run = copied(stopped, tmp_path / "run", "01")
    last = run / "checkpoints/last.ckpt"
    torch.save(torch.load(last, weights_only=True) | {"state_dict": weights}, last)
    now = into(config, tmp_path / "new")
    assert continue_run(now, tmp_path)
    assert now.ckpt_path == f"{run}/checkpoints/best.ckpt"
    with pytest.raises(ConfigError, match="has no weights"):
        check(OmegaConf.merge(now, {"ckpt_path": str(last)}))


@pytest.mark.parametrize(
    "damage",
    [{"loops": None}, {"loops": {}}, {"loops": "x"}, {"hyper_parameters": None}, {"optimizer_states": None}],
    ids=str,
)
def test_checkpoint_of_other_shape_is_refused_in_a_line(
    config: DictConfig, stopped: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    last = copied(stopped, tmp_path / "run", "01") / "checkpoints/last.ckpt"
    torch.save(torch.load(last, weights_only=True) | damage, last)
    with pytest.raises(ConfigError, match=r"^ckpt_path=.*(cannot be continued|is not a run's)$"):
        check(into(config, tmp_path / "new", ckpt_path=str(last)))


def test_finished_run_is_left_alone_and_so_is_a_diverged_one(
    config: DictConfig, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(stopped, tmp_path / "stopped", "02")
    done = copied(stopped, tmp_path / "done", "01", status="finished")
    assert not continue_run(into(config, tmp_path / "new"), tmp_path)
    assert capsys.readouterr().out == f"resume=auto: nothing to do, {done} has finished\n"
    shutil.rmtree(done)
    copied(stopped, tmp_path / "nan", "01", error="TrainingDiverged: train/loss is nan")
    with pytest.raises(ConfigError, match="has diverged, and would again"):
        continue_run(into(config, tmp_path / "new"), tmp_path)


def test_run_that_is_going_on_is_not_continued(config: DictConfig, stopped: Path, tmp_path: Path) -> None:
    run = copied(stopped, tmp_path / "run", "01", status="running")
    assert not is_live(run)  # a process that is gone has let go of it
    with FileLock(run / LOCK):
        assert find_unfinished(tmp_path, config) is None
        with pytest.raises(ConfigError, match="going on right now"):
            continue_run(into(config, tmp_path / "new"), tmp_path)
    assert find_unfinished(tmp_path, config) == run


def test_resuming_plays_no_part_in_what_a_run_computes(config: DictConfig) -> None:
    older = config.copy()
    del older.__dict__["_content"]["resume"], older.trainer.__dict__["_content"]["strategy"]  # as before these keys
    assert digest(older) == digest(config)
    assert digest(into(config, Path("x"), resume="auto", ckpt_path="y/last.ckpt")) == digest(config)
    assert digest(into(config, Path("x"), seed=5)) != digest(config)


CLI = [*TINY_PHANTOM, *SMALL, "trainer.max_epochs=3", "logger=none", "resume=auto"]

# The command line's program; in the middle of one batch it says so, and waits for a line.
PROGRAM = """
import sys
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.train import main

epoch, batch = int(sys.argv.pop(1)), int(sys.argv.pop(1))
step = ImageClassifier.training_step

def watched(self, images, index):
    if (self.current_epoch, index) == (epoch, batch):
        print("waiting", flush=True)
        sys.stdin.readline()
    return step(self, images, index)

ImageClassifier.training_step = watched
main()
"""


def end_at(epoch: int, batch: int, number: signal.Signals, cwd: Path) -> tuple[int, str]:
    """Train on the command line, send a signal within a batch, and give the exit code and what was printed."""
    folder = f"hydra.run.dir=runs/{number.name}"  # two that start in the same second would want the same
    process = warm.Process("-c", PROGRAM, str(epoch), str(batch), *CLI, folder, cwd=cwd)
    before = []
    for line in process.stdout:
        if line == "waiting\n":
            break
        before.append(line)
    else:
        pytest.fail(f"it ended before that batch: {before} {process.communicate()}")
    process.send_signal(number)
    after, _ = process.communicate("\n")
    return process.returncode, "".join(before) + after


def test_chain_of_interrupted_processes_comes_to_the_same_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = end_at(0, 2, signal.SIGTERM, tmp_path)
    assert code == 143
    assert "nothing to continue in runs, starting anew" in printed
    code, printed = end_at(1, 3, signal.SIGKILL, tmp_path)
    assert code == -signal.SIGKILL
    assert re.search(r"continuing runs/\S+ from epoch 1, step 3 \(last.ckpt\)", printed)
    config = compose([*CLI, "name=resumed", f"paths.output_dir={tmp_path}/runs/resumed"])
    killed, _ = matching_runs(tmp_path / "runs", config)
    assert json.loads((killed / "status.json").read_text())["status"] == "running"
    assert continue_run(config, tmp_path / "runs")
    assert f"continuing {killed} from epoch 2, step 6 (last.ckpt)" in capsys.readouterr().out
    train(config)
    train(into(config, tmp_path / "whole", ckpt_path=None))
    assert_same_result(tmp_path / "whole", tmp_path / "runs/resumed")
    assert not continue_run(config, tmp_path / "runs")  # it has finished now
