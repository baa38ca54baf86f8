"""Find images that occur twice: the same pixels, or copies that another resize, crop or compression has changed a bit.

Two images are near-duplicates when their 64-bit difference hashes (is a pixel of a 9×8 thumbnail darker than its right
neighbour?) differ in at most 2 bits *and* their 32×32 thumbnails correlate at 0.99 or more. The hash alone takes
different heads on black ground for copies.

Either bound is met or missed by a hair, and thumbnails that another filter has made put other pairs over it. So a split
keeps together more than copies: 16 bits at most, and 0.975 (`group_alike`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MAX_HASH_DISTANCE = 2
MIN_CORRELATION = 0.99
# What a split keeps together. Copies by any of eight resize filters are 11 bits apart here at most and correlate at
# 0.981 at least, on the Kaggle images (benchmarks/copies.py); at 0.97 a first group of these mixes classes.
KEPT_HASH_DISTANCE = 16
KEPT_CORRELATION = 0.975

_BLOCK = 4096  # images read, or hashes compared with hashes, at a time
_CORRELATED = 8192  # pairs of thumbnails gathered at a time: 2 × 16 MiB


class Twins(NamedTuple):
    """Which of `n` images are copies of which; made by `find_twins`.

    `original` int64 `[n]`: the first image with the same pixels, itself where there is none before.
    `near` int64 `[m, 2]`: pairs of such first images that are near-duplicates; an image's copies share its pairs.
    """

    original: np.ndarray
    near: np.ndarray


def find_twins(images: np.ndarray, pixel_hashes: np.ndarray) -> Twins:
    """Compare every two of `images` `[n, H, W]`, a memory map too; `pixel_hashes` `[n]` are equal where pixels are.

    Pixel-identical images are compared once, so many copies of one image cost nothing. Neighbouring slices of one head
    seldom are near-duplicates: this does not stand in for a patient's id. Memory: 2 KiB an image, 16 bytes a pair.
    """
    _, first, inverse = np.unique(pixel_hashes, return_index=True, return_inverse=True)
    distinct = np.sort(first)
    bits, thumbnails = _signatures(images, distinct)
    return Twins(first[inverse].astype(np.int64), distinct[_near_pairs(bits, thumbnails)])


def group_twins(twins: Twins) -> np.ndarray:
    """Number the groups of copies, int64 `[n]`: images joined by a chain of copies share a number.

    Numbers follow the first image of each group.
    """
    return _numbered(_joined(twins.original, twins.near))


def group_alike(images: np.ndarray, twins: Twins) -> np.ndarray:
    """As `group_twins`, of images that are copies by whatever filter they were made small: what a split must not cut.

    Two images are joined where hashes differ in at most 16 bits and thumbnails correlate at 0.975 or more. All pairs
    are correlated: 100,000 images take minutes, and 2 KiB each.
    """
    distinct = np.unique(twins.original)
    root = _joined(twins.original, twins.near)
    for pairs in _alike(*_signatures(images, distinct)):
        root = _joined(root, distinct[pairs])
    return _numbered(root)


def _joined(root: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The lowest image of each image's group, `[n]`, once the two of each pair are of one."""
    root = root.copy()
    while True:
        ends = root[pairs]
        if (ends[:, 0] == ends[:, 1]).all():
            return root
        np.minimum.at(root, ends.max(1), ends.min(1))
        while (root != root[root]).any():
            root = root[root]


def _numbered(root: np.ndarray) -> np.ndarray:
    return np.unique(root, return_inverse=True)[1].astype(np.int64)


def has_twin(twins: Twins, among: np.ndarray) -> np.ndarray:
    """Return a mask `[n]` of the images that have a copy, exact or near, other than themselves in the mask `among`.

    For exact copies alone give `twins._replace(near=twins.near[:0])`.
    """
    counts = np.bincount(twins.original[among], minlength=len(twins.original))
    beside = np.zeros(len(counts), dtype=bool)
    left, right = twins.near.T
    beside[left[counts[right] > 0]] = True
    beside[right[counts[left] > 0]] = True
    return beside[twins.original] | (counts[twins.original] > among)


