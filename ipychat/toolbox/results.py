"""What a tool returned, as a model is told of it: bounded text, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ipychat.context import attachments, values
from ipychat.messages import Image, ImagePart, Result, TextPart
from ipychat.text import shapes
from ipychat.text.characters import harmless
from ipychat.toolbox.tool import Ran

MAX_RESULT = 50_000
"""Characters of a result that a model is told; the rest is cut, and it is told so."""
SECRET = 1 << 13
"""Characters of the longest secret, a private key."""
MAX_PICTURE = 8 << 20
"""Bytes of a picture."""
NO_PICTURE = "(a picture at an address, which is not loaded)"
NOTHING = "It returned nothing."


def parts_of(value: Any) -> tuple[TextPart | ImagePart, ...]:
    """Return a result as parts of a message."""
    if isinstance(value, Ran):
        return parts_of(value.parts)
    if isinstance(value, TextPart):
        return (TextPart(bounded(value.text)),)
    if isinstance(value, ImagePart):
        return (value if value.is_shown else TextPart(NO_PICTURE),)
    if isinstance(value, tuple) and all(isinstance(one, TextPart | ImagePart) for one in value):
        return tuple(part for one in value for part in parts_of(one)) or (TextPart(NOTHING),)
    if picture := picture_of(value):
        return (picture,)
    return (TextPart(bounded(_written(value))),)


def cleaned(parts: Result) -> Result:
    """Return a result that anyone may have written, as it is shown and sent: without secrets."""
    return tuple(
        TextPart(shapes.mask(harmless(one.text))) if isinstance(one, TextPart) else one
        for one in parts
    )


def picture_of(value: Any) -> ImagePart | None:
    """Return a picture: bytes of a known kind, or a figure that can be drawn.

    The bytes tell the kind: what a tool calls them doesn't count.
    """
    data = value if isinstance(value, bytes) else attachments.drawn(value)
    found = Image.read(data) if data and len(data) <= MAX_PICTURE else None
    return ImagePart.of_bytes(found.data, found.media_type) if found else None


def bounded(text: str, most: int = MAX_RESULT) -> str:
    """Return a text without control characters; of a long one its beginning and its end."""
    if len(text) <= most:
        return harmless(text)
    half = most // 2
    left_out = len(text) - 2 * half
    # all of it would hold the loop; what a cut leaves of a secret is no longer known as one
    begin = shapes.mask(harmless(text[: half + SECRET]))[:-SECRET]
    end = shapes.mask(harmless(text[-half - SECRET :]))[SECRET:]
    return f"{begin}\n… {left_out:,} characters are left out here …\n{end}"


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
