"""What the tests share: small images as files, small runs, and the real images where they are at hand."""

import gc
import os
import signal
import tarfile
from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from quick_compose import parse_once

from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.source.layout import CLASSES, HALVES

SHARED = Path(__file__).parents[2] / "shared" / "data"

# How long an example takes says more about what else a machine is doing.
hypothesis.settings.register_profile("lab", deadline=None, max_examples=50)
hypothesis.settings.load_profile("lab")
# Networks here are so small that a second thread only costs.
torch.set_num_threads(1)
# A shell that starts the tests in the background (`&`) has them ignore Ctrl-C, and runs here are told to end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
parse_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and begin with the slow files: a worker that has nothing left to do
    cannot take over half a file of another.
    """
    n_tests, n_slow = Counter(item.path for item in items), Counter()
    for item in items:
        n_slow[item.path] += item.get_closest_marker("slow") is not None
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    items.sort(key=lambda item: -n_slow[item.path] / n_tests[item.path])


def pytest_collection_finish() -> None:
    """Look for garbage among what tests make, not each time among all that was imported: a tenth of the suite."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    """Take away the variable that names the test: with it, no two tests compose in the same environment, and what one
    has composed is composed anew for the next.
    """
    os.environ.pop("PYTEST_CURRENT_TEST", None)


# A network and a data set so small that a whole run takes a second or two.
TINY = [
    "model.widths=[8,8]",
    "model.n_circuits=2",
    "dataset.image_size=16",
    "dataset.batch_size=16",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "figures=false",
]
TINY_PHANTOM = [*TINY, "dataset.n_train=80", "dataset.n_test=24"]


def tiny_config(folder: Path, *overrides: str) -> DictConfig:
    """The config of one small phantom run into `folder`, without W&B; later overrides win."""
    base = [*TINY_PHANTOM, "logger=none", "trainer.max_epochs=2", "name=tiny"]
    keys = [o.split("=")[0] for o in overrides]
    base = [o for o in base if o.split("=")[0] not in keys]
    return compose([*base, f"paths.output_dir={folder}", *overrides])


def write_kaggle_tree(root: Path, n_per_class: int, size: int = 40) -> None:
    """`n_per_class` distinct JPEG files in each class folder of both halves."""
    rng = np.random.default_rng(0)
    for half in HALVES:
        for label, name in enumerate(CLASSES):
            folder = root / half / name
            folder.mkdir(parents=True)
            for i in range(n_per_class):
                pixels = rng.integers(0, 60, (size, size), dtype=np.uint8)
                pixels[4 * label : 4 * label + 8, 10:30] = 220
                Image.fromarray(pixels).save(folder / f"{half[:2]}-{name[:2]}_{i:04d}.jpg")


@pytest.fixture
def kaggle_root(tmp_path: Path) -> Path:
    """A small data set in the Kaggle layout: 4 files a class in each half."""
    root = tmp_path / "brain"
    write_kaggle_tree(root, 4)
    return root


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a small Kaggle tree: `brain`, 6 files a class in each half, beside it. Not to be changed."""
    from hqcnn_lab.run.training import train

    folder = tmp_path_factory.mktemp("trained")
    write_kaggle_tree(folder / "brain", 6)
    data = ["dataset=kaggle", f"dataset.root={folder}/brain", f"paths.cache_dir={folder}/cache", "dataset.workers=1"]
    run = ["logger=none", "trainer.max_epochs=2", "name=tiny", "optim.lr=0.1", f"paths.output_dir={folder}/run"]
    train(compose([*TINY, *data, *run]))
    return folder / "run"


@pytest.fixture(scope="session")
def real_kaggle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real Kaggle images, unpacked; skips where they are not at hand (they are not part of this repository)."""
    archive = SHARED / "kaggle-brain-mri-128.tar"
    if not archive.is_file():
        pytest.skip("the real Kaggle images are not on this machine")
    root = tmp_path_factory.mktemp("real")
    with tarfile.open(archive) as tar:
        tar.extractall(root, filter="data")
    return root / "kaggle-brain-mri-128"
