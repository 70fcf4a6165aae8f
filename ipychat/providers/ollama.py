"""Ollama's own protocol: on this machine, on another, or at ollama.com.

https://docs.ollama.com/api/chat

OpenAI's, which Ollama speaks too, can't say how large the context is to be; and a prompt that is
longer is cut without a word. So the size goes along with every question, and two fields that stand
in Ollama's `api/types.go` and not in its reference forbid the cut: `truncate` before the answer
begins, `shift` while it is written. A prompt that does not fit is an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ipychat.errors import ChatError, NotFoundError, RequestError, ServiceError, UsageError
from ipychat.messages import ImagePart, Message, TextPart, ToolCall, Usage
from ipychat.providers import _questions, _reader
from ipychat.providers._keyed import Key, Keyed
from ipychat.providers._questions import Conversation, Draft, Json
from ipychat.providers._reader import Answer, counts_of, text_of
from ipychat.providers._service import HttpService, Place
from ipychat.providers.provider import Card
from ipychat.wire.http import Transport, not_running
from ipychat.wire.ndjson import LineDecoder

HOST_VARIABLE = "OLLAMA_HOST"
CLOUD = "https://ollama.com"
PORT = "11434"
PORTS = {"http": "80", "https": "443"}
"""What an address with a scheme and without a port means."""
SHOWN_AT_ONCE = 8
"""How many models are asked about at a time."""

SMALLEST_CONTEXT = 8192
"""Tokens; doubled until all fits. In steps, since Ollama loads a model anew for each other size."""
ANSWER = 2048
"""Tokens that are left free for the answer where no `max_tokens` says how many."""
THINKING_ANSWER = 8192
"""The same for a model that thinks before it."""
CHARACTERS = 3
"""ASCII characters that are taken for one token, where four are usual; of others, each is one."""
IMAGE = 1000
"""Tokens that an image is taken for."""
FRAME = 8
"""Tokens that a template is taken to put around a message."""

RUNTIME = frozenset({
    "draft_num_predict", "frequency_penalty", "main_gpu", "min_p", "mirostat", "mirostat_eta",
    "mirostat_tau", "num_batch", "num_ctx", "num_gpu", "num_keep", "num_predict", "num_thread",
    "numa", "penalize_newline", "presence_penalty", "repeat_last_n", "repeat_penalty", "seed",
    "stop", "temperature", "tfs_z", "top_k", "top_p", "typical_p", "use_mlock", "use_mmap",
})  # fmt: skip
"""What Ollama reads from the body's `options`, by its own names."""

LEVELS = {"max": "high"}
OWN_CONTEXT = re.compile(r"^num_ctx\s+(\d{1,9})\s*$", re.MULTILINE)


class _Sizes(NamedTuple):
    """What is known of a model's context, in tokens."""

    longest: int | None = None
    own: int = 0
    """What the model itself is set to."""
    answer: int = ANSWER


_sizes: dict[tuple[str, str], _Sizes] = {}
"""Those of the models, by root and name, as far as they were asked for."""


class _Cloud(Keyed):
    """The account at ollama.com. Servers of the user's own want no key."""

    name = "ollama"
    label = "ollama.com"
    base_url = CLOUD
    key_variables = ("OLLAMA_API_KEY",)


