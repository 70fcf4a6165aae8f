"""What is known of an answer while it comes in, and how it is read. Shared by the protocols.

A protocol says in `Answer._take` what one of its payloads means; how these are cut out of bytes,
parsed, and told from what is none of the protocol is the same for all. Checked values raise
TypeError, which becomes a FormatError that names the service. Counts are not worth an error.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from ipychat import config
from ipychat.errors import (
    BrokenAnswerError,
    ChatError,
    FormatError,
    ServerError,
    ServiceError,
    ServiceTimeoutError,
)
from ipychat.messages import (
    MAX_ANSWER,
    Event,
    FinishReason,
    Image,
    Notice,
    Reasoning,
    Source,
    Text,
    ToolCall,
    Usage,
    from_base64,
)
from ipychat.providers import _form
from ipychat.providers.provider import MAX_ID, MAX_NAME
from ipychat.wire.http import Call, said
from ipychat.wire.ndjson import LineDecoder
from ipychat.wire.sse import EventDecoder

T = TypeVar("T")

WRONG = (AttributeError, LookupError, OverflowError, RecursionError, TypeError)
"""What taking a value apart raises that is not of the form it should be."""
BROKE_BEHIND = "The connection broke off behind the answer; its tokens may not be counted."
MAX_COUNT = 10**12
"""Tokens. What is more is no count."""
MAX_CALLS = 1_000
"""Tool calls of one answer. No model makes so many, and a notebook could not show them."""
MAX_SOURCES = 1_000
"""Sources of an answer."""
MAX_NOTES = 100
"""Notices that an answer may give cause for."""
MAX_NOTE = 1_000
"""Characters of each."""
DENSE_FROM = 64 * 1024
"""Characters of a payload from which on its JSON is looked at before it is read."""
MAX_NESTED = 250_000
"""Lists and objects in a payload. Millions, which a few MiB can hold, take seconds and GiBs."""
MAX_COMMAS = 1_000_000
"""The same for what stands in them."""


def text_of(value: Any) -> str:
    """Return `value`, which must be a text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def name_of(value: Any) -> str:
    """Return `value`, which must be a text, as long as a name may be."""
    return text_of(value)[:MAX_NAME]


def id_of(value: Any) -> str:
    """Return `value`, which must be a text, as long as an id may be."""
    return text_of(value)[:MAX_ID]


def count_of(value: Any) -> int:
    """Return `value` if it is a count, which some services write as a float; else 0."""
    if type(value) is int or (type(value) is float and value.is_integer()):
        return int(value) if 0 <= value <= MAX_COUNT else 0
    return 0


def counts_of(counts: Any, *names: str) -> list[int]:
    """Return the counts of those names."""
    known = counts if isinstance(counts, dict) else {}
    return [count_of(known.get(name)) for name in names]


def parse_json(text: str) -> Any:
    """Read JSON. Raises ValueError also for what would hold the loop, or fill memory."""
    if is_dense(text):
        raise ValueError("too much in it")
    return json.loads(text)


def is_dense(text: str) -> bool:
    """Whether JSON has more in it than an answer has; text alone, however long, is none of that."""
    return len(text) > DENSE_FROM and (
        text.count("[") + text.count("{") > MAX_NESTED or text.count(",") > MAX_COMMAS
    )


@dataclass(slots=True)
class OpenCall:
    """A tool call while the pieces of its arguments come in."""

    id: str = ""
    name: str = ""
    arguments: io.StringIO = field(default_factory=io.StringIO)
    otherwise: str = "{}"
    """Its arguments if no piece of them comes."""
    seal: str = ""


