"""OpenAI's Responses over whatever the notebook can ask. Nothing is kept between two requests.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import secrets as random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

from aiohttp import web

from ipychat.errors import ChatError
from ipychat.gateway import _seals, replies
from ipychat.gateway._openai import DEFAULT, chosen, effort, error_body, refused
from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import not_valid, read_messages, read_object, refuse, status_of
from ipychat.messages import (
    Event,
    FinishReason,
    Image,
    Message,
    Part,
    Reasoning,
    Source,
    Text,
    TextPart,
    Thought,
    ToolCall,
    Usage,
)

Json = dict[str, Any]

STATELESS = {
    "previous_response_id": "This gateway keeps no responses: send the whole input again.",
    "conversation": "This gateway keeps no conversations: send the whole input again.",
    "store": "This gateway stores nothing: leave store out, or set it to false.",
    "background": "This gateway answers at once: leave background out.",
    "prompt": "This gateway keeps no prompts: send their text.",
}
"""Fields that want something to be kept, and why they are refused."""
OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_tokens",
    "parallel_tool_calls": "parallel_tool_calls",
}
"""What of a request goes on to the model as it is, and how that is called."""


class Grown(NamedTuple):
    """How an item is written whose text comes in pieces."""

    prefix: str
    """What its id begins with."""
    parts: str
    """The field with its parts."""
    part: str
    """What an event about its part is called."""
    text: str
    """What an event about its text is called."""
    number: str
    """What an event calls the number of the part."""
    empty: Json
    """A part without text."""


GROWN = {
    "message": Grown(
        "msg", "content", "content_part", "output_text", "content_index",
        {"type": "output_text", "text": "", "annotations": []},
    ),
    "reasoning": Grown(
        "rs", "summary", "reasoning_summary_part", "reasoning_summary_text", "summary_index",
        {"type": "summary_text", "text": ""},
    ),
}  # fmt: skip
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def handler(answers: Backend) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return what answers `/v1/responses`."""

    async def responses(request: web.Request) -> web.StreamResponse:
        asked = await read_object(request)
        for name, why in STATELESS.items():
            if asked.get(name):
                raise refused(why)
        who, model = chosen(answers, asked.get("model"))
        messages, options = _read_input(asked), _read_options(asked)
        async with contextlib.aclosing(who.ask(DEFAULT, messages, options)) as events:
            writer = _Writer(model)
            if not asked.get("stream"):
                return await _whole(events, writer)
            return await replies.stream(
                request,
                events,
                write=writer.write,
                write_error=writer.fail,
                refusal=error_body,
            )

    return responses


# -- what is asked


def _read_input(asked: Json) -> tuple[Message, ...]:
    """Return the messages of a request; refuse what can't be read."""
    given = asked.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list):
        raise not_valid("input must be a text or a list of items.")
    told = asked.get("instructions")
    head = [Message("system", told)] if isinstance(told, str) and told else []
    messages: list[Message] = []
    said: list[tuple[Part, str]] = []  # by the assistant, with the origins of what is sealed
    for item in items:
        if not isinstance(item, dict):
            raise not_valid("An item of the input must be an object.")
        if parts := [*_read_said(item)]:
            said += parts
            continue
        messages += _assistant(said)
        said = []
        messages.append(_read_item(item))
    return read_messages([*head, *messages, *_assistant(said)])


def _assistant(said: list[tuple[Part, str]]) -> Iterator[Message]:
    """Yield the message that consecutive items of an assistant are."""
    if said:
        origin = next((origin for _, origin in said if origin), "")
        yield Message("assistant", tuple(part for part, _ in said), origin=origin)


def _read_said(item: Json) -> Iterator[tuple[Part, str]]:
    """Yield the parts of an item that an assistant said; none of another's."""
    match item:
        case {"type": "reasoning"}:
            for origin, seal in _seals.read(item.get("encrypted_content")):
                yield Thought("", seal), origin
            yield Thought(), ""  # an item that is not sealed is one of the assistant's, too
        case {"type": "function_call", "call_id": str(id_), "name": str(name)}:
            sealed = [*_seals.read(item.get("encrypted_content"))]
            arguments = item.get("arguments")
            text = arguments if isinstance(arguments, str) else ""
            origin, seal = sealed[0] if sealed else ("", "")
            yield ToolCall(id_, name, text, seal), origin
        case {"role": "assistant"}:
            yield TextPart(_text_of(item.get("content"))), ""