class Ollama(HttpService):
    """`ollama:…`. The environment's key goes to OLLAMA_HOST or to ollama.com, only.

    Options that Ollama calls runtime options (`num_ctx`, `top_k`, `seed`, …) go into the body's
    `options`, where an option `options` may name more; all others go into the body itself, as do
    `think`, `keep_alive`, `truncate` and `shift`.
    """

    name = _Cloud.name
    label = "Ollama"
    protocol = "ollama"
    url = CLOUD
    base_url = f"http://127.0.0.1:{PORT}"
    url_variables = (HOST_VARIABLE,)
    key_variables = _Cloud.key_variables
    decoder = LineDecoder
    known_options = RUNTIME | {
        "effort", "format", "keep_alive", "logprobs", "max_completion_tokens", "max_tokens",
        "options", "response_format", "shift", "think", "tool_choice", "tools", "top_logprobs",
        "truncate",
    }  # fmt: skip

    @classmethod
    def root(cls, given: str | None = None) -> str:
        """Return the root URL: the one given, else OLLAMA_HOST's, else its own."""
        return _address(given or os.environ.get(HOST_VARIABLE) or cls.base_url)

    @classmethod
    def find_key(cls, root: str, given: str | None = None) -> Key | None:
        """Return the key for `root`: the environment's belongs to OLLAMA_HOST and ollama.com."""
        if root == CLOUD or not _plain(os.environ.get(HOST_VARIABLE, "")):
            return _Cloud.find_key(root, given)
        return super().find_key(root, given)

    @classmethod
    def key(cls, root: str, given: str | None = None) -> str | None:
        """Return the key for `root`; only ollama.com wants one."""
        found = cls.find_key(root, given)
        return found.value if found else _Cloud.key(root)

    @classmethod
    def missing(cls, root: str) -> str | None:
        """Return what is missing: ollama.com's key, or a running server."""
        if root == CLOUD:
            return _Cloud.missing(root)
        said = not_running(root)
        return f"{said}: start Ollama, or set {HOST_VARIABLE}" if said else None

    @classmethod
    def account_root(cls, root: str) -> str:
        """Return ollama.com where the root is Ollama's own: a server of one's own wants no key."""
        return CLOUD if root == cls.base_url else root

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - one for all
        """Return the path, below the root, at which `model` is asked."""
        return "/api/chat"

    @classmethod
    def _write(cls, asked: Draft) -> Json:
        runtime, fields = _write_options(asked.options)
        messages = _write_messages(asked.messages)
        body = {"model": asked.model, "messages": messages, "stream": asked.stream}
        return {**body, **fields, "options": runtime}

    @classmethod
    async def _complete(cls, body: Json, place: Place) -> None:
        """Set the context's size, unless the user did."""
        runtime = body["options"]
        if "num_ctx" not in runtime:
            runtime["num_ctx"] = _fitting(body, await _find_sizes(body["model"], place))

    @classmethod
    def _answer(cls) -> type[Answer]:
        return _Chat

    @classmethod
    async def cards(
        cls, base_url: str | None = None, *, api_key: str | None = None, **transport: Any
    ) -> list[Card]:
        """Return the models that are there and answer chats, each with what is known of it."""
        place = cls._place(base_url, api_key, Transport(**transport))
        async with place.call("GET", "/api/tags") as call:
            names = _reader.read_list(await call.body(), cls.label, _read_names)
        turns = asyncio.Semaphore(SHOWN_AT_ONCE)

        async def card(name: str) -> Card | None:
            async with turns:
                try:
                    return _read_card(name, await _show(name, place))
                except ChatError:
                    return Card(name)

        return [one for one in await asyncio.gather(*map(card, names)) if one]


# -- where it is


def _plain(text: str) -> str:
    """Return `text` without the blanks and quotes around it."""
    return text.strip().strip("\"'").strip()


def _address(text: str) -> str:
    """Return the root URL that `text` means, in every form that Ollama itself reads.

    https://github.com/ollama/ollama/blob/main/envconfig/config.go (Host, ConnectableHost)
    """
    text = _plain(text)
    if text == "ollama.com":
        return CLOUD
    before, separator, rest = text.partition("://")
    scheme, rest = (before, rest) if separator else ("http", text)
    rest, _, path = rest.partition("/")
    login, at, place = rest.rpartition("@")
    standard = PORTS.get(scheme, PORT) if separator else PORT
    if found := re.fullmatch(r"(?:\[([^][]*)]|([^][:]*)):([^:]*)", place):
        host, port = found[1] or found[2] or "", found[3]
    else:
        host, port = place.strip("[]"), standard
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        port = standard
    if host in {"", "0.0.0.0"}:  # noqa: S104 - where a server listens, not where it is found
        host = "127.0.0.1"
    elif ":" in host and not host.strip("0:"):  # the same of IPv6
        host = "::1"
    port = "" if port == PORTS.get(scheme) else f":{port}"
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{login}{at}{host}{port}/{path}".rstrip("/")


# -- what is asked


