"""After an upgrade of joblib: is what hqcnn_lab/data/decode/joblib_private.py uses still what it was?"""

import inspect
import math

from hqcnn_lab.data.decode.joblib_private import ProcessPoolExecutor

BROKEN = "joblib's loky is not what hqcnn_lab/data/decode/joblib_private.py expects: mend it there, or require loky"


def test_loky_is_there_and_ends_its_workers():
    assert "kill_workers" in inspect.signature(ProcessPoolExecutor.shutdown).parameters, BROKEN
    assert {"initializer", "initargs"} <= set(inspect.signature(ProcessPoolExecutor).parameters), BROKEN
    pool = ProcessPoolExecutor(1)
    assert list(pool.map(math.sqrt, [4.0, 9.0])) == [2.0, 3.0], BROKEN
    pool.shutdown(wait=True, kill_workers=True)
