"""What README and docs tell people to type is taken, and what they show of Python runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from hqcnn_lab.config.check import check_values
from hqcnn_lab.config.command_line import check_command_line

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIG_NAMES = {"train": "config"} | {
    name: name for name in ("study", "evaluate", "predict", "export", "prepare", "dashboard")
}
# Instead of Python: what it would have been given, a line each. Nothing else of a block is run but `ls` and `paste`.
PREPARED = r"""
set -f
python() { local IFS=$'\x1f'; printf '%s\n' "$*"; }
command_not_found_handle() { :; }
pip() { :; }; make() { :; }
"""


def blocks(path: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: their language and their text."""
    return re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)


def python_lines(path: Path) -> list[list[str]]:
    """The arguments of every `python …` on a page, as a shell would pass them on."""
    text = path.read_text(encoding="utf-8")
    scripts = [body for language, body in blocks(path) if language != "python" and re.search("^ *python ", body, re.M)]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    scripts += [quoted for quoted in re.findall(r"`(python -m hqcnn_lab\.[^`]+)`", outside) if "…" not in quoted]
    lines: list[list[str]] = []
    for script in scripts:
        shell = ["bash", "--norc", "-c", PREPARED + script.replace("…", "x")]
        done = subprocess.run(shell, capture_output=True, text=True, check=True, cwd=ROOT / "docs", env=os.environ)
        lines += [line.split("\x1f") for line in done.stdout.splitlines()]
    return lines


LINES = [(path, line) for path in PAGES for line in python_lines(path)]


def test_the_pages_were_read():
    assert {path.name for path, _ in LINES} >= {"README.md", "studies.md", "predict.md", "data.md", "sweeps.md"}
    assert len(LINES) > 40


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{path.stem}: {' '.join(line)}"[:100] for path, line in LINES])
def test_a_command_is_taken(page: Path, line: list[str]):
    """Every key, choice and type of it; not whether the files that it names are there."""
    if line[0] != "-m":
        assert (ROOT / line[0]).is_file()
        return
    module = line[1].removeprefix("hqcnn_lab.")
    assert (ROOT / "hqcnn_lab" / f"{module}.py").is_file()
    if module not in CONFIG_NAMES or "--help" in line:
        return
    overrides = [word for word in line[2:] if word != "-m"]
    if module == "evaluate" and not any(word.startswith("dataset=") for word in overrides):
        overrides.append("dataset=kaggle")  # else it is the run's own
    composed: list[DictConfig] = []

    def check(config: DictConfig) -> None:
        check_values(config)
        composed.append(config)

    check_command_line(overrides, "-m" in line[2:], CONFIG_NAMES[module], check)
    assert composed


SNIPPETS = [(path, body) for path in PAGES for language, body in blocks(path) if language == "python"]


@pytest.mark.parametrize(("page", "code"), SNIPPETS, ids=[path.stem for path, _ in SNIPPETS])
def test_a_snippet_runs(page: Path, code: str, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for library in ("pandas", "onnxruntime"):
        if f"import {library}" in code:
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "multirun").mkdir()
    (tmp_path / "runs" / "…").symlink_to(trained_run)
    names = {"angles": torch.rand(2, 16, 8, 8), "images": torch.rand(2, 1, 16, 16)}
    if "n_wires=6" in code:
        names["angles"] = torch.rand(5, 6)
    if "model.onnx" in code:
        from hqcnn_lab.models.onnx_file import write_onnx
        from hqcnn_lab.models.trained import load_run

        write_onnx(load_run(trained_run), tmp_path / "model.onnx")
        names["images"] = names["images"].numpy()
    code = code.replace("/data/brain", str(trained_run.parent / "brain")).replace("~/.cache/hqcnn_lab", str(tmp_path))
    if "Noise(" in code:
        code = "from hqcnn_lab.quantum import QuantumLayer\n" + code
    exec(compile(code, page.name, "exec"), names)
