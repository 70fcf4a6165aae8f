"""Values that travel: model ids, messages, requests, events, replies.

All are frozen. Whatever a caller gives as a prompt becomes messages once, in `parse_messages`;
whatever a provider yields becomes an event once, in `ipychat.providers.provider.Reader`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

from ipychat.errors import UsageError
from ipychat.secrets import MASK, mask
from ipychat.text import markup
from ipychat.text.characters import harmless

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
STEP = 3 << 18
"""Bytes that are written or read as base64 at a time: each step holds all threads."""


@dataclass(frozen=True, slots=True)
class ModelId:
    """A model of a provider, written `provider:name`."""

    provider: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ModelId:
        """Read what `str` has written."""
        provider, _, name = text.partition(":")
        return cls(provider, name)

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}"


# -- messages


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of a message that is text."""

    text: str

    def to_dict(self) -> dict[str, Any]:
        """As chat-completion protocols write it."""
        return {"type": "text", "text": self.text}


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: its address, or its bytes as a `data:` URL."""

    url: str
    detail: str = ""
    """How closely OpenAI's models look at it: `low`, `high`, `auto`; empty leaves it to them."""

    @classmethod
    def of_bytes(cls, data: bytes, media_type: str) -> ImagePart:
        """Make a part that carries the image itself."""
        return cls(f"data:{media_type};base64,{to_base64(data)}")

    @property
    def is_shown(self) -> bool:
        """Whether it carries a picture, by its first bytes, that needs no address to be shown."""
        head, _, data = self.url.partition(",")
        try:
            found = Image.read(from_base64(data[:64]))
        except ValueError:
            return False
        return found is not None and head == f"data:{found.media_type};base64"

    def to_dict(self) -> dict[str, Any]:
        """As chat-completion protocols write it."""
        detail = {"detail": self.detail} if self.detail else {}
        return {"type": "image_url", "image_url": {"url": self.url, **detail}}


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file by its name and bytes."""

    name: str
    data: bytes
    media_type: str = "application/octet-stream"

    def to_dict(self) -> dict[str, Any]:
        """As chat-completion protocols write it."""
        url = f"data:{self.media_type};base64,{to_base64(self.data)}"
        return {"type": "file", "file": {"filename": self.name, "file_data": url}}


@dataclass(frozen=True, slots=True)
class Thought:
    """What a model thought before it went on."""

    text: str = ""
    seal: str = ""
    """Opaque data that its service wants back, as JSON in that service's own format."""

    def to_dict(self) -> dict[str, Any]:
        """Return the form that transcripts and other packages' providers get."""
        return {"text": self.text, "seal": self.seal}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete tool call of the model; `arguments` is the text that it wrote."""

    id: str
    name: str
    arguments: str
    """JSON, unless the model made a mistake."""
    seal: str = ""
    """Opaque data that its service wants back with the call; see `Thought`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the chat-completion form, which has no place for the seal."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


Decision: TypeAlias = Literal["once", "always", "edited", "refused", "unasked"]
"""Who let a tool run: the user, this time or always, perhaps with other arguments, or not; or the
terms of the question, unasked."""
Result: TypeAlias = tuple[TextPart | ImagePart, ...]
"""What a tool returned, as its model is told."""


