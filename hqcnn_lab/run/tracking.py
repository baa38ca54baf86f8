"""The tracking services that mirror a run folder, as `conf/logger/` declares them."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from hqcnn_lab.build import build
from hqcnn_lab.config.choice_name import choice_name
from hqcnn_lab.error import first_line
from hqcnn_lab.wandb_private import image_of, leave_out_anonymous, leave_out_launch

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger, WandbLogger
    from wandb import Run

    from hqcnn_lab.data import ImageDataModule
    from hqcnn_lab.models import ImageClassifier


def make_loggers(config: dict[str, Any], split: str) -> list["Logger"]:
    """The loggers of a plain, resolved config, each told the whole of it; `split` is one of W&B's tags.

    Where W&B is to upload and its server does not take the run (`logger.wandb.settings.init_timeout`), the run is
    logged offline and a line says so. Raises `BuildError` for a logger that cannot be built.
    """
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    for name in ("alembic", "lightning.pytorch.loggers.mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they say that a database is new
    loggers = []
    for spec in config["logger"].values():
        if not isinstance(spec, dict):
            continue
        if spec["_target_"].endswith(".WandbLogger"):
            loggers.append(_start_wandb(spec | _labels(config, split, spec), config))
        else:
            loggers.append(build(spec))
            loggers[-1].log_hyperparams(config)
    return loggers


def _labels(config: dict[str, Any], split: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What a dashboard sorts by: the choices of the command line, or the classes' names where there was none."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    chosen, overrides = (hydra.runtime.choices, hydra.overrides.task) if hydra else ({}, [])
    parts = [
        choice_name(part, chosen.get(part), config[part]["_target_"], overrides)
        for part in ("dataset", "model", "optim")
    ]
    tags = list(dict.fromkeys([*parts, split, *spec.get("tags", [])]))
    return {
        "group": spec.get("group") or "_".join(parts),
        "tags": tags,
        "name": str(spec.get("name") or config["name"]),
    }


def _start_wandb(spec: dict[str, Any], config: dict[str, Any]) -> "WandbLogger":
    import wandb

    # Lightning's own `offline` would set WANDB_MODE for the whole process.
    offline = spec.pop("offline", False)
    if not offline:
        logger = _wandb_logger(spec, mode=None)
        try:
            logger.log_hyperparams(config)  # the first call that asks the server
            return logger
        except (wandb.Error, OSError) as error:
            words = (str(error) or type(error).__name__).splitlines()[0]
            reason = words.replace("<no message>", "the server refused the login")
    logger = _wandb_logger(spec, mode="offline")
    logger.log_hyperparams(config)
    if not offline:
        print(f"W&B went offline: {reason}; later: wandb sync {_folder_of(logger.experiment)}", flush=True)
    return logger


def _wandb_logger(spec: dict[str, Any], mode: str | None) -> "WandbLogger":
    settings = spec.get("settings") or {}
    logger = build(spec | {"mode": mode, "settings": settings | {"finish_timeout_raises": True}})
    leave_out_anonymous(logger)
    leave_out_launch()
    return logger


def _folder_of(run: "Run") -> Path:
    return Path(run.dir).parent


def mirror_test(
    loggers: list["Logger"],
    summary: dict[str, Any],
    figures: dict[str, Path],
    data: "ImageDataModule",
    model: "ImageClassifier",
    n_images: int,
) -> None:
    """Give W&B what a tested run came to: summary, figures, confusion matrix and `n_images` misclassified images.

    Images are captioned with label, prediction and its probability, and with nothing that names a file or a patient.
    An error here does not end the run: a line says what went wrong.
    """
    from lightning.pytorch.loggers import WandbLogger

    try:
        for run in (logger.experiment for logger in loggers if isinstance(logger, WandbLogger)):
            run.summary.update({name: value for name, value in summary.items() if isinstance(value, int | float)})
            run.log(_media(figures, data, model, n_images))
    except Exception as error:
        print(f"W&B: the test is not mirrored ({first_line(error)})", flush=True)


def _media(
    figures: dict[str, Path], data: "ImageDataModule", model: "ImageClassifier", n_images: int
) -> dict[str, Any]:
    """Images only: W&B logs a table, and the confusion matrix it draws itself, by asking the server and waiting."""
    import wandb

    from hqcnn_lab.figures.confusion import confusion_figure

    classes, index = list(data.classes), model.predictions["index"].tolist()
    probability, predicted = (column.tolist() for column in model.predictions["probabilities"].max(1))
    tested = zip(probability, index, data.labels[index].tolist(), predicted, strict=True)
    surest = sorted((row for row in tested if row[2] != row[3]), reverse=True)[:n_images]
    pictures = [
        wandb.Image(
            (255 * data.images[i].astype("float32")).round().astype("uint8"),
            caption=f"{classes[label]} → {classes[prediction]} ({p:.2f})",
        )
        for p, i, label, prediction in surest
    ]
    return {
        **{f"figures/{name}": wandb.Image(str(path)) for name, path in figures.items()},
        **({"test/misclassified": pictures} if pictures else {}),
        "test/confusion_matrix": image_of(confusion_figure(model.confusion_matrix.numpy(), classes)),
    }


def finish_wandb(failed: bool) -> None:
    """Close the W&B run, or the next run of this process would go on writing into it.

    What is not uploaded after `logger.wandb.settings.finish_timeout` seconds stays on disk, and a line says where.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    folder = _folder_of(wandb.run)
    try:
        wandb.finish(exit_code=int(failed))
    except TimeoutError:
        print(f"W&B: the upload took too long and was given up; later: wandb sync {folder}", flush=True)
    except Exception as error:
        print(f"W&B: not closed ({first_line(error)}); its files are in {folder}", flush=True)
