"""Rows of short texts, as a cell shows them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ipychat.text.characters import harmless

Row = Sequence[str]
LONG = 20
"""Characters of a word that may be cut where a column is narrow."""


def plain(rows: Sequence[Row]) -> str:
    """Write rows as columns; the last is as wide as it likes."""
    rows = [[*map(harmless, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def html(rows: Sequence[Row], heads: Row = ()) -> str:
    """Write rows as a table; a front end typesets no prices as formulas in it."""
    head = _row(heads, "th") if heads else ""
    return f'<table class="mathjax_ignore">{head}{"".join(_row(row, "td") for row in rows)}</table>'


def bundle(rows: Sequence[Row], heads: Row = ()) -> dict[str, str]:
    """Return the MIME bundle of a table."""
    return {"text/html": html(rows, heads), "text/plain": plain([heads, *rows] if heads else rows)}


def _row(row: Row, tag: str) -> str:
    return f"<tr>{''.join(_cell(text, tag) for text in row)}</tr>"


def _cell(text: str, tag: str) -> str:
    is_long = any(len(word) > LONG for word in text.split())
    anywhere = ";overflow-wrap:anywhere" if is_long else ""
    return f'<{tag} style="text-align:left{anywhere}">{escape(harmless(text))}</{tag}>'
