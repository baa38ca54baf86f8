"""A procedural brain-MRI phantom: stylised head slices of the four Kaggle classes, for work without a download.

Everything is painted in one coordinate frame per view (x right, y down, the head about 1.7 wide) from a handful of
ellipses. Their implicit distance makes the layers — scalp, skull, CSF, cortex, white matter — and tells where a tumour
may sit: a glioma inside the tissue, a meningioma on the dura, a pituitary mass at the sella. Pose, contrast and
distractors do not depend on the class; the slice level does, as an axial slice above the sella cannot show that mass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hqcnn_lab.data.phantom.canvas import BLOCK, Canvas, ellipse_table, posed_canvas, smoothed
from hqcnn_lab.distributed import memory_bytes

# In the order of data.source.layout.CLASSES.
GLIOMA, MENINGIOMA, NOTUMOR, PITUITARY = range(4)

_VIEWS = ("axial", "axial through the sella", "coronal", "sagittal")

# Ellipses: centre x, centre y, radius x, radius y in hundredths, tilt in degrees; one line per view, as above.
_BRAIN = (
    ((0, 0, 56, 74, 0),),
    ((0, -22, 44, 44, 0), (0, 30, 52, 42, 0), (-14, 4, 40, 28, 20), (14, 4, 40, 28, -20)),
    ((0, -27, 61, 46, 0), (-36, 6, 24, 20, 10), (36, 6, 24, 20, -10), (0, 16, 11, 34, 0)),
    ((0, -27, 77, 46, 0), (-38, 14, 29, 21, 15), (-8, 26, 10, 38, -15), (26, -2, 30, 18, -10)),
)
_HEAD = (
    ((0, 0, 66, 85, 0),),
    ((0, 0, 66, 88, 0), (0, -88, 9, 8, 0)),
    ((0, -24, 73, 62, 0), (0, 36, 58, 58, 0), (0, 95, 42, 60, 0)),
    ((0, -24, 89, 60, 0), (44, 30, 42, 54, 25), (-14, 70, 52, 80, 0), (84, 16, 14, 8, 40)),
)
_VENTRICLE = (
    ((-10, -18, 5, 17, -20), (10, -18, 5, 17, 20), (-15, 20, 5, 15, 22), (15, 20, 5, 15, -22), (0, 2, 2, 8, 0)),
    ((0, -3, 13, 6, 0), (0, 40, 5, 4, 0)),
    ((-11, -26, 5, 13, 40), (11, -26, 5, 13, -40), (0, -8, 2, 9, 0)),
    ((2, -22, 27, 5, 8), (-22, -11, 10, 6, -40), (-21, 18, 4, 7, 0)),
)
_FISSURE = (
    ((0, -54, 2, 22, 0), (0, 54, 2, 22, 0), (-50, -4, 14, 2, 10), (50, -4, 14, 2, -10)),
    ((0, -46, 2, 22, 0), (-42, -2, 16, 2, -20), (42, -2, 16, 2, 20), (-26, 26, 22, 2, -35), (26, 26, 22, 2, 35)),
    ((0, -56, 2, 20, 0), (-50, -10, 14, 2, 10), (50, -10, 14, 2, -10)),
    ((-40, -3, 34, 2, 12), (10, -50, 2, 18, 25), (36, 0, 24, 2, -15)),
)
_DEEP_GREY = (
    ((-20, 3, 8, 14, 17), (20, 3, 8, 14, -17)),
    ((-24, 34, 20, 20, 0), (24, 34, 20, 20, 0)),
    ((-20, -8, 10, 9, 0), (20, -8, 10, 9, 0)),
    ((0, -11, 16, 7, 0), (-40, 15, 20, 13, 12)),
)
_EYE = (
    (),
    ((-27, -64, 13, 11, 0), (27, -64, 13, 11, 0)),
    ((-30, 40, 12, 12, 0), (30, 40, 12, 12, 0)),
    ((64, 10, 11, 10, 0),),
)
_AIR = (
    (),
    ((-8, -64, 6, 12, 0), (8, -64, 6, 12, 0), (-52, 16, 6, 10, 0), (52, 16, 6, 10, 0)),
    ((0, 37, 13, 7, 0), (-24, 66, 11, 12, 0), (24, 66, 11, 12, 0), (0, 64, 4, 20, 0)),
    ((34, 27, 14, 7, 0), (56, 52, 20, 5, 10), (20, 70, 4, 24, -5), (50, 36, 16, 3, 10)),
)
_SELLA = ((0, 0), (0, -10), (0, 19), (20, 17))

# Intensities, one row per contrast: six columns of anatomy, then six that belong to tumours.
_ANATOMY = ("csf", "grey", "white", "fat", "muscle", "vessel")
_TISSUES: tuple[str, ...] = (*_ANATOMY, "oedema", "solid", "rim", "necrosis", "meningioma", "adenoma")
_CONTRASTS = (  # T1 with contrast agent, T2, FLAIR
    (0.12, 0.38, 0.45, 0.85, 0.40, 0.85, 0.26, 0.66, 0.95, 0.12, 0.90, 0.85),
    (0.95, 0.50, 0.40, 0.65, 0.25, 0.08, 0.80, 0.70, 0.62, 0.95, 0.74, 0.76),
    (0.08, 0.48, 0.40, 0.60, 0.30, 0.10, 0.85, 0.75, 0.85, 0.25, 0.82, 0.80),
)
_CONTRAST_SHARES = (0.7, 0.14, 0.16)


_Parts = tuple[tuple[tuple[int, int, int, int, int], ...], ...]  # by view
_Shade = dict[str, Tensor]  # of each tissue, `[n, 1, 1]`


def _block(seed: int, block: int, size: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((seed, block))
    # Classes are shuffled within groups of four: any prefix is balanced within one image.
    label = torch.from_numpy(rng.random((BLOCK // 4, 4)).argsort(axis=1).reshape(-1))
    view = torch.from_numpy(rng.integers(0, len(_VIEWS), BLOCK))
    shows_sella = torch.from_numpy(rng.integers(1, len(_VIEWS), BLOCK))
    view = torch.where((label == PITUITARY) & (view == 0), shows_sella, view)
    canvas = posed_canvas(rng, size)
    contrast = torch.from_numpy(rng.choice(len(_CONTRASTS), BLOCK, p=_CONTRAST_SHARES))
    jitter = torch.from_numpy(rng.uniform(0.93, 1.07, (BLOCK, len(_TISSUES))).astype(np.float32))
    shade = dict(zip(_TISSUES, (torch.tensor(_CONTRASTS)[contrast] * jitter)[:, :, None, None].unbind(1), strict=True))

    def distance(parts: _Parts, radii: Tensor | float = 1.0) -> Tensor:
        """To what is drawn of `parts` in each image's view, with its radii times `radii`."""
        ellipses = ellipse_table(parts)[view]
        ellipses[:, :, 2:4] *= radii
        return canvas.union(ellipses, view, [len(of_view) for of_view in parts])

    brain, head = distance(_BRAIN), distance(_HEAD)
    ventricle = distance(_VENTRICLE, canvas.uniform(0.6, 1.35))
    picture = _anatomy(canvas, shade, distance, brain, head, ventricle)
    sella = (0.01 * torch.tensor(_SELLA)[view])[:, :, None, None]
    _add_distractors(canvas, shade, picture, brain, ventricle, sella)
    _add_tumours(canvas, shade, label, picture, brain, sella)
    return _scanner(canvas, picture), label


