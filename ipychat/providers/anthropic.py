"""Anthropic's Messages API, which Claude is asked by.

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar

from ipychat.errors import UsageError
from ipychat.messages import (
    Event,
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    Part,
    TextPart,
    Thought,
    ToolCall,
    Usage,
    to_base64,
)
from ipychat.providers import _questions, _reader
from ipychat.providers._questions import Conversation, Draft, Json
from ipychat.providers._reader import (
    Answer,
    Asked,
    OpenCall,
    count_of,
    counts_of,
    id_of,
    name_of,
    text_of,
)
from ipychat.providers._service import Ask, HttpService
from ipychat.providers.presets import KEY_VARIABLES
from ipychat.providers.provider import Card

VERSION = "2023-06-01"
TOKEN_VARIABLE = KEY_VARIABLES["anthropic"][1]
"""The environment's name for a key that goes as a bearer token."""
MAX_TOKENS = 32_000
"""How long an answer may get where the caller sets nothing: the service wants a number. The newest
models think unasked, and their thoughts count; no model that can be asked takes fewer."""
ANSWER = 8192
"""What is left of it at least behind thoughts of a given length."""


class Anthropic(HttpService):
    """`anthropic:…`. The environment's key goes to the environment's address or Anthropic's."""

    name = "anthropic"
    label = "Anthropic"
    protocol = "anthropic"
    url = "https://console.anthropic.com"
    base_url = "https://api.anthropic.com"
    url_variables = ("ANTHROPIC_BASE_URL",)
    key_variables = KEY_VARIABLES["anthropic"]
    default_model = "claude-sonnet-5-5"
    web = MappingProxyType({"type": "web_search_20250305", "name": "web_search"})
    known_options = frozenset({
        "cache_control", "container", "effort", "context_management", "inference_geo",
        "max_completion_tokens", "max_tokens", "mcp_servers", "metadata", "output_config",
        "response_format", "service_tier", "stop", "stop_sequences", "temperature", "thinking",
        "tool_choice", "tools", "top_k", "top_p",
    })  # fmt: skip
    caches: ClassVar[bool] = True
    """Whether the service can cache the beginning of a question."""
    listed = "/v1/models?limit=1000"
    next_page = "after_id"

    @classmethod
    def root(cls, given: str | None = None) -> str:
        """Return the root URL, without the /v1 that other services' roots have."""
        return super().root(given).removesuffix("/v1").rstrip("/")

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - one for all
        """Return the path, below the root, at which `model` is asked."""
        return "/v1/messages"

    @classmethod
    def _headers(cls, key: str | None) -> dict[str, str]:
        version = {"anthropic-version": VERSION}
        if cls.endpoint or (key and key == os.environ.get(TOKEN_VARIABLE, "").strip()):
            return version | cls._key_header(key)
        return version | ({"x-api-key": key} if key else {})

    @classmethod
    def _write(cls, asked: Draft) -> Json:
        body: Json = {"model": asked.model, "stream": asked.stream}
        body |= _write_messages(asked.messages) | _write_options(asked)
        if asked.further:
            body["messages"].append({"role": "assistant", "content": [*asked.further]})
        if cls.caches and asked.hints.caches:
            body.setdefault("cache_control", {"type": "ephemeral"})  # up to its last block
        if not body.get("cache_control"):  # the user's False
            body.pop("cache_control", None)
        return body

    @classmethod
    def _answer(cls) -> type[Answer]:
        return _Message

    @classmethod
    async def _read(cls, ask: Ask) -> AsyncIterator[Event]:
        """Read the answer; if the service pauses, request the rest."""
        further: tuple[Json, ...] = ()
        for left in range(MAX_PAUSES, -1, -1):
            answers: list[Answer] = []
            events = _reader.read(partial(_ask_on, ask, further, answers))
            async with contextlib.aclosing(events) as given:  # type: ignore[type-var] # a generator
                async for event in given:
                    if not (left and event == FinishReason(PAUSED)):
                        yield event
            [answer] = answers
            if answer.finish != PAUSED or not isinstance(answer, _Message):
                return
            further = (*further, *answer.blocks())

    @classmethod
    def _read_page(cls, page: Any) -> tuple[list[Card], str]:
        cards = [_read_card(one) for one in page["data"] if one.get("lifecycle") != "retired"]
        return cards, text_of(page["last_id"]) if page.get("has_more") else ""


async def _ask_on(ask: Ask, further: tuple[Json, ...], answers: list[Answer]) -> Asked:
    """Ask, and keep the answer at hand."""
    asked = await ask(further=further)
    answers.append(asked.answer)
    return asked


