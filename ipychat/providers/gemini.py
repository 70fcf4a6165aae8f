"""Google's Gemini, in its own protocol.

https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import itertools
import mimetypes
import re
from collections.abc import Iterable, Mapping
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from ipychat.errors import UsageError
from ipychat.messages import (
    FilePart,
    ImagePart,
    Message,
    Reasoning,
    Text,
    TextPart,
    Thought,
    ToolCall,
    Usage,
    to_base64,
)
from ipychat.providers import _questions
from ipychat.providers._questions import Conversation, Draft, Json
from ipychat.providers._reader import Answer, Events, count_of, counts_of, text_of
from ipychat.providers._service import HttpService
from ipychat.providers.presets import KEY_VARIABLES
from ipychat.providers.provider import Card

VERSION = re.compile(r"/v\d+[a-z0-9]*(/projects/.*)?$")  # Vertex AI has it further up
METHODS, CHATS = "supportedGenerationMethods", "generateContent"
LINE_ENDS = re.compile(rb"[\r\n]\s*")
BARE_ERROR = re.compile(rb'\n\[?\s*\{\s*"error"\s*:')
TAIL = 16 * 1024
"""Bytes of a stream's end that a bare error is looked for in."""


class _Events(Events):
    """Events, and what the service breaks a stream off with: an error that is bare JSON."""

    def __init__(self) -> None:
        super().__init__()
        self._tail = b""

    def feed(self, chunk: bytes) -> list[str]:
        self._tail = (self._tail + chunk)[-TAIL:]
        return super().feed(chunk)

    def close(self) -> list[str]:
        tail = LINE_ENDS.sub(b"\n", self._tail)  # else the search would not be linear
        bare = BARE_ERROR.search(tail)
        error = [tail[bare.start() :].decode("utf-8", "replace")] if bare else []
        return super().close() + error


class Gemini(HttpService):
    """`gemini:…`. A root without a version at its end gets the protocol's own.

    The options `generationConfig` and `toolConfig` are laid over what OpenAI's are translated to.
    """

    name = "gemini"
    label = "Gemini"
    protocol = "gemini"
    url = "https://aistudio.google.com"
    base_url = "https://generativelanguage.googleapis.com/v1beta"
    url_variables = ("GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL")
    key_variables = KEY_VARIABLES["gemini"]
    default_model = "gemini-flash-latest"
    web = MappingProxyType({"googleSearch": {}})
    known_options = frozenset({
        "cachedContent", "effort", "generationConfig", "labels", "max_completion_tokens",
        "max_tokens", "response_format", "safetySettings", "serviceTier", "stop", "store",
        "temperature", "toolConfig", "tool_choice", "tools", "top_p",
    })  # fmt: skip
    decoder = _Events
    listed = "/models?pageSize=1000"
    next_page = "pageToken"

    @classmethod
    def root(cls, given: str | None = None) -> str:
        """Return the root URL: the one given, else the environment's, else its own."""
        root = super().root(given)
        return root if VERSION.search(root) else f"{root}/v1beta"

    @classmethod
    def path(cls, model: str) -> str:
        """Return the path, below the root, at which `model` is asked."""
        return f"/{_resource(model)}:streamGenerateContent?alt=sse"

    @classmethod
    def _whole_path(cls, model: str) -> str:
        return f"/{_resource(model)}:generateContent"

    @classmethod
    def _headers(cls, key: str | None) -> dict[str, str]:
        return cls._key_header(key) if cls.endpoint else {"x-goog-api-key": key} if key else {}

    @classmethod
    def _write(cls, asked: Draft) -> Json:
        return _write_messages(asked.messages) | _write_options(asked)

    @classmethod
    def _answer(cls) -> type[Answer]:
        return _Responses

    @classmethod
    def _read_page(cls, page: Any) -> tuple[list[Card], str]:
        cards = [_read_card(one) for one in page["models"] if CHATS in (one.get(METHODS) or ())]
        return cards, text_of(page.get("nextPageToken") or "")


def _resource(model: str) -> str:
    collection, slash, name = model.partition("/")
    if not (slash and collection in {"models", "tunedModels"}):
        collection, name = "models", model
    return f"{collection}/{quote(name, safe='')}"


# -- what is asked

CONFIG = {"temperature": "temperature", "max_tokens": "maxOutputTokens", "top_p": "topP"}
BY_BUDGET = re.compile(r"gemini-2\.5|gemini-2\.0-flash-thinking")
"""Older models, which take a budget of tokens instead of a level."""
BUDGETS = {"none": 0, "low": 1024, "medium": 8192, "high": 24576, "max": 24576}
LEVELS = {"none": "minimal", "max": "high"}
FUNCTION = {"name": "name", "description": "description", "parameters": "parametersJsonSchema"}
ROLES = {"user": "user", "assistant": "model"}
IMAGES = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}
FILES = re.compile("application/pdf|audio/.*|video/.*")
MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
SEAL = "thoughtSignature"
NO_SIGNATURE = "skip_thought_signature_validator"
"""Gemini refuses a model's calls without the signature that it gave them. This stands for calls of
another origin: https://ai.google.dev/gemini-api/docs/thought-signatures
"""
OWN_ID = re.compile(r"call_\d+(_\d+)?")
"""Ids that stand in for missing ones; the service knows nothing of them."""