def _anatomy(
    canvas: Canvas, shade: _Shade, distance: Callable[[_Parts], Tensor], brain: Tensor, head: Tensor, ventricle: Tensor
) -> Tensor:
    flesh = shade["muscle"] * (1.0 + 0.6 * canvas.field(22)).clamp(0.1, 2.4)
    picture = flesh * canvas.inside(head)
    picture = torch.lerp(picture, shade["fat"], canvas.inside(head) * canvas.inside(-head - canvas.uniform(0.03, 0.06)))
    picture = torch.lerp(picture, 0.3 + 0.4 * shade["csf"], canvas.inside(distance(_EYE)))
    picture = picture * (1.0 - 0.95 * canvas.inside(distance(_AIR) + 0.02 * canvas.field(10)))
    picture = picture * (1.0 - 0.9 * canvas.inside(brain - canvas.uniform(0.05, 0.09)))
    picture = torch.lerp(picture, shade["csf"], canvas.inside(brain - 0.02))

    folds, atrophy = canvas.field(20), canvas.uniform(0.0, 1.0)
    tissue = torch.lerp(shade["white"], shade["grey"], canvas.inside(-(brain + 0.1 + 0.06 * folds), 0.02))
    tissue = torch.lerp(tissue, shade["grey"], canvas.inside(distance(_DEEP_GREY), 0.03) * 0.8)
    near_surface = canvas.inside(-brain - 0.08 - 0.1 * atrophy, 0.08)
    sulci = canvas.inside(canvas.field(17).abs() * 0.12 - 0.025 * atrophy) * near_surface
    fissure = canvas.inside(distance(_FISSURE)) * (0.4 + 0.4 * atrophy)
    tissue = torch.lerp(tissue, shade["csf"], torch.maximum(sulci * (0.4 + 0.6 * atrophy), fissure))
    tissue = torch.lerp(tissue, shade["csf"], canvas.inside(ventricle))
    return torch.lerp(picture, tissue * (1.0 + 0.04 * canvas.field(30)), canvas.inside(brain))


