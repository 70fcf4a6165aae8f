"""OpenAI's Responses: what api.openai.com and Azure are asked by, and whoever else speaks it.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ipychat.errors import ServiceError, UsageError
from ipychat.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    TextPart,
    Thought,
    ToolCall,
    Usage,
)
from ipychat.providers import _questions
from ipychat.providers._completions import STORED, cost_of
from ipychat.providers._openai import OpenAIService
from ipychat.providers._questions import Draft, Json
from ipychat.providers._reader import Answer, OpenCall, counts_of, id_of, name_of, text_of
from ipychat.providers.provider import COMMON_OPTIONS

OPTIONS = frozenset({
    "context_management", "effort", "include", "max_output_tokens", "max_tool_calls", "metadata",
    "parallel_tool_calls", "prompt", "prompt_cache_key", "prompt_cache_options",
    "prompt_cache_retention", "reasoning", "reasoning_effort", "safety_identifier", "service_tier",
    "store", "text", "top_logprobs", "truncation", "user", "verbosity",
})  # fmt: skip
"""The service's own beside the common ones."""
MISSING = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "modalities", "n", "prediction", "presence_penalty", "seed", "stop", "web_search_options",
})  # fmt: skip
"""Options of the older protocol only; an error says so."""
WITHOUT_THOUGHTS = re.compile(r"(ft:)?(gpt-[34](?!\d)|gpt-[\w.-]+-chat|chatgpt-|o1-(mini|preview))")
"""OpenAI's models that don't reason, and reject options about it."""
ENCRYPTED = "reasoning.encrypted_content"


class Responses(OpenAIService):
    """`openai:…` at OpenAI's own addresses, and any service for which it is chosen."""

    protocol = "responses"
    web = MappingProxyType({"type": "web_search"})
    known_options = COMMON_OPTIONS | OPTIONS | MISSING

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - one for all
        """Return the path, below the root, at which `model` is asked."""
        return "/responses"

    @classmethod
    def _write(cls, asked: Draft) -> Json:
        body: Json = {
            "model": asked.model,
            "input": [item for one in asked.messages for item in cls._write_items(one)],
            "stream": asked.stream,
            "store": False,
            **_write_options(asked.options, cls.label),
        }
        reasons = asked.hints.reasons
        if reasons is None:
            reasons = not WITHOUT_THOUGHTS.match(asked.model)
        thinking = body.pop("reasoning", {})
        if thinking is not False and (reasons or thinking):
            # nothing is stored there, so what it thought has to come along, and go back
            body["include"] = [*dict.fromkeys([*body.get("include", ()), ENCRYPTED])]
            wanted = {"summary": "auto", **thinking}
            body["reasoning"] = {name: one for name, one in wanted.items() if one is not None}
        return body

    @classmethod
    def _answer(cls) -> type[Answer]:
        return Response

    # -- messages

    @classmethod
    def _write_items(cls, message: Message) -> Iterator[Json]:
        match message:
            case Message("tool", tool_call_id=str(id_)):
                output = cls._write_content(message)
                yield {"type": "function_call_output", "call_id": id_, "output": output}
            case Message("tool"):
                raise UsageError("A message of the role tool has the tool_call_id that it answers.")
            case Message("assistant", content=tuple(parts)):
                yield from _write_parts(parts)
            case _:
                yield {"role": message.role, "content": cls._write_content(message)}

    @classmethod
    def _write_content(cls, message: Message) -> str | list[Json]:
        said = message.said
        return said if isinstance(said, str) else [*map(cls._write_part, message.said_parts)]

    @classmethod
    def _write_part(cls, part: TextPart | ImagePart | FilePart) -> Json:
        match part:
            case TextPart(text):
                return {"type": "input_text", "text": text}
            case ImagePart(url, detail):
                image = {"type": "input_image", "image_url": url}
                return {**image, "detail": detail} if detail else image
        if part.media_type != _questions.PDF:
            takes = f"{cls.label} takes images, PDFs, and files of text"
            return {"type": "input_text", "text": _questions.write_text(part, takes)}
        file = part.to_dict()["file"]
        return {"type": "input_file", **file}


ITEMS = {
    "reasoning": ("id", "summary", "content", "encrypted_content", "status"),
    "message": ("id", "status", "phase"),
    "web_search_call": ("id", "status", "action"),
    "file_search_call": ("id", "status", "queries", "results"),
    "code_interpreter_call": ("id", "status", "code", "container_id", "outputs"),
}
"""Items that are sent back unchanged, with the fields that each may have."""


