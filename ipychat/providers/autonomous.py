"""AutonomousAI: base64 messages in, chat-completion chunks out. Offline upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from ipychat.messages import Event, Message, to_base64
from ipychat.providers import _completions, _reader
from ipychat.providers._browser import USER_AGENT
from ipychat.providers._questions import Json
from ipychat.providers.provider import FullProvider, Given
from ipychat.wire import offload
from ipychat.wire.http import Call, Transport

ROOT = "https://chatgpt.autonomous.ai"
PATHS = {
    "llama": "/api/v1/ai/chat",
    "qwen_coder": "/api/v1/ai/chat",
    "hermes": "/api/v1/ai/chat-hermes",
    "vision": "/api/v1/ai/chat-vision",
    "summary": "/api/v1/ai/summary",
}
HEADERS = {
    "accept": "*/*",
    "accept-language": "en-US,en;q=0.9",
    "country-code": "US",
    "origin": "https://www.autonomous.ai",
    "referer": "https://www.autonomous.ai/",
    "time-zone": "America/New_York",
    "user-agent": USER_AGENT,
}


class AutonomousAI(FullProvider):
    """`autonomous:…`, one model for each of its endpoints."""

    takes_tools = False
    label = "AutonomousAI"
    url = "https://www.autonomous.ai/anon/"
    base_url = ROOT
    url_variables = ("IPYCHAT_AUTONOMOUS_URL",)
    working = False
    ends_with = "finish"

    api_endpoints = {model: f"{ROOT}{path}" for model, path in PATHS.items()}
    default_model = "llama"
    models = list(PATHS)
    model_aliases = {
        "llama-3.3-70b": "llama",
        "qwen-2.5-coder-32b": "qwen_coder",
        "hermes-3": "hermes",
        "llama-3.2-90b": "vision",
        "llama-3.2-70b": "summary",
    }

    @classmethod
    def path(cls, model: str) -> str:
        """Return the path, below the root, at which `model` is asked."""
        return PATHS[model]

    @classmethod
    def create_async_generator(
        cls,
        model: str,
        messages: Given,
        proxy: str | None = None,
        stream: bool = False,  # noqa: FBT001, FBT002 - the documented signature
        *,
        base_url: str | None = None,
        **options: Any,
    ) -> AsyncIterator[Event]:
        """Ask, and give the answer's events, whichever of its two forms the service chose."""
        given = {"proxy": proxy, **options}
        return _reader.read(partial(cls._ask, model, messages, base_url, given, stream=stream))

    @classmethod
    async def _ask(
        cls, model: str, messages: Given, base_url: str | None, options: Json, *, stream: bool
    ) -> _reader.Asked:
        transport, _ = Transport.split(options)
        model = cls.get_model(model)
        encoded = await offload.run(_encode, messages)
        call = Call(
            "POST",
            cls.root(base_url) + cls.path(model),
            headers=HEADERS,
            json={"messages": encoded, "threadId": model, "stream": stream, "aiAgent": model},
            transport=transport,
        )
        return _reader.Asked(call, _completions.Completion(cls.label))


def _encode(messages: Given) -> str:
    written = [one.to_dict() if isinstance(one, Message) else one for one in messages]
    return to_base64(offload.dump(written))
