"""Tables of short texts, as HTML and plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ipychat.text.characters import harmless

Row = Sequence[str]
LONG_WORD = 20
"""Characters; a longer word may be broken where a column is narrow."""


def plain(rows: Sequence[Row]) -> str:
    """Write rows as aligned columns; the last column is not padded."""
    rows = [[*map(harmless, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def html(rows: Iterable[Row], heads: Row = (), *, names: bool = False) -> str:
    """Write rows as an HTML table, in which front ends don't typeset prices as formulas.

    With `names`, the first column is set as code and is wide enough for the name of a model.
    """
    head = f"<tr>{''.join(_cell(text, 'th') for text in heads)}</tr>" if heads else ""
    body = "".join(
        f"<tr>{_name(row[0]) if names else _cell(row[0])}{''.join(map(_cell, row[1:]))}</tr>"
        for row in rows
    )
    return f'<table class="mathjax_ignore">{head}{body}</table>'


def bundle(rows: Sequence[Row], heads: Row = ()) -> dict[str, str]:
    """Return the MIME bundle of a table."""
    return {"text/html": html(rows, heads), "text/plain": plain([heads, *rows] if heads else rows)}


def _cell(text: str, tag: str = "td") -> str:
    is_long = any(len(word) > LONG_WORD for word in text.split())
    anywhere = ";overflow-wrap:anywhere" if is_long else ""
    return f'<{tag} style="text-align:left{anywhere}">{escape(harmless(text))}</{tag}>'


def _name(text: str) -> str:
    style = "text-align:left;min-width:18em;overflow-wrap:anywhere"
    return f'<td style="{style}"><code>{escape(harmless(text))}</code></td>'
