"""Koala: an event stream whose data are JSON values. Offline upstream."""

from __future__ import annotations

import contextlib
import json
import random
import re
import string
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ipychat.errors import FormatError
from ipychat.providers import _form
from ipychat.providers._browser import FIREFOX
from ipychat.providers._reader import is_dense
from ipychat.providers.provider import FullProvider, Given, read_messages
from ipychat.wire import offload
from ipychat.wire.content import Content
from ipychat.wire.http import Call, Transport
from ipychat.wire.sse import EventDecoder

if TYPE_CHECKING:
    import aiohttp

HEADERS = {
    "User-Agent": FIREFOX,
    "Accept": "text/event-stream",
    "Accept-Language": "de,en-US;q=0.7,en;q=0.3",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "https://koala.sh/chat",
    "Flag-Real-Time-Data": "false",
    "Origin": "https://koala.sh",
    "Alt-Used": "koala.sh",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "TE": "trailers",
}
DONE = "[DONE]"
MAX_PAYLOADS = 250_000
"""JSON values of one event."""
BETWEEN = re.compile(r"\s*(?:data:\s*)?")
DECODER = json.JSONDecoder()


class _Response(Protocol):
    """All that reading an answer needs of it."""

    @property
    def content(self) -> AsyncIterable[bytes]:
        """The body, in pieces."""
        ...


class Koala(FullProvider):
    """`koala:…`."""

    takes_tools = False
    label = "Koala"
    url = "https://koala.sh/chat"
    base_url = "https://koala.sh"
    url_variables = ("IPYCHAT_KOALA_URL",)
    api_endpoint = "https://koala.sh/api/gpt/"
    working = False
    supports_message_history = True
    default_model = "gpt-4o-mini"
    models = [default_model]

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - one for all
        """Return the path, below the root, at which `model` is asked."""
        return "/api/gpt/"

    @classmethod
    async def create_async_generator(
        cls,
        model: str,
        messages: Given,
        proxy: str | None = None,
        connector: aiohttp.BaseConnector | None = None,
        *,
        base_url: str | None = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """Ask, and give what the service sends: texts, or dicts with `text`.

        A `connector` of the caller's own is used and not closed.
        """
        transport, _ = Transport.split({"proxy": proxy, **options})
        body = await offload.run(_body, cls.get_model(model), messages)
        async with contextlib.AsyncExitStack() as stack:
            if connector is not None:
                import aiohttp

                session = aiohttp.ClientSession(connector=connector, connector_owner=False)
                transport = replace(transport, session=await stack.enter_async_context(session))
            call = await stack.enter_async_context(
                Call(
                    "POST",
                    cls.root(base_url) + cls.path(model),
                    headers={**HEADERS, "Visitor-ID": get_random_string(20)},
                    json=body,
                    transport=transport,
                )
            )
            async for notice in call.send():
                yield notice
            async for payload in cls._parse_event_stream(call):
                yield payload

    @staticmethod
    async def _parse_event_stream(response: _Response) -> AsyncIterator[Any]:
        """Give every JSON value of the stream, decoded, however the bytes are cut."""
        content = Content.of(response.content)
        form, chunk = await _form.begin(content, "Koala")
        if form == "json":
            for payload in _payloads(await _form.whole(content, chunk, "Koala")):
                yield payload
            return
        decoder = EventDecoder()
        while chunk:
            for event in decoder.feed(chunk):
                content.heard = True
                for payload in _payloads(event.data):
                    yield payload
            chunk = await content.next()
        for event in decoder.close():
            for payload in _payloads(event.data):
                yield payload


def _payloads(data: str) -> Iterator[Any]:
    """Decode one event's data: a JSON value, or several where the service left out line ends."""
    data = data.strip().removesuffix(DONE)
    at = 0
    left = 0 if is_dense(data) else MAX_PAYLOADS
    while at < len(data):
        left -= 1
        if left < 0:
            raise FormatError("Koala sent a line with more in it than an answer has.")
        try:
            payload, at = DECODER.raw_decode(data, at)
        except (ValueError, RecursionError):
            raise FormatError("Koala sent a line that is not valid JSON.") from None
        yield payload
        if match := BETWEEN.match(data, at):
            at = match.end()


def _body(model: str, messages: Given) -> dict[str, Any]:
    *before, last = read_messages(messages)
    system = " ".join(m.text for m in [*before, last] if m.role == "system")
    return {
        "input": f"{last.text} {system}" if system else last.text,
        "inputHistory": [m.text for m in before if m.role == "user"],
        "outputHistory": [m.text for m in [*before, last] if m.role == "assistant"],
        "model": model,
    }


def get_random_string(length: int = 10) -> str:
    """Return random small letters and digits."""
    return "".join(random.choices(string.ascii_lowercase + string.digits, k=length))  # noqa: S311 - an id, no secret
