"""A report's contents as Markdown: the same texts and tables, without the charts and pictures."""

from datetime import datetime

from hqcnn_lab.reporting.contents import Confusion, Contents, Part
from hqcnn_lab.reporting.optimizer_story import CAPTION
from hqcnn_lab.reporting.score_tables import Table
from hqcnn_lab.reporting.wording import count


def markdown_text(contents: Contents, now: datetime) -> str:
    """The whole twin, to be read as it is or in a repository."""
    states = ", ".join(f"{n} {state}" for state, n in contents.states.items())
    parts = [
        f"# {_plain(contents.title)}",
        f"{now:%d %B %Y, %H:%M}. Runs: {len(contents.runs.rows)} ({states}), of "
        f"{count(len(contents.groups), 'setting')}. Charts and pictures are in report.html. "
        "Written by hqcnn_lab.report.",
        _list(contents.notes),
    ]
    for part in contents.parts:
        parts += _part(part)
    for picture in contents.circuits:
        parts += [f"## Circuit: {_plain(picture.title)}", f"```\n{picture.text}\n```"]
    if contents.lost.rows:
        parts += ["## Not finished", _table(contents.lost)]
    if contents.unusable.rows:
        parts += ["## Files that cannot be used", _table(contents.unusable)]
    parts += ["## All runs", _table(contents.runs), "## Run it again"]
    parts += [f"{_plain(name)}\n\n```sh\n{text}\n```" for _, name, text in contents.commands]
    parts += ["## Versions", _table(contents.versions)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _part(part: Part) -> list[str]:
    lines = [f"## {_plain(part.name)}", _plain(" ".join(part.headline)), _list(part.leak)]
    lines += ["### Scores by setting", _table(part.summary)]
    if part.tests:
        lines += ["### Differences", _table(part.tests), _list(part.test_notes)]
    if part.budget:
        lines += ["### At what budget", _list(part.budget_notes), _table(part.budget)]
    if part.stories:
        lines += ["### What the optimizer did", _list([text for _, text in part.stories]), CAPTION]
    for title, table in (
        ("Every setting that differs", part.differing),
        ("Tuning runs", part.tuning),
        ("Class by class", part.classes),
    ):
        if table:
            lines += [f"### {title}", *[_plain(part.drawn_note)] * (table is part.classes), _table(table)]
    for one in part.confusions:
        lines += [f"### Confusion: {_plain(one.title)}", _confusion(one)]
    lines.append(_list([f"{m.title}: {m.n_wrong} of {m.n_images} test images wrong. {m.note}" for m in part.mistakes]))
    return lines


def _table(table: Table) -> str:
    rules = ["---" if i < table.n_left else "---:" for i in range(len(table.head))]
    rows = [_row(table.head), _row(rules)]
    for i, cells in enumerate(table.rows):
        mark = table.marked.get(i, "")
        own = mark and mark not in cells  # a state has its column
        rows.append(_row([f"{cells[0]} ({mark})" if own else cells[0], *cells[1:]]))
    return "\n".join(rows) + (f"\n\n{_plain(table.caption)}" if table.caption else "")


def _confusion(one: Confusion) -> str:
    rows = [_row(["true ↓ predicted →", *one.classes]), _row(["---", *["---:"] * len(one.classes)])]
    rows += [_row([name, *map(str, counts)]) for name, counts in zip(one.classes, one.counts, strict=True)]
    return "\n".join(rows)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
