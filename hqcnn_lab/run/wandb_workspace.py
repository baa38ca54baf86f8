"""A W&B workspace of this lab's runs: the panels that it has, as JSON, or saved as a view of a project."""

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hqcnn_lab.config.check import check_values
from hqcnn_lab.error import ConfigError, first_line
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.wandb_private import end_service_within, workspace_as_json

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

STEP = "trainer/global_step"  # Lightning's name for the optimizer step, in W&B
GROUPS = ("quantum", "classical")

# Section → panel → the metrics it draws, named as in metrics.csv; with "_" first, a logarithmic axis.
LINES: dict[str, dict[str, list[str]]] = {
    "accuracy": {
        "validation accuracy": ["val/accuracy"],
        "training accuracy": ["train/accuracy"],
        "validation macro F1": ["val/macro_f1"],
        "validation AUROC": ["val/auroc"],
    },
    "convergence": {
        "training loss": ["train/loss"],
        "validation loss": ["val/loss"],
    },
    "gradient variance": {
        "_gradient variance over steps": [f"grad/{group}/variance_over_steps" for group in GROUPS],
        "_gradient signal": [f"grad/{group}/signal" for group in GROUPS],
        "_gradient spread over elements": [f"grad/{group}/variance_over_elements" for group in GROUPS],
        "_gradient norm": [f"grad/{group}/norm" for group in GROUPS],
    },
    "optimizer": {
        "_learning rate that acted": [f"control/{group}/rate" for group in GROUPS],
        "_learning rate as set": [f"lr/{group}" for group in GROUPS],
        "momentum β": [f"control/{group}/momentum" for group in GROUPS],
        "_averaging weight": [f"control/{group}/average_weight" for group in GROUPS],
        "_step, relative to the weights": [f"step/{group}/relative" for group in GROUPS],
        "moved from the start": [f"step/{group}/moved" for group in GROUPS],
    },
}
# Figures of a run's summary, drawn as one bar for each run.
BARS: dict[str, list[str]] = {
    "accuracy": ["test/accuracy", "test/macro_f1", "test/auroc", "baseline/nearest_neighbour_accuracy"],
    "convergence": ["convergence/epochs_to_90", "convergence/epochs_to_95", "convergence/seconds_to_95"],
    "system": ["seconds/epoch", "params/quantum", "params/classical"],
}
IMAGES: dict[str, list[str]] = {"accuracy": ["test/confusion_matrix", "test/misclassified"]}
SYSTEM = ("cpu", "proc.memory.rssMB", "gpu.0.gpu", "gpu.0.memoryAllocatedBytes")


class DashboardError(RuntimeError):
    """The workspace cannot be made or saved; the message is one line that says what to do."""


def check_dashboard(config: DictConfig) -> None:
    """Raise `ConfigError` for what cannot be asked for."""
    check_values(config)
    if not config.offline and config.entity is None:
        raise ConfigError("entity=null: offline=false needs the team or user whose project it is, entity=…")
    if not config.offline and config.out is not None:
        raise ConfigError(f"out={config.out}: is for offline=true; the server keeps what offline=false makes")
    if config.out is not None and Path(config.out).exists():
        raise ConfigError(f"out={config.out}: is there already; choose a new file")


def make_dashboard(config: DictConfig) -> None:
    """Print the workspace as JSON, write it to `config.out`, or save it on the server, as `config` says.

    Raises `DashboardError` where wandb-workspaces is not installed, or no server takes it.
    """
    workspace = make_workspace(config.entity or "", config.project, config.name)
    if not config.offline:
        print(_save(workspace))
        return
    text = json.dumps(workspace_as_json(workspace), indent=2) + "\n"
    if config.out is None:
        print(text, end="")
        return
    with whole_file(Path(config.out)) as scratch:
        scratch.write_text(text, encoding="utf-8")
    print(f"written to {Path(config.out)}")


def is_available() -> bool:
    """Whether wandb-workspaces is installed."""
    return importlib.util.find_spec("wandb_workspaces") is not None


def make_workspace(entity: str, project: str, name: str) -> "Workspace":
    """The workspace, built without a server. Raises `DashboardError` where wandb-workspaces is not installed."""
    if not is_available():
        raise DashboardError('needs the package wandb-workspaces; pip install "hqcnn-lab[dashboard]"')
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    def panels_of(section: str) -> list[Any]:
        lines = [
            panels.LinePlot(title=title.lstrip("_"), x=STEP, y=list(names), log_y=title.startswith("_") or None)
            for title, names in LINES.get(section, {}).items()
        ]
        bars = [panels.BarPlot(title=name, metrics=[name], orientation="h") for name in BARS.get(section, [])]
        images = [panels.MediaBrowser(title=name, media_keys=[name]) for name in IMAGES.get(section, [])]
        system = [panels.LinePlot(title=name, x="RelativeTime(Wall)", y=[f"system/{name}"]) for name in SYSTEM]
        return [*lines, *bars, *images, *(system if section == "system" else [])]

    sections = [ws.Section(name=name, panels=panels_of(name), is_open=True) for name in dict.fromkeys([*LINES, *BARS])]
    return ws.Workspace(entity=entity, project=project, name=name, sections=sections)


def _save(workspace: "Workspace") -> str:
    """Its address. Raises `DashboardError` where there is no login, or no server that takes it."""
    import wandb.errors

    os.environ.setdefault("WANDB_HTTP_TIMEOUT", "10")  # seconds
    try:
        workspace.save()
        return f"saved: {workspace.url}"
    except Exception as error:  # of wandb, of its connection, or of an answer that lacks something
        end_service_within(5)
        remedy = "run `wandb login`" if isinstance(error, wandb.errors.UsageError) else "or use offline=true"
        raise DashboardError(f"not saved: {first_line(error)}; {remedy}") from error
