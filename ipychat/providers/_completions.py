"""Chat-completion answers → events. Shared by the providers whose services write them.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from ipychat.errors import (
    BrokenAnswerError,
    ChatError,
    FormatError,
    ServerError,
    ServiceTimeoutError,
)
from ipychat.messages import Event, FinishReason, Notice, Reasoning, Text, ToolCall, Usage
from ipychat.providers import _form
from ipychat.wire.http import error_message
from ipychat.wire.sse import EventDecoder

DONE = "[DONE]"
NO_CHOICE: tuple[dict[str, Any]] = ({},)


async def read(content: AsyncIterator[bytes], service: str) -> AsyncIterator[Event]:
    """Read an answer in whichever form it comes: an event stream, or one JSON body."""
    form, content = await _form.tell(content, service)
    answer = _Answer(service)
    if form == "json":
        for event in answer.take([await _form.read_json(content, service)]):
            yield event
        answer.finish = answer.finish or "stop"  # a JSON body that parses is whole by itself
    else:
        async for event in _read_stream(content, answer):
            yield event
    for event in answer.end():
        yield event


async def _read_stream(content: AsyncIterator[bytes], answer: _Answer) -> AsyncIterator[Event]:
    decoder = EventDecoder()
    try:
        async for chunk in content:
            for event in answer.take([one.data for one in decoder.feed(chunk)]):
                yield event
            if answer.closed:
                return
        for event in answer.take([one.data for one in decoder.close()]):
            yield event
    except (BrokenAnswerError, ServiceTimeoutError):
        if not answer.finish:
            raise
        yield Notice("The connection broke off behind the answer; its tokens may not be counted.")


class _Answer:
    """What is known of an answer while its payloads come in."""

    __slots__ = ("_calls", "_fault", "_service", "_usage", "closed", "finish")

    def __init__(self, service: str) -> None:
        self._service = service
        self._usage: Usage | None = None
        self._calls: list[_Call] = []
        self._fault: ChatError | None = None
        self.finish: str | None = None
        self.closed = False
        """Whether the service said `[DONE]`."""

    def take(self, data: list[str]) -> Iterator[Event]:
        """Give the events in the data that came in one packet, then raise if some of it is bad."""
        if DONE in data:
            self.closed = True
            data = data[: data.index(DONE)]
        yield from self._type(data)
        if self._fault:
            raise self._fault

    def end(self) -> Iterator[Event]:
        """Give what is known only at the end."""
        for call in self._calls:
            yield ToolCall(call.id, call.name, "".join(call.arguments) or "{}")
        if self._usage:
            yield self._usage
        if self.finish:
            yield FinishReason(self.finish)

    def _type(self, data: list[str]) -> list[Event]:
        events: list[Event] = []
        text: list[str] = []  # of this packet: one event is enough for all of it
        try:
            for payload in self._payloads(data):
                choice = (payload.get("choices") or NO_CHOICE)[0]
                delta = choice.get("delta") or choice.get("message") or {}
                alone = len(delta) == 1 and "content" in delta
                if not alone and (others := self._other_events(delta)):
                    if text:
                        events.append(Text("".join(text)))
                        text.clear()
                    events += others
                if content := delta.get("content"):
                    parts = (
                        [content]
                        if type(content) is str
                        else [_text(part["text"]) for part in content]
                    )
                    text += parts
                # some servers of AutonomousAI's protocol finish beside the choices
                if finish := choice.get("finish_reason") or payload.get("finish_reason"):
                    self.finish = _text(finish)
                elif content and not payload.get("usage"):
                    continue  # nearly every payload
                if usage := payload.get("usage"):
                    self._usage = _parse_usage(usage)
                if payload.get("error"):
                    said = error_message(payload)
                    self._fault = ServerError(f"{self._service} answered with an error: {said}")
                    break
        except (AttributeError, LookupError, TypeError):
            self._fault = FormatError(
                f"{self._service} sent a line that is not what a chat completion looks like."
            )
        if text:
            events.append(Text("".join(text)))
        return events

    def _payloads(self, data: list[str]) -> Iterator[dict[str, Any]]:
        if len(data) > 1:
            with contextlib.suppress(ValueError, RecursionError):
                # One call for all is a third faster than one for each.
                payloads = json.loads(f"[{','.join(data)}]")
                if len(payloads) == len(data) and all(type(one) is dict for one in payloads):
                    yield from payloads
                    return
        for one in data:
            try:
                payload = json.loads(one)
            except (ValueError, RecursionError):
                payload = None
            if not isinstance(payload, dict):
                self._fault = FormatError(f"{self._service} sent a line that is not valid JSON.")
                return
            yield payload

    def _other_events(self, delta: dict[str, Any]) -> list[Event]:
        events: list[Event] = []
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            events.append(Reasoning(_text(reasoning)))
        if refusal := delta.get("refusal"):
            events += [Notice("The model refuses."), Text(_text(refusal))]
        for call in delta.get("tool_calls") or ():
            self._take_call(call)
        return events

    def _take_call(self, given: dict[str, Any]) -> None:
        """Add to the call that a piece belongs to: by its index, else by its id, else the last."""
        function = given.get("function") or {}
        index, id_ = given.get("index"), _text(given.get("id") or "")
        known = [
            call
            for call in self._calls
            if (index is None or call.index == index) and (not id_ or call.id in {"", id_})
        ]
        if known:
            call = known[-1]
        else:
            call = _Call(index)
            self._calls.append(call)
        call.id = call.id or id_
        call.name = call.name or _text(function.get("name") or "")
        call.arguments.append(_text(function.get("arguments") or ""))


@dataclass
class _Call:
    """A tool call while its pieces come in."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


def _text(value: Any) -> str:
    """Return `value`, which must be a text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _parse_usage(usage: dict[str, Any]) -> Usage:
    output_details = usage.get("completion_tokens_details") or {}
    input_details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input=_count(usage.get("prompt_tokens")),
        output=_count(usage.get("completion_tokens")),
        reasoning=_count(output_details.get("reasoning_tokens")),
        cached=_count(input_details.get("cached_tokens")),
    )


def _count(value: Any) -> int:
    if not isinstance(value, int | None):
        raise TypeError
    return value or 0