def _write_parts(parts: tuple[Part, ...]) -> Iterator[Json]:
    """Yield the items of an earlier answer, in order."""
    head: Json = {}  # of the message whose text comes next
    for part in parts:
        match part:
            case Thought(seal=seal):
                kind = str(_questions.opened(seal, "type").get("type"))
                item = {"type": kind, **_questions.opened(seal, *ITEMS.get(kind, ()))}
                if kind == "message":
                    head = item
                elif kind in ITEMS:
                    yield item
            case TextPart(text):
                if head:
                    output = {"type": "output_text", "text": text, "annotations": []}
                    yield {**head, "role": "assistant", "content": [output]}
                elif text.strip():
                    yield {"role": "assistant", "content": text}
                head = {}
            case ToolCall(id_, name, arguments, seal):
                call = {"call_id": id_, "name": name, "arguments": arguments or "{}"}
                yield {"type": "function_call", **call, **_questions.opened(seal, "id", "status")}
            case ImagePart() | FilePart():
                raise UsageError("Responses takes only text in a message of the role assistant.")


# -- options


def _write_options(given: Mapping[str, Any], service: str) -> Json:
    body = _questions.read_options(given)
    if missing := sorted(MISSING & body.keys()):
        raise UsageError(
            f"{service} takes no {missing[0]} by its protocol Responses.\n"
            "Leave it out; or, where the model can be asked so, %config IPyChat.protocols = "
            "{'openai': 'completions'}."
        )
    body.pop("stream_options", None)  # usage comes anyway
    if "max_tokens" in body:
        body["max_output_tokens"] = body.pop("max_tokens")
    efforts = [body.pop(name) for name in ("reasoning_effort", "effort") if name in body]
    if body.get("reasoning") is not False and ("reasoning" in body or efforts):
        reasoning = _questions.read_dict(body, "reasoning")
        body["reasoning"] = {**({"effort": efforts[0]} if efforts else {}), **reasoning}
    text = _questions.read_dict(body, "text")
    if verbosity := body.pop("verbosity", None):
        text.setdefault("verbosity", verbosity)
    if form := body.pop("response_format", None):
        text.setdefault("format", _write_format(form))
    if text:
        body["text"] = text
    if "tools" in body:
        functions, own = _questions.read_tools(body["tools"])
        body["tools"] = [*({"type": "function", **one} for one in functions), *own]
    match body.get("tool_choice"):
        case {"type": "function", "function": {"name": str(name)}}:
            body["tool_choice"] = {"type": "function", "name": name}
    return body


def _write_format(form: Any) -> Json:
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict()} as schema}:
            return {"type": "json_schema", "name": "answer", **schema}
        case {"type": str()}:
            return dict(form)
    raise UsageError("A response_format's type is text, json_object, or json_schema with a schema.")


# -- what is answered

DELTA = "response.output_text.delta"
REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
SILENT = {
    *("function_call", "message", "reasoning", "web_search_call", "file_search_call"),
    "image_generation_call",
}
"""Kinds of items that need no notice."""


