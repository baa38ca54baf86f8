"""Splits of a data set of files, and manifests: what an earlier run trained on is found again, or refused."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import write_kaggle_tree
from dicom_files import as_file, mr_slice
from PIL import Image

from hqcnn_lab.data import KaggleDataModule, file_datamodule
from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.data.decode.cache import decode
from hqcnn_lab.data.split.cut import SPLITS
from hqcnn_lab.data.split.duplicates import has_twin
from hqcnn_lab.data.split.manifest import manifest_hash


def kaggle(root: Path, tmp_path: Path, **options: object) -> KaggleDataModule:
    data = KaggleDataModule(root, tmp_path / "cache", image_size=32, **({"val_fraction": 0.25} | options))
    data.prepare_data()
    data.setup()
    return data


def parts(data: KaggleDataModule) -> dict[str, str]:
    """Content of each image, and which part it is in; every content here is there once."""
    return {data.contents[i]: part for part, indices in data.split._asdict().items() for i in indices}


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """12 files a class in each half; a third of Testing are files of Training, a third such compressed again."""
    root = tmp_path / "brain"
    write_kaggle_tree(root, 12, 64)
    for folder in (root / "Testing").iterdir():
        originals = sorted((root / "Training" / folder.name).iterdir())
        for i, path in enumerate(sorted(folder.iterdir())):
            if i % 3 == 0:
                with Image.open(originals[i]) as image:
                    image.save(path, quality=90)
            elif i % 3 == 1:
                shutil.copy(originals[i], path)
    return root


@pytest.mark.parametrize("split", ["official", "random", "grouped", "kfold"])
def test_every_part_has_every_class_and_val_no_twin_in_training(split: str, brain: Path, tmp_path: Path) -> None:
    data = kaggle(brain, tmp_path, split=split)
    in_training = np.isin(np.arange(96), data.split.train)
    assert sorted(np.concatenate(data.split)) == list(range(96))
    for indices in data.split:
        assert np.bincount(data.labels[indices], minlength=4).all()
    assert data.split_name == split
    if split != "random":  # cut by image, as in the paper
        assert not has_twin(data.twins, in_training)[data.split.val].any()
    has_copies_in_test = has_twin(data.twins, ~np.isin(np.arange(96), data.split.test))[data.split.test].any()
    assert has_copies_in_test == (split in ("official", "random"))
    audit = data.audit()
    assert audit.split == split
    assert (audit.copies.test_in_training > 0) == has_copies_in_test
    if split == "official":
        assert audit.exact.test_in_training == 16 < audit.copies.test_in_training <= 32


def test_only_a_split_that_promises_it_keeps_more_than_copies_together(brain: Path, tmp_path: Path) -> None:
    # Hashes of the two are 8 bits apart: no copies, but another filter might make them so.
    folder = brain / "Training" / "glioma"
    pixels = np.asarray(Image.open(folder / "Tr-gl_0000.jpg")).astype(float)
    other = np.random.default_rng(1).normal(0, 0.18 * pixels.std(), (32, 32)).repeat(2, 0).repeat(2, 1)
    Image.fromarray(np.uint8((pixels + other).clip(0, 255))).save(folder / "Tr-gl_0012.png")
    data = {split: kaggle(brain, tmp_path, split=split) for split in ("official", "random", "grouped", "kfold")}
    one, two = (data["official"].names.index(f"Training/glioma/Tr-gl_{name}") for name in ("0000.jpg", "0012.png"))
    together = {split: bool(d.groups[one] == d.groups[two]) for split, d in data.items()}
    assert together == {"official": False, "random": False, "grouped": True, "kfold": True}
    kept = data["grouped"].audit().kept
    assert kept["mixed"] == 0
    assert kept["largest"] >= 3  # with its copy in Testing
    assert not data["official"].audit().kept
    assert len({(d.audit().copies.pairs, d.audit().groups) for d in data.values()}) == 1  # counted as ever


def test_folds_test_every_image_once(brain: Path, tmp_path: Path) -> None:
    tested = [kaggle(brain, tmp_path, split="kfold", fold=fold, n_folds=3).split.test for fold in range(3)]
    assert sorted(np.concatenate(tested)) == list(range(96))


def test_a_split_is_the_datas_and_depends_on_its_seed_alone(brain: Path, tmp_path: Path) -> None:
    for split in ("random", "grouped", "kfold"):
        one, same, other = (
            kaggle(brain, tmp_path, split=split, split_seed=split_seed, seed=seed)
            for split_seed, seed in ((0, 0), (0, 1), (1, 0))
        )
        assert parts(one) == parts(same) != parts(other)


def test_no_more_decode_than_there_are_cores(
    brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Regression: `dataset.workers=1000` started a thousand processes.
    asked = []
    monkeypatch.setattr(file_datamodule, "cores", lambda: 3)
    monkeypatch.setattr(file_datamodule, "decode", lambda *arguments: asked.append(arguments[-1]) or decode(*arguments))
    for workers in (None, 2, 3, 1000):
        kaggle(brain, tmp_path, workers=workers)
    assert asked == [None, None, 2, 2, 3, 3, 3, 3]
    assert capsys.readouterr().out == "dataset.workers=1000: more than there are cores; 3 decode\n"


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "patient": ({"split": "patient"}, "dataset.split=patient: 96 of 96 images have no patient id"),
    "name": (
        {"split": "groups"},
        "dataset.split must be one of official, random, grouped, patient, kfold; got 'groups'",
    ),
    "fold": ({"split": "kfold", "fold": 5}, "dataset.split=kfold: fold 5 of 5"),
    "folds": ({"split": "kfold", "n_folds": 60}, "dataset.split=kfold: class glioma has 1"),
    "no manifest": ({"manifest": "nowhere.csv"}, "dataset.manifest=nowhere.csv: nowhere.csv: No such file"),
    "no root": ({"root": None}, "dataset.root=None: not set; give the folder"),
    "other root": ({"root": "nowhere"}, "dataset.root=nowhere: there is no such folder"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_one_line_that_names_the_key(what: str, brain: Path, tmp_path: Path) -> None:
    options, words = WRONG[what]
    with pytest.raises(UnusableData) as error:
        kaggle(**({"root": brain, "tmp_path": tmp_path} | options))
    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)


def test_patients_of_dicom_files_are_kept_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "brain"
    write_kaggle_tree(root, 0)
    for i, folder in enumerate(sorted(root.glob("*/*"))):
        for j in range(12):
            pixels = rng.integers(0, 4000, (40, 48), dtype=np.uint16)
            (folder / f"{j}").write_bytes(as_file(mr_slice(pixels, PatientID=f"{i % 4}-{j % 6}")))
    for split in ("patient", "kfold"):
        data = kaggle(root, tmp_path, split=split)
        patients = [set(data.patients[indices]) for indices in data.split]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 24
        assert not data.audit().shared_patients["test"]
        groups = Counter(line.rsplit(",", 1)[1] for line in data.manifest_text().splitlines()[1:])
        assert set(groups.values()) == {4}  # a pseudonym for each patient
        assert not any(patient in data.manifest_text() for patient in data.patients)


@pytest.mark.parametrize("split", [split for split in SPLITS if split != "patient"])
def test_a_manifest_repeats_exactly_the_images(split: str, brain: Path, tmp_path: Path) -> None:
    first = kaggle(brain, tmp_path, split=split, split_seed=4)
    path = tmp_path / "split_manifest.csv"
    path.write_text(first.manifest_text(), encoding="utf-8")
    again = kaggle(brain, tmp_path, manifest=path)
    for one, other in zip(first.split, again.split, strict=True):
        np.testing.assert_array_equal(np.sort(one), np.sort(other))
    assert manifest_hash(again.manifest_text()) == manifest_hash(first.manifest_text())
    assert again.split_name == "manifest"
    assert again.audit().copies == first.audit().copies


def test_a_manifest_is_followed_into_another_folder_layout(tmp_path: Path) -> None:
    write_kaggle_tree(tmp_path / "brain", 6)
    (tmp_path / "brain" / "Training" / "glioma" / "frames").write_bytes(
        as_file(mr_slice(np.random.default_rng(0).integers(0, 4000, (5, 40, 48), dtype=np.uint16)))
    )
    first = kaggle(tmp_path / "brain", tmp_path, split="random")
    path = tmp_path / "split_manifest.csv"
    path.write_text(first.manifest_text(), encoding="utf-8")
    for folder in (tmp_path / "brain").glob("*/*"):  # the halves swapped, other names, one folder more
        half = "Testing" if folder.parent.name == "Training" else "Training"
        moved = tmp_path / "moved" / half / folder.name / "deeper"
        moved.mkdir(parents=True)
        for i, file in enumerate(sorted(folder.iterdir(), reverse=True)):
            shutil.copy(file, moved / f"{i:03d}.png")
    shutil.copy(path, tmp_path / "moved" / "Training" / "glioma" / "broken.jpg")  # one that is no image
    again = kaggle(tmp_path / "moved", tmp_path, manifest=path)
    frames = [list(zip(d.contents, d.frames, strict=True)) for d in (first, again)]
    for one, other in zip(first.split, again.split, strict=True):
        assert [frames[0][i] for i in one] == [frames[1][i] for i in other]  # in the same order, too
        np.testing.assert_array_equal(first.images[one], again.images[other])
    # Regression: the hash was the table's, and names and group numbers are other ones here.
    assert manifest_hash(again.manifest_text()) == manifest_hash(first.manifest_text())


def changed_label(root: Path) -> None:
    file = next((root / "Training" / "glioma").iterdir())
    file.rename(root / "Training" / "notumor" / file.name)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file gone": (lambda root: next((root / "Testing" / "glioma").iterdir()).unlink(), "1 of the manifest's 32 imag"),
    "a file changed": (
        lambda root: Image.effect_mandelbrot((40, 40), (-2, -1, 1, 1), 9).save(root / "Testing/glioma/Te-gl_0000.jpg"),
        "1 of the manifest's 32 images are not here, such as Testing/glioma/Te-gl_0000.jpg",
    ),
    "another class": (changed_label, "1 images are labelled otherwise than in the manifest, such as Training/notumor/"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_manifest_of_other_images_is_refused(what: str, kaggle_root: Path, tmp_path: Path) -> None:
    change, words = REFUSED[what]
    path = tmp_path / "split_manifest.csv"
    path.write_text(kaggle(kaggle_root, tmp_path).manifest_text())
    change(kaggle_root)
    with pytest.raises(UnusableData) as error:
        kaggle(kaggle_root, tmp_path, manifest=path)
    assert str(error.value).startswith(f"dataset.manifest={path}: {words}")
    assert "\n" not in str(error.value)


def test_a_manifest_may_name_some_of_the_images(kaggle_root: Path, tmp_path: Path) -> None:
    lines = kaggle(kaggle_root, tmp_path).manifest_text().splitlines(keepends=True)
    path = tmp_path / "split_manifest.csv"
    path.write_text("".join(line for i, line in enumerate(lines) if i != 1))
    data = kaggle(kaggle_root, tmp_path, manifest=path)
    assert sum(map(len, data.split)) == 31
    path.write_text("".join(line for line in lines if ",test,pituitary," not in line))
    with pytest.raises(UnusableData, match=r"^dataset: no image of pituitary for test; 0 files could not be read$"):
        kaggle(kaggle_root, tmp_path, manifest=path)
