"""An evaluation: which network is scored on which images; what it comes to is printed, and written as a new folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.check import check_dataset, check_values
from hqcnn_lab.config.command import check_used
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.key import key_of, plain_values
from hqcnn_lab.config.new_path import check_new, free_name
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.record.whole_file import holds_something
from hqcnn_lab.run.find_run import find_run, load

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule
    from hqcnn_lab.data.split.manifest import Row
    from hqcnn_lab.models.trained import TrainedModel

# Keys of a run's data set that belong to this machine, and do not decide which images are tested.
_LOCAL = ("_target_", "augment", "cache_dir", "seed", "workers")
# Keys that only training uses.
UNUSED = ("dataset.augment", "dataset.balance", "dataset.batch_size", "dataset.seed")
UNUSED += ("paths.output_dir", "paths.sweeps_dir")


class EvaluateError(ValueError):
    """What was asked for cannot be done; the message is one line."""


def evaluate(overrides: list[str]) -> dict[str, Any]:
    """Do what `key=value` overrides of `conf/evaluate.yaml` say; return what `evaluation.json` holds.

    Raises `EvaluateError` for images that cannot be had or are not the run's, `ConfigError` for what cannot be asked.
    """
    check_used(overrides, UNUSED)
    # The run decides which keys dataset has. So everything else is checked first.
    about_data = [line for line in overrides if key_of(line).partition(".")[0] == "dataset"]
    rest = [line for line in overrides if line not in about_data]
    check_command_line(rest, multirun=False, name="evaluate", check=_check)
    trained = load(compose(rest, "evaluate"))
    chosen = next((line.partition("=")[2] for line in about_data if line.startswith("dataset=")), None)
    choice = chosen or _choice_of(trained)
    config = _with_dataset(overrides, about_data, trained, None if chosen else choice)
    out = _out(config, trained, choice)
    from hqcnn_lab.run.evaluation_result import print_result, write_result
    from hqcnn_lab.run.scoring import score

    data = _open(config, trained, choice)
    trained_on = _manifest(trained)
    if not chosen and trained_on is not None:
        _require_same_images(trained_on, data, choice)
    result = {"dataset": choice} | score(trained, data, trained_on, config.robustness or {}, config.seed)
    print_result(result)
    write_result(out, result)
    print(f"written to {out}", flush=True)
    return result


def _check(config: DictConfig) -> None:
    check_values(config)
    find_run(config)
    if config.out is not None:
        check_new(Path(config.out).expanduser(), holds_something)


def _choice_of(trained: "TrainedModel") -> str:
    """Which of `conf/dataset` the run was trained on."""
    if trained.config is None:
        raise ConfigError(f"run={trained.checkpoint}: no run's configuration is beside it; say which images: dataset=…")
    target = trained.config["dataset"].get("_target_")
    for path in sorted((CONFIG_DIR / "dataset").glob("*.yaml")):
        if OmegaConf.select(OmegaConf.load(path), "_target_") == target:
            return path.stem
    raise ConfigError(f"dataset._target_={target}: the run's data set is none of this version; say which: dataset=…")


def _with_dataset(overrides: list[str], about_data: list[str], trained: "TrainedModel", own: str | None) -> DictConfig:
    """The whole configuration; with `own`, the choice of the run, its data set is the run's but for what is given."""
    if own:
        overrides = [f"dataset={own}", *overrides]
    check_command_line(overrides, multirun=False, name="evaluate", check=_check)
    config = compose(overrides, "evaluate")
    given = {line.partition("=")[0] for line in about_data}
    from_run = trained.config["dataset"] if own and trained.config else {"image_size": trained.image_size}
    for key, value in from_run.items():
        if key in config.dataset and key not in _LOCAL and f"dataset.{key}" not in given:
            if not _fits(value, config.dataset[key]):
                raise EvaluateError(f"run={config.run}: its config.yaml says dataset.{key}={value}, as no run does")
            config.dataset[key] = value
    if config.dataset.image_size != trained.image_size:
        size = config.dataset.image_size
        raise ConfigError(f"dataset.image_size={size}: the network sees {trained.image_size} pixels; leave it out")
    check_values(config)
    check_dataset(config.dataset)
    return config


def _fits(value: Any, default: Any) -> bool:
    """Whether a run's own value may be one: of a null default any plain one, else of the default's type."""
    if default is None or value is None:
        return default is None and not isinstance(value, dict) and "${" not in str(value)
    return type(value) is type(default) and "${" not in str(value)


def _out(config: DictConfig, trained: "TrainedModel", choice: str) -> Path:
    """A folder of its own, or `config.out`, which `_check` has looked at."""
    if config.out is not None:
        return Path(config.out).expanduser()
    if trained.folder is None:
        raise ConfigError("out=null: the checkpoint lies in no run folder; give a new folder, out=…")
    out = free_name(trained.folder / f"evaluation-{choice}-{trained.checkpoint.stem}", holds_something)
    check_new(out, holds_something)
    return out


def _open(config: DictConfig, trained: "TrainedModel", choice: str) -> "ImageDataModule":
    from hqcnn_lab.build import BuildError, build
    from hqcnn_lab.data.datamodule import UnusableData
    from hqcnn_lab.data.decode.cache import CacheError

    try:
        data = build(plain_values(config.dataset))
        if list(data.classes) != trained.classes:
            raise EvaluateError(
                f"dataset={choice}: its classes are {', '.join(data.classes)}, those of the network "
                f"{', '.join(trained.classes)}, in this order; they have to be the same"
            )
        data.prepare_data()
        data.setup()
    except (BuildError, CacheError, UnusableData) as error:
        raise EvaluateError(first_line(error)) from None
    return data


def _manifest(trained: "TrainedModel") -> "list[Row] | None":
    """What the run was trained and tested on; None where that is not known."""
    from hqcnn_lab.data.split.manifest import read_manifest

    path = None if trained.folder is None else trained.folder / "split_manifest.csv"
    if path is None or not path.is_file():
        return None
    try:
        return read_manifest(path)
    except ValueError as error:
        raise EvaluateError(first_line(error)) from None


def _require_same_images(trained_on: "list[Row]", data: "ImageDataModule", choice: str) -> None:
    from hqcnn_lab.data.split.manifest import manifest_hash

    if manifest_hash(trained_on) != manifest_hash(data.manifest_text()):
        raise EvaluateError(
            f"dataset={choice}: its images or their split are not those of the run's split_manifest.csv; "
            f"to score others, name them: dataset={choice} and its keys"
        )
