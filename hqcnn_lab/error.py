"""A wrong configuration, and the one line that is said of an error."""


class ConfigError(ValueError):
    """A value or key of the configuration that cannot be used; the message is one line that says what to do."""


def first_line(error: BaseException) -> str:
    """An error's first paragraph, on one line; an error without words by its name."""
    return " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
