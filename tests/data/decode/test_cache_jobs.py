"""The cache under jobs that are killed, that start together, and that leave half-written files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cache_job
import pytest
from cache_job import SIZE, list_tasks, read, write_files

from hqcnn_lab.data.decode.cache import decode

pytestmark = pytest.mark.slow

# As a user writes it: with no `if __name__ == "__main__":`.
SCRIPT = """
import sys
from pathlib import Path
from cache_job import SIZE, list_tasks, read
from hqcnn_lab.data.decode import cache

cache.MANY_FILES = 1  # so that processes decode
root, cache_dir, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
print(len(cache.decode(root, list_tasks(root), read, "made up", SIZE, cache_dir, workers).records))
"""


def start(tmp_path: Path, workers: int = 1, script: str | Path = cache_job.__file__) -> subprocess.Popen[str]:
    arguments = [script, str(tmp_path / "root"), str(tmp_path / "cache"), str(workers)]
    here = Path(__file__)
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": f"{here.parents[3]}{os.pathsep}{here.parents[2]}", "PYTHONUNBUFFERED": "1"},
    )


def log(tmp_path: Path) -> list[str]:
    path = tmp_path / "read.log"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(tmp_path: Path, n_read: int, job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while len(log(tmp_path)) < n_read:
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def entry(folder: Path) -> dict[str, bytes]:
    [found] = (path for path in folder.iterdir() if path.suffix != ".lock")
    assert not found.suffix
    return {path.name: path.read_bytes() for path in found.iterdir()}


def uninterrupted(tmp_path: Path) -> dict[str, bytes]:
    root = tmp_path / "root"
    (tmp_path / "go").touch()
    decode(root, list_tasks(root), read, "made up", SIZE, tmp_path / "uninterrupted", 1)
    return entry(tmp_path / "uninterrupted")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_job_is_gone_on_with_to_the_same_bytes(workers: int, tmp_path: Path) -> None:
    write_files(tmp_path / "root", 8)
    (tmp_path / "root" / "05" / "1.txt").write_text("wait")
    job = start(tmp_path, workers)
    wait_for(tmp_path, 17 if workers == 1 else 22, job)  # of 24; with two, 06 and 07 are read while 05 waits
    time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    [scratch] = (tmp_path / "cache").glob("*.part")
    assert len((scratch / "journal.jsonl").read_text().splitlines()) == 5
    (tmp_path / "read.log").unlink()
    (tmp_path / "go").touch()
    again = start(tmp_path, workers)
    assert again.communicate()[1] == ""
    assert again.returncode == 0
    assert len(log(tmp_path)) == 9  # 05, 06, 07
    assert entry(tmp_path / "cache") == uninterrupted(tmp_path)


def test_a_script_needs_no_guard_around_its_main_part(tmp_path: Path) -> None:
    # Regression: the workers ran the script again, and waited for the lock that it holds.
    write_files(tmp_path / "root", 4)
    (tmp_path / "script.py").write_text(SCRIPT)
    job = start(tmp_path, 2, tmp_path / "script.py")
    assert (*job.communicate(timeout=60), job.returncode) == ("12\n", "", 0)
    assert entry(tmp_path / "cache") == uninterrupted(tmp_path)


def test_workers_end_with_the_job_that_is_killed(tmp_path: Path) -> None:
    # Regression: they stayed for ever, as many as there are cores for each killed job.
    write_files(tmp_path / "root", 4)
    (tmp_path / "root" / "03" / "2.txt").write_text("wait")
    (tmp_path / "script.py").write_text(SCRIPT)
    job = start(tmp_path, 2, tmp_path / "script.py")
    wait_for(tmp_path, 10, job)
    job.kill()
    job.communicate()
    deadline = time.monotonic() + 30
    while (alive := _is_alive(job.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


TEARS = {
    "nothing": lambda images, journal: (images, journal),
    "last line torn": lambda images, journal: (images, journal[:-9]),
    "last line without its end": lambda images, journal: (images, journal[:-1]),
    "line of rubbish": lambda images, journal: (images, journal + b"\0\0\0\0"),
    "images longer": lambda images, journal: (images + b"half an image", journal),
    "images shorter": lambda images, journal: (images[:-1], journal),
    "images of one task alone": lambda images, journal: (images[: 3 * 2 * SIZE**2], journal),
    "no images": lambda images, journal: (b"", journal),
    "no journal": lambda images, journal: (images, b""),
}
LEFT = dict.fromkeys(TEARS, 4) | {"nothing": 3, "line of rubbish": 3, "images longer": 3}
LEFT |= {"images of one task alone": 5, "no images": 6, "no journal": 6}


@pytest.mark.parametrize("tear", TEARS)
def test_what_a_killed_job_left_half_written_is_cut_off(tear: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_files(root, 6)
    tasks = list_tasks(root)
    (root / "03" / "2.txt").write_text("raise")
    with pytest.raises(RuntimeError):
        decode(root, tasks, read, "made up", SIZE, tmp_path / "cache", 1)
    (root / "03" / "2.txt").write_text("none 3 2")
    [scratch] = (tmp_path / "cache").glob("*.part")
    paths = scratch / "images.f2", scratch / "journal.jsonl"
    for path, content in zip(paths, TEARS[tear](*(path.read_bytes() for path in paths)), strict=True):
        path.write_bytes(content)
    (root / "04" / "2.txt").write_text("raise")  # and once more, as what is left now has to fit together too
    (tmp_path / "read.log").unlink()
    with pytest.raises(RuntimeError):
        decode(root, tasks, read, "made up", SIZE, tmp_path / "cache", 1)
    (root / "04" / "2.txt").write_text("none 4 2")
    decode(root, tasks, read, "made up", SIZE, tmp_path / "cache", 1)
    assert len(log(tmp_path)) == 3 * LEFT[tear] + 1
    assert entry(tmp_path / "cache") == uninterrupted(tmp_path)


def test_jobs_that_start_together_build_once(tmp_path: Path) -> None:
    write_files(tmp_path / "root", 4)
    (tmp_path / "root" / "02" / "1.txt").write_text("wait")
    jobs = [start(tmp_path), start(tmp_path)]
    # Whichever comes second says that it waits.
    time.sleep(0.1)
    deadline = time.monotonic() + 30
    while len(log(tmp_path)) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(2.5)
    (tmp_path / "go").touch()
    results = [job.communicate(timeout=30) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], results
    assert sorted(out for out, _ in results) == ["", "another job is decoding the same images; waiting for it\n"]
    assert len(log(tmp_path)) == len(set(log(tmp_path))) == 12
    assert entry(tmp_path / "cache") == uninterrupted(tmp_path)


def test_a_waiting_job_takes_over_from_one_that_is_killed(tmp_path: Path) -> None:
    write_files(tmp_path / "root", 4)
    (tmp_path / "root" / "02" / "1.txt").write_text("wait")
    first = start(tmp_path)
    wait_for(tmp_path, 8, first)
    second = start(tmp_path)
    assert second.stdout.readline() == "another job is decoding the same images; waiting for it\n"
    first.kill()
    first.communicate()
    (tmp_path / "go").touch()
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert len(log(tmp_path)) == 8 + 6  # 00 and 01 are not read again
    assert entry(tmp_path / "cache") == uninterrupted(tmp_path)


def test_the_journal_is_json_lines_and_goes_with_the_build(tmp_path: Path) -> None:
    write_files(tmp_path / "root", 2)
    folder = decode(
        tmp_path / "root", list_tasks(tmp_path / "root"), read, "made up", SIZE, tmp_path / "cache", 1
    ).folder
    assert sorted(path.name for path in folder.iterdir()) == ["entry.json", "images.f2", "index.csv"]
    assert json.loads((folder / "entry.json").read_text())["bytes"]["images.f2"] == 6 * 2 * SIZE**2
