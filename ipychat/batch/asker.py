"""One of many prompts: asked at the common pace, retried where that may help, and checked."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ipychat.batch.pace import Pace
from ipychat.catalog import lists, registry, routes
from ipychat.chat.acting import Acting, answering
from ipychat.chat.answer import Answer
from ipychat.errors import (
    AnswerError,
    AuthenticationError,
    BrokenAnswerError,
    ChatError,
    FormatError,
    MissingKeyError,
    MissingRequirementsError,
    ModelNotSupportedError,
    NotFoundError,
    PolicyError,
    QuotaError,
    RateLimitError,
    RequestError,
    ServerError,
    ServiceTimeoutError,
    UnreachableError,
)
from ipychat.messages import Message, Question, Reply, Usage
from ipychat.text.schemas import Schema
from ipychat.wire import limits
from ipychat.wire.backoff import backoff
from ipychat.wire.http import host_of

FATAL = (
    AuthenticationError,
    MissingKeyError,
    MissingRequirementsError,
    ModelNotSupportedError,
    NotFoundError,
    PolicyError,
    QuotaError,
)
"""Errors that would affect every other prompt, too."""
TRANSIENT = (AnswerError, ServerError, ServiceTimeoutError, UnreachableError)
"""Errors after which a retry may succeed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the first retry of a prompt, and before any retry at most."""
MAX_REFUSED = 600.0
"""Seconds for which a service may refuse all requests before the run fails."""


def value_in(text: str, schema: Schema | None) -> Any:
    """Parse an answer's value; its text if no schema was given. Raises ValueError."""
    return schema.parse(text) if schema else text


def misfit(fault: ValueError) -> FormatError:
    """Return the error for an answer that does not have the requested form."""
    return FormatError(f"The answer does not fit: {fault}.")


class StopError(Exception):
    """Stops the run, for the reason given."""

    def __init__(self, error: ChatError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of a prompt: a reply and its value, or an error and what had arrived."""

    reply: Reply
    value: Any = None
    error: ChatError | None = None
    attempts: int = 1
    usage: Usage | None = None
    """Of all attempts together."""


class Asker:
    """Asks the prompts of a run, or of a worker's share."""

    def __init__(self, base: Question, schema: Schema | None, pace: Pace, retries: int) -> None:
        self._schema = schema
        self._pace = pace
        self._retries = retries
        self._is_ours = registry.is_ours(base.model.provider)
        root = routes.of(base).root or ""
        self._host = host_of(root) if urlsplit(root).hostname else ""
        self._asks_format = True
        """Whether to request the form from the service, too, or only in words from the model."""
        if said := limits.seen(self._host):
            pace.learn(said)

    async def ask(self, request: Question) -> Answered:
        """Ask until there is a valid answer, or no attempt left.

        Waiting for a rate limit costs no attempt. Raises StopError for errors that affect all
        prompts.
        """
        again, asked = request, _Attempts()
        while True:
            error: ChatError
            answer = answering(self._sent(again))
            try:
                tokens = lists.estimate_tokens(again)
                await self._pace.turn(tokens)
                asked.count += 1
                await self._listen(answer)
            except RateLimitError as refusal:
                if isinstance(refusal, QuotaError) or (
                    self._pace.refused(refusal.retry_after) > MAX_REFUSED
                ):
                    raise StopError(_bare(refusal)) from None
                continue
            except FATAL as refusal:
                raise StopError(_bare(refusal)) from None
            except RequestError as refusal:
                if self._asks_format and self._schema and _is_of_format(refusal):
                    self._asks_format = False
                    continue
                return asked.ended(answer.reply(), error=refusal)
            except ChatError as failure:
                error = failure
                asked.take(answer.reply())
                if not isinstance(error, TRANSIENT) or asked.faults >= self._retries:
                    return asked.ended(answer.reply(), error=error)
                wait = getattr(error, "retry_after", None)
                await asyncio.sleep(wait or backoff(asked.faults, FIRST_PAUSE, LONGEST_PAUSE))
                asked.faults += 1
                continue
            finally:
                self._pace.learn(limits.seen(self._host))
            reply = answer.reply()
            asked.take(reply)
            self._pace.answered(_tokens(reply.usage), tokens)
            if reply.cut_off:
                return asked.ended(reply, error=BrokenAnswerError(f"{reply.cut_off}."))
            try:
                return asked.ended(reply, value=value_in(reply.text, self._schema))
            except ValueError as fault:
                if asked.faults >= self._retries:
                    return asked.ended(reply, error=misfit(fault))
                asked.faults += 1
                again = _corrected(request, reply, str(fault))

    def _sent(self, request: Question) -> Question:
        """Return the request as it is sent: retries are made here, not by the HTTP client."""
        options = dict(request.options)
        if self._is_ours:
            options["retries"] = 0
        if not self._asks_format:
            options.pop("response_format", None)
        return replace(request, options=MappingProxyType(options))

    async def _listen(self, answer: Answer | Acting) -> None:
        is_first = True
        async with contextlib.aclosing(answer.events(keeps=False)) as events:
            async for _ in events:
                if is_first:
                    is_first = False
                    self._pace.learn(limits.seen(self._host))


class _Attempts:
    """The attempts for one prompt so far."""

    def __init__(self) -> None:
        self.count = 0
        self.faults = 0
        """Attempts that count as retries."""
        self._usage: Usage | None = None

    def take(self, reply: Reply) -> None:
        """Add an attempt's usage."""
        self._usage = _sum(self._usage, reply.usage)

    def ended(self, reply: Reply, value: Any = None, error: ChatError | None = None) -> Answered:
        """Return the outcome."""
        return Answered(reply, value, error and _bare(error), self.count, self._usage)


def _corrected(request: Question, reply: Reply, fault: str) -> Question:
    """Return the question with the invalid answer and what is wrong with it."""
    said = Message("assistant", reply.text.strip() or "(nothing)")
    told = Message("user", f"That does not fit: {fault}. Answer again, with JSON alone that fits.")
    return replace(request, messages=(*request.messages, said, told))


def _is_of_format(error: RequestError) -> bool:
    said = str(error).lower()
    return any(word in said for word in ("response_format", "json_schema", "response format"))


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    costs = [each.cost for each in (one, other) if each.cost is not None]
    return Usage(
        one.input + other.input,
        one.output + other.output,
        one.reasoning + other.reasoning,
        one.cached + other.cached,
        sum(costs) if costs else None,
    )


def _tokens(usage: Usage | None) -> int:
    return usage.input + usage.output if usage else 0


def _bare(error: ChatError) -> ChatError:
    """Return the error without the frames and the request that it refers to."""
    error.reply = None
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
