"""A Ctrl-C that Python would drop."""

import signal
import sys
import threading


def send_lost_signals_again() -> None:
    """Have a signal act though its exception was dropped: for a process that may be told to end.

    Python runs the handler wherever it happens to be. Where that is a destructor of something that is collected as
    garbage, what the handler raises is printed as "ignored", and the process would go on as if nobody had told it.
    A second call does nothing.
    """
    otherwise = sys.unraisablehook
    if getattr(otherwise, "__module__", None) == __name__:
        return

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        number = _signal_of(dropped.exc_value)
        if number is None:
            otherwise(dropped)
        else:  # a moment later, when the destructor has ended
            main = threading.main_thread().ident
            assert main is not None
            threading.Timer(0.05, signal.pthread_kill, (main, number)).start()

    sys.unraisablehook = hook


def _signal_of(error: BaseException | None) -> int | None:
    """The signal that raises this: Python's own SIGINT, or one whose handler exits with 128 + its number."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        return error.code - 128
    return None
