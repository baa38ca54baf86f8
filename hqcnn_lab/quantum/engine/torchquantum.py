"""The torchquantum engine, and the only module that imports torchquantum.

`pip install --no-deps torchquantum==0.1.8` is the whole installation: its declared requirements weigh 3.8 GB and its
simulator needs torch and numpy only. It still imports the rest by name, so while it is being imported, and only then,
packages that are absent are answered with inert placeholders. They leave `sys.modules` afterwards; what torchquantum
kept of them raises an error naming the missing package when it is touched. Real packages are never replaced, unless
torchquantum cannot be imported beside them (a broken torchvision, a qiskit newer than it knows): then it gets
placeholders for those too and everybody else keeps the real ones. To use its qiskit plugins, import torchquantum
yourself before the first circuit runs: the adapter then changes nothing.

Traps kept out of the way here: it is complex64 only (float64 would come back as float32, so it is refused); a device
belongs to one batch size and its state enters `state_dict` (so one is made in each forward and thrown away); its
density-matrix device is wrong (never used); `expval` of X or Y turns the device in place (only Z is asked for); its cu3
fails on a value per sample (given as a matrix then); every gate keeps a whole state for backward. Its CNOT matrix is
copied to the GPU gate by gate: on CUDA prefer the others.
"""

import sys
import threading
import warnings
from collections.abc import MutableSequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from inspect import currentframe
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hqcnn_lab.quantum.circuit import Circuit
from hqcnn_lab.quantum.gate import Gate

INSTALL = "pip install --no-deps torchquantum==0.1.8"

# What torchquantum 0.1.8 imports and its simulator does not use. `imp` left the standard library in Python 3.12.
UNUSED = {
    *("imp", "matplotlib", "opt_einsum", "pathos", "qiskit", "qiskit_ibm_runtime", "qiskit_nature", "scipy", "sklearn"),
    *("torchdiffeq", "torchpack", "torchvision", "tqdm"),
}

_lock = threading.RLock()


def torchquantum() -> ModuleType:
    """The torchquantum package, imported at the first call. Raises ModuleNotFoundError, with the command, if absent."""
    module = sys.modules.get("torchquantum")
    if module is not None and hasattr(module, "QuantumDevice"):
        return module
    with _lock:
        if find_spec("torchquantum") is None:
            raise ModuleNotFoundError(f"engine='torchquantum' needs torchquantum: {INSTALL}", name="torchquantum")
        absent = {name for name in UNUSED if name not in sys.modules and find_spec(name) is None}
        try:
            return _import_with_placeholders(absent)
        except Exception:  # a real but unsuitable package may raise anything
            return _import_with_placeholders(UNUSED)


def refuse_float64(dtype: torch.dtype) -> None:
    if dtype != torch.float32:
        raise TypeError("torchquantum computes in complex64: use float32 angles and weights, or engine='folded'")


def expectations(angles: Tensor, weights: Tensor, circuit: Circuit) -> Tensor:
    """What C circuits read from B samples each: [C, n_inputs, B] angles, [C, W] weights → [C, n_outputs, B].

    float32, radians; amplitudes are taken as normalized. Circuits × samples are one batch for torchquantum: no loop but
    the one over gates.
    """
    refuse_float64(angles.dtype)
    n_circuits, _, batch = angles.shape
    if angles.numel() == 0:
        return angles.new_zeros(n_circuits, circuit.n_outputs, batch) + 0 * (angles.sum() + weights.sum())
    library = torchquantum()
    device = _device(circuit.n_wires, n_circuits * batch, angles.device)
    if circuit.encoder == "amplitude":
        device.set_states(angles.transpose(1, 2).flatten(0, 1).to(device.states.dtype))
    columns = weights.unbind(1)
    for gate in (*circuit.encoding, *circuit.gates):
        if gate.inputs:
            values = torch.stack([angles[:, i] for i in gate.inputs], dim=-1).flatten(0, 1)
        elif gate.weights:
            values = torch.stack([columns[i] for i in gate.weights], dim=-1)  # [C, k]: shared by the batch if C = 1
            values = values if n_circuits == 1 else values[:, None].expand(-1, batch, -1).flatten(0, 1)
        else:
            values = None
        _apply(library.functional, device, gate, values)
    return _read(library, device, circuit).reshape(n_circuits, batch, -1).transpose(1, 2)


