"""Time the reader on 1,000 run folders, and the report of 200 runs with its size.

    python benchmarks/report.py [--runs 200]

The folders are written here, as runs leave them: 655 test images, 200 lines of metrics, 10 settings. Aims: 1,000 read
in 10 s; 200 reported in 20 s, imports included, in 15 MB.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from hqcnn_lab.analysis import load_runs
from hqcnn_lab.reporting.write import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from run_folders import write_run

N_READ = 1000


def main() -> None:
    """Print both, a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=200, help="runs of the report (default: 200)")
    n_runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        for n in range(max(n_runs, N_READ)):
            seed, setting = divmod(n, 10)
            small = n >= n_runs
            kind = {"n_test": 40, "n_steps": 12} if small else {"n_test": 655, "n_steps": 200}
            optim = ("Adam", "SGD")[setting % 2]
            write_run(top / str(small) / f"{n}_{optim}", optim, seed, 0.8, lr=0.001 * 2 ** (setting // 2), **kind)
        start = time.perf_counter()
        rows = load_runs(top)
        seconds = time.perf_counter() - start
        print(f"{len(rows):,} run folders read in {seconds:.1f} s ({1000 * seconds / len(rows):.1f} ms each)")
        start = time.perf_counter()
        html, _ = write_report([top / "False"], top / "out")
        seconds = time.perf_counter() - start
        print(f"report of {n_runs} runs: {seconds:.1f} s, {html.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
