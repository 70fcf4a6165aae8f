"""One question and its answer, with no conversation around them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Set as AbstractSet
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from ipychat import config, secrets
from ipychat.catalog import lists, registry, resolve, route
from ipychat.errors import (
    AnswerError,
    ChatError,
    MissingKeyError,
    ServiceError,
    UnknownOptionError,
    UsageError,
)
from ipychat.messages import (
    ChatRequest,
    Event,
    FinishReason,
    Message,
    ModelId,
    Notice,
    Prompt,
    Reasoning,
    Reply,
    Text,
    ToolCall,
    Usage,
    date,
    dollars,
    parse_messages,
)
from ipychat.store import ledger, replay
from ipychat.text import words
from ipychat.wire import offload

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
TEXTS = {"api_key", "base_url", "proxy"}
"""Options that are texts whoever the provider is."""
OWN = {"api_key", "base_url"}
"""Options that are of one service, and go to no other."""
SWITCHES = {"cached", "allow_secrets", "large"}
"""Options that are ipychat's, and no provider's."""
ASKING = {"model", "chat", "system", "extra", *SWITCHES}
"""What a question is asked with beside a provider's options."""
FAILURES = (ServiceError, AnswerError, MissingKeyError)
"""Errors after which another model may be asked."""


def request(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    taken: AbstractSet[str] = ASKING,
) -> ChatRequest:
    """Build what will be asked; `options` go to the provider, those that are None aside.

    Of these, `extra` holds some that the provider need not know. `taken` are the names that
    the caller takes: one of them may have been meant by an option that is unknown.
    """
    messages = parse_messages(prompt)
    if system:
        messages = (Message("system", system), *messages)
    named = {name: value for name, value in options.items() if value is not None}
    extra = _read_extra(named)
    switches = {name: bool(named.pop(name)) for name in SWITCHES & named.keys()}
    given = {**named, **extra}
    for name, value in given.items():
        if name in {"model", "messages"}:
            raise UsageError(f"{name} is no option of a provider; it is an argument of its own.")
        if name in TEXTS and not isinstance(value, str):
            raise UsageError(f"The option {name} must be a text, not {type(value).__name__}.")
        try:
            given[name] = secrets.register_option(name, value)
        except RecursionError:
            raise UsageError(f"The option {name} holds itself, or is nested too deeply.") from None
    meant, recorded = resolve.resolve_question(model)
    _check_names(meant, named, taken)
    return ChatRequest(meant, messages, MappingProxyType(given), recorded=recorded, **switches)


def _read_extra(options: dict[str, Any]) -> Mapping[str, Any]:
    """Take `extra` out of the options."""
    extra = options.pop("extra", {})
    if not (isinstance(extra, Mapping) and all(isinstance(name, str) for name in extra)):
        raise UsageError(f"extra must be a dict of options, not {type(extra).__name__}.")
    if twice := sorted(extra.keys() & options.keys()):
        raise UsageError(f"The option {twice[0]} is given twice: by itself, and in extra.")
    return {name: value for name, value in extra.items() if value is not None}


def _check_names(model: ModelId, options: Iterable[str], taken: AbstractSet[str]) -> None:
    """Raise UnknownOptionError for an option that the provider does not take."""
    known = registry.known_options(model.provider)
    if known is None:
        return
    for name in options:
        if name not in known:
            near = words.near(name, known | taken, most=1)
            raise UnknownOptionError(
                f"{model.provider} takes no option {name!r}.{near}\n"
                f"extra={{{name!r}: …}} sends it unchecked, as does --option {name}=… in a cell."
            )


def check_size(request: ChatRequest) -> None:
    """Raise UsageError for a question that is too large to be sent without a word."""
    most = config.current().large
    if request.large or not most or (tokens := lists.estimate_tokens(request)) <= most:
        return
    price = route.cost(request, Usage(tokens))
    cost = "" if price is None else f", {dollars(price)} to read"
    raise UsageError(
        f"The question has about {tokens:,} tokens{cost}: more than {most:,}. Nothing was sent.\n"
        "--large (in Python large=True) sends it; %config IPyChat.large sets the limit."
    )


def _for(model: ModelId, asked: ChatRequest) -> ChatRequest:
    """Return the question to another model, without what is of the one before: address and keys."""
    options = {
        name: value
        for name, value in asked.options.items()
        if name not in OWN and not secrets.holds_secret(name, value)
    }
    return dataclasses.replace(asked, model=model, options=MappingProxyType(options))