def count_pairs(twins: Twins, some: np.ndarray, others: np.ndarray) -> int:
    """Count the pairs of copies with one image in the mask `some` and one in `others`.

    The masks are either the same or disjoint: otherwise a pair in both would count twice.
    """
    n = len(twins.original)
    in_some, in_others = (np.bincount(twins.original[mask], minlength=n) for mask in (some, others))
    left, right = twins.near.T
    exact = in_some @ in_others
    near = in_some[left] @ in_others[right] + in_some[right] @ in_others[left]
    same = np.array_equal(some, others)
    return int((exact - some.sum() + near) // 2 if same else exact + near)


def _signatures(images: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash bits as ±1, float32 `[m, 64]`, and thumbnails of mean 0 and norm 1 (0 if flat), float16 `[m, 1024]`."""
    bits = np.empty((len(chosen), 64), dtype=np.float32)
    thumbnails = np.empty((len(chosen), 32 * 32), dtype=np.float16)  # moves a correlation by 1e-5 or so
    for start in range(0, len(chosen), _BLOCK):
        block = images[chosen[start : start + _BLOCK]].astype(np.float32)
        # Whole grey levels, as in a file of 8 bits: on a black ground, equal pixels say more than which has less noise.
        coarse = np.round(255 * _shrink(block, 8, 9))
        bits[start : start + _BLOCK] = np.where(coarse[:, :, 1:] > coarse[:, :, :-1], 1, -1).reshape(-1, 64)
        fine = _shrink(block, 32, 32).reshape(-1, 32 * 32)
        fine -= fine.mean(1, keepdims=True)
        norm = np.linalg.norm(fine, axis=1, keepdims=True)
        thumbnails[start : start + _BLOCK] = np.where(norm > 1e-3, fine / np.maximum(norm, 1e-3), 0)
    return bits, thumbnails


def _shrink(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average over the area of each new pixel."""
    return _weights(images.shape[1], height) @ images @ _weights(images.shape[2], width).T


def _weights(n: int, m: int) -> np.ndarray:
    """Row i holds the share of new pixel i that each of `n` old pixels covers, float32 `[m, n]`."""
    edge, pixel = np.arange(m + 1)[:, None] * n / m, np.arange(n)
    overlap = np.minimum(edge[1:], pixel + 1) - np.maximum(edge[:-1], pixel)
    return (np.maximum(overlap, 0) * m / n).astype(np.float32)


def _near_pairs(bits: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    # Hashes 2 bits apart have numbers of ones at most 2 apart: sorted by that number, few blocks need comparing.
    ones = bits.sum(1) / 2
    order = np.argsort(ones, kind="stable")
    bits, ones = bits[order], ones[order]
    blocks = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(bits), _BLOCK):
        stop = min(start + _BLOCK, len(bits))
        within = np.searchsorted(ones, ones[stop - 1] + MAX_HASH_DISTANCE, "right")
        for left in range(start, within, _BLOCK):
            # ±1 bits: the product is 64 less twice the distance.
            product = bits[start:stop] @ bits[left : min(left + _BLOCK, within)].T
            i, j = np.divmod(np.flatnonzero(product >= 64 - 2 * MAX_HASH_DISTANCE), product.shape[1])
            once = start + i < left + j
            blocks.append(_correlated(thumbnails, order[start + i[once]], order[left + j[once]]))
    pairs = np.sort(np.concatenate(blocks), axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


def _correlated(thumbnails: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(i), _CORRELATED):
        a, b = i[start : start + _CORRELATED], j[start : start + _CORRELATED]
        correlation = np.einsum("pk,pk->p", thumbnails[a], thumbnails[b], dtype=np.float32)
        pairs.append(np.stack([a, b], 1)[correlation >= MIN_CORRELATION])
    return np.concatenate(pairs)


def _alike(bits: np.ndarray, thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs that a split keeps together, int64 `[m, 2]`, a block of the matrix of correlations at a time."""
    for start in range(0, len(thumbnails), _BLOCK):
        rows = thumbnails[start : start + _BLOCK].astype(np.float32)
        for left in range(start, len(thumbnails), _BLOCK):
            correlation = rows @ thumbnails[left : left + _BLOCK].astype(np.float32).T
            pairs = np.argwhere(correlation >= KEPT_CORRELATION) + np.array([start, left])
            product = np.einsum("pk,pk->p", *bits[pairs.T])
            yield pairs[product >= 64 - 2 * KEPT_HASH_DISTANCE]
