"""Import Lightning without what it imports and no training here uses: two and a half seconds of CPU at every start.

torchmetrics imports SciPy's signal processing, to mend it for a metric of speech, and matplotlib, for `Metric.plot`.
Lightning imports torch's compiler, to recognize what it has compiled, and torch's optimizers import it, to be left out
of what it compiles. None of the three promises to allow this; `tests/test_lightning_import_private.py` says what broke
after an upgrade.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

_COMPILER = "torch._dynamo"


def import_lightning(with_compiler: bool = False) -> None:
    """Call it before anything imports Lightning or torchmetrics; later it does nothing.

    With the compiler: for a process that others are forked from, as torch's own optimizers import it in their first
    step, the lab's do not.

    Meanwhile stand-ins take the places of those modules; then they are gone. One that is asked for anything else
    imports the real module, so `Metric.plot` draws, and whoever needs SciPy or matplotlib imports it. The compiler is
    asked as soon as it is there, so `torch.compile` works as ever.
    """
    if "lightning.pytorch" in sys.modules:
        return
    if with_compiler:
        importlib.import_module(_COMPILER)
    with _standing_in():
        import lightning.pytorch  # noqa: F401
    from torch.optim import Optimizer

    for method in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        function = getattr(Optimizer, method).__wrapped__
        function.__dynamo_disable = _disable(function, wrapping=False)  # or the first call imports the compiler


@contextmanager
def _standing_in() -> Iterator[None]:
    stand_ins = {name: _StandIn(name) for name in _READ if name not in sys.modules}
    for name, module in stand_ins.items():
        parent, _, child = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], child, module)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for module in stand_ins.values():
            module.leave()


class _StandIn(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # a package, or nothing below it could be imported
        vars(self).update(_READ[name])

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # Python's own question, such as which file it is from
            raise AttributeError(attribute)
        self.leave()
        return getattr(importlib.import_module(self.__name__), attribute)

    def leave(self) -> None:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


@contextmanager
def _style(style: Any) -> Iterator[None]:
    """`matplotlib.pyplot.style.context`, with which torchmetrics decorates its plots, looked up once one is drawn."""
    from matplotlib import pyplot

    with pyplot.style.context(style):
        yield


def _disable(function: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
    """`torch._dynamo.disable`, which keeps a function from being compiled: asked for once there is a compiler."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        if compiler := sys.modules.get(_COMPILER):
            return compiler.disable(function, recursive, **options)(*arguments, **named)
        return function(*arguments, **named)

    return run


class _IsCompiled(type):
    def __instancecheck__(cls, instance: object) -> bool:
        compiler = sys.modules.get(_COMPILER)
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _Compiled(metaclass=_IsCompiled):
    """`torch._dynamo.OptimizedModule`, what `torch.compile` makes of a module, for `isinstance` alone."""


# What Lightning and torchmetrics read of each module as they are imported.
_READ: dict[str, dict[str, Any]] = {
    "scipy.signal": {"hamming": None},
    "matplotlib": {"colors": SimpleNamespace(Colormap=object)},
    "matplotlib.axes": {"Axes": object},
    "matplotlib.pyplot": {"Figure": object, "style": SimpleNamespace(context=_style)},
    _COMPILER: {"OptimizedModule": _Compiled, "disable": _disable},
}
