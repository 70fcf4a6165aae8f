"""What answers cost, summed up as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from ipychat.messages import dollars
from ipychat.text.tables import plain

Entry = dict[str, Any]
Row = tuple[str, ...]

HEADS = ("", "answers", "tokens in", "tokens out", "cost", "saved by caching")
MOST = 1e12
"""What is more is no count: the file can be written by anyone who is this user."""


def table(entries: list[Entry]) -> dict[str, str]:
    """Return the sums of `entries` as a cell shows them."""
    groups = {
        "by model": _sums(entries, "model"),
        "by conversation": _sums(entries, "chat"),
        "by day": _sums(entries, "at"),
        "together": [("all", *_sum(entries))],
    }
    rows = [HEADS, *(row for several in groups.values() for row in several)]
    html = _row(HEADS, "th") + "".join(
        f'<tr><th style="text-align:left" colspan="{len(HEADS)}">{escape(by)}</th></tr>'
        + "".join(_row(row, "td") for row in several)
        for by, several in groups.items()
    )
    return {
        "text/html": f'<table class="mathjax_ignore">{html}</table>',
        "text/plain": plain(rows),
    }


def _row(row: Row, tag: str) -> str:
    name, *numbers = (escape(text) for text in row)
    cells = "".join(f'<{tag} style="text-align:right">{number}</{tag}>' for number in numbers)
    return f'<tr><{tag} style="text-align:left">{name}</{tag}>{cells}</tr>'


def _sums(entries: Iterable[Entry], field: str) -> list[Row]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_name(entry, field), []).append(entry)
    return [(name, *_sum(several)) for name, several in sorted(groups.items())]


def _name(entry: Entry, field: str) -> str:
    text = str(entry.get(field) or "(none)")
    return text[:10] if field == "at" else text


def _sum(entries: list[Entry]) -> Row:
    uncounted = sum(entry.get("input") is None for entry in entries)
    costs = [*_numbers(entries, "cost")]
    unpriced = len(entries) - uncounted - len(costs)
    cost = [dollars(sum(costs))] if costs else []
    cost += [f"{unpriced:,} of unknown price"] if unpriced else []
    return (
        f"{len(entries):,}" + (f", {uncounted:,} not counted" if uncounted else ""),
        f"{sum(_numbers(entries, 'input')):,}",
        f"{sum(_numbers(entries, 'output')):,}",
        " + ".join(cost),
        _saved(sum(_numbers(entries, "saved", least=-MOST))),
    )


def _saved(amount: float) -> str:
    """Write what caching has saved; nothing where nothing was cached."""
    return "" if not amount else f"-{dollars(-amount)}" if amount < 0 else dollars(amount)


def _numbers(entries: Iterable[Entry], field: str, least: float = 0) -> Iterator[float]:
    for entry in entries:
        value = entry.get(field)
        if isinstance(value, int | float) and type(value) is not bool and least <= value < MOST:
            yield value
