"""The file of a prediction: CSV as a run's `predictions.csv`, or JSON with what was skipped besides."""

import json
from typing import TYPE_CHECKING, Any

from hqcnn_lab.record.csv_text import csv_text

if TYPE_CHECKING:
    from torch import Tensor

    from hqcnn_lab.data.inputs import Inputs
    from hqcnn_lab.models.trained import TrainedModel


def csv_of(trained: "TrainedModel", inputs: "Inputs", probabilities: "Tensor", brain: "Tensor | None") -> str:
    """As a run's predictions.csv, which knows a label besides; with how sure it is of a brain, where it tells."""
    header = [
        "file",
        "prediction",
        *(f"p/{name}" for name in trained.classes),
        *(["brain"] if brain is not None else []),
    ]
    stage_one = [[]] * len(inputs.names) if brain is None else [[f"{p:.6f}"] for p in brain.tolist()]
    rows = (
        [name, trained.classes[int(row.argmax())], *(f"{p:.6f}" for p in row.tolist()), *more]
        for name, row, more in zip(inputs.names, probabilities, stage_one, strict=True)
    )
    return csv_text(header, rows)


def json_of(trained: "TrainedModel", inputs: "Inputs", probabilities: "Tensor", brain: "Tensor | None") -> str:
    """Each image with its probabilities, the files that were skipped, and which checkpoint answered."""
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
