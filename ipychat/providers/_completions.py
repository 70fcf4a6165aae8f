"""Chat-completion answers → events. Shared by the providers whose services write them.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ipychat.errors import FormatError
from ipychat.messages import EXTRA, Event, Reasoning, Usage
from ipychat.providers._reader import (
    MAX_CALLS,
    Answer,
    OpenCall,
    counts_of,
    id_of,
    name_of,
    text_of,
)
from ipychat.providers.provider import NO_CHAT, Card

NO_CHOICE: tuple[dict[str, Any]] = ({},)
CACHED = ("cached_tokens", "prompt_cache_hit_tokens")
"""What Moonshot and DeepSeek call the part of the prompt that came from their cache."""
STORED = "cache_write_tokens"
"""What OpenAI and OpenRouter call the part that was put there."""
BESIDE = frozenset({"annotations", "images", "audio"})
MAX_COST = 1e6
"""Dollars. What is more is no price of an answer."""


class Completion(Answer):
    """What is known of a completion while it comes in."""

    __slots__ = ("_chose", "_details", "_pieces", "_thought")
    done = "[DONE]"

    def __init__(self, service: str, asked: Mapping[str, Any] | None = None) -> None:
        super().__init__(service, asked)
        self._chose = False
        self._thought: list[str] = []
        """What the service wants back, if calls follow."""
        self._details: list[_Detail] = []
        """The same from OpenRouter."""
        self._pieces: dict[tuple[Any, str], OpenCall] | None = None
        """The calls that came last: by index and id, by one of these, and of all."""

    def take_body(self, body: str) -> list[Event]:
        """Return the events in an answer that is one JSON body; it may end without a reason."""
        events = self.take([body])
        if self.fault is None and not self._chose and self.finish != "content_filter":
            self.finish = None  # Azure's filter has no message
            self.fault = FormatError(f"{self.service} sent a body without an answer in it.")
        if self.fault is None:
            self.finish = self.finish or "stop"
        return events

    def end(self) -> Iterator[Event]:
        """Yield the events that are known only at the end; some services only say `done`."""
        if self.closed and self._chose and not self.finish:
            self.finish = "tool_calls" if self.open_calls else "stop"
        if self.open_calls and (sealed := self._wanted_back()):
            yield Reasoning("", json.dumps(sealed))
        yield from super().end()

    def _wanted_back(self) -> dict[str, Any]:
        sealed: dict[str, Any] = {}
        if self._thought:
            sealed["reasoning_content"] = "".join(self._thought)
        if self._details:
            sealed["reasoning_details"] = [detail.whole() for detail in self._details]
        return sealed

    def _take(self, payload: dict[str, Any]) -> None:
        choice = (payload.get("choices") or NO_CHOICE)[0]
        if not choice and _is_error(payload):
            raise self.error(payload)
        if delta := choice.get("delta") or choice.get("message"):
            self._chose = True
            if len(delta) == 1 and type(text := delta.get("content")) is str:
                self.say(text)  # nearly every payload
            else:
                self._take_delta(delta)
        usage = payload.get("usage")
        # some servers of AutonomousAI's protocol finish beside the choices
        if finish := choice.get("finish_reason") or payload.get("finish_reason"):
            if finish == "error":
                raise self.error(choice if choice.get("error") else payload)
            self.finish = text_of(finish)
            self._take_sources(payload)
            usage = usage or _usage_elsewhere(payload, choice)
        if choice.get("error"):
            raise self.error(choice)
        if usage:
            self.usage = _parse_usage(usage)

    def _take_delta(self, delta: dict[str, Any]) -> None:
        self._take_thought(delta)
        if refusal := delta.get("refusal"):
            self.note("The model refuses.")
            self.say(refusal)
        if isinstance(content := delta.get("content"), list):
            for part in content:
                self._take_part(part)
        elif isinstance(content, dict):  # Cloudflare's, where JSON was asked for
            self.say(json.dumps(content, ensure_ascii=False))
        else:
            self.say(content or "")
        if not BESIDE.isdisjoint(delta):
            self._take_beside(delta)
        calls = delta.get("tool_calls") or ()
        if len(calls) > MAX_CALLS:
            raise FormatError(f"{self.service} sent over {MAX_CALLS:,} tool calls.")
        for call in calls:
            self._take_call(call)

    def _take_sources(self, payload: dict[str, Any]) -> None:
        """Cite what Perplexity and xAI name beside the choices, once they have finished."""
        for found in payload.get("search_results") or ():
            self.cite(found.get("url"), found.get("title"))
        for url in payload.get("citations") or ():
            self.cite(url)

    def _take_thought(self, delta: dict[str, Any]) -> None:
        if reasoning := delta.get("reasoning_content"):
            self.think(reasoning)
            self._thought.append(reasoning)
        elif reasoning := delta.get("reasoning"):
            self.think(reasoning)
        for detail in delta.get("reasoning_details") or ():  # OpenRouter's; some are encrypted
            if not reasoning:
                self.think(detail.get("text") or detail.get("summary") or "")
            self._take_detail(detail)

    def _take_beside(self, delta: dict[str, Any]) -> None:
        """Take what some services send beside the text."""
        for annotation in delta.get("annotations") or ():
            cited = annotation.get("url_citation") or annotation.get("file") or {}
            self.cite(cited.get("url"), cited.get("title") or cited.get("name"))
        for image in delta.get("images") or ():  # OpenRouter's
            self.show(image["image_url"]["url"])
        if delta.get("audio"):
            self.skip("audio")

    def _take_detail(self, detail: dict[str, Any]) -> None:
        """Add a piece to the details of the thought; those of one kind and number are one."""
        last = self._details[-1] if self._details else None
        if not (last and last.goes_on(detail)):
            if len(self._details) >= MAX_CALLS:
                raise FormatError(f"{self.service} sent over {MAX_CALLS:,} details of a thought.")
            self._details.append(_Detail(detail))
        else:
            last.add(detail)

    def _take_part(self, part: dict[str, Any]) -> None:
        """Say a part of a content: text, or thoughts, which Mistral writes as parts."""
        if thinking := part.get("thinking"):
            for one in [{"text": thinking}] if isinstance(thinking, str) else thinking:
                self.think(one.get("text") or "")
        elif (text := part.get("text")) is not None:
            self.say(text)
        elif image := part.get("image_url"):
            self.show(image["url"])
        elif (kind := part.get("type")) not in {"thinking", "reference"}:  # these may have none
            self.skip(kind)

    def _take_call(self, given: dict[str, Any]) -> None:
        """Add to the call that a piece belongs to: by its index, else by its id, else the last."""
        function = given.get("function") or given.get("custom") or {}  # the latter takes any text
        index, id_ = given.get("index"), id_of(given.get("id") or "")
        if isinstance(index, str):
            index = name_of(index)
        self._pieces = pieces = self._pieces or {}
        call = pieces.get((index, id_))
        if call is None and (nameless := pieces.get((index, ""))) and not nameless.id:
            call = nameless
        call = call or self.open_call(OpenCall())
        call.id = call.id or id_
        for key in ((index, call.id), (index, ""), (None, call.id), (None, "")):
            pieces[key] = call
        call.name = call.name or name_of(function.get("name") or "")
        if extra := given.get(EXTRA):
            call.seal = self._sealed({EXTRA: extra})
        self.add_arguments(call, function.get("arguments") or function.get("input") or "")


class _Detail:
    """One of the details of a thought, whose text comes in pieces."""

    __slots__ = ("_given", "_name", "_text")

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._name = {"reasoning.text": "text", "reasoning.summary": "summary"}.get(
            name_of(given.get("type") or "")
        )
        self._text = io.StringIO()
        self.add(given)

    def goes_on(self, piece: dict[str, Any]) -> bool:
        return self._name is not None and all(
            piece.get(name) == self._given.get(name) for name in ("type", "index")
        )

    def add(self, piece: dict[str, Any]) -> None:
        if self._name:
            self._text.write(text_of(piece.get(self._name) or ""))
        self._given |= {name: one for name, one in piece.items() if one is not None}

    def whole(self) -> dict[str, Any]:
        return self._given | ({self._name: self._text.getvalue()} if self._name else {})


def _is_error(payload: dict[str, Any]) -> bool:
    """Whether a payload that has no choice is an error that is not called so."""
    says = payload.get("message") or payload.get("detail")
    return payload.get("object") == "error" or bool(says and not payload.get("usage"))


def _usage_elsewhere(payload: dict[str, Any], choice: dict[str, Any]) -> Any:
    """Find the usage where Groq and Moonshot put it in a stream, beside the finish."""
    groq = payload.get("x_groq")
    return (groq.get("usage") if isinstance(groq, dict) else None) or choice.get("usage")


def _parse_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    read, written, total = counts_of(usage, "prompt_tokens", "completion_tokens", "total_tokens")
    (reasoning,) = counts_of(usage.get("completion_tokens_details"), "reasoning_tokens")
    cached, stored = counts_of(usage.get("prompt_tokens_details"), "cached_tokens", STORED)
    cached = cached or max(counts_of(usage, *CACHED))
    if total == read + written + reasoning:  # xAI does not count thoughts as written
        written += reasoning
    return Usage(read, written, reasoning, cached, cost_of(usage), stored)


def cost_of(usage: Mapping[str, Any]) -> float | None:
    """Return what a service says that an answer cost in dollars, as OpenRouter does."""
    cost: Any = usage.get("cost")
    return cost if type(cost) in {int, float} and 0 <= cost < MAX_COST else None


# -- a service's list of models

CONTEXTS = ("context_length", "context_window", "max_context_length", "max_model_len")


def read_cards(listed: Any) -> list[Card]:
    """Read the list of a service's models: the common form, with what some services add to it."""
    models = listed if isinstance(listed, list) else listed["data"]
    return [_card(one) for one in models if _chats(one)]


