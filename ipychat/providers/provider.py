"""What a provider is, and the one place where what it yields becomes events.

A provider is any class with a classmethod `create_async_generator(model, messages, **options)` that
returns an async iterator. It may yield text, dicts with `text` or `content`, or events. It may
inherit from the two classes here, and may declare `ends_with`:

- `"finish"`: its protocol ends every answer with a finish reason; a stream without one was cut off;
- `"body"`: the clean end of the body is the end of the answer; so it is where nothing is declared.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from ipychat import secrets
from ipychat.errors import (
    BrokenAnswerError,
    FormatError,
    ModelNotSupportedError,
    ServerError,
    UsageError,
)
from ipychat.messages import (
    MAX_ANSWER,
    Event,
    FinishReason,
    Image,
    Message,
    Notice,
    Prompt,
    Question,
    Reasoning,
    Source,
    Text,
    ToolCall,
    Usage,
    parse_messages,
)
from ipychat.text.characters import harmless, split_half, whole
from ipychat.wire import offload
from ipychat.wire.http import error_message

MAX_REASON = 256
"""Characters of a finish reason; the longest known has about thirty."""
MAX_NAME = 256
"""Characters of a tool's name; services allow 64 or 128."""
MAX_TITLE = 300
"""Characters of a source's title."""
NO_IMAGE = "The answer also has a file that isn't shown: it isn't a PNG, JPEG, GIF or WebP image."
MAX_ID = 16 * 1024
"""Characters of a tool call's id; some services put a signature of a few thousand into it."""
COMMON_OPTIONS = frozenset({
    "frequency_penalty", "max_completion_tokens", "max_tokens", "presence_penalty",
    "response_format", "seed", "stop", "stream", "temperature", "tool_choice", "tools", "top_p",
})  # fmt: skip
"""OpenAI's words, as far as most services have something to do with them."""

Messages: TypeAlias = list[dict[str, Any]]
"""What providers of other packages are given: dicts with `role` and `content`, text or parts."""
Given: TypeAlias = Messages | tuple[Message, ...]
"""What providers of this package are given: messages; called directly, they take dicts, too."""
AsyncResult: TypeAlias = AsyncIterator[Any]
"""What providers return."""


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
    stored: float | None = None
    """The price of input that was put there; `stored_hour`, of what stays there for an hour."""
    stored_hour: float | None = None
    long: Mapping[str, float] | None = None
    """Prices for questions of more than `above` tokens, by the names of the fields above."""
    reasons: bool | None = None
    """Whether it reasons by default."""
    efforts: Sequence[str] | None = None
    """Its levels of reasoning effort, in the service's own words, lowest first."""
    sampling: str | None = None
    """`none`: it rejects temperature, top_p, top_k; `without effort`: unless the effort is none."""
    forced_tools: bool | None = None
    """False: it can't be forced to call a tool."""
    retires: str | None = None
    """The day on which its service retires it, in ISO form."""

    def price(self, name: str, tokens: int) -> float | None:
        """Return the price of that name for a question of so many tokens."""
        if self.long and tokens > self.long["above"]:
            return self.long.get(name)
        price: float | None = getattr(self, name)
        return price

    def facts(self) -> dict[str, Any]:
        """Return the known fields as a dict."""
        given = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: value for name, value in given if value is not None}


NO_CHAT = re.compile(
    r"embed|minilm|rerank|whisper|diffusion|dall-e|moderation|gpt-image|babbage|davinci|"
    r"codex-mini|gpt-audio|-transcribe\b|\b(bge|gte|e5|tts|sora|realtime)\b|\bmistral-ocr\b",
    re.IGNORECASE,
)
"""Names of models that answer no chats, for lists that don't say what a model is for."""


class Hints(NamedTuple):
    """What a provider of this package is told about a question besides its options."""

    reasons: bool | None = None
    """Whether the model reasons by default, so that a summary of it is requested."""
    caches: bool = True
    """Whether the question is likely to be sent again with more appended."""


