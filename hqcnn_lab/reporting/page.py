"""A report's contents as one HTML file that asks for nothing else: scripts, styles and pictures are in it."""

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hqcnn_lab.analysis.spread import spread
from hqcnn_lab.figures.chart import Chart, chart_json
from hqcnn_lab.reporting.contents import Contents
from hqcnn_lab.reporting.optimizer_story import CAPTION
from hqcnn_lab.reporting.scores import SCORE

_FACETS = ("dataset", "model", "optim")


def html_text(contents: Contents, now: datetime) -> str:
    """The whole page. Every text in it is escaped; names of classes and runs are whatever a user called them."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["chart"] = _chart
    charts = [chart for part in contents.parts for chart in (*part.charts, *part.rocs)]
    facets = {key: sorted({str(g.label[key]) for g in contents.groups.values() if g.label[key]}) for key in _FACETS}
    return environment.get_template("report.html.j2").render(
        c=contents,
        story_caption=CAPTION,
        now=now.strftime("%d %B %Y, %H:%M"),
        plotlyjs=_plotlyjs() if charts else "",
        facets={key: values for key, values in facets.items() if len(values) > 1},
        labels={
            g.id: {"text": g.name, **{key: str(g.label[key]) for key in _FACETS}} for g in contents.groups.values()
        },
        forests={part.id: _forest(contents, part.summary.groups) for part in contents.parts},
    )


def _chart(chart: Chart) -> Markup:
    return Markup(chart_json(chart))  # escaped there


def _plotlyjs() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def _forest(contents: Contents, ids: list[str]) -> dict[str, dict[str, float]]:
    """Where each group's mean and interval over seeds lie, in percent of the width that holds all of them."""
    spreads = {id_: spread(contents.groups[id_].values(SCORE)) for id_ in ids}
    places = {id_: (s.low, s.mean, s.high) if s.n > 1 else (s.mean,) * 3 for id_, s in spreads.items() if s}
    if not places:
        return {}
    lows, highs = (sorted(values[i] for values in places.values()) for i in (0, 2))
    means = [mean for _, mean, _ in places.values()]
    quarter = len(places) // 4  # the widest intervals are cut: one alone would flatten all others
    least, most = min([*means, lows[quarter]]), max([*means, highs[-1 - quarter]])
    margin = 0.05 * (most - least) or 0.01
    least, most = least - margin, most + margin

    def at(value: float) -> float:
        return round(100 * min(max((value - least) / (most - least), 0), 1), 2)

    return {
        id_: {"low": at(low), "mean": at(mean), "width": round(at(high) - at(low), 2)}
        for id_, (low, mean, high) in places.items()
    }
