"""Where a network looks: heat maps over its input images, for one class.

Both maps ask what an image has that a blurred copy of it has not. No class activation map is among them: in the last
feature maps a place has seen most of the image, and such a map lights up anywhere (figures: docs/predict.md).
"""

import torch
from torch import Tensor, nn

_BLUR = 0.1  # standard deviation of the filter that leaves no tumour, of an image's side
_BLACK = 0.05  # below it, nothing is blurred
_GRAIN = 0.04  # standard deviation of the filter that smooths a map: gradients of neighbouring pixels differ by chance


class NoGradient(ValueError):
    """A model whose logits no gradient leads from to the image."""


def integrated_gradients(
    model: nn.Module, images: Tensor, class_index: int | Tensor, without: Tensor | None = None, n_steps: int = 8
) -> Tensor:
    """What each place adds to the log-odds of a class, over an image without it (Sundararajan et al. 2017, eq. 1).

    Use it to see at a glance what a prediction rests on: `n_steps` forward and backward passes. The log-odds,
    log p/(1 − p), are what the classes say against each other: a place that speaks for all of them adds nothing. What
    both images have in common, such as the darkness around the head, does not show, important or not. Not a proof:
    check a place that surprises by `occlusion`.

    Args:
        model: maps images to logits, in eval mode; its parameters get no gradient.
        images: `[B, C, H, W]`.
        class_index: a class, or one for each image, `[B]`.
        without: what they are compared with, `[B, C, H, W]`; by default `without_detail(images)`.
        n_steps: of the way from `without` to `images`, at whose middles gradients are taken.

    Returns `[B, H, W]`, smoothed; below 0, what speaks against the class. A map sums to the difference that the whole
    image makes, up to the error of the steps. Raises ValueError for a model in training mode, `NoGradient` for one that
    decides by something else than gradients lead through.
    """
    _require_eval(model)
    # Lightning validates in inference mode, whose tensors know no gradient; a clone made outside does.
    with torch.inference_mode(False), torch.enable_grad():
        images = images.clone()
        without = without_detail(images) if without is None else without.clone()
        total = torch.zeros_like(images)
        for share in ((torch.arange(n_steps) + 0.5) / n_steps).tolist():
            between = torch.lerp(without, images, share).requires_grad_()
            score = _log_odds(model(between).float(), class_index).sum()
            gradient = torch.autograd.grad(score, between, allow_unused=True)[0] if score.requires_grad else None
            if gradient is None:
                raise NoGradient(f"{type(model).__name__} decides by no gradient of the image: use occlusion")
            total += gradient
    return _blurred((total / n_steps * (images - without)).sum(1), _GRAIN)


@torch.no_grad()
def occlusion(
    model: nn.Module,
    images: Tensor,
    class_index: int | Tensor,
    patch: int = 8,
    stride: int = 4,
    without: Tensor | None = None,
    batch_size: int = 256,
) -> Tensor:
    """How far the probability of a class falls when a square is taken from another image (Zeiler and Fergus 2014).

    Use it to check `integrated_gradients`: it asks the network itself and no gradient. Not for a quick look: an image
    takes as many forward passes as the square has positions. A square that matters only together with another one does
    not show, nor does one without which the class is more probable.

    Args:
        model: maps images to logits, in eval mode.
        images: `[B, C, H, W]`.
        class_index: a class, or one for each image, `[B]`.
        patch, stride: side of the square and its step, in pixels; the last step is shorter where it has to be.
        without: what the square shows instead, `[B, C, H, W]`; by default `without_detail(images)`, as a black square
            in a brain is a thing of its own, which networks have an opinion on.
        batch_size: changed images, of all positions of all images, that run at a time.

    Returns `[B, H, W]` in [0, 1]: the fall, in units of probability, averaged over the squares that cover a pixel.
    Raises ValueError for a model in training mode, and for a square that does not fit or steps over pixels.
    """
    _require_eval(model)
    height, width = images.shape[-2:]
    if not 1 <= stride <= patch <= min(height, width):
        raise ValueError(f"patch={patch} and stride={stride}: needs 1 ≤ stride ≤ patch ≤ {min(height, width)}")
    without = without_detail(images) if without is None else without
    rows, columns = (_covered(side, patch, stride, images.device) for side in (height, width))
    squares = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)  # [P, H, W]
    classes = torch.as_tensor(class_index, device=images.device).expand(len(images))
    probabilities = []
    for index in torch.arange(len(images) * len(squares), device=images.device).split(batch_size):
        image, square = index // len(squares), index % len(squares)
        changed = torch.where(squares[square].unsqueeze(1), without[image], images[image])
        probabilities.append(_of_class(model(changed).float().softmax(-1), classes[image]))
    whole = _of_class(model(images).float().softmax(-1), classes)
    fall = (whole[:, None] - torch.cat(probabilities).view(len(images), -1)).clamp(min=0)
    weights = squares.flatten(1).to(fall.dtype)
    return (fall @ (weights / weights.sum(0))).view(-1, height, width)


def _require_eval(model: nn.Module) -> None:
    if model.training:
        raise ValueError("the model is in training mode, whose dropout would blur the map: call model.eval() first")


def _of_class(scores: Tensor, class_index: int | Tensor) -> Tensor:
    """`[B, n_classes]` → `[B]`."""
    classes = torch.as_tensor(class_index, device=scores.device).expand(len(scores))
    return scores.gather(1, classes.unsqueeze(1)).squeeze(1)


def _log_odds(logits: Tensor, class_index: int | Tensor) -> Tensor:
    """log p/(1 − p) of a class, `[B]`; exact also where p is 1 to all digits."""
    classes = torch.as_tensor(class_index, device=logits.device).expand(len(logits)).unsqueeze(1)
    return _of_class(logits, class_index) - logits.scatter(1, classes, -torch.inf).logsumexp(1)


def without_detail(images: Tensor) -> Tensor:
    """A blurred copy in which black stays black: no tumour is left, and no glow around the head."""
    return torch.where(images < _BLACK, images, _blurred(images, _BLUR))


def _blurred(images: Tensor, share: float) -> Tensor:
    """By a Gaussian filter whose standard deviation is this share of the side."""
    from scipy.ndimage import gaussian_filter

    sigma = share * max(images.shape[-2:])
    sigmas = (*[0] * (images.ndim - 2), sigma, sigma)
    return torch.from_numpy(gaussian_filter(images.detach().float().cpu().numpy(), sigmas)).to(images)


def _covered(side: int, patch: int, stride: int, device: torch.device) -> Tensor:
    """Which of `side` pixels each position of the patch covers, `[positions, side]`."""
    starts = torch.tensor(sorted({*range(0, side - patch + 1, stride), side - patch}), device=device)[:, None]
    pixels = torch.arange(side, device=device)
    return (starts <= pixels) & (pixels < starts + patch)