def _apply(functional: ModuleType, device: Any, gate: Gate, values: Tensor | None) -> None:
    """One gate by torchquantum's function, which has our name, with values [1 or C·B, k]."""
    if gate.name == "cu3" and values is not None and len(values) > 1:  # torchquantum's fails on a value per sample
        matrices = F.pad(functional.u3_matrix(values), (2, 0, 2, 0))
        matrices = matrices + torch.diag(matrices.new_tensor([1, 1, 0, 0]))
        functional.qubitunitaryfast(device, wires=list(gate.wires), params=matrices)
    else:
        getattr(functional, gate.name)(device, wires=list(gate.wires), params=values)


def _read(library: ModuleType, device: Any, circuit: Circuit) -> Tensor:
    """[C·B, n_outputs]; the change to an X or Y basis is among the gates, so `expval` needs only Z."""
    if circuit.readout not in ("zz", "probabilities"):
        return library.expval(device, list(circuit.measured), [library.PauliZ()] * len(circuit.measured))
    probabilities = device.states.abs().square()
    if circuit.readout == "probabilities":
        unread = [1 + wire for wire in range(circuit.n_wires) if wire not in circuit.measured]
        return (probabilities.sum(unread) if unread else probabilities).flatten(1)
    shifts = torch.arange(circuit.n_wires - 1, -1, -1, device=probabilities.device)
    bits = torch.arange(2**circuit.n_wires, device=probabilities.device)[:, None] >> shifts & 1
    signs = (1 - 2 * bits).to(probabilities.dtype)  # [2ⁿ, n]
    first, second = zip(*circuit.strings, strict=True)
    return probabilities.flatten(1) @ (signs[:, first] * signs[:, second])


def unitary(module: nn.Module, n_wires: int, device: torch.device) -> Tensor:
    """The complex64 matrix [2ⁿ, 2ⁿ] of a `QuantumModule` without inputs: it runs on every basis state at once."""
    states = _device(n_wires, 2**n_wires, device)
    states.reset_identity_states()
    module(states)
    return states.get_states_1d().t().resolve_conj()  # row j of the batch is U|j⟩


def _device(n_wires: int, batch: int, device: torch.device) -> Any:
    return torchquantum().QuantumDevice(n_wires=n_wires, bsz=batch, device=device)


class _Missing(type):
    """A class standing for something of an absent package: it can be named and subclassed, not used."""

    package = "a package"
    importing = False

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if _Missing.importing:
            return _missing(cls.package, name)
        raise _error(cls.package)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if _Missing.importing:
            return cls
        raise _error(cls.package)


class _Placeholder(ModuleType):
    """A module standing for an absent one."""

    __path__: MutableSequence[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "__file__":
            return f"<placeholder for {self.__name__}>"
        if name.startswith("__"):
            raise AttributeError(name)
        package = self.__name__.partition(".")[0]
        if _Missing.importing:
            return _missing(package, name)
        raise _error(package)


def _missing(package: str, name: str) -> type:
    return _Missing(name, (), {"package": package})


def _error(package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"this part of torchquantum needs {package}, absent when torchquantum was imported: install it and start again",
        name=package,
    )


class _Finder(MetaPathFinder, Loader):
    """Answers imports of the given packages, when torchquantum itself asks."""

    def __init__(self, packages: set[str]):
        self.packages = packages

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self.packages or not _asked_by_torchquantum():
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _asked_by_torchquantum() -> bool:
    frame = currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("importlib") and module != __name__:
            return module.partition(".")[0] == "torchquantum"
        frame = frame.f_back
    return False


def _import_with_placeholders(packages: set[str]) -> ModuleType:
    def below(names: set[str]) -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in names]

    real = {name: sys.modules.pop(name) for name in below(packages)}
    finder = _Finder(packages)
    sys.meta_path.insert(0, finder)
    _Missing.importing = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and `import imp`: the user cannot mend torchquantum's
            return import_module("torchquantum")
    except BaseException:
        for name in below({"torchquantum"}):
            del sys.modules[name]
        raise
    finally:
        _Missing.importing = False
        sys.meta_path.remove(finder)
        for name in below(packages):
            del sys.modules[name]
        sys.modules.update(real)
