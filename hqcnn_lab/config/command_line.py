"""Read the command line against `conf/` and refuse what is wrong before anything is built.

Hydra composes; it lets `optim.lr=abc` through and answers `optim.lrr=1` without saying what was meant. The checks here
need neither torch nor Lightning, so a mistake is answered in under a second, in one line that names the key and what it
may be.
"""

import difflib
from collections.abc import Callable, Sequence
from functools import cache

from omegaconf import DictConfig, ListConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from hqcnn_lab.config.check import check
from hqcnn_lab.config.compose import compose, compose_sweep, hydra_in_place
from hqcnn_lab.config.conf_files import CONFIG_DIR, options_of
from hqcnn_lab.config.hydra_private import Override, OverrideType
from hqcnn_lab.config.hydra_settings import check_hydra
from hqcnn_lab.config.interpolation import bounded, check_interpolations
from hqcnn_lab.config.key import flat_keys, key_of, select
from hqcnn_lab.config.limits import TRAINER
from hqcnn_lab.config.override import check_count, choices_of, parse_override, swept_by_config
from hqcnn_lab.config.path import check_folder, check_run_folder
from hqcnn_lab.error import ConfigError, first_line, shown

_FREE_TYPES = ("trainer.devices", "optim.tau")  # a number, a list or "auto"; a number or null
_OF_OTHERS = {"study": "a study is `python -m hqcnn_lab.study study=…`"}
_OF_OTHERS |= {
    "sweep": f"a sweep is `-m` with several values; {_OF_OTHERS['study']}",
    "write": "the phantom's files are written by `python -m hqcnn_lab.prepare write=…`",
    "export": "a trained network's export is `python -m hqcnn_lab.export run=…`",
}


def check_command_line(
    overrides: list[str],
    multirun: bool = True,
    name: str = "config",
    check: Callable[[DictConfig], None] = check,
) -> None:
    """Raise `ConfigError` for the first wrong override; of a sweep, every swept value is tried, one key at a time.

    `name` is the file of `conf/` that the overrides are for, and `check` looks over what it composes to.
    """
    parsed = [parse_override(line, multirun) for line in overrides]
    check_count(parsed)
    values = [list(choices_of(override)) for override in parsed]
    first = [choices[0] for choices in values]
    jobs = [first] + [
        [*first[:index], choice, *first[index + 1 :]] for index, choices in enumerate(values) for choice in choices[1:]
    ]
    for lines in jobs:
        left_out = [line for line in lines if line.startswith("~")]
        try:
            with bounded(), hydra_in_place(_checked(parsed, lines, name)) as config:
                check_interpolations(config)
                check(config)
                _check_added(parsed, name)
        except OmegaConfBaseException as error:
            said = first_line(error).split(" full_key:")[0]
            raise ConfigError(f"{', '.join(left_out)}: is needed ({said})" if left_out else said) from None
    if name == "config":
        check_hydra(whole := compose_sweep(overrides), multirun)
        if multirun and (further := swept_by_config(overrides, whole)):
            check_command_line([*overrides, *further], multirun, name, check)


def check_folders(overrides: Sequence[str], multirun: bool) -> None:
    """Raise `ConfigError` where the runs of a command line cannot be written to; says by which key."""
    given = {key_of(line) for line in overrides}
    top, own = ("paths.sweeps_dir", "hydra.sweep.dir") if multirun else ("paths.runs_dir", "hydra.run.dir")
    with bounded(), hydra_in_place(whole := compose_sweep(overrides)) as config:
        if own not in given:
            check_folder(top, select(config, top))
        (check_folder if multirun else check_run_folder)(own, select(whole, own))
        if "paths.output_dir" in given and not multirun:
            check_run_folder("paths.output_dir", config.paths.output_dir)
        for key in flat_keys(config):
            path = select(config, key) if key.endswith((".dirpath", ".save_dir", ".default_root_dir")) else None
            if path is not None and not str(path).startswith(str(config.paths.output_dir)):
                check_folder(key, path)


