"""Seals on their way through the gateway, which keeps nothing between two requests.

A client is given each one with its origin, in a place that it sends back as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ipychat.messages import EXTRA, Event, Message, Part, Reasoning, Thought, ToolCall

NAME = "ipychat"
"""Distinguishes the gateway's own entries from those of others."""


def closed(event: Event, origin: str) -> Event:
    """Return an event with its seal in the form that clients receive."""
    match event:
        case Reasoning(seal=seal) | ToolCall(seal=seal) if seal:
            return replace(event, seal=json.dumps({"origin": origin, "seal": seal}))
    return event


def detail(seal: str, index: int) -> dict[str, Any]:
    """Write a thought's seal into the `reasoning_details` of a chat completion."""
    return {"type": "reasoning.encrypted", "format": NAME, "data": seal, "index": index}


def beside(seal: str) -> dict[str, Any]:
    """Write the same of a call beside it."""
    return {EXTRA: {NAME: seal}}


def opened(message: Message) -> Message:
    """Return a client's message with the seals that the gateway gave it, and their origin.

    Seals from elsewhere are dropped.
    """
    if not message.seals():
        return message
    origins: list[str] = []
    parts: list[Part] = []
    for part in message.parts:
        if not (isinstance(part, Thought | ToolCall) and part.seal):
            parts.append(part)
            continue
        ours = [*_read(part.seal)]
        origins += [origin for origin, _ in ours]
        if isinstance(part, ToolCall):
            parts.append(replace(part, seal=ours[0][1] if ours else ""))
        else:
            parts += [Thought(part.text, seal) for _, seal in ours]
    return replace(message, content=tuple(parts), origin=origins[0] if origins else "")


def read(given: Any) -> Iterator[tuple[str, str]]:
    """Yield the origin and the seal that a client received, unless it changed them."""
    try:
        match json.loads(given or "null"):
            case {"origin": str(origin), "seal": str(own)}:
                yield origin, own
    except (TypeError, ValueError, RecursionError):
        return


def _read(seal: str) -> Iterator[tuple[str, str]]:
    """Yield the same for everything in a chat-completion message."""
    match json.loads(seal):
        case {"extra_content": {"ipychat": given}}:
            yield from read(given)
        case {"reasoning_details": list(details)}:
            for one in details:
                match one:
                    case {"format": "ipychat", "data": given}:
                        yield from read(given)
