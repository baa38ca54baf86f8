"""The paper's pipeline as it is written: one circuit for the whole image."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from hqcnn_lab.models.hqcnn import residual_stages
from hqcnn_lab.models.intensity import standardized
from hqcnn_lab.models.kernel import DenseKernel
from hqcnn_lab.models.limits import check_arguments


class HQCNNDense(nn.Module):
    """Convolutions (eq. 1) → flatten → dense → angles → one circuit (eqs. 2-5) → dense (eq. 6).

    Section 3's pipeline read literally: one circuit an image, an angle for each of its inputs. `HQCNN` reads it as a
    quantum convolution instead, many circuits that each see a patch. Use this one to compare the two readings; not for
    accuracy, since everything an image says passes through a circuit's few readouts.

    Features are those of `HQCNN`, narrower. Dropout acts on them: of a circuit's few readouts none can be spared.
    `circuit` holds the arguments of `QuantumLayer`, any of them; `kernel` is as in `choose_kernel`: quantum, classical
    (the twin), frozen.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`.
    """

    def __init__(
        self,
        n_classes: int,
        image_size: int,
        circuit: dict[str, Any],
        kernel: str = "quantum",
        widths: tuple[int, ...] | list[int] = (16, 32, 64),
        dropout: float = 0.3,
    ) -> None:
        check_arguments("HQCNNDense", locals())
        super().__init__()
        self.features = residual_stages(widths)
        side = math.ceil(image_size / 2 ** len(widths))  # a stride of 2 rounds up
        self.flatten = nn.Sequential(nn.Flatten(), nn.Dropout(dropout))
        self.kernel = DenseKernel(widths[-1] * side**2, circuit, kernel)
        self.head = nn.Linear(self.kernel.n_outputs, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = standardized(images).contiguous(memory_format=torch.channels_last)
        return self.head(self.kernel(self.flatten(self.features(x))))
