"""A signal that comes while garbage is collected ends a command all the same."""

import signal
import sys

import pytest
import warm

from hqcnn_lab.lost_signal import send_lost_signals_again

PROGRAM = """
import signal, sys, time
from hqcnn_lab.config.command import errors_in_one_line

class Garbage:
    def __del__(self):
        print("collected", flush=True)
        time.sleep(60)

with errors_in_one_line():
    if sys.argv[1] != "SIGINT":
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    Garbage()
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_signal_in_a_destructor_is_not_lost(number: signal.Signals, code: int) -> None:
    # Regression: a study that had had its Ctrl-C went on to its end, one time in some.
    process = warm.Process("-c", PROGRAM, number.name)
    assert process.stdout.readline() == "collected\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "error: interrupted\n" if number == signal.SIGINT else "")


def test_what_else_a_destructor_raises_is_printed_as_ever() -> None:
    program = PROGRAM.replace("        time.sleep(60)", "        1 / 0").replace(
        "    time.sleep(60)", "    print('on')"
    )
    ended = warm.run("-c", program, "SIGINT")
    assert (ended.returncode, ended.stdout) == (0, "collected\non\n")
    assert "ZeroDivisionError" in ended.stderr


def test_a_second_time_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    send_lost_signals_again()
    hook = sys.unraisablehook
    send_lost_signals_again()
    assert sys.unraisablehook is hook is not sys.__unraisablehook__