# -- what is asked

BY_BUDGET = re.compile(r"claude-(3|(haiku|sonnet|opus)-4(-[0-5])?(-\d{8})?$)")
"""Older models, which take a budget of tokens instead of an effort."""
BUDGETS = {"low": 2_048, "medium": 8_192, "high": 16_384, "max": 24_576}
SEALED = {"thinking", "redacted_thinking"}
"""Blocks that are sent back unchanged: the service has signed them."""
SEALED_FIELDS = ("type", "thinking", "signature", "data")
NO_PARAMETERS = {"type": "object", "properties": {}}
CHOICES = {"auto": "auto", "none": "none", "required": "any"}
IMAGES = {"image/jpeg", "image/png", "image/gif", "image/webp"}


def _write_options(asked: Draft) -> Json:
    body = _questions.read_options(asked.options)
    _think(asked, body)
    if "max_tokens" not in body:
        body["max_tokens"] = MAX_TOKENS
        match body.get("thinking"):
            case {"budget_tokens": int(budget)}:  # is spent of them, and has to be less
                body["max_tokens"] = max(MAX_TOKENS, budget + ANSWER)
    if "stop" in body:
        body["stop_sequences"] = _questions.read_stop(body.pop("stop"))
    if "tools" in body:
        functions, own = _questions.read_tools(body["tools"])
        body["tools"] = [*map(_write_function, functions), *own]
    if "tool_choice" in body:
        body["tool_choice"] = _write_choice(body["tool_choice"])
    if (form := _questions.read_format(body.pop("response_format", None))) is not None:
        if form == "json":
            raise UsageError("Anthropic answers in JSON by a schema only, not as json_object.")
        config = _questions.read_dict(body, "output_config")
        body["output_config"] = {**config, "format": {"type": "json_schema", "schema": form}}
    return body


def _think(asked: Draft, body: Json) -> None:
    """Set the effort; if the model reasons by default, request a summary."""
    level = body.pop("effort", None)
    if level in BUDGETS and BY_BUDGET.match(asked.model):
        thinking: Json = {"type": "enabled", "budget_tokens": BUDGETS[level]}
    elif level == "none":
        thinking = {"type": "disabled"}
    elif level or asked.hints.reasons:
        thinking = {"type": "adaptive", "display": "summarized"}
        if level:
            config = _questions.read_dict(body, "output_config")
            body["output_config"] = {"effort": level, **config}
    else:
        return
    body.setdefault("thinking", thinking)
    if level and body["thinking"].get("type") == "enabled" and body.get("temperature", 1) != 1:
        raise UsageError(
            f"{asked.model} takes no temperature where it thinks.\nLeave it or the effort out."
        )


def _write_function(function: Json) -> Json:
    schema = function.pop("parameters", None) or NO_PARAMETERS
    return {**function, "input_schema": schema}


def _write_choice(given: Any) -> Json:
    if isinstance(given, Mapping) and given.get("type") != "function":
        return dict(given)  # the service's own
    mode, function = _questions.read_choice(given)
    return {"type": "tool", "name": function} if function else {"type": CHOICES[mode]}


def _write_messages(messages: Conversation) -> Json:
    """Return the system's text and the others' messages; blank ones, which it refuses, left out."""
    _questions.check_text(messages, {"system", "assistant"}, "Anthropic")
    system = [one.text for one in messages if one.role == "system" and one.text.strip()]
    others = [one for one in messages if one.role != "system"]
    written: list[Json] = []
    for role, several in itertools.groupby(others, attrgetter("role")):
        if role == "tool":  # the results of calls that were made together belong together
            written.append({"role": "user", "content": [*map(_write_result, several)]})
        else:
            contents = filter(None, map(_write_content, several))
            written += [{"role": role, "content": content} for content in contents]
    _questions.check_last(written, "Anthropic")
    return {"messages": written, **({"system": "\n\n".join(system)} if system else {})}


def _write_content(message: Message) -> str | list[Json]:
    content = message.content
    if isinstance(content, str):
        return content if content.strip() else ""
    written = [block for part in content if (block := _write_part(part))]
    while written and written[-1]["type"] in SEALED:  # nothing came of it, which is refused
        written.pop()
    return written


def _write_part(part: Part) -> Json | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text} if text.strip() else None
        case Thought(seal=seal):
            block = _questions.opened(seal, *SEALED_FIELDS)
            return block if block.get("type") in SEALED else None
        case ToolCall():
            return _write_call(part)
        case ImagePart(url):
            return {"type": "image", "source": _write_image(url)}
        case FilePart(name):
            return {"type": "document", "source": _write_file(part), "title": name}


