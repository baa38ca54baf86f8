"""What a run ran on: versions, device and the code's commit."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("hqcnn-lab", "torch", "lightning", "torchmetrics", "torchquantum"),
    *("hydra-core", "omegaconf", "wandb", "numpy", "pillow"),
)


def environment() -> dict[str, Any]:
    """Versions, device and the code's commit; no host or user name."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions
        | {"torch": str(torch.__version__)},  # the package's metadata do not say whether it is a CUDA build
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "git": _git_commit(),
        "code": code_version(),
    }


def code_version() -> str:
    """12 hex digits of this package's source files: the version of the code, also where it is not a release."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _git_commit() -> dict[str, Any] | None:
    """The commit this package is checked out at, and whether tracked files differ; None where it is installed."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(checkout), *command], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}
