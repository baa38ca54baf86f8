"""VGG16, as published, from scratch or from weights that were trained on other images."""

from pathlib import Path

import torch
from torch import Tensor, nn

from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.limits import check_arguments

_LEAST_SIDE = 32
# Configuration D: the channels of each 3×3 convolution; a 2×2 max pooling follows each group.
_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_N_DENSE = 4096


class VGG16(nn.Module):
    """Thirteen 3×3 convolutions and three dense layers: configuration D of Simonyan and Zisserman 2015.

    Use it to compare with papers that do (Mahajan et al. 2024), and with `weights` for transfer learning as in Khaw and
    Abdullah 2024. Not where memory is short: 134 million weights, nine tenths of them dense, are 0.5 GB, and an
    optimizer keeps one or two more of each. It has no batch normalization, so that from scratch it wants a small
    learning rate.

    Layers, sizes, initialization (He et al. 2015) and the names in `state_dict` are those of torchvision's `vgg16`: it
    has 138,357,544 parameters at 1000 classes. Gray is seen as three equal channels.

    Args:
        n_classes: number of logits.
        image_size: side of the images, at least 32.
        weights: a file with the state dict of a `vgg16`, such as torchvision's `vgg16-397923af.pth`. It is read by
            `load_initial_weights` alone: a trained network is loaded without it. With it images are scaled by the mean
            and deviation of ImageNet, which those weights expect; without it by `standardized`.
        frozen: train the dense layers alone; needs `weights`.
        dropout: between the dense layers.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`. Raises ValueError for smaller
    images, and where random convolutions would be frozen.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, n_classes: int, image_size: int, weights: str | None = None, frozen: bool = False, dropout: float = 0.5
    ) -> None:
        check_arguments("VGG16", locals())
        super().__init__()
        if image_size < _LEAST_SIDE:
            raise ValueError(
                f"image_size={image_size} is less than the {_LEAST_SIDE} pixels that VGG16 needs: "
                "set dataset.image_size=64"
            )
        if frozen and weights is None:
            raise ValueError("model.frozen=true without model.weights would keep random convolutions: name a file")
        self.weights = weights
        layers: list[nn.Module] = []
        n_in = 3
        for group in _CHANNELS:
            for width in group:
                layers += [nn.Conv2d(n_in, width, 3, padding=1), nn.ReLU()]
                n_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.pool = nn.Sequential(layers[-1], nn.AdaptiveAvgPool2d(7))
        self.classifier = nn.Sequential(
            nn.Linear(n_in * 7 * 7, _N_DENSE),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(_N_DENSE, _N_DENSE),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(_N_DENSE, n_classes),
        )
        self._initialize()
        self.features.requires_grad_(not frozen)
        # Not part of the state, which has torchvision's names and no others.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def load_initial_weights(self) -> None:
        """Read `weights`, once before training; nothing happens without.

        The last dense layer keeps its random weights where its shape in the file is another: other classes. Raises
        ValueError where the file cannot be read, or does not fit in any other respect; the network is then unchanged.
        """
        if self.weights is None:
            return
        read = _state_dict(self.weights)
        own = self.state_dict()
        shapes = {name: tuple(value.shape) for name, value in own.items()}
        last_dense = f"classifier.{len(self.classifier) - 1}."
        wrong = [f"{name} is missing" for name in own if name not in read]
        fitting = {}
        for name, value in read.items():
            if name not in own:
                wrong.append(f"{name} is not in VGG16")
            elif tuple(value.shape) == shapes[name]:
                fitting[name] = value
            elif not name.startswith(last_dense):
                wrong.append(f"{name} has shape {tuple(value.shape)} instead of {shapes[name]}")
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise ValueError(f"model.weights={self.weights} does not fit VGG16: {wrong[0]}{more}")
        self.load_state_dict(own | fitting)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(self._scaled(images))), 1))

    def _scaled(self, images: Tensor) -> Tensor:
        """`[B, 1, H, W]` → `[B, 3, H, W]`."""
        if self.weights is None:
            return standardized(images).expand(-1, 3, -1, -1)
        return (images - self.mean) / self.std


def _state_dict(path: str) -> dict[str, Tensor]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"model.weights={path}: there is no such file")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file leads to depends on its bytes
        raise ValueError(f"model.weights={path} is no file of tensors ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"model.weights={path} holds something other than a state dict, whose values are all tensors")
    return state
