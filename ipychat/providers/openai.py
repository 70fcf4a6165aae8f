"""OpenAI's chat completions, and every service that speaks them: presets, and the user's own.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

from ipychat.messages import Event
from ipychat.presets import Endpoint
from ipychat.provider import Card, Messages
from ipychat.providers import _completions
from ipychat.providers._keyed import Keyed
from ipychat.wire.http import Call, Transport


class OpenAI(Keyed):
    """`openai:…`. The environment's key goes to the environment's address or OpenAI's, only."""

    name = "openai"
    label = "OpenAI"
    url = "https://platform.openai.com"
    base_url = "https://api.openai.com/v1"
    url_variables = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
    key_variables = ("OPENAI_API_KEY",)
    ends_with = "finish"
    default_model = "gpt-6-luna"
    check_path = ""

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
        transport, options = Transport.split({"proxy": proxy, **options})
        root = cls.root(base_url)
        body = {"model": cls.get_model(model), "messages": messages, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        if root == OpenAI.base_url and "max_tokens" in options:  # its newer models refuse the word
            body["max_completion_tokens"] = options.pop("max_tokens")
        async with Call(
            "POST",
            root + cls.path(model),
            headers=cls._headers(root, api_key),
            json={**body, **options},
            transport=transport,
        ) as call:
            async for notice in call.send():
                yield notice
            async for event in _completions.read(call.content, cls.label):
                yield event

    @classmethod
    async def cards(
        cls, base_url: str | None = None, *, api_key: str | None = None, **transport: Any
    ) -> list[Card]:
        """Return what the service lists; most say no more than the names."""
        root = cls.root(base_url)
        async with Call(
            "GET",
            f"{root}/models",
            headers=cls._headers(root, api_key),
            transport=Transport(**transport),
        ) as call:
            return _completions.read_cards(await call.body(), cls.label)

    @classmethod
    async def check(cls, root: str, key: str, **transport: Any) -> list[Card]:
        """Return the service's models, if it accepts the key."""
        if cls.check_path:
            headers, how = cls._headers(root, key), Transport(**transport)
            async with Call("GET", root + cls.check_path, headers=headers, transport=how) as call:
                await call.body()
        return await super().check(root, key, **transport)

    @classmethod
    def _headers(cls, root: str, given: str | None) -> dict[str, str]:
        key = cls.key(root, given)
        return {"Authorization": f"Bearer {key}"} if key else {}


@functools.cache
def compatible(name: str, endpoint: Endpoint) -> type[OpenAI]:
    """Return the provider that speaks OpenAI's protocol with another service."""
    variables = (endpoint.key_variable,) if endpoint.key_variable else ()
    return type(
        endpoint.label.replace(" ", ""),
        (OpenAI,),
        {
            "__doc__": f"`{name}:…`.",
            "name": name,
            "label": endpoint.label,
            "url": endpoint.base_url,
            "base_url": endpoint.base_url,
            "url_variables": (),
            "key_variables": variables,
            "default_model": endpoint.default_model,
            "check_path": endpoint.check_path,
        },
    )
