"""Looking through all of a notebook's conversations: their titles, and words in their turns."""

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
"""Characters that are shown before the first word, and twice as many behind it."""


class Found(NamedTuple):
    """A turn that has the words."""

    chat: str
    number: int
    """Of the turn, the first being 1."""
    turn: str
    """Its id."""
    at: str
    """When it was asked."""
    excerpt: str


def titles() -> dict[str, str]:
    """Return the title of each conversation, by its name; they are read from disk."""
    return {one.name: one.title for one in conversations.every()}


def search(words: str, most: int = 50) -> list[Found]:
    """Look for turns that have all the words, the latest first; they are read from disk."""
    wanted = [re.compile(re.escape(word), re.IGNORECASE) for word in words.split()]
    found = [
        Found(one.name, number, turn.id, turn.asked_at, excerpt)
        for one in conversations.every()
        for number, turn in enumerate(one.turns, 1)
        if (excerpt := _excerpt(turn, wanted))
    ]
    return sorted(found, key=lambda one: one.at, reverse=True)[:most]


def _excerpt(turn: Turn, words: list[re.Pattern[str]]) -> str:
    """Return what stands around the first of the words, where a turn has all of them."""
    asked = [part.text for one in turn.question for part in one.parts if isinstance(part, TextPart)]
    text = harmless(" … ".join([*asked[-1:], turn.text]))
    if not words or not all(one.search(text) for one in words):
        return ""
    text = secrets.mask(shapes.mask(text))  # before it is cut: half a secret is none that is known
    places = [one.search(text) for one in words]
    begin = max(0, min(place.start() if place else 0 for place in places) - AROUND)
    return ("…" if begin else "") + " ".join(text[begin : begin + 3 * AROUND].split())
