"""An ansatz written for torchquantum, run as the folded engine runs ours."""

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum.check import check_count
from hqcnn_lab.quantum.circuit import make_circuit
from hqcnn_lab.quantum.engine.folded import as_real_rows, encoded_states, measure
from hqcnn_lab.quantum.engine.plan import make_plan
from hqcnn_lab.quantum.limits import MAX_WIRES
from hqcnn_lab.quantum.module import fold_leading, unfold_leading, working_dtype


class FoldedModule(nn.Module):
    """Run any `torchquantum.QuantumModule` on Ry-encoded angles, folded: `[..., n_wires]` radians → ⟨Z⟩ of every wire.

    Use it to bring an ansatz written for torchquantum as it stands: the module runs once a step on the 2ⁿ basis states,
    and its parameters get their gradients through torchquantum. Not for a module that reads data, draws at random,
    measures or resets: it sees the identity in place of your batch. complex64, as torchquantum is: float64 is refused.

    Args:
        module: called as `module(q_device)`, acting on wires 0…n_wires−1.
        n_wires: number of wires, at most `limits.MAX_WIRES["folded"]`.
    """

    def __init__(self, module: nn.Module, n_wires: int):
        super().__init__()
        check_count("n_wires", n_wires)
        if n_wires > MAX_WIRES["folded"]:
            raise ValueError(
                f"n_wires = {n_wires}, but FoldedModule takes at most {MAX_WIRES['folded']}: run it on the batch"
            )
        self.module, self.n_wires = module, n_wires

    def forward(self, angles: Tensor) -> Tensor:
        from hqcnn_lab.quantum.engine.torchquantum import refuse_float64, unitary

        dtype = working_dtype(angles)
        refuse_float64(dtype)
        plan = make_plan(make_circuit(self.n_wires, 0))
        with torch.autocast(angles.device.type, enabled=False):
            states = encoded_states(plan, fold_leading(angles, self.n_wires).to(dtype))
            matrix = as_real_rows(unitary(self.module, self.n_wires, angles.device)[None])
            return unfold_leading(measure(plan, torch.bmm(matrix, states)), angles.shape[:-1])

    def extra_repr(self) -> str:
        return f"n_wires={self.n_wires}"
