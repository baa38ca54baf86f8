"""A picture of one image and of what `hqcnn_lab.explain` finds in it."""

from typing import TYPE_CHECKING

import numpy as np

from hqcnn_lab.analysis.panel import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heat_map_figure(image: np.ndarray, cam: np.ndarray | None, fall: np.ndarray, title: str) -> "Figure":
    """The image, Grad-CAM over it, and over it how far the probability falls where it is covered; each `[H, W]`.

    `image` in [0, 1]; `cam` and `fall` as `grad_cam` and `occlusion` return them. Without `cam`, two panels.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure = new_figure(3.0)
    heats = {"fall of the probability when covered": (fall, max(float(fall.max()), 1e-3))}
    if cam is not None:
        heats = {"Grad-CAM, of its largest": (cam, 1.0)} | heats
    panels = figure.subplots(1, 1 + len(heats))
    for axes, name in zip(panels, (title, *heats), strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
    for axes, (heat, top) in zip(panels[1:], heats.values(), strict=True):
        scale = {"cmap": "inferno", "vmin": 0, "vmax": top}
        axes.imshow(heat, **scale, alpha=0.7 * np.clip(heat / top, 0, 1) ** 0.5)  # where there is none, the image is
        bar = figure.colorbar(ScalarMappable(Normalize(0, top), "inferno"), ax=axes, shrink=0.7, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    return figure
