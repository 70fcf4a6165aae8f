"""The figures as lines for a terminal, as a page, and as a picture."""

import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from html import escape

from bench.rows import PARTS, Figure, Part, Row

HEADS = ("", "ours", "floor", "ratio", "bound", "goal")
INTRODUCTION = """\
# What ipychat costs

`make bench` measures this, and writes this page and its picture. It fails when a figure is worse
than its **bound**: how many times its floor it may be, or a count. The **floor** is the least that
the same takes without ipychat; it is measured in the same run, so a slow machine moves both. Of
rates the ratio is the floor's by ours: a higher ratio is always worse. A **goal** is what a quiet
machine should reach: nothing fails for it, and some rows have nothing else.
"""

Figures = Mapping[str, Mapping[str, Figure]]
"""By script and name."""


def ratio(row: Row, figure: Figure) -> float | None:
    """Return the ratio of a figure to its floor."""
    if figure.ratio is not None or not figure.floor:
        return figure.ratio
    return figure.floor / figure.ours if row.more else figure.ours / figure.floor


def is_worse(row: Row, figure: Figure) -> bool:
    """Whether a figure exceeds its bound, or can't be compared with it."""
    times = ratio(row, figure)
    if row.times is not None and not (times is not None and times <= row.times):
        return True
    return row.limit is not None and not figure.ours <= row.limit


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value % 1 == 0 else f"{value:.3g}"


def cells(row: Row, figure: Figure | None) -> tuple[str, ...]:
    """The cells of a table's row, in the order of `HEADS`."""
    name = f"{row.name}, {row.unit}" if row.unit else row.name
    if figure is None:
        return (name, "not measured", "", "", "", "")
    bound = f"ratio ≤ {row.times:g}" if row.times is not None else ""
    if row.limit is not None:
        bound = f"≤ {number(row.limit)}"
    if is_worse(row, figure):
        bound += ": worse"
    goal = ""
    if row.goal is not None:
        met = figure.ours >= row.goal if row.more else figure.ours <= row.goal
        goal = f"{'≥' if row.more else '≤'} {number(row.goal)}: {'met' if met else 'not met'}"
    floor = f"{number(figure.floor)} ({row.floor})" if figure.floor is not None else ""
    times = ratio(row, figure)
    return (name, number(figure.ours), floor, "" if times is None else f"{times:.2f}", bound, goal)


def others(part: Part, figures: Mapping[str, Figure]) -> Iterator[str]:
    """A sentence for each figure that has further figures to compare with."""
    for row in part.rows:
        figure = figures.get(row.name)
        if figure and figure.others:
            told = ", ".join(f"{name} {number(value)}" for name, value in figure.others.items())
            yield f"Beside it, {row.name}, {row.unit}: {told}."


def lines(part: Part, figures: Mapping[str, Figure]) -> Iterator[str]:
    """The lines printed in a terminal."""
    yield f"{part.title:64}{''.join(f'{head:>10}' for head in ('ours', 'floor', 'ratio'))}"
    for row in part.rows:
        name, ours, floor, times, bound, goal = cells(row, figures.get(row.name))
        floor = floor.partition(" (")[0]
        yield f"  {name:62}{ours:>10}{floor:>10}{times:>10}   {bound:14} {goal}".rstrip()
    yield from (f"  {told}" for told in others(part, figures))


def page(figures: Figures, left_out: list[str]) -> str:
    """The page of the documentation."""
    day = datetime.now(UTC).date()
    where = (
        f"{day}, {platform.system()}, Python {platform.python_version()}, {os.cpu_count()} cores."
    )
    drawn = "![How many times its floor a figure is, and its bound](pictures/performance.svg)"
    made = [INTRODUCTION, where, *([drawn] if any(figures.values()) else [])]
    for script, part in PARTS.items():
        table = [HEADS, ("---", *["---:"] * 3, "---", "---")]
        table += [cells(row, figures.get(script, {}).get(row.name)) for row in part.rows]
        made += [f"## {part.title}", part.says]
        made += ["\n".join(f"| {' | '.join(line)} |" for line in table)]
        made += others(part, figures.get(script, {}))
    if left_out:
        made += ["## Left out", "\n".join(f"- {one}" for one in left_out)]
    return "\n\n".join(one.strip() for one in made) + "\n"


