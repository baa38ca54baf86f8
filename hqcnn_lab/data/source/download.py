"""Fetch the public data sets: Kaggle Brain Tumor MRI by kagglehub, REMBRANDT series by series from NBIA's REST API."""

import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hqcnn_lab.data.source.layout import find_images
from hqcnn_lab.data.source.tables import read_table_bytes
from hqcnn_lab.record.whole_file import holds_something, whole_folder

KAGGLE_HANDLE = "masoudnickparvar/brain-tumor-mri-dataset"
NBIA_URL = "https://services.cancerimagingarchive.net/nbia-api/services/v1"
_NBIA_BY_HAND = (
    "download the collection with NBIA Data Retriever from https://www.cancerimagingarchive.net/collection/rembrandt/ "
    "and give its folder"
)
_UID = re.compile(r"\d+(\.\d+)+")
_TIMEOUT = 60  # seconds without a byte
_ATTEMPTS = 4
_MAX_FAILED = 10  # series; more would be the server's fault, not theirs


class DownloadError(RuntimeError):
    """A data set that could not be fetched; the message is one line that says why and what to do by hand."""


class _BadSeries(Exception):
    """One series that cannot be had now; others perhaps can."""


class _Series(NamedTuple):
    uid: str
    n_images: int  # 0: not known


def fetch_kaggle(root: str | Path) -> Path:
    """Download the Kaggle Brain Tumor MRI set (CC0) to `root` unless it is there, and return the folder.

    Needs the optional package kagglehub, and no account. `root` appears when it is whole.

    Raises:
        DownloadError: one line, without the package or the network, or where `root` holds something else.
    """
    root = Path(root).expanduser().resolve()
    by_hand = (
        f"`curl -L -o brain.zip https://www.kaggle.com/api/v1/datasets/download/{KAGGLE_HANDLE}` and "
        f"`unzip brain.zip -d {root}`, so that it holds Training/ and Testing/"
    )
    if holds_something(root):
        try:
            find_images(root)
        except ValueError as error:
            raise DownloadError(f"{root} is not empty, and not the data set: {error}") from error
        return root
    try:
        import kagglehub  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise DownloadError(
            f'kagglehub is not installed: `pip install "hqcnn-lab[download]"` and try again, or {by_hand}'
        ) from error
    # Not into kagglehub's cache: whoever clears that would take the data away.
    try:
        with whole_folder(root) as scratch:
            scratch.rmdir()  # kagglehub wants to make it
            kagglehub.dataset_download(KAGGLE_HANDLE, output_dir=str(scratch))
            find_images(scratch)
    except Exception as error:  # kagglehub raises what requests raises, and more of its own
        raise DownloadError(f"no download from Kaggle ({_one_line(error)}): try again, or {by_hand}") from error
    return root


def fetch_rembrandt(root: str | Path, manifest: str | Path | None = None, base_url: str = NBIA_URL) -> Path:
    """Download the series of a `.tcia` manifest, or of the whole collection, to `root` and return the folder.

    Each series lands in `REMBRANDT/<Series UID>/`, unpacked under a temporary name and renamed: one that is there is
    whole and not fetched again, so an interrupted download goes on by the same call. A transfer that breaks is tried
    three times more. Images that came by NBIA Data Retriever are not looked at: give another folder.

    Args:
        root: where to; made if need be.
        manifest: the file that the collection's page offers; without one the API is asked for all series.
        base_url: of NBIA's REST API, version 1.

    Raises:
        DownloadError: one line, without the network, for a manifest that is none, or if some series could not be had.
    """
    if not base_url.startswith(("http://", "https://")):
        raise DownloadError(f"{base_url} is no http address")
    folder = Path(root).expanduser() / "REMBRANDT"
    try:
        series = _read_manifest(Path(manifest).expanduser()) if manifest is not None else _list_collection(base_url)
        folder.mkdir(parents=True, exist_ok=True)
        failed = _fetch_all(series, folder, base_url)
    except urllib.error.URLError as error:
        raise DownloadError(f"no connection to {base_url} ({_one_line(error)}): {_NBIA_BY_HAND}") from error
    except OSError as error:
        raise DownloadError(f"could not be written: {_one_line(error)}") from error
    if failed:
        uid, reason = failed[0]
        raise DownloadError(
            f"{len(failed)} series could not be fetched, such as {uid} ({reason}); run again to fetch what is missing, "
            f"or {_NBIA_BY_HAND}"
        )
    return folder.parent


