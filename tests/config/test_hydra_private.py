"""`hydra_private` does what the lab needs of Hydra; a test that fails here names what an upgrade took away.

Hydra's documentation promises none of it, so each message says which module of the lab to look over.
"""

import pytest
from hydra.errors import HydraException
from omegaconf import open_dict

from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.hydra_private import (
    Glob,
    GlobalHydra,
    HydraConfig,
    IntervalSweep,
    Override,
    OverridesParser,
    OverrideType,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
    get_args_parser,
)


def parsed(line: str) -> Override:
    return OverridesParser.create().parse_override(line)


def test_the_option_parser_knows_what_train_reads() -> None:
    arguments = get_args_parser().parse_intermixed_args(["optim.lr=1", "-m", "seed=1,2"])
    assert arguments.overrides == ["optim.lr=1", "seed=1,2"], "Hydra's option parser: train.py reads overrides by it"
    for name in ("help", "hydra_help", "cfg", "shell_completion", "config_path", "config_name", "config_dir"):
        assert getattr(arguments, name) in (None, False), f"Hydra's option parser: train.py looks at --{name}"
    assert arguments.multirun is True, "Hydra's option parser: train.py looks at -m"


@pytest.mark.parametrize(
    ("line", "kind"),
    [("optim=glob(*)", Glob), ("seed=range(1,9,2)", RangeSweep), ("optim.lr=interval(1e-3,1)", IntervalSweep)],
)
def test_a_sweep_is_told_by_its_kind(line: str, kind: type) -> None:
    assert isinstance(parsed(line).value(), kind), "Hydra's kinds of sweep: config/override.py counts and lists by them"
    assert parsed(line).is_sweep_override()


def test_a_sweep_has_the_parts_that_are_counted() -> None:
    numbers = parsed("seed=range(1,9,2)").value()
    assert isinstance(numbers, RangeSweep)
    assert (numbers.start, numbers.stop, numbers.step) == (1, 9, 2), "config/override.py counts a range by these"
    ends = parsed("optim.lr=tag(log,interval(1e-3,1))").value()
    assert isinstance(ends, IntervalSweep)
    assert (ends.start, ends.end, ends.tags) == (1e-3, 1, {"log"}), "config/override.py looks at an interval's ends"
    names = parsed("optim=glob(a*)").value()
    assert isinstance(names, Glob)
    assert names.filter(["adam", "sgd"]) == ["adam"], "config/override.py lists the choices of a group by this"
    choices = parsed("seed=1,2").sweep_iterator(transformer=Transformer.encode)
    assert [str(choice) for choice in choices] == ["1", "2"], "config/override.py lists the values of a sweep by this"


@pytest.mark.parametrize(
    ("line", "key", "kind"),
    [
        ("optim.lr=1", "optim.lr", OverrideType.CHANGE),
        ("+optim.lr=1", "optim.lr", OverrideType.ADD),
        ("~optim.lr", "optim.lr", OverrideType.DEL),
    ],
)
def test_an_override_has_a_key_and_a_kind(line: str, key: str, kind: OverrideType) -> None:
    override = parsed(line)
    found = (override.key_or_group, override.type, override.input_line)
    assert found == (key, kind, line), "config/command_line.py looks at these of an override"
    assert (override.is_add(), override.is_delete()) == (kind == OverrideType.ADD, kind == OverrideType.DEL)


def test_a_quoted_text_is_read_as_it_stands() -> None:
    text = 'a, "b" = ${c} \\'
    quoted = QuotedString(text, Quote.double).with_quotes()
    assert parsed(f"name={quoted}").value() == text, "config/override.py quotes by this"


def test_what_is_no_override_is_refused_by_an_error_of_hydra() -> None:
    with pytest.raises(HydraException):
        parsed("optim.lr")


def test_hydras_state_can_be_set_aside() -> None:
    GlobalHydra.instance().clear()
    assert not GlobalHydra.instance().is_initialized(), "config/compose.py composes inside of a run of Hydra by this"


def test_hydras_own_configuration_can_be_set_and_taken_away() -> None:
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        config = compose(["name=a"], with_hydra=True)
        holder.set_config(config)
        assert HydraConfig.get().overrides.task == ["name=a"], "config/compose.py, sweep/jobs.py set Hydra's part"
        with open_dict(config):
            del config["hydra"]
        assert HydraConfig.get().runtime.choices["optim"], "it is a copy, and stays when the config's own part goes"
        holder.cfg = None
        assert not HydraConfig.initialized(), "config/compose.py takes Hydra's part away again"
    finally:
        holder.cfg = before