NO_HINTS = Hints()


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
    protocol: ClassVar[str] = ""
    """The name of a protocol that several providers share, and with it their seals."""
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
    chooses_address: ClassVar[bool] = False
    """Whether it alone knows where its requests go."""
    base_url: ClassVar[str] = ""
    """The root that its paths are appended to, unless the environment or an option says another."""
    url_variables: ClassVar[tuple[str, ...]] = ()
    """The environment's names for a root of the user's own; read when it is needed."""
    takes_hints: ClassVar[bool] = False
    """Whether it accepts `Hints`, in the option `hints`."""
    web: ClassVar[Mapping[str, Any] | None] = None
    """The service's own tool that searches the web, as its requests have it."""
    takes_tools: ClassVar[bool] = True
    """Whether its models can be given tools."""
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
        """Return the path, below the root, at which `model` is asked."""
        return ""

    @classmethod
    def create_async_generator(cls, model: str, messages: Messages, **options: Any) -> AsyncResult:
        """Return the answer, piece by piece."""
        raise NotImplementedError

    @classmethod
    def missing(cls, root: str) -> str | None:  # noqa: ARG003 - a default
        """Return what is missing before `root` can be asked, or None if it is ready."""
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


class FullProvider(AsyncGeneratorProvider, ProviderModelMixin):
    """The whole contract, which every class that `ipychat.catalog.registry` gives has."""

    wrapped: ClassVar[type[Any] | None] = None
    """The class of another package that this one completes."""


class _WithoutAddress(AsyncGeneratorProvider):
    """The contract's part of a class that has none: it sends its requests where it likes."""

    chooses_address = True


class _WithoutModels(ProviderModelMixin):
    """The same of a class that knows no models: it takes any name, and none."""

    @classmethod
    def get_model(cls, name: str | None) -> str:
        """Return the name as it is."""
        return name or ""


def completed(given: type[Any]) -> type[FullProvider]:
    """Return a class of another package with all that the contract has; it is given dicts."""

    async def create_async_generator(
        model: str, messages: tuple[Message, ...], **options: Any
    ) -> AsyncIterator[Any]:
        written = await offload.run(_to_dicts, messages)
        asked: Any = given.create_async_generator(model=model, messages=written, **options)
        if not isinstance(asked, AsyncIterator):
            raise UsageError(
                f"{given.__name__}.create_async_generator returned {type(asked).__name__}, "
                "not an async iterator."
            )
        try:
            async for piece in asked:
                yield piece
        finally:
            if isinstance(asked, AsyncGenerator):
                await asked.aclose()

    bases: list[type[Any]] = [given]
    bases += [] if issubclass(given, AsyncGeneratorProvider) else [_WithoutAddress]
    bases += [] if issubclass(given, ProviderModelMixin) else [_WithoutModels]
    own = {"create_async_generator": staticmethod(create_async_generator), "wrapped": given}
    return type(given.__name__, tuple(bases), own)


def _to_dicts(messages: tuple[Message, ...]) -> Messages:
    return [message.to_dict() for message in messages]


