"""The process behind `warm`: it has imported what the lab's commands import, and forks one process for each command.

A fork takes 20 ms, the imports take seconds. What a command forks or starts by itself is its own, but for what would
import everything once more: multiprocessing's fork server, a worker of joblib, a job of submitit's, and another process
of the same run. Those come from processes that a command's process has forked at its very start, before any thread, and
that wait for such work.
"""

import atexit
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

MESSAGE = 1 << 17  # bytes, at most
LARGE = ("sklearn.neighbors", "matplotlib.pyplot", "lightning.pytorch.loggers", "wandb", "plotly.graph_objects")
LARGE += ("joblib", "optuna", "submitit", "hydra.main")
# They start no run in a process of its own.
ALONE = ("wandb", *(f"hqcnn_lab.{name}" for name in ("dashboard", "evaluate", "predict", "prepare", "report", "train")))
# It fills the place of packages that torchquantum lacks, and is read where a test asks for it.
LEFT_OUT = "hqcnn_lab.quantum.engine.torchquantum"

_exit_code = 0


def main(descriptor: int) -> None:
    """Fork what comes in from those who connect; tell of each process its number, and how it ended."""
    sys.path.pop(0)  # the folder of this file
    atexit.register(_end)  # before any import that registers something: the first comes last
    _import_all()
    listening = socket.socket(fileno=descriptor)
    clients: dict[int, socket.socket] = {}
    running: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready == listening.fileno():
                client, _ = listening.accept()
                clients[client.fileno()] = client
                poll.register(client, select.POLLIN)
                continue
            if ready in running:
                pid, answer = running.pop(ready)
                _, status = os.waitpid(pid, 0)
                poll.unregister(ready)
                os.close(ready)
                _say(answer, os.waitstatus_to_exitcode(status))
                answer.close()
                continue
            message, descriptors, _, _ = socket.recv_fds(clients[ready], MESSAGE, 4)
            if not message:
                poll.unregister(ready)
                clients.pop(ready).close()
                if clients:
                    continue
                return
            answer = socket.socket(fileno=descriptors.pop())
            if not (pid := os.fork()):
                for of_another in (listening, *clients.values(), answer, *(answer for _, answer in running.values())):
                    of_another.close()
                _become(json.loads(message), dict(zip(range(3), descriptors, strict=True)))
                return
            for used in descriptors:
                os.close(used)
            _say(answer, pid)
            ended = os.pidfd_open(pid)
            running[ended] = pid, answer
            poll.register(ended, select.POLLIN)


def _import_all() -> None:
    import hqcnn_lab
    from hqcnn_lab.lightning_import_private import import_lightning

    import_lightning()
    names = [module.name for module in pkgutil.walk_packages(hqcnn_lab.__path__, "hqcnn_lab.")]
    for name in [*names, *LARGE]:
        if name != LEFT_OUT:
            with suppress(ImportError):  # of an extra, or of a GPU
                importlib.import_module(name)
    for name in names:
        if name.count(".") == 1 and hasattr(sys.modules.get(name), "main"):
            del sys.modules[name]  # an entry point: it is read anew, as __main__
            delattr(hqcnn_lab, name.rpartition(".")[2])
    _compose_once()
    tasks = os.listdir("/proc/self/task")  # noqa: PTH208 (names are all that is wanted)
    assert len(tasks) == 1, f"a fork of {len(tasks)} threads keeps one of them"
    for left in weakref.finalize._registry:
        left.atexit = False  # what the end of a process would undo of the imports, for 30 ms: torch's operators
    gc.collect()
    gc.freeze()  # what no collection looks at stays shared between the processes


def _compose_once() -> None:
    """Have Hydra find its plugins and read the configuration, and its parser learn the grammar: half a composition."""
    sys.path.append(str(Path(__file__).parent))
    quick_compose = importlib.import_module("quick_compose")
    sys.path.pop()
    quick_compose.parse_once()
    from hqcnn_lab.config import compose

    compose.compose(["name=a", "optim.lr=0.1", "model.widths=[8,8]"], with_hydra=True)
    compose._composed.cache_clear()


def _say(answer: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits for it
        answer.sendall(f"{number}\n".encode())


def _become(wanted: dict[str, Any], descriptors: dict[int, int]) -> None:
    """Run a command line of Python's in this process, as a new one would: `-m module …` or `-c code …`."""
    global _exit_code
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in wanted.get("ignored", ()):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, wanted.get("blocked", ()))
    if wanted.get("new_session"):
        os.setsid()
    for number, given in descriptors.items():
        os.dup2(given, number, inheritable=number < 3)
    for given in set(descriptors.values()) - descriptors.keys():
        os.close(given)
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    faulthandler.register(signal.SIGUSR1)  # where it hangs
    tempfile.tempdir = None  # TMPDIR may be another one
    _seed_anew()
    _read_rank()
    kind, what, *arguments = wanted["line"]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:0] = [wanted["cwd"] if kind == "-m" else "", *paths]
    _keep_some_waiting(wanted["line"])
    try:
        if kind == "-m":
            sys.argv = [what, *arguments]
            sys.modules.pop(what, None)  # joblib's worker: runpy would warn of a second one
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *arguments]
            vars(sys.modules["__main__"]).pop("__file__", None)
            exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))
    except SystemExit as end:
        _exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        _exit_code = -signal.SIGINT
        raise
    except BaseException:
        _exit_code = 1
        raise


