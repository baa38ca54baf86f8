"""Train and test one model, or a sweep of them: `python -m hqcnn_lab.train --help`."""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.arguments import check_arguments
from hqcnn_lab.command import CommandParser, help_of_train
from hqcnn_lab.config import CONFIG_DIR, as_override, check_command_line, check_folders, compose_sweep
from hqcnn_lab.distributed import follow, is_follower
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.interpolation import check_interpolations
from hqcnn_lab.rules import check, is_on_cpu, slow_precision


def main() -> None:
    """Refuse a wrong command line; hand a right one to Hydra, which trains once or runs every job of a sweep."""
    # A job that is told to end says so in its status and its exit code; Lightning's own handler would exit with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    arguments = _arguments()
    foreign_config = arguments.config_path or arguments.config_name or arguments.config_dir
    try:
        if arguments.help and not foreign_config:
            print(help_of_train(arguments.overrides))
            return
        if not (arguments.hydra_help or arguments.shell_completion or foreign_config):
            _check(arguments)
    except ConfigError as error:
        sys.exit(f"error: {first_line(error)}")
    except SystemExit:
        print("interrupted; nothing was begun", flush=True)
        raise
    start = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="config")(_job)
    wants_tracebacks = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints one itself, and ends this process
    try:
        if arguments.multirun and not (arguments.hydra_help or foreign_config or arguments.cfg):
            _sweep(arguments.overrides, start)
        else:
            start()
    except Exception as error:
        if wants_tracebacks:
            raise
        sys.exit(f"error: {type(error).__name__}: {first_line(error)[:300]} (HYDRA_FULL_ERROR=1 shows where it arose)")


def _arguments() -> argparse.Namespace:
    """What is asked for; options may stand anywhere, and are put first, where Hydra reads them."""
    parser = get_args_parser()
    parser.error = partial(CommandParser.error, parser)
    arguments = parser.parse_intermixed_args()
    options = sys.argv[1:]
    for line in arguments.overrides:
        options.remove(line)
    sys.argv[1:] = [*options, *arguments.overrides]
    return arguments


def _check(arguments: argparse.Namespace) -> None:
    """Of everything that is to run; what has to import torch and Lightning, as the run would, comes last."""
    jobs: list[dict[str, Any]] = []

    def look(config: DictConfig) -> None:
        check(config, in_sweep=arguments.multirun)
        jobs.append(OmegaConf.to_container(config, resolve=True))

    check_command_line(arguments.overrides, arguments.multirun, check=look)
    if not arguments.cfg and not is_follower():
        check_folders(arguments.overrides, arguments.multirun)
        for job in jobs:
            check_arguments(job)


def _sweep(overrides: list[str], start: Callable[[], None]) -> None:
    import logging

    from hqcnn_lab.multirun import run_sweep

    logging.getLogger("alembic").setLevel(logging.WARNING)  # lists its plugins where Optuna keeps its trials
    # Its folder, which may be named by the time, is settled here, so that it is known before and after.
    config = compose_sweep(overrides)
    given = any(line.startswith("hydra.sweep.dir=") for line in overrides)
    sys.argv += [] if given else [as_override("hydra.sweep.dir", config.hydra.sweep.dir)]
    run_sweep(overrides, config, start)