def _add_distractors(
    canvas: Canvas, shade: _Shade, picture: Tensor, brain: Tensor, ventricle: Tensor, sella: Tensor
) -> None:
    """What every class may show, so that neither "a bright blob" nor "something at the sella" tells the class."""
    midline = canvas.x.abs() < 0.05
    places = (  # where, radius from, to, intensity, how often
        (brain.abs() < 0.04, 0.02, 0.035, shade["vessel"], 0.8),
        (brain.abs() < 0.04, 0.02, 0.035, shade["vessel"], 0.8),
        ((brain + 0.2).abs() < 0.1, 0.02, 0.03, shade["vessel"], 0.6),
        ((brain.abs() < 0.03) & midline & (canvas.y < 0), 0.03, 0.05, shade["vessel"], 0.7),
        (ventricle < 0, 0.02, 0.04, canvas.uniform(0.0, 1.0), 0.6),
        ((brain < -0.12) & (ventricle > 0.05), 0.03, 0.055, shade["oedema"], 0.4),
        (brain < 0.0, 0.04, 0.08, shade["csf"], 0.12),
    )
    for allowed, smallest, largest, intensity, share in places:
        lottery, radius = canvas.lottery(), canvas.uniform(smallest, largest)
        other_radius, shown = radius * canvas.uniform(0.8, 1.2), canvas.chance(share)
        some = canvas.where(shown)
        cx, cy = some.spot(some.of(allowed), some.of(lottery))
        blob = some.inside(some.blob(cx, cy, some.of(radius), some.of(other_radius)))
        some.paint(picture, some.of(picture).lerp_(some.of(intensity), blob.mul_(some.of(shown))))
    radius, other_radius, shown = canvas.uniform(0.03, 0.06), canvas.uniform(0.025, 0.04), canvas.chance(0.6)
    some = canvas.where(shown)
    cx, cy = some.of(sella).unbind(1)
    gland = some.inside(some.blob(cx, cy + 0.02, some.of(radius), some.of(other_radius)))
    some.paint(picture, some.of(picture).lerp_(some.of(shade["adenoma"]), gland.mul_(some.of(shown))))


def _add_tumours(canvas: Canvas, shade: _Shade, label: Tensor, picture: Tensor, brain: Tensor, sella: Tensor) -> None:
    """Each kind is painted on the images of its class, from random numbers that all images have their share of."""
    off_sella = torch.hypot(canvas.x - sella[:, 0], canvas.y - sella[:, 1])
    for kind, paint in ((GLIOMA, _glioma), (MENINGIOMA, _meningioma), (PITUITARY, _pituitary)):
        is_class = (label == kind).float()[:, None, None]
        some = canvas.where(is_class)
        colours = {tissue: some.of(colour) for tissue, colour in shade.items()}
        geometry = (some.of(brain), some.of(off_sella), some.of(sella))
        some.paint(picture, paint(some, colours, some.of(is_class), some.of(picture), *geometry))


def _glioma(
    canvas: Canvas, shade: _Shade, is_class: Tensor, picture: Tensor, brain: Tensor, off_sella: Tensor, sella: Tensor
) -> Tensor:
    radius = canvas.uniform(0.18, 0.27)
    in_depth = brain < -0.04 - 0.7 * radius
    cx, cy = canvas.spot(in_depth & (off_sella > 0.1 + radius), canvas.lottery())
    rough = canvas.field(9).clamp(max=1.0)  # more would tear the tumour apart
    bulk = canvas.blob(cx, cy, radius * canvas.uniform(0.75, 1.25), radius) + 0.4 * radius * rough
    within = canvas.inside(brain) * is_class
    oedema = canvas.inside(bulk - 0.08 - 0.06 * canvas.field(6), 0.1)
    picture = torch.lerp(picture, shade["oedema"], oedema * within * 0.85)
    solid = shade["solid"] * (1 + 0.3 * canvas.field(18))
    picture = torch.lerp(picture, solid, canvas.inside(bulk, 0.04) * within)
    ring = canvas.chance(0.75) * within
    picture = torch.lerp(picture, shade["rim"], canvas.inside(bulk + 0.02, 0.02) * ring)
    return torch.lerp(picture, shade["necrosis"], canvas.inside(bulk + 0.085, 0.02) * ring)