def _read_manifest(path: Path) -> list[_Series]:
    try:
        lines = read_table_bytes(path).decode("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DownloadError(f"the manifest cannot be read: {error.strerror}") from error
    lines = [line.strip() for line in lines]
    if "ListOfSeriesToDownload=" not in lines:
        raise DownloadError("no .tcia manifest: it has no line ListOfSeriesToDownload=")
    uids = [line for line in lines[lines.index("ListOfSeriesToDownload=") + 1 :] if line]
    return _checked([_Series(uid, 0) for uid in uids], "the manifest")


def _list_collection(base_url: str) -> list[_Series]:
    url = f"{base_url}/getSeries?Collection=REMBRANDT&format=json"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as reply:
            entries = json.loads(reply.read() or b"[]")
        series = [_Series(entry["SeriesInstanceUID"], int(entry.get("ImageCount") or 0)) for entry in entries]
    except urllib.error.HTTPError as error:
        raise DownloadError(f"the list of series cannot be had (HTTP {error.code}): {_NBIA_BY_HAND}") from error
    except urllib.error.URLError:
        raise
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownloadError(f"{url} gave no list of series: {_NBIA_BY_HAND}") from error
    return _checked(series, "the archive")


def _checked(series: list[_Series], source: str) -> list[_Series]:
    if not series:
        raise DownloadError(f"{source} lists no series that anyone may fetch; {_NBIA_BY_HAND}")
    # A UID names a folder here.
    if not all(_UID.fullmatch(one.uid) and len(one.uid) <= 64 for one in series):
        raise DownloadError(f"{source} lists something that is no Series UID")
    return list(dict.fromkeys(series))


def _fetch_all(series: list[_Series], folder: Path, base_url: str) -> list[tuple[str, str]]:
    failed = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("fetching series", total=len(series))
        for one in series:
            if not (folder / one.uid).is_dir():
                try:
                    _fetch_series(one, folder, base_url)
                except _BadSeries as error:
                    failed.append((one.uid, str(error)))
                    if len(failed) == _MAX_FAILED:
                        break
            progress.advance(task)
    return failed


def _fetch_series(series: _Series, folder: Path, base_url: str) -> None:
    archive = folder / f"{series.uid}.zip.part"  # goes when it is unpacked, and never gets another name
    try:
        with whole_folder(folder / series.uid) as scratch:
            _transfer_and_unpack(series, archive, scratch, base_url)
    finally:
        archive.unlink(missing_ok=True)


def _transfer_and_unpack(series: _Series, archive: Path, scratch: Path, base_url: str) -> None:
    reason = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(2**attempt)
        try:
            _transfer(f"{base_url}/getImage?SeriesInstanceUID={quote(series.uid)}", archive)
            return _unpack(archive, scratch, series.n_images)
        except (_BadSeries, http.client.HTTPException, ConnectionError, TimeoutError, zipfile.BadZipFile) as error:
            reason = _one_line(error)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}"
            if error.code < 500 and error.code != 429:
                raise _BadSeries(reason) from error
    raise _BadSeries(reason)


def _transfer(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as reply, target.open("wb") as file:
        shutil.copyfileobj(reply, file, 1 << 20)
        expected = reply.headers.get("Content-Length")  # read in parts, a short reply ends without an error
        if expected is not None and file.tell() < int(expected):
            raise _BadSeries(f"the connection broke after {file.tell()} of {expected} bytes")


def _unpack(archive: Path, scratch: Path, n_images: int) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    with zipfile.ZipFile(archive) as content:
        names = [info.filename for info in content.infolist()]
        if any(PurePosixPath(name).is_absolute() or ".." in re.split(r"[/\\]", name) for name in names):
            raise _BadSeries("its archive names files outside of its folder")
        n_found = sum(name.lower().endswith(".dcm") for name in names)
        if n_found < max(n_images, 1):
            raise _BadSeries(f"its archive holds {n_found} of {n_images or 'some'} images")
        content.extractall(scratch)  # checks every file's CRC


def _one_line(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return " ".join(f"{type(reason).__name__}: {reason}".split())[:200]
