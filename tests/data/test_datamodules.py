"""Batches hold what the files hold; what is shuffled depends on the seed and the epoch alone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from dicom_files import RAMP, as_file, mr_slice
from PIL import Image

from hqcnn_lab.data import KaggleDataModule, PhantomDataModule
from hqcnn_lab.data.datamodule import EpochShuffle, UnusableData
from hqcnn_lab.data.decode.reading import fit, read_image
from hqcnn_lab.data.file_datamodule import _stored
from hqcnn_lab.data.source.layout import CLASSES, PUBLISHED, find_images


def kaggle(root: Path, tmp_path: Path, **options: object) -> KaggleDataModule:
    data = KaggleDataModule(
        root, image_size=16, batch_size=5, val_fraction=0.25, cache_dir=tmp_path / "cache", **options
    )
    data.prepare_data()
    data.setup()
    return data


def test_official_split_keeps_the_published_halves(kaggle_root: Path, tmp_path: Path) -> None:
    data = kaggle(kaggle_root, tmp_path)
    assert {data.names[i].split("/")[0] for i in data.split.test} == {"Testing"}
    assert {data.names[i].split("/")[0] for i in [*data.split.train, *data.split.val]} == {"Training"}
    assert len(data.split.val) == 4
    assert data.describe() == ["12 train, 4 val, 16 test images"]
    assert data.audit().found["Testing"]["glioma"] == 4
    assert data.audit().published == PUBLISHED


def test_files_of_several_pages_are_counted(kaggle_root: Path, tmp_path: Path) -> None:
    file = next((kaggle_root / "Training" / "glioma").iterdir())
    with Image.open(file) as image:
        image.save(file, "TIFF", save_all=True, append_images=[image.rotate(90)])
    data = kaggle(kaggle_root, tmp_path)
    assert data.describe()[1:] == ["files of several pages, of which the first is taken: 1"]
    assert data.not_used() == ["left out: 1 files, pages after the first"]
    assert len(data.records) == 32


def test_random_split_mixes_the_halves_and_keeps_the_classes_in_proportion(kaggle_root: Path, tmp_path: Path) -> None:
    data = kaggle(kaggle_root, tmp_path, split="random")
    assert len(data.split.test) == 4 * round(0.2 * 8)
    assert {data.names[i].split("/")[0] for i in data.split.train} == {"Training", "Testing"}
    np.testing.assert_array_equal(np.bincount(data.labels[data.split.test]), [2, 2, 2, 2])
    other = kaggle(kaggle_root, tmp_path, split="random", split_seed=1)
    assert set(other.split.test) != set(data.split.test)


def test_batch_leads_back_to_its_files(kaggle_root: Path, tmp_path: Path) -> None:
    data = kaggle(kaggle_root, tmp_path)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (5, 1, 16, 16)
    for image, label, index in zip(batch["image"], batch["label"], batch["index"], strict=True):
        assert data.names[index].split("/")[1] == CLASSES[label]
        np.testing.assert_allclose(image[0], read_image(kaggle_root / data.names[index], 16), atol=5e-4)


def test_evaluation_loaders_keep_order_and_every_image(kaggle_root: Path, tmp_path: Path) -> None:
    data = kaggle(kaggle_root, tmp_path)
    seen = torch.cat([batch["index"] for batch in data.test_dataloader()])
    np.testing.assert_array_equal(seen, data.split.test)


def test_shuffle_depends_on_seed_and_epoch_alone() -> None:
    epoch = 0
    sampler = EpochShuffle(50, seed=3, epoch=lambda: epoch)
    first = list(sampler)
    torch.manual_seed(99)
    assert list(sampler) == first
    assert sorted(first) == list(range(50))
    epoch = 1
    assert list(sampler) != first
    assert list(EpochShuffle(50, seed=4, epoch=lambda: 0)) != first


def test_phantom_is_the_same_every_time_and_its_sides_differ() -> None:
    one, two = (PhantomDataModule(n_train=40, n_test=16, image_size=32) for _ in range(2))
    one.setup()
    two.setup()
    np.testing.assert_array_equal(one.images, two.images)
    assert one.images.shape == (56, 32, 32)
    assert len({image.tobytes() for image in one.images}) == 56  # nothing of the test side is in the training side
    assert len(one.split.test) == 16


def test_a_class_without_an_image_left_is_refused(kaggle_root: Path, tmp_path: Path) -> None:
    for path in (kaggle_root / "Testing" / "glioma").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(
        UnusableData, match=r"no image of glioma for test; 4 files could not be read, such as Testing/gl"
    ):
        kaggle(kaggle_root, tmp_path)


def test_the_cache_is_asked_once(kaggle_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = kaggle(kaggle_root, tmp_path)
    monkeypatch.setattr("hqcnn_lab.data.file_datamodule.decode", lambda *_: pytest.fail("asked again"))
    data.prepare_data()
    data.setup("test")


@pytest.mark.slow
def test_real_images_are_found_as_published(real_kaggle_root: Path, tmp_path: Path) -> None:
    data = KaggleDataModule(real_kaggle_root, cache_dir=tmp_path)
    data.prepare_data()
    data.setup()
    assert data.skipped == []
    found = [(data.halves == "Training") & (data.labels == label) for label in range(4)]
    assert [int(mask.sum()) for mask in found] == [1321, 1339, 1595, 1457]
    assert len(data.images) == len(find_images(real_kaggle_root)) == 6367
    assert data.images.min() == 0
    assert data.images.max() == 1


def test_dicom_files_among_the_pictures_are_read(kaggle_root: Path, tmp_path: Path) -> None:
    folder = kaggle_root / "Training" / "glioma"
    frames = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    (folder / "a.dcm").write_bytes(as_file(mr_slice(PatientID="HF0007")))
    (folder / "no ending").write_bytes(as_file(mr_slice(frames, Modality="CT", PatientID=None)))
    (folder / "report.jpg").write_bytes(as_file(mr_slice(Modality="SR", Rows=None, Columns=None, PixelData=None)))
    (folder / "torn.dcm").write_bytes(as_file(mr_slice())[:-900])
    data = kaggle(kaggle_root, tmp_path)
    assert len(data.images) == 32 + 4
    of_dicom = [i for i, record in enumerate(data.records) if record.file.endswith(("a.dcm", "no ending"))]
    assert {CLASSES[data.labels[i]] for i in of_dicom} == {"glioma"}
    assert [data.names[i].rpartition("/")[2] for i in of_dicom] == [
        "a.dcm",
        *(f"no ending{n}" for n in ("", "#1", "#2")),
    ]
    assert [data.frames[i] for i in of_dicom] == ["0", "0", "1", "2"]
    assert [data.patients[i] for i in of_dicom] == ["HF0007", "", "", ""]
    assert len({data.contents[i] for i in of_dicom}) == 2
    expected = fit(RAMP[::-1].astype(np.float32), 16)
    np.testing.assert_allclose(data.images[of_dicom[2]], expected, atol=5e-4)
    assert [file for file, _ in data.left_out] == ["Training/glioma/report.jpg"]
    assert [file for file, _ in data.skipped] == ["Training/glioma/torn.dcm"]
    lines = data.not_used()
    assert lines[0].startswith("left out: 1 files, ")
    assert lines[1].startswith("skipped Training/glioma/torn.dcm: ")


def test_names_that_are_no_text_are_shown_as_text(kaggle_root: Path, tmp_path: Path) -> None:
    # Regression: such a name ended a run with UnicodeEncodeError where it was printed or recorded.
    folder = kaggle_root / "Training" / "glioma"
    next(folder.iterdir()).rename(folder / "sch\udcf6n.jpg")
    (folder / "\udcff.jpg").write_bytes(b"broken")
    data = kaggle(kaggle_root, tmp_path)
    shown = "\n".join([*data.names, data.manifest_text(), *data.not_used(), *(file for file, _ in data.skipped)])
    assert "Training/glioma/sch\\udcf6n.jpg" in shown.encode().decode()
    assert "skipped Training/glioma/\\udcff.jpg" in shown


@pytest.mark.parametrize(("stored", "split"), [("twins-*.npz", "official"), ("alike-*.npz", "grouped")])
def test_damaged_list_of_copies_is_made_again(stored: str, split: str, kaggle_root: Path, tmp_path: Path) -> None:
    # Regression: np.load's own error ended the run.
    first = kaggle(kaggle_root, tmp_path, split=split)
    [path] = (tmp_path / "cache").rglob(stored)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    np.save(tmp_path / "other.npy", np.zeros(3))
    others = [(tmp_path / name).read_bytes() for name in ("other.npz", "other.npy")]
    for damaged in (b"", whole[:200], b"PK\x03\x04 and then nothing", *others):
        path.write_bytes(damaged)
        again = kaggle(kaggle_root, tmp_path, split=split)
        np.testing.assert_array_equal(again.twins.original, first.twins.original)
        np.testing.assert_array_equal(again.groups, first.groups)
        assert path.read_bytes()[:100] == whole[:100]


def test_what_killed_jobs_were_writing_is_swept_up(kaggle_root: Path, tmp_path: Path) -> None:
    # Regression: it stayed for ever.
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    kaggle(kaggle_root, tmp_path)
    [entry] = (tmp_path / "cache").glob("*/entry.json")
    for number in (ended.pid, os.getppid()):
        for path in (tmp_path / "cache" / "features-a.npy", entry.parent / "twins-1.npz", entry.parent / "alike.npz"):
            path.with_name(f"{path.name}.{number}.part").touch()
    (tmp_path / "cache" / "begun.part").mkdir()  # by a job that another goes on with
    kaggle(kaggle_root, tmp_path)
    left = {path.name for path in (tmp_path / "cache").rglob("*.part")}
    living = {f"{name}.{os.getppid()}.part" for name in ("features-a.npy", "twins-1.npz", "alike.npz")}
    assert left == {"begun.part", *living}


def test_arrays_are_kept_or_found_again(tmp_path: Path) -> None:
    # Another machine with the same cache knows nothing of our processes, and may sweep up what one is writing.
    path = tmp_path / "found.npz"

    def find() -> list[np.ndarray]:
        return [np.arange(3)]

    def swept(file: IO[bytes], **arrays: np.ndarray) -> None:
        Path(file.name).unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "savez", swept)
        assert _stored(path, ["a"], find)[0].tolist() == [0, 1, 2]
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        assert _stored(path, ["a"], find)[0].tolist() == [0, 1, 2]
        assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_salt_is_said_in_one_line(kaggle_root: Path, tmp_path: Path) -> None:
    kaggle(kaggle_root, tmp_path)
    (tmp_path / "cache" / "salt" / "salt.txt").write_text("?")
    with pytest.raises(UnusableData, match=r"dataset\.cache_dir=.*salt is damaged; remove it"):
        kaggle(kaggle_root, tmp_path)


@pytest.mark.parametrize("n", [5, 7])
def test_a_training_set_smaller_than_a_batch_still_trains(n: int) -> None:
    data = PhantomDataModule(n_train=8 * n, n_test=8, image_size=16, batch_size=512)
    data.setup()
    assert len(list(data.train_dataloader())) == 1
