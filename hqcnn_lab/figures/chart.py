"""A chart of a page: its lines as plain data, and the JSON that plotly.js draws of them."""

import html
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Line:
    """A group's line `[n]`, with its band where it has one. `group` is the id that filters know it by."""

    group: str
    name: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass
class Chart:
    """Lines over one pair of axes, and the caption that says how to read them."""

    id: str
    title: str
    caption: str
    xlabel: str
    ylabel: str
    lines: list[Line] = field(default_factory=list)
    log: bool = False
    percent: bool = False
    diagonal: bool = False
    zoomed: bool = False  # on the upper left corner


def chart_json(chart: Chart) -> str:
    """`{"data": …, "layout": …}`; what could end a script element is escaped.

    Colours of text and grid are the page's, which knows light and dark. Written as it is: plotly's own Python classes
    check every value, which takes longer than all else here.
    """
    traces: list[dict[str, Any]] = []
    if chart.diagonal:
        ends = {"x": [0, 100], "y": [0, 100], "line": {"color": "#999999", "width": 1, "dash": "dot"}}
        traces.append({"type": "scatter", "mode": "lines", "hoverinfo": "skip", **ends})
    for line in chart.lines:
        traces += _traces(chart, line)
    axis = {"zeroline": False, "automargin": True, "fixedrange": True, "showline": True}
    x: dict[str, Any] = axis | {"title": {"text": chart.xlabel, "standoff": 8, "font": {"size": 12}}}
    y: dict[str, Any] = axis | {"title": {"text": chart.ylabel, "standoff": 8, "font": {"size": 12}}}
    if chart.log:
        y |= {"type": "log", "exponentformat": "e", "dtick": 1}
    if chart.xlabel == "epoch" and max((line.x.max(initial=0) for line in chart.lines), default=0) < 6:
        x |= {"dtick": 1}
    if chart.diagonal:
        x |= {"range": [0, 100], "dtick": 25}
        y |= {"range": [0, 102], "dtick": 25}
    if chart.zoomed:
        x |= {"range": [0, 20], "dtick": 5}
        y |= {"range": [60, 101], "dtick": 10}
    layout = {
        "xaxis": x,
        "yaxis": y,
        "margin": {"l": 56, "r": 12, "t": 8, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest" if chart.diagonal else "x unified",
        "font": {"family": "system-ui, sans-serif", "size": 12},
    }
    return json.dumps({"data": traces, "layout": layout}, allow_nan=False).replace("<", "\\u003c")


def _traces(chart: Chart, line: Line) -> list[dict[str, Any]]:
    scale = 100 if chart.percent else 1
    x = line.x * (100 if chart.diagonal else 1)
    traces: list[dict[str, Any]] = []
    if line.low is not None and line.high is not None:
        low, high = np.maximum(line.low, 0), np.minimum(line.high, 1) if chart.percent else line.high
        red, green, blue = (int(line.colour[i : i + 2], 16) for i in (1, 3, 5))
        traces.append(
            {
                "type": "scatter",
                "x": _short(np.concatenate([x, x[::-1]])),
                "y": _short(np.concatenate([high, low[::-1]]) * scale),
                "fill": "toself",
                "fillcolor": f"rgba({red},{green},{blue},0.14)",
                "mode": "lines",
                "line": {"width": 0},
                "hoverinfo": "skip",
                "meta": line.group,
            }
        )
    dots = chart.xlabel.startswith("mean confidence") or len(x) == 1
    traces.append(
        {
            "type": "scatter",
            "x": _short(x),
            "y": _short(line.y * scale),
            "mode": "lines+markers" if dots else "lines",
            "line": {"color": line.colour, "width": 2},
            "marker": {"size": 6},
            "name": html.escape(line.name),  # plotly reads some tags in names
            "meta": line.group,
            "hovertemplate": "%{y:.3~s}" if chart.log else "%{y:.4~g}",
        }
    )
    return traces


def _short(values: np.ndarray) -> list[float | None]:
    """Five digits are more than a chart shows, and keep the page small."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
