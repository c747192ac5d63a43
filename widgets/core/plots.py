"""The figures of the course in one call each: measured curves, bars and boxes, as plotly figures.

What they have in common: one look (`live_figure`), series named at their ends where there is room,
and a table of the same numbers, made from the data unless one is given.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from widgets.core.figure import DASHES, PALETTE, LiveFigure, live_figure

_TICKS = 10  # so many places of a logarithmic axis are all written down
_LETTERS = 1e12  # beyond it plotly has no letter for a number, so all ticks are powers of ten
_FEW = 4  # so many series are named at their ends; more would lie on one another


def curves(
    x: Iterable[float] | None,
    lines: Mapping[str, Any],
    *,
    x_title: str,
    y_title: str,
    title: str,
    alt: str,
    log: str = "",
    points: Sequence[str] = (),
    bands: Mapping[str, Sequence[float]] | None = None,
    borders: Mapping[str, float] | Sequence[float] = (),
    table: Sequence[dict[str, object]] | None = None,
) -> LiveFigure:
    """Lines over a common axis; of those named in `points` only the marks.

    x: places of all lines; None if each line brings its own, as (places, values).
    log: axes that are logarithmic: "x", "y" or "xy".
    bands: half the width of a band around a line, as `{"loss": spreads}`.
    borders: places of dotted upright lines, with or without their names.
    x_title, y_title: what the axes show, with the unit. title, alt, table: as for `live_figure`.

    Raises ValueError for a line whose length is not that of x, for names that are no lines, and
    for what a logarithmic axis would leave out: numbers that are not above 0.
    """
    import plotly.graph_objects as go

    bands = bands or {}
    for field, names in (("points", points), ("bands", bands)):
        if unknown := [name for name in names if name not in lines]:
            raise ValueError(f"{field} names {unknown[0]!r}: one of {', '.join(lines)}")
    if set(log) - set("xy"):
        raise ValueError(f"log={log!r} is not allowed: x, y, xy or nothing")
    data = {name: _pair(name, x, line) for name, line in lines.items()}
    for axis, number in (("x", 0), ("y", 1)):
        for name, pair in data.items():
            if axis in log and not all(value > 0 for value in pair[number]):
                raise ValueError(f"log={log!r} is not allowed: {name} has {axis} of 0 or less")
    figure = go.Figure()
    for number, (name, (places, values)) in enumerate(data.items()):
        if name in bands:
            figure.add_traces(_band(places, values, _plain(bands[name]), _colour(number)))
        mode = "markers" if name in points else "lines+markers" if len(places) < 30 else "lines"
        line = {"x": places, "y": values, "name": name, "mode": mode}
        size = 10 if name in points else 6
        colour = {"color": _colour(number)}
        figure.add_scatter(**line, line=colour, marker=colour | {"size": size})
    named = borders.items() if isinstance(borders, Mapping) else [("", place) for place in borders]
    for name, place in named:
        figure.add_vline(x=place, line_dash="dot", annotation_text=name)
    figure.update_xaxes(title=x_title, type="log" if "x" in log else None)
    figure.update_yaxes(title=y_title, type="log" if "y" in log else None)
    for axis, update in enumerate((figure.update_xaxes, figure.update_yaxes)):
        if "xy"[axis] in log and any(max(pair[axis]) > _LETTERS for pair in data.values()):
            update(exponentformat="power")
    if x is not None and "x" in log and len(ticks := _plain(x)) <= _TICKS:
        figure.update_xaxes(tickvals=ticks, ticktext=[_tick(value) for value in ticks])
    if len(data) <= _FEW and not points and not bands:
        _name_at_ends(figure, data, log)
    return live_figure(figure, title=title, alt=alt, table=_rows(data, x_title, table))


def bars(
    names: Sequence[object],
    series: Mapping[str, Iterable[float]],
    *,
    x_title: str,
    y_title: str,
    title: str,
    alt: str,
    log: str = "",
    borders: Sequence[float] = (),
    table: Sequence[dict[str, object]] | None = None,
) -> LiveFigure:
    """A group of bars for each name (a word or a number), one bar for each series.

    Raises ValueError for a series whose length is not that of names.
    """
    import plotly.graph_objects as go

    data = {name: _pair(name, names, values) for name, values in series.items()}
    figure = go.Figure(
        [go.Bar(x=places, y=values, name=name) for name, (places, values) in data.items()]
    )
    for place in borders:
        figure.add_vline(x=place, line_dash="dot")
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title, type="log" if "y" in log else None)
    return live_figure(figure, title=title, alt=alt, table=_rows(data, x_title, table))


def boxes(
    groups: Mapping[str, Iterable[float]],
    *,
    x_title: str,
    y_title: str,
    title: str,
    alt: str,
    log: str = "",
    table: Sequence[dict[str, object]] | None = None,
) -> LiveFigure:
    """A box for each group with all its values as points; few values show as points alone."""
    import plotly.graph_objects as go

    data = {name: _plain(values) for name, values in groups.items()}
    figure = go.Figure()
    for name, values in data.items():
        figure.add_box(y=values, name=name, boxpoints="all", jitter=0.4, pointpos=0)
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title, type="log" if "y" in log else None)
    figure.update_layout(showlegend=False)
    if table is None:
        table = [_summary(name, sorted(values)) for name, values in data.items()]
    return live_figure(figure, title=title, alt=alt, table=table)


def timeline(
    spans: Mapping[str, Sequence[tuple[str, float, float]]],
    *,
    x_title: str,
    y_title: str,
    title: str,
    alt: str,
    table: Sequence[dict[str, object]],
) -> LiveFigure:
    """Who was busy when: for each name its spans, as (row, begin, end)."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, parts in spans.items():
        rows, begins, ends = zip(*parts, strict=True)
        widths = [end - begin for begin, end in zip(begins, ends, strict=True)]
        figure.add_bar(y=rows, x=widths, base=begins, orientation="h", name=name)
    figure.update_layout(barmode="overlay", height=330)
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title, autorange="reversed")
    return live_figure(figure, title=title, alt=alt, table=table)


