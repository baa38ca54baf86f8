"""Score a trained network beyond its accuracy: `python -m hqcnn_lab.evaluate --help`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.check import check_dataset, check_values
from hqcnn_lab.config.command import check_used, read_overrides
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.new_path import check_new, free_name, holds_something
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.record.whole_file import whole_folder
from hqcnn_lab.run.find_run import find_run, load
from hqcnn_lab.run.how_far import with_progress

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule
    from hqcnn_lab.data.split.manifest import Row
    from hqcnn_lab.models.trained import TrainedModel

DESCRIPTION = """\
Score the network of a run on its own test images, or on those of another data set with the same classes: accuracy with
intervals, scores by class, calibration before and with a temperature that is fitted on validation, and the accuracy
left under noise, blur and rotation. Writes evaluation.json and figures into a new folder. What each says:
docs/predict.md.

  python -m hqcnn_lab.evaluate run=latest                                          the newest run that has finished
  python -m hqcnn_lab.evaluate run=runs/… checkpoint=best out=scores
  python -m hqcnn_lab.evaluate run=runs/… dataset.root=/data/brain                 its data set has moved
  python -m hqcnn_lab.evaluate run=runs/… dataset=kaggle dataset.root=/data/other  another data set's test part
"""

# Of a run's own data set these are this machine's, and no part of which images are tested.
_LOCAL = ("_target_", "augment", "cache_dir", "seed", "workers")
# Keys of the groups that only training has a use for.
_UNUSED = ("dataset.augment", "dataset.balance", "dataset.batch_size", "dataset.seed")
_UNUSED += ("paths.output_dir", "paths.sweeps_dir")


class EvaluateError(ValueError):
    """What was asked for cannot be done; the message is one line."""


def main(argv: Sequence[str] | None = None) -> None:
    """Score what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    overrides = read_overrides("hqcnn_lab.evaluate", "evaluate", DESCRIPTION, argv, _UNUSED)
    try:
        evaluate(overrides)
    except KeyboardInterrupt:
        sys.exit("error: interrupted")
    except (ConfigError, EvaluateError, OSError) as error:
        sys.exit(f"error: {first_line(error)}")


def evaluate(overrides: list[str]) -> dict[str, Any]:
    """Do what `key=value` overrides of `conf/evaluate.yaml` say; return what `evaluation.json` holds."""
    check_used(overrides, _UNUSED)
    # Which keys dataset has, the run decides: so everything else is looked over first.
    about_data = [line for line in overrides if line.lstrip("+~").startswith(("dataset=", "dataset."))]
    rest = [line for line in overrides if line not in about_data]
    check_command_line(rest, multirun=False, name="evaluate", check=_check)
    config = compose(rest, "evaluate")
    trained = load(config)
    chosen = next((line.partition("=")[2] for line in about_data if line.startswith("dataset=")), None)
    choice = chosen or _choice_of(trained)
    config = _with_dataset(overrides, about_data, trained, None if chosen else choice)
    out = _out(config, trained, choice)
    data = _open(config, trained, choice)
    if not chosen:
        _require_same_images(trained, data, choice)
    result = {"dataset": choice} | _score(config, trained, data)
    _print(result)
    print(f"written to {_write(out, result)}", flush=True)
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
        if OmegaConf.load(path)["_target_"] == target:
            return path.stem
    raise ConfigError(f"dataset._target_={target}: the run's data set is none of this version; say which: dataset=…")


def _with_dataset(overrides: list[str], about_data: list[str], trained: "TrainedModel", own: str | None) -> DictConfig:
    """The whole configuration; with `own`, the choice of the run, its data set is the run's but for what is given."""
    if own:
        overrides = [f"dataset={own}", *overrides]
    check_command_line(overrides, multirun=False, name="evaluate", check=_check)
    config = compose(overrides, "evaluate")
    given = {line.partition("=")[0] for line in about_data}
    known = trained.config["dataset"] if own else {"image_size": trained.image_size}
    for key, value in known.items():
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
        data = build(OmegaConf.to_container(config.dataset, resolve=True))
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


def _require_same_images(trained: "TrainedModel", data: "ImageDataModule", choice: str) -> None:
    from hqcnn_lab.data.split.manifest import manifest_hash

    rows = _manifest(trained)
    if rows is not None and manifest_hash(rows) != manifest_hash(data.manifest_text()):
        raise EvaluateError(
            f"dataset={choice}: its images or their split are not those of the run's split_manifest.csv; "
            f"to score others, name them: dataset={choice} and its keys"
        )


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


