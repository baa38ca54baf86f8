"""Train and test one model, or a sweep of them: `python -m hqcnn_lab.train --help`."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.config.arguments import check_arguments
from hqcnn_lab.config.check import check
from hqcnn_lab.config.command import CommandParser, help_of_train
from hqcnn_lab.config.command_line import check_command_line, check_folders
from hqcnn_lab.config.compose import compose_sweep
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.hydra_private import get_args_parser
from hqcnn_lab.config.override import as_override
from hqcnn_lab.distributed import is_follower
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.run.early_end import how_to_go_on, why_it_ended
from hqcnn_lab.run.training import train


def main() -> None:
    """Refuse a wrong command line; hand a right one to Hydra, which trains once or runs every job of a sweep."""
    # A job that is told to end says so in its status and its exit code; Lightning's own handler would exit with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    arguments = _arguments()
    foreign_config = arguments.config_path or arguments.config_name or arguments.config_dir
    try:
        if arguments.help and not foreign_config:
            print(help_of_train(arguments.overrides))
            return
        if not (arguments.hydra_help or arguments.shell_completion or foreign_config):
            _check(arguments)
    except ConfigError as error:
        sys.exit(f"error: {first_line(error)}")
    except SystemExit:
        print("interrupted; nothing was begun", flush=True)
        raise
    start = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="config")(_job)
    wants_tracebacks = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints one itself, and ends this process
    try:
        if arguments.multirun and not (arguments.hydra_help or foreign_config or arguments.cfg):
            _sweep(arguments.overrides, start)
        else:
            start()
    except Exception as error:
        if wants_tracebacks:
            raise
        sys.exit(f"error: {type(error).__name__}: {first_line(error)[:300]} (HYDRA_FULL_ERROR=1 shows where it arose)")


def _arguments() -> argparse.Namespace:
    """What is asked for; options may stand anywhere, and are put first, where Hydra reads them."""
    parser = get_args_parser()
    parser.error = partial(CommandParser.error, parser)
    arguments = parser.parse_intermixed_args()
    options = sys.argv[1:]
    for line in arguments.overrides:
        options.remove(line)
    sys.argv[1:] = [*options, *arguments.overrides]
    return arguments


def _check(arguments: argparse.Namespace) -> None:
    """Of everything that is to run; what has to import torch and Lightning, as the run would, comes last."""
    jobs: list[dict[str, Any]] = []

    def look(config: DictConfig) -> None:
        check(config, in_sweep=arguments.multirun)
        jobs.append(OmegaConf.to_container(config, resolve=True))

    check_command_line(arguments.overrides, arguments.multirun, check=look)
    if not arguments.cfg and not is_follower():
        check_folders(arguments.overrides, arguments.multirun)
        for job in jobs:
            check_arguments(job)


def _sweep(overrides: list[str], start: Callable[[], None]) -> None:
    import logging

    from hqcnn_lab.sweep.multirun import run_sweep

    logging.getLogger("alembic").setLevel(logging.WARNING)  # lists its plugins where Optuna keeps its trials
    # Its folder, which may be named by the time, is settled here, so that it is known before and after.
    config = compose_sweep(overrides)
    given = any(line.startswith("hydra.sweep.dir=") for line in overrides)
    sys.argv += [] if given else [as_override("hydra.sweep.dir", config.hydra.sweep.dir)]
    run_sweep(overrides, config, start)


def _job(config: DictConfig) -> float | None:
    """`train`, with what ends it said in one line; tracebacks are in `status.json`."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from hqcnn_lab.sweep.multirun import run_job

        return run_job(config)
    try:
        from hqcnn_lab.run.resume import continue_run

        if config.resume and not is_follower() and not continue_run(config, config.paths.runs_dir):
            return None
        return train(config)
    except SystemExit as end:
        if end.code in (128 + signal.SIGINT, 128 + signal.SIGTERM) and not is_follower():
            print(f"interrupted; {how_to_go_on(config)}", flush=True)
        raise
    except Exception as error:
        if (reason := why_it_ended(error, Path(config.paths.output_dir))) is None:
            raise
        sys.exit(f"error: {config.name}: {reason}")
    finally:
        for folder in (config.paths.output_dir, HydraConfig.get().runtime.output_dir):
            with suppress(OSError):
                Path(folder).rmdir()  # Hydra has made it, and nothing has come into it


if __name__ == "__main__":
    main()