class Reader:
    """Asks a provider, and makes events of the closed union of what it yields.

    Characters that were cut in two between pieces are joined. There is room for `size` bytes.
    """

    __slots__ = ("_finish", "_half", "_kind", "_provider", "_room", "is_full")

    def __init__(self, provider: type[FullProvider], size: int) -> None:
        self._provider = provider
        self._room = size
        self.is_full = False
        """Whether more came than there was room for."""
        self._half = ""
        self._kind: type[Text | Reasoning] = Text
        self._finish: FinishReason | None = None

    def ask(self, question: Question) -> AsyncGenerator[Any, None]:
        """Return the pieces of the answer; closing it closes the provider's connection at once."""
        ask: Any = self._provider.create_async_generator  # which takes messages, and is a generator
        asked: AsyncGenerator[Any, None] = ask(
            model=question.model.name, messages=question.messages, **question.options
        )
        return asked

    def take(self, piece: Any) -> Event | None:
        """Return the event that a piece is, as far as there is room; None if nothing is left of it.

        Half a call would be none. `finish` tells how the answer ended.
        """
        if type(piece) is Text:  # as most of them are
            size = len(piece.text)
            if not self._half and piece.text.isascii() and size <= self._room:
                self._room -= size
                return piece if size else None
        else:
            piece = self._parse(piece)
        match piece:
            case Reasoning(seal=seal) if seal:
                self._room -= len(piece.text.encode()) + len(seal.encode())
                return None if self.is_full else piece
            case Text(text) | Reasoning(text):
                text, self._half = split_half(self._half + text)
                self._kind = type(piece)
                text = whole(text)
                piece = self._kind(text)
                size = len(text.encode())
                if size > self._room:
                    piece = self._kind(_beginning(text, self._room))
                self._take_room(size)
                return piece if piece.text else None
            case ToolCall():
                texts = (piece.id, piece.name, piece.arguments, piece.seal)
                size = sum(len(one.encode()) for one in texts)
            case Notice(text):
                size = len(text.encode())
            case Source(url, title):
                size = len(url.encode()) + len(title.encode())
            case Image(_, data):
                size = len(data)
            case FinishReason():
                self._finish = piece
                return None
            case Usage():
                return piece
        self._take_room(size)
        return None if self.is_full else piece

    def _take_room(self, size: int) -> None:
        self._room -= size
        self.is_full = self._room < 0

    def rest(self) -> Text | Reasoning | None:
        """Return the half of a character that the answer ended with, as U+FFFD."""
        return self._kind(whole(self._half)) if self._half and not self.is_full else None

    def finish(self) -> FinishReason:
        """Return how the answer ended.

        Raises BrokenAnswerError where its protocol says how, and it did not.
        """
        if self.is_full:
            return FinishReason(MAX_ANSWER)
        if self._finish is None and self._provider.ends_with == "finish":
            raise BrokenAnswerError(
                f"{self._provider.__name__} ended the answer without saying that it was whole."
            )
        return self._finish or FinishReason("stop")

    def _parse(self, piece: Any) -> Event:
        match piece:
            case str():
                return Text(piece)
            case FinishReason(reason):
                return FinishReason(harmless(reason[:MAX_REASON]) or "stop")
            case ToolCall(id_, name, arguments, seal):
                id_, name = whole(id_[:MAX_ID]), whole(name[:MAX_NAME])
                return ToolCall(id_, name, whole(arguments), whole(seal))
            case Reasoning(text, seal) if seal:
                return Reasoning(whole(text), whole(seal))
            case Notice(text, kind):
                return Notice(harmless(text), kind)
            case Source() | Image():
                return _checked(piece)
            case Text() | Reasoning() | Usage() as event:
                return event
            case {"error": error} if error:
                raise ServerError(f"{self._provider.__name__} broke off: {error_message(error)}")
            case {"text": str(text)} | {"content": str(text)}:
                return Text(text)
        raise FormatError(
            f"{self._provider.__name__} yielded {type(piece).__name__}, which is neither text, "
            "a dict with text or content, nor an event."
        )


def _checked(given: Source | Image) -> Event:
    """Return a source that is safe to show, or an image if its bytes are one."""
    match given:
        case Source(url, title):
            is_address = url.startswith(("http://", "https://"))
            return Source(harmless(url) if is_address else "", harmless(title[:MAX_TITLE]))
        case Image(_, data):
            return Image.read(data) or Notice(NO_IMAGE)


def _beginning(text: str, size: int) -> str:
    """Return so much of `text` as fits into `size` bytes."""
    return text.encode()[:size].decode(errors="ignore")


def read_messages(given: Any) -> tuple[Message, ...]:
    """Return the messages that a provider was given: ours as they are, a caller's parsed."""
    is_ours = isinstance(given, tuple) and all(isinstance(one, Message) for one in given)
    return given if is_ours else parse_messages(given)


# -- helpers that providers share, under the names that g4f-style packages know


def format_prompt(messages: Prompt | Iterable[Mapping[str, Any]]) -> str:
    """Write a conversation as one text: a single message as it is, several as `Role: text` lines.

    Blank ones are left out; a last `Assistant:` asks for the next.
    """
    parsed = read_messages(messages)
    if len(parsed) == 1:
        return parsed[0].text
    lines = [f"{m.role.capitalize()}: {m.text}" for m in parsed if m.text.strip()]
    return "\n".join([*lines, "Assistant:"])