def _checked(parsed: list[Override], lines: list[str], name: str) -> DictConfig:
    """Compose one job of the plan, every key and type looked at: `lines` are `parsed` with one value for each sweep."""
    is_choice = [(CONFIG_DIR / o.key_or_group).is_dir() or o.key_or_group.startswith("hydra") for o in parsed]
    for override, line, choice in zip(parsed, lines, is_choice, strict=True):
        if choice and not override.key_or_group.startswith("hydra"):
            if override.is_delete():
                raise ConfigError(f"{line}: every group is needed; choose one of {', '.join(options_of(line[1:]))}")
            _check_choice(override.key_or_group, line.split("=", 1)[1])
    reference = _defaults(tuple(line for line, choice in zip(lines, is_choice, strict=True) if choice), name)
    changes = [o for o, choice in zip(parsed, is_choice, strict=True) if not choice and o.type == OverrideType.CHANGE]
    for override in changes:
        _check_key(override.key_or_group, reference)
    config = compose(lines, name, with_hydra=True)
    for override in changes:
        _check_type(override.key_or_group, config, reference)
    return config


@cache
def _defaults(choices: tuple[str, ...], name: str) -> DictConfig:
    """What these choices of groups come to, every key at its default: the same for most jobs of a sweep."""
    config = compose(list(choices), name, with_hydra=True)  # as a line is that says nothing else: once for both
    with open_dict(config):
        del config["hydra"]
    return config


def _check_choice(group: str, value: str) -> None:
    options = options_of(group)
    if value not in options:
        raise ConfigError(f"{group}={value}: there is no such choice; {group} is one of {', '.join(options)}")


def _check_key(key: str, reference: DictConfig) -> None:
    keys = list(flat_keys(reference))
    if key in keys:
        return
    group, _, name = key.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == group and not k.endswith("_target_")}
    # First among the keys of its own group: across groups, a shared prefix alone would look like a match.
    near = [siblings[n] for n in difflib.get_close_matches(name, siblings, n=1)]
    near = near or difflib.get_close_matches(key, keys, n=1, cutoff=0.8)
    if key in _OF_OTHERS:
        hint = _OF_OTHERS[key]
    elif group == "trainer" and name in TRAINER:
        hint = f"conf/trainer/ leaves it out; Lightning's Trainer takes it, add it by +{key}=…"
    elif near:
        hint = f"did you mean {near[0]}?"
    elif siblings:
        hint = f"{group or 'the config'} has {', '.join(siblings)}"
    else:
        hint = "see --help for every key"
    raise ConfigError(f"{key}: there is no such key; {hint}")


def _check_added(parsed: list[Override], name: str) -> None:
    """Whether what is added, `+key=value`, was meant for another key; one of a user's own may be referred to."""
    for override in (override for override in parsed if override.is_add()):
        key, _, inner = override.key_or_group.partition(".")
        groups = [*_defaults((), name), "hydra"]
        if key not in groups and (inner or not (CONFIG_DIR / key).is_dir()):
            near = difflib.get_close_matches(key, groups, n=1)
            if near or (CONFIG_DIR / key).is_dir():
                hint = f"did you mean {near[0]}?" if near else "leave it out"
                line = shown(override.input_line or key)
                raise ConfigError(f"{line}: there is no key {key}, and nothing would use it; {hint}")


def _check_type(key: str, config: DictConfig, reference: DictConfig) -> None:
    """A value may be of its default's type; of a null default nothing is known, there `limits_of` decides."""
    default, value = select(reference, key), select(config, key)
    if default is None or key in _FREE_TYPES:
        return
    if isinstance(default, DictConfig):
        wanted, fits = "a group of keys, or null", value is None or isinstance(value, DictConfig)
    elif isinstance(default, ListConfig):
        wanted, fits = "a list", isinstance(value, ListConfig)
    elif isinstance(default, bool):
        wanted, fits = "true or false", isinstance(value, bool)
    elif isinstance(default, int):
        wanted, fits = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, float):
        wanted, fits = "a number", isinstance(value, int | float) and not isinstance(value, bool)
    else:
        wanted, fits = "text", isinstance(value, str | int | float) and not isinstance(value, bool)
    if not fits:
        raise ConfigError(f"{key}={value}: must be {wanted} (default {default})")
