"""A split written here is found again there: same images, same parts, same order, or a reason why not."""

import multiprocessing
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqcnn_lab.data.split.cut import Split
from hqcnn_lab.data.split.manifest import (
    Row,
    load_salt,
    manifest_hash,
    manifest_text,
    pseudonym,
    read_manifest,
    split_from_manifest,
)

CLASSES = ("glioma", "meningioma")
HEADER = "file,frame,content,split,label,group\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def _rows(tmp_path: Path, *lines: str) -> list[Row]:
    return read_manifest(_write(tmp_path / "split_manifest.csv", HEADER + "".join(f"{line}\n" for line in lines)))


def test_a_table_people_can_read() -> None:
    split = Split(np.array([2, 3]), np.array([1]), np.array([0]))
    text = manifest_text(
        split,
        ["Testing/a.jpg", 'b, "the" b.jpg', "c.dcm", "c.dcm", "left out.jpg"],
        ["", "", "0", "1", ""],
        ["h0", "h1", "h2", "h2", "h4"],
        np.array([0, 1, 1, 1, 0]),
        CLASSES,
        ["0", "1", "5d2f", "5d2f", "4"],
    )
    assert text == HEADER + (
        "Testing/a.jpg,,h0,test,glioma,0\n"
        '"b, ""the"" b.jpg",,h1,val,meningioma,1\n'
        "c.dcm,0,h2,train,meningioma,5d2f\n"
        "c.dcm,1,h2,train,meningioma,5d2f\n"
    )
    assert re.fullmatch("[0-9a-f]{16}", manifest_hash(text))
    assert manifest_hash(text) != manifest_hash(text.replace("train", "val"))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Split, list[str], list[str], list[str], np.ndarray]:
    """Images of distinct names, some with the same content, and a split that may leave some out."""
    n = draw(st.integers(1, 25))
    names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1, max_size=8)
    files = draw(st.lists(names, min_size=n, max_size=n, unique=True))
    contents = draw(st.lists(st.sampled_from("abcdefgh"), min_size=n, max_size=n))
    frames = draw(st.lists(st.sampled_from(["", "0", "7"]), min_size=n, max_size=n))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    part = np.array(["train", *draw(st.lists(st.sampled_from([*Split._fields, "none"]), min_size=n, max_size=n))][:n])
    return Split(*(np.flatnonzero(part == name) for name in Split._fields)), files, frames, contents, labels


@given(table=tables(), data=st.data())
def test_round_trip_on_another_machine(
    tmp_path_factory: pytest.TempPathFactory, table: tuple, data: st.DataObject
) -> None:
    split, files, frames, contents, labels = table
    text = manifest_text(split, files, frames, contents, labels, CLASSES, ["0"] * len(files))
    rows = read_manifest(_write(tmp_path_factory.mktemp("there") / "m.csv", text))
    # There the images are listed in another order, among others.
    order = data.draw(st.permutations(range(len(files))))
    again = split_from_manifest(
        rows,
        [*(files[i] for i in order), "new"],
        [*(frames[i] for i in order), ""],
        [*(contents[i] for i in order), "zzz"],
        np.array([*labels[order], 0]),
        CLASSES,
    )
    for part, found in zip(split, again, strict=True):
        assert [order[i] for i in found] == part.tolist()


@given(table=tables(), data=st.data())
def test_other_names_change_nothing_but_which_copy_is_which(
    tmp_path_factory: pytest.TempPathFactory, table: tuple, data: st.DataObject
) -> None:
    split, files, frames, contents, labels = table
    text = manifest_text(split, files, frames, contents, labels, CLASSES, ["0"] * len(files))
    rows = read_manifest(_write(tmp_path_factory.mktemp("there") / "m.csv", text))
    renamed = [f"{i:03d}" for i in data.draw(st.permutations(range(len(files))))]
    again = split_from_manifest(rows, renamed, frames, contents, labels, CLASSES)
    assert len(set(np.concatenate(again).tolist())) == sum(map(len, split))
    for part, found in zip(split, again, strict=True):
        for i, j in zip(part, found, strict=True):
            assert (contents[i], frames[i], labels[i]) == (contents[j], frames[j], labels[j])


def test_copies_are_told_apart_by_name_then_label_then_order(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "b.jpg,,h,test,glioma,0", "old/x.jpg,,h,train,meningioma,0", "old/y.jpg,,h,val,glioma,0")
    files, labels = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], np.array([0, 0, 0, 1])
    split = split_from_manifest(rows, files, [""] * 4, ["h"] * 4, labels, CLASSES)
    assert [part.tolist() for part in split] == [[3], [0], [1]]  # c.jpg is one copy more than the table knows


