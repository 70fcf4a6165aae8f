"""Events → chat-completion answers, streamed or whole. Shared by the protocols that write them."""

from __future__ import annotations

import json
import secrets as random
import time
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

from ipychat.errors import ChatError
from ipychat.gateway.replies import refuse, status_of
from ipychat.messages import Event, FinishReason, Reasoning, Text, Usage


def error_body(error: ChatError) -> dict[str, Any]:
    """Write an error as chat-completion services do."""
    return {"error": {"message": str(error), "type": type(error).__name__, "code": None}}


async def stream(
    request: web.Request, events: AsyncGenerator[Event, None], model: str, *, usage: bool = False
) -> web.StreamResponse:
    """Answer with an event stream; an error before its first event is the request's status."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    head = _head(model, "chat.completion.chunk")
    try:
        async for event in events:
            if (payload := _payload(event, head, usage=usage)) is None:
                continue
            if not response.prepared:
                await response.prepare(request)
            await response.write(_event(payload))
    except ChatError as error:
        if not response.prepared:
            raise refuse(status_of(error), error_body(error)) from None
        await response.write(_event(error_body(error)))
    else:
        if not response.prepared:
            await response.prepare(request)
        await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def whole(events: AsyncGenerator[Event, None], model: str) -> web.Response:
    """Answer with one JSON body."""
    text: list[str] = []
    reasoning: list[str] = []
    body = _head(model, "chat.completion")
    finish = "stop"
    try:
        async for event in events:
            match event:
                case Text(piece):
                    text.append(piece)
                case Reasoning(piece):
                    reasoning.append(piece)
                case FinishReason(reason):
                    finish = reason
                case Usage():
                    body["usage"] = _usage(event)
    except ChatError as error:
        raise refuse(status_of(error), error_body(error)) from None
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text)}
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return web.json_response(body)


def _head(model: str, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{random.token_hex(12)}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def _payload(event: Event, head: dict[str, Any], *, usage: bool) -> dict[str, Any] | None:
    delta: dict[str, Any] = {}
    finish: str | None = None
    match event:
        case Text(text):
            delta = {"content": text}
        case Reasoning(text):
            delta = {"reasoning_content": text}
        case FinishReason(reason):
            finish = reason
        case Usage() if usage:
            return {**head, "choices": [], "usage": _usage(event)}
        case _:
            return None
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _event(payload: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(payload)}\n\n".encode()
