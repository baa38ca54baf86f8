"""Files that a report could not use: whose, which, and why."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hqcnn_lab.analysis.row import Row


class Problems:
    """`found`: by folder and file, one line each: those that came with the rows, and those that the report meets."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.found: dict[str, dict[str, str]] = {}
        for row in rows:
            for name, line in zip(row["torn"], row["problems"], strict=True):
                self.found.setdefault(row["folder"], {})[name] = line.removeprefix(f"{name} ")

    @contextmanager
    def noted(self, folder: str, name: str) -> Iterator[None]:
        """Read the file `name` of a run's `folder` in this block: an unusable one is noted, and the report goes on."""
        try:
            yield
        except FileNotFoundError:
            pass
        except ValueError as error:
            self.found.setdefault(folder, {})[name] = str(error).removeprefix(f"{Path(folder) / name} ")
