"""`resume=auto`: find the run of the same configuration that did not finish, and where it can be continued."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from hqcnn_lab.error import ConfigError
from hqcnn_lab.record.digest import digest
from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.record.state import KEPT, LOCK, is_live, modified, remove_leftovers_of, state_of

_held: list[FileLock] = []  # until this process ends


class Place(NamedTuple):
    """A run that stopped, and the checkpoint to go on from."""

    folder: Path
    checkpoint: Path
    epoch: int
    step: int


def continue_run(config: DictConfig, runs_dir: str | Path) -> bool:
    """Let `config` go on where a run of the same configuration in `runs_dir` stopped, and print a line that says so.

    Sets `config.ckpt_path`. Returns whether there is anything to run: False if such a run has finished. This process
    holds the lock of the run until it ends, so that no other process continues the same one. Call it before the new
    run's own folder is made. Raises `ConfigError` if such a run is going on, or has diverged: it would diverge again.
    """
    runs = matching_runs(runs_dir, config)
    for run in runs:
        if (state := state_of(run)) in KEPT:
            if state == "finished":
                print(f"resume=auto: nothing to do, {run} has finished", flush=True)
                return False
            raise ConfigError(f"resume=auto: {run} has diverged, and would again; change its settings")
    if going_on := next((run for run in runs if is_live(run)), None):
        raise ConfigError(f"resume=auto: {going_on} is going on right now; wait for it, or leave resume=auto out")
    place = _newest_place(runs)
    if place is None:
        print(f"resume=auto: nothing to continue in {runs_dir}, starting anew", flush=True)
        return True
    claim = FileLock(place.folder / LOCK)
    try:
        claim.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"resume=auto: {place.folder} is being continued by another process") from None
    except OSError as error:
        lock = place.folder / LOCK
        raise ConfigError(f"resume=auto: {lock} cannot be locked ({error.strerror}); remove it") from None
    _held.append(claim)
    remove_leftovers_of(place.folder)
    config.ckpt_path = str(place.checkpoint)
    print(
        f"resume=auto: continuing {place.folder} from epoch {place.epoch + 1}, step {place.step} "
        f"({place.checkpoint.name})",
        flush=True,
    )
    return True


def find_unfinished(runs_dir: str | Path, config: DictConfig) -> Path | None:
    """The newest run in `runs_dir` that computes what `config` does and can be continued; not one that is going on."""
    runs = [run for run in matching_runs(runs_dir, config) if state_of(run) not in KEPT and not is_live(run)]
    place = _newest_place(runs)
    return None if place is None else place.folder


def matching_runs(runs_dir: str | Path, config: DictConfig) -> list[Path]:
    """The run folders directly in `runs_dir` whose configuration computes the same thing, the newest first.

    Says in a line which cannot be looked at: one of them may be the one that was meant.
    """
    name, matching, lost = digest(config), [], []
    for path in Path(runs_dir).glob("*/environment.json"):
        run = RunFolder(path.parent)
        if run.environment.get("digest") == name:
            written, started = modified(path), run.status.started
            matching.append((started.timestamp() if started else written, written, run.folder))
        elif "digest" not in run.environment and run.problems:
            lost.append(f"{path} {run.problems[path.name]}")
    if lost:
        more = f" (and {len(lost) - 1} more)" if lost[1:] else ""
        print(f"resume=auto: not known whether it is the same: {lost[0]}{more}", flush=True)
    return [folder for *_, folder in sorted(matching, reverse=True)]


def _newest_place(runs: list[Path]) -> Place | None:
    return next((place for run in runs for place in _places(run)), None)


def _places(run: Path) -> Iterator[Place]:
    """Where it can be continued from: the last epoch or batch, and if that file is torn, the best epoch."""
    import torch

    for name in ("last.ckpt", "best.ckpt"):
        path = run / "checkpoints" / name
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            epoch = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
            if not checkpoint["state_dict"].keys():
                continue
            yield Place(run, path, epoch, int(checkpoint["global_step"]))
        except Exception:  # torch, zipfile or pickle: the file is absent, cut short, or no checkpoint
            continue
