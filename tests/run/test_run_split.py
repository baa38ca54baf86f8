"""What a run on files records of its split, how it is repeated on the same images, and what a leak looks like."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import warm
from conftest import TINY, write_kaggle_tree
from omegaconf import DictConfig
from one_line import refusal_of

from hqcnn_lab.config.compose import compose
from hqcnn_lab.data import KaggleDataModule
from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.data.decode.cache import CacheError
from hqcnn_lab.data.phantom.write import write_dicom
from hqcnn_lab.data.split.manifest import manifest_hash
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow


def config(folder: Path, root: Path, *overrides: str) -> DictConfig:
    base = ["dataset=kaggle", f"dataset.root={root}", f"paths.cache_dir={root.parent / 'cache'}", "logger=none", *TINY]
    base += ["name=tiny", "scheduler=none", "trainer.max_epochs=1", f"paths.output_dir={folder}"]
    keys = [override.split("=")[0] for override in overrides]
    return compose([*(o for o in base if o.split("=")[0] not in keys), *overrides])


def summary_of(run: Path) -> dict[str, object]:
    return json.loads((run / "summary.json").read_text())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 files a class in each half; 2 of Testing's are in Training."""
    root = tmp_path_factory.mktemp("data") / "brain"
    write_kaggle_tree(root, 8)
    for folder in (root / "Testing").iterdir():
        originals, files = sorted((root / "Training" / folder.name).iterdir()), sorted(folder.iterdir())
        for i in range(2):
            shutil.copy(originals[i], files[i])
    return root


@pytest.fixture(scope="module")
def run(brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "official"
    train(config(folder, brain))
    return folder


def test_the_record_holds_split_audit_and_leak(run: Path, brain: Path) -> None:
    rows, summary = rows_of(run / "split_manifest.csv"), summary_of(run)
    assert sorted(row["file"] for row in rows) == sorted(p.relative_to(brain).as_posix() for p in brain.rglob("*.jpg"))
    assert {row["split"] for row in rows if row["file"].startswith("Testing/")} == {"test"}
    assert all(row["label"] == row["file"].split("/")[1] for row in rows)
    assert summary["split/kind"] == "official"
    assert summary["split/manifest"] == manifest_hash((run / "split_manifest.csv").read_text())
    assert summary["split/leak"] == "official split: 25 % of test images have a twin in training"
    audit = json.loads((run / "audit.json").read_text())
    assert audit["exact"]["test_in_training"] == 8
    assert audit["nearest_neighbour"] == summary["baseline/nearest_neighbour_accuracy"]
    assert {row["file"] for row in rows_of(run / "predictions.csv")} == {
        row["file"] for row in rows if row["split"] == "test"
    }
    assert rows_of(run / "skipped_files.csv") == []


@pytest.mark.parametrize("split", ["official", "grouped"])
def test_the_result_table_says_whether_the_split_leaks(
    split: str, brain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(tmp_path / "run", brain, f"dataset.split={split}"))
    table = " ".join(capsys.readouterr().out.split())
    if split == "official":
        assert "split official: 25 % of test images have a twin in training test accuracy" in table
    else:
        assert "split grouped, no test image seen in training test accuracy" in table
        assert summary_of(tmp_path / "run")["split/leak"] is None


def test_shared_patients_are_said_beside_the_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = write_dicom(tmp_path / "tree", 24, 3, 2, size=32)
    data = ["dataset=rembrandt", f"dataset.clinical={tree}/clinical.csv"]
    train(config(tmp_path / "random", tree, *data, "dataset.split=random"))
    assert "test patients are also in training" in " ".join(capsys.readouterr().out.split())
    train(config(tmp_path / "repeated", tree, *data, f"dataset.manifest={tmp_path}/random/split_manifest.csv"))
    first, again = summary_of(tmp_path / "random"), summary_of(tmp_path / "repeated")
    assert again["split/manifest"] == first["split/manifest"]
    assert again["test/loss"] == first["test/loss"]
    assert again["split/leak"] == first["split/leak"].replace("random split", "manifest split")


def test_a_manifest_repeats_the_run(run: Path, brain: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(brain, tmp_path / "moved"))
    train(config(tmp_path / "run", moved, f"dataset.manifest={run / 'split_manifest.csv'}"))
    first, again = summary_of(run), summary_of(tmp_path / "run")
    assert again["split/kind"] == "manifest"
    assert again["split/leak"] == "manifest split: 25 % of test images have a twin in training"
    for key in ("split/manifest", "test/loss", "train/loss", "val/loss"):
        assert again[key] == first[key]


def test_it_goes_on_with_the_same_images_alone(run: Path, brain: Path, tmp_path: Path) -> None:
    last = ["trainer.max_epochs=2", f"ckpt_path={run}/checkpoints/last.ckpt"]
    train(config(tmp_path / "same", brain, *last, f"dataset.manifest={run / 'split_manifest.csv'}"))
    assert summary_of(tmp_path / "same")["epochs"] == 2
    swapped = (run / "split_manifest.csv").read_text().replace(",val,", ",was val,").replace(",test,", ",val,")
    (tmp_path / "other.csv").write_text(swapped.replace(",was val,", ",test,"))
    for i, override in enumerate((f"dataset.manifest={tmp_path / 'other.csv'}", "dataset.split=random")):
        with pytest.raises(UnusableData, match="other images, another split or another seed"):
            train(config(tmp_path / str(i), brain, *last, override))
        assert json.loads((tmp_path / str(i) / "status.json").read_text())["status"] == "failed"


def test_a_manifest_of_other_images_is_one_line(run: Path, tmp_path: Path) -> None:
    write_kaggle_tree(tmp_path / "other", 2, size=48)
    arguments = ["dataset=kaggle", "dataset.root=other", f"dataset.manifest={run / 'split_manifest.csv'}", *TINY]
    arguments += ["logger=none", "hydra.run.dir=run", "paths.cache_dir=cache"]
    said = refusal_of(warm.run(*warm.TRAIN, *arguments, cwd=tmp_path))
    assert f"dataset.manifest={run / 'split_manifest.csv'}: 64 of the manifest's 64 images are not here" in said


def test_a_cache_that_cannot_be_built_is_one_line(brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: it ended in a traceback.
    from hqcnn_lab.run.single import run_single

    def killed(self: KaggleDataModule) -> None:
        raise CacheError("a process that decoded images was killed; start again")

    monkeypatch.setattr(KaggleDataModule, "prepare_data", killed)
    monkeypatch.setattr(
        "hqcnn_lab.run.single.HydraConfig.get", lambda: DictConfig({"mode": "RUN", "runtime": {"output_dir": "none"}})
    )
    with pytest.raises(SystemExit) as end:
        run_single(config(tmp_path / "run", brain))
    assert end.value.code == "error: tiny: a process that decoded images was killed; start again"