def test_thousands_of_copies_are_no_burden(tmp_path: Path) -> None:
    n = 20_000
    rows = [Row(f"{i}.jpg", "", "h", "train", "glioma", "0") for i in range(n)]
    split = split_from_manifest(rows, [f"{i}.png" for i in range(n)], [""] * n, ["h"] * n, np.zeros(n, int), CLASSES)
    assert sorted(split.train) == list(range(n))


def test_missing_and_relabelled_images_are_refused(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "a.jpg,,ha,train,glioma,0", "b.jpg,,hb,val,glioma,1", "b.jpg,3,hb,test,glioma,2")
    labels = np.array([0, 0])
    with pytest.raises(ValueError, match=r"^2 of the manifest's 3 images are not here, such as a\.jpg$"):
        split_from_manifest(rows, ["x", "b.jpg"], ["", ""], ["hx", "hb"], labels, CLASSES)
    with pytest.raises(ValueError, match=r"^1 images .* such as q\.jpg: meningioma here, glioma there$"):
        split_from_manifest(rows[:2], ["b.jpg", "q.jpg"], ["", ""], ["hb", "ha"], np.array([0, 1]), CLASSES)
    with pytest.raises(ValueError, match="1 of the manifest's 2 images"):  # two are listed, one is here
        split_from_manifest(
            [rows[0], rows[0]._replace(file="z.jpg", split="test")], ["a.jpg"], [""], ["ha"], np.array([0]), CLASSES
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1: the columns have to be file,frame,content,split,label,group"),
        (b"file,split\n", "line 1: the columns have to be"),
        (HEADER.encode(), "no image in it"),
        (f"{HEADER}a,,h,train,glioma,0\n\nb,,h,train\n".encode(), "line 4: 4 columns, not 6"),
        (f"{HEADER}a,,h,holdout,glioma,0\n".encode(), "line 2: split 'holdout' is none of train, val, test"),
        (f"{HEADER}a,,,train,glioma,0\n".encode(), "line 2: content is empty"),
        (f"{HEADER}a,one,h,train,glioma,0\n".encode(), "line 2: frame 'one' is no number"),
        (f"{HEADER}a,,h,train,glioma,0\na,,h,test,glioma,0\n".encode(), "line 3: a is on line 2 already"),
        (f'{HEADER}"a,,h,train,glioma,0\n'.encode(), "line 2: unexpected end of data"),
        (b"file,frame\xff", "not UTF-8 at byte 10"),
    ],
)
def test_malformed_tables_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "split_manifest.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
        read_manifest(path)
    assert "split_manifest.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_table_and_a_table_from_a_spreadsheet(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.csv: No such file"):
        read_manifest(tmp_path / "none.csv")
    path = tmp_path / "sheet.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}a,,h,train,glioma,0\n".replace("\n", "\r\n").encode())
    assert read_manifest(path) == [Row("a", "", "h", "train", "glioma", "0")]


def test_names_that_are_no_text_do_not_stop_it() -> None:
    text = manifest_text(
        Split(*(np.array(p, int) for p in ([0], [], []))), ["\udcff.jpg"], [""], ["h"], np.array([0]), CLASSES, ["0"]
    )
    assert "\\udcff.jpg" in text
    manifest_hash(text)


def test_pseudonyms_need_the_salt(tmp_path: Path) -> None:
    salt = load_salt(tmp_path / "cache")
    assert salt == load_salt(tmp_path / "cache")
    assert salt != load_salt(tmp_path / "elsewhere")
    assert re.fullmatch("[0-9a-f]{12}", pseudonym("17", salt))
    assert len({pseudonym(str(number), salt) for number in range(1000)}) == 1000
    assert pseudonym("17", salt) != pseudonym("17", load_salt(tmp_path / "elsewhere"))
    assert stat.S_IMODE((tmp_path / "cache" / "salt" / "salt.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "cache" / "salt").stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["salt"]
    (tmp_path / "cache" / "salt" / "salt.txt").write_text("")
    with pytest.raises(ValueError, match="damaged; remove it"):
        load_salt(tmp_path / "cache")


def test_processes_that_start_together_share_a_salt(tmp_path: Path) -> None:
    with multiprocessing.get_context("forkserver").Pool(4) as pool:
        for attempt in range(25):
            assert len(set(pool.map(load_salt, [tmp_path / str(attempt)] * 4, chunksize=1))) == 1


def test_torch_is_not_loaded() -> None:
    code = "import sys, hqcnn_lab.data.split.manifest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
