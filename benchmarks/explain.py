"""Which heat map is faithful? Several, on the test images of a trained hybrid network that it classifies rightly.

    python benchmarks/explain.py runs/… [--images 90]

Of the phantom it is known where the tumours are: how often is a map's brightest pixel in one, and which share of its
heat? Of every data set: how probable does the class stay while pixels are taken away, the brightest of the map first
(deletion: low is faithful), and while they are put back (insertion: high is), averaged over the way; "blurred" takes
them from a blurred copy, "black" blackens them. And how do its pixels rank beside those of occlusion?
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from hqcnn_lab.build import build
from hqcnn_lab.data.source.layout import CLASSES
from hqcnn_lab.models.explain import integrated_gradients, occlusion, without_detail
from hqcnn_lab.models.hqcnn import Residual
from hqcnn_lab.models.trained import TrainedModel, load_run

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from tumours import phantom_tumours, share_inside

N_STEPS = 16  # of deletion and insertion


def test_images(trained: TrainedModel, n_images: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images with a tumour that are classified rightly, their labels, and where the tumour is."""
    if trained.config["dataset"]["_target_"].endswith("PhantomDataModule"):
        images, labels, tumours = phantom_tumours(4 * n_images, 99, trained.image_size)
    else:
        data = build(trained.config["dataset"])
        data.prepare_data()
        data.setup()
        index = np.random.default_rng(0).permutation(data.split.test)[: 4 * n_images]
        images = torch.from_numpy(np.asarray(data.images[index], np.float32)).unsqueeze(1)
        labels, tumours = torch.from_numpy(data.labels[index]), None
    with torch.no_grad():
        chosen = (trained.net(images).argmax(1) == labels) & (labels != CLASSES.index("notumor"))
    chosen = chosen.nonzero().squeeze(1)[:n_images]
    return images[chosen], labels[chosen], None if tumours is None else tumours[chosen]


def class_activation(net: nn.Module, images: Tensor, classes: Tensor, layer: nn.Module, kind: str) -> Tensor:
    """The maps that are drawn on a layer's output, of one gradient each."""
    kept: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    hook = layer.register_forward_hook(cut)
    score = net(images).gather(1, classes.unsqueeze(1)).sum()
    hook.remove()
    maps, [gradient] = kept[-1].detach(), torch.autograd.grad(score, kept[-1])
    if kind == "Grad-CAM":
        heat = gradient.mean((2, 3), keepdim=True) * maps
    elif kind == "Grad-CAM++":
        square = gradient**2
        alpha = square / (2 * square + (maps * gradient**3).sum((2, 3), keepdim=True) + 1e-8)
        heat = (alpha * gradient.relu()).sum((2, 3), keepdim=True) * maps
    else:
        heat = (gradient if kind == "HiResCAM" else gradient.relu()) * maps
    heat = heat.sum(1, keepdim=True).relu()
    return nn.functional.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)


def on_the_way(net: nn.Module, images: Tensor, classes: Tensor, heat: Tensor, without: Tensor) -> tuple[float, float]:
    """The mean probability while the hottest pixels go, and while they come."""
    rank = heat.flatten(1).argsort(1, descending=True).argsort(1).view_as(images)
    gone, come = [], []
    for share in np.linspace(0, 1, N_STEPS + 1):
        first = rank < share * heat[0].numel()
        for found, changed in ((gone, (without, images)), (come, (images, without))):
            found.append(net(torch.where(first, *changed)).softmax(1).gather(1, classes.unsqueeze(1)).mean())
    return tuple(torch.trapezoid(torch.stack(found), dx=1 / N_STEPS).item() for found in (gone, come))


def main() -> None:
    """Print a line for each map."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="a run folder of model=hqcnn")
    parser.add_argument("--images", type=int, default=90, help="how many (default: 90)")
    arguments = parser.parse_args()
    trained = load_run(arguments.run)
    net, (images, classes, tumours) = trained.net.cpu(), test_images(trained, arguments.images)
    black, blurred = torch.zeros_like(images), without_detail(images)
    first = next(stage for stage in net.features if isinstance(stage, Residual))
    on = partial(class_activation, net, images, classes)
    side = trained.image_size // 8
    occluded = partial(occlusion, net, images, classes, side, side // 2)
    maps: dict[str, Callable[[], Tensor]] = {
        "Grad-CAM, last feature map": lambda: on(net.features, "Grad-CAM"),
        "Grad-CAM++, last feature map": lambda: on(net.features, "Grad-CAM++"),
        "HiResCAM, last feature map": lambda: on(net.features, "HiResCAM"),
        "HiResCAM, ⟨Z⟩ of the circuits": lambda: on(net.kernel, "HiResCAM"),
        "HiResCAM, first stage": lambda: on(first, "HiResCAM"),
        "LayerCAM, first stage": lambda: on(first, "LayerCAM"),
        "integrated gradients from black": lambda: integrated_gradients(net, images, classes, black),
        "integrated gradients": lambda: integrated_gradients(net, images, classes),
        "occlusion by black": lambda: occluded(black),
        "occlusion": occluded,
        "chance": lambda: torch.rand(images.shape).squeeze(1),
    }
    torch.manual_seed(0)
    reference = occluded().flatten(1).numpy()
    known = "" if tumours is None else f", tumours are {100 * tumours.float().mean():.1f} % of the pixels"
    print(f"{len(images)} images{known}")
    print(f"{'':32}  in tumour: top  heat   blurred: del.  ins.   black: del.  ins.   rank corr.  ms an image")
    for name, make in maps.items():
        start = time.perf_counter()
        heat = make().detach().clamp(min=0)
        milliseconds = 1000 * (time.perf_counter() - start) / len(images)
        places = "              –     –"
        if tumours is not None:
            top = heat.flatten(1).argmax(1, keepdim=True)
            hit = tumours.flatten(1).gather(1, top).float().mean() * (heat.amax() > 0)
            places = f"          {100 * hit:4.0f} % {100 * share_inside(heat, tumours).mean():3.0f} %"
        with torch.no_grad():
            ways = [x for without in (blurred, black) for x in on_the_way(net, images, classes, heat, without)]
        ranks = [spearmanr(*pair)[0] for pair in zip(heat.flatten(1).numpy(), reference, strict=True)]
        print(
            f"{name:32}{places}          {ways[0]:.2f}  {ways[1]:.2f}          {ways[2]:.2f}  {ways[3]:.2f}"
            f"         {np.nanmean(ranks):5.2f}  {milliseconds:11.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
