"""What the circuits cost: an epoch of the hybrid network beside one of its classical twin, in turns, in one process.

    python benchmarks/epoch.py                      # the defaults of experiment=hqcnn_gvco
    python benchmarks/epoch.py model.n_circuits=64  # any override of conf/

Both networks train on the same phantom images with the whole path in place: loader, augmentation, optimizer, weight
averaging, logging, validation.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings

import lightning.pytorch as pl
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from hqcnn_lab.build import build
from hqcnn_lab.config.compose import compose
from hqcnn_lab.models import ImageClassifier


def epoch_seconds(overrides: list[str], data: pl.LightningDataModule) -> float:
    """Seconds of one epoch, training and validation, after one warm-up epoch."""

    class Clock(pl.Callback):
        marks: list[float] = []

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.marks.append(time.perf_counter())

        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        overrides = [*overrides, "dataset=phantom", "name=benchmark", f"paths.output_dir={folder}"]
        config = OmegaConf.to_container(compose([*overrides, "trainer.max_epochs=2"]), resolve=True)
        pl.seed_everything(0, verbose=False)
        parts = {key: config[key] for key in ("model", "optim", "scheduler")}
        model = ImageClassifier(**parts, classes=list(data.classes), image_size=config["dataset"]["image_size"])
        clock = Clock()
        specs = {name: spec for name, spec in config["callbacks"].items() if spec and name != "progress"}
        callbacks = [clock, *(build(spec) for spec in specs.values())]
        trainer = build(config["trainer"] | {"enable_progress_bar": False}, callbacks=callbacks, logger=False)
        trainer.fit(model, datamodule=data)
    return clock.marks[2] - clock.marks[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of conf/, as on the command line of hqcnn_lab.train")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each network (default 5)")
    parser.add_argument("--images", type=int, default=1600, help="images of the data set (default 1600)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    overrides = arguments.overrides or ["experiment=hqcnn_gvco"]
    dataset = compose(
        [*overrides, "dataset=phantom", f"dataset.n_train={arguments.images}", "dataset.n_test=8"]
    ).dataset
    data = build(OmegaConf.to_container(dataset, resolve=True))
    data.setup()
    seconds: dict[str, list[float]] = {"hqcnn": [], "hqcnn_twin": []}
    for _ in range(arguments.rounds):
        for model, measured in seconds.items():
            measured.append(epoch_seconds([*overrides, f"model={model}"], data))
    table = Table(
        "network", "s an epoch", "of its twin's", title=f"{len(data.split.train)} images, {' '.join(overrides)}"
    )
    ratios = [hybrid / twin for hybrid, twin in zip(*seconds.values(), strict=True)]
    table.add_row("hqcnn", f"{statistics.median(seconds['hqcnn']):.2f}", f"{statistics.median(ratios):.2f}")
    table.add_row("hqcnn_twin", f"{statistics.median(seconds['hqcnn_twin']):.2f}", "1")
    Console().print(table)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"median of {arguments.rounds} rounds in turns, ratios {min(ratios):.2f} to {max(ratios):.2f}; {where}")


if __name__ == "__main__":
    main()
