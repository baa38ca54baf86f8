"""What importing costs and leaves behind, each in a process of its own."""

import re
import sys

import pytest
import warm

from hqcnn_lab.quantum.engine import torchquantum as torchquantum_engine

pytestmark = pytest.mark.slow


def run(code: str, *flags: str, path: str = "") -> None:
    _check(warm.run_anew(*flags, "-c", code, PYTHONPATH=path))


def run_with_torch(code: str, path: str = "") -> None:
    """Where torch and the like are there already; torchquantum is not."""
    _check(warm.run("-c", code, PYTHONPATH=path))


def _check(done: warm.Ended) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_what_describes_a_circuit_needs_no_torch():
    run("""
import sys, hqcnn_lab.quantum.limits as limits
from hqcnn_lab.quantum import ansatz, check, circuit, draw, gate, noise
from hqcnn_lab.quantum.engine import plan
limits.check_circuit(4, 2, "hardware_efficient", engine="auto")
assert limits.MAX_WIRES["auto"] == 24
assert "torch" not in sys.modules and "numpy" not in sys.modules
""")


def test_the_optimizers_need_no_simulator_and_the_layers_no_torchquantum_until_it_runs():
    run("""
import sys, torch
def imported(*names):
    return {name for name in sys.modules if name.startswith(names)}
from hqcnn_lab.optim import GVCO, QNG, SPSA
weights = torch.nn.Parameter(torch.ones(2))
for optimizer in (GVCO([weights]), SPSA([weights])):
    if isinstance(optimizer, SPSA):
        optimizer.add_loss(lambda: weights.sum())
    weights.sum().backward()
    optimizer.step()
QNG([weights])
assert not imported("hqcnn_lab.quantum", "pytorch_optimizer", "lightning", "hydra", "wandb")
from hqcnn_lab.quantum import FoldedModule, QuantumConv2d, QuantumLayer
QuantumConv2d(1)(torch.zeros(1, 1, 2, 2))
QuantumLayer(2, 1, engine="torchquantum")
assert not imported("torchquantum", "lightning", "hydra", "wandb")
""")


def test_torchquantum_leaves_no_placeholder_and_no_warning_and_real_packages_alone(tmp_path):
    run(
        f"""
import importlib.util, sys, tqdm, torch
import dateutil.tz  # by way of matplotlib; it brings six, which has a finder of its own
sys.pycache_prefix = {str(tmp_path)!r}  # compiled afresh, it warns of invalid escapes
finders, kept = list(sys.meta_path), tqdm.tqdm
asked = ("qiskit", "torchpack", "torchvision", "torchdiffeq", "pathos", "matplotlib")
absent = set(filter(lambda name: importlib.util.find_spec(name) is None, asked))
assert absent, "every package torchquantum asks for is installed: this test shows nothing"
from hqcnn_lab.quantum import QuantumLayer
QuantumLayer(2, 1, engine="torchquantum")(torch.zeros(3, 2))
import torchquantum
assert torchquantum is sys.modules["torchquantum"]
assert sys.meta_path == finders
assert absent.isdisjoint(name.partition(".")[0] for name in sys.modules)
assert sys.modules["tqdm"] is tqdm and tqdm.tqdm is kept
assert all(importlib.util.find_spec(name) is None for name in absent)
""",
        "-W",
        "error::DeprecationWarning",
    )


@pytest.mark.skipif(
    any(torchquantum_engine.find_spec(name) for name in ("qiskit", "torchpack")),
    reason="qiskit or torchpack is real here",
)
def test_touching_a_placeholder_names_the_missing_package():
    run_with_torch("""
from hqcnn_lab.quantum.engine.torchquantum import torchquantum
tq = torchquantum()
def message(touch):
    try:
        touch()
    except ModuleNotFoundError as error:
        return error.name
    raise AssertionError("a placeholder could be used")
assert message(lambda: tq.qiskit.QuantumCircuit) == "qiskit"
assert message(lambda: tq.plugin.qiskit.qiskit_plugin.QuantumCircuit(2)) == "qiskit"
assert message(lambda: tq.functional.gate_wrapper.__globals__["logger"].info("hi")) == "torchpack"
""")


def test_a_package_that_breaks_torchquantum_is_kept_from_it_and_stays_real(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    (tmp_path / "torchpack.py").write_text("real = True")
    run(
        """
import sys, torch, torchpack
from hqcnn_lab.quantum import QuantumLayer
QuantumLayer(2, 1, engine="torchquantum")(torch.zeros(3, 2))
assert sys.modules["torchpack"] is torchpack and torchpack.real
assert "torchvision" not in sys.modules
try:
    import torchvision
except RuntimeError as error:
    assert "nms" in str(error)
else:
    raise AssertionError("torchvision was replaced for everybody")
""",
        path=str(tmp_path),
    )


def test_other_peoples_imports_get_no_placeholder(tmp_path):
    # a package torchquantum imports for real looks for one that is absent, while the placeholders are there
    (tmp_path / "pathos").mkdir()
    (tmp_path / "pathos" / "multiprocessing.py").write_text("")
    (tmp_path / "pathos" / "__init__.py").write_text(
        "try:\n    import qiskit_nature.drivers\n    found = True\nexcept ImportError:\n    found = False\n"
    )
    run_with_torch(
        """
from hqcnn_lab.quantum.engine.torchquantum import torchquantum
import sys
torchquantum()
assert "pathos" in sys.modules, "torchquantum did not import it: this test shows nothing"
import pathos
assert pathos.found is False
""",
        path=str(tmp_path),
    )


def test_a_missing_torchquantum_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchquantum", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape(torchquantum_engine.INSTALL)) as error:
        torchquantum_engine.torchquantum()
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_an_attribute_error():
    import hqcnn_lab.optim
    import hqcnn_lab.quantum

    for package, name in ((hqcnn_lab.quantum, "QuantumConv2d"), (hqcnn_lab.optim, "GVCO")):
        with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
            _ = package.Nope
        assert name in dir(package)
