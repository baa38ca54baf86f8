"""Whatever a record file holds, every reader goes on: a damaged run costs its own row, and the reason is told."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import tiny_config
from garbled_files import MAPPINGS, TABLES, Garbling, garblings
from omegaconf import DictConfig
from run_folders import set_status, write_run

from hqcnn_lab.analysis import load_runs, offline
from hqcnn_lab.analysis.metrics import read_metrics
from hqcnn_lab.analysis.predictions import read_correct, read_groups
from hqcnn_lab.models.trained import UnusableRun, load_run
from hqcnn_lab.reporting import pictures
from hqcnn_lab.reporting.contents import make_contents
from hqcnn_lab.reporting.write import write_report
from hqcnn_lab.run import resume
from hqcnn_lab.run.find_run import newest_run
from hqcnn_lab.sweep import multirun
from hqcnn_lab.sweep.declaration import Run
from hqcnn_lab.sweep.job_table import job_rows, write_jobs
from hqcnn_lab.sweep.jobs import Job
from hqcnn_lab.sweep.study_tables import commits, problem_of, rows_of

pytestmark = pytest.mark.slow

EVERY = "HQCNN_EVERY_GARBLING" in os.environ  # all 1,600, in place of every twelfth
DIGEST = "0123456789ab"
FILES = (*MAPPINGS, *TABLES)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two whole runs in a folder whose name has what patterns are made of, and `c`, which is to be damaged."""
    monkeypatch.setattr(resume, "digest", lambda config: DIGEST)
    for seed, name in enumerate("abc"):
        complete(write_run(tmp_path / "sw[e]ep *ö" / name, seed=seed))
    return tmp_path / "sw[e]ep *ö"


def complete(run: Path) -> Path:
    """What else a job leaves behind."""
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"digest": DIGEST, "code": "fedcba987654"}))
    (run / "audit.json").write_text('{"split": "official", "conflicts": [["a.jpg", "b.jpg"]]}')
    (run / "output.log").write_text("epoch 1/3\n")
    return run


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    return tiny_config(tmp_path_factory.mktemp("nowhere"))