def _seed_anew() -> None:
    import numpy as np
    import torch

    random.seed()
    np.random.seed(None)  # noqa: NPY002 (the state that libraries use)
    torch.seed()


def _read_rank() -> None:
    """Which process of a run this is: read as the two are imported."""
    from lightning.fabric.utilities import rank_zero
    from torchmetrics.utilities import prints

    rank_zero.rank_zero_only.rank = rank_zero._get_rank() or 0
    prints.rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", "0"))


def _end() -> None:
    """Spare a command the third of a second in which Python takes its modules apart."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if _exit_code == -signal.SIGINT:  # as Python ends
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(_exit_code)


def _keep_some_waiting(line: list[str]) -> None:
    """Have the fork server, and what is about to start Python anew, come from forks that are made now."""
    from multiprocessing import util

    is_alone = line[0] == "-m" and line[1] in ALONE and "-m" not in line[2:]  # a sweep is not
    servers = [] if is_alone else [_Waiting()]

    def spawn(path: str, arguments: list[str], descriptors: list[int]) -> int:
        if servers and "multiprocessing.forkserver" in os.fsdecode(arguments[-1]):
            return servers.pop().run(arguments[-2:], {n: n for n in descriptors}, os.environ)
        return start(path, arguments, descriptors)

    start = util.spawnv_passfds
    util.spawnv_passfds = spawn
    if "hydra.launcher.n_jobs=2" in line:
        _keep_workers_of_joblib(2)
    n_processes = {"hydra/launcher=slurm_local": 2, "submitit.local._local": 1, "trainer.devices=2": 1}
    if n := sum(n for word, n in n_processes.items() if word in line and "LOCAL_RANK" not in os.environ):
        _keep_subprocesses(n)


def _keep_workers_of_joblib(n: int) -> None:
    from joblib.externals.loky.backend import fork_exec as loky

    workers = [_Waiting() for _ in range(n)]
    execute = loky.fork_exec

    def execute_or_fork(line: list[str], descriptors: list[int], env: dict[str, str] | None = None) -> int:
        if workers:
            return workers.pop().run(line[1:], {int(n): int(n) for n in descriptors}, os.environ | (env or {}))
        return execute(line, descriptors, env=env)

    loky.fork_exec = execute_or_fork


def _keep_subprocesses(n: int) -> None:
    """For `subprocess.Popen([sys.executable, "-m", …])`."""
    processes = [_Waiting() for _ in range(n)]
    execute = subprocess._fork_exec

    def execute_or_fork(*given: Any) -> int:
        line, _, _, kept, cwd, variables, stdin, _, _, stdout, _, stderr, _, of_errors, _, new_session, *_ = given
        line = [os.fsdecode(word) for word in line if word != "-u"]  # what it prints is read at its end
        if not processes or line[:2] != [sys.executable, "-m"]:
            return execute(*given)
        environment = dict(os.fsdecode(each).split("=", 1) for each in variables or ()) or os.environ
        streams = {number: at for number, at in enumerate((stdin, stdout, stderr)) if at != -1}
        descriptors = streams | {number: number for number in kept if number != of_errors}
        return processes.pop().run(line[1:], descriptors, environment, cwd=cwd, new_session=new_session)

    subprocess._fork_exec = execute_or_fork


class _Waiting:
    """A process, child of this one, that waits for a command line of Python's; it ends when this one does."""

    _sockets: list[socket.socket] = []

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sockets.append(ours)
        # A Ctrl-C is not for it: before it has work, nothing of a command runs in it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        self._pid, self._work = os.fork(), ours
        if not self._pid:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            while self._sockets:
                self._sockets.pop().close()
            _wait_for_work(theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def run(self, line: list[str], descriptors: dict[int, int], environment: Mapping[str, str], **more: Any) -> int:
        """Have it run `line`, with each number of `descriptors` for what is its value here; return its own number."""
        ignored = [n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN]
        wanted = {"line": [os.fsdecode(word) for word in line], "environment": dict(environment)}
        wanted |= {"numbers": list(descriptors), **more}
        wanted["cwd"] = wanted.get("cwd") or os.getcwd()  # noqa: PTH109 (a text for JSON)
        wanted |= {"ignored": ignored, "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, []))}
        socket.send_fds(self._work, [json.dumps(wanted).encode()], list(descriptors.values()))
        self._work.close()
        return self._pid


def _wait_for_work(work: socket.socket) -> NoReturn:
    message, given, _, _ = socket.recv_fds(work, MESSAGE, 100)
    work.close()
    if not message:
        os._exit(0)
    wanted = json.loads(message)
    # First out of the way of the numbers that they have to get.
    high = [_moved(descriptor, 500) for descriptor in given]
    _become(wanted, dict(zip(wanted["numbers"], high, strict=True)))
    sys.exit()


def _moved(descriptor: int, least: int) -> int:
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, least)
    os.close(descriptor)
    return moved


if __name__ == "__main__":
    main(int(sys.argv[1]))
