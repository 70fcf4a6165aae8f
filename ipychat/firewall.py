"""What is a secret does not go along with a question: it is masked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ipychat import secrets
from ipychat.messages import (
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    Part,
    TextPart,
    from_base64,
    to_base64,
)


def masked(request: ChatRequest) -> tuple[ChatRequest, list[str]]:
    """Return the request without secrets, and what those are called that were in it."""
    names = sorted({name for message in request.messages for name in _names_in(message)})
    if not names:
        return request, []
    return replace(request, messages=tuple(map(_masked, request.messages))), names


def _names_in(message: Message) -> Iterator[str]:
    for part in message.parts:
        yield from secrets.names_in(_content(part))
    for call in message.tool_calls:
        yield from secrets.names_in(call.arguments)


def _content(part: Part) -> str | bytes:
    match part:
        case TextPart(text):
            return text
        case FilePart(data=data):
            return data
        case ImagePart(url):
            return _image(url) or url


def _masked(message: Message) -> Message:
    content = message.content
    return replace(
        message,
        content=secrets.mask(content) if isinstance(content, str) else tuple(map(_part, content)),
        tool_calls=tuple(
            replace(call, arguments=secrets.mask(call.arguments)) for call in message.tool_calls
        ),
    )


def _part(part: Part) -> Part:
    match part:
        case TextPart(text):
            return TextPart(secrets.mask(text))
        case FilePart(name, data, media_type):
            return FilePart(secrets.mask(name), secrets.mask_bytes(data), media_type)
        case ImagePart(url):
            if (image := _image(url)) is None:
                return ImagePart(secrets.mask(url))
            head, _, _ = url.partition(",")
            return ImagePart(f"{head},{to_base64(secrets.mask_bytes(image))}")


def _image(url: str) -> bytes | None:
    """Return the bytes that an image's address carries, if it does."""
    head, _, data = url.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        return None
    try:
        return from_base64(data)
    except ValueError:
        return None
