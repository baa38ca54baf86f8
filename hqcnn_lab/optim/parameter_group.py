"""Split a network's parameters by kind: circuit or classical, decayed or not."""

from __future__ import annotations

from typing import Any

from torch import nn

from hqcnn_lab.limit import check_limits
from hqcnn_lab.optim import limits


def parameter_groups(
    module: nn.Module, lr: float, quantum_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Group the trainable parameters of a network for any torch optimizer.

    Circuit angles live on a circle: they may want a learning rate of their own, and decay towards 0 is no regularizer
    there. Biases and norm parameters are not decayed either, as is usual. Not needed where one learning rate without
    weight decay suits all: pass `module.parameters()`.

    Each group has `"group"`, the kind the project logs by (`"quantum"` or `"classical"`), and a unique `"name"`:
    `"quantum"`, `"classical"` (matrices and convolution kernels) and `"classical_no_decay"`. Parameters inside a
    `QuantumLayer` or `QuantumConv2d` are quantum. Frozen parameters and empty groups are left out.

    Args:
        module: the network.
        lr: learning rate of the classical parameters.
        quantum_lr: learning rate of the circuit angles; None: the same.
        weight_decay: of classical parameters with two dimensions or more.
    """
    check_limits(limits.ANY, {"lr": lr, "quantum_lr": quantum_lr, "weight_decay": weight_decay}, "parameter_groups: ")
    from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer  # late: GVCO alone should not load the simulators

    circuits = [part for part in module.modules() if isinstance(part, QuantumLayer | QuantumConv2d)]
    angles = {id(parameter) for circuit in circuits for parameter in circuit.parameters()}
    groups = [
        {"name": "quantum", "group": "quantum", "lr": lr if quantum_lr is None else quantum_lr, "weight_decay": 0.0},
        {"name": "classical", "group": "classical", "lr": lr, "weight_decay": weight_decay},
        {"name": "classical_no_decay", "group": "classical", "lr": lr, "weight_decay": 0.0},
    ]
    members: list[list[nn.Parameter]] = [[], [], []]
    for parameter in module.parameters():
        if parameter.requires_grad:
            members[0 if id(parameter) in angles else 1 if parameter.ndim >= 2 else 2].append(parameter)
    return [{"params": params, **group} for group, params in zip(groups, members, strict=True) if params]
