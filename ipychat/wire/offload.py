"""Process large values, such as a question with files, in a thread and in steps.

A thread alone is not enough: one call into C holds the interpreter's lock, and with it the loop,
until it returns. So no step here takes long, however large the value is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ipychat.messages import (
    FilePart,
    ImagePart,
    Message,
    Question,
    TextPart,
    Thought,
    ToolCall,
)

T = TypeVar("T")

LARGE = 1 << 16
"""Characters or bytes above which work would hold the loop: masking, hashing and serialising take
some 15 ms per MiB each."""


async def run(work: Callable[..., T], *given: Any) -> T:
    """Call `work` with the arguments, in a thread if they are large."""
    if _size(given) > LARGE:
        return await asyncio.to_thread(work, *given)
    return work(*given)


def dump(value: Any) -> bytes:
    """Return `value` as JSON."""
    return "".join(_pieces(value)).encode()


def _size(value: Any) -> int:
    """Count the characters of all texts in `value`."""
    size, waiting = 0, [value]
    while waiting:
        match waiting.pop():
            case str() | bytes() as text:
                size += len(text)
            case dict() as given:
                waiting += given.values()
            case list() | tuple() as given:
                waiting += given
            case Question(messages=content) | Message(content=content):
                waiting.append(content)
            case TextPart(text=content) | ImagePart(url=content) | FilePart(data=content):
                size += len(content)
            case ToolCall(arguments=content) | Thought(seal=content):
                size += len(content)
    return size


def _pieces(value: Any) -> Iterator[str]:
    if _size(value) <= LARGE:
        yield json.dumps(value)
    elif isinstance(value, str):
        steps = range(0, len(value), LARGE)
        yield from ('"', *(json.dumps(value[at : at + LARGE])[1:-1] for at in steps), '"')
    elif isinstance(value, dict):
        for number, (key, one) in enumerate(value.items()):
            yield f"{', ' if number else '{'}{json.dumps({key: 0})[1:-4]}: "
            yield from _pieces(one)
        yield "}"
    else:
        for number, one in enumerate(value):
            yield ", " if number else "["
            yield from _pieces(one)
        yield "]"
