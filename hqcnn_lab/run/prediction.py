"""A prediction: what a network makes of images that are no data set; printed, written, explained."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.new_path import check_new, free_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.run.find_run import find_run, load

if TYPE_CHECKING:
    from torch import Tensor

    from hqcnn_lab.data.inputs import Inputs
    from hqcnn_lab.models.trained import TrainedModel

N_SHOWN = 40  # images, on the terminal


class PredictError(ValueError):
    """What was asked for cannot be done; the message is one line."""


def check_prediction(config: DictConfig) -> None:
    """Raise `ConfigError` for what cannot be asked for, before anything is loaded."""
    check_values(config)
    find_run(config)
    if not config.input:
        raise ConfigError("input: not set; give an image, a DICOM file, or a folder of them")
    if not Path(config.input).expanduser().exists():
        pattern = "; patterns are not taken, give the folder" if set(config.input) & set("*?[") else ""
        raise ConfigError(f"input={config.input}: there is no such file or folder{pattern}")
    if config.out is not None:
        out = Path(config.out).expanduser()
        if out.suffix not in (".csv", ".json"):
            raise ConfigError(f"out={config.out}: must be a file that ends in .csv or .json")
        if config.explain and os.path.lexists(pictures := _pictures(out)):
            raise ConfigError(
                f"out={config.out}: {pictures.name} is there already, and nothing is ever overwritten; "
                f"out={free_name(out, _is_taken)} is free"
            )
        check_new(out, _is_taken if config.explain else os.path.lexists)


def _pictures(out: Path) -> Path:
    return out.with_name(f"{out.stem}_explained")


def _is_taken(out: Path) -> bool:
    return os.path.lexists(out) or os.path.lexists(_pictures(out))


def predict(config: DictConfig) -> None:
    """Print what the network makes of `config.input`; write it, and where it looks, where the configuration asks.

    Raises `PredictError` where no image can be read.
    """
    import torch

    from hqcnn_lab.data.inputs import read_inputs
    from hqcnn_lab.run.prediction_file import csv_of, json_of

    trained = load(config)
    if ((trained.config or {}).get("dataset") or {}).get("_target_") == "hqcnn_lab.data.PhantomDataModule":
        print("note: this network was trained on drawn images; of real scans it knows nothing", file=sys.stderr)
    try:
        inputs = read_inputs(config.input, trained.image_size, trained.by_series)
    except ValueError as error:
        raise PredictError(f"input={config.input}: {error}") from None
    if not inputs.names:
        first = ": ".join(inputs.skipped[0])
        raise PredictError(
            f"input={config.input}: no image can be read, {len(inputs.skipped)} skipped, such as {first}"
        )
    for name, reason in inputs.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr, flush=True)
    torch.manual_seed(0)  # for circuits with shots or noise
    probabilities = trained.logits(inputs.images).softmax(1)
    out = None if config.out is None else Path(config.out).expanduser()
    _print(trained, inputs, probabilities, out)
    brain = trained.is_brain(inputs.images)
    for name, p in zip(inputs.names, [] if brain is None else brain.tolist(), strict=brain is not None):
        if p <= 0.5:
            print(f"{name}: taken for no brain ({100 * p:.0f} % sure of one), so its class means nothing", flush=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text_of = json_of if out.suffix == ".json" else csv_of
        with whole_file(out) as scratch:
            scratch.write_text(text_of(trained, inputs, probabilities, brain), encoding="utf-8")
        print(f"written to {out}", flush=True)
    if config.explain:
        from hqcnn_lab.run.explanation import explain

        # Without out=, in the folder the user is in: the folder of the images may be an archive.
        folder = free_name(_pictures(out or Path(Path(config.input).expanduser().resolve().name or "input")))
        explain(folder, trained, inputs, probabilities)
        print(f"where it looks: a picture for each image, in {folder}/", flush=True)


def _print(trained: "TrainedModel", inputs: "Inputs", probabilities: "Tensor", out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("file", "prediction", box=None, pad_edge=False)
    for name in trained.classes:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for name, row in list(zip(inputs.names, probabilities, strict=True))[:N_SHOWN]:
        best = int(row.argmax())
        cells = [Text(f"{100 * p:.1f} %", style="bold" if i == best else "") for i, p in enumerate(row.tolist())]
        table.add_row(Text(name, overflow="fold"), Text(trained.classes[best], style="bold"), *cells)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if len(inputs.names) > N_SHOWN:
        where = "out=answers.csv would keep them all" if out is None else f"all are in {out}"
        print(f"and {len(inputs.names) - N_SHOWN} images more: {where}")
    sys.stdout.flush()
