"""Masks known and likely secrets in a question before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from ipychat import secrets
from ipychat.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    Question,
    TextPart,
    Thought,
    ToolCall,
)
from ipychat.text import shapes

ADDRESSES = {"base_url", "proxy"}
"""Options that are addresses: a secret in one is only sent to that address."""

T = TypeVar("T", str, bytes)


def masked(request: Question) -> tuple[Question, list[str]]:
    """Return the request without secrets, and the names of those it contained.

    Options that are secrets by name, such as a key, stay: they are meant to be sent.
    """
    masking = _Masking()
    messages = tuple(map(masking.message, request.messages))
    options = MappingProxyType(masking.option("", dict(request.options)))
    if not masking.names:
        return request, []
    return replace(request, messages=messages, options=options), sorted(masking.names)


def without_seals(request: Question, origin: str) -> tuple[Question, list[str]]:
    """Return the request with only the seals of `origin`, and the names of secrets found in those.

    A masked seal would be useless, so one that contains a known secret is left out entirely.
    """
    if not any(one.seals() for one in request.messages):
        return request, []
    found: set[str] = set()

    def own(message: Message) -> Message:
        kept = message.seals(origin)
        for seal in [] if request.allow_secrets else kept[:]:
            if names := secrets.names_in(seal):
                found.update(names)
                kept.remove(seal)
        parts = (_unsealed(part, kept) for part in message.parts)
        return replace(message, content=tuple(part for part in parts if part))

    messages = tuple(own(one) if one.seals() else one for one in request.messages)
    return replace(request, messages=messages), sorted(found)


def _unsealed(part: Part, kept: list[str]) -> Part | None:
    """Return the part without a seal that isn't kept; None for a thought, which is nothing else."""
    match part:
        case Thought(seal=seal) if seal not in kept:
            return None
        case ToolCall(seal=seal) if seal not in kept:
            return replace(part, seal="")
    return part


class _Masking:
    """Masks the parts of a request, and remembers what it found."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def message(self, given: Message) -> Message:
        content = given.content
        return replace(
            given,
            content=self._text(content)
            if isinstance(content, str)
            else (*map(self._part, content),),
            tool_call_id=given.tool_call_id and self._text(given.tool_call_id),
        )

    def option(self, name: str, value: Any) -> Any:
        match value:
            case str() if name not in ADDRESSES and not secrets.holds_secret(name, value):
                return self._text(value)
            case dict():
                return {inner: self.option(str(inner), one) for inner, one in value.items()}
            case list() | tuple():
                return [self.option(name, one) for one in value]
        return value

    def _part(self, part: Part) -> Part:
        match part:
            case TextPart(text):
                return TextPart(self._text(text))
            case FilePart(name, data, media_type):
                data = self._masked(data, shapes.mask_bytes)
                return FilePart(self._text(name), data, media_type)
            case ImagePart(url):
                return replace(part, url=self._masked(url, shapes.mask_url))
            case Thought(text):
                return replace(part, text=self._text(text))
            case ToolCall(id_, name, arguments, seal):
                return ToolCall(self._text(id_), self._text(name), self._text(arguments), seal)

    def _text(self, text: str) -> str:
        return self._masked(text, shapes.mask)

    def _masked(self, content: T, mask: Callable[[T], T]) -> T:
        if found := shapes.names_in(content):
            self.names |= found
            return mask(content)
        return content
