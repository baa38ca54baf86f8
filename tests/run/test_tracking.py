"""Loggers mirror a run; none of them, and no W&B server, stops one."""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import tiny_config
from PIL import Image
from wandb_log import wandb_history, wandb_records
from wandb_server import KEY, bad_server

from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.error import ConfigError
from hqcnn_lab.figures.confusion import confusion_figure
from hqcnn_lab.record.digest import digest
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow

WANDB = str(Path(sys.executable).with_name("wandb"))
ALWAYS = ("status.json", "config.yaml", "metrics.csv", "summary.json", "predictions.csv", "checkpoints/last.ckpt")


def assert_whole(run: Path) -> None:
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    assert all((run / name).stat().st_size for name in ALWAYS)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with W&B offline, five of its misclassified test images among it."""
    folder = tmp_path_factory.mktemp("mirrored") / "run"
    train(tiny_config(folder, "logger=wandb", "logger.images=5", "logger.wandb.tags=[paper]", "test_after=[1]"))
    return folder


def test_wandb_sorts_runs_by_what_they_compare(mirrored: Path) -> None:
    [run] = [record["run"] for record in wandb_records(mirrored) if record["type"] == "run"]
    assert (run["display_name"], run["run_group"]) == ("tiny", "phantom_hqcnn_gvco")
    assert run["tags"] == ["phantom", "hqcnn", "gvco", "paper"]
    assert (run["project"], run["job_type"]) == ("hqcnn_lab", "train")


def test_wandb_shows_what_was_misclassified_most_surely(mirrored: Path) -> None:
    with (mirrored / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    wrong = [row | {"p": float(row[f"p/{row['prediction']}"])} for row in rows if row["label"] != row["prediction"]]
    assert len(wrong) > 5
    surest = sorted((row["p"] for row in wrong), reverse=True)[:5]
    [shown] = [item for item in wandb_history(mirrored) if "test/misclassified.captions" in item]
    captions = shown["test/misclassified.captions"]
    assert [caption[-5:-1] for caption in captions] == [f"{p:.2f}" for p in surest]
    assert set(captions) <= {f"{row['label']} → {row['prediction']} ({row['p']:.2f})" for row in wrong}
    assert len(list(mirrored.glob("wandb/offline-run-*/files/media/images/test/misclassified_*.png"))) == 5


def test_wandb_shows_the_confusion_matrix(mirrored: Path) -> None:
    [shown] = [item for item in wandb_history(mirrored) if "test/confusion_matrix._type" in item]
    assert shown["test/confusion_matrix._type"] == "image-file"
    [folder] = mirrored.glob("wandb/offline-run-*/files")
    with Image.open(folder / shown["test/confusion_matrix.path"]) as image:
        assert image.width > 400


def test_confusion_figure_tells_the_counts() -> None:
    figure = confusion_figure(np.array([[5, 1, 0], [0, 0, 0], [2, 0, 9]]), ["a", "b", "c"])
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["5", "1", "0", "0", "0", "0", "2", "0", "9"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[5 / 6, 1 / 6, 0], [0, 0, 0], [2 / 11, 0, 9 / 11]])
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("label", "prediction")


def test_wandb_holds_every_figure_of_metrics_csv_at_its_step(mirrored: Path) -> None:
    # Never step=: what comes with a smaller step than the last is dropped.
    with (mirrored / "metrics.csv").open() as file:
        ours = {
            (row["step"], name)
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and name not in ("step", "epoch")
        }
    rows = [item for item in wandb_history(mirrored) if "trainer/global_step" in item]
    theirs = {(str(item["trainer/global_step"]), name) for item in rows for name in item}
    assert len(ours) > 100
    assert ours <= theirs
    assert {"test/loss", "test_after/1/loss"} <= {name for _, name in theirs}


SERVERS = {
    # what the server does → what the line says of it
    "500": "HTTP 500",
    "401": "the server refused the login",
    "403": "the server refused the login",
    "hangs": "Timed out",
    "drops": "EOF",
    "absent": "connection refused",
}


@pytest.fixture
def fresh_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """W&B as in a new process, with no login but what the test gives it."""
    import wandb

    wandb.teardown()  # first: it forgets WANDB_SERVICE, which would else be put back at the end
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield monkeypatch
    wandb.teardown()


ONLINE = ("logger=wandb", "logger.offline=false", "trainer.max_epochs=1", "logger.wandb.settings.init_timeout=1")


@pytest.mark.parametrize("behaviour", SERVERS)
def test_a_server_that_does_not_take_the_run_stops_none(
    behaviour: str, tmp_path: Path, fresh_wandb: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh_wandb.setenv("WANDB_API_KEY", KEY)
    with bad_server(behaviour) as address:
        fresh_wandb.setenv("WANDB_BASE_URL", address)
        began = time.monotonic()
        train(tiny_config(tmp_path / "run", *ONLINE))
        assert time.monotonic() - began < 60  # W&B's own patience is 90 s for each of several things
    assert_whole(tmp_path / "run")
    [line] = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert line.startswith("W&B went offline: ")
    assert SERVERS[behaviour] in line
    [folder] = (tmp_path / "run").glob("wandb/offline-run-*")
    assert line.endswith(f"; later: wandb sync {folder}")
    assert any("test/accuracy" in item for item in wandb_history(tmp_path / "run"))


@pytest.mark.parametrize(("key", "words"), [(None, "No API key configured"), ("short", "API key must have 40+")])
def test_without_a_login_a_run_goes_on_offline(
    key: str | None,
    words: str,
    tmp_path: Path,
    fresh_wandb: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if key:
        fresh_wandb.setenv("WANDB_API_KEY", key)
    train(tiny_config(tmp_path / "run", *ONLINE))
    assert_whole(tmp_path / "run")
    assert f"W&B went offline: {words}" in capsys.readouterr().out.replace("WANDB_API_KEY invalid: ", "")
    assert "WANDB_MODE" not in os.environ  # the next run of this process is not offline by it


def test_a_server_that_stalls_later_ends_no_run_late(
    tmp_path: Path, fresh_wandb: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh_wandb.setenv("WANDB_API_KEY", KEY)
    with bad_server("stalls") as address:
        fresh_wandb.setenv("WANDB_BASE_URL", address)
        began = time.monotonic()
        patient = [*ONLINE[:-1], "logger.wandb.settings.init_timeout=20", "logger.wandb.settings.finish_timeout=1"]
        train(tiny_config(tmp_path / "run", *patient))
        assert time.monotonic() - began < 60  # by default W&B tries on for ever
    assert_whole(tmp_path / "run")
    [folder] = (tmp_path / "run").glob("wandb/run-*")  # it was online
    lines = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    # Regression: a table asked the server, waited for 19 s and then failed all that was logged with it.
    assert lines == [f"W&B: the upload took too long and was given up; later: wandb sync {folder}"]
    assert len(list((folder / "files" / "media" / "images" / "test").iterdir())) > 1


def test_a_broken_mirror_loses_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hqcnn_lab.run.tracking._media", lambda *arguments: 1 / 0)
    train(tiny_config(tmp_path / "run", "logger=wandb", "trainer.max_epochs=1"))
    assert_whole(tmp_path / "run")
    assert "W&B: the test is not mirrored (division by zero)" in capsys.readouterr().out


def test_sync_command_finds_every_offline_run(mirrored: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "tracking.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("find ")]
    places = ["multirun/2026/b", "multirun/runs/c", "runs/a run"]
    for place in places:
        shutil.copytree(mirrored / "wandb", tmp_path / place / "wandb", symlinks=True)
    dry = line.replace("wandb sync", f"{WANDB} sync --dry-run")
    said = subprocess.run(["sh", "-c", dry], cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    found = [line.split("wandb: ", 1)[1].strip() for line in said.splitlines() if line.endswith(".wandb")]
    assert sorted(path.split("/wandb/")[0] for path in found) == places


def test_offline_is_a_short_key_and_no_part_of_what_a_run_computes() -> None:
    check_command_line(["logger.offline=false", "logger.images=0"])
    configs = [compose(["name=a", "paths.output_dir=b", *lines]) for lines in ([], ["logger.offline=false"])]
    assert [config.logger.wandb.offline for config in configs] == [True, False]
    assert digest(configs[0]) == digest(configs[1]) == digest(compose(["name=a", "logger=none"]))
    for wrong, words in {
        "logger.offline=maybe": "must be true or false",
        "logger.images=-1": "must be at least 0",
        "logger.wandb.settings.init_timeout=0": "must be a positive, finite number",
    }.items():
        with pytest.raises(ConfigError, match=words):
            check_command_line([wrong])


def test_tensorboard_mirrors_the_metrics(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tiny_config(tmp_path / "run", "logger=tensorboard", "trainer.max_epochs=1", "test_after=[1]"))
    assert_whole(tmp_path / "run")
    mirror = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for name in ("val/accuracy", "test/accuracy", "test_after/1/loss"):
        assert mirror.Scalars(name)[-1].value == pytest.approx(summary[name])
    assert {"grad/quantum/variance_over_steps", "control/quantum/momentum"} <= set(mirror.Tags()["scalars"])


def test_mlflow_mirrors_the_metrics(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="needs mlflow, of the extra loggers")
    pytest.importorskip("alembic", reason="needs alembic, of the extra loggers")
    train(tiny_config(tmp_path / "run", "logger=mlflow", "trainer.max_epochs=1", "test_after=[1]"))
    assert_whole(tmp_path / "run")
    client = tracking.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("hqcnn_lab").experiment_id])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for name in ("test/accuracy", "test_after/1/loss"):
        assert run.data.metrics[name] == pytest.approx(summary[name])
    assert "grad/quantum/variance_over_steps" in run.data.metrics
    assert run.data.params["optim/lr"] == "0.03"
    assert (run.info.run_name, run.info.status) == ("tiny", "FINISHED")


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_a_logger_that_is_not_installed_is_named_with_its_extra(logger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == logger else find_spec(name))
    with pytest.raises(ConfigError) as error:
        check_command_line([f"logger={logger}"])
    assert str(error.value) == f'logger={logger}: needs the package {logger}; pip install "hqcnn-lab[loggers]"'


def test_wandb_sweep_file_makes_runs_that_compose() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((CONFIG_DIR / "wandb_sweep.yaml").read_text())
    assert importlib.util.find_spec(sweep["program"])
    assert sweep["metric"]["name"] == compose(["name=a"]).monitor
    for pick in (min, max):
        values = {
            key: {"value": pick(choice.get("values") or [choice.get("value", choice.get(pick.__name__))])}
            for key, choice in sweep["parameters"].items()
        }
        given = create_sweep_command_args({"args": values})["args_no_hyphens"]
        words = [word for part in sweep["command"] for word in (given if part == "${args_no_hyphens}" else [part])]
        assert words[:4] == ["${env}", "${interpreter}", "-m", "${program}"]
        check_command_line(words[4:], multirun=False)
