"""Where in an image a network saw what it says it saw."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def grad_cam(model: nn.Module, images: Tensor, class_index: Tensor | int) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017) of the last feature map before the circuits: `[B, H, W]`, each image's top at 1.

    Shows which regions speak for the class; all 0 where none does. As coarse as that feature map, and no proof of what
    a network reasons. `images` `[B, 1, H, W]` in [0, 1]; `class_index` is one class for all or one for each `[B]`.
    """
    kept: list[Tensor] = []
    hook = model.net.features.register_forward_hook(lambda *call: kept.append(call[2]))
    try:
        with torch.enable_grad():
            logits = model(images)
    finally:
        hook.remove()
    index = torch.as_tensor(class_index, device=logits.device).expand(len(images))
    scores = logits.gather(1, index[:, None]).sum()
    (gradient,) = torch.autograd.grad(scores, kept)
    weights = gradient.float().mean((2, 3), keepdim=True)
    maps = F.relu((weights * kept[0].float()).sum(1, keepdim=True))
    maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0].detach()
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)
