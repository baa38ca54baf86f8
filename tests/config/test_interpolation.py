"""Interpolations cost what is written in a configuration, not what it would come to."""

from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.base import Container

from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.interpolation import MAX_STEPS, MAX_TEXT, check_interpolations
from hqcnn_lab.error import ConfigError


def laughs(doubled: Any, first: Any = "ha", n: int = 40) -> dict[str, Any]:
    """A chain of which each link comes to twice the one before: 2⁴⁰ in all."""
    return {"a0": first} | {f"a{i}": doubled(f"a{i - 1}") for i in range(1, n)}


BOMBS = {
    "text": laughs(lambda a: f"${{{a}}}${{{a}}}"),
    "no text": laughs(lambda a: f"${{{a}}}${{{a}}}", first=""),
    "long text": laughs(lambda a: f"${{{a}}}${{{a}}}", first="ha" * 10_000),
    "lists": laughs(lambda a: [f"${{{a}}}", f"${{{a}}}"], first=[]),
    "groups": laughs(lambda a: {"x": f"${{{a}}}", "y": f"${{{a}}}"}, first={}),
    "relative": laughs(lambda a: f"${{.{a}}}${{.{a}}}"),
    "resolvers": laughs(lambda a: f"${{oc.select:{a}}}${{oc.select:{a}}}"),
    "values of groups": laughs(lambda a: {"x": f"${{oc.dict.values:{a}}}", "y": f"${{oc.dict.values:{a}}}"}, first={}),
    "names of keys": laughs(lambda a: f"${{oc.select:${{oc.select:none,{a}}}}}${{oc.select:${{oc.select:none,{a}}}}}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_a_billion_laughs_are_refused_after_bounded_work(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: a gigabyte of text, minutes, killed.
    resolve, steps, text = Container.resolve_parse_tree, 0, 0

    def counted(self: Container, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps, text
        steps += 1
        value = resolve(self, *args, **kwargs)
        text += len(value) if isinstance(value, str) else 0
        return value

    monkeypatch.setattr(Container, "resolve_parse_tree", counted)
    with pytest.raises(ConfigError, match=r"^a[0-9]+.*: what it refers to refers to others, and comes to too much"):
        check_interpolations(OmegaConf.create(BOMBS[kind]))
    assert steps <= MAX_STEPS
    assert text <= 4 * MAX_TEXT  # the last one may be longer than all before
    assert Container.resolve_parse_tree is counted  # as it was


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+a=${a}"], "a: Recursive interpolation detected"),
        (["+a=${b}", "+b=${a}"], "Recursive interpolation detected"),
        (["+a=${nothing}"], "a: Interpolation key 'nothing' not found"),
        (["+a.b=${a}"], "a.b: Interpolation to parent node detected"),
        (["+a=${no_such:1}"], "a: Unsupported interpolation type no_such"),
        (["+a0=ha", *(f"+a{i}=${{a{i - 1}}}${{a{i - 1}}}" for i in range(1, 30))], "comes to too much"),
        (["name=ha", *(f"+a{i}=${{a{i - 1}}}${{a{i - 1}}}" for i in range(2, 30)), "+a1=${name}", "name=${a29}"], "a"),
        ([f"+a={'[' * 500}{']' * 500}"], "not of the form key=value"),
    ],
)
def test_interpolations_that_come_to_nothing_are_refused_on_the_command_line(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line(overrides, multirun=False)
    assert words in str(error.value)
    assert str(error.value).isprintable()


def test_what_a_user_would_write_passes() -> None:
    chain = [f"+a{i}=${{a{i - 1}}}" for i in range(1, 20)]
    check_command_line(["+a0=5", *chain, "dataset.split_seed=${seed}", "name=run_${seed}_${a19}"], multirun=False)
