"""An answer as the front end's extension draws it: parts and a footer, in JSON.

The same for every run of the same answer once it has ended. While it grows, each output of its cell
carries only its own end of the texts: `at` says how much stands above it, and `live` is what these
outputs have in common. A step stands in one of them, with its `number`; its `at` is the text above
it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from ipychat.display import _beside
from ipychat.messages import Image, Reply, Source

MIME = "application/vnd.ipychat.answer+json"

State: TypeAlias = Literal["waiting", "streaming", "done", "stopped", "failed", "cut off"]
Part: TypeAlias = dict[str, Any]


def payload(state: State, parts: Iterable[Part | None], **known: Any) -> dict[str, Any]:
    """Write an answer; what is None is left out, and so is a part without a text."""
    return {
        "version": 1,
        "state": state,
        "parts": [part for part in parts if part],
        **{name: value for name, value in known.items() if value is not None},
    }


def text(words: str, at: int = 0) -> Part | None:
    """Write an answer's text from `at` on."""
    return {"type": "text", "text": words, **({"at": at} if at else {})} if words or at else None


def reasoning(words: str, at: int = 0, *, seconds: float | None = None) -> Part | None:
    """Write what the model thought from `at` on, and how long it did."""
    if not (words or at):
        return None
    took = {"seconds": round(seconds, 1)} if seconds else {}
    return {"type": "reasoning", "text": words, **({"at": at} if at else {}), **took}


def notices(said: Sequence[str], *, warning: bool = False) -> list[Part]:
    """Write what ipychat says itself."""
    level = {"level": "warning"} if warning else {}
    return [{"type": "notice", "text": words, **level} for words in said if words]


def image(made: Image) -> Part:
    """Write a picture that the model made; one that is too large is only described."""
    if len(made.data) > _beside.MAX_IMAGE:
        return {"type": "notice", "text": _beside.described(made)}
    data = base64.b64encode(made.data).decode()
    return {"type": "image", "text": "", "address": f"data:{made.media_type};base64,{data}"}


def source(cited: Source, number: int) -> Part:
    """Write what an answer cites."""
    words = cited.title or cited.url
    return {"type": "source", "text": words, "address": cited.url, "number": number}


def footer(reply: Reply, *, timed: bool) -> dict[str, Any]:
    """Say who answered, how long it took and what it cost."""
    usage = reply.usage
    known = {
        "model": str(reply.model),
        "seconds": round(reply.seconds, 1) if timed and reply.seconds else None,
        "tokens": [usage.input, usage.output] if usage else None,
        "cost": reply.cost,
    }
    return {name: value for name, value in known.items() if value is not None}


def below(reply: Reply, *, timed: bool) -> str:
    """Say the same in a line."""
    took = f"{reply.seconds:.1f} s" if timed and reply.seconds else ""
    return " · ".join(filter(None, [str(reply.model), took, str(reply.usage or "")]))


def units(words: str) -> int:
    """Count characters as the page does."""
    return len(words) + sum(character > "\uffff" for character in words)
