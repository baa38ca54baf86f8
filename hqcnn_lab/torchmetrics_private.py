"""What the lab does with torchmetrics that torchmetrics does not promise to allow: a lighter import, a count set.

torchmetrics imports SciPy's signal processing, to mend it for a metric of speech, and matplotlib, for `Metric.plot`:
a second of CPU at every start, and nothing here uses either. `tests/test_torchmetrics_private.py` says what broke after
an upgrade.
"""

# pyright: reportPrivateUsage=false

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchmetrics import Metric


@contextmanager
def _style(style: Any) -> Iterator[None]:
    """`matplotlib.pyplot.style.context`, with which torchmetrics decorates its plots, looked up once one is drawn."""
    from matplotlib import pyplot

    with pyplot.style.context(style):
        yield


# What torchmetrics reads of each module as it is imported.
_READ: dict[str, dict[str, Any]] = {
    "scipy.signal": {"hamming": None},
    "matplotlib": {"colors": SimpleNamespace(Colormap=object)},
    "matplotlib.axes": {"Axes": object},
    "matplotlib.pyplot": {"Figure": object, "style": SimpleNamespace(context=_style)},
}


def import_torchmetrics() -> None:
    """Call it before Lightning is first imported; later it does nothing.

    While torchmetrics is imported, stand-ins take the places of those modules; then they are gone. One that is asked
    for anything else imports the real module, so `Metric.plot` draws, and whoever needs SciPy or matplotlib imports it.
    """
    if "torchmetrics" in sys.modules:
        return
    stand_ins = {name: _StandIn(name) for name in _READ if name not in sys.modules}
    for name, module in stand_ins.items():
        parent, _, child = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], child, module)
    sys.modules.update(stand_ins)
    try:
        import torchmetrics  # noqa: F401
    finally:
        for module in stand_ins.values():
            module.leave()


def set_update_count(metric: "Metric", count: int) -> None:
    """Say how often a metric was updated, where its state is put back: without any update it warns of that."""
    metric._update_count = count


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
