"""`python -m hqcnn_lab.prepare`: its examples run, its mistakes are one line, its downloads are stand-ins."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import warm
from conftest import write_kaggle_tree
from one_line import refused
from PIL import Image

from hqcnn_lab import prepare
from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.phantom.write import write_dicom
from hqcnn_lab.data.source import download
from hqcnn_lab.data.split.manifest import read_manifest
from hqcnn_lab.run.preparation import UNUSED

pytestmark = pytest.mark.slow

SMALL_IMAGES = ["write.size=16"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and a cache of our own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HQCNN_CACHE", str(tmp_path / "cache"))
    for name in ("HQCNN_KAGGLE_ROOT", "HQCNN_REMBRANDT_ROOT", "HQCNN_REMBRANDT_CLINICAL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def kagglehub(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in that writes a small data set, or is offline."""
    stub = types.SimpleNamespace(n_calls=0, is_offline=False)

    def dataset_download(handle: str, *, output_dir: str) -> str:
        stub.n_calls += 1
        if stub.is_offline:
            raise ConnectionError("Failed to resolve\n'api.kaggle.com'")
        write_kaggle_tree(Path(output_dir), 6)
        return output_dir

    stub.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", stub)
    return stub


def process(*arguments: str) -> warm.Process:
    return warm.Process("-m", "hqcnn_lab.prepare", *arguments, new_session=True)


