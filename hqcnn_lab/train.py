"""Train and test one model, or a sweep of them: `python -m hqcnn_lab.train --help`."""

import os
import signal
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from hqcnn_lab.config.command import help_of_train
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.train_line import check_train_line, read_train_line
from hqcnn_lab.error import ConfigError, first_line, with_class
from hqcnn_lab.lost_signal import send_lost_signals_again


def main() -> None:
    """Refuse a wrong command line; hand a right one to Hydra, which trains once or runs every job of a sweep."""
    # A job that is told to end says so in its status and its exit code; Lightning's own handler would exit with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    send_lost_signals_again()
    arguments = read_train_line()
    foreign_config = arguments.config_path or arguments.config_name or arguments.config_dir
    try:
        if arguments.help and not foreign_config:
            print(help_of_train(arguments.overrides))
            return
        if not (arguments.hydra_help or arguments.shell_completion or foreign_config):
            check_train_line(arguments)
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
            from hqcnn_lab.sweep.multirun import run_sweep

            run_sweep(arguments.overrides, start)
        else:
            start()
    except Exception as error:
        if wants_tracebacks:
            raise
        sys.exit(f"error: {with_class(error)} (HYDRA_FULL_ERROR=1 shows where it arose)")


def _job(config: DictConfig) -> float | None:
    """What Hydra calls; it names jobs by the module that this is in."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from hqcnn_lab.sweep.multirun import run_job

        return run_job(config)
    from hqcnn_lab.run.single import run_single

    return run_single(config)


if __name__ == "__main__":
    main()
