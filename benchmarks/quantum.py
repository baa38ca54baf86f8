"""The circuits beside torchquantum, PennyLane and pyqtorch: time, memory, error, and the distance from the hardware.

    make peers                                                 # once: PennyLane and pyqtorch, left out if absent
    python benchmarks/quantum.py                               # a quarter of an hour; --quick: some seconds
    python benchmarks/quantum.py --rows 4x16384 10x512 --tables circuits
    python benchmarks/quantum.py --device cuda                 # on a GPU, where torch is a CUDA build

A step is forward and backward, to inputs and weights, in float32. Candidates of a row take turns in one process, in an
order drawn anew each round, so that a busy machine slows all alike; medians are printed. A turn is two steps, the
second timed, as in training, where a step follows its like; freed memory stays in the process, or the candidates would
pay for each other's. One thread by default. On a GPU memory is what torch allocated; lightning.qubit is left out.
"""

import argparse
import contextlib
import ctypes
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import quantum_peers as peers
import torch
from quantum_peers import N_LAYERS, PEERS, Step, build, differences, drawn, floor_flops, in_float64, seconds_of, step
from torch import nn

from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer
from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.limits import MAX_WIRES, choose_engine

Row = tuple[int, int]

ROWS = [(4, 16384), (4, 65536), (6, 4096), (8, 2048), (10, 512), (12, 64), (16, 8), (20, 1)]
ANSATZ_ROWS = [(4, 16384), (8, 512)]
IMAGES = [(64, 16, 16), (64, 32, 8)]  # images, channels, side; the second is the HQCNN's at its default place
QUICK_ROWS, QUICK_IMAGES = [(4, 256), (8, 16)], [(8, 16, 16)]
WEIGHED = ("ours", "torchquantum", "default.qubit")  # whose memory is measured
BROUGHT = "U3CU3Layer0, folded"  # a module made for torchquantum, through FoldedModule
TOLERANCE = 1e-3  # a candidate further from the reference runs another circuit


