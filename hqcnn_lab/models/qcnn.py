"""The quantum convolutional neural network of Cong, Choi and Lukin: all but the last layer is one circuit."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hqcnn_lab.quantum import QuantumLayer


class QCNN(nn.Module):
    """Averaged pixels → quantum convolutions and poolings by turns, until few wires are left → their readout → dense.

    Cong, Choi, Lukin 2019 (Nature Physics 15:1273); the circuit is the ansatz "qcnn", with the blocks of Hur, Kim, Park
    2022. Use it to see what a circuit does with an image by itself: nothing before it is trained, and all it is trained
    by are 17 angles a layer. Not for accuracy: it sees a thumbnail.

    The image is averaged down to as many cells as the circuit has inputs, rows × columns of nearest powers of two.
    Hur's 16×16 pixels are the amplitudes of 8 wires (encoder "amplitude"); angle encoders turn wire i by π times cell i
    and see a cell for each wire only. Each of the circuit's layers halves the wires: log₂(n_wires) layers leave one,
    one fewer leave two, whose four basis states (readout "probabilities") are as many as four classes. What is read
    goes through one dense layer.

    Input: `[B, 1, image_size, image_size]` in [0, 1]. Output: logits `[B, n_classes]`.

    Raises ValueError for another ansatz, a number of wires that is no power of two, or fewer pixels than cells.
    """

    def __init__(self, n_classes: int, image_size: int, circuit: dict[str, Any]) -> None:
        super().__init__()
        self.kernel = QuantumLayer(**circuit)
        n_wires = self.kernel.n_wires
        if self.kernel.ansatz != "qcnn":
            raise ValueError(f"circuit.ansatz={self.kernel.ansatz}: this network is the ansatz qcnn")
        if n_wires & (n_wires - 1):
            raise ValueError(f"circuit.n_wires={n_wires}: must be a power of two, to be halved by every layer")
        exponent = self.kernel.circuit.n_inputs.bit_length() - 1
        self.cells = (2 ** (exponent // 2), 2 ** (exponent - exponent // 2))
        if image_size < self.cells[1]:
            raise ValueError(f"image_size={image_size}: the circuit takes {self.cells[0]}×{self.cells[1]} pixels")
        self.head = nn.Linear(self.kernel.circuit.n_outputs, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool2d(images, self.cells).flatten(1)
        return self.head(self.kernel(math.pi * cells))
