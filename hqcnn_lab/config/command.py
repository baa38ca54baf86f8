"""What the commands of the entry points share: how a line is read, checked and run, their help, and their errors."""

import argparse
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from string import Template
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf, open_dict

from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR, options_of
from hqcnn_lab.config.key import key_of
from hqcnn_lab.error import ConfigError, first_line, shown
from hqcnn_lab.lost_signal import send_lost_signals_again


def run_command(
    module: str,
    name: str,
    description: str,
    run: Callable[[DictConfig], Any],
    argv: Sequence[str] | None = None,
    *,
    check: Callable[[DictConfig], None] = check_values,
    unused: Sequence[str] | None = None,
    renamed: Mapping[str, str] | None = None,
    errors: tuple[type[Exception], ...] = (),
    interrupted: str = "interrupted",
) -> None:
    """Do what `python -m <module> key=value …` asks for: read it, check it, compose `conf/<name>.yaml`, `run` that.

    A mistake, one of `errors` and an interrupt end in one line and exit status 1. With `unused`, see `check_used`, a
    key that `run` would pass over is a mistake, and with `renamed` a key by an older name. A command whose keys depend
    on what it reads takes `read_overrides` and `errors_in_one_line` instead.
    """
    overrides = read_overrides(module, name, description, argv, unused or ())
    with errors_in_one_line(*errors, interrupted=interrupted):
        check_renamed(overrides, renamed or {})
        if unused is not None:
            check_used(overrides, unused)
        check_command_line(overrides, multirun=False, name=name, check=check)
        run(compose(overrides, name))


@contextmanager
def errors_in_one_line(*errors: type[Exception], interrupted: str = "interrupted") -> Iterator[None]:
    """End the process with one line and status 1 for a wrong configuration, a file's error, an interrupt or `errors`.

    Any other error is a fault of this lab's, and keeps its traceback.
    """
    send_lost_signals_again()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(f"error: {interrupted}")
    except (ConfigError, OSError, *errors) as error:
        sys.exit(f"error: {first_line(error)}")


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
        refuse_option(self, message)


def refuse_option(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Answer a wrong option in one line, with exit status 1; argparse would print its usage, and exit with 2."""
    parser.exit(1, f"error: {message} (--help lists what there is)\n")


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
        key = key_of(line)
        if line.startswith("+"):
            raise ConfigError(f"{line}: there is no key {key}, and nothing here would use one")
        if any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in (*unused, "hydra")):
            raise ConfigError(f"{line}: nothing here depends on {key}; leave it out")


def check_renamed(overrides: Sequence[str], renamed: Mapping[str, str]) -> None:
    """Raise `ConfigError` for a group by its older name, or a key below it; says the new one."""
    for line in overrides:
        for old, new in renamed.items():
            if re.match(rf"{re.escape(old)}([.=@]|$)", line.lstrip("+~")):
                raise ConfigError(f"{shown(line)}: {old} is called {new} now: {shown(line.replace(old, new, 1))}")


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
