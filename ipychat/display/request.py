"""A request as `--dry-run` shows it: every message as it would be sent, secrets masked."""

from __future__ import annotations

from html import escape
from typing import Any

from ipychat import cards, route, secrets
from ipychat.messages import ChatRequest, FilePart, ImagePart, Message, TextPart

MAX_SHOWN = 200_000
"""Characters of a message that are shown."""
MAX_URL = 60
"""Characters of an image's address that are shown; its bytes are not."""


def bundle(request: ChatRequest) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what a cell shows of `request`, and no metadata."""
    summary = [
        ("model", str(request.model)),
        ("address", route.address(request)),
        ("tokens", f"about {cards.estimate_tokens(request):,}"),
        *((name, str(value)) for name, value in request.options.items()),
    ]
    summary = [(name, secrets.without_login(value)) for name, value in summary]
    messages = [(m.role, secrets.mask(_bounded(_text(m)))) for m in request.messages]
    width = max(len(name) for name, _ in summary)
    plain = "\n".join(
        [
            "Nothing was sent. This would be:",
            *(f"{name:{width}}  {value}" for name, value in summary),
            *(f"\n[{role}]\n{text}" for role, text in messages),
        ]
    )
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in summary
    )
    shown = "".join(
        f"<div><b>{escape(role)}</b><pre style='white-space:pre-wrap'>{escape(text)}</pre></div>"
        for role, text in messages
    )
    html = f"<div><em>Nothing was sent. This would be:</em><table>{rows}</table>{shown}</div>"
    return {"text/html": html, "text/plain": plain}, {}


def _bounded(text: str) -> str:
    """Return as much of a message as a notebook can hold, and say what is left out."""
    if len(text) <= MAX_SHOWN:
        return text
    half = MAX_SHOWN // 2
    left_out = f"… {len(text) - MAX_SHOWN:,} characters that would be sent are not shown …"
    return f"{text[:half]}\n\n{left_out}\n\n{text[-half:]}"


def _text(message: Message) -> str:
    return "\n".join(map(_part, message.parts))


def _part(part: Any) -> str:
    match part:
        case TextPart(text):
            return text
        case ImagePart(url) if len(url) > MAX_URL:
            return f"(image: {url[:MAX_URL]}… {len(url):,} characters)"
        case ImagePart(url):
            return f"(image: {url})"
        case FilePart(name, data, media_type):
            return f"(file: {name}, {media_type}, {len(data):,} bytes)"
    raise AssertionError(part)
