"""The cache gives back what the reader made of the files, in the tasks' order, and nothing stale."""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import cache_job
import numpy as np
import pytest
from cache_job import SIZE, list_tasks, read, write_files

from hqcnn_lab.data.decode import cache
from hqcnn_lab.data.decode.cache import CachedImages, CacheError, decode


def build(tmp_path: Path, workers: int = 1, **changed: object) -> CachedImages:
    root = tmp_path / "root"
    arguments = {"tasks": list_tasks(root), "recipe": "made up", "size": SIZE, "read": read} | changed
    return decode(root, cache_dir=tmp_path / "cache", workers=workers, **arguments)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def n_read(tmp_path: Path) -> int:
    log = tmp_path / "read.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_files(tmp_path / "root", 6)
    return tmp_path / "root"


def test_holds_what_the_reader_made_in_the_order_of_the_tasks(root: Path, tmp_path: Path) -> None:
    cached = build(tmp_path)
    results = [read(root, [file.name for file in task], SIZE) for task in list_tasks(root)]
    assert cached.records == [record for result in results for record in result.records]
    np.testing.assert_array_equal(cached.images, np.concatenate([result.images for result in results]))
    assert cached.skipped == [item for result in results for item in result.skipped]
    assert cached.left_out == [item for result in results for item in result.left_out]
    assert len(cached.records) == 18
    assert (len(cached.skipped), len(cached.left_out)) == (1, 5)
    assert isinstance(cached.images, np.memmap)


@pytest.mark.slow
def test_threads_and_processes_make_the_same_entry(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "00" / "0.txt").write_text("slow 1")  # the first task is done last
    alone = content(build(tmp_path).folder)
    monkeypatch.setattr(cache, "ProcessPoolExecutor", lambda *_: pytest.fail("processes for few files"))
    assert content(decode(root, list_tasks(root), read, "made up", SIZE, tmp_path / "threads", 3).folder) == alone
    monkeypatch.undo()
    monkeypatch.setattr(cache, "MANY_FILES", 1)
    monkeypatch.setattr(cache, "ThreadPoolExecutor", lambda *_: pytest.fail("threads for many files"))
    assert content(decode(root, list_tasks(root), read, "made up", SIZE, tmp_path / "processes", 2).folder) == alone


def test_no_file_is_opened_where_the_entry_is_whole(root: Path, tmp_path: Path) -> None:
    first = build(tmp_path)
    tasks = list_tasks(root)
    for path in root.rglob("*.txt"):
        path.unlink()
    again = build(tmp_path, tasks=tasks, read=lambda *_: pytest.fail("read again"))
    np.testing.assert_array_equal(again.images, first.images)
    assert again.folder == first.folder
    assert again._replace(images=0) == first._replace(images=0)


