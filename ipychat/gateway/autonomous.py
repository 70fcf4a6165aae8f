"""AutonomousAI's server side: base64 messages in, chat-completion chunks or one JSON body out."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from typing import Any

from aiohttp import web

from ipychat.gateway import _completions
from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import read_messages, read_object, refuse
from ipychat.messages import Message
from ipychat.providers.autonomous import PATHS


def routes(answers: Backend) -> list[web.RouteDef]:
    """Return the service's four addresses.

    As upstream, an answer is an event stream even where `stream` is false; a client that asks for
    `application/json` gets one body then.
    """

    async def chat(request: web.Request) -> web.StreamResponse:
        asked = await read_object(request)
        agent = asked.get("aiAgent")
        if not isinstance(agent, str) or PATHS.get(agent) != _path(request):
            raise refuse(422, {"detail": "aiAgent is no model of this address."})
        messages = _decode(asked.get("messages"))
        as_json = not asked.get("stream") and "json" in request.headers.get("Accept", "")
        async with contextlib.aclosing(answers.ask(agent, messages)) as events:
            if as_json:
                return await _completions.whole(events, agent)
            return await _completions.stream(request, events, agent)

    return [web.post(path, chat) for path in dict.fromkeys(PATHS.values())]


def _path(request: web.Request) -> str:
    """The path below wherever the service is mounted."""
    return request.path[request.path.index("/api/v1/ai/") :]


def _decode(given: Any) -> tuple[Message, ...]:
    try:
        return read_messages(json.loads(base64.b64decode(given, validate=True)))
    except (TypeError, ValueError, RecursionError, binascii.Error):
        detail = "messages must be the base64 of a JSON list of messages."
        raise refuse(422, {"detail": detail}) from None
