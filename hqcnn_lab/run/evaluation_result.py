"""What an evaluation came to: the tables on the terminal, and the folder with `evaluation.json` and its figures."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hqcnn_lab.figures.evaluation import UNITS, reliability_figure, robustness_figure
from hqcnn_lab.record.whole_file import whole_folder


def write_result(out: Path, result: dict[str, Any]) -> None:
    """Write all into the folder `out`, which appears once it is whole."""
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    calibration = {key.partition("/")[2]: result[key] for key in result if key.startswith("calibration/")}
    curves = {key.partition("/")[2]: result[key] for key in result if key.startswith("robustness/")}
    with whole_folder(out) as scratch:
        (scratch / "evaluation.json").write_text(text, encoding="utf-8")
        reliability_figure(calibration).savefig(scratch / "reliability.png", dpi=120)
        if curves:
            most = max(map(sum, result["test/confusion_matrix"])) / result["images/test"]
            robustness_figure(curves, most).savefig(scratch / "robustness.png", dpi=120)


def print_result(result: dict[str, Any]) -> None:
    """The scores as a table, those of each class, and the accuracy left when the images get worse."""
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in _scores(result).items():
        table.add_row(name, value)
    console.print(table)
    by_class = Table("true \\ predicted", box=None, padding=(0, 2))
    for name in (*result["classes"], "recall", "precision", "F1"):
        by_class.add_column(name, justify="right")
    for name, counts in zip(result["classes"], result["test/confusion_matrix"], strict=True):
        scores = (result[f"test/{score}/{name}"] for score in ("recall", "precision", "f1"))
        by_class.add_row(name, *map(str, counts), *("–" if x is None else f"{100 * x:.1f} %" for x in scores))
    console.print(by_class)
    if worse := [key for key in result if key.startswith("robustness/")]:
        console.print("  accuracy when the images get worse, by how much")
    for key in worse:
        cells = "   ".join(f"{amount:g}: {100 * share:.1f} %" for amount, share in result[key])
        console.print(f"  {UNITS[key.partition('/')[2]]:<20} {cells}")


def _scores(result: dict[str, Any]) -> dict[str, str]:
    def percent(key: str) -> str:
        return f"{100 * result[key]:.2f} %"

    def between(key: str) -> str:
        return "–" if result[key] is None else "{:.1f} to {:.1f}".format(*(100 * edge for edge in result[key]))

    n, groups = result["images/test"], result["test/groups"]
    resampled = f"{groups} groups of copies or patients" if groups else "images"
    wilson, bootstrap = between("test/accuracy_wilson"), between("test/accuracy_bootstrap")
    rows = {
        "split": f"{result['dataset']}, {result['split/kind']}",
        "seen in training": result["split/leak"] or "no test image",
        "accuracy": f"{percent('test/accuracy')}  ({n} images)",
        "95 % intervals": f"{wilson} (Wilson); {bootstrap} ({resampled})",
        "macro F1": f"{result['test/macro_f1']:.4f}",
        "AUROC": "–" if result["test/auroc"] is None else f"{result['test/auroc']:.4f}",
        "loss": f"{result['test/loss']:.4f}",
        "calibration error": f"{percent('calibration/ece')}, {percent('calibration/ece_scaled')} at temperature "
        f"{result['calibration/temperature']:.2f} (from {result['images/val']} validation images)",
    }
    if "test/absent" in result:
        rows["not in test"] = f"{', '.join(result['test/absent'])}: F1 and AUROC are over the other classes"
    return rows