CHANGES: dict[str, Callable[[Path], dict[str, object]]] = {
    "file's size": lambda path: path.write_text("one more") and {},
    "file's time": lambda path: os.utime(path, ns=(0, 1)) or {},
    "file's name": lambda path: path.rename(path.with_name("new.txt")) and {},
    "file gone": lambda path: path.unlink() or {},
    "recipe": lambda _: {"recipe": "made up otherwise"},
    "size": lambda _: {"size": 16},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_another_entry(change: str, root: Path, tmp_path: Path) -> None:
    first = build(tmp_path)
    second = build(tmp_path, **CHANGES[change](root / "03" / "0.txt"))
    assert second.folder != first.folder
    assert second.images.shape[1:] == ((16, 16) if change == "size" else (SIZE, SIZE))
    if change == "file's size":
        differ = [i for i in range(18) if not np.array_equal(first.images[i], second.images[i])]
        assert [second.records[i].file for i in differ] == ["03/0.txt"]


DAMAGES = [
    *[(name, how) for name in ("images.f2", "index.csv", "entry.json") for how in ("gone", "cut", "longer")],
    ("entry.json", "[]"),
    ("entry.json", '{"bytes": 5}'),
    ("entry.json", '{"bytes": {}}'),
    ("entry.json", "[" * 100_000),
    ("index.csv", "garbled"),
    ("index.csv", "NUL"),
]


def test_an_entry_of_a_version_that_noted_other_things_is_left_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: its index was read with the columns of today, which raised a ValueError.
    with monkeypatch.context() as older:
        older.setattr(cache.ImageRecord, "_fields", cache.ImageRecord._fields[:-1])
        before = cache._key(list_tasks(root), "made up", SIZE)
    (tmp_path / "cache" / before).mkdir(parents=True)
    entry = build(tmp_path).folder
    assert entry.name != before
    assert (entry.parent / before).is_dir()


@pytest.mark.parametrize(("name", "how"), DAMAGES)
def test_a_torn_entry_is_made_again(name: str, how: str, root: Path, tmp_path: Path) -> None:
    folder = build(tmp_path).folder
    whole, path = content(folder), folder / name
    if how == "gone":
        path.unlink()
    else:
        as_it_was = path.read_bytes()
        half = as_it_was[: len(as_it_was) // 2]
        others = {"cut": half, "longer": as_it_was + b"x", "garbled": as_it_was.replace(b",", b";")}
        path.write_bytes((others | {"NUL": bytes(len(as_it_was))}).get(how, how.encode()))
    build(tmp_path)
    assert content(folder) == whole


def test_the_owner_alone_may_look(root: Path, tmp_path: Path) -> None:
    # The index holds patients' ids.
    assert stat.S_IMODE(build(tmp_path).folder.stat().st_mode) == 0o700


def test_no_image_at_all_is_an_entry_too(tmp_path: Path) -> None:
    (tmp_path / "root" / "00").mkdir(parents=True)
    (tmp_path / "root" / "00" / "0.txt").write_text("none 1")
    for _ in range(2):
        cached = build(tmp_path)
        assert cached.images.shape == (0, SIZE, SIZE)
        assert len(cached.skipped) == 1
    assert n_read(tmp_path) == 1


def test_names_that_are_no_text_come_back_as_they_are(root: Path, tmp_path: Path) -> None:
    # Regression: a name of bytes that are no UTF-8 ended the build with UnicodeEncodeError, when all else was done.
    names = ["03/sch\udcf6n.txt", "03/\udcff none.txt"]
    (root / names[0]).write_text("one")
    (root / names[1]).write_text("none 1")
    for _ in range(2):
        cached = build(tmp_path)
        assert names[0] in {record.file for record in cached.records}
        assert names[1] in {name for name, _ in cached.skipped}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("many", [False, True])
def test_a_failed_write_leaves_no_entry_and_the_next_job_goes_on(
    workers: int, many: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Regression: a memory-mapped file that outgrows its disk ends the process with SIGBUS.
    open_file = Path.open

    def nearly_full(path: Path, mode: str = "r", **options: object) -> object:
        file = open_file(path, mode, **options)
        if path.name != "images.f2":
            return file
        written = []

        class Full:
            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def __getattr__(self, name: str) -> object:
                return getattr(file, name)

            def write(self, data: bytes) -> None:
                if len(written) == 3:
                    file.write(data[:7])
                    raise OSError(errno.ENOSPC, "No space left on device")
                written.append(file.write(data))

        return Full()

    if many:
        monkeypatch.setattr(cache, "MANY_FILES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", nearly_full)
        with pytest.raises(OSError, match="No space left"):
            build(tmp_path, workers)
    [scratch] = (path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")
    assert scratch.suffix == ".part"
    (tmp_path / "read.log").unlink()
    folder = build(tmp_path).folder
    assert n_read(tmp_path) == 9  # of three tasks out of six
    assert content(folder) == content(decode(root, list_tasks(root), read, "made up", SIZE, tmp_path / "x", 1).folder)


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_reader_that_raises_is_heard_and_what_came_before_is_kept(
    workers: int, many: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = list_tasks(root)
    (root / "04" / "1.txt").write_text("raise")
    if many:
        monkeypatch.setattr(cache, "MANY_FILES", 1)
    with pytest.raises(RuntimeError, match=r"cannot read 04/1\.txt"):
        build(tmp_path, workers, tasks=tasks)
    (root / "04" / "1.txt").write_text("two 4 1")
    (tmp_path / "read.log").unlink()
    build(tmp_path, tasks=tasks)
    assert n_read(tmp_path) == 6  # the tasks 04 and 05


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line_and_nothing_is_lost(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "04" / "1.txt").write_text("kill")
    (root / "03" / "1.txt").write_text("slow")
    monkeypatch.setattr(cache, "MANY_FILES", 1)
    with pytest.raises(CacheError, match="was killed, perhaps for lack of memory; start again: it goes on") as error:
        build(tmp_path, workers=2)
    assert "\n" not in str(error.value)
    (tmp_path / "read.log").unlink()
    entry = build(tmp_path, workers=1).folder
    assert 6 <= n_read(tmp_path) <= 9  # 03 may have been under way
    assert content(entry) == content(decode(root, list_tasks(root), read, "made up", SIZE, tmp_path / "x", 1).folder)


def test_what_killed_jobs_left_is_dropped_after_a_week(root: Path, tmp_path: Path) -> None:
    old, fresh = (tmp_path / "cache" / name for name in ("old.part", "fresh.part"))
    for folder, days in ((old, 8), (fresh, 6)):
        folder.mkdir(parents=True)
        (folder / "images.f2").touch()
        os.utime(folder, (time.time() - days * 86400,) * 2)
    build(tmp_path)
    assert not old.exists()
    assert fresh.exists()


def test_an_old_beginning_that_a_job_goes_on_from_is_not_dropped(root: Path, tmp_path: Path) -> None:
    # Regression: its time of change stayed that of the first job, and another job's build took it away.
    (root / "03" / "0.txt").write_text("raise")
    tasks = list_tasks(root)
    with pytest.raises(RuntimeError):
        build(tmp_path, tasks=tasks)
    [scratch] = (tmp_path / "cache").glob("*.part")
    os.utime(scratch, (time.time() - 8 * 86400,) * 2)
    seen = []

    def read_beside_another_job(root: Path, names: list[str], size: int) -> cache_job.Decoded:
        if not seen:
            seen.append(build(tmp_path, recipe="another", tasks=tasks[:1]))
            (root / "03" / "0.txt").write_text("one 3 0")
        return read(root, names, size)

    assert len(build(tmp_path, tasks=tasks, read=read_beside_another_job).records) == 18
    assert seen


def test_a_cache_that_no_folder_can_be_made_for_is_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(CacheError, match=r"^paths\.cache_dir=.*/cache: no folder can be made there \(File exists\)$"):
        build(tmp_path)
