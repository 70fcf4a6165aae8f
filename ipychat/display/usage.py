"""What answers cost, summed up as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from ipychat.messages import dollars

Entry = dict[str, Any]
Row = tuple[str, ...]
Group = tuple[str, list[Row]]
HEADS = ("by", "answers", "tokens in", "tokens out", "cost")


def table(entries: list[Entry]) -> dict[str, str]:
    """Return the sums of `entries` as a cell shows them."""
    groups: list[Group] = [
        ("model", _sums(entries, "model")),
        ("conversation", _sums(entries, "chat")),
        ("day", _sums(entries, "at")),
        ("all", [("all", *_sum(entries))]),
    ]
    rows = [(by, row) for by, several in groups for row in several]
    widths = [max(len(row[column]) for _, row in rows) for column in range(5)]
    plain = [
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for _, row in rows
    ]
    html = "".join(map(_group, groups))
    return {
        "text/html": f'<table class="mathjax_ignore">{html}</table>',
        "text/plain": "\n".join(plain),
    }


def _group(group: Group) -> str:
    by, rows = group
    head = "".join(f"<th>{escape(text)}</th>" for text in (by, *HEADS[1:]))
    cells = (
        "<tr>" + "".join(f'<td style="text-align:left">{escape(c)}</td>' for c in row) + "</tr>"
        for row in rows
    )
    return f"<tr>{head}</tr>{''.join(cells)}"


def _sums(entries: Iterable[Entry], field: str) -> list[Row]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_name(entry, field), []).append(entry)
    return [(name, *_sum(several)) for name, several in sorted(groups.items())]


def _name(entry: Entry, field: str) -> str:
    text = str(entry.get(field) or "(none)")
    return text[:10] if field == "at" else text


def _sum(entries: list[Entry]) -> tuple[str, str, str, str]:
    uncounted = sum(entry.get("input") is None for entry in entries)
    answers = f"{len(entries):,} answer{'' if len(entries) == 1 else 's'}"
    costs = [*_numbers(entries, "cost")]
    unpriced = len(entries) - uncounted - len(costs)
    cost = dollars(sum(costs)) if costs else ""
    return (
        answers + (f", {uncounted:,} not counted" if uncounted else ""),
        f"{sum(_numbers(entries, 'input')):,} in",
        f"{sum(_numbers(entries, 'output')):,} out",
        cost + (f"{' + ' if cost else ''}{unpriced:,} of unknown price" if unpriced else ""),
    )


def _numbers(entries: Iterable[Entry], field: str) -> Iterator[float]:
    for entry in entries:
        if isinstance(value := entry.get(field), int | float):
            yield value
