"""The circuits beside torchquantum, PennyLane and pyqtorch: time, memory, error, and the distance from the hardware.

    python benchmarks/quantum.py                               # ten minutes; make peers first, for all columns
    python benchmarks/quantum.py --quick                       # seconds, tiny sizes
    python benchmarks/quantum.py --rows 4x16384 10x512 --tables circuits
    python benchmarks/quantum.py --device cuda                 # on a GPU, where torch is a CUDA build

A step is forward and backward, to inputs and weights, in float32. Candidates of a row take turns in one process, in an
order drawn anew each round, so that a busy machine slows all alike; medians are printed. Each thus starts with the
others' data in the cache, as in training. One thread by default, for comparison with figures for one core.

On a GPU every step is waited for, memory is what torch allocated, and lightning.qubit, a CPU simulator, is left out.
The last table compares bytes and arithmetic with what a large copy and a large product reach on the same device.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import quantum_peers
import torch
from quantum_peers import N_LAYERS, PEERS, Step, build, differences, drawn, floor_flops, in_float64, installed, step
from torch import Tensor, nn

from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer
from hqcnn_lab.quantum.ansatz import ANSATZES
from hqcnn_lab.quantum.limits import MAX_WIRES, choose_engine

Row = tuple[int, int]

ROWS = [(4, 16384), (4, 65536), (6, 4096), (8, 2048), (10, 512), (12, 64), (16, 8), (20, 1)]
ANSATZ_ROWS = [(4, 16384), (8, 512)]
QUICK_ROWS = [(4, 256), (8, 16)]
IMAGES, LARGE_IMAGES, QUICK_IMAGES = [(64, 16, 16), (64, 32, 8)], (256, 16, 32), [(8, 16, 16)]  # number, channels, side
TABLES = ("circuits", "memory", "ansatzes", "convolutions")
WEIGHED = ("ours", "torchquantum", "default.qubit")  # whose memory is measured
BROUGHT = "U3CU3Layer0 folded"  # torchquantum's module, as a user would bring it
TOLERANCE = 1e-3  # a candidate further from the reference runs another circuit


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved(steps: dict[str, Step], seconds: float, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of every turn: rounds for about `seconds`, at least five, or three long ones. All have run before."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    order, shuffled = list(steps), random.Random(0)
    began, rounds, elapsed = time.perf_counter(), 0, 0.0
    while rounds < 3 or elapsed < seconds or (rounds < 5 and elapsed < 10 * seconds):
        shuffled.shuffle(order)
        for name in order:
            times[name].append(1e3 * seconds_of(steps[name], device))
        rounds, elapsed = rounds + 1, time.perf_counter() - began
    return times


def affordable(make: Callable[[int], Step], batch: int, limit: float, device: torch.device) -> int:
    """All samples if a step on them is predicted to stay under `limit` seconds, else as many as take up to one."""
    n = 1
    while n < batch:
        run = make(n)
        run()
        seconds = seconds_of(run, device)
        if seconds * batch / n <= limit:
            return batch
        if 8 * seconds > 1:
            return n
        n = min(8 * n, batch)
    return batch


def ceilings(device: torch.device, quick: bool) -> tuple[float, float]:
    """FLOP/s of a large float32 product and bytes/s, read and written, of a large copy: the best of several."""
    torch.backends.cuda.matmul.allow_tf32 = False
    side, megabytes = (8192, 1024) if device.type == "cuda" else (1024, 16 if quick else 256)
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    source = torch.zeros(megabytes * 250_000, device=device)
    out, target = torch.empty_like(a), torch.empty_like(source)
    product = min(seconds_of(lambda: torch.mm(a, b, out=out), device) for _ in range(5 if quick else 20))
    copy = min(seconds_of(lambda: target.copy_(source), device) for _ in range(5 if quick else 20))
    return 2 * side**3 / product, 8 * source.numel() / copy


def figure(value: float | None, unit: str = "") -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"


def label(n_wires: int, batch: int) -> str:
    return f"{n_wires:>5} × {batch:<6} "


@dataclass
class Session:
    """What every table needs, what they measure, and what their reader must know besides."""

    device: torch.device
    seconds: float
    limit: float
    threads: int
    peers: list[str]
    results: dict
    notes: list[str] = field(default_factory=list)

    def print_notes(self) -> None:
        for note in self.notes:
            print(f"  {note}")
        self.results["notes"] += self.notes
        self.notes = []


def circuits(session: Session, rows: list[Row]) -> None:
    """Every library on one circuit."""
    print("\nCircuits: ms a step, and how many times ours; floor: the arithmetic alone, at a large product's speed")
    titles = "".join(f"{name:>14}" for name in session.peers)
    print(f"wires × batch {'engine':<12}{'ours':>6}{'floor':>7}{'÷':>5} {titles}")
    for n_wires, batch in rows:
        steps, samples, apart = prepare(session, n_wires, batch)
        times = interleaved(steps, session.seconds, session.device)
        ms = {name: statistics.median(turns) * batch / samples[name] for name, turns in times.items()}
        ours, floor = ms["ours"], 1e3 * floor_flops(n_wires) * batch / session.results["product_flops"]
        engine = choose_engine("auto", n_wires, "angle_y", batch)
        line = f"{label(n_wires, batch)}{engine:<12}{figure(ours):>6}{figure(floor):>7}{figure(ours / floor):>5} "
        for name in session.peers:
            mark = "~" if samples.get(name, batch) < batch else ""
            ratio = figure(ms[name] / ours, "×") if name in ms else ""
            line += f"{mark + figure(ms.get(name)):>8}{ratio:>6}"
        print(line)
        scaled = {name: n for name, n in samples.items() if n < batch}
        session.notes += [f"~ {name} at {n_wires} × {batch}: timed on {n} samples" for name, n in scaled.items()]
        session.results["circuits"].append(
            {"wires": n_wires, "batch": batch, "engine": engine, "ms": ms, "floor_ms": floor}
            | {"timed_samples": samples, "ms_of_turns": times, "from_float64_on_8_samples": apart}
        )
    session.print_notes()


def prepare(session: Session, n_wires: int, batch: int) -> tuple[dict[str, Step], dict[str, int], dict[str, float]]:
    """Steps that have run, on how many samples each, and how far each is from the reference on 8 samples.

    A peer that fails, or that is far from the reference, is left out and noted.
    """
    weights = build("ours", n_wires, session.device)[1]
    x, upstream = drawn(n_wires, batch, session.device)
    reference = in_float64(x[:8], weights, upstream[:8])
    steps, samples, apart = {}, {}, {}
    for name in ("ours", *session.peers):
        if name == "torchquantum" and n_wires > MAX_WIRES["torchquantum"]:
            continue
        try:
            forward = build(name, n_wires, session.device, weights)[0]

            def make(n: int, forward: Callable = forward) -> Step:
                return step(forward, x[:n], [weights], upstream[:n])

            apart[name] = max(differences(make(8)(), reference))
            if not apart[name] < TOLERANCE:
                raise ValueError(f"{apart[name]:.0e} from the reference: not the same circuit")
            n = batch if name == "ours" else affordable(make, batch, session.limit, session.device)
            run = make(n)
            run()
            steps[name], samples[name] = run, n
        except Exception as error:  # of whatever kind: the rest of a long run goes on
            if name == "ours":
                raise
            session.notes.append(f"– {name} at {n_wires} × {batch}: {type(error).__name__}: {str(error)[:80]}")
    return steps, samples, apart


def memory(session: Session, rows: list[Row]) -> None:
    """What a step adds to a process that has taken a tiny one, and how far ours is from float64."""
    weighed = [name for name in WEIGHED if name == "ours" or name in session.peers]
    print(f"\n{'':14}{'MB (10⁶ bytes) a step adds':<42}{'ours from float64, relative gradients'}")
    titles = "".join(f"{name:>14}" for name in weighed)
    print(f"wires × batch {titles}{'values':>14}{'d inputs':>14}{'d weights':>14}")
    for n_wires, batch in rows:
        megabytes = {name: weighed_apart(session, name, n_wires, batch) for name in weighed}
        forward, weights = build("ours", n_wires, session.device)
        x, upstream = drawn(n_wires, batch, session.device)
        errors = differences(step(forward, x, [weights], upstream)(), in_float64(x, weights, upstream))
        columns = [figure(megabytes[name]) for name in weighed] + [f"{error:.1e}" for error in errors]
        print(label(n_wires, batch) + "".join(f"{column:>14}" for column in columns))
        session.results["memory"].append(
            {"wires": n_wires, "batch": batch, "megabytes": megabytes, "from_float64": errors}
        )
    session.print_notes()


def weighed_apart(session: Session, name: str, n_wires: int, batch: int) -> float | None:
    """Megabytes of one step, measured in a process of its own."""
    command = [sys.executable, quantum_peers.__file__, name, n_wires, batch, session.device, session.threads]
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, check=True)
        return int(done.stdout.split()[-1]) / 1e6
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        reason = ((getattr(error, "stderr", None) or "").strip().splitlines() or [str(error)])[-1]
        session.notes.append(f"– memory of {name} at {n_wires} × {batch}: {reason[:90]}")
        return None


def ansatzes(session: Session, rows: list[Row]) -> None:
    """Every ansatz, ours beside torchquantum's gates, and a module made for torchquantum, folded and as it is."""
    if "torchquantum" not in session.peers:
        return
    print("\nAnsatzes: ms a step, torchquantum's and how many times ours; largest difference")
    print(" " * 22 + "".join(f"{label(*row).strip() + ' ':─^49}" for row in rows))
    print(f"{'':<22}" + f"{'engine':<12}{'ours':>7}{'torchq.':>10}{'':>8}{'apart':>9}   " * len(rows))
    for name in (*ANSATZES, BROUGHT):
        line = f"{name:<22}"
        for n_wires, batch in rows:
            x, upstream = drawn(n_wires, batch, session.device)
            if name == BROUGHT:
                engine, (layers, weights) = "folded", quantum_peers.u3_cu3_brought(n_wires, session.device)
            else:
                engine = choose_engine("auto", n_wires, "angle_y", batch)
                ours, theirs = (QuantumLayer(n_wires, N_LAYERS, name, engine=e) for e in ("auto", "torchquantum"))
                theirs.weights = ours.to(session.device).weights
                layers, weights = [ours, theirs], [ours.weights]
            upstream = upstream[:, : layers[0](x[:1]).shape[1]]
            steps = {
                key: step(layer, x, weights, upstream) for key, layer in zip(("ours", "theirs"), layers, strict=True)
            }
            apart = max(differences(*(run() for run in steps.values())))
            times = interleaved(steps, session.seconds, session.device)
            ours, theirs = (statistics.median(turns) for turns in times.values())
            ratio = figure(theirs / ours, "×")
            line += f"{engine:<12}{figure(ours):>7}{figure(theirs):>10}{ratio:>8}{apart:>9.0e}   "
            session.results["ansatzes"].append(
                {"ansatz": name, "wires": n_wires, "batch": batch, "engine": engine, "ms": ours}
                | {"torchquantum_ms": theirs, "difference": apart, "ms_of_turns": times}
            )
        print(line.rstrip())