def _job(config: DictConfig) -> float | None:
    """`train`, with what ends it said in one line; tracebacks are in `status.json`."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from hqcnn_lab.multirun import run_job

        return run_job(config)
    try:
        from hqcnn_lab.resume import continue_run

        if config.resume and not is_follower() and not continue_run(config, config.paths.runs_dir):
            return None
        return train(config)
    except SystemExit as end:
        if end.code in (128 + signal.SIGINT, 128 + signal.SIGTERM) and not is_follower():
            print(f"interrupted; {_how_to_go_on(config)}", flush=True)
        raise
    except Exception as error:
        if (reason := _reason(error, Path(config.paths.output_dir))) is None:
            raise
        sys.exit(f"error: {config.name}: {reason}")
    finally:
        for folder in (config.paths.output_dir, HydraConfig.get().runtime.output_dir):
            with suppress(OSError):
                Path(folder).rmdir()  # Hydra has made it, and nothing has come into it


def _how_to_go_on(config: DictConfig) -> str:
    folder = Path(config.paths.output_dir).absolute()
    ours = ("resume", "ckpt_path", "hydra.run.dir", "paths.output_dir")
    words = [shlex.quote(word) for word in sys.argv[1:] if word.lstrip("+").partition("=")[0] not in ours]
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if config.ckpt_path is not None and not checkpoint.exists():
        return f"the same command goes on from {config.ckpt_path} again"
    if not checkpoint.exists():
        return "before there was a checkpoint: the same command starts anew"
    if folder.parent == Path(config.paths.runs_dir).absolute():
        words.append("resume=auto")
    else:
        words.append(shlex.quote(as_override("ckpt_path", str(checkpoint))))
    return f"to go on: python -m hqcnn_lab.train {' '.join(words)}"


def _reason(error: Exception, folder: Path) -> str | None:
    """What to say of it in a line; None where its traceback would be lost by that."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from hqcnn_lab.build import BuildError
    from hqcnn_lab.data.cache import CacheError
    from hqcnn_lab.data.datamodule import UnusableData
    from hqcnn_lab.models.classifier import TrainingDiverged

    plain = (BuildError, CacheError, ConfigError, UnusableData, MisconfigurationException, OSError, TrainingDiverged)
    if isinstance(error, plain):
        return first_line(error)
    if is_follower() or not (folder / "status.json").exists():
        return None
    return f"{type(error).__name__}: {first_line(error)[:300]}; where it arose is in {folder}/status.json"


def train(config: DictConfig) -> float | None:
    """Fit, test, leave the run folder at `config.paths.output_dir`, and return the monitored validation metric.

    Whatever is raised on the way is written to `status.json` and raised again.
    """
    import lightning.pytorch as pl

    from hqcnn_lab.record import FollowerRecord, RunRecord
    from hqcnn_lab.tracking import finish_wandb

    _quiet_libraries()
    if is_follower():
        record: RunRecord = FollowerRecord(config.paths.output_dir)
        config.ckpt_path = record.ckpt_path()
        follow()
    else:
        record = RunRecord(config.paths.output_dir)
    failed = True
    try:
        check_interpolations(config)
        check(config)
        check_arguments(OmegaConf.to_container(config, resolve=True))
        record.describe(config)
        pl.seed_everything(config.seed, workers=True, verbose=False)
        summary = _fit_and_test(config, record)
        record.finish(summary)
        failed = False
        return summary.get(config.monitor)
    except BaseException as error:
        record.fail(error)
        raise
    finally:
        finish_wandb(failed)


