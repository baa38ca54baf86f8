"""Read the command line against `conf/` and refuse what is wrong before anything is built.

Hydra composes; it lets `optim.lr=abc` through and answers `optim.lrr=1` without saying what was meant. The checks here
need neither torch nor Lightning, so a mistake is answered in under a second, in one line that names the key and what it
may be.
"""

import difflib
import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

import hqcnn_lab.config.called  # noqa: F401  registers ${called:…}
from hqcnn_lab.config.check import check
from hqcnn_lab.config.conf_files import CONFIG_DIR, options_of
from hqcnn_lab.config.free_text import check_folder, check_run_folder
from hqcnn_lab.config.hydra_part import check_hydra
from hqcnn_lab.config.interpolation import bounded, check_interpolations
from hqcnn_lab.config.key import flat_keys, select
from hqcnn_lab.config.ranges import TRAINER
from hqcnn_lab.config.swept import check_count, choices_of, count
from hqcnn_lab.error import ConfigError, first_line, shown

# Of Hydra's own keys, those that would be passed over, and what there is instead.
_NOT_TAKEN = {
    "hydra.searchpath": f"is not read; a choice is a file in {CONFIG_DIR}/<group>/, put yours there",
    "hydra.sweep.subdir": "a job's folder is named by what it computes; hydra.sweep.dir says where those folders are",
    "hydra.mode": "-m makes a sweep, and leaving it out a single run",
}
# Which extra brings the plugin that a file of conf/hydra/ or conf/search/ builds on.
_PLUGINS = {
    "launcher/joblib": "joblib",
    "launcher/submitit_local": "slurm",
    "launcher/submitit_slurm": "slurm",
    "launcher/ray": "ray",
    "sweeper/optuna": "optuna",
}
_FREE_TYPES = ("trainer.devices", "optim.tau")  # a number, a list or "auto"; a number or null


def compose(overrides: Sequence[str], name: str = "config", with_hydra: bool = False) -> DictConfig:
    """Compose `conf/<name>.yaml` with command-line overrides, outside a Hydra application (a notebook, a test).

    `with_hydra` adds Hydra's own part, where the launcher and the folders stand.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return hydra_compose(name, list(overrides), return_hydra_config=with_hydra)
    except Exception as error:  # Hydra and OmegaConf have words for some mistakes, and let Python's through for others
        raise ConfigError(_why_not(error, overrides, name)) from error


def _why_not(error: Exception, overrides: Sequence[str], name: str) -> str:
    from hydra.errors import HydraException

    if (line := first_line(error).partition("Error merging override ")[2]) and error.__cause__:
        return f"{shown(line)}: {first_line(error.__cause__).split(' full_key:')[0]}"
    said = first_line(error).split(" full_key:")[0]
    if isinstance(error, HydraException | OmegaConfBaseException | ConfigError):
        return f"{said}{_missing_plugin(str(error))}"
    said = f"there is no {said}" if isinstance(error, KeyError) else said  # such as a variable of the environment
    for line in overrides if len(overrides) > 1 else ():  # which of them, only trying each can tell
        try:
            compose([line], name, with_hydra=True)
        except ConfigError as alone:
            return str(alone)
    return f"{', '.join(shown(line) for line in overrides)}: cannot be used here ({said})"


def compose_sweep(overrides: Sequence[str]) -> DictConfig:
    """Compose the first job of a sweep, with Hydra's own part."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return compose([next(choices_of(override)) for override in parsed], with_hydra=True)


def check_command_line(
    overrides: list[str],
    multirun: bool = True,
    name: str = "config",
    check: Callable[[DictConfig], None] = check,
) -> None:
    """Raise `ConfigError` for the first wrong override; of a sweep, every swept value is tried, one key at a time.

    `name` is the file of `conf/` that the overrides are for, and `check` looks over what it composes to.
    """
    parsed = [_parsed(line, multirun) for line in overrides]
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
        if multirun and (further := _params(overrides, whole)):
            check_command_line([*overrides, *further], multirun, name, check)


def check_folders(overrides: Sequence[str], multirun: bool) -> None:
    """Raise `ConfigError` where the runs of a command line cannot be written to; says by which key."""
    given = {line.lstrip("+").partition("=")[0] for line in overrides}
    top, own = ("paths.sweeps_dir", "hydra.sweep.dir") if multirun else ("paths.runs_dir", "hydra.run.dir")
    with bounded(), hydra_in_place(whole := compose_sweep(overrides)) as config:
        if own not in given:
            check_folder(top, select(config, top))
        check = check_folder if multirun else check_run_folder
        check(own, select(whole, own))
        if "paths.output_dir" in given and not multirun:
            check("paths.output_dir", config.paths.output_dir)
        for key in flat_keys(config):
            path = select(config, key) if key.endswith((".dirpath", ".save_dir", ".default_root_dir")) else None
            if path is not None and not str(path).startswith(str(config.paths.output_dir)):
                check_folder(key, path)


