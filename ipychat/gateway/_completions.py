"""Events → chat-completion answers, streamed or whole. Shared by the protocols that write them."""

from __future__ import annotations

import json
import secrets as random
import time
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

from ipychat.errors import ChatError
from ipychat.gateway import _seals, replies
from ipychat.gateway._openai import error_body
from ipychat.gateway.replies import refuse, sse, status_of
from ipychat.messages import (
    Event,
    FinishReason,
    Image,
    Reasoning,
    Source,
    Text,
    ToolCall,
    Usage,
    to_base64,
)

TEXT = 'data: %s, "choices": [{"index": 0, "delta": {"content": %s}, "finish_reason": null}]}\n\n'
"""Nearly every payload, behind the start of its JSON: a tenth of what writing it all costs."""


async def stream(
    request: web.Request, events: AsyncGenerator[Event, None], model: str, *, usage: bool = False
) -> web.StreamResponse:
    """Answer with an event stream."""
    return await replies.stream(
        request,
        events,
        write=_Chunks(model, usage=usage).write,
        write_error=lambda error: sse(error_body(error)),
        refusal=error_body,
        end=b"data: [DONE]\n\n",
    )


class _Chunks:
    """Writes one answer's events; its usage comes behind its finish, as from OpenAI itself."""

    def __init__(self, model: str, *, usage: bool) -> None:
        self._head = _head(model, "chat.completion.chunk")
        self._begun = json.dumps(self._head).removesuffix("}")
        self._wants_usage = usage
        self._usage: Usage | None = None
        self._calls = self._sealed = self._besides = 0
        self._role = self._chunk({"role": "assistant", "content": ""})
        """What comes before all else."""

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event; none if the protocol has no place for it."""
        written = self._write(event)
        if written and self._role:
            written, self._role = self._role + written, b""
        return written

    def _write(self, event: Event) -> bytes:
        match event:
            case Text(text):
                return (TEXT % (self._begun, json.dumps(text))).encode()
            case Reasoning(text, seal):
                thought: dict[str, Any] = {"reasoning_content": text} if text else {}
                if seal:
                    thought["reasoning_details"] = [_seals.detail(seal, self._sealed)]
                    self._sealed += 1
                return self._chunk(thought)
            case ToolCall():
                self._calls += 1
                return self._chunk({"tool_calls": [{"index": self._calls - 1, **_call(event)}]})
            case Source() | Image():
                beside = _beside(event, self._besides)
                self._besides += 1
                return self._chunk(beside) if beside else b""
            case Usage():
                self._usage = event
            case FinishReason(reason):
                return self._chunk({}, reason) + self._counted()
        return b""

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return sse({**self._head, "choices": [choice]})

    def _counted(self) -> bytes:
        if not (self._wants_usage and self._usage):
            return b""
        return sse({**self._head, "choices": [], "usage": _usage(self._usage)})


async def whole(events: AsyncGenerator[Event, None], model: str) -> web.Response:
    """Answer with one JSON body."""
    text: list[str] = []
    reasoning: list[str] = []
    sealed: list[dict[str, Any]] = []
    beside: dict[str, list[dict[str, Any]]] = {}
    calls: list[dict[str, Any]] = []
    body = _head(model, "chat.completion")
    finish = "stop"
    try:
        async for event in events:
            match event:
                case Text(piece):
                    text.append(piece)
                case Reasoning(piece, seal):
                    reasoning.append(piece)
                    sealed += [_seals.detail(seal, len(sealed))] if seal else []
                case ToolCall():
                    calls.append(_call(event))
                case Source() | Image():
                    for name, one in _beside(event, len(beside)).items():
                        beside.setdefault(name, []).extend(one)
                case FinishReason(reason):
                    finish = reason
                case Usage():
                    body["usage"] = _usage(event)
    except ChatError as error:
        raise refuse(status_of(error), error_body(error)) from None
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(text) or (None if calls else ""),
    }
    besides = {
        "reasoning_content": "".join(reasoning), "reasoning_details": sealed, "tool_calls": calls
    }  # fmt: skip
    message |= {name: one for name, one in {**besides, **beside}.items() if one}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return web.json_response(body)


def _beside(event: Source | Image, index: int) -> dict[str, list[dict[str, Any]]]:
    """Return a source or an image as OpenAI or OpenRouter write it beside the text."""
    match event:
        case Source(url, title) if url:
            cited = {"url": url, "title": title, "start_index": 0, "end_index": 0}
            return {
                "annotations": [{"type": "url_citation", "url_citation": cited, "index": index}]
            }
        case Image(media_type, data):
            url = f"data:{media_type};base64,{to_base64(data)}"
            image = {"type": "image_url", "image_url": {"url": url}, "index": index}
            return {"images": [image]}
    return {}


def _call(call: ToolCall) -> dict[str, Any]:
    return call.to_dict() | (_seals.beside(call.seal) if call.seal else {})


def _head(model: str, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{random.token_hex(12)}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