def _read_item(item: Json) -> Message:
    match item:
        case {"type": "function_call_output", "call_id": str(id_)}:
            return Message("tool", _content_of(item.get("output")), id_)
        case {"role": "user" | "system" | "developer" as role}:
            content = _content_of(item.get("content"))
            return Message("user" if role == "user" else "system", content)
    raise refused(f"This gateway can't take an item of the type {item.get('type')!r}.")


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [one for one in content or () if isinstance(one, dict)]
    return "".join(str(one.get("text") or one.get("refusal") or "") for one in parts)


def _content_of(content: Any) -> str | tuple[Part, ...]:
    """Return a content, whose parts are those of chat completions in other words."""
    if isinstance(content, str | None):
        return content or ""
    parts = [_completions_part(one) for one in content] if isinstance(content, list) else [content]
    [message] = read_messages([{"role": "user", "content": parts}])
    return message.content


def _completions_part(part: Any) -> Any:
    match part:
        case {"type": "input_text" | "output_text", "text": text}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case {"type": "input_file", "filename": name, "file_data": data}:
            return {"type": "file", "file": {"filename": name, "file_data": data}}
    return part


def _read_options(asked: Json) -> Json:
    """Return the options for the model. Not all fields: an address or a key must not go on."""
    options = {ours: asked[name] for name, ours in OPTIONS.items() if asked.get(name) is not None}
    if isinstance(reasoning := asked.get("reasoning"), Mapping):
        options |= effort(reasoning.get("effort"))
    if isinstance(text := asked.get("text"), Mapping):
        match text.get("format"):
            case {"type": "json_schema", **schema}:
                options["response_format"] = {"type": "json_schema", "json_schema": schema}
            case {"type": "json_object"}:
                options["response_format"] = {"type": "json_object"}
    if isinstance(tools := asked.get("tools"), list) and tools:
        options["tools"] = [_completions_tool(tool) for tool in tools]
    match asked.get("tool_choice"):
        case {"type": "function", "name": name}:
            options["tool_choice"] = {"type": "function", "function": {"name": name}}
        case "none" | "required" as choice:
            options["tool_choice"] = choice
    return options


def _completions_tool(tool: Any) -> Any:
    match tool:
        case {"type": "function", "name": str(), **function}:
            return {"type": "function", "function": {"name": tool["name"], **function}}
    return tool


# -- what is answered


async def _whole(events: AsyncGenerator[Event, None], writer: _Writer) -> web.Response:
    try:
        async for event in events:
            writer.write(event)
    except ChatError as error:
        raise refuse(status_of(error), error_body(error)) from None
    return web.json_response(writer.response)