class Answer:
    """An answer while it grows: iterate `events()` once; `reply()` is what has come so far."""

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self._kept: Reply | None = None
        self._hash: str | None = None
        self._at = datetime.now(UTC).isoformat(timespec="seconds")
        self._text = io.StringIO()  # a list of words takes ten times what is in them
        self._reasoning = io.StringIO()
        self._notices: list[str] = []
        self._last_kind = ""
        """Of the last notice."""
        self._tool_calls: list[ToolCall] = []
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._begin = time.monotonic()
        self._first_text: float | None = None
        self._seconds = 0.0

    async def events(self) -> AsyncGenerator[Event, None]:
        """Give the answer's events: those of an answer that is kept, else by asking.

        An error has in its `reply` what came before it.
        """
        kept = await self._find_recorded()
        if kept is None:
            self.request, said = route.turn_from_recorded(self.request)
            if said:
                notice = Notice(said)
                self.add(notice)
                yield notice
            receipt = await offload.run(route.receipt, self.request)
            self._hash = receipt.hash
            kept = await replay.find(self.request, receipt)
        if kept is not None:
            for event in self._take(kept):
                yield event
            return
        check_size(self.request)
        told = len(self._notices)
        async with contextlib.aclosing(self.ask()) as events:
            async for event in events:
                if not isinstance(event, FinishReason):
                    yield event
        is_large = self._text.tell() > offload.LARGE  # masking it takes long
        reply = await asyncio.to_thread(self.reply) if is_large else self.reply()
        answered = dataclasses.replace(reply, notices=tuple(self._notices[told:]))
        if fault := await replay.keep(receipt, answered):
            notice = Notice(fault)
            self.add(notice)
            yield notice
        yield FinishReason(self._finish or "stop")  # last: whoever sees it may go

    async def ask(self) -> AsyncGenerator[Event, None]:
        """Give the answer's events by asking, whatever is kept; nothing is kept of it.

        Where the user names others who are asked if the model fails before its first word, they
        are, one after the other; each time a notice says so.
        """
        others = resolve.fallbacks(self.request.model)
        while True:
            try:
                async with contextlib.aclosing(route.events(self.request)) as events:
                    async for event in events:
                        self.add(event)
                        yield event
                return
            except ChatError as error:
                error.reply = self.reply()
                if not others or self._has_begun or not isinstance(error, FAILURES):
                    raise
                fault = error
            notice = Notice(self._ask_another(others, fault))
            self.add(notice)
            yield notice
            self._hash = (await offload.run(route.receipt, self.request)).hash

    async def _find_recorded(self) -> Reply | None:
        """Return the kept answer of whom the model's name stood for, where that was another."""
        if (then := route.as_recorded(self.request)) is None:
            return None
        receipt = await offload.run(then.receipt, then.request.messages)
        if found := await replay.find(then.request, receipt, then.meant):
            self._hash = receipt.hash
        return found

    def _take(self, kept: Reply) -> Iterator[Event]:
        """Have an earlier reply as the answer; give its events."""
        if not replay.is_on():  # else all is as it was
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
        yield from kept.tool_calls
        if kept.usage:
            yield kept.usage
        yield FinishReason(kept.finish or "stop")

    def _ask_another(self, others: list[str], fault: ChatError) -> str:
        """Turn the question to the next of `others` who can be asked; say who and why."""
        before = self.request.model
        if self._usage:  # what it counted is not the next one's
            ledger.add(before, self._usage)
            self._usage = None
        said = [f"{before} did not answer: {str(fault).splitlines()[0]}"]
        while others:
            name = others.pop(0)
            try:
                self.request = _for(resolve.resolve(name), self.request)
            except UsageError as error:
                said.append(f"{name} can't be asked: {str(error).splitlines()[0]}")
            else:
                return "\n".join([*said, f"{self.request.model} answers instead."])
        raise fault

    @property
    def _has_begun(self) -> bool:
        return bool(self._text.tell() or self._reasoning.tell() or self._tool_calls)

    def add(self, event: Event) -> None:
        """Take an event into the reply; `events()` does it for all that it gives."""
        self._seconds = time.monotonic() - self._begin
        match event:
            case Text(text):
                if self._first_text is None:
                    self._first_text = self._seconds
                self._text.write(text)
            case Reasoning(text):
                self._reasoning.write(text)
            case Notice(text, kind):
                if kind and kind == self._last_kind:
                    self._notices.pop()
                self._notices.append(text)
                self._last_kind = kind
            case ToolCall():
                self._tool_calls.append(event)
            case Usage():
                self._usage = event
            case FinishReason(reason):
                self._finish = reason

    def reply(self) -> Reply:
        """Return what has come so far."""
        if self._kept is not None:
            return self._kept
        return Reply(
            request=self.request,
            text=secrets.mask(self._text.getvalue()),
            reasoning=secrets.mask(self._reasoning.getvalue()),
            tool_calls=tuple(self._tool_calls),
            notices=tuple(self._notices),
            finish=self._finish,
            usage=self._usage,
            seconds=round(self._seconds, 3),
            first_text=None if self._first_text is None else round(self._first_text, 3),
            at=self._at,
            hash=self._hash,
        )
