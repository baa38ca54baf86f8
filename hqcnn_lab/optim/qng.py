"""Quantum natural gradient for the circuits, AdamW for the rest."""

# pyright: reportUnknownMemberType=false
# (torch.linalg is not annotated)

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from hqcnn_lab.limit import check_limits
from hqcnn_lab.optim import limits
from hqcnn_lab.optim.circuit_optimizer import CircuitOptimizer
from hqcnn_lab.torch_private import has_forward_pre_hook

if TYPE_CHECKING:
    from hqcnn_lab.quantum.module import CircuitModule

# The last input of each watched circuit. Not kept in an optimizer or a circuit, so no copy or file of those has images.
_inputs: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def _remember(circuit: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if circuit.training and torch.is_grad_enabled():
        _inputs[circuit] = (args[0] if args else kwargs["angles"]).detach()


class QNG(CircuitOptimizer):
    """Step a circuit's weights by how far its state moves, not by how far its angles do.

    The gradient of each row of a circuit's weights (a layer of its ansatz) is preconditioned by that layer's block of
    the Fubini-Study metric F, averaged over a sample of the last training batch's inputs::

        θ = θ (1 − lr·wd) − lr (F + λI)⁻¹ g

    Use it where circuits are small and their angles differ in effect. One rotation has F = 1/4, so a natural gradient
    is about four times the gradient. Not for wide or deep circuits: F costs a run of the circuit for each weight and
    sample. F is of the exact circuit, also where the layer has noise or shots. The optimizer has to see the inputs::

        optimizer = QNG(parameter_groups(net, lr=1e-2), lr=1e-2)
        optimizer.watch(net)

    A copy made together with the network, `deepcopy((net, optimizer))` or by pickle, watches the copied circuits. After
    anything else that makes new weights, call `watch` again: `step` says if you must.

    Only the quantum layers' weights may be in `"quantum"` groups; a group that does not say is one. Groups
    `"classical"` are stepped by AdamW with the same names of arguments.

    Args:
        params: parameters or groups of them (`parameter_groups`); every argument below may be given per group.
        lr: learning rate.
        damping: λ, above 0: it bounds steps along weights that do not move the state.
        betas: AdamW's, of classical groups.
        weight_decay: decoupled.

    Raises RuntimeError in `step` for a quantum parameter with a gradient that no watched circuit has, or that has seen
    no training batch.

    Source: Stokes, Izaac, Killoran, Carleo 2020, "Quantum Natural Gradient", arXiv:1909.02108, eq. 6 and section 3.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        *,
        damping: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        given = {"lr": lr, "damping": damping, "betas": betas, "weight_decay": weight_decay}
        check_limits(limits.QNG, given, "QNG: ")
        self._circuits: dict[Tensor, CircuitModule] = {}
        super().__init__(params, lr, weight_decay, betas, damping=damping)

    def watch(self, module: nn.Module) -> None:
        """Remember the circuits inside `module`, and from now on the inputs of their last forward pass in training."""
        from hqcnn_lab.quantum import QuantumConv2d, QuantumLayer  # late: GVCO alone should not load the simulators

        for part in module.modules():
            if isinstance(part, QuantumLayer | QuantumConv2d) and part.weights not in self._circuits:
                self._circuits[part.weights] = part
                if not has_forward_pre_hook(part, _remember):
                    part.register_forward_pre_hook(_remember, with_kwargs=True)

    def __getstate__(self) -> dict[str, Any]:
        # A copy, or what is unpickled, watches the circuits that were copied with it.
        return super().__getstate__() | {"_circuits": self._circuits}

    def _directions(self) -> dict[Tensor, Tensor]:
        directions: dict[Tensor, Tensor] = {}
        for group in self._groups("quantum"):
            for parameter in group["params"]:
                if parameter.grad is not None:
                    directions[parameter] = _natural(parameter.grad, self._metric(parameter), group["damping"])
        return directions

    def _metric(self, weights: Tensor) -> Tensor:
        from hqcnn_lab.quantum.metric import layer_metric

        circuit = self._circuits.get(weights)
        if circuit is None:
            raise RuntimeError(
                f"QNG: a quantum parameter of shape {tuple(weights.shape)} belongs to no watched circuit; call "
                'watch(net) first, and put what is no circuit in a group with "group": "classical" (parameter_groups)'
            )
        if circuit not in _inputs:
            raise RuntimeError(f"QNG: {circuit!r} has seen no training batch since watch(); run net(batch) in train()")
        return layer_metric(circuit, _inputs[circuit])


def _natural(gradient: Tensor, metric: Tensor, damping: float) -> Tensor:
    """(F + λI)⁻¹ g, block by block: gradient of the weights' shape, metric [C, rows, P, P]."""
    identity = torch.eye(metric.shape[-1], dtype=metric.dtype, device=metric.device)
    columns = gradient.to(metric.dtype).reshape(*metric.shape[:3], 1)
    direction = cast(Tensor, torch.linalg.solve(metric + damping * identity, columns))
    return direction.reshape(gradient.shape).to(gradient.dtype)
