"""The command line of `hqcnn_lab.train`, whose options are Hydra's: read, and checked before anything starts."""

import argparse
import sys
from functools import partial
from typing import Any

from omegaconf import DictConfig

from hqcnn_lab.config.arguments import check_arguments
from hqcnn_lab.config.check import check
from hqcnn_lab.config.command import refuse_option
from hqcnn_lab.config.command_line import check_command_line, check_folders
from hqcnn_lab.config.hydra_private import get_args_parser
from hqcnn_lab.config.key import plain_values
from hqcnn_lab.distributed import is_follower


def read_train_line() -> argparse.Namespace:
    """What is asked for; options may stand anywhere, and are put first in `sys.argv`, where Hydra reads them."""
    parser = get_args_parser()
    parser.error = partial(refuse_option, parser)
    arguments = parser.parse_intermixed_args()
    options = sys.argv[1:]
    for line in arguments.overrides:
        options.remove(line)
    sys.argv[1:] = [*options, *arguments.overrides]
    return arguments


def check_train_line(arguments: argparse.Namespace) -> None:
    """Raise `ConfigError` for the first mistake in anything that is to run.

    What has to import torch and Lightning, as the run would, comes last.
    """
    jobs: list[dict[str, Any]] = []

    def check_job(config: DictConfig) -> None:
        check(config, in_sweep=arguments.multirun)
        jobs.append(plain_values(config))

    check_command_line(arguments.overrides, arguments.multirun, check=check_job)
    if not arguments.cfg and not is_follower():
        check_folders(arguments.overrides, arguments.multirun)
        for job in jobs:
            check_arguments(job)
