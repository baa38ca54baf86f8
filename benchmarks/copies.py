"""Which images are near-duplicates depends on the filter that made their thumbnails: how much, and what a split cuts.

    python benchmarks/copies.py /data/brain

The criterion of `hqcnn_lab.data.split.duplicates` (hashes 2 bits apart at most, thumbnails
correlated by 0.99 at least) on thumbnails that Pillow makes by each of its filters, of the files,
and of the files shrunk to 64 pixels first. For each, the pairs by it; how many of those the lab's
own thumbnails miss; how far they are apart there; and how many lie on two sides of the `grouped`
split, over ten seeds. Pixel-identical images are counted once. Then the nearest neighbour's
accuracy on ten such splits, and on ten that keep together copies by the criterion alone. Prints Markdown.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from hqcnn_lab.data import KaggleDataModule
from hqcnn_lab.data.split.cut import Split, cut
from hqcnn_lab.data.split.duplicates import MAX_HASH_DISTANCE, MIN_CORRELATION, group_twins
from hqcnn_lab.data.split.neighbour import nearest_neighbour_right

SEEDS = 10


def signatures(images: list[Image.Image], resample: Image.Resampling) -> tuple[np.ndarray, np.ndarray]:
    """Hash bits as ±1, float32 `[n, 64]`, and thumbnails of mean 0 and norm 1, float32 `[n, 1024]`."""
    coarse = np.stack([np.asarray(image.resize((9, 8), resample)).astype(int) for image in images])
    fine = np.stack([np.asarray(image.resize((32, 32), resample), np.float32).ravel() for image in images])
    fine -= fine.mean(1, keepdims=True)
    fine /= np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-6)
    return np.where(np.diff(coarse, axis=2) > 0, 1, -1).reshape(-1, 64).astype(np.float32), fine


def near(bits: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both images of every pair by the criterion."""
    left, right = np.nonzero(np.triu(bits @ bits.T >= 64 - 2 * MAX_HASH_DISTANCE, 1))
    alike = np.einsum("pk,pk->p", fine[left], fine[right]) >= MIN_CORRELATION
    return left[alike], right[alike]


def splits(data: KaggleDataModule, groups: np.ndarray) -> list[Split]:
    known = (data.labels, groups, data.patients, data.halves, data.classes, data.val_fraction)
    return [cut("grouped", *known, seed) for seed in range(SEEDS)]


def neighbour(data: KaggleDataModule, split: Split) -> float:
    """In percent, of the test part."""
    training = np.concatenate([split.train, split.val])
    return 100 * float(nearest_neighbour_right(data.images, data.labels, training, split.test).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="the Kaggle images: the folder with Training/ and Testing/")
    root = Path(parser.parse_args().root).expanduser()
    with tempfile.TemporaryDirectory() as cache:
        data = KaggleDataModule(root, cache, split="grouped")
        data.setup()
        first = np.unique(data.twins.original)
        grays = [np.round(255 * image.astype(np.float32)).astype(np.uint8) for image in data.images[first]]
        files = [Image.open(root / data.records[i].file).convert("L") for i in first]
    own_bits, own_fine = signatures([Image.fromarray(gray) for gray in grays], Image.Resampling.BOX)
    training = [~np.isin(first, split.test) for split in splits(data, data.groups)]
    print(f"{len(data.images)} images, {len(first)} of them distinct")
    print("| thumbnails | pairs | of them missed here | bits apart here, at most | correlated here, at least | cut |")
    print("| --- | --- | --- | --- | --- | --- |")
    for where in ("the file", "64 pixels of it"):
        for resample in Image.Resampling:
            shrunk = files if where == "the file" else [image.resize((64, 64), resample) for image in files]
            left, right = near(*signatures(shrunk, resample))
            bits = (64 - np.einsum("pk,pk->p", own_bits[left], own_bits[right])) / 2
            correlation = np.einsum("pk,pk->p", own_fine[left], own_fine[right])
            missed = (bits > MAX_HASH_DISTANCE) | (correlation < MIN_CORRELATION)
            n_cut = sum(int((side[left] != side[right]).sum()) for side in training)
            name = f"{resample.name.lower()}, {where}"
            print(f"| {name} | {len(left)} | {missed.sum()} | {bits.max():.0f} | {correlation.min():.4f} | {n_cut} |")
    for name, groups in (("copies alone", group_twins(data.twins)), ("as grouped does", data.groups)):
        right = [neighbour(data, split) for split in splits(data, groups)]
        spread = f"{np.mean(right):.1f} % (from {min(right):.1f} to {max(right):.1f})"
        print(f"nearest neighbour, kept together {name}: {spread}")


if __name__ == "__main__":
    main()