def _chats(model: dict[str, Any]) -> bool:
    says = model.get("capabilities")
    if isinstance(says, dict) and "completion_chat" in says:  # Mistral
        return bool(says["completion_chat"])
    if "type" in model:  # Together
        return model["type"] in {"chat", "language", "code", "model"}
    return not NO_CHAT.search(text_of(model["id"]))


def _card(model: dict[str, Any]) -> Card:
    says = model.get("capabilities")
    says = says if isinstance(says, dict) else {}
    design, price = model.get("architecture") or {}, model.get("pricing") or {}
    takes = design.get("input_modalities")  # OpenRouter's, as are the prices of one token
    vision = "image" in takes if takes else says.get("vision", model.get("supports_image_input"))
    parameters = model.get("supported_parameters")
    tools = says.get("function_calling", model.get("supports_tools"))
    contexts = [model[name] for name in CONTEXTS if isinstance(model.get(name), int)]
    return Card(
        text_of(model["id"]),
        context=contexts[0] if contexts else None,
        vision=None if vision is None else bool(vision),
        tools="tools" in parameters if parameters else tools if tools is None else bool(tools),
        input=_a_million(price.get("prompt")),
        output=_a_million(price.get("completion")),
        cached=_a_million(price.get("input_cache_read")),
    )


def _a_million(price: Any) -> float | None:
    """A price of one token, which is written as a text, as that of a million."""
    if price is None or not 0 <= float(price) < 1:  # -1: it depends
        return None
    return round(float(price) * 1e6, 6)
