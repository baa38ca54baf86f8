"""One training: fit, test, and leave a run folder."""

import os
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hqcnn_lab.config.arguments import check_arguments
from hqcnn_lab.config.check import check, is_on_cpu, slow_precision
from hqcnn_lab.config.interpolation import check_interpolations
from hqcnn_lab.config.key import plain_values
from hqcnn_lab.distributed import follow, is_follower
from hqcnn_lab.error import first_line
from hqcnn_lab.lightning_import_private import import_lightning

if TYPE_CHECKING:
    from hqcnn_lab.record.run_record import RunRecord


def train(config: DictConfig) -> float | None:
    """Fit, test, leave the run folder at `config.paths.output_dir`, and return the monitored validation metric.

    Whatever is raised on the way is written to `status.json` and raised again.
    """
    import_lightning()
    import lightning.pytorch as pl

    from hqcnn_lab.record.idle_average import drop_idle_average
    from hqcnn_lab.record.run_record import FollowerRecord, RunRecord
    from hqcnn_lab.run.tracking import finish_wandb

    _quiet_libraries()
    drop_idle_average(config)
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
        check_arguments(plain_values(config))
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


def _fit_and_test(config: DictConfig, record: "RunRecord") -> dict[str, Any]:
    import torch

    from hqcnn_lab.build import BuildError, build
    from hqcnn_lab.callbacks import AveragedPoint, KeptEpochs, MetricsFirst, ResumeState, StopCheckpoint
    from hqcnn_lab.callbacks.checkpoint_io import WholeFileIO
    from hqcnn_lab.models import ImageClassifier
    from hqcnn_lab.run.anytime import score_kept_epochs
    from hqcnn_lab.run.metrics_file import MetricsFile
    from hqcnn_lab.run.summary import about_split, absent, after_fit, after_test, metrics, print_result, sizes
    from hqcnn_lab.run.tracking import make_loggers, mirror_test

    plain = plain_values(config)
    data = build(plain["dataset"])
    data.keep_in = plain["paths"]["cache_dir"]
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
    kept = KeptEpochs(record.folder / "checkpoints", plain["test_after"])
    stop = StopCheckpoint(record.folder / "checkpoints")
    callbacks = [MetricsFirst(), AveragedPoint(), *chosen, ResumeState(), kept, stop]
    # Our samplers handle several processes; Lightning's would show some test images twice.
    parts: dict[str, Any] = {"plugins": [WholeFileIO()], "use_distributed_sampler": False}
    if plain["trainer"]["devices"] == [0] and is_on_cpu(plain["trainer"]["accelerator"]):
        parts["devices"] = 1  # Lightning takes a list for GPUs alone
    if plain["trainer"].get("deterministic") is False and not torch.are_deterministic_algorithms_enabled():
        parts["deterministic"] = None  # to be told that nothing changes, torch imports its compiler
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
    if best == "":  # trainer.max_steps or max_time ended it before the first validation: there is one candidate
        print("best: nothing was validated as it trained; validating and testing what it came to", flush=True)
        trainer.validate(model, datamodule=data, verbose=False)
        summary |= metrics(trainer, "val/")
    trainer.test(model, datamodule=data, ckpt_path=best or None, weights_only=True, verbose=False)
    summary |= after_test(trainer, model)
    summary |= score_kept_epochs(trainer, model, data, kept, config.seed)
    if not trainer.is_global_zero:
        return summary
    summary |= absent(summary, data.classes)
    record.write_predictions(data.names, data.labels, list(data.classes), model.predictions)
    figures = _draw_figures(record) if plain["figures"] else {}
    mirror_test(loggers, summary, figures, data, model, plain["logger"].get("images", 0))
    print_result(summary, record.folder)
    return summary


def _fit_at_once(trainer: Any, model: Any, data: Any, record: "RunRecord") -> dict[str, Any]:
    """Fit what learns without gradients, or from what a network has learned; validate, and keep it as `last.ckpt`."""
    import torch

    from hqcnn_lab.callbacks.checkpoint_io import WholeFileIO
    from hqcnn_lab.run.summary import metrics

    print(f"fitting {type(model.net).__name__} on {len(data.split.train)} images", flush=True)
    began = time.perf_counter()
    learned = model.net.fit(data) or {}
    seconds = time.perf_counter() - began
    trainer.validate(model, datamodule=data, verbose=False)
    path = record.folder / "checkpoints" / "last.ckpt"
    before = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {"epoch": -1}
    now = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    WholeFileIO().save_checkpoint(before | now | {"pytorch-lightning_version": version("lightning")}, path)
    trained = {} if trainer.optimizers else {"seconds/training": seconds}
    return metrics(trainer, "val/") | trained | learned


def _draw_figures(record: "RunRecord") -> dict[str, Path]:
    """`figures/*.png`, where each is; an error here does not end a run that is trained and tested."""
    from hqcnn_lab.figures.run import run_figures

    try:
        return {name: record.write_figure(name, figure) for name, figure in run_figures(record.folder).items()}
    except Exception as error:
        print(f"figures: not drawn ({first_line(error)})", flush=True)
        return {}


def _quiet_libraries() -> None:
    """Leave warnings and progress; drop what is noise in a run folder's log and on a terminal."""
    import logging
    import warnings

    # W&B's last lines and crash reports; what a user set stays.
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # Hydra handles the root logger: Lightning's own handler would print every line twice. (Alembic comes with MONAI.)
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib", "alembic"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    # Batches are one indexing call on an array in memory; worker processes would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Lightning says this of every short run, for which it only means that few steps are logged.
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # RunRecord has checked that the folder holds no other run's log.
    warnings.filterwarnings("ignore", message=".*Experiment logs directory.*")
    # A resumed run writes to its own folder. This warns that the best checkpoint is lost; BestCheckpoint copies it.
    warnings.filterwarnings("ignore", message=".*The dirpath has changed.*")
    # A class without images: its scores are left out, and the table at the end says so.
    warnings.filterwarnings("ignore", message=".*No positive samples in targets.*")
    # Lightning's own use of torch.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