@dataclass(frozen=True, slots=True)
class Step:
    """A tool call of the model, and what became of it."""

    call: ToolCall
    """The call as the model made it."""
    tool: str
    """The tool as the user names it; empty if there is none of that name."""
    arguments: str
    """The arguments that ran, as JSON."""
    result: Result
    error: bool = False
    """Whether the tool failed, was refused or does not exist; the result says why."""
    decision: Decision = "unasked"
    reason: str = ""
    """Why it was refused, or by which rule it ran."""
    seconds: float = 0.0
    made: tuple[str, ...] = ()
    """Names of the notebook that the tool set."""

    def to_message(self) -> Message:
        """Return the message that tells the model."""
        content = self.result
        if len(content) == 1 and isinstance(content[0], TextPart):
            return Message("tool", content[0].text, self.call.id, self.error)
        return Message("tool", content, self.call.id, self.error)

    @property
    def text(self) -> str:
        """The texts of the result."""
        return "\n".join(part.text for part in self.result if isinstance(part, TextPart))

    def to_record(self) -> dict[str, Any]:
        """Return all of it but the call, as JSON can carry it."""
        given = {one.name: getattr(self, one.name) for one in fields(self)[1:]}
        given |= {"result": [part.to_dict() for part in self.result], "made": [*self.made]}
        return {name: one for name, one in given.items() if one or name not in LATER}

    @classmethod
    def of_record(cls, call: ToolCall, record: Mapping[str, Any]) -> Step:
        """Read what `to_record` wrote; raises TypeError for a field of another type."""
        check_fields(record, _STEP)
        result, made = read_result(record["result"]), tuple(record.get("made", ()))
        if record["decision"] not in get_args(Decision):
            raise TypeError("decision")
        if not all(isinstance(one, str) for one in made) or not 0 <= record["seconds"] < MOST:
            raise TypeError("made, or seconds")
        if not all(part.is_shown for part in result if isinstance(part, ImagePart)):
            raise TypeError("result")
        given = {**record, "call": call, "result": result, "made": made}
        return _made(cls, given)


Part: TypeAlias = TextPart | ImagePart | FilePart | Thought | ToolCall
P = TypeVar("P", Thought, ToolCall, Step)


@dataclass(frozen=True, slots=True)
class Message:
    """A message; its content is text, or ordered parts if there is more than text."""

    role: Role
    content: str | tuple[Part, ...]
    tool_call_id: str | None = None
    """The call that a tool's message answers."""
    failed: bool = False
    """Whether the tool failed; the content describes the failure."""
    origin: str = ""
    """The service that made the seals, as `ipychat.catalog.receipts.origin` names it; they are
    sent nowhere else. Empty: the caller provided them."""

    @classmethod
    def asking(cls, text: str, along: Iterable[Part] = ()) -> Message:
        """Make a user's question of a text and the parts that go along with it, before it."""
        parts = tuple(along)
        if not parts:
            return cls("user", text)
        return cls("user", (*parts, TextPart(text)) if text.strip() else parts)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts."""
        return _parts_of(self.content)

    @property
    def text(self) -> str:
        """The text alone, without images and files."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The assistant's tool calls."""
        return () if isinstance(self.content, str) else _of_kind(self.content, ToolCall)

    @property
    def thoughts(self) -> tuple[Thought, ...]:
        """The assistant's thoughts."""
        return () if isinstance(self.content, str) else _of_kind(self.content, Thought)

    def seals(self, origin: str | None = None) -> list[str]:
        """Return the seals; with `origin`, only if they were made there or by the caller."""
        if isinstance(self.content, str) or (origin and self.origin not in {"", origin}):
            return []
        sealed = (part.seal for part in self.content if isinstance(part, Thought | ToolCall))
        return [*filter(None, sealed)]

    @property
    def said(self) -> str | tuple[Part, ...]:
        """The content without thoughts and calls, which most protocols keep in separate fields."""
        if isinstance(self.content, str):
            return self.content
        said = tuple([part for part in self.content if not isinstance(part, Thought | ToolCall)])
        if len(said) == len(self.content):
            return self.content
        match said:
            case ():
                return ""
            case (TextPart(text),):
                return text
        return said

    @property
    def said_parts(self) -> tuple[TextPart | ImagePart | FilePart, ...]:
        """`said`, as parts."""
        return tuple(one for one in _parts_of(self.said) if not isinstance(one, Thought | ToolCall))

    def to_dict(self) -> dict[str, Any]:
        """Return the chat-completion form; thoughts and seals have fields of ipychat's own."""
        said = self.said
        written: dict[str, Any] = {
            "role": self.role,
            "content": said if isinstance(said, str) else [part.to_dict() for part in said],
        }
        if thoughts := self.thoughts:
            written["thoughts"] = [thought.to_dict() for thought in thoughts]
        if calls := self.tool_calls:
            written["tool_calls"] = [
                call.to_dict() | ({"seal": call.seal} if call.seal else {}) for call in calls
            ]
        if self.tool_call_id is not None:
            written["tool_call_id"] = self.tool_call_id
        if self.failed:
            written["failed"] = True
        if self.origin:
            written["origin"] = self.origin
        return written