def convolutions(session: Session, sizes: list[tuple[int, int, int]]) -> None:
    """A circuit for each channel beside convolutions of the same shapes; bytes and arithmetic against the ceilings."""
    print("\nConvolutions of 2×2 with stride 2, C channels to 4C: ms a step, how many times longer the circuits take,")
    print("least bytes moved and least arithmetic a second, in percent of a large copy's and a large product's")
    print(f"{'images × C × H × W':<20}{'':<24}{'ms':>10}{'circuits ÷':>12}{'GB/s':>9}{'%':>7}{'GFLOP/s':>10}{'%':>7}")
    for images, channels, side in sizes:
        outputs, positions = 4 * channels, images * (side // 2) ** 2
        layers = {
            f"QuantumConv2d({channels}, 2)": QuantumConv2d(channels, 2),
            "nn.Conv2d": nn.Conv2d(channels, outputs, 2, stride=2),
            f"nn.Conv2d, {channels} groups": nn.Conv2d(channels, outputs, 2, stride=2, groups=channels),
        }
        flops = [channels * floor_flops(4), 6 * outputs * 4 * channels, 6 * outputs * 4]
        x = torch.randn(images, channels, side, side, device=session.device)
        upstream = torch.randn(images, outputs, side // 2, side // 2, device=session.device)
        moved = 4 * (3 * x.numel() + 2 * upstream.numel())  # x, values; upstream, x again, its gradient
        steps = {
            name: step(layer.to(session.device), x.clone(), layer.parameters(), upstream)
            for name, layer in layers.items()
        }
        for run in steps.values():
            run()
        times = interleaved(steps, session.seconds, session.device)
        ms = {name: statistics.median(turns) for name, turns in times.items()}
        circuits_ms = next(iter(ms.values()))
        for (name, own), count in zip(ms.items(), flops, strict=True):
            bandwidth, speed = moved / own * 1e3, count * positions / own * 1e3
            shares = (100 * bandwidth / session.results["copy_bytes"], 100 * speed / session.results["product_flops"])
            print(
                f"{f'{images} × {channels} × {side} × {side}':<20}{name:<24}{figure(own):>10}{figure(circuits_ms / own):>12}"
                f"{figure(bandwidth / 1e9):>9}{figure(shares[0]):>7}{figure(speed / 1e9):>10}{figure(shares[1]):>7}"
            )
        session.results["convolutions"].append(
            {"images": images, "channels": channels, "side": side, "ms": ms, "ms_of_turns": times, "bytes": moved}
            | {"flops": dict(zip(ms, (count * positions for count in flops), strict=True))}
        )


def row(text: str) -> Row:
    """ "4x16384" → (4, 16384)."""
    n_wires, batch = map(int, text.replace("×", "x").split("x"))
    return n_wires, batch


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(path: Path, results: dict) -> None:
    """Under a name of its own first: an interrupted run leaves no half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=1))
    part.replace(path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, some seconds")
    parser.add_argument("--seconds", type=float, help="time for each row, about (default 5)")
    parser.add_argument(
        "--limit", type=float, default=20, help="a longer step is timed on fewer samples (default 20 s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1, … (default cpu)")
    parser.add_argument("--rows", nargs="+", type=row, help="circuits as wires x batch, such as 4x16384")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="which tables (default all)")
    parser.add_argument("--no-peers", action="store_true", help="beside torchquantum only")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    arguments = parser.parse_args()
    device, quick, threads = arguments.device, arguments.quick, arguments.threads
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but torch sees no GPU")
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(
        threads
    )  # for lightning.qubit, which is loaded later and has an OpenMP of its own
    sys.stdout.reconfigure(line_buffering=True)

    versions = installed()
    wanted = [name for name in PEERS if name == "torchquantum" or not arguments.no_peers]
    peers = [name for name in wanted if PEERS[name][0] in versions and (name != "lightning" or device.type == "cpu")]
    product, copy = ceilings(device, quick)
    results = {"torch": torch.__version__, "packages": versions, "device": device_name(device), "threads": threads}
    results |= {"product_flops": product, "copy_bytes": copy, "notes": []} | {table: [] for table in TABLES}
    session = Session(device, arguments.seconds or (0.1 if quick else 5), arguments.limit, threads, peers, results)
    print(", ".join(f"{name} {number}" for name, number in {"torch": torch.__version__, **versions}.items()))
    print(f"{results['device']}, {threads} thread(s): a large product {product / 1e9:.0f} GFLOP/s, ", end="")
    print(f"a large copy {copy / 1e9:.1f} GB/s; float32, {N_LAYERS} layers, forward + backward")
    if absent := sorted({PEERS[name][0] for name in wanted} - set(versions)):
        print(f"Not installed, left out: {', '.join(absent)}. `make setup peers` installs them.")
    if device.type == "cuda":
        print("lightning.qubit is a CPU simulator: left out.")

    rows = arguments.rows or (QUICK_ROWS if quick else ROWS)
    sizes = QUICK_IMAGES if quick else IMAGES if device.type == "cpu" else [*IMAGES, LARGE_IMAGES]
    tables = {
        "circuits": lambda: circuits(session, rows),
        "memory": lambda: memory(session, rows[:1] if quick else rows),
        "ansatzes": lambda: ansatzes(session, QUICK_ROWS if quick else ANSATZ_ROWS),
        "convolutions": lambda: convolutions(session, sizes),
    }
    try:
        for name in arguments.tables:
            tables[name]()
    finally:
        if arguments.json:
            write(arguments.json, results)


if __name__ == "__main__":
    main()
