"""An answer whose model may run tools: call, decision, run, result, next request, until it ends.

It is asked like `Answer`, of which it makes one for each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import MappingProxyType
from typing import Any, TypeVar

from ipychat import config
from ipychat.catalog import routes
from ipychat.chat import kept_steps
from ipychat.chat.answer import Answer
from ipychat.errors import (
    ChatError,
    InterruptedAnswerError,
    PolicyError,
    ServiceTimeoutError,
    UsageError,
)
from ipychat.messages import (
    GAP,
    MAX_COST,
    MAX_STEPS,
    Event,
    FinishReason,
    Notice,
    Part,
    Question,
    Reply,
    Result,
    Step,
    Text,
    TextPart,
    ToolCall,
    Usage,
)
from ipychat.text import schemas, shapes, words
from ipychat.toolbox import decisions, given as toolbox, results
from ipychat.toolbox.decisions import Pending, Verdict
from ipychat.toolbox.given import Given
from ipychat.toolbox.tool import Failed, Ran, Tool
from ipychat.wire import policy

E = TypeVar("E", bound=Event)

MISSING = (
    "The steps so far were kept from an earlier run; they had set names that this kernel does not "
    "know: {}. From here on tools run."
)
SEARCHES = "The service may search the web itself; what its searches cost is not in the sum."
OVER = "It was not run: the limit of calls was reached."
INTERRUPTED = "It was not run: the user interrupted the answer."
CUT_OFF = "The user interrupted it while it ran: what it had done by then is not known."


def answering(request: Question) -> Answer | Acting:
    """Return what answers a question: with tools if it gives any."""
    return Answer(request) if request.given is None else Acting(request)


class Acting:
    """A growing answer of several requests; see `Answer`."""

    def __init__(self, request: Question) -> None:
        self._given: Given = request.given
        self._first = request
        self._answer = Answer(request)
        """The answer to the newest request."""
        self._done: list[Reply] = []
        """Earlier answers of the run, each with its steps."""
        self._steps: list[Step] = []
        """Those of the newest answer."""
        self._keeps = True
        """Whether what comes is kept, and what was kept is looked for."""
        self._begun: dict[str, tuple[Tool, Verdict]] = {}
        """What was started, by the calls' ids, and how it was allowed."""
        self._count = 0
        self._made: set[str] = set()
        """Names of the notebook that steps had set which were taken from earlier ones."""
        self._finish: str | None = None
        self._begin = time.monotonic()
        self._thinking = 0.0
        """Seconds for which the user thought about a decision."""

    @property
    def request(self) -> Question:
        """The question, to the model that answers."""
        asked = self._answer.request
        return dataclasses.replace(self._first, model=asked.model, route=asked.route)

    async def events(self, *, keeps: bool = True) -> AsyncGenerator[Event, None]:
        """Yield the events of the whole run, FinishReason last; see `Answer.events`."""
        self._keeps = keeps
        self._check_price()
        if self._given.web:
            yield self.add(Notice(SEARCHES))
        try:
            while self._finish is None:
                wants_gap = any(one.text for one in self._done)
                async with contextlib.aclosing(self._answer.events(keeps=keeps)) as given:
                    async for event in given:
                        if wants_gap and type(event) is Text:
                            yield Text(GAP)
                            wants_gap = False
                        if type(event) is not FinishReason:
                            yield event
                caller = self._answer.reply()
                calls = caller.tool_calls
                if not calls or any(self._given.is_own(call.name) for call in calls):
                    self._finish = caller.finish
                    break
                async with contextlib.aclosing(self._carry_out(caller)) as steps:
                    async for step in steps:
                        yield step
                self._settle(OVER)
                self._finish = self._limit()
                if self._finish is None:
                    self._go_on()
            yield FinishReason(self._finish or "stop")
        except Exception as error:
            if isinstance(error, ChatError):
                error.reply = self.reply()
            raise
        finally:
            self._settle(INTERRUPTED)

    # -- from one request to the next

    def _go_on(self) -> None:
        """Make the next request, which has the results."""
        told = self._answer.reply()
        asked = self._answer.request
        messages = (*asked.messages, *told.messages, *(step.to_message() for step in self._steps))
        options = dict(asked.options)
        if limit := options.get("timeout"):
            options["timeout"] = self._left(limit)
        self._done.append(self._with_steps(told))
        self._steps = []
        self._answer = Answer(
            dataclasses.replace(asked, messages=messages, options=MappingProxyType(options)),
            fallbacks=False,
        )

    def _left(self, limit: float) -> float:
        """Return what is left of the run's time; the clock stands while the user thinks."""
        left = limit - (time.monotonic() - self._begin - self._thinking)
        if left <= 0:
            raise ServiceTimeoutError(f"The answer took longer than {limit:g} s, with its tools.")
        return left

    def _limit(self) -> str | None:
        """Return the limit that the run has met, if any."""
        if self._count >= self._given.max_steps:
            return MAX_STEPS
        if (most := self._given.max_cost) is None:
            return None
        usage = self.reply().usage
        spent = usage.cost if usage else 0.0
        return MAX_COST if spent is not None and spent >= most else None

    def _check_price(self) -> None:
        """Raise UsageError for a limit of costs where no price is known."""
        if self._given.max_cost is not None and routes.cost(self._first, Usage(1, 1)) is None:
            raise UsageError(
                f"max_cost needs a price, and none of {self._first.model} is known. "
                "max_steps limits the calls."
            )

    def _settle(self, why: str) -> None:
        """Answer the calls that were not carried out: no service takes calls without results."""
        newest = self._answer.reply()
        if not newest.finish:  # the answer itself was cut off: its calls are not sent again
            return
        known = {step.call.id for step in self._steps}
        for call in newest.tool_calls:
            if call.id in known or self._given.is_own(call.name):
                continue
            if begun := self._begun.get(call.id):
                self._take(_done(call, *begun, (TextPart(CUT_OFF),), failed=True, made=()))
            else:
                self._take(_refused(call, self._given.find(call.name), why))

    # -- steps

    async def _carry_out(self, caller: Reply) -> AsyncGenerator[Step, None]:
        """Carry out the calls of an answer in order, and yield what became of each.

        Those that only read and only wait run side by side.
        """
        beside: list[asyncio.Task[Step]] = []
        try:
            for call in caller.tool_calls:
                tool = self._given.find(call.name)
                self._count += 1
                if self._count > self._given.max_steps:
                    break  # `_settle` says so
                if tool is not None and tool.beside and tool.reads:
                    beside.append(asyncio.ensure_future(self._step(caller, call, tool)))
                    continue
                async for one in self._all(beside):
                    yield one
                yield self._take(await self._step(caller, call, tool))
            async for one in self._all(beside):
                yield one
        finally:
            for task in beside:
                task.cancel()

    async def _all(self, beside: list[asyncio.Task[Step]]) -> AsyncIterator[Step]:
        while beside:
            step = await beside[0]
            del beside[0]
            yield self._take(step)

    def _take(self, step: Step) -> Step:
        self._steps.append(step)
        return step

    async def _step(self, caller: Reply, call: ToolCall, tool: Tool | None) -> Step:
        """Take what became of the call earlier, or carry it out now."""
        is_kept = self._answer.is_kept
        if self._keeps and (kept := await kept_steps.find(caller, call, tool, is_kept=is_kept)):
            self._made |= {*kept.made}
            return kept
        made = {*filter(str.isidentifier, self._made)}
        if made and (missing := toolbox.missing(made)):
            self.add(Notice(MISSING.format(", ".join(sorted(missing)))))
        self._made = set()
        begin, before = time.monotonic(), self._thinking
        step = await self._act(call, tool)
        took = time.monotonic() - begin - (self._thinking - before)
        step = dataclasses.replace(step, seconds=round(took, 3))
        if self._keeps and (fault := await kept_steps.keep(caller, step, tool)):
            self.add(Notice(fault))
        return step

    async def _act(self, call: ToolCall, tool: Tool | None) -> Step:
        """Carry out a call, or say why not."""
        if tool is None:
            near = words.near(call.name, [one.wire_name for one in self._given.tools])
            return _refused(call, None, f"There is no tool {call.name}.{near}")
        try:
            arguments = _arguments(call)
            tool.read(arguments)
        except ValueError as error:
            return _refused(call, tool, f"The arguments are wrong: {error}")
        verdict = await self._decide(call, tool, arguments)
        if verdict.decision == "refused":
            return _refused(call, tool, f"It was refused: {verdict.reason}", verdict)
        return await self._run(call, tool, verdict)

    async def _decide(self, call: ToolCall, tool: Tool, arguments: dict[str, Any]) -> Verdict:
        try:
            policy.check_tool(tool.name)
        except PolicyError as error:
            return Verdict("refused", arguments, str(error))
        if self._given.only_reads and not tool.reads:
            return Verdict(
                "refused", arguments, "where several models answer, only tools run that only read"
            )
        begin = time.monotonic()
        try:
            place = self._first.place
            pending = Pending(tool, call, arguments, place.cell, place.background)
            return await decisions.decide(pending, self._terms(), config.current().ask)
        finally:
            self._thinking += time.monotonic() - begin

    def _terms(self) -> decisions.Approve:
        """Return the terms of the question; they hold for models, not for a file's calls."""
        is_of_file = self._answer.is_kept and config.cassette()
        return "reads" if is_of_file and self._given.approve == "all" else self._given.approve

    async def _run(self, call: ToolCall, tool: Tool, verdict: Verdict) -> Step:
        limit = self._first.options.get("timeout")
        made: tuple[str, ...] = ()
        failed = False
        try:
            read = tool.read(verdict.arguments)
            await asyncio.sleep(0)  # an interrupt that came by now ends it before it may block
            self._begun[call.id] = tool, verdict
            async with asyncio.timeout(self._left(limit) if limit else None):
                value = await tool.run(read)
            made = value.made if isinstance(value, Ran) else ()
            result = await asyncio.to_thread(results.parts_of, value)
        except (KeyboardInterrupt, InterruptedAnswerError) as error:
            ran = getattr(error, "ran", None) or Ran(())
            result = (*ran.parts, TextPart("The user interrupted it."))
            self._take(_done(call, tool, verdict, result, failed=True, made=ran.made))
            # the tool has ended; what ends the rest is whoever handles interrupts
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
            raise
        except Failed as error:
            failed, result = True, error.parts
            made = getattr(error, "made", ())
        except TimeoutError:
            failed, result = True, (TextPart("It took too long, and was ended."),)
        except BaseException as error:  # anyone may have written the tool: it may call exit()
            if isinstance(error, GeneratorExit) or _is_cancelled(error):
                raise
            failed, result = True, (TextPart(results.bounded(_fault(error))),)
        return _done(call, tool, verdict, result, failed=failed, made=made)

    # -- the reply

    def add(self, event: E) -> E:
        """Add an event to the newest answer."""
        return self._answer.add(event)

    def left(self) -> Reply:
        """Return the reply of a run that was cut off; see `Answer.left`."""
        self._settle(INTERRUPTED)
        newest = self._answer.reply()
        return self._sum(newest if newest.finish else self._answer.left())

    def reply(self) -> Reply:
        """Return the reply so far."""
        return self._sum(self._answer.reply())

    def _with_steps(self, told: Reply) -> Reply:
        return dataclasses.replace(told, parts=(*_parts_of(told), *self._steps))

    def _sum(self, newest: Reply) -> Reply:
        """Return one reply for all answers of the run."""
        if not self._done and not self._steps:
            return dataclasses.replace(newest, finish=self._finish or newest.finish)
        several = [*self._done, self._with_steps(newest) if self._steps else newest]
        texts: list[str] = []
        parts: list[Any] = []
        for one in several:
            gap = GAP if one.text and any(texts) else ""
            texts.append(gap + one.text)
            parts += _after(gap, _parts_of(one))
        usages = [one.usage for one in several if one.usage]
        first = several[0]
        return dataclasses.replace(
            newest,
            request=self.request,
            text="".join(texts),
            reasoning=GAP.join(filter(None, (one.reasoning for one in several))),
            tool_calls=tuple(call for one in several for call in one.tool_calls),
            parts=tuple(parts),
            origin=next((one.origin for one in several if one.origin), ""),
            sources=tuple(dict.fromkeys(source for one in several for source in one.sources)),
            images=tuple(image for one in several for image in one.images),
            notices=tuple(notice for one in several for notice in one.notices),
            finish=self._finish,
            usage=_total(usages),
            # of its parts, so that a replay gives the same
            seconds=round(sum(one.seconds for one in several) + _seconds_of(several), 3),
            first_text=first.first_text,
            thought_for=sum(one.thought_for for one in several),
            at=first.at,
            hash=first.hash,
        )


