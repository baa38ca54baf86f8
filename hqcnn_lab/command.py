"""The command line of an entry point that takes `key=value` and sweeps nothing."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from omegaconf import OmegaConf

from hqcnn_lab.config import CONFIG_DIR, compose


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose help keeps its line breaks, and that answers a wrong option in one line, status 1."""

    def __init__(self, module: str, description: str) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(
            prog=f"python -m {module}", description=description, formatter_class=formatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message} (--help lists what there is)\n")


def read_overrides(module: str, name: str, description: str, argv: Sequence[str] | None = None) -> list[str]:
    """The `key=value` of `python -m <module>`; its `--help` is `description` and what `conf/<name>.yaml` has.

    What the keys are worth is for `config.check_command_line` to say.
    """
    parser = CommandParser(module, description)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="every key, with its default:")
    text = (CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8")
    if "\ndefaults:" in text:  # of several files; their comments are lost
        parser.epilog = OmegaConf.to_yaml(compose([], name))
    else:
        parser.epilog = text.partition("\n")[2].strip()  # the first line says what the file is
    return parser.parse_args(argv).overrides