def _parts_of(content: str | tuple[Part, ...]) -> tuple[Part, ...]:
    return content if isinstance(content, tuple) else (TextPart(content),)


REASONING = ("reasoning_content", "reasoning_details")
"""Fields of chat completions that services want back with a tool call."""
EXTRA = "extra_content"
"""The same within a tool call."""

Prompt: TypeAlias = (
    str | Message | Mapping[str, Any] | Iterable["str | Message | Mapping[str, Any]"]
)


def parse_messages(prompt: Prompt) -> tuple[Message, ...]:
    """Turn whatever a caller gives into messages.

    Raises UsageError for what is neither a text, a message nor a list of those, and for nothing.
    """
    given = [prompt] if isinstance(prompt, str | Message | Mapping) else prompt
    if not isinstance(given, Iterable):
        raise UsageError(f"A prompt is a text or a list of messages, not {type(given).__name__}.")
    messages = tuple(map(_parse_message, given))
    if not any(m.content if isinstance(m.content, tuple) else m.content.strip() for m in messages):
        raise UsageError("The prompt is empty: there is nothing to send.")
    return messages


def _parse_message(given: Any) -> Message:
    match given:
        case Message():
            return given
        case str():
            return Message("user", given)
        case {"role": str(role)} if "content" in given or "tool_calls" in given:
            return _parse_dict(role, given)
    raise UsageError(
        f"A message is a text or a dict with role and content, not {type(given).__name__}."
    )


def _parse_dict(role: str, given: Mapping[str, Any]) -> Message:
    role = "system" if role == "developer" else role  # what OpenAI's newer models call it
    if role not in ROLES:
        raise UsageError(f"A message's role is one of {', '.join(ROLES)}, not {role!r}.")
    calls, thoughts = given.get("tool_calls") or (), given.get("thoughts") or ()
    answered, origin = given.get("tool_call_id"), given.get("origin") or ""
    if not (isinstance(calls, Iterable) and isinstance(answered, str | None)):
        raise UsageError("A message's tool_calls are a list, its tool_call_id is a text.")
    if not (isinstance(thoughts, Iterable) and isinstance(origin, str)):
        raise UsageError("A message's thoughts are a list, its origin is a text.")
    content = _parse_content(given.get("content"))
    before = (*map(_parse_thought, thoughts), *_reasoning(given))
    behind = tuple(map(_parse_call, calls))
    if before or behind:
        content = (*before, *(_parts_of(content) if content else ()), *behind)
    return Message(cast("Role", role), content, answered, bool(given.get("failed")), origin)


def _parse_thought(thought: Any) -> Thought:
    match thought:
        case {"text": str(text), "seal": str(seal)}:
            return Thought(text, seal)
    raise UsageError("A thought is a dict with text and seal.")


def _reasoning(given: Mapping[str, Any]) -> tuple[Thought, ...]:
    """Return the thought of a chat-completion message; its seal holds the fields as they are."""
    sealed = {name: given[name] for name in REASONING if given.get(name)}
    if not sealed:
        return ()
    text = sealed.get("reasoning_content")
    return (Thought(text if isinstance(text, str) else "", _seal(sealed)),)


