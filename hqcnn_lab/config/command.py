"""What the command lines of the entry points share: their help, and how a wrong option is answered."""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from string import Template
from typing import NoReturn

from omegaconf import OmegaConf, open_dict

from hqcnn_lab.config.command_line import CONFIG_DIR, compose, options_of
from hqcnn_lab.error import ConfigError


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose help keeps its line breaks, and that answers a wrong option in one line, status 1."""

    def __init__(self, module: str, description: str) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(
            prog=f"python -m {module}", description=description, formatter_class=formatter, allow_abbrev=False
        )
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that knows no × gets a ?, not a traceback

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message} (--help lists what there is)\n")


def read_overrides(
    module: str, name: str, description: str, argv: Sequence[str] | None = None, unused: Sequence[str] = ()
) -> list[str]:
    """The `key=value` of `python -m <module>`; its `--help` is `description` and what `conf/<name>.yaml` has.

    What the keys are worth is for `config.check_command_line` to say; `unused` as in `check_used`.
    """
    parser = CommandParser(module, description)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="every key, with its default:")
    parser.epilog = "\n".join(_lines_of(name, unused))
    return parser.parse_args(argv).overrides


def check_used(overrides: Sequence[str], unused: Sequence[str]) -> None:
    """Raise `ConfigError` for a key that would be passed over: one of `unused`, or below one, or one that is added."""
    for line in overrides:
        key = line.lstrip("+~").partition("=")[0]
        if line.startswith("+"):
            raise ConfigError(f"{line}: there is no key {key}, and nothing here would use one")
        if any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in (*unused, "hydra")):
            raise ConfigError(f"{line}: nothing here depends on {key}; leave it out")


def _lines_of(name: str, unused: Sequence[str]) -> Iterator[str]:
    """The keys of a file of `conf/`, with its comments, then those of the groups that it chooses from."""
    text = (CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[2]  # the first says what it is
    groups, keys = text.split("\n\n", 1) if text.startswith("defaults:") else ("", text)
    yield keys.strip()
    for line in groups.splitlines()[1:]:
        group, _, choice = line.strip("- ").partition(": ")
        if choice.startswith("null"):
            yield f"{group}: {choice}"
        elif choice:
            yield f"{group}: {choice}"
            yield from (f"  {line}" for line in _used(group, choice.split()[0], unused))


def _used(group: str, choice: str, unused: Sequence[str]) -> Iterator[str]:
    """The lines of a group's file, but those of keys that are not used, and what is below them."""
    is_used = True
    for line in (CONFIG_DIR / group / f"{choice}.yaml").read_text(encoding="utf-8").splitlines()[1:]:
        if not line.startswith(" "):
            is_used = f"{group}.{line.partition(':')[0]}" not in unused
        if is_used:
            yield line


def help_of_train(overrides: Sequence[str]) -> str:
    """What `conf/hydra/help/` says, filled in. Hydra would do it, too: it takes two seconds to list the choices."""
    config = compose(overrides, with_hydra=True)
    defaults = OmegaConf.load(CONFIG_DIR / "config.yaml").defaults
    groups = sorted(next(iter(entry)) for entry in defaults if OmegaConf.is_dict(entry))
    choices = [f"{group}: {', '.join(options_of(group))}\n" for group in groups if group != "hydra"]
    template = Template(config.hydra.help.template)
    with open_dict(config):
        del config["hydra"]
    return template.substitute(APP_CONFIG_GROUPS="".join(choices), CONFIG=OmegaConf.to_yaml(config))
