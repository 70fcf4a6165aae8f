"""A notebook's cassette: what it holds, one entry of it, and what has gone from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from ipychat.messages import date
from ipychat.store.answers import Entry, text_of
from ipychat.text import markup, tables
from ipychat.text.characters import harmless, shortened

HEADS = ("entry", "question", "answered by", "asked at", "notebooks")
LONGEST = 60
"""Characters of a question that a list shows."""


def entries(listed: Sequence[Entry]) -> dict[str, str]:
    """Return the MIME bundle of a list of entries."""
    return tables.bundle([_row(entry) for entry in listed], HEADS)


def entry(one: Entry) -> dict[str, str]:
    """Return the MIME bundle of one entry."""
    text = harmless("".join(map(str, one.answered.get("text", ""))))
    rows = list(zip(HEADS, (one.receipt.hash, *_row(one)[1:]), strict=True))
    exact = escape(one.receipt.text)
    html = (
        f"<div>{tables.html(rows)}{markup.to_html(text, final=True)}<details><summary>The question"
        f"</summary><pre style='white-space:pre-wrap'>{exact}</pre></details></div>"
    )
    return {"text/html": html, "text/plain": f"{tables.plain(rows)}\n\n{text}"}


def _row(one: Entry) -> tuple[str, ...]:
    try:
        *_, last = json.loads(one.receipt.text)["messages"]
        texts = [part["text"] for part in last.get("parts", [last]) if "text" in part]
        question = " ".join(text_of(texts[-1] if texts else "").split())
    except (LookupError, TypeError, ValueError, AttributeError):  # anyone may have written it
        question = "(not to be read)"
    answered = one.answered
    return (
        one.receipt.hash[:12],
        shortened(question, LONGEST),
        str(answered.get("model")),
        date(str(answered.get("at"))),
        ", ".join(one.notebooks) or "not known",
    )