def _score(config: DictConfig, trained: "TrainedModel", data: "ImageDataModule") -> dict[str, Any]:
    import torch

    from hqcnn_lab.analysis.scores import accuracy, calibration_scores, classification_scores
    from hqcnn_lab.data.corrupt import CORRUPTIONS
    from hqcnn_lab.data.split.manifest import manifest_hash

    torch.manual_seed(config.seed)  # for circuits with shots or noise
    test, val = data.split.test, data.split.val
    images, labels = data.images[test], torch.from_numpy(data.labels[test])
    logits = trained.logits(images)
    groups = np.array(data.manifest_groups())[test]
    scores = classification_scores(logits, labels, data.classes, groups if (groups != "").any() else None)
    calibration = calibration_scores(
        logits, labels, trained.logits(data.images[val]), torch.from_numpy(data.labels[val])
    )
    robustness: dict[str, list[tuple[float, float]]] = {}
    amounts = config.robustness or {}  # null is none of them
    changes = [(name, float(amount)) for name in CORRUPTIONS for amount in amounts.get(name) or []]
    for name, amount in with_progress(changes, [len(test)] * len(changes), "scored, made worse,"):
        changed = CORRUPTIONS[name](images, amount, config.seed)
        curve = robustness.setdefault(f"robustness/{name}", [(0.0, scores["accuracy"])])
        curve.append((amount, accuracy(trained.logits(changed), labels)))
    return {
        "run": None if trained.folder is None else trained.folder.resolve().name,
        "checkpoint": trained.checkpoint.name,
        "epoch": trained.epoch,
        "classes": trained.classes,
        "split/kind": data.split_name,
        "split/manifest": manifest_hash(data.manifest_text()),
        "split/leak": _leak(trained, data),
        "images/test": len(test),
        "images/val": len(val),
        **{f"test/{name}": value for name, value in scores.items()},
        **{f"calibration/{name}": value for name, value in calibration.items()},
        **robustness,
    }


def _leak(trained: "TrainedModel", data: "ImageDataModule") -> str | None:
    """In one line, how far the run's training or validation saw these test images; None where it did not."""
    from hqcnn_lab.data.split.duplicates import has_twin

    if (rows := _manifest(trained)) is None:
        return "not known what the network was trained on: no split_manifest.csv"
    test, trained_on = data.split.test, {(row.content, row.frame) for row in rows if row.split != "test"}
    seen = np.array([key in trained_on for key in zip(data.contents, data.frames, strict=True)])
    reasons = []
    twins = getattr(data, "twins", None)
    met = seen if twins is None else seen | has_twin(twins, seen)
    if n_met := int(met[test].sum()):
        reasons.append(f"{n_met} of {len(test)} test images, or copies of them, were seen in training")
    patients = getattr(data, "patients", np.array([""] * len(seen)))
    tested = set(patients[test].tolist()) - {""}
    if n_shared := len(tested & set(patients[seen].tolist())):
        reasons.append(f"{n_shared} of {len(tested)} test patients were seen in training")
    return ", ".join(reasons) or None


def _write(out: Path, result: dict[str, Any]) -> Path:
    """Write all into a folder that appears once it is whole; returns it."""
    from hqcnn_lab.figures.evaluation import reliability_figure, robustness_figure

    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    calibration = {k.partition("/")[2]: v for k, v in result.items() if k.startswith("calibration/")}
    curves = {k.partition("/")[2]: v for k, v in result.items() if k.startswith("robustness/")}
    with whole_folder(out) as scratch:
        (scratch / "evaluation.json").write_text(text, encoding="utf-8")
        reliability_figure(calibration).savefig(scratch / "reliability.png", dpi=120)
        if curves:
            most = max(map(sum, result["test/confusion_matrix"])) / result["images/test"]
            robustness_figure(curves, most).savefig(scratch / "robustness.png", dpi=120)
    return out


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from hqcnn_lab.figures.evaluation import UNITS

    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)

    def percent(key: str) -> str:
        return f"{100 * result[key]:.2f} %"

    def between(key: str) -> str:
        return "–" if result[key] is None else "{:.1f} to {:.1f}".format(*(100 * edge for edge in result[key]))

    n, groups = result["images/test"], result["test/groups"]
    drawn = f"{groups} groups of copies or patients" if groups else "images"
    rows = {
        "split": f"{result['dataset']}, {result['split/kind']}",
        "seen in training": result["split/leak"] or "no test image",
        "accuracy": f"{percent('test/accuracy')}  ({n} images)",
        "95 % intervals": f"{between('test/accuracy_wilson')} (Wilson); {between('test/accuracy_bootstrap')} ({drawn})",
        "macro F1": f"{result['test/macro_f1']:.4f}",
        "AUROC": "–" if result["test/auroc"] is None else f"{result['test/auroc']:.4f}",
        "loss": f"{result['test/loss']:.4f}",
        "calibration error": f"{percent('calibration/ece')}, {percent('calibration/ece_scaled')} at temperature "
        f"{result['calibration/temperature']:.2f} (from {result['images/val']} validation images)",
    }
    if "test/absent" in result:
        rows["not in test"] = f"{', '.join(result['test/absent'])}: F1 and AUROC are over the other classes"
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    by_class = Table("true \\ predicted", box=None, padding=(0, 2))
    for name in (*result["classes"], "recall", "precision", "F1"):
        by_class.add_column(name, justify="right")
    for name, counts in zip(result["classes"], result["test/confusion_matrix"], strict=True):
        scores = (result[f"test/{score}/{name}"] for score in ("recall", "precision", "f1"))
        by_class.add_row(name, *map(str, counts), *("–" if x is None else f"{100 * x:.1f} %" for x in scores))
    console.print(by_class)
    if worse := [key for key in result if key.startswith("robustness/")]:
        console.print("  accuracy when the images get worse, by how much")
    for key in worse:
        cells = "   ".join(f"{amount:g}: {100 * share:.1f} %" for amount, share in result[key])
        console.print(f"  {UNITS[key.partition('/')[2]]:<20} {cells}")


if __name__ == "__main__":
    main()
