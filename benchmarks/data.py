"""From files to batches: decoding into the cache and an epoch from it, beside plain loops and MONAI; and at full size.

    python benchmarks/data.py                           # phantom files in the real layouts; some minutes
    python benchmarks/data.py --kaggle brain            # the real pictures, instead of the phantom's
    python benchmarks/data.py --full --folder /scratch  # instead: as many slices as REMBRANDT has, killed and resumed

Linux, on the CPU. Candidates of a table take turns in one process, in an order drawn anew each round, so that a busy
machine slows all alike; medians are printed, of ratios too. Files have been read once before, so that all find them in
memory. Ours reads, hashes, decodes, scales, resizes and stores; the others decode an array and drop it. The start of
processes is in ours, and told besides; files that ours leaves out do not count for it.

At full size: 17 GB of disk, in a folder that is deleted in the end. Memory is what all processes have resident, looked
at ten times a second; what they share counts for each.
"""

import argparse
import contextlib
import filecmp
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from PIL import Image

from hqcnn_lab.data.decode.cache import decode
from hqcnn_lab.data.decode.series import recipe

# Torch, MONAI and the data modules are imported where needed: each process that decodes imports this file too.

SIZE = 64  # pixels a side in the cache
SLICES, PATIENTS = 106_541, 130  # of REMBRANDT
TARGET = 20_000  # images a second of an epoch at batch 64


