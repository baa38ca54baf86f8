"""Pictures of one image and of what `hqcnn_lab.models.explain` finds in it."""

import io
from typing import TYPE_CHECKING

import numpy as np

from hqcnn_lab.figures.panel import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 128  # pixels of a small picture


def heat_map_figure(image: np.ndarray, looks: np.ndarray | None, fall: np.ndarray, answer: str) -> "Figure":
    """The image, over it where the network looks, and how far its probability falls where it is blurred; each `[H, W]`.

    `image` in [0, 1]; `looks` and `fall` as `integrated_gradients` and `occlusion` return them; `answer` is what the
    network says. Without `looks`, two panels.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = new_figure(3.0)
    panels: dict[str, tuple[np.ndarray, float, str]] = {}
    if looks is not None:
        panels[f"Where it looks: {answer}"] = (looks, max(float(looks.max()), 1e-6), "speaks for it")
    largest = max(float(fall.max()), 1e-3)
    panels["How much less sure when blurred there"] = (100 * fall, 100 * largest, "percentage points")
    axes = figure.subplots(1, 1 + len(panels))
    axes[0].set_title(f"Taken for {answer}", fontsize=9)
    for one in axes:
        one.imshow(image, cmap="gray", vmin=0, vmax=1)
        one.set_axis_off()
    for one, (title, (heat, top, unit)) in zip(axes[1:], panels.items(), strict=True):
        one.set_title(title, fontsize=9)
        opacity = 0.7 * np.clip(heat / top, 0, 1) ** 0.5  # where there is no heat, the image is
        one.imshow(heat, cmap="inferno", vmin=0, vmax=top, alpha=opacity)
        bar = figure.colorbar(ScalarMappable(Normalize(0, top), "inferno"), ax=one, shrink=0.7, pad=0.02)
        bar.set_label(unit, fontsize=7)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
        if unit == "speaks for it":  # a density; its scale is the image's own
            bar.set_ticks([0, top], labels=["not", "most"])
    return figure


def image_jpeg(image: np.ndarray, heat: np.ndarray | None = None) -> bytes:
    """A small picture of an image, under its heat map where it has one; each `[H, W]` in [0, 1]. For a page of many."""
    import matplotlib
    from PIL import Image

    grey = np.repeat(np.clip(image, 0, 1)[..., None], 3, 2)
    if heat is not None:
        share = 0.55 * heat[..., None]
        grey = (1 - share) * grey + share * matplotlib.colormaps["inferno"](heat)[..., :3]
    picture = Image.fromarray((255 * grey).round().astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format="jpeg", quality=85)
    return buffer.getvalue()
