"""JSON, YAML and CSV that anyone may have written, read within limits: plain values, or a line that says why not.

Reading takes little time and memory for any bytes that a file may hold, and raises nothing but what is said here.
"""

import csv
import io
import json
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import yaml

MOST_BYTES = 2**20  # of a JSON or YAML file; a run's have a few thousand
MOST_VALUES = 50_000  # in one
MOST_DEPTH = 20
MOST_TEXT = 10_000  # characters of one value; what is beyond is cut off
MOST_TABLE_BYTES = 2**28
MOST_CELLS = 10_000_000  # of a table

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # six times as fast, if yaml was built with it
_LONGEST_NUMBER = 500  # characters; yaml takes hours for one of 1:1:1:…
# Characters that cannot be written as UTF-8, or that a terminal takes for a command.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Unusable(ValueError):
    """A file, or a part of it, that cannot be used: why, in one line that goes on after the file's name."""


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the names and values of a JSON file, or of YAML where it ends in `.yaml`.

    Raises FileNotFoundError where nothing is there, `Unusable` for everything else.
    """
    text = read_text(path)
    if not text.strip():
        raise Unusable("is empty")
    content = _parse_yaml(text) if path.suffix == ".yaml" else parse_json(text)
    if not isinstance(content, dict):
        raise Unusable(f"holds {_called(content)}, not names with values")
    return content


def read_table(path: Path, growing: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, each with its line, the header too; empty lines are passed over.

    Of one that is `growing`, so is a last line without its end. Raises what `read_mapping` does, on the way too.
    """
    cells = 0
    with _opened(path) as content, io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file:
        if path.stat().st_size > MOST_TABLE_BYTES:
            raise Unusable(f"is larger than {MOST_TABLE_BYTES // 2**20} MiB")
        reader = csv.reader((line for line in file if not growing or line.endswith("\n")), strict=True)
        try:
            for row in reader:
                cells += len(row) + 1
                if cells > MOST_CELLS:
                    raise Unusable(f"holds more than {MOST_CELLS:,} values")
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise Unusable(f"is no table (line {max(reader.line_num, 1)}: {error})") from None
        except UnicodeDecodeError:
            raise Unusable(f"is not UTF-8 after line {reader.line_num}") from None


def parse_json(text: str) -> Any:
    """As `json.loads`, of what `read_mapping` takes. Raises `Unusable`."""
    try:
        return _plain(json.loads(text, object_pairs_hook=_each_once))
    except Unusable:
        raise
    except RecursionError:
        raise Unusable("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Unusable(f"is not JSON (line {error.lineno}: {error.msg})") from None
    except ValueError:  # more digits than Python reads
        raise Unusable("holds a number of more than 64 bits") from None


def _parse_yaml(text: str) -> Any:
    try:
        _look_over(text)
        return _plain(yaml.load(text, Loader=_Loader))
    except Unusable:
        raise
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise Unusable(f"is not YAML ({where}{problem or 'a character that may not be in it'})") from None
    except (ValueError, OverflowError):
        raise Unusable("holds a number or a date that is none") from None


def _look_over(text: str) -> None:
    """Before anything is made of it: yaml in C ends the process on a deep nest, and aliases of aliases have no end."""
    sizes: dict[str, int] = {}  # of each anchor: how many values it stands for
    open_ones: list[tuple[str | None, int]] = []  # each with the number of values before it
    n = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            n += sizes.get(event.anchor, MOST_VALUES)  # an alias of itself, or of nothing
        elif isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, n))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            sizes |= {anchor: n - before} if anchor else {}
        elif isinstance(event, yaml.ScalarEvent):
            sizes |= {event.anchor: 1} if event.anchor else {}
            if event.implicit[0] and len(event.value) > _LONGEST_NUMBER and event.value[0] in "+-.0123456789":
                raise Unusable(f"holds a number of more than {_LONGEST_NUMBER} characters")
        n += 1
        if len(open_ones) > MOST_DEPTH:
            raise Unusable("is nested too deeply")
        if n > MOST_VALUES:
            raise Unusable(f"holds more than {MOST_VALUES:,} values")


class _Loader(_LOADER):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        _each_once([(str(key.value), None) for key, _ in node.value])
        return super().construct_mapping(node, deep)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise Unusable(f"says {_shown(name)[:80]} twice")
    return content


def _plain(content: Any) -> Any:
    """Only names, texts that can be shown, lists and numbers; raises `Unusable` for other values, or for too many."""
    left = MOST_VALUES

    def walk(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Unusable(f"holds more than {MOST_VALUES:,} values")
        if depth > MOST_DEPTH:
            raise Unusable("is nested too deeply")
        if isinstance(value, dict):
            return {str(walk(name, depth)): walk(inner, depth + 1) for name, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, depth + 1) for inner in value]
        if isinstance(value, str):
            return _shown(value)
        if isinstance(value, int) and abs(value) >= 2**63:
            raise Unusable("holds a number of more than 64 bits")
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, date):
            return str(value)
        raise Unusable(f"holds {_called(value)}")

    return walk(content, 0)


def _shown(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…")


def _called(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", bytes: "bytes"}
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """The whole of a file, without the mark that an editor may leave at its start; raises what `read_mapping` does."""
    with _opened(path) as file:
        if path.stat().st_size > most_bytes or len(content := file.read(most_bytes + 1)) > most_bytes:
            raise Unusable(f"is larger than {most_bytes // 2**20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable(f"is not UTF-8 at byte {error.start}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait until somebody writes
            raise Unusable("is a folder" if path.is_dir() else "is no plain file")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None
