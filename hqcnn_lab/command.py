"""The command line of an entry point that takes `key=value` and sweeps nothing."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from hqcnn_lab.config import CONFIG_DIR


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message} (--help lists what there is)\n")


def read_overrides(module: str, name: str, description: str, argv: Sequence[str] | None = None) -> list[str]:
    """The `key=value` of `python -m <module>`; its `--help` is `description`, and `conf/<name>.yaml` as it stands.

    What the keys are worth is for `config.check_command_line` to say. A wrong option ends the process, with one line
    and exit status 1.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog=f"python -m {module}", description=description, formatter_class=formatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="every key, with its default:")
    lines = (CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    parser.epilog = "\n".join(lines[1:]).strip()  # the first says what the file is
    return parser.parse_args(argv).overrides
