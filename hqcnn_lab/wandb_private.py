"""What the lab uses of W&B, and of Lightning's logger for it, that neither promises to keep.

`tests/test_wandb_private.py` says what broke after an upgrade. Nothing here imports W&B before it is needed.
"""

# pyright: reportPrivateUsage=false

import sys
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger
    from matplotlib.figure import Figure
    from wandb import Image
    from wandb_workspaces.workspaces import Workspace


def check_environment(variables: Mapping[str, str]) -> None:
    """Raise what W&B would raise, once a run begins, for a `WANDB_…` variable that it cannot use."""
    import wandb

    wandb.Settings().update_from_env_vars(dict(variables))


def leave_out_anonymous(logger: "WandbLogger") -> None:
    """Keep the logger from handing on `anonymous`, which nobody asked for, and of which W&B warns."""
    logger._wandb_init.pop("anonymous", None)


def leave_out_launch() -> None:
    """Keep a run from importing W&B Launch, a second of CPU, to see whether its inputs were declared in this process.

    They are declared by functions of Launch, so nothing is lost where it has not been imported.
    """
    from wandb import Run

    inputs = "wandb.sdk.launch.inputs.internal"
    apply: Callable[[Run], None] | None = getattr(Run, "_detect_and_apply_job_inputs", None)
    if apply is not None and not hasattr(apply, "__wrapped__"):

        @wraps(apply)
        def apply_if_imported(self: Run) -> None:
            if inputs in sys.modules:
                apply(self)

        Run._detect_and_apply_job_inputs = apply_if_imported


def image_of(figure: "Figure") -> "Image":
    """A matplotlib figure as W&B logs it: `wandb.Image` asks for `matplotlib.pyplot` and does not import it."""
    import matplotlib.pyplot  # noqa: F401
    import wandb

    return wandb.Image(figure)


def workspace_as_json(workspace: "Workspace") -> dict[str, Any]:
    """What `workspace.save()` would send to the server."""
    return workspace._to_model().model_dump(mode="json", by_alias=True)


def end_service_within(seconds: float) -> None:
    """End W&B's service by force after so long: this process waits for it as it ends.

    For a process that has nothing more to send. Of a server that does not answer, the service may wait for ever.
    """
    from wandb.sdk.wandb_setup import singleton

    connection = singleton()._connection
    if connection is not None and connection._proc is not None:
        force = threading.Timer(seconds, connection._proc._process.kill)
        force.daemon = True
        force.start()


def inspect_command(path: Path, *options: str) -> list[str]:
    """The command line of W&B's own reader of a `run-<id>.wandb`, which prints JSON."""
    return [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(path)]
