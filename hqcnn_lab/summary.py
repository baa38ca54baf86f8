"""What a run came to: the flat figures of `summary.json`, and the table at its end."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.table import Table

from hqcnn_lab.analysis.interval import wilson_interval
from hqcnn_lab.analysis.neighbour import nearest_neighbour_accuracy
from hqcnn_lab.callbacks import Convergence
from hqcnn_lab.data import ImageDataModule
from hqcnn_lab.models import ImageClassifier


def after_fit(trainer: pl.Trainer, data: ImageDataModule) -> dict[str, Any]:
    """Training's share of the summary: validation of the last epoch, convergence, sizes."""
    convergence = next((c for c in trainer.callbacks if isinstance(c, Convergence)), None)
    sizes = {"quantum": 0, "classical": 0}
    for group in trainer.optimizers[0].param_groups:
        sizes[group["group"]] += sum(p.numel() for p in group["params"])
    return {
        **{
            name: value.item()
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("train/", "val/"))
        },
        **(convergence.summary() if convergence else {}),
        **{f"params/{name}": size for name, size in sizes.items()},
        **{f"images/{part}": len(indices) for part, indices in zip(data.split._fields, data.split, strict=True)},
        "images/skipped": len(data.skipped),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
    }


def after_test(trainer: pl.Trainer, model: ImageClassifier, data: ImageDataModule) -> dict[str, Any]:
    """The test's share of the summary, beside the accuracy of a nearest neighbour, which learns nothing."""
    seen = list(data.split.train) + list(data.split.val)
    test = data.split.test
    neighbour = nearest_neighbour_accuracy(data.images[seen], data.labels[seen], data.images[test], data.labels[test])
    return {
        **{name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")},
        "test/confusion_matrix": model.confusion_matrix,
        "baseline/nearest_neighbour_accuracy": neighbour,
    }


def print_result(summary: dict[str, Any], folder: Path) -> None:
    """The table at the end of a run."""
    n_test = sum(map(sum, summary["test/confusion_matrix"].tolist()))
    low, high = wilson_interval(round(summary["test/accuracy"] * n_test), n_test)
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    rows = {
        "test accuracy": f"{100 * summary['test/accuracy']:.2f} %  (95 % interval {interval}, {n_test} images)",
        "nearest neighbour": f"{100 * summary['baseline/nearest_neighbour_accuracy']:.2f} %  (learns nothing)",
        "test macro F1": f"{summary['test/macro_f1']:.4f}",
        "test AUROC": f"{summary['test/auroc']:.4f}",
        "validation accuracy": f"{100 * summary.get('val/accuracy', float('nan')):.2f} %",
        "parameters": f"{summary['params/classical']:,} classical, {summary['params/quantum']:,} quantum",
        "training": f"{summary['epochs']} epochs, {summary.get('seconds/epoch', float('nan')):.1f} s each",
    }
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    print(f"  {'run folder':<19}    {folder}", flush=True)  # on its own: a table would cut a long path
