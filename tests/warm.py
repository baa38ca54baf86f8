"""Commands of the lab as processes that need not import everything first: forks of one that has.

For tests that look at what a command prints, leaves or returns, and for those that end it by a signal: it is a process
of its own. Not where the start itself is in question (what is imported, which variables are read by imports, processes
that start themselves anew): there `subprocess` with `sys.executable`. `tests/test_warm.py` compares the two.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAIN = ("-m", "hqcnn_lab.train")
Ended = subprocess.CompletedProcess[str]


def run(*line: str, cwd: Path | str | None = None, **variables: str | None) -> Ended:
    """Run a command line of Python's to its end: `-m module …` or `-c code …`, with more environment variables.

    One that is None is taken away.
    """
    process = Process(*line, cwd=cwd, **variables)
    out, err = process.communicate()
    return subprocess.CompletedProcess([sys.executable, *line], process.returncode, out, err)


def run_anew(*line: str, cwd: Path | str | None = None, text: str = "", **variables: str | None) -> Ended:
    """As `run`, in a process that imports everything itself, as a user's does; it may read `text`."""
    given = {"cwd": cwd, "env": _environment(variables), "input": text, "timeout": 240}
    return subprocess.run([sys.executable, *line], capture_output=True, text=True, check=False, **given)


def _environment(variables: dict[str, str | None]) -> dict[str, str]:
    # As many threads as in this process: with more, sums are of another order.
    merged = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
    return {name: value for name, value in merged.items() if value is not None}


class Process:
    """A command line of Python's that is running; what it prints can be read as it comes from `stdout`.

    As `subprocess.Popen`, as far as tests use it. With `new_session`, its processes are a group of their own.
    """

    def __init__(
        self, *line: str, cwd: Path | str | None = None, new_session: bool = False, **variables: str | None
    ) -> None:
        wanted = {"line": line, "cwd": str(Path(cwd or "").absolute()), "environment": _environment(variables)}
        message = json.dumps(wanted | {"new_session": new_session}).encode()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (it is read at the end)
        self._answer, its_answer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (its_stdin, stdin), (stdout, its_stdout) = os.pipe(), os.pipe()
        socket.send_fds(_server(), [message], [its_stdin, its_stdout, self._stderr.fileno(), its_answer.fileno()])
        for number in (its_stdin, its_stdout, its_answer.detach()):
            os.close(number)
        self.stdin, self.stdout = os.fdopen(stdin, "w"), os.fdopen(stdout)
        self.returncode: int | None = None
        self.pid = self._number()

    def _number(self) -> int:
        answer = self._answer.recv(100)
        assert answer, "the process that forks all others has ended"
        return int(answer)

    def poll(self) -> int | None:
        """Its exit code, minus the number of a signal, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        if self.returncode is None:
            if not select.select([self._answer], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = self._number()
            self._answer.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _give_up(self) -> None:
        """Have it say where it hangs, with its errors, and end it."""
        self.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        self.kill()

    def communicate(self, text: str = "", timeout: float = 240) -> tuple[str, str]:
        """Give it `text` to read, and return the rest of what it prints and its errors; killed after `timeout`."""
        too_late = threading.Timer(timeout, self._give_up)
        too_late.start()
        with self.stdin, suppress(BrokenPipeError):
            self.stdin.write(text)
        with self.stdout:
            out = self.stdout.read()
        self.wait()
        too_late.cancel()
        with self._stderr as file:
            file.seek(0)
            return out, file.read().decode(errors="replace")


@cache
def _server() -> socket.socket:
    """One for all workers of pytest; it ends with the last of them."""
    name = f"\0warm {os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            try:
                listening.bind(name)
            except OSError:
                pass  # another worker has started it
            else:
                listening.listen()
                _start(listening.fileno())
        with suppress(ConnectionRefusedError):  # it does not listen yet
            ours.connect(name)
            return ours


def _start(descriptor: int) -> None:
    line = [sys.executable, str(ROOT / "tests" / "warm_server.py"), str(descriptor)]
    alone = (
        os.environ
        | {"PYTHONPATH": str(ROOT)}
        | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    )
    # Of the kind that each process gets: Python looks once whether a stream can be set back.
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    subprocess.Popen(line, cwd=ROOT, env=alone, pass_fds=[descriptor], **pipes)
