"""A single question and its answer, outside any conversation."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import itertools
import time
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar

from ipychat import config, secrets
from ipychat.catalog import firewall, lists, receipts, registry, resolve, routes
from ipychat.chat.question import SERVICE_OPTIONS, check_size
from ipychat.errors import (
    AnswerError,
    ChatError,
    MissingKeyError,
    NotFoundError,
    PolicyError,
    ServiceError,
    UsageError,
)
from ipychat.messages import (
    Event,
    FinishReason,
    Image,
    ModelId,
    Notice,
    Part,
    Question,
    Reasoning,
    Reply,
    Source,
    Text,
    TextPart,
    Thought,
    ToolCall,
    Usage,
    another_id,
    date,
)
from ipychat.providers import provider
from ipychat.requirements import OutdatedError
from ipychat.store import ledger, replay
from ipychat.store.answers import Receipt
from ipychat.wire import offload, policy

E = TypeVar("E", bound=Event)

FALLBACK_ERRORS = (ServiceError, AnswerError, MissingKeyError)
"""Errors after which a fallback model may be asked."""
ALLOW = " --allow-secrets sends it as it is, once."
RETIRES_SOON = 30
"""Days before its retirement from which on a model's answers mention it."""
GATEWAY_IDLE_TIMEOUT = 3600.0
"""Seconds that the gateway may be silent: the model behind it has a limit of its own."""


