"""First whether it is a brain at all, then which class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hqcnn_lab.models.estimator import Fitted
from hqcnn_lab.models.limits import check_arguments
from hqcnn_lab.models.network import build_network

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule

N_OTHERS = 1000  # pictures of no brain, to learn from; as many held out


class TwoStage(nn.Module):
    """Brain or not, then the class: the two stages of Mahajan et al. 2024, reference [11] of the paper.

    Use it where a predictor meets files that nobody has looked through: `hqcnn_lab.predict` then says of each how sure
    it is that a brain is shown at all. Stage two is any network, `network`, and scores are its own: a test set of
    brains is scored as by that network alone. What of the paper's first stage is public is that it is a binary
    classifier and was trained on images of their own; ours is logistic regression on histograms of oriented gradients,
    fitted once the network is trained, on the training images against `non_brain_images`. It tells brains from
    photographs, textures and noise; whether from other organs has not been tried.

    `[B, 1, H, W]` in [0, 1] → logits `[B, n_classes]`; `is_brain` gives probabilities `[B]`.
    """

    def __init__(self, n_classes: int, image_size: int, network: dict[str, Any], seed: int = 0) -> None:
        check_arguments("TwoStage", locals())
        from sklearn.linear_model import LogisticRegression

        super().__init__()
        self.network = build_network(network, n_classes, image_size)
        self.gate = Fitted(LogisticRegression(max_iter=2000))
        self.image_size, self.seed = image_size, seed

    def load_initial_weights(self) -> None:
        """Stage two's, where it begins from a file."""
        if hasattr(self.network, "load_initial_weights"):
            self.network.load_initial_weights()

    def fit(self, data: ImageDataModule) -> dict[str, float]:
        """Fit stage one; returns the shares it gets right of validation brains, and of pictures it has not seen."""
        from hqcnn_lab.data.phantom.non_brain import HELD_OUT, non_brain_images

        others = non_brain_images(N_OTHERS, self.image_size, self.seed)
        chosen = np.random.default_rng(self.seed).permutation(data.split.train)[:N_OTHERS]
        brains = np.asarray(data.images[chosen], np.float32)
        labels = np.repeat([0, 1], [len(others), len(brains)])
        self.gate.fit(_outlines(np.concatenate([others, brains])), labels)
        seen = torch.from_numpy(np.asarray(data.images[data.split.val], np.float32)).unsqueeze(1)
        unseen = torch.from_numpy(non_brain_images(N_OTHERS, self.image_size, self.seed, HELD_OUT)).unsqueeze(1)
        return {
            "stage_one/brains_accepted": (self.is_brain(seen) > 0.5).float().mean().item(),
            "stage_one/others_refused": (self.is_brain(unseen) <= 0.5).float().mean().item(),
        }

    def is_brain(self, images: Tensor) -> Tensor:
        """The probability of each image that it shows a brain, `[B]`."""
        outlines = _outlines(images.detach().squeeze(1).float().cpu().numpy())
        return self.gate(torch.from_numpy(outlines)).exp()[:, 1].to(images.device)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def _outlines(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients on a grid of 4×4 cells, whatever the size, `[N, n_features]`."""
    from skimage.feature import hog

    layout = {"pixels_per_cell": [images.shape[-1] // 4] * 2, "cells_per_block": (2, 2)}
    return np.stack([hog(image, **layout) for image in images]).astype(np.float32)
