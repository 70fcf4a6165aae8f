"""Services that are asked over HTTP for a key: what goes on, whatever their protocol.

A protocol's class says where it is asked, what the body is, and what an answer and a page of the
list of models mean.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

from ipychat import secrets
from ipychat.errors import FormatError
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
"""Sends a question; `further` is what there is of its answer."""
MAX_PAGES = 20
"""A list of models that is longer has no end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is, and how requests go there."""

    root: str
    headers: dict[str, str] = field(repr=False)  # the key is in them; a call hides it
    transport: Transport

    def call(self, method: str, path: str, json: Json | None = None) -> Call:
        """Return the call of what stands behind the root."""
        return Call(
            method, self.root + path, headers=self.headers, json=json, transport=self.transport
        )


class HttpService(Keyed):
    """A provider whose subclass writes the question and reads the answer."""

    ends_with = "finish"
    takes_hints = True
    decoder: ClassVar[type[Events | LineDecoder]] = Events
    """What reads the bytes of a stream."""
    listed: ClassVar[str]
    """What stands behind the root where the models are listed."""
    next_page: ClassVar[str] = ""
    """The parameter of that address that asks for another page."""

    @classmethod
    def _whole_path(cls, model: str) -> str:
        """Return the path, below the root, for an answer in a single body."""
        return cls.path(model)

    @classmethod
    def _headers(cls, key: str | None) -> dict[str, str]:
        """Return the headers that go along, the key in one of them."""
        return {"Authorization": f"Bearer {key}"} if key else {}

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
        return Place(root, cls._headers(cls.key(root, api_key)), transport)

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
        return cls._read(ask)

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
        place = cls._place(base_url, api_key, transport)
        await cls._complete(body, place)
        path = cls.path(model) if stream else cls._whole_path(model)
        answer = cls._answer()(cls.label, body)
        decoder = cls.decoder() if stream else None
        call = place.call("POST", path, body)
        return _reader.Asked(call, answer, decoder, place.root)

    @classmethod
    async def cards(
        cls, base_url: str | None = None, *, api_key: str | None = None, **transport: Any
    ) -> list[Card]:
        """Return the models that can be asked, from all pages of the service's list."""
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
