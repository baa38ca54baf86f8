"""After an upgrade of torchmetrics: is it still imported without SciPy's signal processing and matplotlib?"""

import subprocess
import sys

import pytest
from torchmetrics import MeanMetric

from hqcnn_lab.torchmetrics_private import set_update_count

pytestmark = pytest.mark.slow

BEGIN = "import sys\nfrom hqcnn_lab.torchmetrics_private import import_torchmetrics\nimport_torchmetrics()\n"
BROKEN = "torchmetrics reads more as it is imported than hqcnn_lab/torchmetrics_private.py stands in for: mend it there"


def in_a_fresh_interpreter(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_what_is_left_out():
    code = "print(*sorted({'scipy.signal', 'matplotlib', 'matplotlib.pyplot', 'matplotlib.axes'} & set(sys.modules)))"
    assert in_a_fresh_interpreter(code) == "", BROKEN


def test_all_of_it_works_when_it_is_needed():
    code = (
        "import scipy.signal.windows, torch\n"
        "from scipy.signal import find_peaks\n"
        "assert len(find_peaks([0, 1, 0])[0]) == 1 and callable(scipy.signal.windows.hann)\n"
        "from torchmetrics.classification import MulticlassAccuracy\n"
        "metric = MulticlassAccuracy(2)\n"
        "metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]))\n"
        "print(type(metric.plot()[0]).__name__)"
    )
    assert in_a_fresh_interpreter(code) == "Figure"


def test_a_stand_in_that_is_asked_for_more_imports_the_real_module():
    code = (
        "import_torchmetrics()\n"  # a second time: nothing happens
        "from hqcnn_lab.torchmetrics_private import _StandIn\n"
        "sys.modules['scipy.signal'] = stand_in = _StandIn('scipy.signal')\n"
        "assert stand_in.hamming is None\n"
        "assert callable(stand_in.find_peaks)\n"
        "print(sys.modules['scipy.signal'] is stand_in)"
    )
    assert in_a_fresh_interpreter(code) == "False"


def test_the_count_of_updates_can_be_set():
    metric = MeanMetric()
    set_update_count(metric, 3)
    assert metric.update_count == 3, "Metric._update_count is not what hqcnn_lab/torchmetrics_private.py expects"