def _write_options(asked: Draft) -> Json:
    rest = _questions.read_options(asked.options)
    config = {theirs: rest.pop(ours) for ours, theirs in CONFIG.items() if ours in rest}
    if thinking := _think(asked, rest.pop("effort", None)):
        config["thinkingConfig"] = thinking
    if "stop" in rest:
        config["stopSequences"] = _questions.read_stop(rest.pop("stop"))
    if (form := _questions.read_format(rest.pop("response_format", None))) is not None:
        config["responseMimeType"] = "application/json"
        if form != "json":
            config["responseJsonSchema"] = form
    functions, tools = _questions.read_tools(rest.pop("tools", None))
    if functions:
        tools.insert(0, {"functionDeclarations": [*map(_write_function, functions)]})
    calling = _write_choice(rest.pop("tool_choice")) if "tool_choice" in rest else {}
    written = {
        "generationConfig": config | _questions.read_dict(rest, "generationConfig"),
        "tools": tools,
        "toolConfig": calling | _questions.read_dict(rest, "toolConfig"),
    }
    return rest | {name: value for name, value in written.items() if value}


def _think(asked: Draft, level: str | None) -> Json:
    """Set the effort; if the model reasons, request its thoughts."""
    shown = {"includeThoughts": True} if level != "none" and (level or asked.hints.reasons) else {}
    if level is None:
        return shown
    if BY_BUDGET.match(asked.model.removeprefix("models/")):
        return {**shown, "thinkingBudget": BUDGETS[level]}
    return {**shown, "thinkingLevel": LEVELS.get(level, level)}


def _write_function(function: Json) -> Json:
    return {theirs: function[ours] for ours, theirs in FUNCTION.items() if function.get(ours)}


def _write_choice(given: Any) -> Json:
    mode, function = _questions.read_choice(given)
    named = {"allowedFunctionNames": [function]} if function else {}
    return {"functionCallingConfig": {"mode": MODES[mode], **named}}


def _write_messages(messages: Conversation) -> Json:
    _questions.check_text(messages, {"system"}, "Gemini")
    system = [part for one in messages if one.role == "system" for part in _parts(one)]
    contents: list[Json] = []
    calls: dict[str, ToolCall] = {}
    others = (one for one in messages if one.role != "system")
    for role, several in itertools.groupby(others, attrgetter("role")):
        if role == "tool":  # the results of one turn's calls go together
            _add(contents, "user", _results(several, calls))
            continue
        for message in several:
            calls |= {call.id: call for call in message.tool_calls}
            _add(contents, ROLES[role], _parts(message))
    _questions.check_last(contents, "Gemini")
    return {"contents": contents} | ({"systemInstruction": {"parts": system}} if system else {})


def _add(contents: list[Json], role: str, parts: list[Json]) -> None:
    """Add parts to the contents, whose roles take turns."""
    if contents and contents[-1]["role"] == role:
        contents[-1]["parts"] += parts
    elif parts:
        contents.append({"role": role, "parts": parts})


def _seal_calls(parts: list[Json]) -> None:
    """Sign the first of a message's calls, which does it for all, where the model has signed none.

    That is so of calls that another model has made.
    """
    calls = [part for part in parts if "functionCall" in part]
    if calls and not any(SEAL in part for part in calls):
        calls[0][SEAL] = NO_SIGNATURE


def _results(messages: Iterable[Message], calls: Mapping[str, ToolCall]) -> list[Json]:
    """Write the results in the order of the calls: without ids nothing else tells them apart."""
    results: list[tuple[int, Json]] = []
    for message in messages:
        id_ = message.tool_call_id or ""
        if id_ not in calls:
            raise UsageError(f"A tool answers {id_!r}, which no message before it asks for.")
        call = calls[id_]
        said = {"error" if message.failed else "output": message.text}
        result = {**_known_id(call), "name": call.name, "response": said}
        if media := [part for part in _parts(message) if "text" not in part]:
            if any("fileData" in part for part in media):
                raise UsageError("Gemini takes an image in a tool's result as a data URL only.")
            result["parts"] = media
        results.append(([*calls].index(id_), {"functionResponse": result}))
    return [part for _, part in sorted(results, key=itemgetter(0))]


def _write_call(call: ToolCall) -> Json:
    return {**_known_id(call), "name": call.name, "args": _questions.read_arguments(call)}


def _known_id(call: ToolCall) -> Json:
    return {} if OWN_ID.fullmatch(call.id) else {"id": call.id}


