"""Small charts as inline SVG: no script, readable in print, and told apart without colour vision.

Shares from 0 to 1, but for ``lines``. Every chart has a title that says in words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fti.app.reports.markup import Markup, el, escaped
from fti.store.types import Interval

#: Okabe and Ito's palette, darkest first, so that it also works in grey.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#1a1a1a")
_ROW = 26
_CHAR = 6.6  # width of a character at the charts' font size
_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def _svg(width: float, height: float, title: str, *parts: object) -> Markup:
    return el(
        "svg",
        el("title", title),
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        class_="chart",
    )


def _text(x: float, y: float, text: object, *, anchor: str = "start", **how: object) -> Markup:
    return el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **how)


def _line(x1: float, y1: float, x2: float, y2: float, **how: object) -> Markup:
    return el("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", **how)


def _rect(x: float, y: float, width: float, height: float, colour: str, **how: object) -> Markup:
    return el(
        "rect",
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        width=f"{max(0.0, width):.1f}",
        height=f"{height:.1f}",
        fill=colour,
        **how,
    )


def _label_width(labels: Sequence[str]) -> float:
    return min(190.0, 20 + _CHAR * max(map(len, labels), default=0))


def _short(label: str, width: float) -> str:
    room = int((width - 12) / _CHAR)
    return label if len(label) <= room else label[: room - 1] + "…"


def bars(title: str, panels: Mapping[str, Mapping[str, Interval]]) -> Markup:
    """Bars with their intervals: a panel per score, a bar per system in each.

    Args:
        title: what the chart shows.
        panels: by score, by system, the interval; a system without one has an empty row.
    """
    systems = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    left, panel_width, gap = _label_width(systems), 230.0, 48.0
    height = 46 + _ROW * len(systems)
    parts: list[Markup] = []
    for row, name in enumerate(systems):
        parts.append(_text(left - 8, 43 + _ROW * row, _short(name, left), anchor="end"))
    for column, (score, intervals) in enumerate(panels.items()):
        x = left + column * (panel_width + gap)
        parts.append(_text(x, 12, score, class_="head"))
        parts += _grid_across(x, panel_width, 22, height - 18)
        for row, name in enumerate(systems):
            value = intervals.get(name)
            if value is None or not value.n:
                continue
            y = 28 + _ROW * row
            colour = PALETTE[row % len(PALETTE)]
            parts.append(_rect(x, y, panel_width * value.mean, 16, colour, opacity="0.85"))
            low, high = x + panel_width * value.low, x + panel_width * value.high
            parts.append(_line(low, y + 8, high, y + 8, class_="whisker"))
            parts += [_line(end, y + 4, end, y + 12, class_="whisker") for end in (low, high)]
            parts.append(_text(high + 5, y + 12, f"{value.mean:.2f}", class_="value"))
    width = left + len(panels) * (panel_width + gap)
    return _svg(width, height, title, *parts)


def _grid_across(x: float, width: float, top: float, bottom: float) -> list[Markup]:
    parts = []
    for share in _GRID:
        at = x + width * share
        parts.append(_line(at, top, at, bottom, class_="grid"))
        parts.append(_text(at, bottom + 13, f"{share:g}", anchor="middle", class_="tick"))
    return parts


def curves(title: str, series: Mapping[str, Sequence[float]], *, across: str) -> Markup:
    """Lines over 1, 2, 3, ...; each ends in its name.

    Args:
        title: what the chart shows.
        series: by name, the values at 1, 2, 3, ...
        across: what is counted along the bottom.
    """
    left, top, width, height = 40.0, 14.0, 420.0, 200.0
    longest = max((len(values) for values in series.values()), default=1)

    def place(n: int, value: float) -> tuple[float, float]:
        step = width / max(1, longest - 1)
        return left + step * n, top + height * (1 - value)

    parts: list[Markup] = []
    for share in _GRID:
        y = top + height * (1 - share)
        parts.append(_line(left, y, left + width, y, class_="grid"))
        parts.append(_text(left - 6, y + 4, f"{share:g}", anchor="end", class_="tick"))
    for n in range(longest):
        x, _ = place(n, 0)
        parts.append(_text(x, top + height + 15, n + 1, anchor="middle", class_="tick"))
    parts.append(_text(left + width / 2, top + height + 31, across, anchor="middle", class_="tick"))
    ends = _apart([place(len(v) - 1, v[-1])[1] for v in series.values() if v], 14)
    named = [(name, values) for name, values in series.items() if values]
    for index, ((name, values), end) in enumerate(zip(named, ends, strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        points = [place(n, value) for n, value in enumerate(values)]
        parts.append(
            el(
                "polyline",
                points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
                fill="none",
                stroke=colour,
                stroke_width="2",
                stroke_dasharray=("none", "6 3", "2 2", "8 3 2 3")[index % 4],
            )
        )
        parts += [
            el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="2.5", fill=colour) for x, y in points
        ]
        x = points[-1][0]
        parts.append(
            _text(x + 9, end + 4, _short(name, 170), style=f"fill:{colour}", class_="label")
        )
    return _svg(left + width + 190, top + height + 40, title, *parts)


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    across: str,
    dots: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Markup:
    """Lines through points of any scale; each ends in its name.

    Args:
        title: what the chart shows.
        series: by name, the points of a line, from left to right.
        across: what is counted along the bottom.
        dots: by the name of a line, further points around it, shown faint and unjoined.
    """
    left, top, width, height = 56.0, 14.0, 460.0, 220.0
    everything = [*series.values(), *(dots or {}).values()]
    points = [(x, y) for values in everything for x, y in values]
    steps_x = _round_steps([x for x, _ in points], 6)
    steps_y = _round_steps([y for _, y in points], 5)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + width * (x - steps_x[0]) / (steps_x[-1] - steps_x[0]),
            top + height * (steps_y[-1] - y) / (steps_y[-1] - steps_y[0]),
        )

    parts: list[Markup] = []
    for value in steps_y:
        _, at = place(steps_x[0], value)
        parts.append(_line(left, at, left + width, at, class_="grid"))
        parts.append(_text(left - 6, at + 4, f"{value:.4g}", anchor="end", class_="tick"))
    for value in steps_x:
        at, _ = place(value, steps_y[0])
        parts.append(_text(at, top + height + 15, f"{value:.4g}", anchor="middle", class_="tick"))
    parts.append(_text(left + width / 2, top + height + 31, across, anchor="middle", class_="tick"))
    named = [(name, values) for name, values in series.items() if values]
    ends = _apart([place(*values[-1])[1] for _, values in named], 14)
    for index, ((name, values), end) in enumerate(zip(named, ends, strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        for x, y in (place(*point) for point in (dots or {}).get(name, ())):
            parts.append(
                el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="1.6", fill=colour, opacity="0.35")
            )
        at_points = [place(*point) for point in values]
        parts.append(
            el(
                "polyline",
                points=" ".join(f"{x:.1f},{y:.1f}" for x, y in at_points),
                fill="none",
                stroke=colour,
                stroke_width="2",
                stroke_dasharray=("none", "6 3", "2 2", "8 3 2 3")[index % 4],
            )
        )
        if len(at_points) <= 40:
            parts += [
                el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="2.8", fill=colour)
                for x, y in at_points
            ]
        parts.append(
            _text(
                at_points[-1][0] + 9,
                end + 4,
                _short(name, 170),
                style=f"fill:{colour}",
                class_="label",
            )
        )
    return _svg(left + width + 170, top + height + 40, title, *parts)


def _round_steps(values: Sequence[float], count: int) -> list[float]:
    """About ``count`` round numbers, evenly spaced, that the values lie between."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low <= 1e-12 * max(1.0, abs(high)):
        low, high = (0.0, high or 1.0) if high >= 0 else (low, 0.0)
    rough = (high - low) / max(1, count - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, last + 1)]


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """The places, pushed down so that no two labels overlap."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    last = float("-inf")
    for i in order:
        last = max(wanted[i], last + gap)
        placed[i] = last
    return placed


def stacks(
    title: str, rows: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]
) -> Markup:
    """A full bar per row, divided into shares; the count of each row stands behind it.

    Args:
        title: what the chart shows.
        rows: by label, the count of each part.
        colours: of every part, in the order they are stacked; the legend has that order too.
    """
    left, width = _label_width(list(rows)), 520.0
    parts: list[Markup] = []
    x, y = left, 12.0
    for part, colour in colours.items():
        needed = 30 + _CHAR * len(part)
        if x + needed > left + width + 60:
            x, y = left, y + 18
        parts += [_rect(x, y - 10, 12, 12, colour), _text(x + 17, y, part, class_="tick")]
        x += needed
    top = y + 14
    for index, (label, counts) in enumerate(rows.items()):
        row_y = top + index * _ROW
        total = sum(counts.values())
        parts.append(_text(left - 8, row_y + 13, _short(label, left), anchor="end"))
        at = left
        for part, colour in colours.items():
            share = width * counts.get(part, 0) / total if total else 0.0
            parts.append(_rect(at, row_y, share, 18, colour, stroke="#fff", stroke_width="0.5"))
            if share > 26:
                parts.append(
                    _text(
                        at + share / 2,
                        row_y + 13,
                        f"{counts[part]:g}",
                        anchor="middle",
                        class_="inside",
                    )
                )
            at += share
        parts.append(_text(left + width + 8, row_y + 13, f"{total:g}", class_="tick"))
    return _svg(left + width + 60, top + _ROW * len(rows) + 4, title, *parts)


def counts(title: str, values: Mapping[str, float], *, notes: Mapping[str, str]) -> Markup:
    """A bar per label, as long as its count is against the greatest.

    Args:
        title: what the chart shows.
        values: by label, the count.
        notes: by label, what stands behind the bar instead of the bare count.
    """
    left, width = _label_width(list(values)), 460.0
    greatest = max(values.values(), default=0) or 1
    parts: list[Markup] = []
    for row, (label, value) in enumerate(values.items()):
        y = 4.0 + row * _ROW
        length = width * value / greatest
        parts.append(_text(left - 8, y + 13, _short(label, left), anchor="end"))
        parts.append(_rect(left, y, length, 18, PALETTE[0], opacity="0.85"))
        note = notes.get(label, f"{value:g}")
        parts.append(_text(left + length + 6, y + 13, note, class_="value"))
    return _svg(left + width + 190, 10 + _ROW * len(values), title, *parts)


def histogram(title: str, bins: Sequence[tuple[str, float]], *, across: str) -> Markup:
    """A column per bin, the counts above.

    Args:
        title: what the chart shows.
        bins: label and count, from left to right.
        across: what the labels are values of.
    """
    left, top, height, column = 10.0, 18.0, 130.0, 58.0
    greatest = max((count for _, count in bins), default=0) or 1
    parts: list[Markup] = [_line(left, top + height, left + column * len(bins), top + height,
                                 class_="whisker")]  # fmt: skip
    for place, (label, count) in enumerate(bins):
        x, tall = left + column * place, height * count / greatest
        middle = x + column / 2
        parts.append(_rect(x + 4, top + height - tall, column - 8, tall, PALETTE[0]))
        if count:
            above = top + height - tall - 4
            parts.append(_text(middle, above, f"{count:g}", anchor="middle", class_="value"))
        parts.append(_text(middle, top + height + 14, label, anchor="middle", class_="tick"))
    middle = left + column * len(bins) / 2
    parts.append(_text(middle, top + height + 30, across, anchor="middle", class_="tick"))
    return _svg(left * 2 + column * len(bins), top + height + 36, title, *parts)


def dot(value: Interval) -> Markup:
    """A mean with its interval on a line from 0 to 1, for a table cell."""
    width, middle = 120.0, 9.0
    if not value.n:
        return Markup("")
    return el(
        "svg",
        el("title", f"{value.mean:.3f}, 95 % interval {value.low:.3f} to {value.high:.3f}"),
        _line(0, middle, width, middle, class_="grid"),
        _line(width * value.low, middle, width * value.high, middle, class_="range"),
        el("circle", cx=f"{width * value.mean:.1f}", cy=f"{middle}", r="3.5", fill=PALETTE[0]),
        viewBox=f"-4 0 {width + 8:.0f} 18",
        width=f"{width + 8:.0f}",
        height="18",
        role="img",
        class_="dot",
    )


def figure(chart: Markup, caption: str) -> Markup:
    """A chart with the sentence that says how to read it."""
    return el("figure", chart, el("figcaption", escaped(caption)))