def _parse_call(call: Any) -> ToolCall:
    match call:
        case {"id": str(id_), "function": {"name": str(name), "arguments": str(arguments)}}:
            extra = call.get(EXTRA)
            seal = _seal({EXTRA: extra}) if extra else call.get("seal") or ""
            if isinstance(seal, str):
                return ToolCall(id_, name, arguments, seal)
    raise UsageError("A tool call is a dict with id and function, which has name and arguments.")


def _seal(sealed: Mapping[str, Any]) -> str:
    try:
        return json.dumps(sealed)
    except (TypeError, ValueError, RecursionError):
        raise UsageError(f"A message's {next(iter(sealed))} is not JSON.") from None


def _parse_content(content: Any) -> str | tuple[Part, ...]:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Iterable) and not isinstance(content, Mapping | bytes):
        return tuple(map(_parse_part, content))
    raise UsageError(f"A message's content is a text or parts, not {type(content).__name__}.")


def _parse_part(part: Any) -> Part:
    match part:
        case TextPart() | ImagePart() | FilePart() | Thought() | ToolCall():
            return part
        case str(text) | {"type": "text" | "input_text", "text": str(text)}:
            return TextPart(text)
        case {"type": "image_url", "image_url": {"url": str(url), "detail": str(detail)}}:
            return ImagePart(url, detail)
        case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
            return ImagePart(url)
        case {"type": "file", "file": {"filename": str(name), "file_data": str(url)}}:
            return _parse_file(name, url)
        case {"type": kind}:
            raise UsageError(f"A part of type {kind!r} can't be sent: text, image_url, file can.")
    raise UsageError(f"A part of a message is a dict with a type, not {type(part).__name__}.")


def read_result(recorded: Any) -> Result:
    """Read texts and pictures as their `to_dict` wrote them. Raises TypeError for others."""
    parts = _parse_content(recorded)
    if isinstance(parts, str):
        raise TypeError("parts")
    found = tuple(part for part in parts if isinstance(part, TextPart | ImagePart))
    if len(found) < len(parts):
        raise TypeError("parts")
    return found


def _parse_file(name: str, url: str) -> FilePart:
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise UsageError(f"The file {name} must come as a base64 data URL.")
    try:
        return FilePart(name, from_base64(data), head[5:-7])
    except ValueError:
        raise UsageError(f"The data of the file {name} is not base64.") from None


def _of_kind(parts: tuple[Part | Step, ...], kind: type[P]) -> tuple[P, ...]:
    return tuple([part for part in parts if isinstance(part, kind)])


