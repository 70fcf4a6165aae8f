"""OpenAI's service, whichever of its two protocols it is asked by. Shared by these."""

from __future__ import annotations

from typing import Any

from ipychat.providers import _completions
from ipychat.providers._service import HttpService
from ipychat.providers.presets import KEY_VARIABLES
from ipychat.providers.provider import Card
from ipychat.wire.http import Transport


class OpenAIService(HttpService):
    """What does not depend on the protocol."""

    name = "openai"
    label = "OpenAI"
    url = "https://platform.openai.com"
    base_url = "https://api.openai.com/v1"
    url_variables = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
    key_variables = KEY_VARIABLES["openai"]
    listed = "/models"
    default_model = "gpt-6-luna"
    check_path = ""

    @classmethod
    def _read_page(cls, page: Any) -> tuple[list[Card], str]:
        return _completions.read_cards(page), ""

    @classmethod
    async def check(cls, root: str, key: str, **transport: Any) -> list[Card]:
        """Return the service's models, if it accepts the key."""
        if cls.check_path:
            place = cls._place(root, key, Transport(**transport))
            async with place.call("GET", cls.check_path) as call:
                await call.body()
        return await super().check(root, key, **transport)