class Answer:
    """What is known of an answer while its payloads come in."""

    __slots__ = (
        "_cited", "_events", "_kind", "_noted", "_room", "_texts", "_whole", "closed", "fault",
        "finish", "open_calls", "service", "usage",
    )  # fmt: skip
    done: ClassVar[str | None] = None
    """The data that closes a stream, where it is no JSON."""

    def __init__(self, service: str, asked: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - some need of it
        """Begin the answer to a body, which is not kept: it may be large."""
        self.service = service
        self.usage: Usage | None = None
        self.open_calls: list[OpenCall] = []
        """Calls that come in pieces: known to be whole only at the end."""
        self.finish: str | None = None
        self.fault: ChatError | None = None
        """What is wrong with what came behind the last event."""
        self.closed = False
        """Whether the service said that nothing comes after this."""
        self._noted: tuple[str, ...] = ()
        self._cited: set[str] = set()
        self._whole = 0  # calls that came as a whole
        self._room = config.current().max_answer  # for the open calls' arguments
        self._events: list[Event] = []  # of this packet
        self._kind: type[Text | Reasoning] = Text
        self._texts: list[str] = []  # of that kind, which stand behind all events

    def advice(self, error: ServiceError, root: str) -> str:  # noqa: ARG002 - none
        """Return advice to add to a refusal, or an empty text."""
        return ""

    def _take(self, payload: dict[str, Any]) -> None:
        """Say what a payload means."""
        raise NotImplementedError

    # -- what a payload may mean

    def say(self, text: Any, kind: type[Text | Reasoning] = Text) -> None:
        """Add text; all that follows on text of its kind in a packet is one event with it."""
        if type(text) is not str:
            raise TypeError
        if text and kind is not self._kind:
            self._join()
            self._kind = kind
        self._texts.append(text)

    def think(self, text: Any) -> None:
        """Add text that is thought."""
        self.say(text, Reasoning)

    def seal(self, sealed: Mapping[str, Any]) -> None:
        """End a thought with the data that the service wants back."""
        self._add(Reasoning("", self._sealed(sealed)))

    def _sealed(self, sealed: Mapping[str, Any]) -> str:
        seal = json.dumps(sealed)
        self._fill(len(seal))
        return seal

    def cite(self, url: Any, title: Any = "") -> None:
        """Add a source, once; it needs an address or a title."""
        source = Source(text_of(url or ""), text_of(title or ""))
        known = source.url or source.title
        if known and known not in self._cited and len(self._cited) < MAX_SOURCES:
            self._cited.add(known)
            self._add(source)

    def show(self, data: Any) -> None:
        """Add an image: base64 or a URL. One that would have to be fetched becomes a source."""
        head, comma, encoded = text_of(data).partition(",")
        if head.startswith(("http://", "https://")):
            self.cite(data, "an image")
            return
        try:
            self._add(Image("", from_base64(encoded if comma else head)))
        except ValueError:
            self.skip("an image")

    def skip(self, kind: Any) -> None:
        """Report a part of a kind that isn't shown."""
        self.note(f"{self.service} also sent a part that is not shown: {name_of(kind)}.")

    def note(self, text: str) -> None:
        """Add what the user should know, once."""
        text = text[:MAX_NOTE]
        if text not in self._noted and len(self._noted) < MAX_NOTES:
            self._noted += (text,)
            self._add(Notice(text))

    def open_call(self, call: OpenCall) -> OpenCall:
        """Add a call that comes in pieces."""
        self._count_calls()
        self.open_calls.append(call)
        self._fill(len(call.otherwise))
        return call

    def add_arguments(self, call: OpenCall, piece: Any) -> None:
        """Add a piece to the arguments of an open call; too many of them end the answer."""
        call.arguments.write(text_of(piece))
        self._fill(len(piece))

    def _fill(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            self.finish = MAX_ANSWER
            self.closed = True

    def call(
        self, id_: Any, name: Any, arguments: Any, sealed: Mapping[str, Any] | None = None
    ) -> None:
        """Add a call that came as a whole; one without an id gets its number.

        Arguments that are no object are the model's own fault, which whoever runs it tells it.
        """
        if not isinstance(arguments, str):
            given = {} if arguments is None else arguments
            arguments = json.dumps(given, ensure_ascii=False)
        self._count_calls()
        id_ = id_of(id_ or f"call_{self._whole}")
        seal = self._sealed(sealed) if sealed else ""
        self._add(ToolCall(id_, name_of(name), arguments, seal))
        self._whole += 1

    def error(self, payload: dict[str, Any]) -> ServerError:
        """Return the error that a payload says."""
        words = said(payload)
        return ServerError(f"{self.service} answered with an error{': ' + words if words else '.'}")

    # -- the packets

    def take(self, data: list[str], *, last: bool = False) -> list[Event]:
        """Return the events in the data that came in one packet; `fault` says if some of it is bad.

        `last` is what the stream ended with, which may be torn.
        """
        try:
            for payload in self._parse(data, last=last):
                self._take(payload)
                if payload.get("error"):
                    raise self.error(payload)
                if self.closed:
                    break
        except ChatError as error:
            self.fault = error
        except WRONG:
            self.fault = FormatError(f"{self.service} sent a line that is none of its protocol.")
        self._join()
        events, self._events = self._events, []
        return events

    def take_body(self, body: str) -> list[Event]:
        """Return the events in an answer that is one JSON body."""
        return self.take([body])

    def check(self) -> None:
        """Raise what is wrong with what came behind the last event."""
        if self.fault is not None:
            raise self.fault

    def end(self) -> Iterator[Event]:
        """Yield the events that are known only at the end."""
        for number, call in enumerate(self.open_calls, self._whole):
            arguments = call.arguments.getvalue() or call.otherwise
            yield ToolCall(call.id or f"call_{number}", call.name, arguments, call.seal)
        if self.usage:
            yield self.usage
        if self.finish:
            calls = self._whole and self.finish == "stop"
            yield FinishReason("tool_calls" if calls else self.finish)

    def _parse(self, data: list[str], *, last: bool) -> Iterable[dict[str, Any]]:
        try:
            # One call for all is a third faster than one for each.
            text = data[0] if len(data) == 1 else f"[{','.join(data)}]"
            if len(text) > DENSE_FROM and is_dense(text):
                return self._parse_each(data, last=last)
            parsed = json.loads(text)
            payloads: list[dict[str, Any]] = [parsed] if len(data) == 1 else parsed
            if len(payloads) == len(data) and all(type(one) is dict for one in payloads):
                return payloads
        except (ValueError, RecursionError):
            pass
        return self._parse_each(data, last=last)

    def _parse_each(self, data: list[str], *, last: bool) -> Iterator[dict[str, Any]]:
        for one in data:
            if not (text := one.strip()):
                continue
            if text == self.done:
                self.closed = True
                return
            if is_dense(one):
                raise FormatError(f"{self.service} sent a line with more in it than an answer has.")
            try:
                parsed = json.loads(one)
            except (ValueError, RecursionError):
                if last:
                    said = f"{self.service} broke off in the middle of a line."
                    raise BrokenAnswerError(said) from None
                parsed = None
            # Google's services write errors, and answers in one body, as lists
            for payload in parsed if isinstance(parsed, list) and parsed else [parsed]:
                if not isinstance(payload, dict):
                    raise FormatError(f"{self.service} sent a line that is not valid JSON.")
                yield payload

    def _count_calls(self) -> None:
        if len(self.open_calls) + self._whole >= MAX_CALLS:
            raise FormatError(f"{self.service} sent over {MAX_CALLS:,} tool calls.")

    def _add(self, event: Event) -> None:
        self._join()
        self._events.append(event)

    def _join(self) -> None:
        if self._texts:
            if text := "".join(self._texts):
                self._events.append(self._kind(text))
            self._texts.clear()


# -- the bytes


class Events:
    """Bytes → the data of server-sent events."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = EventDecoder()

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data that `chunk` completes."""
        if (data := self._decoder.data_of(chunk)) is not None:
            return [data]
        return [event.data for event in self._decoder.feed(chunk)]

    def close(self) -> list[str]:
        """Return the data of the last event, if it had no blank line after it."""
        return [event.data for event in self._decoder.close()]


@dataclass(slots=True)
class Asked:
    """A question on its way: the call that asks it, and what reads the answer."""

    call: Call
    answer: Answer
    decoder: Events | LineDecoder | None = None
    """None: the service may answer with events or with one JSON body, and the first byte tells."""
    root: str = ""


async def read(ask: Callable[[], Awaitable[Asked]]) -> AsyncIterator[Event]:
    """Ask, and give the events of the answer, whichever form it has.

    These are server-sent events, one JSON body, or lines, which need their decoder, since they
    begin as JSON does. What is wrong behind the finish is said, and takes nothing from the answer.
    """
    asked = await ask()
    del ask  # the question is in it: it may be large, and the answer may take long
    answer, decoder = asked.answer, asked.decoder
    async with asked.call as call:
        async for notice in _sent(call, answer, asked.root):
            yield notice
        del asked
        content = call.content
        form, chunk = await _form.begin(content, answer.service)
        try:
            if form == "json" and not isinstance(decoder, LineDecoder):
                for event in answer.take_body(await _form.whole(content, chunk, answer.service)):
                    yield event
                answer.check()
                chunk = b""
            decoder = decoder or Events()
            while chunk:
                data = decoder.feed(chunk)
                for event in answer.take(data):
                    yield event
                answer.check()
                if answer.closed:
                    break
                content.heard |= bool(data)
                chunk = await content.next(ends=answer.finish is not None)
            if not answer.closed:
                for event in answer.take(decoder.close(), last=True):
                    yield event
            answer.check()
        except ChatError as error:
            if not answer.finish:
                raise
            yield _fault_behind(error)
        for event in answer.end():
            yield event


async def _sent(call: Call, answer: Answer, root: str) -> AsyncIterator[Notice]:
    """Send the question; where it is refused, what may help is said, too."""
    try:
        async for notice in call.send():
            yield notice
    except ServiceError as error:
        if not (advice := answer.advice(error, root)):
            raise
        said = f"{error}\n{advice}"
        raise type(error)(said, error.status, error.retry_after) from None


def _fault_behind(error: ChatError) -> Notice:
    broke = isinstance(error, BrokenAnswerError | ServiceTimeoutError)
    return Notice(BROKE_BEHIND if broke else f"A fault behind the answer: {error}")


# -- the lists of models


def read_list(body: bytes, service: str, read: Callable[[Any], T]) -> T:
    """Parse a list of models with `read`. Raises FormatError if it is not one."""
    try:
        return read(parse_json(body.decode("utf-8-sig")))
    except (ValueError, *WRONG):
        raise FormatError(f"{service} sent a list of models that can't be read.") from None