def distinct(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages with unique call ids: some services reuse theirs.

    A result belongs to the nearest call of its id before it.
    """
    ids = [call.id for one in messages for call in one.tool_calls]
    if len({*ids}) == len(ids):
        return messages
    told: list[Message] = []
    used: set[str] = set()
    named: dict[str | None, str] = {}
    for one in messages:
        parts: list[Part] = []
        for part in one.parts:
            if isinstance(part, ToolCall):
                named[part.id] = another_id(part.id, used)
                used.add(named[part.id])
                part = replace(part, id=named[part.id])  # noqa: PLW2901 - told apart
            parts.append(part)
        if one.tool_calls:
            one = replace(one, content=tuple(parts))  # noqa: PLW2901
        elif one.tool_call_id in named:
            one = replace(one, tool_call_id=named[one.tool_call_id])  # noqa: PLW2901
        told.append(one)
    return tuple(told)


def another_id(id_: str, used: Container[str]) -> str:
    """Return the id, with a number appended if it is already used."""
    numbered = (f"{id_}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([id_], numbered) if one not in used)


def to_base64(data: bytes) -> str:
    """Return `data` as base64."""
    steps = range(0, len(data), STEP)
    return "".join([base64.b64encode(data[at : at + STEP]).decode() for at in steps])


def from_base64(text: str) -> bytes:
    """Return the data of a base64 that has nothing else in it. Raises ValueError."""
    if 0 <= text.find("=") < len(text) - 2:
        raise ValueError("its end stands in its middle")
    step = STEP // 3 * 4
    steps = range(0, len(text), step)
    return b"".join([base64.b64decode(text[at : at + step], validate=True) for at in steps])


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a question's model was called, and whom that stood for in the notebook's cassette.

    An answer of that model's that is kept will do, too. It is never asked: anyone may have written
    the cassette.
    """

    model: ModelId
    names: tuple[str, ...]
    fault: str = ""
    """Why nobody may be asked, where the user's own rules name nobody."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a question goes: found once, by `ipychat.catalog.route`."""

    provider: type[Any]
    root: str | None
    """None: the provider alone knows."""
    behind: ModelId | None = None
    """Who answers behind the notebook's own gateway; None: it does not go there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a question belongs."""

    chat: str | None = None
    """The conversation that it becomes a turn of; None: of none."""
    cell: str | None = None
    execution: str | None = None
    """Which run of the cell: an id that no other run has, in other kernels too."""
    background: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Question:
    """What is asked of whom. Made once, from flags or arguments, and carried whole to the wire."""

    model: ModelId
    messages: tuple[Message, ...]
    """All that is sent."""
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    route: Route | None = None
    """None: of an answer that was read from disk."""
    prompt: tuple[Message, ...] = ()
    """What of the messages the user asked."""
    system: str | None = None
    place: Place = Place()
    cached: bool = False
    """Whether an answer that is kept will do, where it is not looked for anyway."""
    allow_secrets: bool = False
    """Whether the secrets in it are sent as they are."""
    large: bool = False
    """Whether it is sent however long it is."""
    recorded: Recorded | None = None
    """Where a cassette says something else of the model's name than the user's own rules."""
    given: Any = None
    """What its model may run, and on which terms: a `Given` of the toolbox; None: nothing."""

    def __repr__(self) -> str:
        return harmless(f"<Question to {self.model}: {len(self.messages)} messages>")


# -- events: what an answer is made of


@dataclass(frozen=True, slots=True)
class Text:
    """Some of the answer's text. How it is cut into events has no meaning."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Some of what the model thought before it answered."""

    text: str
    seal: str = ""
    """Ends a thought that its service wants back; see `Thought`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A page or document that the answer cites."""

    url: str
    """A web address; empty for a document of the question's own."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the model made."""

    media_type: str
    """As its bytes say: image/png, image/jpeg, image/gif or image/webp."""
    data: bytes = field(repr=False)

    @classmethod
    def read(cls, data: bytes) -> Image | None:
        """Return the image that these bytes are, or None if they are none that can be shown."""
        for media_type, pattern in IMAGE_TYPES.items():
            if re.match(pattern, data, re.DOTALL):
                return cls(media_type, data)
        return None

    @property
    def name(self) -> str:
        """The name of the file that it is stored in."""
        suffix = self.media_type.partition("/")[2]
        return f"{hashlib.sha256(self.data).hexdigest()}.{suffix}"


IMAGE_TYPES = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF.{4}WEBP",
}
"""Types of images that are shown, and how their files begin. SVG may hold scripts."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the service counted, in tokens; `cached` of the input came from its cache."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int = 0
    cost: float | None = None
    """In dollars, as the service says, else by the prices that are known; None: not known."""
    stored: int = 0
    """How many input tokens were written to the cache."""
    stored_hour: int = 0
    """How many of those for an hour, which costs more."""
    saved: float | None = None
    """Dollars saved by the cache; negative if writing to it cost more than it saved."""

    def __add__(self, other: Usage) -> Usage:
        """Return the sum; what it costs is known only if both costs are."""
        costs, saved = (self.cost, other.cost), (self.saved, other.saved)
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cached + other.cached,
            None if None in costs else sum(filter(None, costs)),
            self.stored + other.stored,
            self.stored_hour + other.stored_hour,
            None if saved == (None, None) else sum(filter(None, saved)),
        )

    def to_record(self) -> dict[str, Any]:
        """Return the fields, without the newer ones that are empty."""
        return _sparse(self)

    def __repr__(self) -> str:
        # as a record: the outputs of notebooks stay as they were
        said = ", ".join(f"{name}={value!r}" for name, value in self.to_record().items())
        return f"Usage({said})"

    def __str__(self) -> str:
        unit = "token" if self.input == 1 else "tokens"
        parts = ((self.cached, "cached"), (self.stored, "put into the cache"))
        said = ", ".join(f"{count:,} {what}" for count, what in parts if count)
        cached = f" ({said})" if said else ""
        cost = "" if self.cost is None else f" · {dollars(self.cost)}"
        return f"{self.input:,} {unit} in{cached}, {self.output:,} out{cost}"


def date(at: str) -> str:
    """Write a time, which is in ISO form and UTC, as people do."""
    return at.replace("T", " ").replace("+00:00", " UTC")


def dollars(amount: float) -> str:
    """Write an amount so that something of it is seen, however small."""
    if amount == 0:
        return "$0"
    if amount < 0.1:
        digits = f"{amount:.2g}"
        return f"${amount:.12f}".rstrip("0") if "e" in digits else f"${digits}"
    return f"${amount:,.2f}"


@dataclass(frozen=True, slots=True)
class FinishReason:
    """How the answer ended: `stop`, `length`, `content_filter`, `tool_calls` or a service's own."""

    reason: str


