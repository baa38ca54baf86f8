"""A run that is read at several lengths: each reading is that of a run of this length, also after interruptions."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from interrupted_run import assert_same_result, cut, into, killed, told
from omegaconf import DictConfig

from hqcnn_lab.callbacks import StopCheckpoint
from hqcnn_lab.callbacks.kept_epochs import kept_name
from hqcnn_lab.config.check import check
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.error import ConfigError
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.models.trained import load_run
from hqcnn_lab.record.digest import digest
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow

EPOCHS = (1, 2, 4)
SMALL = ["dataset.n_train=60", "dataset.n_test=17", "dataset.batch_size=8", "trainer.max_epochs=4"]
SMALL += ["optim=adam", "scheduler=none", "trainer.log_every_n_steps=5", "dataset.val_fraction=0.2"]
SCORES = ("loss", "accuracy", "macro_f1", "auroc")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    return tiny_config(tmp_path_factory.mktemp("nowhere"), *SMALL, f"test_after={list(EPOCHS)}")


@pytest.fixture(scope="module")
def whole(config: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(into(config, folder))
    return folder


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def kept(run: Path, epoch: int) -> dict:
    return torch.load(run / "checkpoints" / kept_name(epoch), weights_only=True)


@pytest.mark.parametrize("epoch", EPOCHS)
def test_a_reading_is_the_result_of_a_run_of_that_length(
    epoch: int, config: DictConfig, whole: Path, tmp_path: Path
) -> None:
    train(into(config, tmp_path / "short", trainer={"max_epochs": epoch}, test_after=[]))
    short, long = summary_of(tmp_path / "short"), summary_of(whole)
    assert [long[f"test_after/{epoch}/{score}"] for score in SCORES] == [short[f"test/{score}"] for score in SCORES]
    weights = torch.load(tmp_path / "short/checkpoints/last.ckpt", weights_only=True)["state_dict"]  # averaged ones
    assert weights.keys() == kept(whole, epoch)["state_dict"].keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in kept(whole, epoch)["state_dict"].items())


def test_it_changes_nothing_else(config: DictConfig, whole: Path, tmp_path: Path) -> None:
    train(into(config, tmp_path / "plain", test_after=[]))
    one, other = summary_of(whole), summary_of(tmp_path / "plain")
    more = {f"test_after/{epoch}/{score}" for epoch in EPOCHS for score in SCORES}
    assert one.keys() - other.keys() == more
    assert {key: one[key] for key in other if "seconds" not in key} == {
        key: value for key, value in other.items() if "seconds" not in key
    }
    assert (whole / "predictions.csv").read_text() == (tmp_path / "plain/predictions.csv").read_text()
    assert not list((tmp_path / "plain").glob("checkpoints/epoch_*"))


def test_what_is_kept_is_a_small_network_that_loads(whole: Path) -> None:
    assert {path.name for path in (whole / "checkpoints").iterdir()} == {
        *("best.ckpt", "last.ckpt"),
        *map(kept_name, EPOCHS),
    }
    assert "optimizer_states" not in kept(whole, 2)
    path = whole / "checkpoints" / kept_name(2)
    assert path.stat().st_size < 0.4 * (whole / "checkpoints" / "last.ckpt").stat().st_size
    assert load_run(path).epoch == 2
    with pytest.raises(ConfigError, match="has no weights, model, optimizer or loop state, it cannot be continued"):
        check(into(tiny_config(whole, *SMALL), whole / "x", ckpt_path=str(path)))


@pytest.mark.parametrize("end", [143, None])
def test_a_chain_of_interruptions_loses_no_reading(end: int | None, config: DictConfig, whole: Path, tmp_path: Path):
    act = told(signal.SIGTERM) if end else killed

    def after(run: str, before: str) -> DictConfig:
        last = tmp_path / before / "checkpoints/last.ckpt"
        return into(config, tmp_path / run, ckpt_path=str(last), resume="auto")

    cut(into(config, tmp_path / "a"), end, "training", 1, 2, act)  # epoch 1 is kept
    cut(after("b", "a"), end, "training", 3, 4, act)  # and 2
    cut(after("c", "b"), 143, "test", 4, 0, lambda: sys.exit(143))  # all; the main test is not done
    train(after("d", "c"))
    one, other = summary_of(whole), summary_of(tmp_path / "d")
    timeless = {key for key in one if "seconds" not in key}
    assert {key: one[key] for key in timeless} == {key: other[key] for key in timeless}
    for epoch in EPOCHS:
        weights = kept(tmp_path / "d", epoch)["state_dict"]
        assert all(torch.equal(weights[name], tensor) for name, tensor in kept(whole, epoch)["state_dict"].items())


def test_no_checkpoint_counts_an_epoch_that_is_not_kept(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopCheckpoint.__init__, "__defaults__", (0.0,))
    replace, seen = Path.replace, []

    def watched(self: Path, target: Path) -> Path:
        replaced = replace(self, target)
        if target.name == "last.ckpt":
            done = torch.load(target, weights_only=True)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
            seen.append(all((target.parent / kept_name(epoch)).exists() for epoch in EPOCHS if epoch <= done))
        return replaced

    monkeypatch.setattr(Path, "replace", watched)
    train(into(config, tmp_path / "run"))
    assert len(seen) > 4
    assert all(seen)


def test_sampled_circuits_read_the_same_after_an_interruption(tmp_path: Path) -> None:
    shots = ["circuit.shots=4", "trainer.max_epochs=2", "test_after=[1,2]"]
    config = tiny_config(tmp_path, *[line for line in SMALL if "max_epochs" not in line], *shots)
    train(into(config, tmp_path / "whole"))
    cut(into(config, tmp_path / "cut"), 143, "training", 1, 1, told(signal.SIGTERM))
    train(into(config, tmp_path / "resumed", ckpt_path=f"{tmp_path}/cut/checkpoints/last.ckpt"))
    assert_same_result(tmp_path / "whole", tmp_path / "resumed")


@pytest.mark.parametrize(
    ("overrides", "read", "missing"),
    [
        (["+trainer.max_steps=8", "test_after=[1,2,3]"], {"1"}, "epochs 2, 3"),  # six batches: ends within the second
        (["trainer.limit_train_batches=2", "+trainer.max_steps=4", "test_after=[1,2,3]"], {"1", "2"}, "epoch 3"),
        (
            ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optim.lr=1e-9", "test_after=[2,4]"],
            {"2"},
            "epoch 4",
        ),
    ],
)
def test_an_epoch_that_was_not_trained_is_told_and_costs_nothing(
    overrides: list[str], read: set[str], missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_config(tmp_path / "run", *SMALL, *overrides))
    printed = capsys.readouterr().out
    assert f"test_after: training ended before {missing}: not tested\n" in printed
    assert {key.split("/")[1] for key in summary_of(tmp_path / "run") if key.startswith("test_after/")} == read
    assert f"test after epoch {min(read)}" in printed


def test_the_main_test_keeps_its_images_and_figures(whole: Path, tmp_path: Path, config: DictConfig) -> None:
    models = []

    class Watched(ImageClassifier):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # pyright: ignore[reportArgumentType]
            models.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hqcnn_lab.models.ImageClassifier", Watched)
        train(into(config, tmp_path / "run"))
    [model] = models
    assert model.test_name == "test"
    assert model.confusion_matrix.tolist() == summary_of(whole)["test/confusion_matrix"]
    assert len(model.predictions["index"]) == 17


def test_the_key_is_of_what_is_computed_and_older_runs_lack_it(config: DictConfig) -> None:
    none = into(config, Path("x"), test_after=[])
    older = none.copy()
    del older.__dict__["_content"]["test_after"]
    assert digest(older) == digest(none) != digest(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["test_after=[0,3]"], "test_after=[0, 3]: must be a list of epochs, whole numbers from 1 on, increasing"),
        (["test_after=[3,2]"], "test_after=[3, 2]: must be a list of epochs"),
        (["test_after=[3,3]"], "test_after=[3, 3]: must be a list of epochs"),
        (["test_after=[1.5]"], "test_after=[1.5]: must be a list of epochs"),
        (["test_after=[a]"], "test_after=['a']: must be a list of epochs"),
        (["test_after=3"], "test_after=3: must be a list"),
        (["test_after=null"], "test_after=None: must be a list"),
        (["test_after=[5,30]"], "test_after=[5, 30]: there is no epoch 30, trainer.max_epochs=20; leave it out"),
        (["model=knn", "test_after=[1]"], "test_after=[1]: KNN is fitted once, at the end; leave it out"),
        (["model=cnn_features", "test_after=[1]"], "test_after=[1]: CNNFeatures is fitted once, at the end"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line(overrides)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_checkpoint_whose_readings_are_lost_is_refused(config: DictConfig, tmp_path: Path) -> None:
    cut(into(config, tmp_path / "cut"), 143, "training", 2, 1, told(signal.SIGTERM))
    (tmp_path / "cut/checkpoints" / kept_name(2)).unlink()
    again = into(config, tmp_path / "again", ckpt_path=f"{tmp_path}/cut/checkpoints/last.ckpt")
    with pytest.raises(ConfigError, match=r"^test_after=\[1, 2, 4\]: epoch 2 is trained and .*epoch_2.ckpt is not"):
        check(again)
    check(into(again, tmp_path / "again", test_after=[1, 4]))
