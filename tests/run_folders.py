"""Run folders as runs leave them, without training: for tests and benchmarks of what reads them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def write_run(
    folder: Path,
    optim: str = "Adam",
    seed: int = 0,
    accuracy: float = 0.8,
    classes: tuple[str, ...] = CLASSES,
    n_test: int = 40,
    n_steps: int = 12,
    lr: float = 0.01,
    **settings: Any,
) -> Path:
    """A finished run of a data set that is nowhere; `settings` are top keys of its configuration."""
    rng = np.random.default_rng([seed, sum(map(ord, optim))])
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "name": f"tiny_{optim.lower()}_s{seed}",
        "dataset": {
            "_target_": "hqcnn_lab.data.KaggleDataModule",
            "root": "/home/jane/brain",
            "split": "official",
            "seed": seed,
        },
        "circuit": {"n_wires": 4, "n_layers": 2, "ansatz": "hardware_efficient", "encoder": "angle_y", "readout": "z"}
        | {"seed": 0},
        "model": {"_target_": "hqcnn_lab.models.HQCNN", "kernel": "quantum"},
        "optim": {"_target_": f"torch.optim.{optim}", "lr": lr},
        "trainer": {"max_epochs": 3},
        "paths": {"output_dir": str(folder)},
        **settings,
    }
    labels = np.arange(n_test) % len(classes)
    right = rng.permutation(n_test) < round(accuracy * n_test)
    predicted = np.where(right, labels, (labels + 1) % len(classes))
    top = rng.uniform(0.5, 1, n_test)
    probabilities = np.repeat(((1 - top) / (len(classes) - 1))[:, None], len(classes), 1)
    probabilities[np.arange(n_test), predicted] = top
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labels, predicted), 1)
    summary = {
        "split/kind": "official",
        "split/manifest": "0123456789abcdef",
        "split/leak": "official split: 38 % of test images have a twin in training",
        "baseline/nearest_neighbour_accuracy": 0.9,
        "train/loss": float(rng.uniform(0.2, 0.4)),
        "val/accuracy": float(rng.uniform(0.7, 0.9)),
        "val/loss": 0.5,
        "convergence/epochs_to_90": 2 + seed % 2,
        "seconds/training": 10.0 + seed,
        **{f"params/{kind}": n for kind, n in (("quantum", 128), ("classical", 4000))},
        **{f"images/{part}": n for part, n in (("train", 160), ("val", 20), ("test", n_test))},
        "epochs": 3,
        "steps": n_steps,
        "test/accuracy": float(right.mean()),
        "test/confusion_matrix": counts.tolist(),
    }
    environment = {
        "overrides": [f"optim={optim.lower()}", "dataset=kaggle", "dataset.root=/home/jane/brain", f"seed={seed}"],
        "versions": {"torch": "2.13.0+cpu"},
        "python": "3.11.7",
        "device": "cpu",
        "git": {"commit": "a" * 40, "changed": False},
    }
    status = {
        "status": "finished",
        "started": f"2026-01-01T10:00:{seed:02}+00:00",
        "process": 1,
        "ended": "2026-01-01T11:00:00+00:00",
    }
    for name, content in (("status", status), ("environment", environment), ("summary", summary)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    files = [f"Testing/{i:04}.jpg" for i in range(n_test)]
    _write_csv(
        folder / "predictions.csv",
        ["file", "label", "prediction", *(f"p/{name}" for name in classes)],
        [
            [file, classes[label], classes[guess], *(f"{p:.6f}" for p in row)]
            for file, label, guess, row in zip(files, labels, predicted, probabilities, strict=True)
        ],
    )
    _write_csv(
        folder / "split_manifest.csv",
        ["file", "frame", "content", "split", "label", "group"],
        [
            [file, "0", f"{i:x}", "test", classes[label], str(i // 2)]
            for i, (file, label) in enumerate(zip(files, labels, strict=True))
        ],
    )
    metrics = [
        {"step": step, "epoch": step // 4, "grad/quantum/variance": 1e-4, "grad/classical/variance": 1e-3}
        for step in range(n_steps)
    ]
    metrics += [
        {"step": 4 * e + 3, "epoch": e, "val/accuracy": 0.5 + 0.1 * e, "train/loss": 1 - 0.2 * e} for e in range(3)
    ]
    columns = list(dict.fromkeys(key for row in metrics for key in row))
    _write_csv(folder / "metrics.csv", columns, [[row.get(key, "") for key in columns] for row in metrics])
    return folder


def set_status(folder: Path, **status: Any) -> None:
    """Say of a run that it is not finished: no summary, no predictions."""
    (folder / "status.json").write_text(
        json.dumps({"started": "2026-01-01T10:00:00+00:00", "process": 2**22 + 1, **status})
    )
    for name in ("summary.json", "predictions.csv"):
        (folder / name).unlink(missing_ok=True)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