MAX_ANSWER = "max_answer"
"""Why an answer ended that is longer than the setting of that name allows."""
MAX_STEPS = "max_steps"
"""Why a run ended that has called as many tools as it may."""
MAX_COST = "max_cost"
"""Why a run ended that has cost as much as it may."""
CUT_OFF = {
    "length": "Cut off: the model reached its limit of tokens",
    "content_filter": "Cut off by the service's content filter",
    MAX_ANSWER: "Cut off: the answer reached the size that IPyChat.max_answer allows",
    MAX_STEPS: "Stopped at the limit of tool calls",
    MAX_COST: "Stopped at the limit of its cost",
}
"""By the reason for which an answer ended: what is said of one that is not whole."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know, said by ipychat and not by the model."""

    text: str
    kind: str = field(default="", compare=False)
    """`retry`: it takes the place of the one before, if that is of the same kind."""


Event: TypeAlias = (
    Text | Reasoning | Image | ToolCall | Step | Source | Usage | FinishReason | Notice
)


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An answer as far as it came, known secrets masked. Usable as its text: `str(reply)`."""

    request: Question
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    parts: tuple[Part | Step, ...] = ()
    """Text, sealed thoughts, calls and steps in order; empty if there is only text."""
    origin: str = ""
    """The service that made the seals in the parts."""
    sources: tuple[Source, ...] = ()
    images: tuple[Image, ...] = ()
    notices: tuple[str, ...] = ()
    finish: str | None = None
    """None where the answer did not come to its end."""
    usage: Usage | None = None
    seconds: float = 0.0
    first_text: float | None = None
    """Seconds until the first text came."""
    thought_for: float = 0.0
    """Seconds spent reasoning, until its last piece arrived; text doesn't count."""
    at: str | None = None
    """When it was asked: UTC, in ISO form."""
    hash: str | None = None
    """Of what was asked, exactly; `%chat_receipt` shows it."""
    cached: bool = False
    """Whether it is an earlier answer to the same question: nothing was sent."""

    @property
    def model(self) -> ModelId:
        """Who answered."""
        return self.request.model

    @property
    def provider(self) -> str:
        """The name of the provider that answered."""
        return self.request.model.provider

    @property
    def cost(self) -> float | None:
        """What it cost in dollars; None where that is not known."""
        return self.usage.cost if self.usage else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing came of it."""
        return not (self.text or self.reasoning or self.tool_calls or self.images)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that a history holds for it, including calls and seals."""
        if not self.parts:
            return (Message("assistant", self.text),)
        told: list[Message] = []
        said: list[Part] = []
        for part in self.parts:
            if isinstance(part, Step):
                if said:
                    told.append(self._message(said, is_first=not told))
                    said = []
                told.append(part.to_message())
            else:
                said.append(part)
        if said:
            told.append(self._message(said, is_first=not told))
        return tuple(told)

    def _message(self, said: list[Part], *, is_first: bool) -> Message:
        """Return the message of one answer of the run, as its service sent it."""
        match said:
            case [TextPart(text), *rest] if not is_first:
                text = text.removeprefix(GAP)
                content = (TextPart(text), *rest) if rest else text
                return Message("assistant", content, origin=self.origin)
        return Message("assistant", tuple(said), origin=self.origin)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The tool calls that were carried out or refused, in order."""
        return _of_kind(self.parts, Step)

    def answered(self, following: Iterable[Message]) -> tuple[Message, ...]:
        """Return its messages, without calls that are not answered by what follows on them.

        No service takes such calls. Nothing is left of an answer that has nothing else.
        """
        *before, last = self.messages
        if last.role == "tool":
            return self.messages
        results = itertools.takewhile(lambda one: one.role == "tool", following)
        known = {one.tool_call_id for one in results}
        if all(call.id in known for call in last.tool_calls):
            return self.messages if self.text.strip() or last.tool_calls or before else ()
        kept = tuple(
            part for part in last.parts if not isinstance(part, ToolCall) or part.id in known
        )
        last = replace(last, content=kept)
        if not last.tool_calls:
            if not last.text.strip():
                return tuple(before)
            last = last if last.seals() else Message("assistant", _text_of(last.parts))
        return (*before, last)

    @property
    def cut_off(self) -> str | None:
        """Why it is not whole, in words; None where nothing cut it off."""
        return CUT_OFF.get(self.finish or "")

    @property
    def code(self) -> tuple[str, ...]:
        """The code blocks of the answer, in their order."""
        return tuple(code for _, code in markup.code_blocks(self.text))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        how = self.finish or "not finished"
        return harmless(f"<Reply {self.model}: {len(self.text):,} characters, {how}>")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What a notebook shows. No raw Markdown: a front end would run the scripts in it."""
        data = {"text/html": markup.to_html(self.text, final=True), "text/plain": self.text}
        return {kind: mask(harmless(text)) for kind, text in data.items()}

    def to_record(self) -> dict[str, Any]:
        """Return all of it but the question, as JSON can carry it."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        del given["request"]
        given |= {
            "model": str(self.model),
            "tool_calls": [_sparse(call) for call in self.tool_calls],
            "steps": [
                {"call": self.tool_calls.index(one.call), **one.to_record()} for one in self.steps
            ],
            "parts": [*map(_part_record, self.parts)],
            "sources": [asdict(source) for source in self.sources],
            "images": [image.name for image in self.images],
            "notices": list(self.notices),
            "usage": self.usage and self.usage.to_record(),
        }
        return {name: one for name, one in given.items() if one or name not in LATER}

    @classmethod
    def of_record(cls, request: Question, record: Mapping[str, Any]) -> Reply:
        """Read what `to_record` wrote, by whichever version, of an answer to `request`.

        Raises TypeError for a field that someone has made something else.
        """
        check_fields(record, _RECORDED)
        usage = record["usage"] or {}
        check_fields(usage, _COUNTED)
        times = ("seconds", "first_text", "thought_for")
        numbers = (*map(record.get, times), *map(usage.get, usage.keys() - {"saved"}))
        if not all(0 <= number < MOST for number in numbers if number is not None):
            raise TypeError("a number that can't be")
        if (model := record.get("model")) and model != str(request.model):
            request = replace(request, model=ModelId.parse(model))
        calls = tuple(map(_read_call, record["tool_calls"]))
        return _made(cls, {
            **record,
            "request": request,
            "tool_calls": calls,
            "parts": _read_parts(
                record.get("parts", []), record["text"], calls, record.get("steps", [])
            ),
            "sources": tuple(_made(Source, one) for one in record.get("sources", ())),
            "images": (),  # their files are read by whoever stores them
            "notices": tuple(record["notices"]),
            "usage": record["usage"] and _made(Usage, record["usage"]),
        })  # fmt: skip


GAP = "\n\n"
"""What stands between the texts before and after a step."""


def _text_of(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _part_record(part: Part | Step) -> int | str | list[Any] | None:
    """Return a part as its record holds it, which has the text, the calls and the steps already.

    A text is its length, a thought its seal, a call is None, and a step an empty list.
    """
    match part:
        case Step():
            return []
        case TextPart(text):
            return len(text)
        case Thought(_, seal):
            return seal
    return None


def _read_parts(
    recorded: list[int | str | list[Any] | None],
    text: str,
    calls: tuple[ToolCall, ...],
    steps: list[Mapping[str, Any]],
) -> tuple[Part | Step, ...]:
    """Read what `_part_record` wrote, without seals in which a secret was masked."""
    if not recorded:
        return ()
    lengths = [one for one in recorded if isinstance(one, int)]
    if sum(lengths) != len(text):  # a secret was masked in it
        recorded = [len(text), *(one for one in recorded if not isinstance(one, int))]
    parts: list[Part | Step] = []
    at, rest = 0, iter(calls)
    done = (Step.of_record(calls[one["call"]], one) for one in steps)
    for one in recorded:
        match one:
            case int():
                parts += [TextPart(text[at : at + one])] if one > 0 else []
                at += one
            case str():
                parts += [Thought(seal=one)] if MASK not in one else []
            case None:
                parts += itertools.islice(rest, 1)
            case []:
                parts += itertools.islice(done, 1)
    return tuple(parts)


def _read_call(recorded: Mapping[str, Any]) -> ToolCall:
    check_fields(recorded, dict.fromkeys(("id", "name", "arguments", "seal"), str))
    call = _made(ToolCall, recorded)
    return replace(call, seal="") if MASK in call.seal else call


def _sparse(value: ToolCall | Usage) -> dict[str, Any]:
    """Return the fields of a value, without the newer ones that are empty."""
    return {name: one for name, one in asdict(value).items() if one or name not in LATER}


LATER = {
    "parts",
    "steps",
    "error",
    "reason",
    "made",
    "origin",
    "sources",
    "images",
    "thought_for",
    "seal",
    "stored",
    "stored_hour",
    "saved",
}
"""Newer fields, which records omit while they are empty."""
OR_NONE = str | None
_RECORDED: Mapping[str, Any] = {
    **dict.fromkeys(("text", "reasoning", "origin"), str),
    **dict.fromkeys(("model", "finish", "at", "hash"), OR_NONE),
    **dict.fromkeys(("seconds", "thought_for"), int | float),
    "first_text": int | float | None,
    "cached": bool,
}
_COUNTED: Mapping[str, Any] = {
    **dict.fromkeys(("input", "output", "reasoning", "cached", "stored", "stored_hour"), int),
    **dict.fromkeys(("cost", "saved"), int | float | None),
}
_STEP: Mapping[str, Any] = {
    **dict.fromkeys(("tool", "arguments", "reason"), str),
    "decision": str,
    "error": bool,
    "result": list,
    "made": list,
    "seconds": int | float,
}
MOST = 1e15
"""What is more is no count and no time."""


def check_fields(given: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise TypeError for a field that is not of its kind."""
    for name, kind in kinds.items():
        if name in given and not isinstance(given[name], kind):
            raise TypeError(name)


T = TypeVar("T", ToolCall, Step, Source, Usage, Reply)


def _made(cls: type[T], given: Mapping[str, Any]) -> T:
    """Make a value of what is given for its fields; a later version may know more of them."""
    known = cls.__dataclass_fields__
    return cls(**{name: value for name, value in given.items() if name in known})
