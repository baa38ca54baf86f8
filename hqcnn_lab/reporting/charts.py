"""A chart as the JSON that plotly.js draws; colours of text and grid are the page's, which knows light and dark."""

import html
from typing import Any

import numpy as np

from hqcnn_lab.reporting.curves import Chart, Line


def chart_json(chart: Chart) -> str:
    """`{"data": …, "layout": …}`; what could end a script element is escaped."""
    import plotly.graph_objects as go

    figure = go.Figure()
    if chart.diagonal:
        ends = {"x": [0, 100], "y": [0, 100], "line": {"color": "#999999", "width": 1, "dash": "dot"}}
        figure.add_scatter(**ends, mode="lines", hoverinfo="skip", showlegend=False)
    for line in chart.lines:
        for trace in _traces(chart, line):
            figure.add_trace(trace)
    axis = {"zeroline": False, "automargin": True, "fixedrange": True}
    x: dict[str, Any] = axis | {"title": {"text": chart.xlabel, "standoff": 8}}
    y: dict[str, Any] = axis | {"title": {"text": chart.ylabel, "standoff": 8}}
    if chart.log:
        y |= {"type": "log", "exponentformat": "power", "dtick": 1}
    if chart.diagonal:
        x |= {"range": [0, 100], "dtick": 25}
        y |= {"range": [0, 102], "dtick": 25}
    figure.update_layout(
        template="none",
        xaxis=x,
        yaxis=y,
        margin={"l": 56, "r": 12, "t": 8, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=False,
        hovermode="closest" if chart.diagonal else "x unified",
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    return figure.to_json().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _traces(chart: Chart, line: Line) -> list[Any]:
    import plotly.graph_objects as go

    scale = 100 if chart.percent else 1
    x = line.x * (100 if chart.diagonal else 1)
    name = html.escape(line.name)  # plotly reads some tags in names
    traces = []
    if line.low is not None and line.high is not None:
        low, high = np.maximum(line.low, 0), np.minimum(line.high, 1) if chart.percent else line.high
        band = np.concatenate([high, low[::-1]]) * scale
        traces.append(
            go.Scatter(
                x=_short(np.concatenate([x, x[::-1]])),
                y=_short(band),
                fill="toself",
                fillcolor=f"rgba({','.join(str(int(line.colour[i : i + 2], 16)) for i in (1, 3, 5))},0.14)",
                line={"width": 0},
                hoverinfo="skip",
                meta=line.group,
            )
        )
    dots = chart.xlabel.startswith("mean confidence") or len(x) == 1
    traces.append(
        go.Scatter(
            x=_short(x),
            y=_short(line.y * scale),
            mode="lines+markers" if dots else "lines",
            line={"color": line.colour, "width": 2},
            marker={"size": 6},
            name=name,
            meta=line.group,
            hovertemplate="%{y:.3~s}" if chart.log else "%{y:.4~g}",
        )
    )
    return traces


def _short(values: np.ndarray) -> list[float]:
    """Five digits are more than a chart shows, and keep the page small."""
    return [float(f"{value:.5g}") for value in values]
