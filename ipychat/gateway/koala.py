"""Koala's server side: an event stream of JSON strings."""

from __future__ import annotations

import contextlib
from itertools import zip_longest
from typing import Any

from aiohttp import web

from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import read_object, refuse, sse, stream
from ipychat.messages import Message, Text


def routes(answers: Backend) -> list[web.RouteDef]:
    """Return the service's one address."""

    async def gpt(request: web.Request) -> web.StreamResponse:
        messages = _messages(await read_object(request))
        async with contextlib.aclosing(answers.ask_whole("koala", messages)) as events:
            return await stream(
                request,
                events,
                write=lambda event: sse(event.text) if isinstance(event, Text) else b"",
                write_error=lambda error: sse({"error": str(error)}),
                refusal=lambda error: {"message": str(error)},
            )

    return [web.post("/api/gpt/", gpt)]


def _messages(asked: dict[str, Any]) -> tuple[Message, ...]:
    """Put the two histories together again, question by question, and the input behind them."""
    texts = [asked.get("inputHistory", []), asked.get("outputHistory", []), [asked.get("input")]]
    if not all(isinstance(one, list) and all(isinstance(t, str) for t in one) for one in texts):
        raise refuse(422, {"message": "input must be a text, the histories lists of texts."})
    questions, answers, [last] = texts
    if not last.strip():
        raise refuse(422, {"message": "The input is empty."})
    messages: list[Message] = []
    for question, answer in zip_longest(questions, answers):
        messages += [Message("user", question)] if question else []
        messages += [Message("assistant", answer)] if answer else []
    return (*messages, Message("user", last))
