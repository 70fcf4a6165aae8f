"""What a provider is, and the one place where what it yields becomes events.

A provider is any class with a classmethod `create_async_generator(model, messages, **options)` that
returns an async iterator. It may yield text, dicts with `text` or `content`, or events. It may
inherit from the two classes here, and may declare `ends_with`:

- `"finish"`: its protocol ends every answer with a finish reason; a stream without one was cut off;
- `"body"`: the clean end of the body is the end of the answer; so it is where nothing is declared.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from ipychat import config, secrets
from ipychat.errors import (
    AnswerError,
    BrokenAnswerError,
    ChatError,
    FormatError,
    ModelNotSupportedError,
    ServerError,
    UsageError,
)
from ipychat.messages import (
    MAX_ANSWER,
    ChatRequest,
    Event,
    FinishReason,
    Message,
    Notice,
    Prompt,
    Reasoning,
    Text,
    ToolCall,
    Usage,
    parse_messages,
)
from ipychat.requirements import OutdatedError
from ipychat.text.characters import harmless, split_half, whole
from ipychat.wire.http import error_message

MAX_REASON = 256
"""Characters of a finish reason; the longest known has about thirty."""
MAX_NAME = 256
"""Characters of a tool's name; services allow 64 or 128."""
MAX_ID = 16 * 1024
"""Characters of a tool call's id; some services put a signature of a few thousand into it."""
COMMON_OPTIONS = frozenset({
    "frequency_penalty", "max_completion_tokens", "max_tokens", "presence_penalty",
    "response_format", "seed", "stop", "stream", "temperature", "tool_choice", "tools", "top_p",
})  # fmt: skip
"""OpenAI's words, as far as most services have something to do with them."""

Messages: TypeAlias = list[dict[str, Any]]
"""What providers are given: `{"role": …, "content": text or parts}` for each message."""
AsyncResult: TypeAlias = AsyncIterator[Any]
"""What providers return."""


@runtime_checkable
class Provider(Protocol):
    """Any class that can be asked."""

    @classmethod
    def create_async_generator(cls, model: str, messages: Messages, **options: Any) -> AsyncResult:
        """Return the answer, piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a model; None where it is not. Prices are dollars a million tokens."""

    name: str
    context: int | None = None
    """Tokens of a question with all that goes along."""
    vision: bool | None = None
    tools: bool | None = None
    input: float | None = None
    output: float | None = None
    cached: float | None = None
    """The price of input that came from the service's cache."""

    def facts(self) -> dict[str, Any]:
        """Return what is known, by the fields' names."""
        given = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: value for name, value in given if value is not None}


class ProviderModelMixin:
    """A provider that knows its models by name; one that lists none takes any name."""

    default_model: ClassVar[str] = ""
    models: ClassVar[list[str]] = []
    model_aliases: ClassVar[dict[str, str]] = {}

    @classmethod
    def get_models(cls) -> list[str]:
        """Return the names of its models; the default one if it lists none."""
        return list(cls.models) or [cls.default_model]

    @classmethod
    def get_model(cls, name: str | None) -> str:
        """Return the name that the service knows: nothing → the default, an alias → its target.

        Raises ModelNotSupportedError, which lists the valid names.
        """
        name = name or cls.default_model
        if not name:
            raise ModelNotSupportedError(
                f"{cls.__name__} has no default model: its server has what was loaded there.\n"
                "Name one; %chat_models --refresh asks the servers that run."
            )
        name = cls.model_aliases.get(name, name)
        if cls.models and name not in cls.get_models():
            raise ModelNotSupportedError(
                f"{cls.__name__} has no model {name!r}.\nIt has: {', '.join(cls.get_models())}."
            )
        return name


class AsyncGeneratorProvider:
    """What the catalog may ask of a provider; all but `create_async_generator` has a default."""

    label: ClassVar[str] = ""
    url: ClassVar[str] = ""
    working: ClassVar[bool] = True
    """Whether the service answers at its original address."""
    supports_stream: ClassVar[bool] = True
    supports_system_message: ClassVar[bool] = True
    supports_message_history: ClassVar[bool] = True
    ends_with: ClassVar[Literal["finish", "body"]] = "body"
    sees_more: ClassVar[frozenset[str]] = frozenset()
    """Models that look at more than the question: an earlier answer will not do for a new one."""
    formats: ClassVar[dict[str, str]] = {}
    """Models that answer in a format of their own, where the user asks for none."""
    base_url: ClassVar[str] = ""
    """The root that its paths are appended to, unless the environment or an option says another."""
    url_variables: ClassVar[tuple[str, ...]] = ()
    """The environment's names for a root of the user's own; read when it is needed."""
    known_options: ClassVar[frozenset[str]] = COMMON_OPTIONS
    """What a provider of this package takes besides what its signature names and what says how a
    request travels. Others are refused, unless they come in `extra`."""

    @classmethod
    def root(cls, given: str | None = None) -> str:
        """Return the root URL: the one given, else the environment's, else its own."""
        named = next(filter(None, map(os.environ.get, cls.url_variables)), None)
        root = (given or named or cls.base_url).rstrip("/")
        return secrets.register_url(root) if "@" in root else root

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - some services have one for each model
        """Return what stands behind the root where `model` is asked."""
        return ""

    @classmethod
    def create_async_generator(cls, model: str, messages: Messages, **options: Any) -> AsyncResult:
        """Return the answer, piece by piece."""
        raise NotImplementedError

    @classmethod
    def missing(cls, root: str) -> str | None:  # noqa: ARG003 - a default
        """Return what is missing before it can be asked at `root`; None if it is ready."""
        return None

    @classmethod
    def key_found(cls, root: str) -> str | None:  # noqa: ARG003 - a default
        """Return where a key for `root` was found; None where there is none."""
        return None

    @classmethod
    async def cards(cls, base_url: str | None = None, **options: Any) -> list[Card]:  # noqa: ARG003 - a default
        """Ask the service which models it has; empty where it keeps no list.

        `options` are `api_key` and how the request travels.
        """
        return []