def interleaved(turns: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Images a second of each turn, which returns how many it has handled."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    order, shuffled = list(turns), random.Random(0)
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            began = time.perf_counter()
            n_images = turns[name]()
            rates[name].append(n_images / (time.perf_counter() - began))
    return rates


def show(title: str, rates: dict[str, list[float]], plain: str) -> None:
    print(f"\n{title}\n{'':<34}{'images/s':>10}{'lowest':>10}{'highest':>10}{'× plain':>9}")
    for name, each in rates.items():
        ratio = statistics.median(a / b for a, b in zip(each, rates[plain], strict=True))
        print(f"{name:<34}{statistics.median(each):>10,.0f}{min(each):>10,.0f}{max(each):>10,.0f}{ratio:>9.2f}")


def export_slices(out: Path, n_slices: int, n_patients: int) -> Path:
    """As many DICOM slices or a few more, about 20 in a series, and localizers besides."""
    from hqcnn_lab.data.phantom.write import write_dicom

    n_series = ceil(n_slices / n_patients / 20)
    return write_dicom(out, n_patients, ceil(n_slices / n_patients / n_series), n_series)


def dicom_module(root: Path, cache: Path, batch_size: int = 64) -> Any:
    from hqcnn_lab.data import RembrandtDataModule

    known = (root, cache, root / "clinical.csv")
    return RembrandtDataModule(*known, split="random", image_size=SIZE, batch_size=batch_size)


def read_dicom(path: Path) -> np.ndarray:
    return pydicom.dcmread(path).pixel_array


def ingest(options: argparse.Namespace, title: str, module: Any, plain: Callable[[Path], Any], reader: str) -> None:
    """Files into the cache, beside what decodes them in one process; `reader` is MONAI's."""
    tasks, read, name = module.list_files()
    paths = [Path(module.root) / file.name for task in tasks for file in task]

    def ours(workers: int) -> int:
        with tempfile.TemporaryDirectory(dir=options.scratch) as cache:
            return len(decode(Path(module.root), tasks, read, name, SIZE, Path(cache), workers).images)

    turns = {f"ours, {n} worker{'s' * (n > 1)}": lambda n=n: ours(n) for n in sorted({1, 2, options.workers})}
    readers = {"plain loop": plain}
    from monai.transforms import LoadImage

    readers[f"MONAI LoadImage, {reader}"] = LoadImage(reader=reader, image_only=True)
    turns |= {name: lambda load=load: sum(load(path) is not None for path in paths) for name, load in readers.items()}
    for path in paths:
        path.read_bytes()
    rates = interleaved(turns, options.rounds)
    show(f"Ingest: {title}, {len(paths):,} files, to {SIZE}×{SIZE}", rates, "plain loop")
    options.results["ingest"][title] = {"files": len(paths), "images_per_s": rates}


def epochs(options: argparse.Namespace, root: Path, cache: Path, batch_size: int, alone: bool = False) -> None:
    """Shuffled training images, not augmented: ours from the cache; unless `alone`, others from float32 tensors."""
    import torch

    data = dicom_module(root, cache, batch_size)
    data.setup()
    train = data.split.train
    loaders = {"ours, from the cache": data.train_dataloader()}
    if not alone:
        images = torch.from_numpy(data.images[train].astype(np.float32)).unsqueeze(1)
        known = torch.utils.data.TensorDataset(images, torch.from_numpy(data.labels[train]), torch.from_numpy(train))
        common = {"batch_size": batch_size, "shuffle": True, "drop_last": True}
        loaders["TensorDataset, DataLoader"] = torch.utils.data.DataLoader(known, **common)
        import monai.data

        items = [dict(zip(("image", "label", "index"), each, strict=True)) for each in known]
        held = monai.data.CacheDataset(items, [], progress=False)
        loaders["MONAI CacheDataset, DataLoader"] = monai.data.DataLoader(held, num_workers=0, **common)
    n_epochs = ceil(TARGET / len(train))  # enough to time

    def turn(loader: Any) -> int:
        return sum(len(batch["image" if isinstance(batch, dict) else 0]) for _ in range(n_epochs) for batch in loader)

    turns = {name: lambda loader=loader: turn(loader) for name, loader in loaders.items()}
    interleaved(turns, 1)
    rates = interleaved(turns, options.rounds)
    show(f"Epoch: {len(train):,} images, batch {batch_size}", rates, list(rates)[not alone])
    if batch_size == 64:
        print(f"at least {TARGET:,} images/s:", statistics.median(rates["ours, from the cache"]) >= TARGET)
    options.results["epoch"][batch_size] = {"images": len(train), "images_per_s": rates}


def tables(options: argparse.Namespace) -> None:
    """Ingest of both kinds of files, then the epoch."""
    from hqcnn_lab.data import KaggleDataModule
    from hqcnn_lab.data.phantom.write import write_kaggle

    began = time.perf_counter()
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        list(pool.map(recipe, ["pictures"] * options.workers))
    options.results["pool_start_s"] = start = time.perf_counter() - began
    print(f"to start {options.workers} processes: {start:.1f} s, part of ours where it has several")
    slices, cache = export_slices(options.scratch / "dicom", options.files, 12), options.scratch / "cache"
    ingest(options, "DICOM, 256×256, 12 of 16 bits", dicom_module(slices, cache), read_dicom, "PydicomReader")
    n_test, title = options.files // 5, "pictures as published" if options.kaggle else "JPEG, 128×128"
    pictures = options.kaggle or write_kaggle(options.scratch / "kaggle", options.files - n_test, n_test)
    module = KaggleDataModule(pictures, cache, image_size=SIZE)
    ingest(options, title, module, lambda path: np.asarray(Image.open(path)), "PILReader")
    for batch_size in (64, 512):
        epochs(options, slices, cache, batch_size)


class Watched(NamedTuple):
    """Of a command: seconds to a new image, the last and the end; bytes in memory at most; `least` bytes of images."""

    first: float
    decoded: float
    ended: float
    peak_decoding: int
    peak: int
    least: int


def prepare(options: argparse.Namespace, root: Path, cache: Path, kill_at: float = np.inf) -> Watched:
    """Run `hqcnn_lab.prepare` on all cores and watch it; kill it, -9, when so many bytes of images are there."""
    command = [sys.executable, "-m", "hqcnn_lab.prepare", "dataset=rembrandt", f"dataset.image_size={SIZE}"]
    command += [f"dataset.root={root}", f"dataset.clinical={root / 'clinical.csv'}", "dataset.split=random"]
    command += [f"dataset.cache_dir={cache}", f"dataset.workers={options.workers}"]
    before, sizes, peaks, first, decoded = stored(cache), [], [0], 0.0, 0.0
    with (root.parent / "log").open("w+") as log:
        began = time.perf_counter()
        job = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            while job.poll() is None and (not sizes or sizes[-1] < kill_at):
                seconds, n_bytes = time.perf_counter() - began, stored(cache)
                peaks.append(max(peaks[-1], resident(job.pid)))
                if n_bytes >= 0:
                    sizes.append(n_bytes)
                    first = first or seconds * (n_bytes > max(before, 0))
                elif not decoded and any(cache.glob("*/entry.json")):
                    decoded, peak_decoding = seconds, peaks[-1]
                time.sleep(0.1)
            ended = time.perf_counter() - began
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        log.seek(0)
        if job.returncode != (0 if decoded else -signal.SIGKILL):
            sys.exit(f"{' '.join(command)} ended with {job.returncode}: {log.read()[-1000:]}")
    return Watched(first, decoded, ended, peak_decoding if decoded else peaks[-1], peaks[-1], min(sizes))


def stored(cache: Path) -> int:
    """Bytes of images in an unfinished entry, −1 where there is none."""
    with contextlib.suppress(OSError):
        return next((path.stat().st_size for path in cache.glob("*.part/images.f2")), -1)
    return -1


def resident(session: int) -> int:
    """Bytes that the processes of a session have in memory."""
    pages = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            pages += int(fields[21]) * (int(fields[3]) == session)
    return pages * os.sysconf("SC_PAGE_SIZE")


def full(options: argparse.Namespace) -> None:
    """One command over as many slices as REMBRANDT has; the same killed halfway and started again; an epoch."""
    scratch, needed = options.scratch, 1.05 * options.slices * (136_000 + 4 * SIZE**2)  # bytes of files, two caches
    if (free := shutil.disk_usage(scratch).free) < needed:
        sys.exit(f"{free / 1e9:.0f} GB are free in {scratch}, {needed / 1e9:.0f} needed; name another by --folder")
    root, caches = export_slices(scratch / "dicom", options.slices, PATIENTS), (scratch / "whole", scratch / "killed")
    paths = sorted(root.rglob("*.dcm"))
    step = ceil(len(paths) / 5000)

    def plain_loop(turn: int) -> float:
        sample = paths[turn::step]  # never read before in this turn: as little in memory as what ours reads
        return interleaved({"plain": lambda: sum(read_dicom(path) is not None for path in sample)}, 1)["plain"][0]

    plain = [plain_loop(0)]
    whole = prepare(options, root, caches[0])
    plain.append(plain_loop(1))
    [entry] = (path.parent for path in caches[0].glob("*/entry.json"))
    size = (entry / "images.f2").stat().st_size
    prepare(options, root, caches[1], kill_at=size / 2)
    kept = stored(caches[1])
    again = prepare(options, root, caches[1])
    plain.append(plain_loop(2))
    went_on = 0 < kept <= again.least + 50 * SIZE**2  # but for the series that was being written
    names = ["images.f2", "index.csv"]
    same = filecmp.cmpfiles(entry, caches[1] / entry.name, names, shallow=False)[0] == names
    n_images, on_disk = size // (2 * SIZE**2), sum((entry / name).stat().st_size for name in [*names, "entry.json"])
    rate, alone = n_images / whole.decoded, statistics.median(plain)
    lines = {
        "files, images": f"{len(paths):,}, {n_images:,}",
        "decoded": f"{whole.decoded:.1f} s with start and listing, of which {whole.first:.1f} to the first image",
        "images/s": f"{rate:,.0f}, {rate / alone:.2f} × the plain loop's {alone:,.0f} ({len(paths) // step:,} files)",
        "with copies and audit": f"{whole.ended:.1f} s",
        "memory at most": f"{whole.peak_decoding / 1e6:,.0f} MB decoding, {whole.peak / 1e6:,.0f} MB in all",
        "the cache on disk": f"{on_disk / 1e6:,.0f} MB",
        "killed at, went on": f"{kept / size:.0%}, {'yes' if went_on else 'NO'}: {again.decoded:.1f} s for the rest",
        "images and index identical": "yes" if same else "NO",
    }
    print("\nFull size\n" + "\n".join(f"{name:<28}{text}" for name, text in lines.items()))
    measured = {"files": len(paths), "images": n_images, "plain": plain, "on_disk": on_disk, "same": same}
    measured |= {"whole": whole._asdict(), "again": again._asdict(), "kept": kept / size, "went_on": went_on}
    options.results["full"] = measured
    for batch_size in (64, 512):
        epochs(options, root, caches[0], batch_size, alone=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4000, help="DICOM files, and pictures (default 4000)")
    parser.add_argument("--kaggle", type=Path, help="the folder with Training/ and Testing/, instead of the phantom")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that decode (default all cores)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each candidate (default 5)")
    parser.add_argument("--full", action="store_true", help="the full-size run, instead of the tables")
    parser.add_argument("--slices", type=int, default=SLICES, help=f"of the full size (default {SLICES})")
    parser.add_argument("--folder", type=Path, help="for the files, which are deleted in the end (default: temporary)")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # so that the folder is deleted
    sys.stdout.reconfigure(line_buffering=True)
    versions = {name: version(name) for name in ("pydicom", "pillow", "numpy", "torch", "monai")}
    options.results = {"versions": versions, "cores": os.cpu_count(), "ingest": {}, "epoch": {}}
    print(", ".join(f"{name} {number}" for name, number in versions.items()) + f"; {os.cpu_count()} cores")
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hqcnn-", dir=options.folder) as scratch:
        options.scratch = Path(scratch)
        (full if options.full else tables)(options)
    if options.json:
        options.json.write_text(json.dumps(options.results, indent=1))


if __name__ == "__main__":
    main()
