"""The doctor says what is broken and how to mend it, and nothing of whose machine it is."""

import getpass
import importlib.metadata
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import warm

from hqcnn_lab import doctor
from hqcnn_lab.quantum import QuantumLayer
from hqcnn_lab.quantum.limits import ENGINES
from hqcnn_lab.run import installation


def states(findings: Iterable[installation.Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


@pytest.mark.slow
def test_this_installation_is_found_whole(tmp_path: Path) -> None:
    run = warm.run("-m", "hqcnn_lab.doctor", cwd=tmp_path, HQCNN_CACHE=None)
    assert run.returncode == 0, run.stdout
    assert run.stderr == ""
    assert run.stdout.endswith("everything needed works\n")
    assert max(map(len, run.stdout.splitlines())) <= 80
    for word in (*ENGINES, torch.__version__, importlib.metadata.version("wandb"), "~/.cache/hqcnn_lab", "GiB free"):
        assert word in run.stdout
    assert platform.node() not in run.stdout.split()
    assert getpass.getuser() not in run.stdout.replace("/", " ").split()
    assert not list(tmp_path.iterdir())  # it looks, and leaves nothing


def test_extras_come_from_the_installed_package() -> None:
    names = importlib.metadata.metadata("hqcnn-lab").get_all("Provides-Extra")
    assert list(states(installation.extras())) == names


def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def lacking(name: str) -> str:
        if name == "imagecodecs":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", lacking)
    [jpeg] = [finding for finding in installation.extras() if finding.name == "jpeg"]
    assert jpeg == ("note", "jpeg", 'pip install "hqcnn-lab[jpeg]"  (lacks imagecodecs)')


def test_a_missing_or_old_package_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requires = ["xxhash>=999", "nowhere-to-be-found>=2", 'imagecodecs>=999 ; extra == "jpeg"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    by_name = {finding.name: finding for finding in installation.packages()}
    assert by_name["xxhash"].state == by_name["nowhere-to-be-found"].state == "broken"
    assert by_name["nowhere-to-be-found"].what == 'not installed; pip install "nowhere-to-be-found>=2"'
    assert by_name["xxhash"].what.endswith('; pip install "xxhash>=999"')
    assert "imagecodecs" not in by_name
    for part in ("devices", "engines", "folders"):
        monkeypatch.setattr(installation, part, lambda: iter(()))
    with pytest.raises(SystemExit) as error:
        doctor.main([])
    assert error.value.code == 1
    assert "broken: packages: xxhash, packages: nowhere-to-be-found" in " ".join(capsys.readouterr().out.split())


def test_a_wrong_engine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = QuantumLayer.forward

    def wrong(self: QuantumLayer, angles: torch.Tensor) -> torch.Tensor:
        if self.engine == "folded":
            raise RuntimeError("no memory")
        return forward(self, angles) + 0.01 * (self.engine == "trig")

    monkeypatch.setattr(QuantumLayer, "forward", wrong)
    by_name = states(installation.engines())
    assert (by_name["statevector"], by_name["trig"], by_name["folded"]) == ("ok", "broken", "broken")


def test_a_cache_that_cannot_be_written_to_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HQCNN_CACHE", str(tmp_path / "file" / "cache"))
    by_name = {finding.name: finding for finding in installation.folders()}
    assert by_name["cache"].state == "broken"
    assert "paths.cache_dir=" in by_name["cache"].what
    assert by_name["conf"].state == "ok"


def test_a_part_that_cannot_be_looked_over_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for part in ("packages", "folders", "extras"):
        monkeypatch.setattr(installation, part, lambda: iter(()))
    with pytest.raises(SystemExit) as error:
        doctor.main([])
    assert error.value.code == 1
    assert "broken: devices: ModuleNotFoundError, circuit engines: ModuleNotFoundError" in capsys.readouterr().out
