"""The check of a count, which every argument check here starts with. Torch-free."""


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Raise ValueError unless `value` is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
