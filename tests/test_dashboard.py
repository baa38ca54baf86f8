"""The W&B workspace: it draws what runs log, is built without a server, and says what it lacks in one line."""

import csv
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
from conftest import tiny_config
from one_line import refusal_of, refused
from wandb_server import KEY, bad_server

from hqcnn_lab import dashboard
from hqcnn_lab.run import wandb_workspace
from hqcnn_lab.run.training import train
from hqcnn_lab.wandb_private import workspace_as_json

pytestmark = pytest.mark.slow

SECTIONS = ["accuracy", "convergence", "gradient variance", "optimizer", "system"]
needs_workspaces = pytest.mark.skipif(
    not wandb_workspace.is_available(), reason="needs wandb-workspaces, of the extra dashboard"
)


def run_dashboard(*overrides: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = dict.fromkeys(name for name in os.environ if name.startswith("WANDB_"))
    clean |= {"NETRC": str(folder / "netrc"), "WANDB_CONFIG_DIR": str(folder)}
    return warm.run("-m", "hqcnn_lab.dashboard", *overrides, cwd=folder, **(clean | environment))


def panels_of(workspace: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    sections = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in sections}


def names_in(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        yield from panel.get("metrics") or panel["mediaKeys"]


@needs_workspaces
def test_panels_draw_what_a_run_logs(tmp_path: Path) -> None:
    train(tiny_config(tmp_path / "run", "logger=wandb", "trainer.max_epochs=1"))
    with (tmp_path / "run" / "metrics.csv").open() as file:
        logged = set(next(csv.reader(file)))
    logged |= set(json.loads((tmp_path / "run" / "summary.json").read_text()))
    media = tmp_path.glob("run/wandb/offline-run-*/files/media/images/test/*.png")
    logged |= {f"test/{path.name.rsplit('_', 2)[0]}" for path in media}
    workspace = workspace_as_json(wandb_workspace.make_workspace("", "hqcnn_lab", "name"))
    panels = panels_of(workspace)
    assert list(panels) == SECTIONS
    drawn = {name for group in panels.values() for name in names_in(group)}
    assert len(drawn) > 20
    elsewhere = {"control/quantum/average_weight", "control/classical/average_weight"}  # of optimizers that average
    assert {name for name in drawn - elsewhere if not name.startswith("system/")} <= logged
    kinds = ("variance_over_steps", "signal", "variance_over_elements")
    assert {f"grad/{group}/{kind}" for group in ("quantum", "classical") for kind in kinds} <= set(
        names_in(panels["gradient variance"])
    )
    steps = {panel["xAxis"] for name in SECTIONS[:-1] for panel in panels[name] if "xAxis" in panel}
    assert steps == {"trainer/global_step"}


@needs_workspaces
def test_json_is_printed_or_written_to_a_new_file(tmp_path: Path) -> None:
    bad_proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # no network
    printed = run_dashboard("entity=nobody", folder=tmp_path, **bad_proxy)
    assert printed.returncode == 0, printed.stderr
    workspace = json.loads(printed.stdout)
    assert (workspace["entity"], workspace["project"]) == ("nobody", "hqcnn_lab")
    written = run_dashboard("out=board.json", folder=tmp_path)
    assert written.stdout == "written to board.json\n"
    assert list(panels_of(json.loads((tmp_path / "board.json").read_text()))) == SECTIONS
    again = run_dashboard("out=board.json", folder=tmp_path)
    assert (again.returncode, again.stderr) == (1, "error: out=board.json: is there already; choose a new file\n")


WRONG = {
    "offline=false": "entity=null: offline=false needs the team or user whose project it is, entity=…",
    "out=5": "out=5: must be a path; put a number in quotes",
    "entty=a": "entty: there is no such key; did you mean entity?",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_command_line_is_answered_in_one_line(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(dashboard.main, override) == WRONG[override]


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_workspace, "is_available", lambda: False)
    assert refused(dashboard.main) == 'needs the package wandb-workspaces; pip install "hqcnn-lab[dashboard]"'


@needs_workspaces
def test_online_it_is_saved_and_its_address_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wandb_workspaces.workspaces import Workspace

    saved = []
    monkeypatch.setattr(Workspace, "save", lambda self: saved.append(workspace_as_json(self)))
    monkeypatch.setattr(Workspace, "url", "https://wandb.ai/me/p?nw=1")
    dashboard.main(["offline=false", "entity=me", "project=p"])
    [workspace] = saved
    assert (workspace["entity"], workspace["project"], list(panels_of(workspace))) == ("me", "p", SECTIONS)
    assert capsys.readouterr().out == "saved: https://wandb.ai/me/p?nw=1\n"


@needs_workspaces
@pytest.mark.parametrize("behaviour", ["no login", "401", "hangs"])
def test_what_cannot_be_saved_is_said_in_one_line(behaviour: str, tmp_path: Path) -> None:
    given = {} if behaviour == "no login" else {"WANDB_API_KEY": KEY}
    with bad_server("401" if behaviour == "no login" else behaviour) as address:
        given |= {"WANDB_BASE_URL": address, "WANDB_HTTP_TIMEOUT": "1"}
        run = run_dashboard("offline=false", "entity=nobody", folder=tmp_path, **given)
    said = refusal_of(run)
    assert said.startswith("not saved: ")
    assert ("run `wandb login`" in said) == (behaviour == "no login")