def _parts(message: Message) -> list[Json]:
    written: list[Json] = []
    for part in message.parts:
        match part:
            case Thought(seal=seal):
                if signed := _questions.opened(seal, SEAL):
                    if not (written and written[-1].keys() == {"text"}):
                        written.append({"text": ""})
                    written[-1] |= signed
            case ToolCall(seal=seal):
                call = {"functionCall": _write_call(part)}
                written.append(call | _questions.opened(seal, SEAL))
            case TextPart(text) if not text.strip():
                pass
            case _:
                written.append(_part(part))
    _seal_calls(written)
    return written


def _part(part: TextPart | ImagePart | FilePart) -> Json:
    match part:
        case TextPart(text):
            return {"text": text}
        case FilePart(_, data, kind) if FILES.match(kind) or kind in IMAGES:
            return {"inlineData": {"mimeType": kind, "data": to_base64(data)}}
        case FilePart():
            takes = "Gemini takes images, PDFs, audio and video, and files of text"
            return {"text": _questions.write_text(part, takes)}
    if inline := _questions.split_data_url(part.url):
        _check_image(inline[0])
        return {"inlineData": dict(zip(("mimeType", "data"), inline, strict=True))}
    if not part.url.startswith(("https://", "gs://")):
        raise UsageError("Gemini takes an image as a base64 data URL or from an https:// address.")
    guessed, _ = mimetypes.guess_type(urlsplit(part.url).path, strict=False)
    _check_image(guessed)
    return {"fileData": {**({"mimeType": guessed} if guessed else {}), "fileUri": part.url}}


def _check_image(kind: str | None) -> None:
    if kind and kind.startswith("image/") and kind not in IMAGES:
        raise UsageError(f"Gemini takes an image as png, jpeg, webp, heic or heif, not as {kind}.")


# -- what is answered

FILTERS = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
)
FINISHES: dict[str, str | None] = dict.fromkeys(FILTERS, "content_filter")
FINISHES |= {"STOP": "stop", "MAX_TOKENS": "length", "FINISH_REASON_UNSPECIFIED": None}
NOT_SHOWN = {
    "fileData": "a file",
    "executableCode": "code that it ran",
    "codeExecutionResult": "the output of code that it ran",
}
COUNTS = (
    *("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount"),
    *("thoughtsTokenCount", "cachedContentTokenCount"),
)


class _Responses(Answer):
    __slots__ = ()

    def _take(self, payload: Json) -> None:
        candidate = (payload.get("candidates") or [{}])[0]
        for part in (candidate.get("content") or {}).get("parts") or ():
            self._take_part(part)
        if reason := candidate.get("finishReason"):
            finish = FINISHES.get(text_of(reason), reason.lower())
            # with a stop it says that there are calls
            if finish != "stop" and (message := candidate.get("finishMessage")):
                self.note(f"Gemini says: {text_of(message)}")
            self.finish = finish
        self._take_sources(candidate)
        if blocked := (payload.get("promptFeedback") or {}).get("blockReason"):
            self.note(f"Gemini blocked the question: {text_of(blocked)}.")
            self.finish = "content_filter"
        if usage := payload.get("usageMetadata"):  # the last one counts
            prompt, tools, answer, thoughts, cached = counts_of(usage, *COUNTS)
            self.usage = Usage(prompt + tools, answer + thoughts, thoughts, cached)

    def _take_part(self, part: Json) -> None:
        sealed = {SEAL: text_of(part[SEAL])} if part.get(SEAL) else None
        if text := part.get("text"):
            self.say(text, Reasoning if part.get("thought") else Text)
        if call := part.get("functionCall"):
            self.call(call.get("id"), call["name"], call.get("args"), sealed)
        elif sealed and "text" in part:
            self.seal(sealed)
        inline = part.get("inlineData") or {}
        if text_of(inline.get("mimeType") or "").startswith("image/"):
            self.show(inline["data"])
        elif inline:
            self.note("Gemini also sent media, which is not shown.")
        for kind in NOT_SHOWN.keys() & part.keys():
            self.note(f"Gemini also sent {NOT_SHOWN[kind]}, which is not shown.")

    def _take_sources(self, candidate: Json) -> None:
        """Cite the pages that the answer is grounded in."""
        if grounding := candidate.get("groundingMetadata"):
            for chunk in grounding.get("groundingChunks") or ():
                found = chunk.get("web") or chunk.get("retrievedContext") or {}
                self.cite(found.get("uri"), found.get("title"))
        if citations := candidate.get("citationMetadata"):
            for found in citations.get("citationSources") or citations.get("citations") or ():
                self.cite(found.get("uri"), found.get("title"))
        if pages := candidate.get("urlContextMetadata"):
            for found in pages.get("urlMetadata") or ():
                self.cite(found.get("retrievedUrl"))


def _read_card(model: Json) -> Card:
    context = count_of(model.get("inputTokenLimit")) or None
    return Card(text_of(model["name"]).removeprefix("models/"), context)
