"""What a tool returned, as a model is told of it: bounded text, and pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ipychat.context import values
from ipychat.messages import ImagePart, TextPart
from ipychat.text.characters import harmless

MAX_RESULT = 50_000
"""Characters of a result that a model is told; the rest is cut, and it is told so."""
MAX_PICTURE = 8 << 20
"""Bytes of a picture."""
PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
"""Kinds of pictures, by the bytes that they begin with: what a tool calls them doesn't count."""
NOTHING = "It returned nothing."


def parts_of(value: Any) -> tuple[TextPart | ImagePart, ...]:
    """Return a result as parts of a message."""
    if isinstance(value, TextPart):
        return (TextPart(bounded(value.text)),)
    if isinstance(value, ImagePart):
        return (value,)
    if isinstance(value, tuple) and all(isinstance(one, TextPart | ImagePart) for one in value):
        return tuple(part for one in value for part in parts_of(one)) or (TextPart(NOTHING),)
    if picture := picture_of(value):
        return (picture,)
    return (TextPart(bounded(_written(value))),)


def picture_of(value: Any) -> ImagePart | None:
    """Return a picture: bytes of a known kind, or a figure that draws itself as PNG."""
    data = value
    if not isinstance(value, bytes) and hasattr(type(value), "_repr_png_"):
        data = value._repr_png_()
        data = base64.b64decode(data) if isinstance(data, str) else data
    if not isinstance(data, bytes) or len(data) > MAX_PICTURE:
        return None
    for begin, kind in PICTURES.items():
        if data.startswith(begin):
            return ImagePart.of_bytes(data, kind)
    return None


def bounded(text: str) -> str:
    """Return a text without control characters; of a long one its beginning and its end."""
    text = harmless(text)
    if len(text) <= MAX_RESULT:
        return text
    half = MAX_RESULT // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n… {left_out:,} characters are left out here …\n{text[-half:]}"


def _written(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value or "It returned an empty text."
    if isinstance(value, bool | int | float | Mapping | Sequence) and not isinstance(value, bytes):
        try:
            written = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            written = ""
        if written:
            return written
    return values.summarise("result", value, MAX_RESULT)
