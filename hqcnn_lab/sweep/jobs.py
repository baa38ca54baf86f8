"""Train a list of runs in parallel processes, one to each: a run that dies harms no other, and none is done twice."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from hqcnn_lab.lost_signal import send_lost_signals_again
from hqcnn_lab.record.state import KEPT, state_of

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

# Variables by which a shell or `wandb agent` names one run to W&B; two jobs with the same ones would share a run.
OF_ONE_RUN = (
    *("WANDB_RUN_ID", "WANDB_NAME", "WANDB_RUN_NAME", "WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM"),
    *("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"),
)
PATIENCE = 20  # seconds that a run gets to write its status when it is told to end


class Job(NamedTuple):
    """A run: its folder, and the overrides of `hqcnn_lab.train` that make it.

    `composed` is what they came to where that is known already: the configuration, and Hydra's own.
    """

    folder: Path
    overrides: tuple[str, ...]
    composed: tuple[DictConfig, DictConfig] | None = None


class Ended(NamedTuple):
    """A job whose process has ended; what it came to is in its folder: `state_of`. Negative codes are signals."""

    job: Job
    exit_code: int
    seconds: float


def name_of_signal(number: int) -> str:
    """SIGKILL of 9; some that a batch system may send have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run_jobs(jobs: Iterable[Job], workers: int, threads: int | None = 1) -> Generator[Ended]:
    """Train `workers` jobs at a time, in processes of `threads` torch threads (None: torch's own choice); yield each as
    it ends.

    A job computes, bit for bit, what `python -m hqcnn_lab.train` with the same overrides and threads computes. What it
    prints goes to `output.log` in its folder. A folder that holds a result is left alone, also when another process
    wrote that result meanwhile: of two that want a folder, one waits for the other. What was interrupted or failed
    is moved aside (`.interrupted-1`) and run again.

    Close the iterator to end what is running. Runs end by themselves when this process dies.
    """
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)  # libraries read it as they are loaded, in the new process
    context = _context()
    waiting, running = list(jobs)[::-1], {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                process = context.Process(target=_train_alone, args=(job, threads, Path.cwd()))
                with _held_back(signal.SIGINT, signal.SIGTERM):  # or one may start that `running` does not hold
                    process.start()
                    running[process.sentinel] = process, job, time.monotonic()
            for sentinel in wait(list(running)):
                process, job, since = running.pop(sentinel)
                process.join()
                ended = Ended(job, process.exitcode, time.monotonic() - since)
                process.close()  # not later, as garbage: Python would drop a Ctrl-C that comes just then
                yield ended
    finally:
        _stop([process for process, *_ in running.values()])


def _context() -> "ForkServerContext | SpawnContext":
    """How to start a process: a fork of one that has imported everything, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        # In a worker of joblib the method is joblib's own, which a child process would not know.
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hqcnn_lab.sweep.preloaded"])
    # A Ctrl-C reaches every process of the terminal, also one that is about to ignore it. A signal that is blocked here
    # is blocked in the new process too, so that only the study ends its runs. (The tracker's start would unblock it.)
    resource_tracker.ensure_running()
    with _held_back(signal.SIGINT):
        forkserver.ensure_running()
    return context


@contextmanager
def _held_back(*signals: signal.Signals) -> Iterator[None]:
    """Let a signal that comes within the block act at its end; a process that is started within begins with it blocked.

    A mask alone will not do: it is this thread's, and where another thread gets the signal, Python still acts here.
    """
    held: set[int] = set()
    handlers = {number: at for number in signals if (at := signal.getsignal(number)) not in (None, signal.SIG_IGN)}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}  # Python acts in the main thread alone
    can_mask = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals) if can_mask else set()
    try:
        for number in handlers:
            signal.signal(number, lambda number, _: held.add(number))
        yield
    finally:
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for number in held:
                signal.raise_signal(number)  # where it is masked, it acts when the mask goes
        finally:
            if can_mask:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _stop(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
        process.kill()
        process.join()


def _train_alone(job: Job, threads: int | None, working_folder: Path) -> None:
    """In a process of its own."""
    from filelock import FileLock

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where the process was spawned: see `_context`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as `hqcnn_lab.train`: the status says so
    send_lost_signals_again()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(working_folder)
    for name in OF_ONE_RUN:
        os.environ.pop(name, None)
    locks = job.folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / job.folder.name):  # the system lets go of it, however this process ends
        if state_of(job.folder) in KEPT:
            return
        _move_aside(job.folder)
        job.folder.mkdir()
        _print_to(job.folder / "output.log")
        import torch

        from hqcnn_lab.run.resume import continue_run
        from hqcnn_lab.run.training import train

        if threads is not None:
            torch.set_num_threads(threads)
        config = _configured(job)
        if config.resume:  # from the folder that was moved aside a moment ago
            continue_run(config, job.folder.parent)
        train(config)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _move_aside(folder: Path) -> None:
    if folder.exists():
        state, n = state_of(folder), 1
        while (aside := folder.with_name(f"{folder.name}.{state}-{n}")).exists():
            n += 1
        folder.rename(aside)


def _print_to(path: Path) -> None:
    """Also what libraries write to the descriptors."""
    with path.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def _configured(job: Job) -> DictConfig:
    """The job's configuration, with Hydra's own in place: `${hydra:…}` has a value, and the record notes overrides."""
    from omegaconf import open_dict

    from hqcnn_lab.config.compose import compose
    from hqcnn_lab.config.hydra_private import HydraConfig

    if job.composed is None:
        config = compose(job.overrides, with_hydra=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
    else:
        hydra: Any = HydraConfig.instance()
        config, hydra.cfg = job.composed
    config.paths.output_dir = str(job.folder)
    return config
