"""OpenAI's protocols over whatever the notebook can ask, so that other tools can too."""

from __future__ import annotations

import contextlib

from aiohttp import web

from ipychat.catalog import offers
from ipychat.gateway import _completions, _seals, responses
from ipychat.gateway._openai import DEFAULT, chosen, effort, refused
from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import not_valid, read_messages, read_object

OPTIONS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
    *("presence_penalty", "frequency_penalty", "logit_bias", "verbosity"),
    *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
)
"""What of a request goes on to the model. Not all: an address or a key of the client's must not."""

ONE_ANSWER = "This gateway gives one answer, without logprobs."


def routes(answers: Backend) -> list[web.RouteDef]:
    """Return the addresses below `/v1`."""

    async def completions(request: web.Request) -> web.StreamResponse:
        asked = await read_object(request)
        messages = tuple(map(_seals.opened, read_messages(asked.get("messages"))))
        if (asked.get("n") or 1) != 1 or asked.get("logprobs"):
            raise refused(ONE_ANSWER)
        streaming = asked.get("stream_options") or {}
        if not isinstance(streaming, dict):
            raise not_valid("stream_options must be an object.")
        who, model = chosen(answers, asked.get("model"))
        options = {name: asked[name] for name in OPTIONS if asked.get(name) is not None}
        options |= effort(asked.get("reasoning_effort"))
        async with contextlib.aclosing(who.ask(DEFAULT, messages, options)) as events:
            if not asked.get("stream"):
                return await _completions.whole(events, model)
            wants_usage = bool(streaming.get("include_usage"))
            return await _completions.stream(request, events, model, usage=wants_usage)

    async def models(_: web.Request) -> web.Response:
        names = [DEFAULT, *(str(offer.model) for offer in offers.offers() if not offer.missing)]
        data = [{"id": n, "object": "model", "created": 0, "owned_by": "ipychat"} for n in names]
        return web.json_response({"object": "list", "data": data})

    return [
        web.post("/v1/chat/completions", completions),
        web.post("/v1/responses", responses.handler(answers)),
        web.get("/v1/models", models),
    ]
