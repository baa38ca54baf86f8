"""The phantom's images that are kept: the same bits as drawn ones, whatever has become of the file."""

import numpy as np
import pytest

from hqcnn_lab.data import PhantomDataModule
from hqcnn_lab.data.phantom import generate, kept
from hqcnn_lab.data.phantom.kept import kept_or_drawn


@pytest.fixture
def n_drawn(monkeypatch):
    """How often images were drawn; few are worth keeping."""
    counted, draw = [], generate.generate
    monkeypatch.setattr(kept, "_WORTH_KEEPING", 1)
    monkeypatch.setattr(generate, "generate", lambda *arguments: (counted.append(arguments), draw(*arguments))[1])
    return counted


def test_drawn_once_and_then_read(n_drawn, tmp_path):
    first, second = (kept_or_drawn(40, 3, 16, tmp_path / "cache") for _ in range(2))
    assert len(n_drawn) == 1
    for drawn, read in zip(first, second, strict=True):
        assert drawn.dtype == read.dtype
        np.testing.assert_array_equal(drawn, read)


def test_what_differs_is_drawn(n_drawn, tmp_path):
    for arguments in ((40, 3, 16), (41, 3, 16), (40, 4, 16), (40, 3, 18)):
        kept_or_drawn(*arguments, tmp_path)
    assert len(n_drawn) == 4
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"PK\3\4", "shorter", "zeros"])
def test_a_damaged_file_is_written_again(n_drawn, tmp_path, damage):
    images, _ = kept_or_drawn(40, 3, 16, tmp_path)
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    # Regression: pixels that had become zeros were taken as they are, and a zip file's first bytes ended every start.
    torn = {"shorter": content[:-100], "zeros": content[:-1000] + bytes(900) + content[-100:]}
    path.write_bytes(damage if isinstance(damage, bytes) else torn[damage])
    np.testing.assert_array_equal(kept_or_drawn(40, 3, 16, tmp_path)[0], images)
    np.testing.assert_array_equal(kept_or_drawn(40, 3, 16, tmp_path)[0], images)
    assert len(n_drawn) == 2


def test_the_newest_are_kept_and_nothing_of_others_is_touched(n_drawn, tmp_path):
    # Regression: unfinished downloads in the same folder were removed.
    others = [tmp_path / name for name in ("film.mp4.part", "x.99999999.part", "phantom.txt")]
    for other in others:
        other.touch()
    for seed in range(kept._MOST_FILES + 2):
        kept_or_drawn(40, seed, 16, tmp_path)
    assert len(list(tmp_path.glob("phantom-*.npy"))) == kept._MOST_FILES
    assert all(other.exists() for other in others)
    kept_or_drawn(40, seed, 16, tmp_path)
    assert len(n_drawn) == kept._MOST_FILES + 2


def test_very_many_are_not_kept(n_drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_MOST_PIXELS", 100)
    kept_or_drawn(40, 3, 16, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_keeps_nothing(n_drawn, tmp_path):
    (tmp_path / "file").touch()
    kept_or_drawn(40, 3, 16, tmp_path / "file" / "cache")
    assert len(n_drawn) == 1


def test_few_images_are_drawn_always(tmp_path):
    kept_or_drawn(40, 3, 16, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_data_set_keeps_its_images_where_it_is_told(n_drawn, tmp_path):
    for keep_in in (None, tmp_path, tmp_path):
        data = PhantomDataModule(n_train=80, n_test=24, image_size=16)
        data.keep_in = keep_in
        data.setup()
    assert len(n_drawn) == 4  # both sides, for None and once more
    assert len(list(tmp_path.iterdir())) == 2
