"""No patient's name, id or birth date gets into a run folder, into W&B or onto the terminal of a run."""

import gzip
import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import warm
from conftest import TINY
from wandb_log import inspect_wandb

from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.phantom.write import write_dicom
from hqcnn_lab.run.training import train

pytestmark = pytest.mark.slow

# What the tree holds of its patients; ids name folders, too.
ID, UNLABELLED_ID, GIVEN, FAMILY, BIRTH = "HF9-PLANTED-1", "HF9-PLANTED-12", "Zoraplanted", "Plantedname", "19510203"
DATE_IN_FOLDERS = "02-03-1951"
PLANTED = [text.encode() for text in ("PLANTED", ID, GIVEN, FAMILY, BIRTH, DATE_IN_FOLDERS, "1951-02-03")]


def plant(tree: Path) -> None:
    """Patients 1 and 12 of the tree get what must not be told; 12 is not in the table."""
    for old, new in (("PHANTOM-0001", ID), ("PHANTOM-0012", UNLABELLED_ID)):
        folder = tree / "REMBRANDT" / old
        for path in sorted(folder.rglob("*.dcm")):
            ds = pydicom.dcmread(path)
            ds.PatientID, ds.PatientName, ds.PatientBirthDate = new, f"{FAMILY}^{GIVEN}", BIRTH
            ds.OtherPatientIDs, ds.StudyDescription, ds.PatientComments = new, f"{FAMILY} of {BIRTH}", GIVEN
            ds.save_as(path)
        for table in (tree / "metadata.csv", tree / "clinical.csv"):
            table.write_bytes(table.read_bytes().replace(old.encode(), new.encode()))
        for study in sorted(folder.iterdir()):
            study.rename(study.with_name(f"{DATE_IN_FOLDERS}-{FAMILY}-{study.name[-5:]}"))
        folder.rename(folder.with_name(new))


def break_files(tree: Path) -> None:
    """Of every way in which a file of the planted patient may be left out."""
    files = sorted((tree / "REMBRANDT" / ID).rglob("1-*.dcm"))
    whole = files[-1].read_bytes()
    folder = files[-1].parent
    (folder / f"{FAMILY}-torn.dcm").write_bytes(whole[:-100])
    (folder / f"{GIVEN}-garbled.dcm").write_bytes(f"no DICOM file, but of {ID}".encode())
    (folder / f"{GIVEN}\udcff.dcm").write_bytes(b"")
    (folder / f"{GIVEN}-gone.dcm").symlink_to(f"{FAMILY}-nowhere")
    (folder / f"{BIRTH}-empty").mkdir()
    for keyword in (
        "Rows",
        "RescaleSlope",
        "WindowCenter",
        "InstanceNumber",
        "ImagePositionPatient",
        "PatientBirthDate",
    ):
        ds = pydicom.dcmread(files[-1])
        with pydicom.config.disable_value_validation():
            vr = "DA" if keyword == "PatientBirthDate" else "LO"
            ds[keyword] = pydicom.DataElement(pydicom.tag.Tag(keyword), vr, f"{FAMILY}{BIRTH}")
            ds.save_as(folder / f"{FAMILY}-{keyword}.dcm")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_dicom(tmp_path_factory.mktemp("data") / "tree", 24, 3, 2, size=32)
    plant(folder)
    break_files(folder)
    return folder


