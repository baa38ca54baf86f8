"""A process of `warm` is, as far as a test can tell, a new one of Python; and every entry point starts in a new one."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import warm

import hqcnn_lab

pytestmark = pytest.mark.slow

ENTRY_POINTS = sorted(
    path.stem
    for path in Path(hqcnn_lab.__file__).parent.glob("*.py")
    if 'if __name__ == "__main__":' in path.read_text()
)
TELL = """
import json, os, random, signal, sys, threading
told = {
    "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(), "environment": dict(os.environ), "name": __name__,
    "read": sys.stdin.read(), "threads": threading.active_count(),
    "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "leads": os.getpgid(0) == os.getpid(), "random": [random.random()],
}
"""
OF_LIBRARIES = """
import logging
import numpy, torch, matplotlib
from hydra.core.global_hydra import GlobalHydra
told["random"] += [numpy.random.random(), float(torch.rand(1))]
told |= {
    "torch_threads": torch.get_num_threads(), "figures": matplotlib.get_backend(),
    "handlers": len(logging.getLogger().handlers), "hydra": GlobalHydra.instance().is_initialized(),
}
"""
PRINT = "print(json.dumps(told))"


def test_it_has_what_a_new_process_has(tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text(TELL + PRINT)
    for line in (["-c", TELL + OF_LIBRARIES + PRINT, "a", "b=[1]"], ["-m", "tell", "a"]):
        process = warm.Process(*line, cwd=tmp_path, new_session=True, OF_MINE="1")
        out, err = process.communicate("some text")
        assert (process.returncode, err) == (0, "")
        anew = warm.run_anew(*line, cwd=tmp_path, text="some text", OF_MINE="1")
        ours, theirs = json.loads(out), json.loads(anew.stdout)
        assert (ours.pop("leads"), theirs.pop("leads")) == (True, False)
        assert ours["environment"].pop("OF_MINE") == theirs["environment"].pop("OF_MINE") == "1"
        assert not set(ours.pop("random")) & set(theirs.pop("random"))
        assert ours == theirs


def test_another_that_it_starts_has_it_too(tmp_path: Path) -> None:
    """Here, where its line asks for two processes: they come from forks too."""
    (tmp_path / "tell.py").write_text(f"{TELL}told['warm'] = 'torch' in sys.modules\n{PRINT}; sys.exit('why')")
    start = """
import os, subprocess, sys
done = subprocess.run(
    [sys.executable, "-u", "-m", "tell", "a"], cwd=sys.argv[1], env=dict(os.environ, OF_MINE="1"), input="some text",
    capture_output=True, text=True, start_new_session=True,
)
print(done.stdout, end="")
sys.exit(f"{done.returncode} {done.stderr}")
"""
    line = ("-c", start, str(tmp_path), "trainer.devices=2")
    (ours, words), (theirs, words_anew) = (
        (json.loads(process.stdout), process.stderr) for process in (warm.run(*line), warm.run_anew(*line))
    )
    assert words == words_anew == "1 why\n\n"
    assert (ours.pop("warm"), theirs.pop("warm")) == (True, False)
    assert ours.pop("random") != theirs.pop("random")
    assert ours["leads"]
    assert ours == theirs


def test_no_two_share_their_random_numbers(tmp_path: Path) -> None:
    line = "import random, numpy; print(random.random(), numpy.random.random())"
    one, other = (warm.run("-c", line).stdout.split() for _ in range(2))
    assert not set(one) & set(other)


@pytest.mark.parametrize(
    "code",
    [
        "print('done')",
        "import sys; print('out'); sys.exit('error: why')",
        "import sys; sys.exit(3)",
        "import os; os.kill(os.getpid(), 9)",
        "import atexit; atexit.register(print, 'last'); print('first')",
        "import threading, time; threading.Thread(target=lambda: time.sleep(0.1) or print('late')).start()",
        "import os; os.write(2, b'by the descriptor')",
    ],
)
def test_it_ends_as_a_new_process_does(code: str, tmp_path: Path) -> None:
    ours, theirs = warm.run("-c", code, cwd=tmp_path), warm.run_anew("-c", code, cwd=tmp_path)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


@pytest.mark.parametrize(("code", "exit_code"), [("raise KeyboardInterrupt", -signal.SIGINT), ("1 / 0", 1)])
def test_an_exception_ends_it_as_a_new_process(code: str, exit_code: int, tmp_path: Path) -> None:
    ours, theirs = warm.run("-c", code, cwd=tmp_path), warm.run_anew("-c", code, cwd=tmp_path)
    assert ours.returncode == theirs.returncode == exit_code
    assert ours.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1]


def test_it_is_seen_while_it_runs_and_can_be_ended(tmp_path: Path) -> None:
    process = warm.Process("-c", "import time; print('here', flush=True); time.sleep(100)", cwd=tmp_path)
    assert process.stdout.readline() == "here\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.01)
    process.terminate()
    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGTERM


def test_what_waits_for_work_ends_with_its_process() -> None:
    process = warm.Process("-c", "import time; print('here', flush=True); time.sleep(100)", new_session=True)
    assert process.stdout.readline() == "here\n"
    os.killpg(process.pid, signal.SIGINT)  # of it alone a traceback: nobody has given the others any work
    _, errors = process.communicate()
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("a process is left of its group")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_starts_in_a_new_process(entry_point: str, tmp_path: Path) -> None:
    line = ("-m", f"hqcnn_lab.{entry_point}", "--help")
    theirs, ours = warm.run_anew(*line, cwd=tmp_path), warm.run(*line, cwd=tmp_path)
    assert (theirs.returncode, theirs.stderr) == (0, "")
    assert f"python -m hqcnn_lab.{entry_point}" in theirs.stdout
    assert ours.stdout == theirs.stdout
    assert not list(tmp_path.iterdir())
