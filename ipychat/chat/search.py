"""Searching all conversations of a notebook, for titles and for words."""

from __future__ import annotations

import re
from typing import NamedTuple

from ipychat import secrets
from ipychat.chat import conversations
from ipychat.chat.turn import Turn
from ipychat.messages import TextPart
from ipychat.text import shapes
from ipychat.text.characters import harmless

AROUND = 40
"""Characters shown before the first word; twice as many are shown after it."""


class Found(NamedTuple):
    """A turn that contains the words."""

    chat: str
    number: int
    """Of the turn, the first being 1."""
    turn: str
    """Its id."""
    at: str
    """When it was asked."""
    excerpt: str


def titles() -> dict[str, str]:
    """Return the titles of all conversations, by name. Reads from disk."""
    return {one.name: one.title for one in conversations.every()}


def search(words: str, most: int = 50) -> list[Found]:
    """Find the turns that contain all the words, the latest first. Reads from disk."""
    wanted = [re.compile(re.escape(word), re.IGNORECASE) for word in words.split()]
    found = [
        Found(one.name, number, turn.id, turn.asked_at, excerpt)
        for one in conversations.every()
        for number, turn in enumerate(one.turns, 1)
        if (excerpt := _excerpt(turn, wanted))
    ]
    return sorted(found, key=lambda one: one.at, reverse=True)[:most]


def _excerpt(turn: Turn, words: list[re.Pattern[str]]) -> str:
    """Return the text around the first word, if the turn contains all of them."""
    asked = [part.text for one in turn.question for part in one.parts if isinstance(part, TextPart)]
    text = harmless(" … ".join([*asked[-1:], turn.text]))
    if not words or not all(one.search(text) for one in words):
        return ""
    text = secrets.mask(shapes.mask(text))  # before it is cut: half a secret is not recognised
    places = [one.search(text) for one in words]
    begin = max(0, min(place.start() if place else 0 for place in places) - AROUND)
    return ("…" if begin else "") + " ".join(text[begin : begin + 3 * AROUND].split())
