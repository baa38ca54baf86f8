"""A quanvolutional network: fixed random circuits as image filters."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from hqcnn_lab.models.hqcnn import convolution
from hqcnn_lab.models.limits import check_arguments
from hqcnn_lab.quantum import QuantumConv2d


class Quanvolution(nn.Module):
    """Random circuits on the pixels of every patch → their readouts as channels → a small CNN → dense.

    Henderson, Shakya, Pradhan, Cook 2020 (Quantum Machine Intelligence 2:2): circuits as random features, never
    trained. Use it to see what a circuit adds before anything is learnt; its counterpart with trained circuits behind
    convolutions is `HQCNN`. Each of the `n_filters` circuits has the ansatz of `circuit` and weights of its own,
    uniform in [0, 2π) by `circuit.seed`; `circuit.ansatz=random` draws the gates too, as Henderson does. A pixel x
    turns its wire by π·x. Patches do not overlap, and pixels that fill no patch are left out.

    `features`, the CNN, halves the side once for each of `widths`. `circuit` holds the arguments of `QuantumLayer`.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`.

    Raises ValueError unless the circuit has a wire for each of the patch's `kernel_size²` pixels (for amplitude
    encoding: the wires whose amplitudes hold them), or where the image is smaller than a patch.
    """

    def __init__(
        self,
        n_classes: int,
        image_size: int,
        circuit: dict[str, Any],
        kernel_size: int = 2,
        n_filters: int = 8,
        widths: tuple[int, ...] | list[int] = (32, 64),
        dropout: float = 0.3,
    ) -> None:
        check_arguments("Quanvolution", locals())
        super().__init__()
        wiring = {name: value for name, value in circuit.items() if name != "n_wires"}
        self.kernel = QuantumConv2d(n_filters, kernel_size, kernel_size, groups=n_filters, **wiring)
        if circuit["n_wires"] != self.kernel.n_wires:
            raise ValueError(
                f"circuit.n_wires={circuit['n_wires']}: a patch of kernel_size² = {kernel_size**2} pixels takes "
                f"{self.kernel.n_wires}"
            )
        if image_size < kernel_size:
            raise ValueError(f"image_size={image_size} is less than a patch of kernel_size={kernel_size}")
        generator = torch.Generator().manual_seed(self.kernel.seed)
        uniform = torch.rand(self.kernel.weights.shape, generator=generator)
        # Not trained, and the pixels need no gradient either: no graph is recorded, and no backward pass runs.
        self.kernel.weights = nn.Parameter(2 * math.pi * uniform, requires_grad=False)
        stages: list[nn.Module] = []
        for n_in, width in zip([self.kernel.out_channels, *widths], widths, strict=False):
            stages += [convolution(n_in, width, stride=2), nn.ReLU()]
        self.features = nn.Sequential(*stages)
        side = math.ceil(image_size // kernel_size / 2 ** len(widths))  # a stride of 2 rounds up
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1] * side**2, n_classes))
        self.features.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stubs lack it

    def forward(self, images: Tensor) -> Tensor:
        filtered = self.kernel(math.pi * images.expand(-1, self.kernel.groups, -1, -1))
        return self.head(self.features(filtered.contiguous(memory_format=torch.channels_last)))
