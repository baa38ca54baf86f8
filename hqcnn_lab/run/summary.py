"""What a run came to: the flat figures of `summary.json`, and the table at its end."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from rich.console import Console
from rich.table import Table
from torch import nn

from hqcnn_lab.analysis.interval import wilson_interval
from hqcnn_lab.callbacks import Convergence, StepSize
from hqcnn_lab.data import ImageDataModule
from hqcnn_lab.data.split.audit import Audit, leak_note
from hqcnn_lab.data.split.manifest import manifest_hash
from hqcnn_lab.data.split.neighbour import nearest_neighbour_right
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.optim import parameter_groups


def about_split(data: ImageDataModule, audit: Audit | None) -> dict[str, Any]:
    """What belongs beside every score: the split, how far its test part was seen in training, and the accuracy of a
    nearest neighbour, which learns nothing."""
    training, test = np.concatenate([data.split.train, data.split.val]), data.split.test
    return {
        "split/kind": data.split_name,
        "split/manifest": manifest_hash(data.manifest_text()),
        "split/leak": leak_note(audit) if audit else None,
        "baseline/nearest_neighbour_accuracy": audit.nearest_neighbour
        if audit
        else float(nearest_neighbour_right(data.images, data.labels, training, test).mean()),
    }


def after_fit(trainer: pl.Trainer, data: ImageDataModule) -> dict[str, Any]:
    """Training's share of the summary: validation of the last epoch, convergence, what the steps were, and numbers of
    images and steps."""
    callbacks: list[pl.Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # a connector sets it
    watchers = [callback for callback in callbacks if isinstance(callback, Convergence | StepSize)]
    return {
        **metrics(trainer, "train/", "val/"),
        **{key: value for watcher in watchers if trainer.optimizers for key, value in watcher.summary().items()},
        **{f"images/{part}": len(indices) for part, indices in zip(data.split._fields, data.split, strict=True)},
        "images/skipped": len(data.skipped),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
    }


def metrics(trainer: pl.Trainer, *prefixes: str) -> dict[str, float]:
    """What was logged last under these prefixes."""
    return {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith(prefixes)}


def absent(summary: dict[str, Any], classes: Sequence[str]) -> dict[str, list[str]]:
    """`val/absent` and `test/absent`: the classes that no image scored was of; neither where there are none."""
    scored = [part for part in ("val", "test") if f"{part}/accuracy" in summary]
    missing = {part: [name for name in classes if f"{part}/recall/{name}" not in summary] for part in scored}
    return {f"{part}/absent": names for part, names in missing.items() if names}


def sizes(net: nn.Module) -> dict[str, int]:
    """Trainable parameters by kind; of what learns without gradients, the numbers that it learned or keeps."""
    if (n_values := getattr(net, "n_values", None)) is not None:
        return {"params/quantum": 0, "params/classical": n_values}
    counts = {"params/quantum": 0, "params/classical": 0}
    for group in parameter_groups(net, lr=0.0):
        counts[f"params/{group['group']}"] += sum(p.numel() for p in group["params"])
    return counts


def after_test(trainer: pl.Trainer, model: ImageClassifier) -> dict[str, Any]:
    """The test's share of the summary."""
    return {
        **metrics(trainer, "test/"),
        "test/confusion_matrix": model.confusion_matrix,
    }


def print_result(summary: dict[str, Any], folder: Path) -> None:
    """The table at the end of a run."""
    n_test = sum(map(sum, summary["test/confusion_matrix"].tolist()))
    low, high = wilson_interval(round(summary["test/accuracy"] * n_test), n_test)
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    of_all = f", drawn of {summary['images/test']}" * (n_test < summary["images/test"])
    leak = (summary["split/leak"] or "").replace(" split:", ":")  # short enough for 80 columns
    rows = {
        "split": leak or f"{summary['split/kind']}, no test image seen in training",
        "test accuracy": f"{100 * summary['test/accuracy']:.2f} %  (95 % interval {interval}, {n_test} images{of_all})",
        "nearest neighbour": f"{100 * summary['baseline/nearest_neighbour_accuracy']:.2f} %  (learns nothing)",
        "test macro F1": f"{summary['test/macro_f1']:.4f}",
        "test AUROC": "–" if math.isnan(summary["test/auroc"]) else f"{summary['test/auroc']:.4f}",
        "validation accuracy": f"{100 * summary.get('val/accuracy', float('nan')):.2f} %",
        "parameters": f"{summary['params/classical']:,} classical, {summary['params/quantum']:,} quantum",
        "training": f"{summary['epochs']} epochs",
    }
    if "seconds/epoch" in summary:
        rows["training"] += f", {summary['seconds/epoch']:.1f} s each"
    elif "seconds/training" in summary:  # in neither where callbacks.convergence is left out
        rows["training"] = f"{summary['seconds/training']:.1f} s"
    for n in (key.split("/")[1] for key in summary if key.startswith("test_after/") and key.endswith("/loss")):
        loss, accuracy = (summary[f"test_after/{n}/{score}"] for score in ("loss", "accuracy"))
        rows[f"test after epoch {n}"] = f"{100 * accuracy:.2f} %, loss {loss:.4f}"
    for part in ("test", "val"):
        if missing := summary.get(f"{part}/absent"):
            rows[f"not in {part}"] = f"{', '.join(missing)}: F1, AUROC and recall are over the other classes"
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    print(f"  {'run folder':<19}    {folder}", flush=True)  # on its own: a table would cut a long path
    for line in standstills(summary):
        print(line, flush=True)


def standstills(summary: dict[str, Any]) -> list[str]:
    """A line for each parameter group that did not take part in the training, from `StepSize`'s figures."""
    lines: list[str] = []
    for group, key in (("quantum", "optim.quantum_lr"), ("classical", "optim.lr")):
        if summary.get(f"step/{group}/frozen"):
            lines.append(f"{group} parameters: frozen, as {key} is 0")
        if (first := summary.get(f"step/{group}/stopped_from")) is None:
            continue
        share, ratio = summary[f"step/{group}/stopped_share"], summary[f"step/{group}/stopped_ratio"]
        size = f"{ratio:.2g} times the others'" if ratio else "too small to change them"
        beside = " beside optim.quantum_lr" * (group == "classical")
        lines.append(
            f"warning: {group} parameters stood still from step {first} on, in {100 * share:.0f} % of the logged "
            f"steps: relative steps {size}, their gradient not gone; try a larger {key}{beside}, or another optim"
        )
    return lines
