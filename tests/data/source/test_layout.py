"""A folder that is not laid out as published: one line says what is there, and which folder was meant."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_kaggle_tree

from hqcnn_lab.data.source.layout import HALVES, find_images
from hqcnn_lab.data.source.rembrandt_layout import find_folders

WANTED = "it should hold Training/ and Testing/, each with glioma/, meningioma/, notumor/ and pituitary/"


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "brain"
    write_kaggle_tree(root, 1, 8)
    return root


def refusal(root: str | Path, find: Callable[[str | Path], object] = find_images) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (who asks compares the words)
        find(root)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["x.JPG", "x.Jpeg", "x.PNG", "x", "deeper/x.jpg"])
def test_a_file_may_have_any_ending(name: str, brain: Path) -> None:
    path = brain / "Training" / "glioma" / name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(next(brain.glob("Training/glioma/*.jpg")), path)
    assert f"Training/glioma/{name}" in {image.name for image in find_images(brain)}


def test_a_home_may_be_written_as_a_tilde(brain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(brain.parent))
    assert len(find_images("~/brain")) == 8
    # Regression: Python's own error ended the run.
    for find in (find_images, find_folders):
        assert "whose home that is, is not known" in refusal("~no-such-user/brain", find)


@pytest.mark.parametrize("given", ["..", "../..", "Training", "Training/glioma", "../brian", "../brains"])
def test_a_root_that_is_off_is_set_right(given: str, brain: Path) -> None:
    meant = refusal(brain / given).partition("did you mean ")[2].removesuffix("?")
    assert Path(meant).resolve() == brain


def test_an_archive_in_the_folder_is_found(brain: Path) -> None:
    inner = brain / "archive"
    inner.mkdir()
    for half in HALVES:
        (brain / half).rename(inner / half)
    assert refusal(brain) == f"there is no Training/ in it; did you mean {inner}?"


TUMORS = "glioma_tumor,meningioma_tumor,no_tumor,pituitary_tumor"


@pytest.mark.parametrize("inner", ["", "archive/"])
@pytest.mark.parametrize(
    ("halves", "classes"),
    [
        (("Testing", "Training"), TUMORS),
        (("testing", "training"), "glioma,meningioma,notumor,pituitary"),
        (("Test", "Train"), "Glioma,Meningioma,Normal,Pituitary"),
        (("test", "train"), "No Tumour,glioma tumour,meningioma tumour,pituitary tumour"),
    ],
)
def test_what_is_there_is_said(halves: tuple[str, str], classes: str, inner: str, tmp_path: Path) -> None:
    for half in halves:
        for name in classes.split(","):
            folder = tmp_path / inner / half / name
            folder.mkdir(parents=True)
            (folder / "0.jpg").touch()
    found = ", ".join(f"{inner}{half}/{{{classes}}}" for half in halves)
    lacks = "there is no Training/ in it"
    if (tmp_path / "Training").is_dir():
        lacks = "no images in Training/{glioma,meningioma,notumor,pituitary}"
    assert refusal(tmp_path) == f"{lacks}; it holds {found}; {WANTED}"


def test_classes_without_halves_are_said(brain: Path) -> None:
    words = f"there is no Training/ in it; it holds {{glioma,meningioma,notumor,pituitary}}; {WANTED}"
    shutil.move(brain / "Training", brain.parent.parent / "alone")
    assert refusal(brain.parent.parent / "alone") == words


def test_other_folders_are_not_named(tmp_path: Path) -> None:
    # They may be called for patients, and what is said lands in logs.
    (tmp_path / "trial" / "Doe^Jane" / "Training").mkdir(parents=True)
    (tmp_path / "trial" / "HF1702").mkdir()
    assert "Jane" not in refusal(tmp_path / "trial" / "HF1703")
    said = refusal(tmp_path / "trial" / "HF1702")
    assert said == f"there is no Training/ in it; {WANTED}"


def test_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    for name, words in (("brain.zip", f"it is a file, not a folder; unpack it, and {WANTED}"), ("a.txt", WANTED)):
        (tmp_path / name).touch()
        assert words in refusal(tmp_path / name)
    assert "it is a file, not a folder; it should be" in refusal(tmp_path / "a.txt", find_folders)
