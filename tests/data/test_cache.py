"""The cache gives back what the files hold, and nothing stale."""

import errno
import io
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hqcnn_lab.data.cache as cache
from hqcnn_lab.data.cache import decode_images
from hqcnn_lab.data.layout import find_images
from hqcnn_lab.data.reading import read_image


def test_holds_every_image_as_read(kaggle_root: Path, tmp_path: Path) -> None:
    files = find_images(kaggle_root)
    decoded = decode_images(kaggle_root, files, 16, tmp_path / "cache")
    assert decoded.files == files
    assert decoded.skipped == []
    for image, file in zip(decoded.images, files, strict=True):
        np.testing.assert_allclose(image, read_image(kaggle_root / file.name, 16), atol=5e-4)  # float16 between 0 and 1


def test_decodes_once(kaggle_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_images(kaggle_root)
    first = decode_images(kaggle_root, files, 16, tmp_path / "cache")
    monkeypatch.setattr(cache, "read_image", lambda *_: pytest.fail("decoded again"))
    again = decode_images(kaggle_root, files, 16, tmp_path / "cache")
    assert isinstance(again.images, np.memmap)
    np.testing.assert_array_equal(first.images, again.images)
    assert again.files == files


def test_changed_file_or_size_is_noticed(kaggle_root: Path, tmp_path: Path) -> None:
    files = find_images(kaggle_root)
    before = decode_images(kaggle_root, files, 16, tmp_path / "cache").images.copy()
    pixels = np.zeros((40, 40), np.uint8)
    pixels[20:, 20:] = 255
    Image.fromarray(pixels).save(kaggle_root / files[3].name)
    after = decode_images(kaggle_root, files, 16, tmp_path / "cache").images
    changed = [i for i in range(len(files)) if not np.array_equal(before[i], after[i])]
    assert changed == [3]
    assert decode_images(kaggle_root, files, 24, tmp_path / "cache").images.shape == (len(files), 24, 24)


def test_broken_files_are_left_out_and_listed(kaggle_root: Path, tmp_path: Path) -> None:
    broken = ["Training/glioma/zz_torn.jpg", "Testing/notumor/00_text.jpg"]
    for name in broken:
        (kaggle_root / name).write_bytes(b"broken")
    files = find_images(kaggle_root)
    for _ in range(2):  # the second time from the cache
        decoded = decode_images(kaggle_root, files, 16, tmp_path / "cache")
        assert sorted(name for name, _ in decoded.skipped) == sorted(broken)
        assert all("UnidentifiedImageError" in reason for _, reason in decoded.skipped)
        assert [f.name for f in decoded.files] == [f.name for f in files if f.name not in broken]
        assert len(decoded.images) == len(decoded.files)


def test_killed_build_leaves_no_entry(kaggle_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> np.ndarray:
        raise KeyboardInterrupt

    files = find_images(kaggle_root)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_image", killed)
        with pytest.raises(KeyboardInterrupt):
            decode_images(kaggle_root, files, 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(decode_images(kaggle_root, files, 16, tmp_path / "cache").images) == len(files)


def test_full_disk_is_an_error_that_leaves_no_entry(
    kaggle_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: a memory-mapped file that outgrows its disk kills the process with SIGBUS.
    open_file = Path.open

    class Full(io.BytesIO):
        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(path: Path, mode: str = "r", *arguments: object) -> object:
        return Full() if mode == "wb" and path.name == "images.f2" else open_file(path, mode, *arguments)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match="No space left"):
        decode_images(kaggle_root, find_images(kaggle_root), 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("damage", ["no images", "images cut short", "no index", "index cut short"])
def test_damaged_entry_is_made_again(damage: str, kaggle_root: Path, tmp_path: Path) -> None:
    # Regression: an entry without its image file, left by an older version, failed every run until removed by hand.
    files = find_images(kaggle_root)
    expected = decode_images(kaggle_root, files, 16, tmp_path / "cache").images.copy()
    [entry] = (tmp_path / "cache").iterdir()
    path = entry / ("images.f2" if "images" in damage else "index.json")
    content = path.read_bytes()
    path.unlink()
    if "cut short" in damage:
        path.write_bytes(content[: len(content) // 2])
    again = decode_images(kaggle_root, files, 16, tmp_path / "cache")
    np.testing.assert_array_equal(again.images, expected)
    assert again.files == files


def test_what_killed_jobs_left_is_dropped_after_a_day(kaggle_root: Path, tmp_path: Path) -> None:
    old, fresh = (tmp_path / "cache" / name for name in ("a.old.part", "a.fresh.part"))
    for folder in (old, fresh):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    decode_images(kaggle_root, find_images(kaggle_root), 16, tmp_path / "cache")
    assert not old.exists()
    assert fresh.exists()


def test_entry_that_another_job_makes_meanwhile_is_kept(
    kaggle_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: a job that had found no entry removed the whole one that another job put there a moment later.
    files, remove, removed = find_images(kaggle_root), shutil.rmtree, []

    def found_just_before_the_other_finished(entry: Path, size: int) -> bool:
        cache._build(kaggle_root, files, size, entry)
        return False

    def watched(path: Path, **options: object) -> None:
        removed.append((path / "index.json").is_file())
        remove(path, **options)

    monkeypatch.setattr(cache, "_is_whole", found_just_before_the_other_finished)
    monkeypatch.setattr(cache.shutil, "rmtree", watched)
    decode_images(kaggle_root, files, 16, tmp_path / "cache")
    assert removed  # scratch folders, gone by then
    assert not any(removed)


def _decode_in_another_process(root: Path, cache_dir: Path) -> None:
    decode_images(root, find_images(root), 16, cache_dir)


def test_jobs_that_start_together_end_with_one_whole_entry(kaggle_root: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(target=_decode_in_another_process, args=(kaggle_root, tmp_path / "cache")) for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert len(list((tmp_path / "cache").iterdir())) == 1