@contextmanager
def hydra_in_place(whole: DictConfig) -> Iterator[DictConfig]:
    """What was composed, without Hydra's part, of which `${hydra:…}` has the values in here."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.instance()
    before = hydra.cfg
    try:
        hydra.set_config(whole)
        with read_write(hydra.cfg.hydra.runtime), open_dict(hydra.cfg.hydra.runtime):
            hydra.cfg.hydra.runtime.output_dir = str(select(whole, "hydra.run.dir"))
        config = whole.copy()
        with open_dict(config):
            del config["hydra"]
        yield config
    finally:
        hydra.cfg = before


def _parsed(line: str, multirun: bool) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(line)
    except (HydraException, RecursionError) as error:
        raise ConfigError(
            f"{shown(line)}: not of the form key=value ({first_line(error)[:80]}); {_quoting(line)}"
        ) from None
    if override.key_or_group == "search" and not multirun:
        raise ConfigError(f"{line}: a search is a sweep, and needs -m")
    if override.is_sweep_override() and not multirun:
        raise ConfigError(f"{shown(line)}: several values need -m, which makes a sweep of them; {_quoting(line)}")
    for key, why in _NOT_TAKEN.items():
        if override.key_or_group == key:
            raise ConfigError(f"{shown(line)}: {why}")
    return override


def _quoting(line: str) -> str:
    key, is_pair, text = line.partition("=")
    if not (is_pair and re.fullmatch(r"\+{0,2}[\w./@-]+", key)):
        return "a value with , = or a space in it goes in quotes: \"key='a value'\""
    text = str(Path(text).expanduser()) if text.startswith("~/") else text
    return f"for this very text: {shlex.quote(as_override(key, text))}"


def as_override(key: str, text: str) -> str:
    """`key=text` with the text quoted for Hydra, which then takes it as it stands; a shell wants its own."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if re.fullmatch(r"[\w./-]*/[\w./-]+", text, re.ASCII):
        return f"{key}={text}"
    return f"{key}={QuotedString(text, Quote.double).with_quotes()}"


def n_jobs(overrides: Sequence[str], config: DictConfig) -> int:
    """How many jobs `-m` makes of these overrides: every combination, or as many as a search is given."""
    lines = [*overrides, *_params(overrides, config)]
    return config.hydra.sweeper.get("n_trials") or math.prod(count(_parsed(line, multirun=True)) for line in lines)


def _params(overrides: Sequence[str], config: DictConfig) -> list[str]:
    """What a sweeper is to vary besides, as overrides; the command line comes before it."""
    given = {line.lstrip("+").partition("=")[0] for line in overrides}
    params = config.hydra.sweeper.get("params") or {}
    return [f"{key}={value}" for key, value in params.items() if key.lstrip("+") not in given]


def _checked(parsed: list[Any], lines: list[str], name: str) -> DictConfig:
    """Compose one job of the plan, every key and type looked at: `lines` are `parsed` with one value for each sweep."""
    from hydra.core.override_parser.types import OverrideType

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
    return compose(list(choices), name)


def _missing_plugin(message: str) -> str:
    """What to install, where Hydra does not know a launcher or sweeper of ours."""
    for plugin, extra in _PLUGINS.items():
        if f"'hydra/{plugin}'" in message:
            return f'; install what it needs: pip install "hqcnn-lab[{extra}]"'
    return ""


def _check_choice(group: str, value: str) -> None:
    options = options_of(group)
    if value not in options:
        raise ConfigError(f"{group}={value}: there is no such choice; {group} is one of {', '.join(options)}")


def _check_key(key: str, reference: DictConfig) -> None:
    known = list(flat_keys(reference))
    if key in known:
        return
    group, _, name = key.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == group and not k.endswith("_target_")}
    # First among the keys of its own group: across groups, a shared prefix alone would look like a match.
    near = [siblings[n] for n in difflib.get_close_matches(name, siblings, n=1)]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if group == "trainer" and name in TRAINER:
        hint = f"conf/trainer/ leaves it out; Lightning's Trainer takes it, add it by +{key}=…"
    elif near:
        hint = f"did you mean {near[0]}?"
    elif siblings:
        hint = f"{group or 'the config'} has {', '.join(siblings)}"
    else:
        hint = "see --help for every key"
    raise ConfigError(f"{key}: there is no such key; {hint}")


def _check_added(parsed: list[Any], name: str) -> None:
    """Whether what is added, `+key=value`, was meant for another key; one of a user's own may be referred to."""
    known = [*_defaults((), name), "hydra"]
    for override in parsed:
        key, _, inner = override.key_or_group.partition(".")
        if override.is_add() and key not in known and (inner or not (CONFIG_DIR / key).is_dir()):
            near = difflib.get_close_matches(key, known, n=1)
            if near or (CONFIG_DIR / key).is_dir():
                hint = f"did you mean {near[0]}?" if near else "leave it out"
                line = shown(override.input_line)
                raise ConfigError(f"{line}: there is no key {key}, and nothing would use it; {hint}")


def _check_type(key: str, config: DictConfig, reference: DictConfig) -> None:
    """A value may be of its default's type; of a null default nothing is known, there `RULES` decides."""
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