def command(module: str, tree: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    data = ("dataset=rembrandt", f"dataset.root={tree}", f"dataset.clinical={tree}/clinical.csv")
    cache = {"HQCNN_CACHE": str(tree.parent / "cache")}
    return warm.run("-m", f"hqcnn_lab.{module}", *data, *arguments, cwd=cwd, **cache)


def every_byte(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all files, and what is in those that are packed."""
    for path in folder.rglob("*"):
        yield f"{path}, its name", os.fsencode(path.relative_to(folder))
        if path.is_file():
            content = path.read_bytes()
            yield str(path), content
            if zipfile.is_zipfile(io.BytesIO(content)):
                with zipfile.ZipFile(path) as archive:
                    yield from ((f"{path}/{name}", archive.read(name)) for name in archive.namelist())
            if content[:2] == b"\x1f\x8b":
                yield f"{path}, unpacked", gzip.decompress(content)


def assert_nothing_planted(folder: Path, *outputs: bytes) -> None:
    searched = [*every_byte(folder), *(("the terminal", output) for output in outputs)]
    found = {(where, text.decode()) for where, content in searched for text in PLANTED if text in content}
    assert not found


def test_the_planted_is_in_the_data_and_the_search_finds_it(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree / "REMBRANDT" / ID, tmp_path / "copy" / ID, symlinks=True)
    with gzip.open(tmp_path / "copy" / "a.gz", "w") as file:
        file.write(BIRTH.encode())
    np.savez_compressed(tmp_path / "copy" / "b.npz", **{GIVEN: np.zeros(3)})
    places = {
        where.rpartition("/")[2]
        for where, content in every_byte(tmp_path / "copy")
        if any(t in content for t in PLANTED)
    }
    assert {"a.gz, unpacked", "b.npz"} <= places
    with pytest.raises(AssertionError):
        assert_nothing_planted(tmp_path / "copy")


def test_a_run_tells_of_no_patient(tree: Path, tmp_path: Path) -> None:
    arguments = [*TINY, "figures=true", "trainer.max_epochs=1", "hydra.run.dir=run", "callbacks.progress=null"]
    run = command("train", tree, *arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    [log] = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")  # it was on
    assert log.stat().st_size > 1000
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["images/skipped"] >= 3
    assert run.stdout.count("skipped ") == summary["images/skipped"]
    assert list((tmp_path / "run" / "figures").iterdir())
    for table in ("split_manifest.csv", "skipped_files.csv", "predictions.csv", "audit.json"):
        assert (tmp_path / "run" / table).stat().st_size > 100
    assert_nothing_planted(tmp_path, run.stdout.encode(), run.stderr.encode())
    records = inspect_wandb(tmp_path / "run")
    assert '"config"' in records
    assert_nothing_planted(tmp_path, records.encode())


ENDS = {
    "finished": ["dataset.split=random"],
    "kfold": ["dataset.split=kfold", "dataset.n_folds=60"],
    "clinical": ["dataset.clinical=CONFLICT"],
    "manifest": ["dataset.manifest=MANIFEST"],
    "diverged": ["optim=sgd", "optim.lr=1e30"],
}


@pytest.mark.parametrize("end", ENDS)
def test_however_it_ends_a_run_tells_of_no_patient(
    end: str, tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    conflict, manifest = tree.parent / "conflict.csv", tree.parent / "manifest.csv"
    conflict.write_text(f"SUBJECT_ID,DISEASE_TYPE\n{ID},GBM\n{ID},MIXED\n")
    manifest.write_text("file,frame,content,split,label,group\na/b/1,0,0123,train,gbm,\n")
    changed = [a.replace("CONFLICT", str(conflict)).replace("MANIFEST", str(manifest)) for a in ENDS[end]]
    given = ["dataset=rembrandt", f"dataset.root={tree}", *TINY, "trainer.max_epochs=1", "logger=none", "name=tiny"]
    given += [f"paths.cache_dir={tree.parent / 'cache'}", f"paths.output_dir={tmp_path / 'run'}"]
    given += [] if end == "clinical" else [f"dataset.clinical={tree}/clinical.csv"]
    said = ""
    try:
        train(compose([*given, *changed]))
    except (ValueError, RuntimeError) as error:
        said = str(error)
    status = json.loads((tmp_path / "run" / "status.json").read_text())["status"]
    assert (status, bool(said)) == (("finished", False) if end == "finished" else ("failed", True))
    out, err = capfd.readouterr()
    assert_nothing_planted(tmp_path, out.encode(), err.encode(), said.encode())


def test_what_prepare_writes_tells_of_no_patient(tree: Path, tmp_path: Path) -> None:
    run = command("prepare", tree, "dataset.image_size=16", "out=found", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert_nothing_planted(tmp_path)
    # On the terminal it names them: someone has to find the files.
    assert f"no class: patient {UNLABELLED_ID}, not in the clinical table" in run.stdout
    assert f"{GIVEN}-garbled.dcm: not a DICOM file" in run.stdout
    assert rf"{GIVEN}\udcff.dcm" in run.stdout
