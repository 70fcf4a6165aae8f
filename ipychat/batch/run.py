"""A run over many prompts: answers that are stored are read, the others are asked for.

A fixed number of workers take prompts from the data as they go, so memory holds the data and the
answers, but no prompts. Every valid answer is stored immediately: the same run, started again, asks
for what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from typing import Any

from ipychat import config, secrets
from ipychat.batch import rows
from ipychat.batch.asker import Answered, Asker, StopError, misfit, value_in
from ipychat.batch.budget import ASSUMED_TOKENS, Budget, Sum, longest
from ipychat.batch.cluster import Cluster
from ipychat.batch.keeping import Keeping
from ipychat.batch.pace import Pace
from ipychat.batch.results import SKIPPED, Plan, Progress, Results, Row, Status
from ipychat.batch.workers import SHARE_SIZE, Workers, parted
from ipychat.catalog import lists, receipts, routes
from ipychat.chat.question import ARGUMENTS, check_size, question
from ipychat.chat.waiting import Wait, call
from ipychat.errors import ChatError, InterruptedAnswerError, UsageError
from ipychat.messages import Message, Question, Reply, Usage, parse_messages
from ipychat.store import ledger, replay
from ipychat.store.answers import Receipt
from ipychat.text import schemas
from ipychat.text.schemas import Schema
from ipychat.toolbox import given

LOOKUP_BATCH = 64
"""Rows looked up together."""
REPORT_INTERVAL = 0.2
"""Seconds between progress reports."""
MAX_FAILURES = 20
"""Consecutive failures, without any answer, that stop the run. At least as many as are asked at
once."""
NO_REMOTE_BUDGET = "max_cost can't be enforced where the workers of an executor ask."


@dataclass(frozen=True, slots=True)
class RowQuestion:
    """A row's prompt in progress."""

    at: int
    request: Question
    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How every row is asked; the fields are `map`'s parameters."""

    model: str | None = None
    schema: Any = None
    system: str | None = None
    concurrency: int = 64
    rpm: float | None = None
    tpm: float | None = None
    retries: int = 5
    max_cost: float | None = None
    executor: Executor | None = None
    progress: Callable[[Progress], None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("concurrency", "rpm", "tpm", "max_cost"):
            value = getattr(self, name)
            if value is None and name != "concurrency":
                continue
            kinds = int if name == "concurrency" else int | float
            if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
                raise UsageError(f"{name} must be a number above 0, not {value!r}.")
        if not isinstance(self.retries, int) or self.retries < 0:
            raise UsageError(f"retries must be a number from 0 on, not {self.retries!r}.")
        if self.executor and self.max_cost is not None:
            raise UsageError(NO_REMOTE_BUDGET)


PARAMETERS = {*ARGUMENTS, "template", *(one.name for one in fields(How))} - {"chat", "options"}
"""Names of `map`'s own parameters, besides the provider's options."""


class Batch:
    """One run. `results` holds the rows finished so far, also after an early end."""

    def __init__(self, data: Any, template: rows.Template, how: How) -> None:
        self.how = how
        self.schema = _parse_schema(how.schema)
        self._data = data
        self._template = template
        self._prompt = rows.parse_template(template)
        self._total = rows.count(data)
        self._values = rows.values(data)
        options = {**how.options, "cached": how.options.get("cached") is not False}
        if self.schema and "response_format" not in (options.get("extra") or {}):
            options.setdefault("response_format", self.schema.response_format)
        self._base = question("(each row)", model=how.model, options=options, taken=PARAMETERS)
        self._recorded = receipts.as_recorded(self._base)
        self._receipt = receipts.receipts(self._base)
        self._keeping = Keeping()
        told = [how.system, self.schema.instruction] if self.schema else [how.system]
        told_first = "\n\n".join(filter(None, told))
        self._head = (Message("system", told_first),) if told_first else ()
        self._rows: list[Row | None] = []
        self._first: dict[bytes, int] = {}
        """By hash of a prompt, the first row that has it."""
        self._twins: defaultdict[int, list[int]] = defaultdict(list)
        """Rows that wait for the answer of an earlier row."""
        self._left: dict[int, Any] = {}
        """Values of rows without an answer, for data that can be iterated only once."""
        self._counts = dict.fromkeys(("done", "cached", "failed", "skipped"), 0)
        self._sent = 0
        self._took: deque[float] = deque(maxlen=how.concurrency)
        """Seconds that the last answers took, including the wait for their turn."""
        self._pace = Pace(how.rpm, how.tpm)
        self._in_vain = 0
        self._spent: float | None = None
        self._begun = time.monotonic()
        self._told = 0.0
        self.stopped: ChatError | None = None

    # -- what is asked

    def _row_question(self, at: int, value: Any) -> RowQuestion | ChatError:
        """Return the prompt of a row, or the error that prevents one."""
        try:
            messages = parse_messages(self._prompt(value))
        except ChatError as error:
            return error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises
            return UsageError(f"The template failed: {type(error).__name__}: {error}")
        asked = replace(self._base, messages=(*self._head, *messages))
        return RowQuestion(at, asked, self._receipt(asked.messages))

    def _next_rows(self) -> list[RowQuestion | tuple[int, ChatError]]:
        """Take some rows from the data, and create their prompts."""
        taken: list[RowQuestion | tuple[int, ChatError]] = []
        for value in islice(self._values, LOOKUP_BATCH):
            at = len(self._rows)
            self._rows.append(None)
            if self._total is None:
                self._left[at] = value
            question = self._row_question(at, value)
            taken.append(question if isinstance(question, RowQuestion) else (at, question))
        return taken

    def _is_twin(self, question: RowQuestion) -> bool:
        """Whether an earlier row has the same prompt, so that its answer is used."""
        receipt = question.receipt
        if receipt.unwritable or not receipt.repeatable:
            return False
        first = self._first.setdefault(bytes.fromhex(receipt.hash), question.at)
        if first == question.at:
            return False
        if row := self._rows[first]:
            self._settle(question.at, _twin(row))
        else:
            self._twins[first].append(question.at)
        return True

    async def _feed(self, missing: asyncio.Queue[RowQuestion | None]) -> None:
        """Settle the rows with stored answers; queue the others for the workers."""
        while taken := self._next_rows():
            wanted: list[RowQuestion] = []
            for one in taken:
                if isinstance(one, tuple):
                    self._settle(one[0], Row(status="failed", error=one[1]))
                elif not self._is_twin(one):
                    wanted.append(one)
            left = await self._look_up(await self._look_up_recorded(wanted))
            if any(self._is_too_large(one) for one in left):
                break  # requests in progress may still be answered
            for one in left:
                await missing.put(one)
        await missing.put(None)

    def _is_too_large(self, question: RowQuestion) -> bool:
        """Whether a row's prompt needs confirmation because of its size; then the run ends."""
        try:
            check_size(question.request)
        except UsageError as error:
            labels = rows.labels(self._data)
            label = question.at if labels is None else labels[question.at]
            self.stopped = UsageError(f"Row {label}: {error}")
        return self._is_stopped()

    async def _look_up(self, wanted: list[RowQuestion]) -> list[RowQuestion]:
        """Settle the rows with stored answers; return the others."""
        found = await replay.find_all([(one.request, one.receipt) for one in wanted])
        both = zip(wanted, found, strict=True)
        return [one for one, reply in both if not (reply and self._take_kept(one, reply))]

    async def _look_up_recorded(self, wanted: list[RowQuestion]) -> list[RowQuestion]:
        """Like `_look_up`, under the model that a cassette recorded for the name, if different.

        Raises StopError if no other model may be asked for the rest.
        """
        if (then := self._recorded) is None:
            return wanted
        asked = [replace(then.request, messages=one.request.messages) for one in wanted]
        found = await replay.find_all(
            [(one, then.receipt(one.messages)) for one in asked], then.meant
        )
        both = zip(wanted, found, strict=True)
        left = [one for one, reply in both if not (reply and self._take_kept(one, reply))]
        if left:
            try:
                receipts.turn_from_recorded(self._base)
            except ChatError as error:
                raise StopError(error) from None
        return left

    def _take_kept(self, question: RowQuestion, reply: Reply) -> bool:
        """Settle a row with a stored answer if it is valid; in a replay, even if it isn't."""
        is_replayed = replay.is_on()
        usage = reply.usage
        if is_replayed:
            ledger.add(reply.model, usage, at=reply.at)
        else:
            usage = usage and replace(usage, cost=0.0)
        try:
            value = value_in(reply.text, self.schema)
        except ValueError as fault:
            if is_replayed:
                row = Row(reply.text, None, "failed", misfit(fault), 1, usage)
                self._settle(question.at, row)
            return is_replayed
        status: Status = "done" if is_replayed else "cached"
        self._settle(question.at, Row(reply.text, value, status, None, int(is_replayed), usage))
        return True

    # -- asking

    async def run(self) -> Results:
        """Ask for everything not answered yet; return every row.

        Raises the reason for an early end if no row has an answer.
        """
        with Wait(self.interrupted):
            await self._ask()
        results = self.results
        self._counts["skipped"] = results.counts["skipped"]
        self._tell(now=True)
        if self.stopped and not (self._counts["done"] or self._counts["cached"]):
            raise self.stopped
        return results

    def interrupted(self) -> InterruptedAnswerError:
        """Return the error of an interrupt, which reports the progress."""
        counts = self.results.counts
        answered = counts["done"] + counts["cached"]
        return InterruptedAnswerError(
            f"Interrupted; {answered:,} of {counts.total():,} rows are answered and kept. "
            "Run it again to ask for the others."
        )

    async def _ask(self) -> None:
        missing: asyncio.Queue[RowQuestion | None] = asyncio.Queue(self.how.concurrency)
        try:
            async with self._elsewhere() as others, asyncio.TaskGroup() as group:
                feeding = group.create_task(self._feed(missing))
                for worker in [group.create_task(work) for work in self._workers(missing, others)]:
                    await worker
                feeding.cancel()
        except BaseExceptionGroup as errors:
            self._end(_first_of(errors))

    def _end(self, error: BaseException) -> None:
        if not isinstance(error, StopError):
            raise error from None
        self.stopped = error.error

    @contextlib.asynccontextmanager
    async def _elsewhere(self) -> AsyncIterator[Workers | None]:
        """Yield the workers of the executor or the configured cluster; None without either."""
        how = self.how
        there = partial(
            Workers, base=self._base, schema=self.schema,
            rpm=how.rpm, tpm=how.tpm, retries=how.retries, concurrency=how.concurrency,
        )  # fmt: skip
        address = config.current().dask
        if how.executor:
            yield there(how.executor, options=self._base.options)
        elif address and not replay.is_on():
            if how.max_cost is not None:
                raise UsageError(NO_REMOTE_BUDGET)
            run = f"ipychat-{uuid.uuid4().hex}"
            options, secret = parted(self._base)
            cluster = await asyncio.to_thread(Cluster, address, run, secret)
            try:
                yield there(cluster, options=options, run=run)
            finally:
                await asyncio.to_thread(cluster.shutdown)
        else:
            yield None

    def _workers(
        self, missing: asyncio.Queue[RowQuestion | None], others: Workers | None
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield the coroutines that ask: one per concurrent prompt, or per worker."""
        how = self.how
        if others:
            for _ in range(others.workers):
                yield self._send(missing, others)
            return
        asker = Asker(self._base, self.schema, self._pace, how.retries)
        afford = Budget(how.max_cost, self._base)
        for _ in range(how.concurrency):
            yield self._work(missing, asker, afford)

    async def _send(self, missing: asyncio.Queue[RowQuestion | None], others: Workers) -> None:
        """Let a worker of the executor ask, one share after the other."""
        is_last = False
        while not (is_last or self._is_stopped()):
            share: list[RowQuestion] = []
            while len(share) < SHARE_SIZE:
                if (question := await missing.get()) is None:
                    await missing.put(None)  # for the next worker
                    is_last = True
                    break
                share.append(question)
            if share:
                answers, stopped = await others.ask([one.request for one in share])
                for question, answered in zip(share, answers, strict=True):
                    if answered:
                        await self._take(question, answered)
                if stopped:
                    raise StopError(stopped)

    async def _work(
        self, missing: asyncio.Queue[RowQuestion | None], asker: Asker, afford: Budget
    ) -> None:
        while not self._is_stopped():
            question = await missing.get()
            if question is None:
                await missing.put(None)  # for the next worker
                return
            if not await afford.reserve(question.at, question.request):
                self.stopped = UsageError(f"The next answer may cost more than {afford}.")
            if self._is_stopped():  # during the wait, too
                afford.release(question.at)
                return
            begun = time.monotonic()
            answered = await asker.ask(question.request)
            self._took.append(time.monotonic() - begun)
            afford.settle(question.at, question.request, answered)
            await self._take(question, answered)

    def _is_stopped(self) -> bool:
        return self.stopped is not None

    async def _take(self, question: RowQuestion, answered: Answered) -> None:
        """Store an answer, and settle its row."""
        reply = answered.reply
        self._sent += 1
        if reply.text or reply.reasoning or answered.usage:
            ledger.add(reply.model, answered.usage, at=reply.at)
        if answered.error:
            row = Row(reply.text, None, "failed", answered.error, answered.attempts, answered.usage)
        else:
            await self._keep(question, reply)
            row = Row(reply.text, answered.value, "done", None, answered.attempts, answered.usage)
        self._settle(question.at, row)
        self._in_vain = self._in_vain + 1 if answered.error else 0
        if answered.error and self._in_vain >= max(MAX_FAILURES, self.how.concurrency):
            raise StopError(answered.error)

    async def _keep(self, question: RowQuestion, reply: Reply) -> None:
        """Store an answer under the row's original prompt, even if it took corrections."""
        asked = replace(reply.request, messages=question.request.messages)
        reply = replace(reply, request=asked, hash=reply.hash or question.receipt.hash)
        await self._keeping.keep(question.receipt, reply)

    def _settle(self, at: int, row: Row) -> None:
        self._rows[at] = row
        self._count(row)
        if row.is_answered:
            self._left.pop(at, None)
        for twin in self._twins.pop(at, ()):
            self._settle(twin, _twin(row))
        self._tell()

    def _count(self, row: Row) -> None:
        self._counts[row.status] += 1
        if row.cost is not None:
            self._spent = (self._spent or 0.0) + row.cost

    # -- how far it is

    @property
    def progress(self) -> Progress:
        """The progress so far."""
        counts = self._counts
        done = counts["done"] + counts["cached"]
        rate = self._rate()
        settled = done + counts["failed"] + counts["skipped"]
        left = (self._total - settled) / rate if self._total is not None and rate else None
        return Progress(
            done, counts["cached"], counts["failed"], counts["skipped"],
            self._total, rate, self._spent, left,
        )  # fmt: skip

    def _rate(self) -> float:
        """The rate of answers per second.

        Computed from the time per answer and the number asked at once: the count so far would be
        too low while the first ones are in progress.
        """
        if self._took and (taken := sum(self._took)):
            side_by_side = min(self.how.concurrency, self._total or self.how.concurrency)
            rate = side_by_side * len(self._took) / taken
            return min(rate, self._pace.rate or rate)
        seconds = time.monotonic() - self._begun
        return self._sent / seconds if seconds > 0 else 0.0

    def _tell(self, *, now: bool = False) -> None:
        if self.how.progress is None:
            return
        if now or time.monotonic() - self._told >= REPORT_INTERVAL:
            self._told = time.monotonic()
            self.how.progress(self.progress)

    @property
    def results(self) -> Results:
        """The rows so far; if the data have a length, one for each row."""
        found = [row or SKIPPED for row in self._rows]
        found += [SKIPPED] * ((self._total or 0) - len(found))
        return Results(found, rows.labels(self._data), self.stopped, self._again)

    async def _again(self, results: Results) -> Results:
        """Ask for the rows without an answer; return all."""
        left = {at for at, row in enumerate(results) if not row.is_answered}
        given = self._left.items() if self._total is None else enumerate(rows.values(self._data))
        wanted = {at: value for at, value in given if at in left}
        again = await Batch([*wanted.values()], self._template, self.how).run()
        both = dict(enumerate(results)) | dict(zip(wanted, again, strict=True))
        return Results([*both.values()], results.labels, again.stopped, self._again)

    def plan(self) -> Plan:
        """Return what `run` would do, without doing it."""
        if iter(self._data) is self._data:
            raise UsageError("A plan would use up this iterator: make a list of the data.")
        looked_up = config.replay() != "refresh" and self._base.cached
        count, kept, tokens, least, most = 0, 0, 0, Sum(), Sum()
        different: set[bytes] = set()
        for count, value in enumerate(rows.values(self._data), 1):
            question = self._row_question(count, value)
            if isinstance(question, ChatError):
                continue
            receipt = question.receipt
            if receipt.repeatable and not receipt.unwritable:
                if (key := bytes.fromhex(receipt.hash)) in different:
                    continue
                different.add(key)
                receipts = [receipt]
                if then := self._recorded:
                    receipts.append(then.receipt(question.request.messages))
                if looked_up and any(replay.place().has(one.hash) for one in receipts):
                    kept += 1
                    continue
            else:
                different.add(count.to_bytes(33))
            read = lists.estimate_tokens(question.request)
            tokens += read
            least.add(routes.cost(self._base, Usage(read, 1)))
            most.add(routes.cost(self._base, Usage(read, longest(self._base) or ASSUMED_TOKENS)))
        return Plan(count, len(different), kept, tokens, least.amount, most.amount)


def _parse_schema(given: Any) -> Schema | None:
    try:
        return None if given is None else schemas.parse_schema(given)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _twin(row: Row) -> Row:
    """Return a row's result as a copy of an earlier row's, which paid for it."""
    return replace(row, status="cached" if row.is_answered else row.status, attempts=0, usage=None)


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


@call
async def map(  # noqa: A001 - ipychat.map
    data: Any,
    template: rows.Template,
    *,
    model: str | None = None,
    schema: Any = None,
    system: str | None = None,
    concurrency: int = 64,
    rpm: float | None = None,
    tpm: float | None = None,
    retries: int = 5,
    max_cost: float | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Results:
    """Ask a model about every row of `data`; return the results, in order.

    `template` is a text with `{{it}}` for the row's value, `{{it.name}}` for one of its columns, or
    a function of the row. `schema` is the form of the answers. `rpm` and `tpm` are requests and
    tokens per minute, if the service's headers don't say. `options` go to the provider. Every
    answer is stored as it arrives: the same call, made again, asks only for what is missing.
    """
    secrets.hide(options)
    how = How(
        model=model, schema=schema, system=system, concurrency=concurrency, rpm=rpm, tpm=tpm,
        retries=retries, max_cost=max_cost, executor=executor, progress=progress, options=options,
    )  # fmt: skip
    if schema is not None:
        await schemas.load(schema)
    how = replace(how, options=await with_tools(how))
    return await Batch(data, template, how).run()


async def with_tools(how: How) -> dict[str, Any]:
    """Return the options of a run with its tools, about which the user was asked, once.

    Raises UsageError where they could not run: on other machines.
    """
    options = await given.take(how.options)
    if (tools := options.get(given.GIVEN)) is None:
        return options
    if how.executor is not None or config.current().dask:
        raise UsageError("Tools run in this kernel: rows with tools can't be sent to a cluster.")
    return {**options, given.GIVEN: await given.decided(tools)}


def plan(data: Any, template: rows.Template, **given: Any) -> Plan:
    """Return what `map` would do with the same arguments: how many prompts, tokens, dollars."""
    own = {one.name for one in fields(How)} - {"options"}
    how = {name: value for name, value in given.items() if name in own}
    options = {name: value for name, value in given.items() if name not in own}
    return Batch(data, template, How(**how, options=options)).plan()