class _Writer:
    """Writes an answer's events, and keeps the response that they come to."""

    def __init__(self, model: str) -> None:
        self.response: Json = {
            "id": f"resp_{random.token_hex(16)}", "object": "response",
            "created_at": int(time.time()), "status": "in_progress", "model": model,
            "output": [], "error": None, "incomplete_details": None, "instructions": None,
            "metadata": {}, "parallel_tool_calls": True, "temperature": None, "top_p": None,
            "tool_choice": "auto", "tools": [], "store": False, "usage": None,
        }  # fmt: skip
        self._number = 0
        self._open: Json | None = None
        """The item that text is added to."""
        self._texts: list[str] = []
        self._has_begun = False

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event."""
        return b"".join(self._begin()) + b"".join(self._write(event))

    def fail(self, error: ChatError) -> bytes:
        """Return the end of an answer that failed."""
        self.response |= {
            "status": "failed",
            "error": {"code": "server_error", "message": str(error)},
        }
        return b"".join(self._begin()) + self._event("failed", response=self.response)

    def _begin(self) -> Iterator[bytes]:
        if not self._has_begun:
            self._has_begun = True
            yield self._event("created", response=self.response)
            yield self._event("in_progress", response=self.response)

    def _write(self, event: Event) -> Iterator[bytes]:
        match event:
            case Text(text):
                yield from self._add(text, "message")
            case Reasoning(text, seal):
                if text or not self._open or self._open["type"] != "reasoning":
                    yield from self._add(text, "reasoning")
                if seal and self._open:
                    self._open["encrypted_content"] = seal
                    yield from self._close()
            case ToolCall(id_, name, arguments, seal):
                call = {
                    "type": "function_call",
                    "call_id": id_,
                    "name": name,
                    "arguments": arguments,
                }
                yield from self._item("fc", call | ({"encrypted_content": seal} if seal else {}))
            case Image(_, data):
                result = base64.b64encode(data).decode()
                yield from self._item("ig", {"type": "image_generation_call", "result": result})
            case Source(url, title) if url and self._open and self._open["type"] == "message":
                at = sum(map(len, self._texts))
                cited = {"url": url, "title": title, "start_index": at, "end_index": at}
                self._open["content"][0]["annotations"].append({"type": "url_citation", **cited})
            case Usage():
                self.response["usage"] = _usage(event)
            case FinishReason(reason):
                yield from self._close()
                status = "incomplete" if reason in INCOMPLETE else "completed"
                self.response["status"] = status
                if status == "incomplete":
                    self.response["incomplete_details"] = {"reason": INCOMPLETE[reason]}
                yield self._event(status, response=self.response)

    def _add(self, text: str, kind: str) -> Iterator[bytes]:
        """Add text to the open item of a kind, which is begun where there is none."""
        if not self._open or self._open["type"] != kind:
            yield from self._close()
            yield from self._open_item(kind)
        self._texts.append(text)
        if text:
            yield self._event(f"{GROWN[kind].text}.delta", **self._where(kind), delta=text)

    def _open_item(self, kind: str) -> Iterator[bytes]:
        how = GROWN[kind]
        role = {"role": "assistant", "status": "in_progress"} if kind == "message" else {}
        id_ = f"{how.prefix}_{random.token_hex(16)}"
        self._open = {"type": kind, "id": id_, **role, how.parts: []}
        self._texts = []
        yield self._event("output_item.added", output_index=self._index, item=self._open)
        part = copy.deepcopy(how.empty)
        yield self._event(f"{how.part}.added", **self._where(kind), part=part)
        self._open[how.parts] = [part]

    def _close(self) -> Iterator[bytes]:
        """End the item that text was added to."""
        if (item := self._open) is None:
            return
        kind, text = item["type"], "".join(self._texts)
        how, where = GROWN[kind], self._where(kind)
        [part] = item[how.parts]
        part["text"] = text
        yield self._event(f"{how.text}.done", **where, text=text)
        yield self._event(f"{how.part}.done", **where, part=part)
        if kind == "message":
            item["status"] = "completed"
        elif not text:
            item["summary"] = []
        yield self._event("output_item.done", output_index=self._index, item=item)
        self.response["output"].append(item)
        self._open = None

    def _item(self, prefix: str, item: Json) -> Iterator[bytes]:
        """Write an item that comes as a whole."""
        yield from self._close()
        item = {"id": f"{prefix}_{random.token_hex(16)}", "status": "completed", **item}
        where = {"item_id": item["id"], "output_index": self._index}
        is_call = item["type"] == "function_call"
        begun = {**item, "status": "in_progress"} | ({"arguments": ""} if is_call else {})
        yield self._event("output_item.added", output_index=self._index, item=begun)
        if is_call:
            arguments = item["arguments"]
            yield self._event("function_call_arguments.delta", **where, delta=arguments)
            done = {"name": item["name"], "arguments": arguments}
            yield self._event("function_call_arguments.done", **where, **done)
        yield self._event("output_item.done", output_index=self._index, item=item)
        self.response["output"].append(item)

    @property
    def _index(self) -> int:
        return len(self.response["output"])

    def _where(self, kind: str) -> Json:
        id_ = self._open["id"] if self._open else ""
        return {"item_id": id_, "output_index": self._index, GROWN[kind].number: 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        name = f"response.{kind}"
        payload = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {name}\ndata: {json.dumps(payload)}\n\n".encode()


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