def _write_options(options: Json) -> tuple[Json, Json]:
    """Split the options into those for the body's `options` and those for the body itself."""
    runtime = _questions.read_dict(options, "options")
    fields: Json = {"truncate": False, "shift": False}
    given = _questions.read_options(options)
    given.pop("options", None)
    choice = given.pop("tool_choice", "auto")
    if choice not in ("auto", "none"):
        raise UsageError("Ollama can't be told which tool to call: tool_choice is auto or none.")
    if choice == "none":
        given.pop("tools", None)
    if (form := _questions.read_format(given.pop("response_format", None))) is not None:
        fields["format"] = form
    if effort := given.pop("effort", None):
        given.setdefault("think", False if effort == "none" else LEVELS.get(effort, effort))
    if "max_tokens" in given:
        runtime["num_predict"] = given.pop("max_tokens")
    for name, value in given.items():
        (runtime if name in RUNTIME else fields)[name] = value
    if "stop" in runtime:
        runtime["stop"] = _questions.read_stop(runtime["stop"])
    if "num_ctx" in runtime and not _is_size(runtime["num_ctx"]):
        raise UsageError(f"The option num_ctx wants tokens, not {runtime['num_ctx']!r}.")
    return runtime, fields


def _write_messages(messages: Conversation) -> list[Json]:
    written = []
    called: dict[str, str] = {}  # the tools' names, by the ids of the calls
    for message in messages:
        one = {"role": message.role, **_write_content(message)}
        if calls := message.tool_calls:
            called |= {call.id: call.name for call in calls}
            for thought in message.thoughts:
                one |= _questions.opened(thought.seal, "thinking")
            one["tool_calls"] = [*map(_write_call, calls)]
        if message.tool_call_id is not None:
            one["tool_call_id"] = message.tool_call_id
            if name := called.get(message.tool_call_id):
                one["tool_name"] = name
        written.append(one)
    return written


def _write_call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": _questions.read_arguments(call)}
    return {"id": call.id, "function": function}


def _write_content(message: Message) -> Json:
    """Return all of the text as one, and the images apart from it."""
    texts, images = [], []
    for part in message.said_parts:
        match part:
            case TextPart(text):
                texts.append(text)
            case ImagePart(url):
                images.append(_write_image(url))
            case _:
                texts.append(_questions.write_text(part, "Ollama takes files of text"))
    return {"content": "\n".join(texts), **({"images": images} if images else {})}


def _write_image(url: str) -> str:
    if inline := _questions.split_data_url(url):
        return inline[1]
    raise UsageError(
        "Ollama takes images as bytes only, not by their addresses.\n"
        "Download it, and attach the file."
    )


# -- how much of it fits


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _estimate(body: Mapping[str, Any]) -> int:
    """Guess the prompt's tokens, rather too many than too few."""
    messages, tools = body["messages"], body.get("tools") or []
    words = sum(_tokens(one["content"]) + FRAME for one in messages)
    images = sum(len(one.get("images", ())) for one in messages)
    calls = [one["tool_calls"] for one in messages if "tool_calls" in one]
    return words + IMAGE * images + _tokens(json.dumps([*tools, *calls], ensure_ascii=False))