def panels(
    x: Iterable[float],
    pictures: Mapping[str, Mapping[str, Iterable[float]]],
    *,
    x_title: str,
    y_title: str,
    title: str,
    alt: str,
    table: Sequence[dict[str, object]],
    columns: int = 3,
) -> LiveFigure:
    """Small pictures side by side, each with lines of its own; a name looks the same in all."""
    from plotly.subplots import make_subplots

    rows = math.ceil(len(pictures) / columns)
    figure = make_subplots(rows, columns, subplot_titles=list(pictures))
    names = list(dict.fromkeys(name for lines in pictures.values() for name in lines))
    for place, lines in enumerate(pictures.values()):
        where = {"row": place // columns + 1, "col": place % columns + 1, "showlegend": place == 0}
        for name, values in lines.items():
            number = names.index(name)
            look = {"color": _colour(number), "dash": DASHES[number % len(DASHES)]}
            places, heights = _pair(name, x, values)
            figure.add_scatter(x=places, y=heights, name=name, mode="lines", line=look, **where)
    figure.update_layout(height=260 * rows)
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title, col=1)
    return live_figure(figure, title=title, alt=alt, table=table)


def _plain(values: Any) -> list[Any]:
    """A tensor, an array or any iterable as a list."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _pair(name: str, x: Any, line: Any) -> tuple[list[Any], list[Any]]:
    places, values = map(_plain, line if x is None else (x, line))
    if len(places) != len(values):
        raise ValueError(f"{name} has {len(values)} values for {len(places)} places")
    return places, values


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _band(places: list, values: list, half: list, colour: str) -> list[Any]:
    import plotly.graph_objects as go

    above = [v + h for v, h in zip(values, half, strict=True)]
    below = [v - h for v, h in zip(values, half, strict=True)]
    shape = {"x": [*places, *reversed(places)], "y": [*above, *reversed(below)]}
    fill = {"fill": "toself", "fillcolor": colour, "opacity": 0.2, "mode": "none"}
    return [go.Scatter(**shape, **fill, showlegend=False, hoverinfo="skip")]


def _name_at_ends(figure: Any, data: Mapping[str, tuple[list, list]], log: str) -> None:
    """Names beside the last points, in place of a legend; apart where they would touch."""

    def height(value: float) -> float:
        return math.log10(value) if "y" in log else float(value)

    known = [height(v) for _, values in data.values() for v in values]
    step = (max(known) - min(known) or 1) / 14
    figure.update_layout(showlegend=False, margin={"r": 150})
    last = -math.inf
    ends = [
        (height(values[-1]), n, name, places[-1])
        for n, (name, (places, values)) in enumerate(data.items())
    ]
    for at, number, name, place in sorted(ends):
        last = max(at, last + step)
        figure.add_annotation(
            x=math.log10(place) if "x" in log else place,
            y=last,
            text=name,
            xanchor="left",
            xshift=10,
            showarrow=False,
            font={"color": _colour(number)},
        )


def _rows(
    data: Mapping[str, tuple[list, list]], x_title: str, table: Sequence[dict] | None
) -> Sequence[dict[str, object]]:
    if table is not None:
        return table
    places = list(dict.fromkeys(place for found, _ in data.values() for place in found))
    known = {name: dict(zip(*pair, strict=True)) for name, pair in data.items()}
    return [
        {x_title: _short(place)}
        | {name: _short(line.get(place, "")) for name, line in known.items()}
        for place in places
    ]


def _summary(name: str, values: list[float]) -> dict[str, object]:
    ends = {"least": values[0], "median": median(values), "largest": values[-1]}
    return {"group": name} | {key: _short(v) for key, v in ends.items()} | {"values": len(values)}


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _tick(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
