"""A conversation as a page of its own, without scripts and external resources."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ipychat import secrets
from ipychat.chat.conversations import Conversation
from ipychat.chat.turn import Turn
from ipychat.messages import TextPart
from ipychat.text import markup, shapes
from ipychat.text.characters import harmless

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{title}</h1>
{turns}
</body>
</html>
"""
_STYLE = Path(__file__).with_name("export.css")


def page(talk: Conversation) -> str:
    """Return the conversation as HTML; known secrets are masked."""
    title = escape(harmless(talk.title or talk.name))
    turns = "\n".join(_turn(number, turn) for number, turn in enumerate(talk.turns, 1))
    return secrets.mask(_PAGE.format(title=title, style=_STYLE.read_text(), turns=turns))


def _turn(number: int, turn: Turn) -> str:
    question = "\n".join(
        part.text if isinstance(part, TextPart) else f"[{getattr(part, 'name', 'image')}]"
        for message in turn.question
        for part in message.parts
    )
    how = [str(number), str(turn.model), turn.reply.at or turn.asked_at]
    how += [] if turn.state == "done" else [turn.state]
    how += ["stale"] if turn.stale else []
    about = escape(harmless(" · ".join(how)))
    error = f'<p class="about">{escape(turn.error)}</p>' if turn.error else ""
    return (
        f'<section>\n<div class="question">{escape(shapes.mask(harmless(question)))}</div>\n'
        f'<p class="about">{about}</p>\n{markup.to_html(harmless(turn.text), final=True)}'
        f"{error}\n</section>"
    )
