"""What stands below an answer's text: its images, and its sources as numbered links."""

from __future__ import annotations

import base64
from html import escape

from ipychat.messages import Image, Reply
from ipychat.secrets import mask
from ipychat.text.characters import harmless

MAX_IMAGE = 8 << 20
"""Bytes of an image in an output; the reply has larger ones."""


def html(reply: Reply) -> str:
    """Return the images and sources of an answer as safe HTML."""
    images = "".join(map(_image, reply.images))
    items = "".join(f"<li>{_link(one.url, one.title)}</li>" for one in reply.sources)
    sources = f"<ol style='font-size:smaller'>{items}</ol>" if items else ""
    return images + sources


def plain(reply: Reply) -> str:
    """Return the same as text."""
    images = [described(image) for image in reply.images]
    sources = [
        f"{number}. {' '.join(filter(None, (_shown(one.title), _shown(one.url))))}"
        for number, one in enumerate(reply.sources, 1)
    ]
    return "\n".join([*images, *sources])


def _image(image: Image) -> str:
    if len(image.data) > MAX_IMAGE:
        return f"<p>{escape(described(image))}</p>"
    data = base64.b64encode(image.data).decode()
    return f'<p><img alt="" style="max-width:100%" src="data:{image.media_type};base64,{data}"></p>'


def described(image: Image) -> str:
    return f"(an image, {image.media_type}, {len(image.data):,} bytes: see the reply's .images)"


def _link(url: str, title: str) -> str:
    text = escape(_shown(title or url))
    if not url:
        return text
    return f'<a href="{escape(_shown(url))}" target="_blank" rel="noopener noreferrer">{text}</a>'


def _shown(text: str) -> str:
    return mask(harmless(text))
