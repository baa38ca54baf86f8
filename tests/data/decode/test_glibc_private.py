"""Whether the C library takes the numbers of hqcnn_lab/data/decode/glibc_private.py."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
from hqcnn_lab.data.decode.glibc_private import keep_freed_memory
kept = keep_freed_memory()
import numpy as np
np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**22)  # 32 MiB: 8192 pages, each a fault where it comes from the system again
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 8192)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_kept():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "True"], "glibc's mallopt is not what glibc_private.py expects"
