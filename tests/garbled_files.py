"""A run's record files as nobody should find them: cut, of another kind, too deep, too large, or no file at all."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

MAPPINGS = ("status.json", "environment.json", "summary.json", "config.yaml", "audit.json")
TABLES = ("metrics.csv", "predictions.csv", "split_manifest.csv")
DEEP = 100_000
LARGE = 30_000_000  # bytes

Garbling = tuple[str, Callable[[Path], Any]]
"""What was done, and what does it to a file that is whole."""

VALUES: dict[str, Any] = {
    "null": None,
    "a list": [],
    "a mapping": {"a": 1},
    "a text": "x",
    "a number as text": "0.01",
    "negative": -1,
    "true": True,
    "a fraction": 0.5,
    "infinite": float("inf"),
    "no number": float("nan"),
    "1e308": 1e308,
    "10^9": 10**9,
    "10^400": 10**400,
    "nested": [[[[{"a": [None]}]]]],
    "a list of kinds": [1, "x", None, {}],
    "surrogate": "\ud800\x00\x1b[2J",
    "long": "9" * 5000,
    "a time of no zone": "2026-01-01T10:00:00",
    "a time of no calendar": "2026-13-45T99:00:00",
    "the last time": "9999-12-31T23:59:59-23:59",
    "the first time": "0001-01-01T00:00:00+23:59",
}


def garblings(name: str, whole: bytes) -> Iterator[Garbling]:
    """All of a file called `name`, whose content was `whole`."""
    for what, content in _bytes(whole):
        yield what, lambda path, content=content: path.write_bytes(content)
    for what, put in _NO_FILES.items():
        yield what, lambda path, put=put: put(path)
    special = _of_a_table(whole) if name in TABLES else _of_yaml() if name == "config.yaml" else _of_json()
    for what, text in special:
        yield what, lambda path, text=text: path.write_text(text, encoding="utf-8", errors="surrogatepass")
    if name in MAPPINGS:
        for what, content in _of_values(name, whole):
            yield what, lambda path, content=content: path.write_text(_dump(name, content))


def _bytes(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "blank", b" \r\n\t\n"
    yield "NUL", b"\0" * 4096
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        yield f"cut at {share}", whole[: int(share * len(whole))]
    yield "marked as UTF-8", b"\xef\xbb\xbf" + whole
    yield "in CRLF", whole.replace(b"\n", b"\r\n")
    yield "in CR", whole.replace(b"\n", b"\r")
    yield "in UTF-16", whole.decode().encode("utf-16")
    yield "not UTF-8", whole[: len(whole) // 2] + b"\xff\xfe" + whole[len(whole) // 2 :]
    yield "NUL in it", whole[: len(whole) // 2] + b"\0" + whole[len(whole) // 2 :]
    yield "twice", whole + whole
    yield "large", b"x" * LARGE
    yield "large and whole", whole + b" " * LARGE
    yield "many lines", b"\n" * LARGE
    yield "deep", b"[" * DEEP
    rng = np.random.default_rng(0)
    for n in range(4):
        yield f"random {n}", rng.bytes(10 ** (n + 1))


def _put(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        path.unlink(missing_ok=True)
        make(path)

    return put


_NO_FILES = {
    "a folder": _put(Path.mkdir),
    "a link to itself": _put(lambda path: path.symlink_to(path)),
    "a link to nowhere": _put(lambda path: path.symlink_to("nowhere")),
    "a pipe": _put(os.mkfifo),
    "a device": _put(lambda path: path.symlink_to("/dev/zero")),
    "sparse": _put(lambda path: path.touch() or os.truncate(path, 2**34)),
    "not allowed": lambda path: path.chmod(0),
}


def _of_json() -> Iterator[tuple[str, str]]:
    yield from ((text, text) for text in ("[]", "null", "3", "true", '"x"', "NaN", "{}", '{"a": 1}', '{"": 1}'))
    yield "deep mappings", '{"a":' * DEEP
    yield "30 deep", '{"a":' * 30 + "1" + "}" * 30
    yield "wide", "[" + "0," * 200_000 + "0]"
    yield "many keys", json.dumps({f"a{i}": i for i in range(2000)})
    yield "names twice", '{"status": "running", "status": "finished"}'
    yield "too many digits", '{"epochs": ' + "9" * 5000 + "}"
    yield "surrogate", '{"status": "\\ud800", "split/leak": "\\udfff"}'


def _of_yaml() -> Iterator[tuple[str, str]]:
    yield from (
        (text, text) for text in ("[]", "3", "{}", "a: 1", "- 1", "? [a, b]\n: 1", "!!binary aGk=", "!!set {a}")
    )
    yield "deep mappings", "{a: " * DEEP
    yield "deep lists", "- " * DEEP
    yield "alias of aliases", "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 30))
    yield "merged", "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}]}}\n" for i in range(1, 30))
    yield "alias of itself", "a: &a [*a]"
    yield "sexagesimal", "seed: 1" + ":1" * 100_000
    yield "hexadecimal", "seed: 0x" + "f" * 100_000
    yield "names twice", "seed: 1\nseed: 2"
    yield "an object", "seed: !!python/object/apply:os.getpid []"
    yield "dates", "seed: 2026-02-31\nname: 2026-01-01"
    yield "many keys", "".join(f"a{i}: {i}\n" for i in range(2000))
    yield "names of kinds", "1: a\nnull: b\n2.5: c\ntrue: d\n2026-01-01: e\n"


def _of_a_table(whole: bytes) -> Iterator[tuple[str, str]]:
    head, *rows = whole.decode().splitlines()
    cells = next(csv.reader([rows[0]]))
    for what, value in (
        ("no number", "nan"),
        ("infinite", "inf"),
        ("negative", "-5"),
        ("huge", "9" * 40),
        ("too many digits", "9" * 5000),
        ("long", "x" * 200_000),
        ("quoted", '"'),
        ("NUL", "\0"),
    ):
        for at in range(len(cells)):
            text = ",".join([*cells[:at], value, *cells[at + 1 :]])
            yield f"{what} in column {at}", "\n".join([head, text, *rows[1:]]) + "\n"
    yield "header alone", head + "\n"
    yield "no header", "\n".join(rows)
    yield "a column twice", f"{head},{head}\n"
    yield "wide", head + "," * 200_000 + "\n" + "\n".join(rows)
    yield "more cells", "\n".join([head, *(f"{row},1" for row in rows)]) + "\n"
    yield "fewer cells", "\n".join([head, *(row.rpartition(",")[0] for row in rows)]) + "\n"
    yield "many rows", head + "\n" + "1,2\n" * 1_000_000


def _of_values(name: str, whole: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The file with one of its keys of another kind."""
    content = yaml.safe_load(whole)
    for keys in _keys(content):
        for what, value in VALUES.items():
            if name == "config.yaml" and what == "surrogate":  # which YAML cannot hold
                continue
            other = json.loads(json.dumps(content))
            at = other
            for key in keys[:-1]:
                at = at[key]
            at[keys[-1]] = value
            yield f"{'.'.join(keys)} is {what}", other


def _keys(content: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in content.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in _keys(value))


def _dump(name: str, content: dict[str, Any]) -> str:
    if name == "config.yaml":
        text = io.StringIO()
        yaml.safe_dump(content, text)
        return text.getvalue()
    return json.dumps(content)