class Answer:
    """A growing answer: iterate `events()` once; `reply()` returns what has arrived so far."""

    __slots__ = (
        "_at", "_begin", "_finish", "_first_text", "_hash", "_ids", "_images", "_kept",
        "_last_kind", "_marks", "_masked", "_notices", "_origin", "_others", "_reasoning",
        "_receipt", "_seconds", "_sources", "_text", "_thought_for", "_tool_calls", "_usage",
        "request",
    )  # fmt: skip

    def __init__(self, request: Question, *, fallbacks: bool = True) -> None:
        self.request = request
        self._others = resolve.fallbacks(request.model) if fallbacks else []
        """Fallback models, in the order in which they are asked."""
        self._kept: Reply | None = None
        self._receipt: Receipt | None = None
        """The receipt of the original question, under which the answer is stored."""
        self._hash: str | None = None
        """The hash of the question to the model that answers."""
        self._masked = request
        """The request as it is sent."""
        self._at = datetime.now(UTC).isoformat(timespec="seconds")
        self._text = io.StringIO()  # a list of strings takes ten times the memory of its text
        self._reasoning = io.StringIO()
        self._notices: list[str] = []
        self._last_kind = ""
        """The kind of the last notice."""
        self._tool_calls: list[ToolCall] = []
        self._ids = {call.id for one in request.messages for call in one.tool_calls}
        self._marks: list[tuple[int, Thought | ToolCall]] = []
        """Thoughts and calls between pieces of text, with the length of the text before each."""
        self._origin = ""
        self._thought_for = 0.0
        self._sources: list[Source] = []
        self._images: list[Image] = []
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._begin = time.monotonic()
        self._first_text: float | None = None
        self._seconds = 0.0

    async def events(self, *, keeps: bool = True) -> AsyncGenerator[Event, None]:
        """Yield the answer's events, FinishReason last: from a stored answer, or by asking.

        A new answer is stored and counted; without `keeps` nothing is looked up, stored or counted.
        If the user has set fallbacks and the model fails before its first word, they are asked in
        turn, and a notice announces each. An error has in its `reply` what arrived before it.
        """
        for early in await self._look_up() if keeps else ():
            yield early
        if self._kept is not None:
            return
        told = len(self._notices)
        try:
            while not self._finish:
                try:
                    for notice in await self._prepare():
                        yield notice
                    asked = routes.of(self.request).provider
                    reader = provider.Reader(asked, config.current().max_answer)
                    async with contextlib.aclosing(reader.ask(self._masked)) as pieces:
                        async for piece in pieces:
                            if event := reader.take(piece):
                                yield self.add(event)
                            if reader.is_full:
                                break
                    if rest := reader.rest():
                        yield self.add(rest)
                    self.add(reader.finish())
                except Exception as error:  # noqa: BLE001 - anyone may have written the provider
                    yield await self._ask_another(error)
        finally:
            if keeps:
                self._count()
        for notice in await self._keep(told) if keeps else ():
            yield notice
        yield FinishReason(self._finish)  # last: consumers may stop after it

    # -- answers that are kept

    async def _look_up(self) -> list[Event]:
        """Look for a stored answer; return its events, or notices to show before asking."""
        if then := receipts.as_recorded(self.request):  # its name stood for another model
            receipt = await offload.run(then.receipt, then.request.messages)
            if found := await replay.find(then.request, receipt, then.meant):
                self._hash = receipt.hash
                return [*self._take(found)]
        self.request, said = receipts.turn_from_recorded(self.request)
        notices: list[Event] = [self.add(Notice(said))] if said else []
        self._receipt = await offload.run(receipts.receipt, self.request)
        self._hash = self._receipt.hash
        if found := await replay.find(self.request, self._receipt):
            return [*notices, *self._take(found)]
        check_size(self.request)
        return [*notices, *map(self.add, self._retirement())]

    def _retirement(self) -> Iterator[Notice]:
        """Yield a notice if the model retires soon."""
        known = routes.card(self.request)
        if known and known.retires:
            day = datetime.fromisoformat(known.retires).date()
            left = (day - datetime.now(UTC).date()).days
            if left <= RETIRES_SOON:
                when = "retires" if left > 0 else "was to retire"
                yield Notice(f"{self.request.model} {when} on {known.retires}: choose another.")

    async def _keep(self, told: int) -> list[Notice]:
        """Store the answer, if answers are stored; return notices for the user.

        The first `told` notices belong to another answer.
        """
        if self._receipt is None or not replay.keeps(self.request):
            return []
        is_large = self._text.tell() > offload.LARGE  # masking it is slow
        reply = await asyncio.to_thread(self.reply) if is_large else self.reply()
        answered = dataclasses.replace(reply, notices=tuple(self._notices[told:]))
        fault = await replay.keep(self._receipt, answered)
        return [self.add(Notice(fault))] if fault else []

    def _take(self, kept: Reply) -> Iterator[Event]:
        """Use an earlier reply as the answer, and yield its events."""
        if not replay.is_on():  # otherwise everything is as recorded
            said = f"Cached: answered by {kept.model} at {date(kept.at or '')}. Nothing was sent."
            usage = kept.usage and dataclasses.replace(kept.usage, cost=0.0)
            notices = (said, *kept.notices)
            kept = dataclasses.replace(kept, cached=True, notices=notices, usage=usage)
        self._kept = kept
        yield from map(Notice, kept.notices)
        if kept.reasoning:
            yield Reasoning(kept.reasoning)
        if kept.text:
            yield Text(kept.text)
        yield from kept.images
        yield from kept.tool_calls
        yield from kept.sources
        if kept.usage:
            yield kept.usage
        yield FinishReason(kept.finish or "stop")

    # -- asking

    async def _prepare(self) -> list[Notice]:
        """Check that the question may be sent, mask secrets, and log how it is sent.

        Returns notices about that.
        """
        request, way = self.request, routes.of(self.request)
        receipts.check_named(request)
        policy.check_model(str(request.model))
        if policy.limits_hosts() and not registry.is_ours(request.model.provider):
            raise PolicyError(
                f"{way.provider.__name__} has its own HTTP client, which can't be limited to "
                "the allowed hosts."
            )
        self._origin = receipts.origin(request)
        request, sealed = firewall.without_seals(request, self._origin)
        masked: list[str] = []
        if not request.allow_secrets:
            request, masked = await offload.run(firewall.masked, request)
        said, options = [], dict(request.options)
        if way.behind and (gateway := config.current().gateway):
            model = request.model
            own = {"base_url": f"{await gateway()}/{model.provider}", "kept_as": "gateway"}
            options = {"idle_timeout": GATEWAY_IDLE_TIMEOUT, **options, **own}
            name = f"{way.provider.__name__} · {model.name}"
            said.append(f"{name}: upstream is offline, served here by {way.behind}.")
        elif way.root and way.root != way.provider.root():
            options["base_url"] = way.root
        if masked:
            said.append(f"Masked in what was sent: {', '.join(masked)}.{ALLOW}")
        if sealed:
            said.append(
                f"Left out of what was sent: earlier thoughts in which {way.provider.label} holds "
                f"{', '.join(sealed)}."
            )
        if way.behind and request.allow_secrets:
            said.append("The gateway masks secrets in what it sends on, --allow-secrets or not.")
        self._masked = dataclasses.replace(request, options=self._for_model(options))
        return [self.add(Notice(one)) for one in said]

    def _for_model(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options as the provider gets them; raise for one that the model rejects."""
        known = routes.card(self.request)
        if known and (said := lists.refused(known, options)):
            raise UsageError(said)
        if level := options.get("effort"):
            options["effort"] = lists.effort(known, level)
        if routes.of(self.request).provider.takes_hints:
            request = self.request
            comes_again = any(one.role == "assistant" for one in request.messages)
            caches = request.place.chat is not None or comes_again
            options["hints"] = provider.Hints(known.reasons if known else None, caches)
        return options

    async def _ask_another(self, error: Exception) -> Notice:
        """Switch to the next fallback model, if allowed; return a notice about it.

        Otherwise raises the error that reports `error`.
        """
        if isinstance(error, OutdatedError):
            raise error
        fault = self._fault(error)
        fault.reply = self.reply()
        may_be = self._others and isinstance(fault, FALLBACK_ERRORS) and not self._has_begun
        if not may_be:
            if fault is error:
                raise fault
            raise fault from (None if isinstance(error, ChatError) else error)
        before = self.request.model
        if self._usage:  # the failed model's usage is not the next one's
            ledger.add(before, self._usage)
            self._usage = None
        said = [f"{before} did not answer: {str(fault).splitlines()[0]}"]
        while self._others:
            name = self._others.pop(0)
            try:
                self.request = _for(resolve.resolve(name), self.request)
            except UsageError as refusal:
                said.append(f"{name} can't be asked: {str(refusal).splitlines()[0]}")
            else:
                self._hash = (await offload.run(receipts.receipt, self.request)).hash
                said.append(f"{self.request.model} answers instead.")
                return self.add(Notice("\n".join(said)))
        raise fault

    def _fault(self, error: Exception) -> ChatError:
        """Return the error to raise for a provider's."""
        way = routes.of(self.request)
        match error:
            case NotFoundError():
                said = resolve.unknown(self.request.model, way.root or "")
                return NotFoundError(f"{said}\n{error}", error.status) if said else error
            case ChatError():
                return error
        name = way.provider.__name__
        return AnswerError(f"{name} failed with {type(error).__name__}: {error}")

    @property
    def is_kept(self) -> bool:
        """Whether it is an earlier answer."""
        return self._kept is not None

    @property
    def _has_begun(self) -> bool:
        return bool(self._text.tell() or self._reasoning.tell() or self._marks or self._images)

    def add(self, event: E) -> E:
        """Add an event to the reply, and return it; `events()` does this for all it yields."""
        before, self._seconds = self._seconds, time.monotonic() - self._begin
        if type(event) is Text:  # the usual case
            if self._first_text is None:
                self._first_text = self._seconds
            self._text.write(event.text)  # type: ignore[union-attr] # checked above
            return event
        match event:
            case Reasoning(text, seal):
                self._reasoning.write(text)
                self._thought_for += self._seconds - before
                if seal:
                    self._marks.append((self._text.tell(), Thought(seal=seal)))
            case Notice(text, kind):
                if kind and kind == self._last_kind:
                    self._notices.pop()
                self._notices.append(text)
                self._last_kind = kind
            case ToolCall():
                call = self._distinct(event)
                self._tool_calls.append(call)
                self._marks.append((self._text.tell(), call))
                return call  # type: ignore[return-value] # as it is a call still
            case Usage():
                counted = routes.priced(self.request, event) if event.cost is None else event
                self._usage = self._usage + counted if self._usage else counted
                return counted  # type: ignore[return-value] # as it is one still
            case Source():
                self._sources.append(event)
            case Image():
                self._images.append(event)
            case FinishReason(reason):
                self._finish = reason
        return event

    def _distinct(self, call: ToolCall) -> ToolCall:
        """Return the call with an id unique in its conversation; some services reuse ids."""
        id_ = another_id(call.id, self._ids)
        self._ids.add(id_)
        return call if id_ == call.id else dataclasses.replace(call, id=id_)

    def _parts(self, text: str, masked: str) -> tuple[Part, ...]:
        """Return the masked text with the thoughts and calls in it; empty if there is only text."""
        if not self._marks:
            return ()
        ends = [at for at, _ in self._marks]
        texts = [secrets.mask(text[a:b]) for a, b in itertools.pairwise([0, *ends, len(text)])]
        if "".join(texts) != masked:  # a secret that is split is not recognised
            texts = [masked, *[""] * len(ends)]
        between = [mark for _, mark in self._marks]
        parts = itertools.chain.from_iterable(
            (TextPart(one), mark) for one, mark in itertools.zip_longest(texts, between)
        )
        return tuple(one for one in parts if one and one != TextPart(""))

    def _count(self) -> None:
        """Add the costs to the ledger, if there was an answer."""
        if self._has_begun or self._usage:
            ledger.add(self.request.model, self._usage, chat=self.request.place.chat, at=self._at)

    def left(self) -> Reply:
        """Return the reply of an answer that was cut off, without the start of a secret."""
        reply = self.reply()
        texts = secrets.mask_cut(reply.text), secrets.mask_cut(reply.reasoning)
        return dataclasses.replace(reply, text=texts[0], reasoning=texts[1], parts=(), origin="")

    def reply(self) -> Reply:
        """Return the reply so far."""
        if self._kept is not None:
            return self._kept
        text = self._text.getvalue()
        masked = secrets.mask(text)
        parts = self._parts(text, masked)
        return Reply(
            request=self.request,
            text=masked,
            reasoning=secrets.mask(self._reasoning.getvalue()),
            tool_calls=tuple(self._tool_calls),
            parts=parts,
            sources=tuple(self._sources),
            images=tuple(self._images),
            origin=self._origin if parts else "",
            notices=tuple(self._notices),
            finish=self._finish,
            usage=self._usage,
            seconds=round(self._seconds, 3),
            first_text=None if self._first_text is None else round(self._first_text, 3),
            thought_for=round(self._thought_for, 3),
            at=self._at,
            hash=self._hash,
        )


def _for(model: ModelId, asked: Question) -> Question:
    """Return the question for another model, without the previous one's address and keys."""
    options = {
        name: value
        for name, value in asked.options.items()
        if name not in SERVICE_OPTIONS and not secrets.holds_secret(name, value)
    }
    route = routes.find(model, options)
    return dataclasses.replace(asked, model=model, route=route, options=MappingProxyType(options))