async def events(provider: type[Provider], request: ChatRequest) -> AsyncGenerator[Event, None]:
    """Ask, and give the answer as events of the closed union, FinishReason once and last.

    Closing it closes the provider's connection at once. Raises ChatError only.
    """
    messages = [message.to_dict() for message in request.messages]
    finish: FinishReason | None = None
    answer = _Answer(config.current().max_answer)
    try:
        given = provider.create_async_generator(
            model=request.model.name, messages=messages, **request.options
        )
        async with contextlib.aclosing(_generator(given, provider)) as pieces:
            async for piece in pieces:
                event = _parse_piece(piece, provider)
                if isinstance(event, FinishReason):
                    finish = event
                elif taken := answer.take(event):
                    yield taken
                if answer.is_full:
                    finish = FinishReason(MAX_ANSWER)
                    break
            if text := answer.rest():
                yield text
    except (ChatError, OutdatedError):
        raise
    except Exception as error:
        # a provider that anyone wrote: its fault becomes one of ours, its traceback stays chained
        raise AnswerError(
            f"{provider.__name__} failed with {type(error).__name__}: {error}"
        ) from error
    if finish is None and getattr(provider, "ends_with", "body") == "finish":
        raise BrokenAnswerError(
            f"{provider.__name__} ended the answer without saying that it was whole."
        )
    yield finish or FinishReason("stop")


class _Answer:
    """What an answer adds up to. Joins characters that were cut in two between pieces."""

    __slots__ = ("_half", "_kind", "_room")

    def __init__(self, size: int) -> None:
        self._room = size  # bytes
        self._half = ""
        self._kind: type[Text | Reasoning] = Text

    @property
    def is_full(self) -> bool:
        """Whether more came than there was room for."""
        return self._room < 0

    def take(self, event: Event) -> Event | None:
        """Return what of an event there is room for, with whole characters only; None if nothing.

        Half a call would be none.
        """
        match event:
            case Text(text) | Reasoning(text):
                if text.isascii() and not self._half:
                    size = len(text)
                else:
                    text, self._half = split_half(self._half + text)
                    self._kind = type(event)
                    text = whole(text)
                    event = self._kind(text)
                    size = len(text.encode())
                if size > self._room:
                    event = type(event)(_beginning(text, self._room))
                self._room -= size
                return event if event.text else None
            case ToolCall():
                size = sum(len(one.encode()) for one in (event.id, event.name, event.arguments))
            case Notice(text):
                size = len(text.encode())
            case _:
                return event
        self._room -= size
        return None if self.is_full else event

    def rest(self) -> Text | Reasoning | None:
        """Return the half that the answer ended with, as U+FFFD."""
        return self._kind(whole(self._half)) if self._half and not self.is_full else None


def _beginning(text: str, size: int) -> str:
    """Return so much of `text` as fits into `size` bytes."""
    return text.encode()[:size].decode(errors="ignore")


def _generator(answer: Any, provider: type[Provider]) -> AsyncGenerator[Any, None]:
    if isinstance(answer, AsyncGenerator):
        return answer
    if isinstance(answer, AsyncIterator):
        return _iterate(answer)
    raise UsageError(
        f"{provider.__name__}.create_async_generator returned {type(answer).__name__}, "
        "not an async iterator."
    )


async def _iterate(answer: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    async for piece in answer:
        yield piece


def _parse_piece(piece: Any, provider: type[Provider]) -> Event:
    match piece:
        case str():
            return Text(piece)
        case FinishReason(reason):
            return FinishReason(harmless(reason[:MAX_REASON]))
        case ToolCall(id_, name, arguments):
            return ToolCall(whole(id_[:MAX_ID]), whole(name[:MAX_NAME]), whole(arguments))
        case Notice(text, kind):
            return Notice(harmless(text), kind)
        case Text() | Reasoning() | Usage():
            return piece
        case {"error": error} if error:
            raise ServerError(f"{provider.__name__} broke off: {error_message(error)}")
        case {"text": str(text)} | {"content": str(text)}:
            return Text(text)
    raise FormatError(
        f"{provider.__name__} yielded {type(piece).__name__}, which is neither text, "
        "a dict with text or content, nor an event."
    )


# -- helpers that providers share, under the names that g4f-style packages know


def format_prompt(messages: Prompt | Iterable[Mapping[str, Any]]) -> str:
    """Write a conversation as one text: a single message as it is, several as `Role: text` lines.

    Blank ones are left out; a last `Assistant:` asks for the next.
    """
    parsed: tuple[Message, ...] = parse_messages(messages)
    if len(parsed) == 1:
        return parsed[0].text
    lines = [f"{m.role.capitalize()}: {m.text}" for m in parsed if m.text.strip()]
    return "\n".join([*lines, "Assistant:"])
