"""A wrong configuration, and the one line that is said of an error."""


class ConfigError(ValueError):
    """A value or key of the configuration that cannot be used; the message is one line that says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__("\\n".join(message.splitlines()))  # also if a value in it has several lines


def first_line(error: BaseException) -> str:
    """An error's first paragraph, on one line; an error without words by its name."""
    return " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__


def with_class(error: BaseException) -> str:
    """An error that nobody expected, on one line: its class first, and no longer than one can read."""
    return f"{type(error).__name__}: {first_line(error)[:300]}"


def shown(text: str) -> str:
    """A text of a user's on one line of a terminal, and no longer than one can read."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 80 else f"{text[:60]}…{text[-15:]}"
