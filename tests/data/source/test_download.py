"""Downloads against a server of our own that drops connections and cuts archives, and a stand-in for kagglehub."""

import io
import json
import sys
import threading
import types
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import write_kaggle_tree

from hqcnn_lab.data.source import download
from hqcnn_lab.data.source.download import DownloadError, fetch_kaggle, fetch_rembrandt
from hqcnn_lab.data.source.rembrandt_layout import find_folders

A, B, C = (f"1.3.6.1.4.1.14519.5.2.1.{i}" for i in (11, 22, 33))


def archive(*names: str, text: str = "image") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, f"{text} {name} " * 500)
    return content.getvalue()


class Archive(ThreadingHTTPServer):
    """The part of NBIA's API that is asked: per series a list of replies, the last one for good."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, list] = {}
        self.listing: list | str = []
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}/nbia-api/services/v1"


class Handler(BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if parts.path.endswith("/getSeries"):
            assert query == {"Collection": ["REMBRANDT"], "format": ["json"]}
            content = self.server.listing
            self.reply(200, (content if isinstance(content, str) else json.dumps(content)).encode())
            return
        assert parts.path == "/nbia-api/services/v1/getImage"
        [uid] = query["SeriesInstanceUID"]
        replies = self.server.replies[uid]
        reply = replies[min(self.server.asked[uid], len(replies) - 1)]
        self.server.asked[uid] += 1
        if isinstance(reply, int):
            self.reply(reply, b"no")
        else:
            self.reply(200, *((reply,) if isinstance(reply, bytes) else reply))

    def reply(self, status: int, content: bytes, cut: int | None = None) -> None:
        """With `cut`, break the connection after so many bytes of what was promised; -1: say nothing at all."""
        if cut != -1:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Archive() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.replies = {A: [archive("1-01.dcm", "1-02.dcm", "LICENSE")], B: [archive("00000001.dcm")]}
        server.listing = [{"SeriesInstanceUID": A, "ImageCount": 2}, {"SeriesInstanceUID": B, "ImageCount": "1"}]
        yield server
        server.shutdown()


def manifest(folder: Path, *uids: str) -> Path:
    head = "downloadServerUrl=https://example.invalid/x", "includeAnnotation=true", "manifestVersion=3.0"
    path = folder / "collection.tcia"
    path.write_bytes("\r\n".join([*head, "ListOfSeriesToDownload=", *uids, ""]).encode())
    return path


def content(root: Path) -> dict[str, int]:
    folders, problems = find_folders(root)
    assert problems == []
    return {folder.name: len(folder.files) for folder in folders}


WHOLE = {f"REMBRANDT/{A}": 2, f"REMBRANDT/{B}": 1}


@pytest.mark.parametrize("by_manifest", [True, False])
def test_series_land_in_folders_that_the_walk_finds(by_manifest: bool, server: Archive, tmp_path: Path) -> None:
    path = manifest(tmp_path, A, B, A) if by_manifest else None
    assert fetch_rembrandt(tmp_path / "data", path, server.url) == tmp_path / "data"
    assert content(tmp_path / "data") == WHOLE
    assert (tmp_path / "data" / "REMBRANDT" / B / "00000001.dcm").read_text() == "image 00000001.dcm " * 500
    assert server.asked == {A: 1, B: 1}


FAULTS = {
    "dropped connection": (archive("1-01.dcm", "1-02.dcm"), 700),
    "dropped before the first byte": (b"", -1),
    "truncated zip": archive("1-01.dcm", "1-02.dcm")[:-40],
    "no zip": b"<html>try later</html>",
    "empty": b"",
    "fewer images than listed": archive("1-01.dcm"),
    "damaged file": archive("1-01.dcm", "1-02.dcm").replace(b"image 1-02.dcm", b"imagf 1-02.dcm", 1),
    "server busy": 503,
    "too many requests": 429,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_transfer_that_breaks_is_tried_again(fault: str, server: Archive, tmp_path: Path) -> None:
    server.replies[A] = [FAULTS[fault], FAULTS[fault], *server.replies[A]]
    fetch_rembrandt(tmp_path, base_url=server.url)
    assert content(tmp_path) == WHOLE
    assert server.asked == {A: 3, B: 1}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_series_that_cannot_be_had_stops_no_other_and_is_fetched_later(
    fault: str, server: Archive, tmp_path: Path
) -> None:
    good, server.replies[A] = server.replies[A], [FAULTS[fault]]
    with pytest.raises(DownloadError, match=f"1 series could not be fetched, such as {A}.*; run again") as error:
        fetch_rembrandt(tmp_path, base_url=server.url)
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "REMBRANDT").iterdir()] == [B]  # and no half series beside it
    server.replies[A] = good
    fetch_rembrandt(tmp_path, base_url=server.url)
    assert content(tmp_path) == WHOLE
    assert server.asked == {A: 5, B: 1}


def test_what_is_not_there_is_asked_for_once(server: Archive, tmp_path: Path) -> None:
    server.replies[A] = [404]
    with pytest.raises(DownloadError, match=rf"1 series could not be fetched, such as {A} \(HTTP 404\)"):
        fetch_rembrandt(tmp_path, manifest(tmp_path, A, B), server.url)
    assert server.asked == {A: 1, B: 1}


def test_a_server_that_gives_nothing_is_left_in_peace(server: Archive, tmp_path: Path) -> None:
    uids = [f"1.2.3.{i}" for i in range(30)]
    server.replies = {uid: [403] for uid in uids}
    with pytest.raises(DownloadError, match="10 series could not be fetched"):
        fetch_rembrandt(tmp_path, manifest(tmp_path, *uids), server.url)
    assert server.asked.total() == 10


@pytest.mark.parametrize("name", ["../evil.dcm", "/evil.dcm", "a/../../evil.dcm", "..\\evil.dcm"])
def test_archives_write_nothing_outside(name: str, server: Archive, tmp_path: Path) -> None:
    server.replies[A] = [archive("1-01.dcm", "1-02.dcm", name)]
    with pytest.raises(DownloadError, match="its archive names files outside of its folder"):
        fetch_rembrandt(tmp_path / "data", base_url=server.url)
    assert list(tmp_path.rglob("*evil*")) == []
    assert not Path("/evil.dcm").exists()


def test_an_interrupted_download_goes_on(server: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack = download._unpack

    def interrupted(archive: Path, scratch: Path, n_images: int) -> None:
        unpack(archive, scratch, n_images)
        if B in scratch.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "_unpack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_rembrandt(tmp_path, base_url=server.url)
    assert content(tmp_path) == {f"REMBRANDT/{A}": 2}
    monkeypatch.setattr(download, "_unpack", unpack)
    # What a process that was killed outright leaves.
    (tmp_path / "REMBRANDT" / f"{B}.part").mkdir()
    (tmp_path / "REMBRANDT" / f"{B}.part" / "stale.dcm").touch()
    (tmp_path / "REMBRANDT" / f"{B}.zip.part").write_bytes(b"PK")
    fetch_rembrandt(tmp_path, base_url=server.url)
    assert content(tmp_path) == WHOLE
    assert {path.name for path in (tmp_path / "REMBRANDT").iterdir()} == {A, B}
    assert server.asked == {A: 1, B: 2}


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ([], "the archive lists no series that anyone may fetch; download the collection with NBIA Data Retriever"),
        ("<html></html>", "gave no list of series"),
        ("", "lists no series"),
        ([{"Modality": "MR"}], "gave no list of series"),
        ({"error": "no"}, "gave no list of series"),
        ([{"SeriesInstanceUID": "../../etc"}], "lists something that is no Series UID"),
    ],
)
def test_listings_that_are_none(listing: list | str, message: str, server: Archive, tmp_path: Path) -> None:
    server.listing = listing
    with pytest.raises(DownloadError, match=message) as error:
        fetch_rembrandt(tmp_path / "data", base_url=server.url)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_manifests_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the manifest cannot be read: No such file"):
        fetch_rembrandt(tmp_path, tmp_path / "absent.tcia")
    with pytest.raises(DownloadError, match="the manifest lists no series"):
        fetch_rembrandt(tmp_path, manifest(tmp_path))
    with pytest.raises(DownloadError, match="the manifest lists something that is no Series UID"):
        fetch_rembrandt(tmp_path, manifest(tmp_path, A, "../../etc"))
    (tmp_path / "other.tcia").write_text("a=b\n")
    with pytest.raises(DownloadError, match=r"no \.tcia manifest: it has no line ListOfSeriesToDownload="):
        fetch_rembrandt(tmp_path, tmp_path / "other.tcia")


@pytest.mark.parametrize("by_manifest", [True, False])
def test_without_a_network_one_line_says_what_to_do(by_manifest: bool, server: Archive, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    path = manifest(tmp_path, A, B) if by_manifest else None
    with pytest.raises(
        DownloadError, match=r"no connection to http://127.*: download the collection with NBIA"
    ) as error:
        fetch_rembrandt(tmp_path / "data", path, server.url)
    assert "\n" not in str(error.value)
    with pytest.raises(DownloadError, match="is no http address"):
        fetch_rembrandt(tmp_path / "data", path, f"file://{tmp_path}")


@pytest.fixture
def kagglehub(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in with the signature of kagglehub 1.0."""
    calls = []

    def dataset_download(
        handle: str, path: str | None = None, *, force_download: bool = False, output_dir: str | None = None
    ) -> str:
        calls.append((handle, output_dir))
        stub.fill(Path(output_dir))
        return output_dir

    stub = types.SimpleNamespace(
        dataset_download=dataset_download, calls=calls, fill=lambda folder: write_kaggle_tree(folder, 1)
    )
    monkeypatch.setitem(sys.modules, "kagglehub", stub)
    return stub