# -- the picture

WIDTH, LABEL, LINE = 900, 410, 19
LEAST = 0.25
"""The lowest ratio on the logarithmic axis."""
STYLE = """
  .page { fill: #ffffff } text { fill: #24292f; font: 12px system-ui, sans-serif }
  .head { font-weight: 600 } .end { text-anchor: end }
  .bar { fill: #2f81f7 } .plain { fill: #8c959f } .worse { fill: #d1242f }
  .bound { stroke: #24292f; stroke-width: 2 } .floor { stroke: #8c959f; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #e6edf3 } .worse { fill: #f85149 } .plain { fill: #6e7681 }
    .bound { stroke: #e6edf3 } .floor { stroke: #6e7681 }
  }
"""


def scale(least: float, most: float) -> Callable[[float], float]:
    """A logarithmic axis between two values."""
    span = math.log(most / least)

    def place(value: float) -> float:
        room = WIDTH - LABEL - 90
        return LABEL + room * min(max(math.log(max(value, 1e-9) / least) / span, 0), 1)

    return place


def picture(figures: Figures) -> str:
    """Bars: the ratio of each figure to its floor, and the cost of reading in other clients."""
    found = [
        (part, row, figures[script][row.name])
        for script, part in PARTS.items()
        for row in part.rows
        if row.times is not None and row.name in figures.get(script, {})
    ]
    drawn: list[str] = []
    y = 24

    def text(x: float, words: str, style: str = "") -> None:
        drawn.append(f'<text x="{x:.0f}" y="{y}" class="{style}">{escape(words)}</text>')

    def bar(x: float, to: float, style: str) -> None:
        width = max(to - x, 1)
        drawn.append(
            f'<rect x="{x:.0f}" y="{y - 10}" width="{width:.0f}" height="11" class="{style}"/>'
        )

    def line(x: float, top: float, bottom: float, style: str) -> None:
        drawn.append(f'<path d="M{x:.0f} {top}V{bottom}" class="{style}"/>')

    text(16, "How many times its floor (dashed: once), and its bound (the tick)", "head")
    place, begin = scale(LEAST, 32), y + 10
    titled = None
    for part, row, figure in found:
        if part is not titled:
            y += LINE + 6
            text(16, part.title, "head")
            titled = part
        y += LINE
        times = ratio(row, figure) or math.nan
        text(LABEL - 10, row.name.replace("`", ""), "end")
        bar(place(LEAST), place(times), "worse" if is_worse(row, figure) else "bar")
        line(place(row.times), y - 12, y + 3, "bound")
        text(max(place(times), place(row.times)) + 8, f"{times:.2f}")
    line(place(1), begin, y + 6, "floor")
    y += 2 * LINE
    for script, part in PARTS.items():
        for row in part.rows:
            figure = figures.get(script, {}).get(row.name)
            if not (figure and figure.others and row.unit == "µs an event"):
                continue
            text(16, f"{part.title}: {row.name}, CPU {row.unit}", "head")
            all_of_them = {**figure.others, row.floor: figure.floor, "ipychat": figure.ours}
            place = scale(0.1, 2 * max(all_of_them.values()))
            for name, value in sorted(all_of_them.items(), key=lambda one: one[1]):
                y += LINE
                text(LABEL - 10, name.replace("`", ""), "end")
                bar(place(0.1), place(value), "bar" if name == "ipychat" else "plain")
                text(place(value) + 8, number(value))
    frame = f'viewBox="0 0 {WIDTH} {y + 20}" width="{WIDTH}" height="{y + 20}"'
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame} role="img">\n<style>{STYLE}</style>\n'
        f'<rect width="100%" height="100%" rx="8" class="page"/>\n{body}\n</svg>\n'
    )
