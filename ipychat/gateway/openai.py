"""OpenAI's chat completions over whatever the notebook can ask, so that other tools can too."""

from __future__ import annotations

import contextlib

from aiohttp import web

from ipychat.catalog import offers, resolve
from ipychat.errors import UsageError
from ipychat.gateway import _completions
from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import not_valid, read_messages, read_object, refuse

DEFAULT = "default"
"""The model's name that leaves the choice to the gateway."""
OPTIONS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
    *("presence_penalty", "frequency_penalty", "logit_bias", "reasoning_effort", "verbosity"),
    *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
)
"""What of a request goes on to the model. Not all: an address or a key of the client's must not."""

ONE_ANSWER = "This gateway gives one answer, without logprobs."


def routes(answers: Backend) -> list[web.RouteDef]:
    """Return the two addresses below `/v1`."""

    async def completions(request: web.Request) -> web.StreamResponse:
        asked = await read_object(request)
        messages = read_messages(asked.get("messages"))
        if (asked.get("n") or 1) != 1 or asked.get("logprobs"):
            raise refuse(400, _completions.error_body(UsageError(ONE_ANSWER)))
        streaming, model = asked.get("stream_options") or {}, asked.get("model") or DEFAULT
        if not (isinstance(streaming, dict) and isinstance(model, str)):
            raise not_valid("model must be a text, stream_options an object.")
        chosen = answers if model == DEFAULT else answers._replace(model=_known(model))
        options = {name: asked[name] for name in OPTIONS if asked.get(name) is not None}
        async with contextlib.aclosing(chosen.ask(DEFAULT, messages, options)) as events:
            if not asked.get("stream"):
                return await _completions.whole(events, model)
            wants_usage = bool(streaming.get("include_usage"))
            return await _completions.stream(request, events, model, usage=wants_usage)

    async def models(_: web.Request) -> web.Response:
        names = [DEFAULT, *(str(offer.model) for offer in offers.offers() if not offer.missing)]
        data = [{"id": n, "object": "model", "created": 0, "owned_by": "ipychat"} for n in names]
        return web.json_response({"object": "list", "data": data})

    return [web.post("/v1/chat/completions", completions), web.get("/v1/models", models)]


def _known(model: str) -> str:
    """Return the full name of the model asked for; refuse one that is not there with 404."""
    try:
        return str(resolve.resolve(model))
    except UsageError as error:
        raise refuse(404, _completions.error_body(error)) from None
