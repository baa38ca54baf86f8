"""Every `model=`: parameters, multiply-adds and time of an image; and the test accuracy of runs, where there are some.

    python benchmarks/models.py                       # sizes and times
    python benchmarks/models.py --runs multirun/models  # and scores, by split, of what lies there

Images of 64×64 pixels, four classes, forward only, batches of 64, one thread; a median of --rounds. Multiply-adds are
those of convolutions and matrix products as torch counts them: a circuit's own gates are not among them, nor what
scikit-learn does. What learns without gradients is timed as the runs left it. Prints Markdown.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from hqcnn_lab.analysis import load_runs
from hqcnn_lab.build import build
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.models import GRADIENT_FREE
from hqcnn_lab.models.trained import load_run
from hqcnn_lab.run.summary import sizes

SPLITS = ("official", "grouped")
SIDE = 64


def network(name: str, folder: str | None) -> torch.nn.Module | None:
    """As a run left it, or untrained; None for what is nothing before it is fitted."""
    if folder is not None:
        return load_run(folder).net.cpu()
    spec = OmegaConf.to_container(compose([f"model={name}", f"dataset.image_size={SIDE}"]).model, resolve=True)
    if spec["_target_"].rpartition(".")[2] in GRADIENT_FREE:
        return None
    return build(spec, n_classes=4, image_size=SIDE).eval()


def measured(net: torch.nn.Module, rounds: int) -> tuple[float, float]:
    """Multiply-adds of an image, and milliseconds."""
    images, seconds = torch.rand(64, 1, SIDE, SIDE), []
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            net(images[:1])
        net(images)
        for _ in range(rounds):
            began = time.perf_counter()
            net(images)
            seconds.append(time.perf_counter() - began)
    return counter.get_total_flops() / 2, 1000 * statistics.median(seconds) / len(images)


def short(n: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of runs, as the commands of docs/models.md leave it")
    parser.add_argument("--rounds", type=int, default=5, help="of each timing (default 5)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[tuple[str, str], dict[str, Any]] = {}
    for row in load_runs(arguments.runs) if arguments.runs else []:
        if row["state"] == "finished":
            runs[row["model"], row["config/dataset.split"]] = row
    print("| model | parameters | of circuits | multiply-adds | ms an image | official, test % | grouped, test % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in sorted(path.stem for path in (CONFIG_DIR / "model").glob("*.yaml")):
        of_splits = [runs.get((name, split)) for split in SPLITS]
        net = network(name, next((row["folder"] for row in of_splits if row), None))
        cells = ["–"] * 4
        if net is not None:
            counts, (adds, ms) = sizes(net), measured(net, arguments.rounds)
            total = counts["params/classical"] + counts["params/quantum"]
            cells = [f"{total:,}", f"{counts['params/quantum']:,}", short(adds) if adds else "–", f"{ms:.2f}"]
        scores = [f"{100 * row['test/accuracy']:.1f}" if row else "not run" for row in of_splits]
        print("| " + " | ".join([f"`{name}`", *cells, *scores]) + " |", flush=True)
    print(f"\ntorch {torch.__version__}, one thread, {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