def interleaved(steps: dict[str, Step], options: argparse.Namespace) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Median milliseconds, and those of every turn, of steps that have run before: five rounds, or three long ones."""
    turns: dict[str, list[float]] = {name: [] for name in steps}
    order, shuffled = list(steps), random.Random(0)
    began, rounds, elapsed = time.perf_counter(), 0, 0.0
    while rounds < 3 or elapsed < options.seconds or (rounds < 5 and elapsed < 10 * options.seconds):
        shuffled.shuffle(order)
        for name in order:
            steps[name]()  # not timed: now the cache holds its own data, not another's
            turns[name].append(1e3 * seconds_of(steps[name], options.device))
        rounds, elapsed = rounds + 1, time.perf_counter() - began
    return {name: statistics.median(each) for name, each in turns.items()}, turns


def affordable(make: Callable[[int], Step], batch: int, options: argparse.Namespace) -> int:
    """All samples if a step on them is predicted to stay under the limit, else as many as take half a second or more.

    The best of three each time: one hiccup on few samples would predict hours for a simulator that takes them at once.
    """
    n = 1
    while n < batch:
        seconds = min(seconds_of(make(n), options.device) for _ in range(3))
        if seconds * batch / n <= options.limit:
            return batch
        if seconds > 0.5:
            return n
        n = min(8 * n, batch)
    return batch


def figure(value: float | None, unit: str = "") -> str:
    """About three digits, or a dash."""
    digits = ".0f" if value is None or value >= 100 else ".1f" if value >= 10 else ".2f" if value >= 0.1 else ".1g"
    return "–" if value is None else f"{value:{digits}}{unit}"


def label(n_wires: int, batch: int) -> str:
    return f"{n_wires:>2} × {batch:<6} "


def circuits(options: argparse.Namespace, rows: list[Row]) -> None:
    """Every library on one circuit."""
    print("\nCircuits: ms a step, and times ours. floor: its arithmetic at a large product's speed; ÷: ours by it.")
    print("apart: largest difference of any candidate from float64, in values and relative gradients, on 8 samples.")
    titles = "".join(f"{name:>14}" for name in options.peers)
    print(f"wires×batch {'engine':<11}{'ours':>6}{'floor':>7}{'÷':>6} {titles}  apart")
    for n_wires, batch in rows:
        steps, samples, apart = prepare(options, n_wires, batch)
        ms, turns = interleaved(steps, options)
        ms = {name: own * batch / samples[name] for name, own in ms.items()}
        floor = 1e3 * floor_flops(n_wires) * batch / options.results["product_flops"]
        engine = choose_engine("auto", n_wires, "angle_y", n_wires, batch)
        line = f"{engine:<11}{figure(ms['ours']):>6}{figure(floor):>7}{figure(ms['ours'] / floor):>6} "
        for name in options.peers:
            mark = "~" if samples.get(name, batch) < batch else ""
            ratio = figure(ms[name] / ms["ours"], "×") if name in ms else ""
            line += f"{mark + figure(ms.get(name)):>8}{ratio:>6}"
        print(f"{label(n_wires, batch)}{line}{max(apart.values()):>7.0e}")
        record = {"wires": n_wires, "batch": batch, "engine": engine, "floor_ms": floor, "ms": ms, "turns_ms": turns}
        options.results["circuits"].append(record | {"timed_samples": samples, "apart": apart})


def prepare(options: argparse.Namespace, n_wires: int, batch: int) -> tuple[dict, dict, dict]:
    """Steps that have run, their samples, how far each is from the reference; one that fails or is far is left out."""
    weights = build("ours", n_wires, options.device)[1]
    x, upstream = drawn(n_wires, batch, options.device)
    reference = in_float64(x[:8], weights, upstream[:8])
    steps, samples, apart = {}, {}, {}
    for name in ("ours", *options.peers):
        if name == "torchquantum" and n_wires > MAX_WIRES["torchquantum"]:
            continue
        try:
            forward = build(name, n_wires, options.device, weights)[0]

            def make(n: int, forward: Callable = forward) -> Step:
                return step(forward, x[:n], [weights], upstream[:n])

            apart[name] = max(differences(make(8)(), reference))
            if not apart[name] < TOLERANCE:
                raise ValueError(f"{apart[name]:.0e} from the reference, so not the same circuit")
            n = batch if name == "ours" else affordable(make, batch, options)
            run = make(n)
            run()
            steps[name], samples[name] = run, n
            if n < batch:
                options.results["notes"].append(f"~ {name} at {n_wires} × {batch}: {n} samples timed, and scaled")
        except Exception as error:  # of whatever kind: the rest of a long run goes on
            if name == "ours":
                raise
            reason = f"{type(error).__name__}: {error}"[:90]
            options.results["notes"].append(f"– {name} at {n_wires} × {batch}: {reason}")
    return steps, samples, apart


def memory(options: argparse.Namespace, rows: list[Row]) -> None:
    """What a step adds to a process that has taken a tiny one; and how far ours is from float64, on all samples."""
    weighed = [name for name in WEIGHED if name == "ours" or (name in options.peers and not options.quick)]
    print("\nMemory: MB (10⁶ bytes) that a step adds at its peak. Then ours from float64, by engine folded up to 10")
    print("wires, statevector above: largest difference of values, and of gradients relative to their largest entry.")
    titles = (*weighed, "values", "d inputs", "d weights")
    print("wires×batch" + "".join(f"{title:>15}" for title in titles))
    for n_wires, batch in rows:
        megabytes = {name: weigh(options, name, n_wires, batch) for name in weighed}
        forward, weights = build("ours", n_wires, options.device)
        x, upstream = drawn(n_wires, batch, options.device)
        errors = differences(step(forward, x, [weights], upstream)(), in_float64(x, weights, upstream))
        columns = [*map(figure, megabytes.values()), *(f"{error:.1e}" for error in errors)]
        print(label(n_wires, batch)[:-1] + "".join(f"{column:>15}" for column in columns))
        record = {"wires": n_wires, "batch": batch, "megabytes": megabytes, "errors": errors}
        options.results["memory"].append(record)


def weigh(options: argparse.Namespace, name: str, n_wires: int, batch: int) -> float | None:
    """Megabytes of one step, in a process of its own, where every array is mapped by itself and goes back when freed.

    That is what a step holds; malloc's luck adds to it (default.qubit at 4 × 16384: 105 always, instead of 131 to 273).
    """
    command = [sys.executable, peers.__file__, name, n_wires, batch, options.device, options.threads]
    settings = {"env": os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}, "capture_output": True, "text": True}
    try:
        done = subprocess.run([*map(str, command)], timeout=600, check=True, **settings)
        return int(done.stdout.split()[-1]) / 1e6
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        reason = f"{error}\n{getattr(error, 'stderr', None) or ''}".strip().splitlines()[-1][:90]
        options.results["notes"].append(f"– memory of {name} at {n_wires} × {batch}: {reason}")
        return None


def ansatzes(options: argparse.Namespace, rows: list[Row]) -> None:
    """Every ansatz beside torchquantum's gates; and a module made for torchquantum, folded, beside itself."""
    print("\nAnsatzes: ms a step, torchquantum's, how many times ours; the largest difference")
    print(f"{'':<20}" + "".join(f"{label(*row).strip():<50}" for row in rows).rstrip())
    print(f"{'':<20}" + f"{'engine':<12}{'ours':>7}{'torchquantum':>14}{'apart':>14}   " * len(rows))
    for name in (*ANSATZES, BROUGHT):
        line = f"{name:<20}"
        for n_wires, batch in rows:
            if name == BROUGHT:
                engine, (ours, theirs, weights) = "folded", peers.brought(n_wires, options.device)
            else:
                ours, theirs = (QuantumLayer(n_wires, N_LAYERS, name, engine=e) for e in ("auto", "torchquantum"))
                engine = choose_engine("auto", n_wires, "angle_y", ours.circuit.n_outputs, batch)
                theirs.weights = ours.to(options.device).weights
                weights = [ours.weights]
            x, upstream = drawn(n_wires, batch, options.device)
            upstream = upstream[:, : ours(x[:1]).shape[1]]
            steps = {"ours": step(ours, x, weights, upstream), "torchquantum": step(theirs, x, weights, upstream)}
            apart = max(differences(*(run() for run in steps.values())))
            ms, turns = interleaved(steps, options)
            ratio = figure(ms["torchquantum"] / ms["ours"], "×")
            line += f"{engine:<12}{figure(ms['ours']):>7}{figure(ms['torchquantum']):>8}{ratio:>6}{apart:>14.0e}   "
            record = {"ansatz": name, "wires": n_wires, "batch": batch, "engine": engine, "apart": apart}
            options.results["ansatzes"].append(record | {"ms": ms, "turns_ms": turns})
        print(line.rstrip())