class Response(Answer):
    """What is known of a response while it comes in."""

    __slots__ = ("_calls", "_items", "_said", "_seals")
    done = "[DONE]"

    def __init__(self, service: str, asked: Json) -> None:
        super().__init__(service, asked)
        self._said: Any = None
        """The number of the item that text came of last."""
        self._calls: dict[Any, OpenCall] = {}
        self._items: set[Any] = set()
        """Numbers of items that are known."""
        self._seals = False
        """Whether something was sealed, which wants what follows on it to be told apart."""

    def advice(self, error: ServiceError, root: str) -> str:  # noqa: ARG002 - wherever it is
        """Return advice to add to a refusal, or an empty text."""
        if error.status != 400:
            return ""
        if "summar" in str(error) and "verif" in str(error):
            how = "--option 'reasoning={\"summary\": null}'"
            return f"To ask without a summary of what it thinks: {how}."
        if re.search("reasoning|[Ee]ncrypted content", str(error)):
            return "If the model does not reason: --option reasoning=false."
        return ""

    def _take(self, payload: Json) -> None:
        kind = payload.get("type")
        if kind == DELTA:  # nearly every payload
            self._said = payload.get("output_index")
            self.say(payload["delta"])
        elif kind is None:
            if not payload.get("error"):  # all of it, as one JSON body
                self._take_end(payload)
        else:
            self._take_event(text_of(kind), payload)

    def _take_event(self, kind: str, payload: Json) -> None:
        index = payload.get("output_index")
        match kind.removeprefix("response."):
            case "reasoning_summary_text.delta" | "reasoning_text.delta":
                self._said = index
                self.think(payload["delta"])
            case "reasoning_summary_part.added" if payload.get("summary_index"):
                self.think("\n\n")
            case "function_call_arguments.delta":
                self.add_arguments(self._calls[index], payload["delta"])
            case "refusal.delta":
                self._said = index
                self._refuse(payload["delta"])
            case "output_text.annotation.added":
                self._cite(payload["annotation"])
            case "output_item.added":
                self._begin(index, payload["item"])
            case "output_item.done":
                self._begin(index, payload["item"])
                self._end(index, payload["item"])
            case "completed" | "incomplete" | "failed":
                self._take_end(payload["response"])
                self.closed = True
            case "error" if not payload.get("error"):
                raise self.error({"error": payload})

    def _begin(self, index: Any, item: Json) -> None:
        if index in self._items:
            return
        self._items.add(index)
        match item.get("type"):
            case "function_call":
                given = item.get("arguments") or "{}"
                call = OpenCall(id_of(item["call_id"]), name_of(item["name"]), otherwise=given)
                self._calls[index] = self.open_call(call)
            case "message" if self._seals or item.get("phase"):
                self._seal(item)

    def _end(self, index: Any, item: Json) -> None:
        """Take the final state of an item, and any content that had no events."""
        kind = name_of(item.get("type") or "")
        if call := self._calls.get(index):
            call.otherwise = text_of(item.get("arguments") or call.otherwise)
            call.seal = self._sealed({"id": item["id"]}) if item.get("id") else ""
        elif kind == "message":
            for part in item.get("content") or ():
                self._take_part(part, is_new=index != self._said)
                for annotation in part.get("annotations") or ():
                    self._cite(annotation)
        elif kind == "reasoning":
            if index != self._said:
                texts = (text_of(one["text"]) for one in _thoughts(item))
                self.think("\n\n".join(texts))
            self._seal(item)
        elif kind in ITEMS:
            self._seal(item)
        elif kind == "image_generation_call" and item.get("result"):
            self.show(item["result"])
        if kind not in SILENT:
            self.skip(kind)

    def _take_part(self, part: Json, *, is_new: bool) -> None:
        match part.get("type"):
            case "output_text" if is_new:
                self.say(part["text"])
            case "refusal" if is_new:
                self._refuse(part["refusal"])

    def _cite(self, annotation: Json) -> None:
        self.cite(annotation.get("url"), annotation.get("title") or annotation.get("filename"))

    def _refuse(self, text: Any) -> None:
        self.note("The model refuses.")
        self.say(text)

    def _seal(self, item: Json) -> None:
        """Seal an item for the next request, unless only the service could use it."""
        kind = item["type"]
        if kind == "reasoning" and not (item.get("encrypted_content") or item.get("content")):
            return
        known = {name: item[name] for name in ITEMS[kind] if item.get(name) is not None}
        if kind == "reasoning":
            known.setdefault("summary", [])
        self.seal({"type": kind, **known})
        self._seals = True

    def _take_end(self, response: Json) -> None:
        output = response.get("output") or []
        if not isinstance(output, list):
            raise TypeError
        for index, item in enumerate(output):
            if index not in self._items:
                self._begin(index, item)
                self._end(index, item)
        if isinstance(usage := response.get("usage"), dict):
            read, written = counts_of(usage, "input_tokens", "output_tokens")
            details = usage.get("input_tokens_details")
            cached, stored = counts_of(details, "cached_tokens", STORED)
            (thoughts,) = counts_of(usage.get("output_tokens_details"), "reasoning_tokens")
            self.usage = Usage(read, written, thoughts, cached, cost_of(usage), stored)
        match response["status"]:
            case "failed":
                raise self.error(response)
            case "incomplete":
                reason = (response.get("incomplete_details") or {}).get("reason")
                self.finish = REASONS.get(reason or "", text_of(reason or "incomplete"))
            case "completed":
                self.finish = "tool_calls" if self.open_calls else "stop"


def _thoughts(item: Json) -> list[Json]:
    return [*(item.get("summary") or ()), *(item.get("content") or ())]
