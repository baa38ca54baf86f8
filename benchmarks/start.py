"""What a start costs: CPU and wall seconds of each command, up to its first training step, and what it imports.

    python benchmarks/start.py                         # train on the phantom, and every command's --help
    python benchmarks/start.py --against ../old        # beside those of another checkout, measured in turns
    python benchmarks/start.py "train logger=none" "evaluate --help"

Every start is a fresh interpreter in an empty folder. CPU seconds are those of the process and of all that it started.
The clock stops when the optimizer of the fit is about to take its first step. The first batch and that step stand in a
column of their own: work that is only put off until then shows there. A command that trains nothing runs to its end.
A first start, which is not counted, compiles Python's files and fills the lab's cache; `--cold` empties that each time.
"""

import argparse
import json
import os
import re
import resource
import runpy
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

COMMANDS = ("train", "study", "evaluate", "predict", "export", "report", "prepare", "diagnose", "dashboard", "doctor")
DEFAULT = ["train", "train logger=none", *(f"{command} --help" for command in COMMANDS)]
_FILE = "HQCNN_BENCHMARK_START"  # where the measured process writes what it measured
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", default=DEFAULT, help="such as train or 'evaluate --help'")
    parser.add_argument("--times", type=int, default=5, help="starts of each command (default 5; the median counts)")
    parser.add_argument("--against", type=Path, help="another checkout of this repository, measured in turns")
    parser.add_argument("--cold", action="store_true", help="with nothing in the lab's cache (paths.cache_dir)")
    parser.add_argument("--imports", action="store_true", help="also which packages cost most to import, a start more")
    arguments = parser.parse_args()
    checkouts = [Path(__file__).parents[1]]
    if arguments.against:
        checkouts.append(arguments.against.resolve())
        print(f"In brackets: {arguments.against}, and its figure divided by ours.\n")
    with tempfile.TemporaryDirectory() as cache:
        _measure(arguments, checkouts, None if arguments.cold else Path(cache))


def _measure(arguments: argparse.Namespace, checkouts: list[Path], cache: Path | None) -> None:
    print("| command | CPU s | wall s | CPU s of the first step | modules |")
    print("|---|--:|--:|--:|--:|")
    for command in arguments.commands:
        for checkout in checkouts:
            _start(command, checkout, cache)
        starts = [[_start(command, checkout, cache) for checkout in checkouts] for _ in range(arguments.times)]
        print(_row(command, list(zip(*starts, strict=True))), flush=True)
    if arguments.imports:
        for command in arguments.commands:
            print(
                f"\n`{command}` imports, milliseconds of each package's own: {_heaviest(command, checkouts[0], cache)}"
            )


def _row(command: str, of_each: list[tuple[dict[str, Any], ...]]) -> str:
    cells = [f"`{command}`"]
    for name, form in (("cpu", ".2f"), ("wall", ".2f"), ("step", ".2f"), ("modules", ",.0f")):
        values = [[start[name] for start in starts if start[name] is not None] for starts in of_each]
        if not values[0]:
            cells.append("–")
            continue
        medians = [statistics.median(of_one) for of_one in values]
        cell = format(medians[0], form)
        if len(medians) > 1:
            cell += f" ({format(medians[1], form)}: {medians[1] / medians[0]:.2f}×)"
        cells.append(cell)
    return f"| {' | '.join(cells)} |"


def _start(command: str, checkout: Path, cache: Path | None, *options: str) -> dict[str, Any]:
    """One start in an interpreter of its own: `cpu`, `wall` and `step` in seconds, `modules`, and `said` on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        ours = {_FILE: str(result), "PYTHONPATH": str(checkout), "HQCNN_CACHE": str(cache or folder)}
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | ours
        module, *arguments = shlex.split(command)
        line = [sys.executable, *options, __file__, module, *arguments]
        began = time.time()
        # A group of its own: what it has started is ended with it.
        process = subprocess.Popen(
            line, env=environment, cwd=folder, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = process.communicate()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if not result.exists():
            sys.exit(f"{command}: did not come to its first step\n{said[0]}{said[1]}")
        measured = json.loads(result.read_text())
    return measured | {"wall": measured["at"] - began, "said": said[1]}


def _heaviest(command: str, checkout: Path, cache: Path | None) -> str:
    """The packages whose modules took longest to import, as CPython counts it: without what they import in turn."""
    own: Counter[str] = Counter()
    for microseconds, module in _IMPORT.findall(_start(command, checkout, cache, "-X", "importtime")["said"]):
        own[module.partition(".")[0]] += int(microseconds)
    return ", ".join(f"{package} {microseconds / 1000:.0f}" for package, microseconds in own.most_common(10))


def _inside(module: str, arguments: list[str]) -> None:
    """In the process that is measured: run the command, and note what was used by its first step, or by its end."""
    at_step: dict[str, Any] = {}

    def before(optimizer: Any, *_: Any) -> None:
        if not at_step and _is_fitting():
            at_step.update(_used())

    def after(optimizer: Any, *_: Any) -> None:
        if at_step:
            _write(at_step | {"step": _used()["cpu"] - at_step["cpu"]})
            os._exit(0)

    _once_imported("torch.optim.optimizer", lambda torch: _watch(torch, before, after))
    sys.argv[1:] = arguments
    sys.path[0] = ""  # as python -m has it
    try:
        runpy.run_module(f"hqcnn_lab.{module}", run_name="__main__", alter_sys=True)
    finally:
        _write(_used() | {"step": None})


def _watch(optimizers: Any, before: Any, after: Any) -> None:
    optimizers.register_optimizer_step_pre_hook(before)
    optimizers.register_optimizer_step_post_hook(after)


def _once_imported(name: str, call: Any) -> None:
    """Call with a module once it has been imported, whoever does that and when: measuring imports nothing itself."""

    class Finder:
        @staticmethod
        def find_spec(fullname: str, path: Any, target: Any = None) -> Any:
            if fullname != name:
                return None
            sys.meta_path.remove(Finder)
            from importlib.util import find_spec

            spec = find_spec(fullname)
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                call(module)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder)


def _is_fitting() -> bool:
    """Whether the step is one of a fit: the check of the configuration tries the optimizer out before."""
    frame = sys._getframe()
    while frame:
        if frame.f_code.co_name == "fit" and frame.f_code.co_filename.endswith("trainer.py"):
            return True
        frame = frame.f_back
    return False


def _used() -> dict[str, Any]:
    mine, waited_for = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = mine.ru_utime + mine.ru_stime + waited_for.ru_utime + waited_for.ru_stime + _of_living_children()
    return {"cpu": cpu, "at": time.time(), "modules": len(sys.modules)}


def _of_living_children() -> float:
    """CPU seconds of the processes that this one has started and that still run, such as W&B's service."""
    ticks, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(stat.parent.name)] = int(fields[1])
        ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
    family = {os.getpid()}
    for _ in range(5):  # generations
        family |= {child for child, parent in parents.items() if parent in family}
    total = sum(ticks[child] for child in family - {os.getpid()})
    return total / os.sysconf("SC_CLK_TCK")


def _write(measured: dict[str, Any]) -> None:
    Path(os.environ[_FILE]).write_text(json.dumps(measured))


if __name__ == "__main__":
    if _FILE in os.environ:
        _inside(sys.argv[1], sys.argv[2:])
    else:
        main()
