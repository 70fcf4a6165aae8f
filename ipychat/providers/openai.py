"""OpenAI's chat completions, and every server that speaks them.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from ipychat import secrets
from ipychat.errors import MissingKeyError
from ipychat.messages import Event
from ipychat.provider import AsyncGeneratorProvider, Messages, ProviderModelMixin
from ipychat.providers import _completions
from ipychat.wire.http import Call, Transport

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")


class OpenAI(AsyncGeneratorProvider, ProviderModelMixin):
    """`openai:…`. The environment's key goes to the environment's address or OpenAI's, only."""

    label = "OpenAI"
    url = "https://platform.openai.com"
    base_url = "https://api.openai.com/v1"
    ends_with = "finish"
    default_model = "gpt-4o-mini"

    @classmethod
    def root(cls, given: str | None = None) -> str:
        """Return the root URL: the one given, else the environment's, else OpenAI's."""
        named = next(filter(None, map(os.environ.get, URL_VARIABLES)), None)
        return (given or named or cls.base_url).rstrip("/")

    @classmethod
    def key(cls, root: str, given: str | None = None) -> str | None:
        """Return the key for `root`; None where a server of the user's own may need none.

        Raises MissingKeyError where one is needed and there is none.
        """
        key = given or (os.environ.get(KEY_VARIABLE) if root == cls.root() else None)
        if key and (key := secrets.register(key.strip())):
            if not (key.isascii() and key.isprintable()) or " " in key:
                where = "api_key" if given else KEY_VARIABLE
                raise MissingKeyError(f"The key in {where} has a character that no key has.")
            return key
        if root == cls.base_url:
            raise MissingKeyError(f"OpenAI wants a key.\nSet {KEY_VARIABLE}, or pass api_key=….")
        return None

    @classmethod
    def missing(cls) -> str | None:
        """Return what is missing before it can be asked."""
        try:
            cls.key(cls.root())
        except MissingKeyError:
            return f"no key: set {KEY_VARIABLE}"
        return None

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - one for all
        """Return what stands behind the root where `model` is asked."""
        return "/chat/completions"

    @classmethod
    async def create_async_generator(
        cls,
        model: str,
        messages: Messages,
        proxy: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        stream: bool = True,
        **options: Any,
    ) -> AsyncIterator[Event]:
        """Ask, and give the answer's events; `options` that aren't known here go into the body."""
        transport = Transport.take({"proxy": proxy, **options})
        root = cls.root(base_url)
        key = cls.key(root, api_key)
        body = {"model": cls.get_model(model), "messages": messages, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        async with Call(
            "POST",
            root + cls.path(model),
            headers={"Authorization": f"Bearer {key}"} if key else None,
            json={**body, **options},
            transport=transport,
        ) as call:
            async for notice in call.send():
                yield notice
            async for event in _completions.read(call.content, cls.label):
                yield event