def test_kaggle_lands_at_the_root_once(kagglehub: types.SimpleNamespace, tmp_path: Path) -> None:
    root = tmp_path / "new" / "brain"
    for _ in range(2):
        assert fetch_kaggle(root) == root
    [(handle, folder)] = kagglehub.calls
    assert handle == "masoudnickparvar/brain-tumor-mri-dataset"
    assert Path(folder).parent == root.parent
    assert Path(folder).name.startswith("brain.")
    assert len(list(root.rglob("*.jpg"))) == 8
    assert [path.name for path in root.parent.iterdir()] == ["brain"]


def test_kaggle_failures_are_one_line_and_leave_nothing(kagglehub: types.SimpleNamespace, tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "Training").mkdir(parents=True)
        raise ConnectionError("Failed to resolve\n'api.kaggle.com'")

    for kagglehub.fill in (broken, lambda folder: (folder / "other").mkdir(parents=True)):
        with pytest.raises(DownloadError, match=r"no download from Kaggle \(.*\): try again, or `curl ") as error:
            fetch_kaggle(tmp_path / "brain")
        assert "\n" not in str(error.value)
        assert f"unzip brain.zip -d {tmp_path / 'brain'}`" in str(error.value)
        assert list(tmp_path.iterdir()) == []


def test_kaggle_without_the_package_or_over_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DownloadError, match=r'kagglehub is not installed: `pip install "hqcnn-lab\[download\]"`'):
        fetch_kaggle(tmp_path / "brain")
    (tmp_path / "brain" / "Training").mkdir(parents=True)
    with pytest.raises(DownloadError, match="is not empty, and not the data set: no images in Training/"):
        fetch_kaggle(tmp_path / "brain")
