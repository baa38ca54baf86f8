"""Build an object from a plain dict with `_target_`, from the modules this lab trusts and no others."""

from collections.abc import Iterator, Mapping
from typing import Any

# A config or a checkpoint is data that people pass around: it may name a public class of these modules and nothing
# else.
TRUSTED = (
    "hqcnn_lab.callbacks",
    "hqcnn_lab.data",
    "hqcnn_lab.models",
    "hqcnn_lab.optim",
    "lightning.pytorch",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "prodigyopt",
    "pytorch_optimizer",
    "schedulefree",
    "torch.optim",
    "torch.optim.lr_scheduler",
)


# What Hydra's own part of a configuration may name: its launchers, sweepers and log handlers.
HYDRAS_OWN = ("hydra_plugins.", "hydra._internal.core_plugins.", "optuna.samplers.", "logging.", "colorlog.")


class BuildError(ValueError):
    """A spec that no object can or may be built from; the message says which and why."""


def untrusted_targets(spec: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(key, target)` for every `_target_` in a nested config that is not a class of a `TRUSTED` module."""
    if isinstance(spec, Mapping):
        for name, value in spec.items():
            where = f"{key}.{name}".lstrip(".")
            if name == "_target_":
                if value is not None and not _is_trusted(value):
                    yield where, value
            else:
                yield from untrusted_targets(value, where)
    elif isinstance(spec, list | tuple):
        for index, value in enumerate(spec):
            yield from untrusted_targets(value, f"{key}[{index}]")


def foreign_to_hydra(spec: Any, key: str = "hydra") -> Iterator[tuple[str, Any]]:
    """Yield `(key, target)` for all that Hydra would call and that is not its own: callbacks, launchers, handlers."""
    if isinstance(spec, Mapping):
        for name, value in spec.items():
            if name in ("_target_", "()", "class") and not str(value).startswith(HYDRAS_OWN):
                yield f"{key}.{name}", value
            yield from foreign_to_hydra(value, f"{key}.{name}")
    elif isinstance(spec, list | tuple):
        for index, value in enumerate(spec):
            yield from foreign_to_hydra(value, f"{key}[{index}]")


def _is_trusted(target: object) -> bool:
    module, _, name = str(target).rpartition(".")
    return module in TRUSTED and name.isidentifier() and name[0].isupper()


def build(spec: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Instantiate `spec["_target_"]` with the rest of `spec` and `kwargs`; nested dicts are passed on as they are.

    Raises `BuildError` where a target is not a class of a `TRUSTED` module, or does not take these arguments.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    for key, target in untrusted_targets(spec):
        raise BuildError(f"{key}={target} is refused: a config may only build classes of {', '.join(TRUSTED)}")
    try:
        return instantiate(dict(spec), *args, _recursive_=False, _convert_="all", **kwargs)
    except InstantiationException as error:
        raise BuildError(f"{spec['_target_']}: {error.__cause__ or error}") from error
