"""After an upgrade of Lightning, torchmetrics or torch: is Lightning still imported without what no training uses?"""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
import warm
from conftest import TINY_PHANTOM, tiny_config

from hqcnn_lab.lightning_import_private import _READ, _StandIn
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow

BROKEN = "a training imports more of Lightning than hqcnn_lab/lightning_import_private.py stands in for: mend it there"


def in_a_fresh_interpreter(code: str, folder: Path) -> list[str]:
    run = warm.run_anew("-c", code, cwd=folder)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_what_is_left_out_of_a_whole_training(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['train', *{[*TINY_PHANTOM, 'logger=none', 'trainer.max_epochs=1']}]\n"
        "runpy.run_module('hqcnn_lab.train', run_name='__main__', alter_sys=True)\n"
        "left_out = {'scipy.signal', 'matplotlib', 'matplotlib.pyplot', 'matplotlib.axes', 'torch._dynamo'}\n"
        "print(*sorted(left_out & set(sys.modules)))"
    )
    assert in_a_fresh_interpreter(code, tmp_path)[-1] == "", BROKEN


def test_all_of_it_works_when_it_is_needed(tmp_path: Path) -> None:
    code = """
import json, sys, torch
from hqcnn_lab.lightning_import_private import import_lightning
import_lightning()
import_lightning()  # a second time: nothing happens
import scipy.signal.windows
from scipy.signal import find_peaks
assert len(find_peaks([0, 1, 0])[0]) == 1 and callable(scipy.signal.windows.hann)
from torchmetrics.classification import MulticlassAccuracy
metric = MulticlassAccuracy(2)
metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
print(type(metric.plot()[0]).__name__)
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from torch import nn
class Module(LightningModule): ...
module = Module()
try:
    to_uncompiled(nn.Linear(1, 1))
except ValueError:
    print("torch._dynamo" in sys.modules)
print(to_uncompiled(from_compiled(torch.compile(module, backend="eager"))) is module)
def learn(compiled):
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    def step(x):
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()
    graphs = []
    if compiled:
        step = torch.compile(step, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    for _ in range(3):
        step(torch.ones(3, 4))
    return layer.weight.tolist(), len(graphs) > 0
print(json.dumps([learn(False), learn(True)]))
"""
    figure, is_imported, is_same, learned = in_a_fresh_interpreter(code, tmp_path)
    assert (figure, is_imported, is_same) == ("Figure", "False", "True")
    (as_it_is, _), (compiled, has_graphs) = json.loads(learned)
    assert has_graphs
    assert compiled[0] == pytest.approx(as_it_is[0], rel=1e-4)


def test_a_stand_in_that_is_asked_for_more_imports_the_real_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_READ, "colorsys", {"hls_to_rgb": None})
    stand_in = _StandIn("colorsys")
    monkeypatch.setitem(sys.modules, "colorsys", stand_in)
    assert stand_in.hls_to_rgb is None
    assert callable(stand_in.rgb_to_hls)
    assert sys.modules["colorsys"] is importlib.import_module("colorsys") is not stand_in


def test_a_training_is_as_deterministic_as_its_config_says(tmp_path: Path) -> None:
    # Lightning is not told `deterministic=False` where that is so: to hear it, torch imports its compiler.
    torch.use_deterministic_algorithms(True)
    try:
        train(tiny_config(tmp_path, "trainer.max_epochs=1"))
        assert not torch.are_deterministic_algorithms_enabled()
        train(tiny_config(tmp_path / "b", "trainer.max_epochs=1", "trainer.deterministic=warn"))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