def _fit_and_test(config: DictConfig, record: Any) -> dict[str, Any]:
    from hqcnn_lab.build import BuildError, build
    from hqcnn_lab.callbacks import MetricsFirst, ResumeState, StopCheckpoint
    from hqcnn_lab.checkpoint_io import WholeFileIO
    from hqcnn_lab.metrics_file import MetricsFile
    from hqcnn_lab.models import ImageClassifier
    from hqcnn_lab.summary import about_split, absent, after_fit, after_test, metrics, print_result, sizes
    from hqcnn_lab.tracking import make_loggers, mirror_test

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)
    data = build(plain["dataset"])
    data.prepare_data()
    data.setup()
    data.require_batches(plain["trainer"])
    audit = data.audit()
    for line in [*data.describe(), *(f"skipped {name}: {reason}" for name, reason in data.skipped)]:
        print(line, flush=True)
    if slow := slow_precision(config):
        print(f"warning: {slow}", flush=True)
    record.write_table("skipped_files.csv", ["file", "reason"], data.skipped)
    record.write("split_manifest.csv", data.manifest_text())
    if audit:
        record.write_json("audit.json", asdict(audit))

    model = ImageClassifier(
        model=plain["model"],
        optim=plain["optim"],
        scheduler=plain["scheduler"],
        classes=list(data.classes),
        image_size=plain["dataset"]["image_size"],
        label_smoothing=plain["label_smoothing"],
    )
    loggers = [MetricsFile(record.folder), *make_loggers(plain, data.split_name)]
    chosen = [build(spec) for spec in plain["callbacks"].values() if spec]
    callbacks = [MetricsFirst(), *chosen, ResumeState(), StopCheckpoint(record.folder / "checkpoints")]
    # Samplers here know of several processes; Lightning's own would show some test images twice.
    parts: dict[str, Any] = {"plugins": [WholeFileIO()], "use_distributed_sampler": False}
    if plain["trainer"]["devices"] == [0] and is_on_cpu(plain["trainer"]["accelerator"]):
        parts["devices"] = 1  # Lightning takes a list for GPUs alone
    trainer = build(plain["trainer"], callbacks=callbacks, logger=loggers, **parts)
    if plain["optim"]["_target_"]:
        if hasattr(model.net, "load_initial_weights") and plain["ckpt_path"] is None:
            try:
                model.net.load_initial_weights()
            except ValueError as error:
                raise BuildError(first_line(error)) from None
        trainer.fit(model, datamodule=data, ckpt_path=plain["ckpt_path"], weights_only=True)
    summary = about_split(data, audit) | after_fit(trainer, data)
    if hasattr(model.net, "fit"):
        summary |= _fit_at_once(trainer, model, data, record)
    summary |= sizes(model.net)
    # After a fit the model holds the last epoch's weights, averaged where that is on.
    best = trainer.checkpoint_callback.best_model_path if plain["test_checkpoint"] == "best" else None
    if best == "":  # trainer.max_steps or max_time came before the first validation: there is one candidate alone
        print("best: nothing was validated as it trained; validating and testing what it came to", flush=True)
        trainer.validate(model, datamodule=data, verbose=False)
        summary |= metrics(trainer, "val/")
    trainer.test(model, datamodule=data, ckpt_path=best or None, weights_only=True, verbose=False)
    if not trainer.is_global_zero:
        return summary
    summary |= after_test(trainer, model)
    summary |= absent(summary, data.classes)
    record.write_predictions(data.names, data.labels, list(data.classes), model.predictions)
    figures = _draw_figures(record) if plain["figures"] else {}
    mirror_test(loggers, summary, figures, data, model, plain["logger"].get("images", 0))
    print_result(summary, record.folder)
    return summary


def _fit_at_once(trainer: Any, model: Any, data: Any, record: Any) -> dict[str, Any]:
    """What learns without gradients, or is fitted on what a network has learned: fit, validate, keep as `last.ckpt`."""
    import lightning.pytorch as pl
    import torch

    from hqcnn_lab.checkpoint_io import WholeFileIO
    from hqcnn_lab.summary import metrics

    print(f"fitting {type(model.net).__name__} on {len(data.split.train)} images", flush=True)
    began = time.perf_counter()
    found = model.net.fit(data) or {}
    seconds = time.perf_counter() - began
    trainer.validate(model, datamodule=data, verbose=False)
    path = record.folder / "checkpoints" / "last.ckpt"
    before = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {"epoch": -1}
    now = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    WholeFileIO().save_checkpoint(before | now | {"pytorch-lightning_version": pl.__version__}, path)
    trained = {} if trainer.optimizers else {"seconds/training": seconds}
    return metrics(trainer, "val/") | trained | found


def _draw_figures(record: Any) -> dict[str, Path]:
    """`figures/*.png`, where each is; a run that is trained and tested is not lost for want of a picture."""
    from hqcnn_lab.analysis.run_figures import run_figures

    try:
        return {name: record.write_figure(name, figure) for name, figure in run_figures(record.folder).items()}
    except Exception as error:
        print(f"figures: not drawn ({first_line(error)})", flush=True)
        return {}


def _quiet_libraries() -> None:
    """Leave warnings and progress; drop what is noise in a run folder's log and on a terminal."""
    import logging
    import warnings

    # W&B's farewell and crash reports; what a user set stays.
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # Hydra handles the root logger: Lightning's own handler would print every line twice. (Alembic comes with MONAI.)
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib", "alembic"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    # Batches are one indexing call on an array in memory; worker processes would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Said of every short run, in words that are not this lab's: metrics by step are then few.
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # RunRecord has made sure that the folder holds no other run's log.
    warnings.filterwarnings("ignore", message=".*Experiment logs directory.*")
    # A resumed run writes to its own folder; BestCheckpoint takes along what this warns would be lost.
    warnings.filterwarnings("ignore", message=".*The dirpath has changed.*")
    # Of a class without images: its scores are left out, and the table at the end says so.
    warnings.filterwarnings("ignore", message=".*No positive samples in targets.*")
    # Lightning's own use of torch.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


if __name__ == "__main__":
    main()