EXAMPLES = re.findall(r"^  python -m hqcnn_lab\.prepare (.+?)(?:   *\S.*)?$", prepare.DESCRIPTION, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_runs(
    example: str, kagglehub: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = write_dicom("rembrandt", 24, 2, 1, size=16)
    shutil.move(tree / "clinical.csv", "clinical.csv")
    fetched = []
    monkeypatch.setattr(download, "fetch_rembrandt", lambda *arguments: fetched.append(arguments))
    arguments = shlex.split(example)
    prepare.main([*arguments, *(SMALL_IMAGES if "write=dicom" in arguments else [])])
    out = capsys.readouterr().out
    assert kagglehub.n_calls == ("dataset=kaggle" in arguments)
    assert fetched == ([(Path("rembrandt"), "list.tcia")] if "tcia=list.tcia" in arguments else [])
    if "dataset=phantom" in arguments:
        assert "use it: dataset=rembrandt dataset.root=tree dataset.clinical=tree/clinical.csv" in out
    else:
        assert re.search(r"^nearest neighbour: ", out, re.MULTILINE)


def test_examples_were_found() -> None:
    assert len(EXAMPLES) == 5


def test_help_says_every_key_and_needs_no_torch(here: Path) -> None:
    code = (
        "import sys\nfrom hqcnn_lab.prepare import main\n"
        "try: main(['--help'])\nfinally: assert not {'torch', 'lightning', 'wandb', 'pydicom'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for words in ("dataset=kaggle dataset.root=brain", "val_fraction: 0.1", "tcia: null", "layout: null"):
        assert words in run.stdout


WRONG = {
    "dataset=atlas": "dataset=atlas: there is no such choice; dataset is one of kaggle, phantom, rembrandt",
    "write=nifti": "write=nifti: there is no such choice; write is one of dicom, kaggle, none",
    "dataset.splits=random": "dataset.splits: there is no such key; did you mean dataset.split",
    "dataset.split=groups": "dataset.split=groups: must be one of official",
    "optim.lr=1": "optim.lr: there is no such key",
    "dataset.root=brain,other": "several values need -m",
    "a=[": "not of the form key=value",
    "write=dicom": "write: only the phantom is written in another layout; leave out dataset=",
    "export=dicom": "export=dicom: export is called write now: write=dicom",
    "export.n_train=40": "now: write.n_train=40",
    "tcia=list.tcia": "tcia=list.tcia: is for dataset=rembrandt",
    "out=5": "out=5: must be a path",
    "dataset.root=null": "dataset.root=null: not set; give the folder of the data, or a new one to download to",
    "--frobnicate": "unrecognized arguments: --frobnicate (--help lists what there is)",
}


# Regression: each was taken without a word, and changed nothing.
PASSED_OVER = {
    "write=dicom dataset.n_train=40": "write.n_patients=…, write.slices_per_series=…, write.series_per_patient=…",
    "write=dicom dataset.image_size=40": "nothing that is written depends on dataset.image_size; write.size=…",
    "write=dicom dataset.augment.flip=0": "depends on dataset.augment.flip; leave it out",
    "write=kaggle dataset.n_train=40": "nothing that is written depends on dataset.n_train; write.n_train=…",
    "write=kaggle dataset.n_test=40": "; write.n_test=…",
    "write=kaggle dataset.split_seed=1": "; write.seed=…",
    "write=kaggle dataset.val_fraction=0.2": "; leave it out",
    "write=kaggle seed=1": "; write.seed=…",
    "write=kaggle tcia=list.tcia": "; leave it out",
    "write=kaggle paths.cache_dir=there": "; leave it out",
    "seed=1": "seed=1: nothing here depends on seed; leave it out",
    "dataset.seed=1": "; leave it out",
    "dataset.batch_size=8": "; leave it out",
    "dataset.balance=loss": "; leave it out",
    "dataset.augment.flip=0": "; leave it out",
    "paths.runs_dir=there": "; leave it out",
    "tcia=list.tcia": "tcia=list.tcia: is for dataset=rembrandt",
    "+n_train=40": "+n_train=40: there is no key n_train, and nothing here would use one",
    "+dataset.root=brain": "+dataset.root=brain: there is no key dataset.root",
    "write.n_train=40": "write.n_train: there is no such key",
}


@pytest.mark.parametrize("arguments", PASSED_OVER)
def test_no_key_is_passed_over(arguments: str, here: Path) -> None:
    said = refused(prepare.main, *arguments.split(), "out=new")
    assert PASSED_OVER[arguments] in said
    assert "\n" not in said
    assert not any(here.iterdir())


def test_every_key_is_used_or_refused() -> None:
    # A key that is new has to be put on one side or the other.
    used = {"_target_", "cache_dir", "image_size", "manifest", "n_test", "n_train", "root", "val_fraction", "workers"}
    used |= {"clinical", "clinical_class", "clinical_id", "fold", "n_folds", "split", "split_seed"}
    for dataset in ("kaggle", "phantom", "rembrandt"):
        for key in compose([f"dataset={dataset}"], "prepare").dataset:
            is_refused = f"dataset.{key}" in UNUSED
            assert is_refused != (key in used), key


@pytest.mark.parametrize("argument", WRONG)
def test_a_mistake_is_one_line_and_status_1(
    argument: str, kagglehub: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        prepare.main(["dataset=kaggle", "dataset.root=brain", argument])
    said = capsys.readouterr().err.removesuffix("\n") if end.value.code == 1 else end.value.code
    assert said.startswith("error: ")
    assert WRONG[argument] in said
    assert "\n" not in said
    assert kagglehub.n_calls == 0


def test_a_mistake_exits_with_1_and_no_traceback(here: Path) -> None:
    run = process("dataset=rembrandt", "dataset.root=nowhere")
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (1, "")
    assert err == "error: dataset.clinical=null: not set; give the table that tells patients' classes: docs/data.md\n"
    assert not (here / "nowhere").exists()


def test_what_is_written_is_read_back_and_never_overwrites(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["write=kaggle", "out=tree", "write.n_train=48", "write.n_test=16", *SMALL_IMAGES]
    prepare.main(arguments)
    assert capsys.readouterr().out.endswith("use it: dataset=kaggle dataset.root=tree\n")
    prepare.main(["dataset=kaggle", "dataset.root=tree"])
    out = capsys.readouterr().out
    assert "Training: glioma 12 of 1321, meningioma 12 of 1339, notumor 12 of 1595, pituitary 12 of 1457 publ" in out
    assert "is there already and not empty" in refused(prepare.main, *arguments)
    assert refused(prepare.main, "write=dicom").startswith("out=null: write=dicom needs a new folder")
    assert refused(prepare.main, "write=kaggle", "out=new", "write.n_test=2") == "write.n_test=2: must be at least 4"
    assert sorted(path.name for path in here.iterdir()) == ["cache", "tree"]


def test_out_holds_the_audit_and_the_split_and_is_never_overwritten(here: Path) -> None:
    write_kaggle_tree(here / "brain", 6)
    arguments = ["dataset=kaggle", "dataset.root=brain", "dataset.split=random", "out=found/audit"]
    prepare.main(arguments)
    out = here / "found" / "audit"
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "split_manifest.csv"]
    assert json.loads((out / "audit.json").read_text())["split"] == "random"
    assert len(read_manifest(out / "split_manifest.csv")) == 48
    before = (out / "audit.json").stat().st_mtime_ns
    assert (
        refused(prepare.main, *arguments)
        == "out=found/audit: is there already and not empty; nothing is ever overwritten"
    )
    assert (out / "audit.json").stat().st_mtime_ns == before
    (here / "file").touch()
    assert refused(prepare.main, *arguments[:2], "out=file").startswith("out=file: is there already")
    (here / "empty").mkdir()
    prepare.main([*arguments[:2], "out=empty"])
    assert (here / "empty" / "audit.json").exists()


def test_the_phantom_has_no_audit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare.main(["dataset.n_train=48", "dataset.n_test=16", "dataset.image_size=16", "out=found"])
    assert capsys.readouterr().out.startswith("44 train, 4 val, 16 test images\n")
    assert [path.name for path in (here / "found").iterdir()] == ["split_manifest.csv"]


def test_without_a_network_it_says_what_to_put_where(here: Path, kagglehub: types.SimpleNamespace) -> None:
    kagglehub.is_offline = True
    for root in ("brain", "deeper/brain"):
        said = refused(prepare.main, "dataset=kaggle", f"dataset.root={root}")
        assert said.startswith(
            f"dataset.root={root}: no download from Kaggle (ConnectionError: Failed to resolve 'api."
        )
        assert f"unzip brain.zip -d {here / root}`, so that it holds Training/ and Testing/" in said
    assert kagglehub.n_calls == 2


def test_series_are_fetched_and_what_fails_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, asked = write_dicom(here / "made", 12, 2, 1, size=16), []

    def fetch(root: Path, manifest: str | None) -> Path:
        asked.append((root, manifest))
        if manifest == "bad.tcia":
            raise download.DownloadError("2 series could not be fetched")
        return Path(shutil.copytree(tree / "REMBRANDT", root / "REMBRANDT"))

    monkeypatch.setattr(download, "fetch_rembrandt", fetch)
    arguments = [
        "dataset=rembrandt",
        "dataset.root=new",
        f"dataset.clinical={tree}/clinical.csv",
        "dataset.split=random",
    ]
    assert refused(prepare.main, *arguments, "tcia=bad.tcia") == "dataset.root=new: 2 series could not be fetched"
    prepare.main(arguments)
    prepare.main(arguments)  # it is there now
    assert asked == [(Path("new"), "bad.tcia"), (Path("new"), None)]


def test_a_wrong_table_is_told_before_anything_is_decoded(here: Path) -> None:
    # Regression: the table was read after the hours that a large tree takes.
    tree = write_dicom(here / "tree", 1, 2, 1, size=16)
    (here / "wrong.csv").write_text("a,b\n1,2\n")
    said = refused(prepare.main, "dataset=rembrandt", f"dataset.root={tree}", "dataset.clinical=wrong.csv")
    assert said.startswith("dataset.clinical=wrong.csv: the clinical table has no column SUBJECT_ID or")
    assert not (here / "cache").exists()


def test_unusable_data_are_one_line(here: Path) -> None:
    write_kaggle_tree(here / "brain", 2)
    said = refused(prepare.main, "dataset=kaggle", "dataset.root=brain", "dataset.split=patient")
    assert said == "dataset.split=patient: 16 of 16 images have no patient id, a split by patient needs all"
    shutil.rmtree(here / "brain" / "Testing")
    assert refused(prepare.main, "dataset=kaggle", "dataset.root=brain").startswith(
        "dataset.root=brain: there is no Testing/ in it"
    )


def test_an_interrupt_is_one_line_and_leaves_what_was_done(here: Path) -> None:
    # Regression: a process that had nothing left to decode printed a traceback.
    write_kaggle_tree(here / "brain", 1)
    large = np.random.default_rng(0).integers(0, 255, (2400, 2400), np.uint8)
    for name, pixels, n in (("small", large[:40, :40], 1024), ("large", large, 24)):
        Image.fromarray(pixels).save(f"{name}.jpg")
        folder = here / "brain" / ("Training/glioma" if name == "small" else "Testing/pituitary")
        for i in range(n):
            os.link(f"{name}.jpg", folder / f"{i:04d}.jpg")
    run = process("dataset=kaggle", "dataset.root=brain", "dataset.workers=2")
    deadline = time.monotonic() + 60
    while sum(path.read_bytes().count(b"\n") for path in here.glob("cache/*.part/journal.jsonl")) < 32:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (1, "")
    assert err == "error: interrupted; the same command goes on where this one stopped\n"
    assert len(list(here.glob("cache/*.part"))) == 1
