"""A run's metrics as arrays, also where its file ends in the middle of a number."""

from pathlib import Path

import numpy as np
import pytest

from hqcnn_lab.analysis.metrics import read_metrics

TABLE = "epoch,step,train/loss,val/loss\r\n0,9,1.5,\r\n0,19,,1.25\r\n1,29,nan,\r\n"


def write(folder: Path, text: str) -> Path:
    (folder / "metrics.csv").write_bytes(text.encode())
    return folder


def test_each_metric_has_the_steps_it_was_logged_at(tmp_path: Path) -> None:
    metrics = read_metrics(write(tmp_path, TABLE))
    assert list(metrics) == ["epoch", "train/loss", "val/loss"]
    for name, steps, values in (
        ("epoch", [9, 19, 29], [0, 0, 1]),
        ("train/loss", [9, 29], [1.5, np.nan]),
        ("val/loss", [19], [1.25]),
    ):
        np.testing.assert_array_equal(metrics[name][0], steps)
        np.testing.assert_array_equal(metrics[name][1], values)
        assert (metrics[name][0].dtype, metrics[name][1].dtype) == (np.int64, np.float64)


def test_wherever_the_file_is_cut_only_whole_lines_are_read(tmp_path: Path) -> None:
    ends = [i + 1 for i, byte in enumerate(TABLE) if byte == "\n"]
    for cut in range(len(TABLE) + 1):
        metrics = read_metrics(write(tmp_path, TABLE[:cut]))
        n_rows = sum(cut >= end for end in ends[1:])  # the first line is the header
        assert (len(metrics["epoch"][0]) if metrics else 0) == n_rows
        assert [1.5, np.nan][:n_rows][:1] == list(metrics.get("train/loss", ([], []))[1][:1])


def test_what_is_no_table_of_metrics_is_named(tmp_path: Path) -> None:
    for text in ("epoch,train/loss\n0,1.5\n", "step,train/loss\n3,abc\n", "step,a\n3,1,7\n"):
        with pytest.raises(ValueError, match=r"metrics\.csv: not a table of metrics by step"):
            read_metrics(write(tmp_path, text))
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "nowhere")
