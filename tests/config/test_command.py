"""`run_command`: what a command of the lab does with its line, and how it ends."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig

from hqcnn_lab.config.command import errors_in_one_line, run_command
from hqcnn_lab.error import ConfigError


def _run(line: str, run: Callable[[DictConfig], Any] = lambda config: None, **options: Any) -> None:
    run_command("hqcnn_lab.predict", "predict", "What it does.", run, line.split(), **options)


def _raise(error: BaseException) -> Callable[[DictConfig], None]:
    def run(config: DictConfig) -> None:
        raise error

    return run


def test_the_line_is_composed_and_run() -> None:
    inputs = []
    _run("input=scan.png", lambda config: inputs.append(config.input))
    assert inputs == ["scan.png"]


def test_nothing_runs_that_the_check_refuses() -> None:
    def check(config: DictConfig) -> None:
        raise ConfigError(f"input={config.input}: is not there")

    with pytest.raises(SystemExit, match=r"^error: input=scan.png: is not there$"):
        _run("input=scan.png", _raise(AssertionError("was run")), check=check)


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("inptu=scan.png", {}, "error: inptu: there is no such key; did you mean input?"),
        ("explain=3", {}, "error: explain=3: must be true or false (default False)"),
        ("explain=true", {"unused": ["explain"]}, "error: explain=true: nothing here depends on explain; leave it out"),
        ("+more=1", {"unused": []}, "error: +more=1: there is no key more, and nothing here would use one"),
    ],
)
def test_a_wrong_line_ends_in_one_line(line: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SystemExit) as end:
        _run(line, **options)
    assert end.value.code == message


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ConfigError("run=a: is no run"), {}, "error: run=a: is no run"),
        (OSError(28, "No space left on device"), {}, "error: [Errno 28] No space left on device"),
        (BrokenPipeError(32, "Broken pipe"), {}, "error: [Errno 32] Broken pipe"),
        (LookupError("not\nfound\n\nmore"), {"errors": (LookupError,)}, "error: not found"),
        (KeyboardInterrupt(), {}, "error: interrupted"),
        (KeyboardInterrupt(), {"interrupted": "interrupted; go on"}, "error: interrupted; go on"),
    ],
)
def test_an_expected_error_ends_in_one_line(error: BaseException, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SystemExit) as end:
        _run("", _raise(error), **options)
    assert end.value.code == message


def test_a_fault_of_the_lab_keeps_its_traceback() -> None:
    with pytest.raises(LookupError):
        _run("", _raise(LookupError("a fault")))


def test_errors_in_one_line_lets_a_result_through() -> None:
    with errors_in_one_line():
        pass
    with pytest.raises(SystemExit, match=r"^error: no report$"), errors_in_one_line(ValueError):
        raise ValueError("no report")


def test_help_lists_the_keys_that_are_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        _run("--help")
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text.startswith("usage: python -m hqcnn_lab.predict")
    assert "What it does." in text
    assert "\ninput:" in text
