"""Classify images, or DICOM files, with a trained network: `python -m hqcnn_lab.predict --help`."""

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.command import run_command
from hqcnn_lab.config.new_path import check_new, free_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.whole_file import whole_file, whole_folder
from hqcnn_lab.run.find_run import UNUSED, find_run, load
from hqcnn_lab.run.how_far import with_progress

if TYPE_CHECKING:
    from torch import Tensor

    from hqcnn_lab.data.inputs import Inputs
    from hqcnn_lab.models.trained import TrainedModel

DESCRIPTION = """\
Classify an image, a DICOM file, or all of a folder, with the network of a run: the probability of each class, and on
request where the network looks. Images are read as in training, so a test image gets what the run's predictions.csv
has for it. Files that cannot be read are named and passed over. Not a diagnosis: docs/predict.md.

  python -m hqcnn_lab.predict run=latest input=scan.dcm                        the newest run that has finished
  python -m hqcnn_lab.predict run=runs/… input=folder out=answers.csv          or answers.json
  python -m hqcnn_lab.predict run=runs/… input=scan.png explain=true           pictures in scan_explained/
  python -m hqcnn_lab.predict run=runs/…/checkpoints/best.ckpt input=scan.dcm
"""

N_SHOWN = 40  # images, on the terminal
EXPLAINED = 8  # images at a time
_LONGEST_NAME = 255  # bytes


class PredictError(ValueError):
    """What was asked for cannot be done; the message is one line."""


def main(argv: Sequence[str] | None = None) -> None:
    """Predict what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    run_command(
        "hqcnn_lab.predict",
        "predict",
        DESCRIPTION,
        predict,
        argv,
        check=_check,
        unused=UNUSED,
        errors=(PredictError,),
    )


def _check(config: DictConfig) -> None:
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
    """Print, and write, what the network makes of `config.input`."""
    import torch

    from hqcnn_lab.data.inputs import read_inputs

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
        text = _as_json if out.suffix == ".json" else _as_csv
        with whole_file(out) as scratch:
            scratch.write_text(text(trained, inputs, probabilities, brain), encoding="utf-8")
        print(f"written to {out}", flush=True)
    if config.explain:
        # Without out=, where the user is: what the images lie in may be an archive.
        folder = free_name(_pictures(out or Path(Path(config.input).expanduser().resolve().name or "input")))
        _explain(folder, trained, inputs, probabilities)
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


def _as_csv(trained: "TrainedModel", inputs: "Inputs", probabilities: "Tensor", brain: "Tensor | None") -> str:
    """As a run's predictions.csv, which knows a label besides; with how sure it is of a brain, where it tells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    stage_one = [[]] * len(inputs.names) if brain is None else [[f"{p:.6f}"] for p in brain.tolist()]
    header = ["file", "prediction", *(f"p/{name}" for name in trained.classes)]
    writer.writerow(header + ["brain"] * (brain is not None))
    for name, row, more in zip(inputs.names, probabilities, stage_one, strict=True):
        writer.writerow([name, trained.classes[int(row.argmax())], *(f"{p:.6f}" for p in row.tolist()), *more])
    return text.getvalue()


def _as_json(trained: "TrainedModel", inputs: "Inputs", probabilities: "Tensor", brain: "Tensor | None") -> str:
    images: list[dict[str, Any]] = [
        {
            "file": name,
            "prediction": trained.classes[int(row.argmax())],
            "probabilities": {c: round(p, 6) for c, p in zip(trained.classes, row.tolist(), strict=True)},
        }
        for name, row in zip(inputs.names, probabilities, strict=True)
    ]
    for image, p in zip(images, [] if brain is None else brain.tolist(), strict=brain is not None):
        image["brain"] = round(p, 6)
    skipped = [{"file": name, "reason": reason} for name, reason in inputs.skipped]
    about = {"checkpoint": trained.checkpoint.name, "epoch": trained.epoch, "classes": trained.classes}
    return json.dumps(about | {"images": images, "skipped": skipped}, indent=2, ensure_ascii=False) + "\n"


def _picture_of(name: str, number: int) -> Path:
    """The file of an image's picture: its own name, shortened where a file system would not take it."""
    path = Path(f"{name}.png")
    return path if len(os.fsencode(path.name)) <= _LONGEST_NAME else path.with_name(f"{path.name[:40]}…{number}.png")


def _explain(folder: Path, trained: "TrainedModel", inputs: "Inputs", probabilities: "Tensor") -> None:
    """A picture for each image, of what speaks for the class it is taken for; the folder appears once it is whole."""
    import torch

    from hqcnn_lab.figures.heat_map import heat_map_figure
    from hqcnn_lab.models.explain import NoGradient, integrated_gradients, occlusion

    classes = probabilities.argmax(1)
    print(f"explaining {len(classes)} image{'s' if len(classes) > 1 else ''}", file=sys.stderr, flush=True)
    with whole_folder(folder) as scratch:
        batches = torch.arange(len(classes)).split(EXPLAINED)
        for index in with_progress(batches, [len(batch) for batch in batches], "explained"):
            images = torch.from_numpy(inputs.images[index.numpy()]).float().unsqueeze(1).to(trained.device)
            chosen = classes[index].to(trained.device)
            side = max(trained.image_size // 8, 2)  # of the square that is taken away
            try:
                looks = integrated_gradients(trained.net, images, chosen).cpu().numpy()
            except NoGradient:
                looks = [None] * len(images)
            falls = occlusion(trained.net, images, chosen, patch=side, stride=side // 2)
            for i, image, look, fall in zip(index.tolist(), images, looks, falls, strict=True):
                answer = f"{trained.classes[classes[i]]} ({100 * probabilities[i].max():.0f} %)"
                figure = heat_map_figure(image[0].cpu().numpy(), look, fall.cpu().numpy(), answer)
                path = scratch / _picture_of(inputs.names[i], i)
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
