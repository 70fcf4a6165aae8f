"""Services that are asked over HTTP for a key: what goes on, whatever their protocol.

A protocol's class says where it is asked, what the body is, and what an answer and a page of the
list of models mean.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode

from ipychat import secrets
from ipychat.config import MODEL_IN_URL, Endpoint
from ipychat.errors import AuthenticationError, FormatError, MissingKeyError
from ipychat.messages import Event
from ipychat.providers import _reader
from ipychat.providers._keyed import Keyed
from ipychat.providers._questions import Draft, Json
from ipychat.providers._reader import Answer, Events
from ipychat.providers.provider import NO_HINTS, Card, Given, Hints, read_messages
from ipychat.wire import offload
from ipychat.wire.http import Call, Transport
from ipychat.wire.ndjson import LineDecoder

Ask = Callable[..., Awaitable[_reader.Asked]]
"""Sends a question; `further` holds the beginning of a paused answer."""
MAX_PAGES = 20
"""A list of models that is longer has no end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is, and how requests go there."""

    root: str
    headers: dict[str, str] = field(repr=False)  # the key is in them; a call hides it
    transport: Transport
    query: tuple[tuple[str, str], ...] = ()

    def call(self, method: str, path: str, json: Json | None = None, model: str = "") -> Call:
        """Return a call to a path below the root, in which the model may be named."""
        # no variable here holds the address: a login in it would show in a traceback
        return Call(
            method,
            self._url(path, model),
            headers=self.headers,
            json=json,
            transport=self.transport,
        )

    def _url(self, path: str, model: str) -> str:
        url = self.root.replace(MODEL_IN_URL, quote(model, safe="")) + path
        if self.query:
            url += f"{'&' if '?' in path else '?'}{urlencode(self.query)}"
        return url


class HttpService(Keyed):
    """A provider whose subclass writes the question and reads the answer."""

    endpoint: ClassVar[Endpoint | None] = None
    """The endpoint that it was made for, if any."""
    ends_with = "finish"
    takes_hints = True
    decoder: ClassVar[type[Events | LineDecoder]] = Events
    """What reads the bytes of a stream."""
    listed: ClassVar[str]
    """What stands behind the root where the models are listed."""
    next_page: ClassVar[str] = ""
    """The parameter of that address that asks for another page."""

    @classmethod
    @functools.cache
    def of_endpoint(cls, name: str, endpoint: Endpoint) -> type[Self]:
        """Return a provider for an endpoint that speaks this protocol."""
        own = {
            "__doc__": f"`{name}:…`.",
            "name": name,
            "label": endpoint.label,
            "url": endpoint.base_url,
            "base_url": endpoint.base_url,
            "url_variables": (),
            "key_variables": (endpoint.key_variable,) if endpoint.key_variable else (),
            "key_command": endpoint.key_command,
            "default_model": endpoint.default_model,
            "check_path": endpoint.check_path,
            "asks_usage": endpoint.asks_usage,
            "pdf_part": endpoint.pdf_part,
            "caches": False,
            "endpoint": endpoint,
        }
        return type(endpoint.label.replace(" ", ""), (cls,), own)

    @classmethod
    def _whole_path(cls, model: str) -> str:
        """Return the path, below the root, for an answer in a single body."""
        return cls.path(model)

    @classmethod
    def _headers(cls, key: str | None) -> dict[str, str]:
        """Return the headers that go along, the key in one of them."""
        return cls._key_header(key)

    @classmethod
    def _key_header(cls, key: str | None) -> dict[str, str]:
        """Return the header with the key, as the endpoint or most services expect it."""
        wanted = cls.endpoint.key_header if cls.endpoint else "Authorization: Bearer"
        name, _, before = wanted.partition(":")
        return {name.strip(): f"{before.strip()} {key}".lstrip()} if key else {}

    @classmethod
    def _write(cls, asked: Draft) -> Json:
        """Return the body that asks."""
        raise NotImplementedError

    @classmethod
    def _read_and_write(cls, model: str, messages: Given, *how: Any) -> Json:
        return cls._write(Draft(model, read_messages(messages), *how))

    @classmethod
    async def _complete(cls, body: Json, place: Place) -> None:
        """Change in the body what depends on the place, or has to be asked for there first."""

    @classmethod
    def _answer(cls) -> type[Answer]:
        """Return the class that reads an answer."""
        raise NotImplementedError

    @classmethod
    def _read_page(cls, page: Any) -> tuple[list[Card], str]:
        """Return a page's models, and by what the next page is asked; empty on the last."""
        raise NotImplementedError

    @classmethod
    def _place(cls, base_url: str | None, api_key: str | None, transport: Transport) -> Place:
        root = cls.root(base_url)
        headers = cls._headers(cls.key(root, api_key))
        if (own := cls.endpoint) is None:
            return Place(root, headers, transport)
        return Place(root, headers | cls.own_headers(root), transport, own.query)

    @classmethod
    def own_headers(cls, root: str) -> dict[str, str]:
        """Return the endpoint's headers, at its own address only: they may contain secrets."""
        given = cls.endpoint.headers if cls.endpoint and root == cls.root() else ()
        return {name: _filled_in(value, cls.label) for name, value in given}

    @classmethod
    def create_async_generator(
        cls,
        model: str,
        messages: Given,
        proxy: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        stream: bool = True,
        hints: Hints = NO_HINTS,
        **options: Any,
    ) -> AsyncIterator[Event]:
        """Ask, and give the answer's events.

        OpenAI's common options are translated; others go into the body as they are.
        """
        api_key = api_key and secrets.Secret(api_key)
        secrets.hide(options)
        given = {"proxy": proxy, **options}
        ask = partial(
            cls._ask, model, messages, base_url, api_key, given, stream=stream, hints=hints
        )
        return _renewed(cls, ask) if cls.key_command else cls._read(ask)

    @classmethod
    def _read(cls, ask: Ask) -> AsyncIterator[Event]:
        return _reader.read(ask)

    @classmethod
    async def _ask(
        cls,
        model: str,
        messages: Given,
        base_url: str | None,
        api_key: str | None,
        options: Json,
        *,
        stream: bool,
        hints: Hints,
        further: tuple[Json, ...] = (),
    ) -> _reader.Asked:
        transport, options = Transport.split(options)
        model = cls.get_model(model)
        how = (options, stream, hints, further)
        body = await offload.run(cls._read_and_write, model, messages, *how)
        await cls.fetch_key(cls.root(base_url), api_key)
        place = cls._place(base_url, api_key, transport)
        await cls._complete(body, place)
        path = cls.path(model) if stream else cls._whole_path(model)
        answer = cls._answer()(cls.label, body)
        decoder = cls.decoder() if stream else None
        call = place.call("POST", path, body, model)
        return _reader.Asked(call, answer, decoder, place.root)

    @classmethod
    async def cards(
        cls, base_url: str | None = None, *, api_key: str | None = None, **transport: Any
    ) -> list[Card]:
        """Return the models that can be asked, from all pages of the service's list."""
        if MODEL_IN_URL in cls.root(base_url):
            return []  # each model is at an address of its own
        await cls.fetch_key(cls.root(base_url), api_key)
        place = cls._place(base_url, api_key, Transport(**transport))
        cards: list[Card] = []
        after = ""
        for _ in range(MAX_PAGES):
            async with place.call("GET", cls.listed + after) as call:
                page, token = _reader.read_list(await call.body(), cls.label, cls._read_page)
            cards += page
            if not token:
                return cards
            after = f"&{cls.next_page}={quote(token, safe='')}"
        raise FormatError(f"{cls.label} sent a list of models that does not end.")


async def _renewed(cls: type[HttpService], ask: Ask) -> AsyncIterator[Event]:
    """Read the answer; if the service rejects the key, retry once with a new one."""
    for is_last in (False, True):
        try:
            async with contextlib.aclosing(cls._read(ask)) as events:  # type: ignore[type-var] # a generator
                async for event in events:
                    yield event
            return
        except AuthenticationError:
            if is_last or not cls.forget_key():
                raise


def _filled_in(value: str, service: str) -> str:
    """Return a header's value with variables of the environment substituted; they are secrets."""

    def variable(found: re.Match[str]) -> str:
        if not (text := os.environ.get(found[1], "").strip()):
            raise MissingKeyError(f"{service} wants {found[1]} in a header: set that variable.")
        secrets.register(text, found[1])
        return text

    filled = re.sub(r"\$([A-Za-z_]\w*)", variable, value)
    return secrets.Secret(filled) if filled != value else value
