"""After an upgrade of W&B or Lightning: is what hqcnn_lab/wandb_private.py uses still what it was?"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
import warm
from conftest import tiny_config
from lightning.pytorch.loggers import WandbLogger
from pydantic import ValidationError

from hqcnn_lab import wandb_private
from hqcnn_lab.run.training import train
from hqcnn_lab.run.wandb_workspace import is_available, make_workspace

BROKEN = "{} is not what hqcnn_lab/wandb_private.py expects: mend it there".format


def test_the_environment_is_read_as_wandb_reads_it() -> None:
    broken = BROKEN(f"wandb {wandb.__version__}'s Settings.update_from_env_vars")
    wandb_private.check_environment({"WANDB_PROJECT": "brains"})
    try:
        wandb_private.check_environment({"WANDB_MODE": "sideways"})
    except (ValidationError, wandb.Error):
        return
    except Exception as error:
        pytest.fail(f"{broken} ({error!r})")
    pytest.fail(broken)


def test_lightning_hands_on_to_wandb_what_its_logger_holds(tmp_path: Path) -> None:
    broken = BROKEN("Lightning's WandbLogger._wandb_init")
    logger = WandbLogger(save_dir=tmp_path, anonymous=None)
    init = getattr(logger, "_wandb_init", None)
    assert isinstance(init, dict), broken
    assert {"anonymous", "project", "dir"} <= set(init), broken
    wandb_private.leave_out_anonymous(logger)
    assert "anonymous" not in init


@pytest.mark.slow
def test_a_run_imports_launch_only_where_its_inputs_may_be_declared(tmp_path: Path) -> None:
    broken = BROKEN(f"wandb {wandb.__version__}'s Run._detect_and_apply_job_inputs")
    code = (
        "import sys, wandb\n"
        "from hqcnn_lab.wandb_private import leave_out_launch\n"
        "leave_out_launch()\n"
        "leave_out_launch()\n"
        "run = wandb.init(mode='offline')\n"
        "print('wandb.sdk.launch' in sys.modules)\n"
        "run.finish()\n"
        "from wandb.sdk.launch import manage_wandb_config\n"
        "manage_wandb_config(include=['rate'])\n"
        "from wandb.sdk.launch.inputs import internal\n"
        "applied = []\n"
        "internal.StagedLaunchInputs.apply = lambda self, run: applied.append(run)\n"
        "wandb.init(mode='offline').finish()\n"
        "print(len(applied))"
    )
    environment = os.environ | {"WANDB_SILENT": "true"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["False", "1"], f"{broken}\n{run.stderr}"


@pytest.mark.slow
def test_a_figure_becomes_an_image_where_nobody_has_imported_pyplot(tmp_path: Path) -> None:
    # Regression: the test of a run was not mirrored once torchmetrics no longer imported it by the way.
    code = (
        "from matplotlib.figure import Figure\n"
        "from hqcnn_lab.wandb_private import image_of\n"
        "print(type(image_of(Figure())).__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "Image", f"{BROKEN('wandb.Image of a figure')}\n{run.stderr}"


@pytest.mark.skipif(not is_available(), reason="needs wandb-workspaces, of the extra dashboard")
def test_a_workspace_is_told_as_json() -> None:
    content = wandb_private.workspace_as_json(make_workspace("me", "p", "name"))
    broken = BROKEN("wandb-workspaces' Workspace._to_model")
    assert (content["entity"], content["project"]) == ("me", "p"), broken
    assert "panelBankConfig" in content["spec"]["section"], broken


@pytest.mark.slow
def test_wandb_reads_its_offline_files(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", "logger=wandb", "trainer.max_epochs=1"))
    [path] = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    broken = BROKEN(f"`wandb leet inspect` of wandb {wandb.__version__}")
    for options in ((), ("--summary",)):
        run = subprocess.run(
            wandb_private.inspect_command(path, *options), capture_output=True, text=True, check=False, timeout=60
        )
        assert run.returncode == 0, f"{broken}\n{run.stderr}"
        records = [json.loads(line) for line in run.stdout.splitlines()] if not options else [json.loads(run.stdout)]
        assert any("run" in record for record in records) if not options else "summary" in records[0], broken


@pytest.mark.slow
def test_a_service_that_does_not_end_is_ended() -> None:
    # Regression: now and then the dashboard said that a server had not answered, and never ended.
    broken = BROKEN(f"wandb {wandb.__version__}'s ServiceConnection._proc, or ServiceProcess._process,")
    code = (
        "import os, signal\n"
        "from wandb.sdk.wandb_setup import singleton\n"
        "from hqcnn_lab.wandb_private import end_service_within\n"
        "end_service_within(0)\n"  # there is none
        "service = singleton().ensure_service()._proc._process\n"
        "os.kill(service.pid, signal.SIGSTOP)\n"
        "end_service_within(0.2)\n"
    )
    process = warm.Process("-c", code, WANDB_SERVICE=None)  # its own, not that of these tests
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, f"{broken} ({said})"
