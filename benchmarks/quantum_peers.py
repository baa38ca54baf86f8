"""The circuit of `benchmarks/quantum.py`: ours, and as users of other libraries write it, the fastest way found.

    python benchmarks/quantum_peers.py NAME WIRES BATCH DEVICE THREADS   # bytes that one step needs

The circuit: Ry(xᵢ) on every wire; layers of Ry and Rz on every wire and a ring of CNOTs; ⟨Z⟩ of every wire. Ry and Rz
are written wire by wire, which on torchquantum is a tenth faster than all Ry before all Rz, and the same circuit.

A library's function takes the weights, a leaf [layers, wires, 2] in float32 on the device to use, and returns a
function from angles [B, wires] to values [B, wires], differentiable in both. Libraries are imported when asked for.
"""

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hqcnn_lab.quantum import FoldedModule, QuantumLayer
from hqcnn_lab.quantum.limits import choose_engine

N_LAYERS = 2

Forward = Callable[[Tensor], Tensor]
Step = Callable[[], list[Tensor]]


def turns(weights: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
    """Each layer's angles of (Ry, Rz) on each wire, 0-d tensors with one autograd node for all."""
    flat = iter(weights.flatten().unbind())
    return [[(next(flat), next(flat)) for _ in range(weights.shape[1])] for _ in range(weights.shape[0])]


def ring(n_wires: int) -> list[tuple[int, int]]:
    """(control, target) of the CNOTs after each layer."""
    return [(wire, (wire + 1) % n_wires) for wire in range(n_wires)] if n_wires > 1 else []


def torchquantum(weights: Tensor) -> Forward:
    """torchquantum's functional gates on a device of the batch's size."""
    tq, n_wires = _import_torchquantum(), weights.shape[1]

    def ansatz(device: Any) -> None:
        for layer in turns(weights):
            for wire, (ry, rz) in enumerate(layer):
                tq.functional.ry(device, wires=wire, params=ry)
                tq.functional.rz(device, wires=wire, params=rz)
            for pair in ring(n_wires):
                tq.functional.cnot(device, wires=list(pair))

    return partial(_encode_and_read, tq, ansatz)


def brought(n_wires: int, device: torch.device) -> tuple[Forward, Forward, list[nn.Parameter]]:
    """A module made for torchquantum, U3CU3Layer0: through our `FoldedModule`; run on the batch; its parameters."""
    tq = _import_torchquantum()
    torch.manual_seed(0)
    module = tq.U3CU3Layer0({"n_wires": n_wires, "n_blocks": N_LAYERS}).to(device)
    return FoldedModule(module, n_wires), partial(_encode_and_read, tq, module), list(module.parameters())


def _encode_and_read(tq: Any, ansatz: Callable[[Any], None], x: Tensor) -> Tensor:
    device = tq.QuantumDevice(n_wires=x.shape[1], bsz=len(x), device=x.device)
    for wire in range(x.shape[1]):
        tq.functional.ry(device, wires=wire, params=x[:, wire])
    ansatz(device)
    return tq.expval(device, list(range(x.shape[1])), [tq.PauliZ()] * x.shape[1])


def _import_torchquantum() -> Any:
    from hqcnn_lab.quantum.engine import torchquantum as torchquantum_engine

    return torchquantum_engine.torchquantum()


def default_qubit(weights: Tensor, single: bool = False) -> Forward:
    """PennyLane's default.qubit: backprop through torch, the batch broadcast.

    It computes in complex128 whatever it is given, unless it starts from a state in complex64 (`single`).
    """
    import pennylane as qml

    ground = torch.zeros(2 ** weights.shape[1], dtype=torch.complex64, device=weights.device)
    ground[0] = 1
    device = qml.device("default.qubit", weights.shape[1])
    return _pennylane(weights, device, ground if single else None, diff_method="backprop")


def lightning_qubit(weights: Tensor) -> Forward:
    """PennyLane's C++ simulator, complex64, adjoint gradients; it takes the batch apart and runs sample by sample.

    Measured: finding the Jacobian is up to twice as fast as `device_vjp` below 12 wires, and 5 times slower at 16.
    """
    import numpy as np
    import pennylane as qml

    device = qml.device("lightning.qubit", weights.shape[1], c_dtype=np.complex64)
    return _pennylane(weights, device, diff_method="adjoint", device_vjp=weights.shape[1] > 12)


def _pennylane(weights: Tensor, device: Any, start: Tensor | None = None, **how: Any) -> Forward:
    import pennylane as qml

    n_wires = weights.shape[1]

    @qml.qnode(device, interface="torch", **how)
    def run(x: Tensor) -> list:
        if start is not None:
            qml.StatePrep(start, range(n_wires))
        for wire in range(n_wires):
            qml.RY(x[:, wire], wire)
        for layer in turns(weights):
            for wire, (ry, rz) in enumerate(layer):
                qml.RY(ry, wire)
                qml.RZ(rz, wire)
            for pair in ring(n_wires):
                qml.CNOT(pair)
        return [qml.expval(qml.Z(wire)) for wire in range(n_wires)]

    return lambda x: torch.stack(tuple(run(x)), dim=-1).to(x.dtype)


def pyqtorch(weights: Tensor) -> Forward:
    """pyqtorch in complex64: the circuit runs once, then each observable is asked.

    `pyqtorch.expectation` would run the circuit again for each, and like `pyqtorch.run` first print the state into a
    log message nobody reads: 4 to 10 times slower, and worse with more wires.
    """
    import pyqtorch as pyq

    n_wires = weights.shape[1]
    gates = [pyq.RY(wire, f"x{wire}") for wire in range(n_wires)]
    for layer in range(len(weights)):
        for wire in range(n_wires):
            gates += [pyq.RY(wire, f"ry{layer} {wire}"), pyq.RZ(wire, f"rz{layer} {wire}")]
        gates += [pyq.CNOT(*pair) for pair in ring(n_wires)]
    observables = [pyq.Observable(pyq.Z(wire)) for wire in range(n_wires)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that complex modules are new
        circuit = pyq.QuantumCircuit(n_wires, gates).to(device=weights.device, dtype=torch.complex64)
        observables = [each.to(device=weights.device, dtype=torch.complex64) for each in observables]

    def forward(x: Tensor) -> Tensor:
        values = {f"x{wire}": x[:, wire] for wire in range(n_wires)}
        for layer, row in enumerate(turns(weights)):
            for wire, (ry, rz) in enumerate(row):
                values |= {f"ry{layer} {wire}": ry, f"rz{layer} {wire}": rz}
        state = circuit.run(circuit.init_state(len(x)), values)
        return torch.stack([observable.expectation(state) for observable in observables], dim=-1)

    return forward


PEERS: dict[str, tuple[str, Callable[[Tensor], Forward]]] = {
    "torchquantum": ("torchquantum", torchquantum),
    "default.qubit": ("pennylane", default_qubit),
    "in complex64": ("pennylane", partial(default_qubit, single=True)),
    "lightning": ("pennylane_lightning", lightning_qubit),
    "pyqtorch": ("pyqtorch", pyqtorch),
}
"""Name in the tables → the package it needs, the circuit."""


def installed() -> dict[str, str]:
    """Versions of the packages that are here."""
    packages = sorted({package for package, _ in PEERS.values()})
    return {package: version(package) for package in packages if find_spec(package) is not None}


def build(
    name: str, n_wires: int, device: torch.device, weights: nn.Parameter | None = None, engine: str = "auto"
) -> tuple[Forward, nn.Parameter]:
    """One candidate and its weights, those given or those of seed 0; `engine` is for "ours"."""
    torch.manual_seed(0)
    layer = QuantumLayer(n_wires, N_LAYERS, engine=engine).to(device)
    if weights is not None:
        layer.weights = weights
    return (layer if name == "ours" else PEERS[name][1](layer.weights)), layer.weights


def drawn(n_wires: int, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Angles and the gradient of the values, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    x, upstream = (torch.randn(batch, n_wires, generator=generator).to(device) for _ in range(2))
    return x, upstream / math.sqrt(batch)


def step(forward: Forward, x: Tensor, weights: Iterable[Tensor], upstream: Tensor) -> Step:
    """Forward and backward, giving the values, the gradient of x, then those of the weights that are trained."""
    leaves = [x.requires_grad_(), *(tensor for tensor in weights if tensor.requires_grad)]

    def run() -> list[Tensor]:
        values = forward(x)
        return [values.detach(), *torch.autograd.grad(values, leaves, upstream)]

    return run


def in_float64(x: Tensor, weights: Tensor, upstream: Tensor) -> list[Tensor]:
    """The reference, a step's result by engine "folded", or above 10 wires "statevector", in float64."""
    layer = QuantumLayer(x.shape[1], N_LAYERS, engine="folded" if x.shape[1] <= 10 else "statevector").to(x.device)
    layer.weights.data = weights.detach().double()
    return step(layer, x.detach().double(), [layer.weights], upstream.double())()


def differences(ours: list[Tensor], reference: list[Tensor]) -> list[float]:
    """Largest difference of the values, then of each gradient relative to its largest entry."""
    scales = [1.0] + [max(tensor.abs().max().item(), 1e-30) for tensor in reference[1:]]
    pairs = zip(ours, reference, scales, strict=True)
    return [(a.double() - b.double()).abs().max().item() / scale for a, b, scale in pairs]


def floor_flops(n_wires: int) -> float:
    """Arithmetic of a step on one sample, by the less costly of the two exact formulations we know for two layers.

    As a polynomial: n outputs of 3ⁿ coefficients, a multiply-add each going forward and two going backward; features of
    the wires cut in two halves, n · 3^c and 3^(n−c) numbers, with about 6 operations a number. As a state: the first
    layer belongs to the product state, the last Rz and CNOTs to the readout; what is left is one real rotation of each
    wire, done on groups of up to 4 wires (smaller ones wait for memory, not arithmetic): 4 operations a column of the
    group's matrix and an amplitude, on the state, going backward on state and gradient, and for the matrix's gradient.
    Product state, squares, signs and the way back through them are 32 operations an amplitude.
    """
    halves = min(n_wires * 3**cut + 3 ** (n_wires - cut) for cut in range(n_wires // 2 + 1))
    n_groups = -(-n_wires // 4)
    columns = sum(2 ** ((n_wires + i) // n_groups) for i in range(n_groups))
    return min(6 * n_wires * 3**n_wires + 6 * halves, 2**n_wires * (16 * columns + 32))


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def ceilings(device: torch.device, quick: bool) -> tuple[float, float]:
    """FLOP/s of a large float32 product and bytes/s, read and written, of a large copy: the best of several."""
    torch.backends.cuda.matmul.allow_tf32 = False
    side, megabytes = (8192, 1024) if device.type == "cuda" else (1024, 16 if quick else 256)
    a, b, out = (torch.randn(side, side, device=device) for _ in range(3))
    source, target = (torch.zeros(megabytes * 250_000, device=device) for _ in range(2))
    product = min(seconds_of(lambda: torch.mm(a, b, out=out), device) for _ in range(5 if quick else 20))
    copy = min(seconds_of(lambda: target.copy_(source), device) for _ in range(5 if quick else 20))
    return 2 * side**3 / product, 8 * source.numel() / copy


def weigh(name: str, n_wires: int, batch: int, device: torch.device) -> int:
    """Bytes at the peak of one step above those before it, in a process that has taken a tiny step only.

    The tiny step, of 2 samples, has the same wires up to 12 and two wires above, where 2 samples are no longer tiny.
    """
    engine = choose_engine("auto", n_wires, "angle_y", n_wires, batch)
    for wires, samples in ((n_wires if n_wires <= 12 else 2, 2), (n_wires, batch)):
        forward, weights = build(name, wires, device, engine=engine)
        x, upstream = drawn(wires, samples, device)
        peak = _peak_above(step(forward, x, [weights], upstream), device)
    return peak


def _peak_above(run: Step, device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    before = _resident("VmRSS")
    try:  # the peak so far may be that of the imports, and hide ours: "5" has the kernel begin it anew
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not permitted here: look every millisecond
        seen = [before]
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run)
            while not running.done():
                seen.append(_resident("VmRSS"))
                time.sleep(1e-3)
        running.result()
        return max(seen) - before
    run()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[5]))
    print(weigh(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), torch.device(sys.argv[4])))