def spread(run: Path, name: str, part: int = 12) -> Iterator[Garbling]:
    """Some garblings, of each kind about as many."""
    every = list(garblings(name, (run / name).read_bytes()))
    yield from every if EVERY else random.Random(name).sample(every, len(every) // part)


@pytest.mark.parametrize("name", FILES)
def test_every_reader_takes_any_file(name: str, sweep: Path, config: DictConfig) -> None:
    run = sweep / "c"
    whole = load_runs([sweep / "a", sweep / "b"])
    kept = (run / name).read_bytes()
    summary = (run / "summary.json").read_bytes()
    for what, garble in spread(run, name):
        garble(run / name)
        if name == "metrics.csv":
            (run / "summary.json").unlink()  # or it would not be looked at
        try:
            read_all(run, config, whole)
        except Exception as error:
            raise AssertionError(f"{name}, {what}") from error
        finally:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
            (run / name).write_bytes(kept)
            (run / "summary.json").write_bytes(summary)


def read_all(run: Path, config: DictConfig, whole: list[dict]) -> None:
    sweep = run.parent
    *others, row = load_runs(sweep)
    assert others == whole
    assert len(row["torn"]) == len(row["problems"])
    json.dumps(row).encode()
    assert len(job_rows(sweep)) == 3
    write_jobs(sweep)
    multirun._seconds_of_last(config, sweep)
    assert len(resume.matching_runs(sweep, config)) >= 2
    resume.find_unfinished(sweep, config)
    resume.continue_run(config.copy(), sweep)
    job = Run("exact", "adam", "final", 1.0, 0.1, 2, Job(run, ()), epochs=3, read_at=(1,))
    states = {row["status"] for row in rows_of(job)}
    assert states <= {"finished", "diverged", "failed", "interrupted", "unreadable"}
    problem_of(job)
    list(commits([run]))
    assert newest_run(sweep) is not None
    for read in (read_correct, read_metrics, lambda folder: read_groups(folder, ["Testing/0000.jpg"])):
        with suppress(ValueError, FileNotFoundError):
            read(run)


def test_a_damaged_run_costs_a_report_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: one of two hundred runs with `status.json` = `[]` ended the whole report.
    monkeypatch.setattr(pictures, "N_CIRCUITS", 1)  # they take a third of a second each
    top = tmp_path / "sweep"
    for optim in ("Adam", "SGD"):
        for seed in range(3):
            complete(write_run(top / f"{optim}{seed}", optim, seed))
    alone = make_contents(load_runs(top), [top])
    damaged = []
    for name in FILES:
        for n, (what, garble) in enumerate(spread(top / "Adam0", name, 40)):
            run = complete(write_run(top / f"{name}-{n}", "RAdam", 100 + len(damaged), n_test=12))
            garble(run / name)
            damaged.append((run, name, what))
    rows = load_runs(top)
    contents = make_contents(rows, [top])
    assert len(rows) == 6 + len(damaged)

    def figures(of: list[list[str]]) -> list[list[str]]:
        return [[row[0], *row[2:]] for row in of if row[0].startswith(("sweep/Adam", "sweep/SGD"))]

    assert figures(contents.runs.rows) == figures(alone.runs.rows)
    means = {row[2] for part in contents.parts for row in part.summary.rows}  # names may have become longer
    assert {row[2] for row in alone.parts[0].summary.rows} <= means
    for path in write_report([top], tmp_path / "out"):
        assert path.stat().st_size > 1000
    told = {(Path(row[0]).name, row[2]) for row in contents.unusable.rows}
    always = {"status.json", "environment.json", "summary.json", "config.yaml", "predictions.csv"}
    for run, name, what in damaged:
        if what in ("a folder", "deep", "empty", "random 3") and name in always:
            assert (run.name, name) in told, what


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("status.json", "[]", "holds a list, not names with values"),
        ("status.json", '{"status": "done"}', "says of status what is not running, finished or failed"),
        ("status.json", '{"status": "failed", "error": 3}', "says of error what is not a text"),
        ("environment.json", "null", "holds nothing, not names with values"),
        ("summary.json", '{"test/accuracy": [1]}', "says of test/accuracy what is not between 0 and 1"),
        ("summary.json", '{"train/loss": 1' + "0" * 400 + "}", "holds a number of more than 64 bits"),
        ("summary.json", '{"epochs": -3}', "says of epochs what is not a whole number from 0 on"),
        ("summary.json", "[" * 100_000, "is nested too deeply"),
        ("config.yaml", "optim: {lr: '0.1'}", "says of optim.lr what is not a finite number"),
        ("config.yaml", "[" * 100_000, "is nested too deeply"),  # which ended the process in yaml's C code
        ("config.yaml", "a: &a [*a]", "holds more than 50,000 values"),
        ("config.yaml", "", "is empty"),
    ],
)
def test_the_reason_is_in_the_row_and_on_the_page(name: str, text: str, why: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_text(text)
    rows = load_runs(run)
    assert (rows[0]["torn"], rows[0]["problems"]) == ([name], [f"{name} {why}"])
    assert make_contents(rows, [tmp_path]).unusable.rows[0][2:] == [name, why]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("metrics.csv", "step,epoch,train/loss\n-1,0,0.5\n", "has a line that is no step with its metrics (2)"),
        ("metrics.csv", "step,epoch,train/loss\n1,nan,0.5\n", "has an epoch that is no whole number from 0 on"),
        ("metrics.csv", "step,epoch,train/loss\n1,0," + "x" * 200_000 + "\n", "is no table (line 2: field larger"),
        ("predictions.csv", "file,label,prediction,p/a\nx,a,a,nan\n", "has a probability that is not between 0 and 1"),
        ("split_manifest.csv", "\0", "is no table with file, split, group in each row"),
        ("audit.json", '{"conflicts": 3}', "says of conflicts what is not a list"),
    ],
)
def test_what_the_report_reads_later_is_told_too(name: str, text: str, why: str, tmp_path: Path) -> None:
    (write_run(tmp_path / "run") / name).write_text(text)
    assert make_contents(load_runs(tmp_path), [tmp_path]).unusable.rows[0][2] == name
    assert make_contents(load_runs(tmp_path), [tmp_path]).unusable.rows[0][3].startswith(why)


def test_huge_counts_are_neither_drawn_nor_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hqcnn_lab.quantum import draw

    gates = []
    monkeypatch.setattr(draw, "draw_figure", lambda circuit: gates.append(len(circuit.gates)) or pytest.fail("drawn"))
    for n, circuit in enumerate([{"n_wires": 10**9}, {"n_layers": 10**12}, {"n_wires": 24, "n_layers": 40}]):
        whole = {"ansatz": "hardware_efficient", "encoder": "angle_y", "readout": "z", "seed": 0, "n_layers": 2}
        whole |= {"n_wires": 4} | circuit
        data = {"_target_": "hqcnn_lab.data.PhantomDataModule", "n_train": 10**9, "n_test": 10**9, "image_size": 64}
        run = write_run(
            tmp_path / str(n),
            seed=n,
            circuit=whole,
            dataset=data,
            model={"_target_": "hqcnn_lab.models.HQCNN", "kernel": "quantum", "circuit": whole},
        )
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").touch()
    contents = make_contents(load_runs(tmp_path), [tmp_path])
    assert "Not drawn: 3 circuits of more than 500 gates." in contents.notes
    assert gates == []
    assert contents.parts[0].mistakes[0].note == (
        "Images are not shown: the data are not those that the run was trained on."
    )


