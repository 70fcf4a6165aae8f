"""Calls that wait for the user, as cards: a front end shows one, and says what was decided.

A card is told to every page, and again to one that is opened while it waits; the first decision
counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from typing import Any, cast, get_args

from ipychat.display import steps
from ipychat.display.steps import CODE
from ipychat.errors import UsageError
from ipychat.messages import Decision
from ipychat.secrets import MASK
from ipychat.text import shapes
from ipychat.text.characters import spelled
from ipychat.toolbox.decisions import Pending, Verdict
from ipychat.toolbox.tool import Json

Send = Callable[[dict[str, Any]], None]
PATIENCE = 1.0
"""Seconds in which a front end has to say that it shows a card."""

_pages: list[Send] = []
"""How each page that could show a card is told."""
_waiting: dict[str, Card] = {}
"""The cards that wait, by their ids."""


class Card:
    """A call that waits, and whoever waits for its decision."""

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.id = os.urandom(8).hex()
        self.seen = asyncio.Event()
        self.verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def told(self) -> dict[str, Any]:
        """Return what a page shows of it: all of it, in the order in which it runs."""
        tool, (code, arguments) = self.pending.tool, steps.parted(self.pending.arguments)
        shown = {
            "tool": tool.name,
            "about": self.pending.asks or tool.description.partition("\n")[0],
            "where": self.pending.where,
            "code": code,
            "arguments": json.dumps(arguments, indent=2, ensure_ascii=False) if arguments else "",
        }
        shown = {name: one and decidable(one) for name, one in shown.items()}
        notes = note(f"{shown['code']}{shown['arguments']}", self.pending.arguments)
        shown["about"] = " ".join(filter(None, [shown["about"], *notes]))
        card = {"id": self.id, "cell": self.pending.cell, **shown}
        return {"kind": "card", "card": card}


def decidable(text: str) -> str:
    """Return a text as it is shown to whoever decides: without secrets, and hiding nothing."""
    return spelled(shapes.mask_words(text))


def note(shown: str, arguments: Json) -> list[str]:
    """Return what has to be said of a call that is shown."""
    has_masks = MASK in shown and MASK not in _written(arguments)
    return [f"{MASK} stands for a secret, which the tool is given as it is."] if has_masks else []


def check_masks(written: str, arguments: Json) -> None:
    """Raise ValueError if what the user wrote has the mask of a secret in its place."""
    if MASK in written and MASK not in _written(arguments):
        raise ValueError(f"{MASK} stands for a secret: write it out, or allow the call as it is")


def _written(arguments: Json) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def listen(send: Send) -> Callable[[], None]:
    """Tell a page of cards from now on; return how to stop that."""
    _pages.append(send)
    tell(send)

    def leave() -> None:
        with contextlib.suppress(ValueError):
            _pages.remove(send)

    return leave


def tell(send: Send) -> None:
    """Tell a page of all cards that wait."""
    for card in _waiting.values():
        send(card.told())


async def ask(pending: Pending) -> Verdict | None:
    """Show a card, and wait for what is decided; None if no front end shows it."""
    if not _pages:
        return None
    card = Card(pending)
    _waiting[card.id] = card
    try:
        _tell_all(card.told())
        try:
            async with asyncio.timeout(PATIENCE):
                await card.seen.wait()
        except TimeoutError:
            return None
        return await card.verdict
    finally:
        del _waiting[card.id]
        _tell_all({"kind": "card-gone", "id": card.id})


def _tell_all(message: dict[str, Any]) -> None:
    for send in [*_pages]:
        with contextlib.suppress(Exception):  # a page that has just closed
            send(message)


def seen(card: str) -> None:
    """Note that a front end shows the card."""
    if card in _waiting:
        _waiting[card].seen.set()


def decide(card: str, decision: str, arguments: Any = None, reason: str = "") -> None:
    """Take a decision of the user's. Raises UsageError for arguments that can't be used."""
    if card not in _waiting or _waiting[card].verdict.done():
        raise UsageError("This was decided already, or the answer has ended.")
    one = _waiting[card]
    if decision not in get_args(Decision) or decision == "unasked":
        raise UsageError(f"A decision is once, always, edited or refused, not {decision!r}.")
    given = one.pending.arguments
    if decision == "edited":
        given = _read(one.pending, arguments)
    reason = reason.strip() or ("the user refused it" if decision == "refused" else "")
    one.verdict.set_result(Verdict(cast("Decision", decision), given, reason))


def _read(pending: Pending, arguments: Any) -> dict[str, Any]:
    """Read what the user wrote: the arguments as JSON, and code beside them."""
    try:
        given = json.loads(arguments["arguments"] or "{}")
        if code := arguments.get(CODE):
            given[CODE] = code
        check_masks(_written(given), pending.arguments)
        pending.tool.read(given)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"The tool can't be run with these arguments: {error}") from None
    read: dict[str, Any] = given
    return read
