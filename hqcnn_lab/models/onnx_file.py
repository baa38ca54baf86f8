"""A trained network as an ONNX file, which needs neither this lab nor torch, and how far it is from the original."""

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hqcnn_lab.models.estimator import Fitted
from hqcnn_lab.quantum.frozen import freeze

if TYPE_CHECKING:
    from hqcnn_lab.models.trained import TrainedModel


class NotExportable(ValueError):
    """A network that no ONNX file can hold; the message is one line that says why."""


def write_onnx(trained: "TrainedModel", path: Path) -> None:
    """Write the network to `path`; raises `NotExportable` for circuits that are drawn at random or too large."""
    if any(isinstance(part, Fitted) for part in trained.net.modules()):
        raise NotExportable("a part of it is a classifier of scikit-learn, not exported")
    try:
        network = freeze(trained.net.cpu())
    except ValueError as error:
        raise NotExportable(f"cannot be exported, {error}") from None
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
    assert program is not None  # with dynamo, it is a program
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
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    network = trained.net.cpu()
    largest = 0.0
    for n_images in (1, 7):
        images = np.random.default_rng(n_images).random((n_images, 1, *[trained.image_size] * 2), dtype=np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        [logits] = session.run(["logits"], {"images": images})
        largest = max(largest, float(np.abs(logits - expected).max()))
    return largest