def test_a_study_whose_runs_are_not_to_be_read_has_a_row(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    for n, content in enumerate([b"\xff", b"", b'run\n"', b"arm\nx\n", b"run\n" + b"x" * 5000 + b"\n../runs/a\n"]):
        out = tmp_path / f"study{n}"
        out.mkdir()
        (out / "study.yaml").touch()
        (out / "runs.csv").write_bytes(content)
        rows = load_runs([out, tmp_path / "runs"])
        assert [row["state"] for row in rows] == (["failed", "finished"] if n < 4 else ["finished"])
        assert n == 4 or rows[0]["torn"] == ["runs.csv"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "[" * 100_000, '{"config": [], "summary": 3, "name": {}, "start_time": 5}'),
        '{"config": {"optim": {"lr": "x"}, "seed": [1]}, "summary": {"epochs": 1e400, "a": [[]]}, "exit_code": "x"}',
        '{"run": {"git": [1]}, "config": {"_wandb": 1}, "summary": {"test/accuracy": 10}}\n{"run": []}\n[',
    ],
)
def test_an_offline_file_may_say_anything(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "offline-run-2026"
    folder.mkdir()
    (folder / "run-a.wandb").touch()
    monkeypatch.setattr(offline, "_inspect", lambda *_: text)
    [row] = load_runs(tmp_path)
    assert row["torn"] == ["run-a.wandb"]
    assert make_contents([row], [tmp_path]).unusable.rows[0][2] == "run-a.wandb"


def test_a_job_that_left_nothing_but_its_folder_is_in_the_table(tmp_path: Path) -> None:
    # Of a disk that was full at once: the sweep said "no job".
    (tmp_path / "a_0123456789ab").mkdir()
    (tmp_path / "a_0123456789ab.interrupted-1").mkdir()
    [row] = job_rows(tmp_path)
    assert (row["job"], row["state"], row["reason"]) == ("a_0123456789ab", "interrupted", "ended without a word")


def test_a_network_is_taken_from_a_run_or_the_reason_is_one_line(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    for _, garble in spread(trained_run, "config.yaml", 100):
        garble(run / "config.yaml")
        with suppress(UnusableRun):
            load_run(run)
        shutil.rmtree(run / "config.yaml") if (run / "config.yaml").is_dir() else (run / "config.yaml").unlink()
        shutil.copy(trained_run / "config.yaml", run)


def test_a_run_of_a_status_that_cannot_be_read_is_continued(sweep: Path, config: DictConfig) -> None:
    # Its results may be worth days, and the checkpoint says where it was.
    for name in "abc":
        set_status(sweep / name, status="failed", error="interrupted")
    (sweep / "c" / "status.json").write_text("[]")
    assert sweep / "c" in resume.matching_runs(sweep, config)


def test_a_time_without_a_zone_is_utc(sweep: Path, config: DictConfig) -> None:
    # Regression: of two runs one of whose times had no zone, the order, and so the newest, was of their texts.
    for name, started in (("a", "2026-01-01T12:00:00"), ("b", "2026-01-01T12:30:00+02:00"), ("c", "2026-01-01T11:00Z")):
        set_status(sweep / name, status="failed", error="interrupted", started=started, ended="2026-01-01T13:00:00")
    assert [run.name for run in resume.matching_runs(sweep, config)] == ["a", "c", "b"]
    assert [row["started"] for row in load_runs(sweep)] == [
        f"2026-01-01T{at}:00+00:00" for at in ("12:00", "10:30", "11:00")
    ]
    assert [row["seconds"] for row in job_rows(sweep)] == [3600, 9000, 7200]


def test_what_environment_says_nothing_is_named_by_resume(
    sweep: Path, config: DictConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "c" / "environment.json").write_text("[]")
    assert len(resume.matching_runs(sweep, config)) == 2
    said = capsys.readouterr().out
    assert said.startswith("resume=auto: not known whether it is the same: ")
    assert said.endswith("c/environment.json holds a list, not names with values\n")
