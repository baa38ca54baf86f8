"""A refusal as people see it: one line that begins with `error: `, and exit status 1."""

import contextlib
import io
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest


def refused(main: Callable[[Sequence[str]], Any], *arguments: str) -> str:
    """What an entry point's `main`, called in this process, says after `error: `."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as end:
        main(arguments)
    code = end.value.code
    if isinstance(code, str):  # Python prints it, and exits with 1
        return _after_error(f"{code}\n")
    assert code == 1
    return _after_error(errors.getvalue())


def refusal_of(process: subprocess.CompletedProcess[str]) -> str:
    """What a process that has ended says after `error: `."""
    assert process.returncode == 1
    return _after_error(process.stderr)


def _after_error(errors: str) -> str:
    start, end = "error: ", "\n"
    assert errors.startswith(start)
    assert errors.endswith(end)
    assert errors.count("\n") == 1
    return errors.removeprefix(start).removesuffix(end)
