"""What of an installation works, what is missing and how to get it."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.error import first_line

PACKAGE = "hqcnn-lab"
MIN_FREE = 2  # GiB; a run takes some MB, the decoded Kaggle set half a GiB
MARKS = {"ok": "[green]ok[/]", "note": "[yellow]–[/]", "broken": "[bold red]broken[/]"}


class Finding(NamedTuple):
    """A line of the report; `state` is ok, note (nothing that is needed) or broken."""

    state: str
    name: str
    what: str


def look_over() -> bool:
    """Print a table for each part of the installation; whether everything needed works."""
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    broken = []
    for title, findings in (
        ("packages", packages()),
        ("devices", devices()),
        ("circuit engines", engines()),
        ("folders", folders()),
        ("extras", extras()),
    ):
        table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
        for width in (6, 18, None):
            table.add_column(min_width=width, overflow="fold")
        for finding in _whatever_happens(findings):
            table.add_row(MARKS[finding.state], finding.name, escape(finding.what))
            broken += [f"{title}: {finding.name}"] if finding.state == "broken" else []
        console.print(table, "")
    console.print(f"[bold red]broken:[/] {', '.join(broken)}" if broken else "everything needed works")
    return not broken


def _whatever_happens(findings: Iterator[Finding]) -> Iterator[Finding]:
    """A part that cannot be looked over is a finding, too."""
    try:
        yield from findings
    except Exception as error:
        yield Finding("broken", type(error).__name__, first_line(error))


def packages() -> Iterator[Finding]:
    """Python, this lab, and each package that it declares to need, with what is installed."""
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    try:
        yield Finding("ok", PACKAGE, importlib.metadata.version(PACKAGE))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("broken", PACKAGE, "not installed; pip install -e . in its folder")
        return
    for requirement in _requirements():
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)
    for module in ("torch", "lightning.pytorch", "wandb"):
        try:
            importlib.import_module(module)
        except Exception as error:
            yield Finding("broken", module, f"cannot be imported: {first_line(error)}")


def _requirements() -> list[Requirement]:
    return [Requirement(line) for line in importlib.metadata.requires(PACKAGE) or []]


def _package(requirement: Requirement) -> Finding:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("broken", requirement.name, f'not installed; pip install "{_bare(requirement)}"')
    if requirement.specifier.contains(version, prereleases=True):
        return Finding("ok", requirement.name, version)
    return Finding("broken", requirement.name, f'{version}; pip install "{_bare(requirement)}"')


def _bare(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


def devices() -> Iterator[Finding]:
    """Cores and accelerators."""
    import torch

    yield Finding("ok", "CPU", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Finding("ok", f"CUDA {index}", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    if not torch.cuda.is_available():
        why = "none found" if torch.version.cuda else "this torch is a build for CPUs"
        yield Finding("note", "CUDA", f"{why}; all works without")
    if torch.backends.mps.is_available():
        yield Finding("ok", "MPS", "there; trainer.accelerator=mps")


def engines() -> Iterator[Finding]:
    """Every circuit engine on one small circuit: expectations and gradient have to agree with the exact ones."""
    import torch

    from hqcnn_lab.quantum import QuantumLayer
    from hqcnn_lab.quantum.limits import ENGINES

    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(3, 4, generator=generator) * 3 - 1.5
    weights = None
    exact: list[torch.Tensor] = []
    for engine in ("statevector", *(name for name in ENGINES if name != "statevector")):
        try:
            layer = QuantumLayer(n_wires=4, n_layers=2, engine=engine)
            weights = torch.randn(layer.weights.shape, generator=generator) if weights is None else weights
            layer.weights.data.copy_(weights)
            output = layer(angles)
            output.square().sum().backward()
            result = [output.detach(), layer.weights.grad]
        except ImportError as error:
            # Nothing needs this engine: it is the reference that tests compare with.
            yield Finding("note", engine, f"{first_line(error)}; pip install --no-deps torchquantum==0.1.8")
            continue
        except Exception as error:
            yield Finding("broken", engine, first_line(error))
            continue
        exact = exact or result
        difference = max(float((a - b).abs().max()) for a, b in zip(result, exact, strict=True))
        if not difference < 1e-4:
            yield Finding("broken", engine, f"differs from statevector by {difference:.0e}")
            continue
        agreement = "4 wires, 2 layers" if result is exact else f"agrees with statevector to {difference:.0e}"
        yield Finding("ok", engine, agreement)


def folders() -> Iterator[Finding]:
    """The configuration, and where files are to be written."""
    if not (CONFIG_DIR / "config.yaml").is_file():
        yield Finding("broken", "conf", f"not at {_shown(CONFIG_DIR)}")
        return
    yield Finding("ok", "conf", _shown(CONFIG_DIR))
    from hqcnn_lab.config.compose import compose

    paths = compose(["name=doctor", "paths.output_dir=."]).paths
    for name, path, key in (("cache", paths.cache_dir, "paths.cache_dir"), ("runs", paths.runs_dir, "paths.runs_dir")):
        yield _folder(name, Path(path).expanduser(), key)


def _folder(name: str, path: Path, key: str) -> Finding:
    nearest = next(folder for folder in [path.absolute(), *path.absolute().parents] if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("broken", name, f"{_shown(path)} cannot be written to; choose another with {key}=…")
    free = shutil.disk_usage(nearest).free / 2**30
    return Finding("ok" if free >= MIN_FREE else "note", name, f"{_shown(path)}, {free:.0f} GiB free")


def _shown(path: Path) -> str:
    """Without the user's name, where it is below the home folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def extras() -> Iterator[Finding]:
    """Each extra of this package: whole, or the command that installs it."""
    try:
        names = importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for name in names:
        marked = [(requirement, requirement.marker) for requirement in _requirements() if requirement.marker]
        of_extra = [(requirement, marker) for requirement, marker in marked if marker.evaluate({"extra": name})]
        needed = [requirement for requirement, marker in of_extra if not marker.evaluate({"extra": ""})]
        lacking = dict.fromkeys(finding.name for finding in map(_package, needed) if finding.state != "ok")
        if lacking:
            yield Finding("note", name, f'pip install "{PACKAGE}[{name}]"  (lacks {", ".join(lacking)})')
        else:
            yield Finding("ok", name, ", ".join(requirement.name for requirement in needed))
