"""What W&B costs: epochs and whole runs without it, offline, and online with servers that hang or stall, in turns.

    python benchmarks/tracking.py                          # 1600 phantom images, the default network
    python benchmarks/tracking.py model=hqcnn_twin --rounds 5     # any override of conf/

Each run is a process of its own, as a user's. "hangs": the server answers nothing. "stalls": it takes the run and then
answers nothing. Both are on this machine; nothing else is reached.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from wandb_server import KEY, bad_server  # noqa: E402

CASES = {
    "no logger": (["logger=none"], None),
    "offline": (["logger=wandb"], None),
    "online, server hangs": (["logger=wandb", "logger.offline=false"], "hangs"),
    "online, server stalls": (["logger=wandb", "logger.offline=false"], "stalls"),
}


def measure(lines: list[str], behaviour: str | None) -> tuple[float, float]:
    """Seconds of an epoch, the mean of a run, and of the whole command."""
    with tempfile.TemporaryDirectory() as folder, bad_server(behaviour) if behaviour else nullcontext("") as address:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        environment |= {"PYTHONPATH": str(ROOT), "WANDB_API_KEY": KEY, "WANDB_BASE_URL": address or "https://invalid"}
        command = [sys.executable, "-m", "hqcnn_lab.train", *lines, "figures=false", "hydra.run.dir=run"]
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        whole = time.perf_counter() - began
        return json.loads((Path(folder) / "run" / "summary.json").read_text())["seconds/epoch"], whole


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of conf/, as on the command line of hqcnn_lab.train")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case (default 3)")
    arguments = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(arguments.rounds):
        for name, (lines, behaviour) in CASES.items():
            seconds[name].append(measure([*lines, *arguments.overrides], behaviour))
    table = Table("", "s an epoch", "of no logger's", "range", "s the whole command")
    for name, measured in seconds.items():
        ratios = [epoch / first for (epoch, _), (first, _) in zip(measured, seconds["no logger"], strict=True)]
        epoch, whole = (statistics.median(column) for column in zip(*measured, strict=True))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        table.add_row(name, f"{epoch:.2f}", f"{statistics.median(ratios):.3f}", spread, f"{whole:.1f}")
    Console().print(table)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"medians of {arguments.rounds} rounds in turns, {' '.join(arguments.overrides) or 'defaults'}; {where}")


if __name__ == "__main__":
    main()
