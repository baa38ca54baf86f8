"""Export a trained network as ONNX, checked against the original: `python -m hqcnn_lab.export --help`."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.command import run_command
from hqcnn_lab.config.new_path import check_new, free_name
from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.run.find_run import UNUSED, find_run, load

if TYPE_CHECKING:
    from hqcnn_lab.models.trained import TrainedModel

DESCRIPTION = """\
Write the network of a run as an ONNX file, for any runtime, in any language: images [batch, 1, side, side] in [0, 1]
to logits [batch, classes], in float32, for batches of every size. Its circuits are in it exactly, as products of real
matrices. The file appears only after onnxruntime gave the same logits as the original, to 1e-4. Classes, side and how
an image is prepared are in its metadata: docs/predict.md.

  python -m hqcnn_lab.export run=latest                  the newest run that has finished; to <its name>.onnx
  python -m hqcnn_lab.export run=runs/… out=model.onnx
"""

TOLERANCE = 1e-4  # of a logit
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class ExportError(ValueError):
    """What was asked for cannot be done; the message is one line."""


def main(argv: Sequence[str] | None = None) -> None:
    """Export what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    run_command(
        "hqcnn_lab.export",
        "export",
        DESCRIPTION,
        _export,
        argv,
        check=_check,
        unused=UNUSED,
        errors=(ExportError,),
    )


def _check(config: DictConfig) -> None:
    check_values(config)
    find_run(config)
    if config.out is not None:
        if Path(config.out).suffix != ".onnx":
            raise ConfigError(f"out={config.out}: must be a new file that ends in .onnx")
        check_new(Path(config.out).expanduser())
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f'an export needs {", ".join(missing)}; pip install "hqcnn-lab[export]"')


def _export(config: DictConfig) -> None:
    trained = load(config)
    name = (trained.folder or trained.checkpoint).resolve().name.removesuffix(".ckpt")
    out = free_name(Path(f"{name}.onnx")) if config.out is None else Path(config.out).expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as scratch:
        write_onnx(trained, scratch)
        difference = largest_difference(trained, scratch)
        if not difference <= TOLERANCE:
            raise ExportError(f"out={out}: not written, its logits differ by {difference:.2g} from the original's")
    print(f"written to {out}: {out.stat().st_size / 2**20:.1f} MiB, logits within {difference:.1g} of the original's")


def write_onnx(trained: "TrainedModel", path: Path) -> None:
    """Write the network to `path`; raises `ExportError` for circuits that are drawn at random or too large."""
    import logging
    import warnings

    import torch

    from hqcnn_lab.models.estimator import Fitted
    from hqcnn_lab.quantum.frozen import freeze

    if any(isinstance(part, Fitted) for part in trained.net.modules()):
        raise ExportError(f"run={trained.checkpoint}: a part of it is a classifier of scikit-learn, not exported")
    try:
        network = freeze(trained.net.cpu())
    except ValueError as error:
        raise ExportError(f"run={trained.checkpoint}: cannot be exported, {error}") from None
    images = torch.zeros(2, 1, trained.image_size, trained.image_size)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # says that torchvision is absent, once for each of its ops
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export's own use of torch
        program = torch.onnx.export(
            network,
            (images,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props.update(_metadata(trained))
    program.save(path)


def _metadata(trained: "TrainedModel") -> dict[str, str]:
    darkest, brightest = "its darkest pixel", "its brightest"
    if trained.by_series:
        darkest, brightest = "the 1st percentile of its series", "the 99th"
    side = trained.image_size
    return {
        "classes": json.dumps(trained.classes, ensure_ascii=False),
        "image_size": str(side),
        "preprocessing": f"gray, resized to {side}×{side} by an antialiased bilinear filter, then {darkest} is 0 "
        f"and {brightest} 1, with nothing beyond",
    }


def largest_difference(trained: "TrainedModel", path: Path) -> float:
    """Between the logits of the file, run by onnxruntime, and the network's own in float32, over batches of 1 and 7."""
    import numpy as np
    import onnxruntime
    import torch

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    network = trained.net.cpu()
    largest = 0.0
    for n_images in (1, 7):
        images = np.random.default_rng(n_images).random((n_images, 1, *[trained.image_size] * 2), dtype=np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        [found] = session.run(["logits"], {"images": images})
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest


if __name__ == "__main__":
    main()