def _tokens(text: str) -> int:
    plain = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return -(-plain // CHARACTERS) + len(text) - plain


def _fitting(body: Json, sizes: _Sizes) -> int:
    """Return the size of a context in which the prompt and the answer fit.

    Raises UsageError where the prompt alone is longer than what the model can take.
    """
    prompt, answer = _estimate(body), body["options"].get("num_predict")
    longest = sizes.longest
    if longest and prompt > longest:
        raise UsageError(
            f"The prompt has about {prompt:,} tokens, and {body['model']} takes {longest:,} at "
            f"most.\nShorten it; or, if you know that it fits, pass num_ctx={longest}."
        )
    answer = answer if _is_size(answer) else sizes.answer
    if longest:  # a limit of tokens is no wish for so many
        answer = min(answer, longest // 2)
    size = SMALLEST_CONTEXT
    while size < prompt + answer:
        size *= 2
    return max(min(size, longest or size), sizes.own)


async def _find_sizes(model: str, place: Place) -> _Sizes:
    """Return the context sizes that Ollama reports for a model."""
    if (place.root, model) not in _sizes:
        try:
            _sizes[place.root, model] = _read_sizes(await _show(model, place))
        except ChatError as error:
            if isinstance(error, ServiceError) and error.status is None:
                raise
            return _Sizes()  # whatever it is, the question itself will hear it
    return _sizes[place.root, model]


# -- what is answered

COUNTS = ("prompt_eval_count", "eval_count", "prompt_eval_cached_count")


class _Chat(Answer):
    __slots__ = ("_context", "_model", "_prompt", "_thought")

    def __init__(self, service: str, asked: Json) -> None:
        super().__init__(service, asked)
        self._model, self._prompt = asked["model"], _estimate(asked)
        self._context = asked["options"]["num_ctx"]
        self._thought: list[str] = []

    def advice(self, error: ServiceError, root: str) -> str:
        """Return advice to add to a refusal, or an empty text."""
        if root != CLOUD and isinstance(error, NotFoundError):
            return f"If the model is not there yet: ollama pull {self._model}"
        if root != CLOUD and isinstance(error, RequestError) and "context" in str(error):
            return f"It was asked with num_ctx={self._context}; a larger one may help."
        return ""

    def _take(self, payload: Json) -> None:
        message = payload.get("message") or {}
        if thinking := message.get("thinking"):
            self.think(thinking)
            self._thought.append(thinking)
        self.say(message.get("content") or "")
        calls = message.get("tool_calls") or ()
        if calls and self._thought:  # models want it back with the results
            self.seal({"thinking": "".join(self._thought)})
            self._thought.clear()
        for call in calls:
            function = call["function"]
            self.call(call.get("id"), function["name"], function.get("arguments"))
        if payload.get("done"):
            self._take_end(payload)

    def _take_end(self, payload: Json) -> None:
        self.closed = True
        self.finish = text_of(payload.get("done_reason") or "stop")
        read, written, cached = counts_of(payload, *COUNTS)
        if read or written:
            self.usage = Usage(input=read, output=written, cached=cached)
        if read:
            self._say_what_did_not_fit(read, written)

    def _say_what_did_not_fit(self, read: int, written: int) -> None:
        """Tell of a cut; by then, only an Ollama from before `truncate` cuts a prompt."""
        prompt, context = self._prompt, self._context
        if read == context or read <= context < prompt:
            self.note(
                f"Ollama read {read:,} tokens of a prompt of about {prompt:,}, in a context of "
                f"{context:,}: it may have cut the prompt. A larger num_ctx has room for it."
            )
        if self.finish == "length" and abs(read + written - context) <= 1:
            self.note(
                f"The answer ended where the context of {context:,} tokens was full. "
                "A larger num_ctx has room for more."
            )


# -- which models there are


async def _show(model: str, place: Place) -> Json:
    """Ask what is known of a model."""
    async with place.call("POST", "/api/show", {"model": model}) as call:
        return _reader.read_list(await call.body(), "Ollama", dict)


def _context_length(shown: Json) -> int | None:
    info = shown.get("model_info")
    if not isinstance(info, dict):
        return None
    length = info.get(f"{info.get('general.architecture')}.context_length")
    return length if _is_size(length) else None


def _read_sizes(shown: Json) -> _Sizes:
    own = OWN_CONTEXT.search(str(shown.get("parameters")))
    can = shown.get("capabilities")
    thinks = isinstance(can, list) and "thinking" in can
    answer = THINKING_ANSWER if thinks else ANSWER
    return _Sizes(_context_length(shown), int(own[1]) if own else 0, answer)


def _read_names(listed: Json) -> list[str]:
    return [text_of(one["name"]) for one in listed["models"]]


def _read_card(name: str, shown: Json) -> Card | None:
    """Return the model's card; None for one that answers no chat, such as an embedding model."""
    can = shown.get("capabilities")
    if not (isinstance(can, list) and can):
        return Card(name, context=_context_length(shown))
    if "completion" not in can:
        return None
    return Card(name, _context_length(shown), vision="vision" in can, tools="tools" in can)