def _meningioma(
    canvas: Canvas, shade: _Shade, is_class: Tensor, picture: Tensor, brain: Tensor, off_sella: Tensor, sella: Tensor
) -> Tensor:
    radius = canvas.uniform(0.17, 0.28)
    on_dura = (brain + 0.5 * radius).abs() < 0.05
    cx, cy = canvas.spot(on_dura & (off_sella > 0.25 + radius) & (canvas.y < 0.3), canvas.lottery())
    bulk = canvas.blob(cx, cy, radius, radius * canvas.uniform(0.8, 1.2)) + 0.05 * radius * canvas.field(6)
    within = canvas.inside(brain - 0.04) * is_class
    picture = torch.lerp(picture, shade["csf"], canvas.inside(bulk - 0.03) * within * 0.6)
    return torch.lerp(picture, shade["meningioma"], canvas.inside(bulk) * within)


def _pituitary(
    canvas: Canvas, shade: _Shade, is_class: Tensor, picture: Tensor, brain: Tensor, off_sella: Tensor, sella: Tensor
) -> Tensor:
    radius = canvas.uniform(0.12, 0.18)
    cx, cy = sella[:, 0] + canvas.uniform(-0.03, 0.03), sella[:, 1] + canvas.uniform(-0.04, 0.02)
    bulk = canvas.blob(cx, cy, radius, radius * canvas.uniform(0.9, 1.25))
    return torch.lerp(picture, shade["adenoma"], canvas.inside(bulk) * is_class)


def _scanner(canvas: Canvas, picture: Tensor) -> Tensor:
    """Coil bias, blur, Rician noise (the magnitude of a complex signal), scaling to [0, 1] and a display gamma."""
    picture = picture.clamp(min=0) * torch.exp(0.12 * canvas.field(2))
    smooth = smoothed(picture)
    picture = torch.lerp(picture, smooth, canvas.uniform(0.0, 0.8))
    real, imaginary = canvas.noise(), canvas.noise()
    sigma = 0.03 * canvas.uniform(0.3, 1.0) ** 2
    picture = torch.hypot(picture + sigma * real, sigma * imaginary)
    low, high = picture.amin((1, 2), keepdim=True), picture.amax((1, 2), keepdim=True)
    return ((picture - low) / (high - low)) ** canvas.uniform(0.8, 1.5)


def generate(n_images: int, seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Draw a labelled set of phantom slices; image i depends on `(seed, i)` alone, so longer sets extend shorter ones.

    For tests, examples and telling optimizers apart. Not evidence about patients: an accuracy on the phantom says that
    a network and its training work, nothing about tumours. `benchmarks/phantom.py` measures how hard it is.

    Args:
        n_images: how many; the classes are balanced within one image in every prefix.
        seed: a set of its own per seed, e.g. one for training and another for testing. Not negative.
        size: pixels a side; another size is another set of images, not a resampling.

    Returns:
        Images `[n, size, size]`, float32, each spanning [0, 1], and labels `[n]`, int64, indices into
        `data.source.layout.CLASSES`.

    Raises:
        ValueError: one line, for arguments out of range or more than the memory holds.
    """
    if n_images < 0 or seed < 0 or size < 16:
        raise ValueError(f"need n_images >= 0, seed >= 0 and size >= 16, got {n_images=}, {seed=}, {size=}")
    # A block is painted in layers, most of them as large as itself.
    need, have = 4 * size**2 * (n_images + 20 * BLOCK), memory_bytes()
    if need > have:
        raise ValueError(
            f"{n_images} images of {size}×{size} pixels need {need >> 30:,} GiB and this machine has {have / 2**30:.0f}"
        )
    images = np.empty((n_images, size, size), np.float32)
    labels = np.empty(n_images, np.int64)
    # One thread: the operations are too small to share, and on a busy machine waiting for the second costs most.
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for first in range(0, n_images, BLOCK):
            image, label = _block(seed, first // BLOCK, size)
            images[first : first + BLOCK] = image[: n_images - first].numpy()
            labels[first : first + BLOCK] = label[: n_images - first].numpy()
    finally:
        torch.set_num_threads(n_threads)
    return images, labels
