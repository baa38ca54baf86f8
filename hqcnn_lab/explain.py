"""Where a network looks: heat maps over its input images, for one class."""

import torch
from torch import Tensor, nn


class NoGradient(ValueError):
    """A model whose logits no gradient leads from to a feature map: Grad-CAM has nothing to go by."""


def grad_cam(model: nn.Module, images: Tensor, class_index: int | Tensor, layer: nn.Module | None = None) -> Tensor:
    """Which regions of a feature map speak for a class: Grad-CAM (Selvaraju et al. 2017, eqs. 1 and 2).

    Use it to see at a glance what a prediction rests on; one forward and one backward pass. As coarse as the feature
    map is, and scaled image by image, so maps do not tell how certain the network was: `occlusion` does. A map is all 0
    where nothing in it speaks for the class.

    Args:
        model: maps images to logits, in eval mode; its parameters get no gradient.
        images: `[B, C, H, W]`.
        class_index: a class, or one for each image, `[B]`.
        layer: the module inside `model` whose output `[B, K, h, w]` is explained. By default `features` of the network
            or of an `ImageClassifier`'s: the last classical feature map before the circuits.

    Returns `[B, H, W]` in [0, 1], the largest value of each image 1. Raises ValueError for a model in training mode,
    `NoGradient` for one without `features` where no layer is given, or whose logits do not come of these by gradients.
    """
    _require_eval(model)
    layer = _feature_layer(model) if layer is None else layer
    maps: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        maps.append(output.detach().requires_grad_())  # the graph starts here: nothing before it is kept
        return maps[-1]

    # Lightning validates in inference mode, whose tensors know no gradient; a clone made outside does.
    with torch.inference_mode(False), torch.enable_grad():
        hook = layer.register_forward_hook(cut)
        try:
            logits = model(images.clone())
        finally:
            hook.remove()
        if not logits.requires_grad:
            raise NoGradient(f"{type(model).__name__} decides by no gradient: use occlusion")
        [gradient] = torch.autograd.grad(_of_class(logits, class_index).sum(), maps[-1])
    weights = gradient.mean((2, 3), keepdim=True)
    cam = torch.relu((weights * maps[-1].detach()).sum(1, keepdim=True))
    cam = nn.functional.interpolate(cam.float(), images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)
    largest = cam.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, cam / largest, 0)


@torch.no_grad()
def occlusion(
    model: nn.Module,
    images: Tensor,
    class_index: int | Tensor,
    patch: int = 8,
    stride: int = 4,
    fill: float = 0.0,
    batch_size: int = 256,
) -> Tensor:
    """How far the probability of a class falls when a square is covered (Zeiler and Fergus 2014).

    Use it to check `grad_cam`: it asks the network itself and no gradient. Not for a quick look: an image takes as many
    forward passes as the square has positions. A square that matters only together with another one does not show, nor
    does one whose covering makes the class more probable.

    Args:
        model: maps images to logits, in eval mode.
        images: `[B, C, H, W]`.
        class_index: a class, or one for each image, `[B]`.
        patch, stride: side of the square and its step, in pixels; the last step is shorter where it has to be.
        fill: what covers; 0 is black, the background of an MR slice.
        batch_size: covered images, of all positions of all images, that run at a time.

    Returns `[B, H, W]` in [0, 1]: the fall, in units of probability, averaged over the squares that cover a pixel.
    Raises ValueError for a model in training mode, and for a square that does not fit or steps over pixels.
    """
    _require_eval(model)
    height, width = images.shape[-2:]
    if not 1 <= stride <= patch <= min(height, width):
        raise ValueError(f"patch={patch} and stride={stride}: needs 1 ≤ stride ≤ patch ≤ {min(height, width)}")
    rows, columns = (_covered(side, patch, stride, images.device) for side in (height, width))
    squares = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)  # [P, H, W]
    classes = torch.as_tensor(class_index, device=images.device).expand(len(images))
    probabilities = []
    for index in torch.arange(len(images) * len(squares), device=images.device).split(batch_size):
        image, square = index // len(squares), index % len(squares)
        covered = images[image].masked_fill(squares[square].unsqueeze(1), fill)
        probabilities.append(_of_class(model(covered).float().softmax(-1), classes[image]))
    whole = _of_class(model(images).float().softmax(-1), classes)
    fall = (whole[:, None] - torch.cat(probabilities).view(len(images), -1)).clamp(min=0)
    weights = squares.flatten(1).to(fall.dtype)
    return (fall @ (weights / weights.sum(0))).view(-1, height, width)


def _require_eval(model: nn.Module) -> None:
    if model.training:
        raise ValueError("the model is in training mode, whose dropout would blur the map: call model.eval() first")


def _feature_layer(model: nn.Module) -> nn.Module:
    layer = getattr(getattr(model, "net", model), "features", None)
    if not isinstance(layer, nn.Module):
        raise NoGradient(f"{type(model).__name__} has no features: give the layer whose output is to be explained")
    return layer


def _of_class(scores: Tensor, class_index: int | Tensor) -> Tensor:
    """`[B, n_classes]` → `[B]`."""
    classes = torch.as_tensor(class_index, device=scores.device).expand(len(scores))
    return scores.gather(1, classes.unsqueeze(1)).squeeze(1)


def _covered(side: int, patch: int, stride: int, device: torch.device) -> Tensor:
    """Which of `side` pixels each position of the patch covers, `[positions, side]`."""
    starts = torch.tensor(sorted({*range(0, side - patch + 1, stride), side - patch}), device=device)[:, None]
    pixels = torch.arange(side, device=device)
    return (starts <= pixels) & (pixels < starts + patch)