def convolutions(options: argparse.Namespace, sizes: list[tuple[int, int, int]]) -> None:
    """A circuit for each channel beside convolutions of the same shapes, and beside the ceilings."""
    print("\nConvolutions 2×2, stride 2, C channels to 4C: ms a step, and how many times longer the circuits take; the")
    print("least bytes and the least arithmetic, a second, and in percent of a large copy's and of a large product's.")
    print(f"{'N × C × H × W':<19}{'':<22}{'ms':>8}{'circuits ÷':>13}{'GB/s':>9}{'':>8}{'GFLOP/s':>11}")
    ceiling = options.results["copy_bytes"], options.results["product_flops"]
    for images, channels, side in sizes:
        place, outputs, positions = f"{images} × {channels} × {side} × {side}", 4 * channels, images * (side // 2) ** 2
        candidates = {
            f"QuantumConv2d({channels}, 2)": (QuantumConv2d(channels, 2), channels * floor_flops(4)),
            "nn.Conv2d": (nn.Conv2d(channels, outputs, 2, stride=2), 6 * outputs * 4 * channels),
            f"nn.Conv2d, {channels} groups": (nn.Conv2d(channels, outputs, 2, 2, groups=channels), 6 * outputs * 4),
        }
        x = torch.randn(images, channels, side, side, device=options.device)
        upstream = torch.randn(images, outputs, side // 2, side // 2, device=options.device)
        moved = 4 * (3 * x.numel() + 2 * upstream.numel())  # x and values; upstream, x again and its gradient
        steps = {}
        for name, (layer, _) in candidates.items():
            steps[name] = step(layer.to(options.device), x.clone(), layer.parameters(), upstream)
            steps[name]()
        ms, turns = interleaved(steps, options)
        for name, (_, flops) in candidates.items():
            rates = [1e3 * amount / ms[name] for amount in (moved, flops * positions)]
            text = "".join(f"{figure(r / 1e9):>11}{100 * r / c:>7.1f}%" for r, c in zip(rates, ceiling, strict=True))
            quotient = figure(ms[next(iter(ms))] / ms[name], "×")
            print(f"{place:<19}{name:<22}{figure(ms[name]):>8}{quotient:>11}{text}")
        record = {"images": images, "channels": channels, "side": side, "bytes": moved, "ms": ms, "turns_ms": turns}
        options.results["convolutions"].append(record)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = Path("/proc/cpuinfo").read_text().split("model name\t: ") if Path("/proc/cpuinfo").exists() else []
    return names[1].partition("\n")[0] if names[1:] else platform.machine()


def as_row(text: str) -> Row:
    n_wires, batch = map(int, text.split("x"))
    return n_wires, batch


def main() -> None:
    """Measure and print."""
    tables = {"circuits": circuits, "memory": memory, "ansatzes": ansatzes, "convolutions": convolutions}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, some seconds")
    parser.add_argument("--seconds", type=float, help="time for each row, about (default 5)")
    parser.add_argument("--limit", type=float, default=20, help="seconds; a longer step is timed on fewer samples (20)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1, … (default cpu)")
    parser.add_argument("--rows", nargs="+", type=as_row, help="circuits as wires x batch, such as 4x16384")
    parser.add_argument("--tables", nargs="+", choices=tables, default=list(tables), help="which of them (default all)")
    parser.add_argument("--no-peers", action="store_true", help="beside torchquantum only")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    on_gpu, quick = options.device.type == "cuda", options.quick
    if on_gpu and not torch.cuda.is_available():
        parser.error("torch sees no GPU: install its CUDA build, or leave out --device")
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # lightning.qubit brings an OpenMP of its own, loaded later
    sys.stdout.reconfigure(line_buffering=True)
    with contextlib.suppress(AttributeError, TypeError):  # of glibc only
        for setting, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD: what is freed stays. Else
            ctypes.CDLL(None).mallopt(setting, value)  # default.qubit takes up to twice the time it takes alone

    versions = {"torch": torch.__version__} | peers.installed()
    wanted = [name for name in PEERS if name == "torchquantum" or not options.no_peers]
    options.peers = [name for name in wanted if PEERS[name][0] in versions and not (on_gpu and name == "lightning")]
    options.seconds = options.seconds or (0.1 if quick else 5)
    product, copy = peers.ceilings(options.device, quick)
    options.results = {"versions": versions, "device": device_name(options.device), "threads": options.threads}
    options.results |= {"product_flops": product, "copy_bytes": copy, "notes": []} | {name: [] for name in tables}
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    print(f"{options.results['device']}, {options.threads} thread(s), float32, {N_LAYERS} layers; ", end="")
    print(f"a large product: {product / 1e9:.0f} GFLOP/s, a large copy: {copy / 1e9:.1f} GB/s")
    if absent := sorted({PEERS[name][0] for name in wanted} - set(versions)):
        print(f"not installed, so left out: {', '.join(absent)} (`make setup peers` installs them)")
    print("default.qubit computes in complex128, as for its users, unless it starts from a state in complex64")
    print("lightning.qubit is a CPU simulator, left out on a GPU\n" * on_gpu, end="")

    rows = options.rows or (QUICK_ROWS if quick else ROWS)
    sizes = {"circuits": rows, "memory": rows[:1] if quick else rows, "ansatzes": QUICK_ROWS if quick else ANSATZ_ROWS}
    sizes["convolutions"] = QUICK_IMAGES if quick else IMAGES + [(256, 16, 32)] * on_gpu
    try:
        for name in (name for name in options.tables if name != "ansatzes" or "torchquantum" in options.peers):
            before = len(options.results["notes"])
            tables[name](options, sizes[name])
            print("".join(f"  {note}\n" for note in options.results["notes"][before:]), end="")
    finally:
        if options.json:  # under a name of its own first: nobody ever reads half a file
            part = options.json.with_name(options.json.name + ".part")
            part.write_text(json.dumps(options.results, indent=1))
            part.replace(options.json)


if __name__ == "__main__":
    main()
