"""Free texts that become folders, files or labels: what cannot is refused before anything starts, in a line."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError

from hqcnn_lab.config.check import check
from hqcnn_lab.config.command_line import check_command_line, check_folders
from hqcnn_lab.config.compose import compose, hydra_in_place
from hqcnn_lab.config.override import as_override
from hqcnn_lab.config.path import check_path
from hqcnn_lab.config.run_name import check_name
from hqcnn_lab.config.wandb_label import check_wandb_labels
from hqcnn_lab.error import ConfigError

WRONG_NAMES = {
    "grp/run": "has / in it",
    "../x": "has / in it",
    "a\\b": "has \\ in it",
    "a?b": "has ? in it",  # an SQLite address, of which it ends the path
    "${seed": "has ${ in it",
    "": "is empty",
    ".": "begins with a dot",
    "..": "begins with a dot",
    "-x": "begins with a dot, a dash",
    " x": "begins with",
    "x ": "ends with",
    "x.": "ends with",
    "a\nb": "has a line break",
    "a\0b": "has a line break",
    "a\u2028b": "has a line break",
    "a\ud800b": "has a line break",
    "n" * 300: "is of 300 bytes, the most is 200",
    "ö" * 101: "is of 202 bytes",
    "x.interrupted-1": "ends as the name of a run that was tried again",
    None: "must be text",
    True: "must be text",
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_name_that_is_no_folders_is_refused(name: str | None) -> None:
    # Regression: `name=grp/run` ended a sweep with "no job" though its jobs had finished, and was never resumed.
    with pytest.raises(ConfigError) as error:
        check_name("name", name)
    assert WRONG_NAMES[name] in str(error.value)
    assert str(error.value).isprintable()


@settings(max_examples=50)
@given(st.text(max_size=300))
@example("n" * 200)
@example("Gehirn, T1+C (2. Versuch) #3 & 'mehr' = 100 %")
def test_a_name_is_refused_or_names_one_folder(name: str) -> None:
    try:
        check_name("name", name)
    except ConfigError:
        return
    for folder in (f"2026-01-01_10-00-00_{name}", f"{name}_{'0' * 12}.interrupted-12"):
        assert Path(folder).parts == (folder,)
        assert len(os.fsencode(folder)) <= 255


# where a text goes × what it may not be → what is said
WRONG_PLACES = [
    *[(key, "''", f"{key}=: is empty") for key in ("hydra.run.dir", "paths.runs_dir")],
    *[(key, "FILE", "a run cannot be written there, ") for key in ("hydra.run.dir", "paths.runs_dir")],
    *[(key, "FILE/below", "a run cannot be written there, ") for key in ("hydra.run.dir", "paths.runs_dir")],
    *[(key, "/proc/x", "a run cannot be written there (") for key in ("hydra.run.dir", "paths.runs_dir")],
    *[(key, "'~/runs'", "~ would be a folder of that name") for key in ("hydra.run.dir", "paths.runs_dir")],
    *[(key, "n" * 256, "is too long") for key in ("hydra.run.dir", "paths.runs_dir", "paths.output_dir")],
    ("paths.runs_dir", "/proc", "paths.runs_dir=/proc: a run cannot be written there ("),
    ("hydra.run.dir", ".", "there are other files in it; a run has a folder of its own"),
    ("hydra.run.dir", "RUN", "already holds a run"),
    ("paths.output_dir", "RUN", "paths.output_dir=RUN: already holds a run"),
    ("callbacks.best_checkpoint.dirpath", "/proc/x", "a run cannot be written there ("),
    ("trainer.default_root_dir", "FILE", "a run cannot be written there, "),
    ("-m hydra.sweep.dir", "''", "hydra.sweep.dir=: is empty"),
    ("-m hydra.sweep.dir", "FILE", "a run cannot be written there, "),
    ("-m paths.sweeps_dir", "/proc", "paths.sweeps_dir=/proc: a run cannot be written there ("),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a file is in it, and a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "status.json").write_text("{}")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("key", "text", "words"), WRONG_PLACES)
def test_where_a_run_cannot_be_written_is_refused(key: str, text: str, words: str, here: Path) -> None:
    # Regression: a traceback after composing, and `hydra.run.dir=''` wrote into the current folder.
    if text.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("no /proc on this system")
    override = f"{key.removeprefix('-m ')}={text}"
    with pytest.raises(ConfigError) as error:
        check_folders(["name=a", override], multirun=key.startswith("-m"))
    assert words in str(error.value)
    assert str(error.value).startswith(override.partition("=")[0])
    assert sorted(path.name for path in here.iterdir()) == ["FILE", "RUN"]  # looking leaves nothing


@pytest.mark.slow
def test_folders_that_can_be_made_pass(here: Path) -> None:
    (here / "empty").mkdir()
    for override in ("seed=1", "hydra.run.dir=a/b/c", "hydra.run.dir=empty", "paths.runs_dir='Läufe, 2. Teil'"):
        check_folders([override], multirun=False)
    check_folders(["seed=0,1", "hydra.sweep.dir=RUN"], multirun=True)  # which goes on with it
    assert sorted(path.name for path in here.iterdir()) == ["FILE", "RUN", "empty"]


@pytest.mark.parametrize(
    ("path", "words"),
    [("", "is empty"), ("a\0b", "NUL"), (5, "must be a path"), ("a\udcffb", "is not UTF-8"), ("n" * 256, "too long")],
)
def test_a_text_that_no_file_can_have_as_its_path_is_refused(path: str | int, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        check_path("dataset.root", path)
    assert str(error.value).isprintable()
    check_path("dataset.root", "a\nb")  # others name their files as they like


@pytest.mark.slow
@pytest.mark.parametrize("key", ["dataset.root", "dataset.manifest", "ckpt_path", "paths.cache_dir", "paths.runs_dir"])
def test_every_path_is_looked_at(key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}=a") as error:
        check_command_line(["dataset=kaggle", f"{key}={'a' * 256}"], multirun=False)
    assert "is too long" in str(error.value)


WRONG_LABELS = {
    "logger.wandb.tags=['']": "1 to 64 characters, this is of 0",
    f"logger.wandb.tags=[paper,{'t' * 70}]": "1 to 64 characters, this is of 70",
    "logger.wandb.tags=[1]": "must be text",
    "logger.wandb.project=a/b": "W&B takes no / in it",
    "logger.wandb.project='a%b'": "W&B takes no % in it",
    f"logger.wandb.project={'p' * 129}": "1 to 128 characters",
    "logger.wandb.project=''": "1 to 128 characters",
    "logger.wandb.project=7": "must be text",
    "logger.wandb.entity='my team'": "W&B takes no space in it",
    "logger.wandb.group=' '": "1 to 128 characters",
    f"logger.wandb.name={'n' * 129}": "1 to 128 characters",
    f"name={'n' * 129}": "1 to 128 characters",  # a folder may have it as its name, a run of W&B may not
    f"logger.wandb.job_type={'j' * 65}": "1 to 64 characters",
    "+logger.wandb.id='a:b'": "W&B takes no : in it",
    "+logger.wandb.notes=5": "must be text",
}


@pytest.mark.slow
@pytest.mark.parametrize("override", WRONG_LABELS)
def test_a_label_that_wandb_refuses_is_refused_before(override: str) -> None:
    # Regression: W&B's own traceback, once the data was prepared.
    with pytest.raises(ConfigError) as error:
        check_command_line(["logger=wandb", override], multirun=False)
    assert str(error.value).startswith("logger.wandb.")
    assert WRONG_LABELS[override] in str(error.value)
    assert str(error.value).isprintable()


LABELS = {"project": "project", "id": "run_id", "group": "run_group", "job_type": "run_job_type"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LABELS, "tags"])
@settings(max_examples=25)
@given(text=st.text(min_size=0, max_size=140))
@example(text="a" * 64)
@example(text="a'b")
@example(text="0 ")  # of an id, W&B says so
def test_what_passes_is_what_wandbs_client_takes(name: str, text: str) -> None:
    import wandb

    value = [text] if name == "tags" else text
    try:
        check_wandb_labels(OmegaConf.create({"logger": {"wandb": {name: value}}}), "logger.wandb")
    except (ConfigError, GrammarParseError):  # or an interpolation that is none
        return
    wandb.Settings(**{LABELS.get(name, "run_tags"): value})


@pytest.mark.slow
@pytest.mark.parametrize("key", ["logger.wandb.id", "logger.wandb.version"])
def test_the_runs_of_a_sweep_get_an_id_each(key: str) -> None:
    with pytest.raises(ConfigError, match="each run of a sweep gets its own"):
        check_command_line([f"+{key}=a", "logger=wandb"], check=lambda config: check(config, in_sweep=True))
    check_command_line([f"+{key}=a", "logger=wandb"], multirun=False)


@pytest.mark.parametrize("name", ["a b", "Gehirn_ö", "lr=0.1,s=3", "5"])
def test_names_that_are_right_pass(name: str) -> None:
    with hydra_in_place(compose([as_override("name", name)], with_hydra=True)) as config:
        check(config)