def _write_image(url: str) -> Json:
    if url[:8].lower().startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    kind, data = _questions.split_data_url(url) or ("", "")
    if kind not in IMAGES:
        raise UsageError(
            "Anthropic takes an image by its web address, or a jpeg, png, gif or webp."
        )
    return {"type": "base64", "media_type": kind, "data": data}


def _write_file(file: FilePart) -> Json:
    if file.media_type == _questions.PDF:
        return {"type": "base64", "media_type": file.media_type, "data": to_base64(file.data)}
    text = _questions.read_text(file, "Anthropic takes PDFs, and files of text")
    return {"type": "text", "media_type": "text/plain", "data": text}


def _write_call(call: ToolCall) -> Json:
    arguments = _questions.read_arguments(call)
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _write_result(message: Message) -> Json:
    if not message.tool_call_id:
        raise UsageError("A message of the role tool has the tool_call_id that it answers.")
    result: Json = {"type": "tool_result", "tool_use_id": message.tool_call_id}
    if content := _write_content(message):
        result["content"] = content
    return {**result, "is_error": True} if message.failed else result


# -- what is answered

MAX_PAUSES = 10
"""How often a paused answer is continued."""
PAUSED = "pause_turn"
"""The reason of an answer that the service wants to continue when it is sent back."""
REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
COUNTS = (
    *("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    "output_tokens",
)


SEARCHES = {"web_search_tool_result", "web_fetch_tool_result"}
"""Blocks that the model reads, and cites."""
DETAILS = "output_tokens_details"
STORED = "cache_creation"
MAX_BLOCKS = 10_000
"""Blocks of an answer that are not shown."""


class _Thinking:
    """A block of thought while it comes in."""

    __slots__ = ("signature", "text")

    def __init__(self, block: Json) -> None:
        self.text, self.signature = io.StringIO(), io.StringIO()
        self.text.write(text_of(block.get("thinking") or ""))
        self.signature.write(text_of(block.get("signature") or ""))

    def sealed(self) -> Json | None:
        """Return the block as it has to come back; None where nothing was signed."""
        if not (signature := self.signature.getvalue()):
            return None
        return {"type": "thinking", "thinking": self.text.getvalue(), "signature": signature}


def _may_pause(body: Json) -> bool:
    """Return whether the service has tools of its own, between whose calls it may pause."""
    return any("type" in tool for tool in body.get("tools") or ()) or "mcp_servers" in body


class _RawBlock:
    """A block with all that came of it."""

    __slots__ = ("_block", "_pieces")

    def __init__(self, block: Json) -> None:
        self._block = dict(block)
        self._pieces: dict[str, list[str]] = {}

    def add(self, delta: Json) -> None:
        """Add a piece."""
        if "citation" in delta:
            self._block["citations"] = [*(self._block.get("citations") or ()), delta["citation"]]
        for name in ("text", "thinking", "signature", "partial_json"):
            if name in delta:
                self._pieces.setdefault(name, []).append(text_of(delta[name]))

    def whole(self) -> Json:
        """Return the block with its pieces joined."""
        block = dict(self._block)
        for name, pieces in self._pieces.items():
            text = "".join(pieces)
            if name == "partial_json":
                block["input"] = _questions.read_object(text) or {}
            else:
                block[name] = (block.get(name) or "") + text
        return block


class _Message(Answer):
    __slots__ = ("_blocks", "_counts", "_raw")

    def __init__(self, service: str, asked: Json) -> None:
        super().__init__(service, asked)
        self._blocks: dict[int, OpenCall | _Thinking | None] = {}
        """Blocks that are not shown: calls, what tools of the service's own do, and what is new."""
        self._counts: Json = {}
        self._raw: dict[int, _RawBlock] | None = {} if _may_pause(asked) else None
        """All blocks, if the service may want them back."""

    def blocks(self) -> list[Json]:
        """Return the content as it came."""
        return [block.whole() for block in (self._raw or {}).values()]

    def _take(self, payload: Json) -> None:
        match payload.get("type"):
            case "content_block_delta":
                self._take_delta(payload["index"], payload["delta"])
            case "content_block_start":
                self._take_block(payload["index"], payload["content_block"])
            case "message_start":
                self._take_message(payload["message"])
            case "message":  # all of it, as one JSON body
                self._take_message(payload)
            case "content_block_stop":
                self._seal_thought(payload.get("index"))
            case "message_delta":
                self._take_end(payload["delta"], payload.get("usage"))
            case "message_stop":
                self.closed = True
            case "error":
                raise self.error(payload)
            case str():
                pass  # a ping; the reference asks to skip what one does not know
            case _ if not payload.get("error"):
                raise TypeError

    def _take_message(self, message: Json) -> None:
        for index, block in enumerate(message.get("content") or ()):
            self._take_block(index, block)
            self._seal_thought(index)
        self._take_end(message, message.get("usage"))

    def _take_block(self, index: int, block: Json) -> None:
        self._blocks.pop(index, None)
        if self._raw is not None:
            self._raw[index] = _RawBlock(block)
        if type(index) is not int or len(self._blocks) >= MAX_BLOCKS:
            raise TypeError
        match block["type"]:
            case "text":
                self.say(block.get("text") or "")
                for citation in block.get("citations") or ():
                    self._cite(citation)
            case "thinking":
                self.think(block.get("thinking") or "")
                self._blocks[index] = _Thinking(block)
            case "redacted_thinking":
                self.seal(block)
                self._blocks[index] = None
            case "tool_use":
                given = json.dumps(block.get("input") or {}, ensure_ascii=False)
                call = OpenCall(id_of(block["id"]), name_of(block["name"]), otherwise=given)
                self._blocks[index] = self.open_call(call)
            case kind:
                self._blocks[index] = None
                self._take_other(name_of(kind), block)

    def _take_other(self, kind: str, block: Json) -> None:
        """Report a block that is neither text nor a call of the user's tools."""
        if kind == "fallback":
            other = block.get("to") or block
            name = other.get("model") if isinstance(other, dict) else other
            self.note(f"{self.service} let another model answer: {name_of(name or 'unnamed')}.")
        elif kind in SEARCHES:
            content = block.get("content")
            if isinstance(content, dict) and (code := content.get("error_code")):
                self.note(f"{self.service}'s search failed: {name_of(code)}.")
        elif kind != "server_tool_use":
            self.skip(kind)

    def _take_delta(self, index: int, delta: Json) -> None:
        kind = text_of(delta["type"])
        if self._raw and index in self._raw:
            self._raw[index].add(delta)
        if index in self._blocks:
            block = self._blocks[index]
            if isinstance(block, OpenCall) and kind == "input_json_delta":
                self.add_arguments(block, delta["partial_json"])
            elif isinstance(block, _Thinking) and kind == "thinking_delta":
                self.think(delta["thinking"])
                block.text.write(delta["thinking"])
            elif isinstance(block, _Thinking) and kind == "signature_delta":
                block.signature.write(text_of(delta["signature"]))
        elif kind == "text_delta":
            self.say(delta["text"])
        elif kind == "citations_delta":
            self._cite(delta["citation"])
        elif kind == "thinking_delta":
            self.think(delta["thinking"])

    def _cite(self, citation: Json) -> None:
        title = citation.get("title") or citation.get("document_title")
        self.cite(citation.get("url") or citation.get("source"), title)

    def _seal_thought(self, index: Any) -> None:
        """Seal the thought of a block that is complete."""
        thought = self._blocks.get(index)
        if isinstance(thought, _Thinking) and (sealed := thought.sealed()):
            self.seal(sealed)
            self._blocks[index] = None

    def _take_end(self, end: Json, usage: Any) -> None:
        if reason := end.get("stop_reason"):
            self.finish = REASONS.get(text_of(reason), reason)
        if why := (end.get("stop_details") or {}).get("explanation"):
            self.note(f"The model refuses: {text_of(why)}")
        if isinstance(usage, dict):  # each is the whole number so far; the last word counts
            said = {name: usage[name] for name in (*COUNTS, DETAILS, STORED) if name in usage}
            self._counts |= {name: count for name, count in said.items() if count is not None}
            read, cached, stored, output = counts_of(self._counts, *COUNTS)
            (thoughts,) = counts_of(self._counts.get(DETAILS), "thinking_tokens")
            (hour,) = counts_of(self._counts.get(STORED), "ephemeral_1h_input_tokens")
            self.usage = Usage(
                read + cached + stored,
                output,
                thoughts,
                cached,
                stored=stored,
                stored_hour=min(hour, stored),
            )


def _read_card(model: Json) -> Card:
    can = model.get("capabilities") or {}
    vision = (can.get("image_input") or {}).get("supported")
    context = count_of(model.get("max_input_tokens")) or None
    return Card(text_of(model["id"]), context, vision=None if vision is None else bool(vision))