def _parts_of(told: Reply) -> tuple[Part | Step, ...]:
    """Return an answer's parts, also if there is only text."""
    return told.parts or ((TextPart(told.text),) if told.text else ())


def _after(gap: str, parts: tuple[Any, ...]) -> Iterator[Any]:
    """Yield the parts with the gap at the beginning of their first text."""
    for part in parts:
        if gap and isinstance(part, TextPart):
            yield TextPart(gap + part.text)
            gap = ""
        else:
            yield part


def _seconds_of(replies: list[Reply]) -> float:
    """Return how long the tools took; calls that ran side by side count one by one."""
    return sum(step.seconds for one in replies for step in one.steps)


def _total(usages: list[Usage]) -> Usage | None:
    if not usages:
        return None
    first, *others = usages
    for one in others:
        first = first + one
    return first


def _arguments(call: ToolCall) -> dict[str, Any]:
    """Parse the arguments that the model wrote. Raises ValueError."""
    found = schemas.read(call.arguments or "{}")
    if isinstance(found, dict):
        return found
    raise ValueError(f"they are no object but {type(found).__name__}")


def _refused(call: ToolCall, tool: Tool | None, why: str, verdict: Verdict | None = None) -> Step:
    return Step(
        call,
        tool.name if tool else "",
        call.arguments,
        results.cleaned((TextPart(results.bounded(why)),)),
        error=True,
        decision="refused",
        reason=verdict.reason if verdict else "",
    )


def _done(
    call: ToolCall,
    tool: Tool,
    verdict: Verdict,
    result: Result,
    *,
    failed: bool,
    made: tuple[str, ...],
) -> Step:
    """Return the step of a tool that ran; the model is told if other arguments ran than its own."""
    arguments = json.dumps(verdict.arguments, ensure_ascii=False)
    if verdict.decision == "edited":
        result = (TextPart(f"The user changed the arguments; it ran with {arguments}"), *result)
    return Step(
        call,
        tool.name,
        shapes.mask(arguments),
        results.cleaned(result),
        failed,
        verdict.decision,
        verdict.reason,
        made=made,
    )


def _is_cancelled(error: BaseException) -> bool:
    """Whether the answer is cancelled, and not a task of the tool's own."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())


def _fault(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - what it says is the tool's own code
        return type(error).__name__
