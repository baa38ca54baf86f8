"""The house rules that no linter knows: how long a file may be, and where private parts of others may be used."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hqcnn_lab"
MODULES = sorted(PACKAGE.rglob("*.py"))
ENTRY_POINTS = (
    "train",
    "study",
    "evaluate",
    "predict",
    "export",
    "report",
    "prepare",
    "diagnose",
    "dashboard",
    "doctor",
)


def test_the_package_was_found():
    assert len(MODULES) > 100
    assert all((PACKAGE / f"{name}.py").exists() for name in ENTRY_POINTS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_is_one_idea(path: Path):
    longest = 120 if path.parent == PACKAGE and path.stem in ENTRY_POINTS else 300
    assert len(path.read_text(encoding="utf-8").splitlines()) <= longest


@pytest.mark.parametrize("path", [p for p in MODULES if not p.stem.endswith("_private")], ids=lambda path: path.stem)
def test_private_parts_of_other_libraries_have_a_module_of_their_own(path: Path):
    """What an upgrade may break without a word stands in `*_private.py`, each with a test of its own."""
    private = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("hqcnn_lab"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        else:
            continue
        private += [name for name in names if name.startswith("_") and not name.startswith("__")]
    assert private == []


def test_every_private_module_has_a_test():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    modules = [path.stem for path in MODULES if path.stem.endswith("_private")]
    assert [name for name in modules if name not in tests] == []
