"""Races: several models get the same question at once; `compare`.

In a conversation a race is one turn: the question occurs once, with one of the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ipychat import secrets
from ipychat.catalog import resolve
from ipychat.chat.conversations import Conversation, conversation
from ipychat.chat.turn import State, Turn
from ipychat.chat.waiting import Wait, call
from ipychat.errors import InterruptedAnswerError, UsageError
from ipychat.messages import Event, FinishReason, ModelId, Place, Prompt, Reply, dollars
from ipychat.store import replay
from ipychat.text import tables
from ipychat.text.characters import shortened
from ipychat.toolbox import given as toolbox

HEADS = ("model", "first text", "whole", "tokens in", "tokens out", "cost", "answer")
SHOWN_CHARACTERS = 160
"""Characters of an answer in the table."""


@dataclass(frozen=True, slots=True)
class Result:
    """One model's result."""

    reply: Reply
    """The answer, as far as it arrived."""
    state: State
    """`done`, `failed`, or `stopped`: another model was first, or the user interrupted."""
    error: Exception | None = None
    """The error, if it failed."""
    kept: bool = False
    """Whether its answer was chosen: the conversation continues with it."""

    @property
    def model(self) -> ModelId:
        """The model."""
        return self.reply.model

    @property
    def first_text(self) -> float | None:
        """Seconds until its first text."""
        return self.reply.first_text

    @property
    def seconds(self) -> float:
        """Seconds until its end."""
        return self.reply.seconds

    @property
    def tokens(self) -> int | None:
        """Tokens read and written, as counted by its service."""
        usage = self.reply.usage
        return usage.input + usage.output if usage else None

    @property
    def cost(self) -> float | None:
        """Its cost in dollars; None if unknown."""
        return self.reply.cost

    def row(self) -> tuple[str, ...]:
        """Return the cells of its row in the table."""
        usage = self.reply.usage
        text = self.reply.text
        if self.error is not None:
            text = secrets.mask(f"{type(self.error).__name__}: {self.error}")
        elif self.state != "done":
            text = f"({self.state}) {text}"
        return (
            str(self.model),
            "" if self.first_text is None else f"{self.first_text:.2f} s",
            f"{self.seconds:.2f} s",
            f"{usage.input:,}" if usage else "",
            f"{usage.output:,}" if usage else "",
            "" if self.cost is None else dollars(self.cost),
            shortened(" ".join(text.split()), SHOWN_CHARACTERS),
        )


class Comparison(tuple[Result, ...]):
    """The models' results, in the order in which they were named; displayed as a table."""

    __slots__ = ()

    @property
    def kept(self) -> Result:
        """The result whose answer was chosen."""
        return next(one for one in self if one.kept)

    def _rows(self) -> list[tuple[str, ...]]:
        return [one.row() for one in self]

    def __repr__(self) -> str:
        return tables.plain([HEADS, *self._rows()])

    def _repr_html_(self) -> str:
        return tables.html(self._rows(), HEADS)


class Race:
    """Asks all models of a turn: iterate `events()` once.

    With `first`, the others are cancelled as soon as one has answered.
    """

    def __init__(self, talk: Conversation, turn: Turn, *, first: bool = False) -> None:
        self.turns = turn.race or [turn]
        self.errors: dict[Turn, Exception] = {}
        """Errors of the turns that failed."""
        self._talk = talk
        self._first = first
        self._tasks: list[asyncio.Task[None]] = []
        self._came: asyncio.Queue[tuple[Turn, Event | None]] = asyncio.Queue()

    async def events(self) -> AsyncGenerator[tuple[Turn, Event | None], None]:
        """Yield each turn's events as they arrive; None when it has ended in any way.

        An error is stored in `errors` and does not affect the others.
        """
        for turn in self.turns:
            task = asyncio.create_task(self._ask(turn))
            task.add_done_callback(functools.partial(self._ended, turn))
            self._tasks.append(task)
        try:
            for _ in self._tasks:
                event: Event | None
                while True:
                    turn, event = await self._came.get()
                    yield turn, event
                    if event is None:
                        break
        finally:
            self._cancel()
            await asyncio.wait(self._tasks)
            self._talk.adopt(self.kept)

    async def _ask(self, turn: Turn) -> None:
        try:
            async with contextlib.aclosing(turn.events()) as events:
                async for event in events:
                    if isinstance(event, FinishReason) and self._ends_it(turn):
                        self._cancel()
                    self._came.put_nowait((turn, event))
                    await asyncio.sleep(0)  # fast services must leave time for painting
        except Exception as error:  # noqa: BLE001 - whatever it is, the others continue
            self.errors[turn] = error

    def _ended(self, turn: Turn, _task: asyncio.Task[None]) -> None:
        self._came.put_nowait((turn, None))

    def _ends_it(self, turn: Turn) -> bool:
        # replayed answers all arrive at once: their recorded times say which was first
        return self._first and bool(turn.text.strip()) and not replay.is_on()

    def _cancel(self) -> None:
        """Cancel all that are running, except the turn that calls this."""
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    @property
    def winner(self) -> Turn | None:
        """The turn that answered first, in a race for the first answer."""
        done = [turn for turn in self._answered() if turn.state == "done"]
        return min(done, key=lambda turn: turn.seconds) if self._first and done else None

    @property
    def kept(self) -> Turn:
        """The turn whose answer is chosen: the winner, or the first one named with an answer."""
        return self.winner or next(self._answered(), self.turns[0])

    def _answered(self) -> Iterator[Turn]:
        return (turn for turn in self.turns if turn.text.strip())

    def results(self) -> Comparison:
        """Return all results."""
        kept = self.kept
        return Comparison(
            Result(turn.reply, turn.state, self.errors.get(turn), turn is kept)
            for turn in self.turns
        )


@call
async def compare(
    prompt: Prompt,
    models: Sequence[str],
    *,
    chat: str | None = None,
    system: str | None = None,
    first: bool = False,
    **options: Any,
) -> Comparison:
    """Ask several models the same question at once, and return their results.

    An error is part of its model's result. With `first`, the others are cancelled as soon as one
    has answered. `chat` names the conversation to add this to; it continues with the answer of the
    first model named, or of the winner.
    """
    secrets.hide(options)
    names = () if isinstance(models, str) else tuple(models)
    if not names:
        raise UsageError("compare takes a list of models.")
    talk = Conversation("", None) if chat is None else conversation(chat)
    await talk.load()
    for name in names:
        await resolve.ready(name)
    place = Place(talk.name if chat is not None else None)
    options = await toolbox.take(talk.with_tools(options), only_reads=True)
    turn = talk.begin(
        *(
            talk.question(prompt, model=name, system=system, place=place, options=options)
            for name in names
        )
    )
    race = Race(talk, turn, first=first)
    with Wait(lambda: InterruptedAnswerError.of(race.kept.reply)):
        async with contextlib.aclosing(race.events()) as events:
            async for _ in events:
                pass
    return race.results()
