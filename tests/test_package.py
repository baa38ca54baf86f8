"""An installed wheel brings its own conf/ and works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import hqcnn_lab, hqcnn_lab.train; print(hqcnn_lab.__file__); hqcnn_lab.train.main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "optim=adam", "--cfg", "job"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "installed") in run.stdout
    assert "_target_: torch.optim.Adam" in run.stdout


@pytest.mark.slow
def test_wheel_holds_every_config_and_no_test(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    configs = {f"hqcnn_lab/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert configs <= set(names)
    assert not any(name.startswith("tests") for name in names)


@pytest.mark.slow
def test_every_module_is_imported_with_the_core_alone() -> None:
    """What `make train` installs is enough; who needs an extra is told so where it is needed."""
    code = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

EXTRAS = {"imagecodecs", "kagglehub", "mlflow", "onnx", "onnxruntime", "onnxscript", "optuna", "playwright", "pyright",
          "pytest", "ray", "submitit", "tensorboard", "wandb_workspaces"}

class Core(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in EXTRAS else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Core
package = importlib.import_module("hqcnn_lab")
names = [module.name for module in pkgutil.walk_packages(package.__path__, "hqcnn_lab.")]
names.remove("hqcnn_lab.optim.gvco_fused")  # needs Triton, which comes with torch for GPUs, and is imported on one
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) > 100
