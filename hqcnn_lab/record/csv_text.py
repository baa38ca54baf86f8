"""Tables as the text of a CSV file, as every CSV file of the lab is written that grows by no line."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A line for the header, one for each row; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def csv_of_mappings(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> str:
    """A table of `columns`, and of all that any row has, in the order they are first met; what a row lacks is empty."""
    header = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    return csv_text(header, ([row.get(name) for name in header] for row in rows))
