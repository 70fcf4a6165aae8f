"""A turn: a question and its answer, alive while it comes, and as records that disk keeps.

Turns know nothing of cells but the ids they are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ipychat import secrets
from ipychat.chat import timeline
from ipychat.chat.answer import Answer
from ipychat.chat.journal import Changes, Journal, Record
from ipychat.errors import ChatError, StoreError, UsageError
from ipychat.messages import (
    Event,
    Message,
    ModelId,
    Notice,
    Question,
    Reasoning,
    Reply,
    Text,
    Usage,
)
from ipychat.text.characters import harmless

State: TypeAlias = Literal["running", "done", "stopped", "failed", "lost"]

SNAPSHOT_INTERVAL = 1.0
"""Seconds. So much of an answer may be lost with a process that is killed."""
TEXTS = (Text, Reasoning)


@dataclass(eq=False, repr=False, kw_only=True)
class Turn:
    """A question and its answer, as far as it came."""

    id: str
    request: Question
    """What is sent; of a turn read from disk, without the turns before it."""
    asked_at: str
    """UTC, in ISO form."""
    stale: bool = False
    """Whether a cell above it was run again since."""
    state: State = "running"
    """`lost`: the process died while it ran."""
    error: str | None = None
    journal: Journal | None = None
    """Where it is kept; None where it is not."""
    among: list[Turn] = field(default_factory=list)
    """The conversation's turns."""
    replaced: list[Turn] = field(default_factory=list)
    """The turns of an earlier run of its cell."""
    race: list[Turn] = field(default_factory=list)
    """All who were asked this at once, it among them; one of them stands in the conversation."""
    changes: Changes = field(default_factory=Changes)
    """Of its conversation."""
    stop: Callable[[], None] | None = None
    """Ends it early; set by whoever runs it."""
    _answer: Answer | None = None
    _reply: Reply | None = None
    _told: bool = False
    """Whether the user knows that the disk does not take it."""

    @property
    def question(self) -> tuple[Message, ...]:
        """What the user asked, without the system message and the turns before it."""
        return self.request.prompt

    @property
    def system(self) -> str | None:
        """The system message that it was asked with."""
        return self.request.system

    @property
    def cell(self) -> str | None:
        """The cell that asked."""
        return self.request.place.cell

    @property
    def execution(self) -> str | None:
        """Which run of the cell."""
        return self.request.place.execution

    @property
    def background(self) -> bool:
        """Whether the cell ended before its answer."""
        return self.request.place.background

    @property
    def reply(self) -> Reply:
        """The answer as far as it came."""
        if self._reply is not None:
            return self._reply
        return self._answer.reply() if self._answer else Reply(self.request)

    @property
    def text(self) -> str:
        """The answer's text as far as it came."""
        return self.reply.text

    @property
    def model(self) -> ModelId:
        """Who answers: who was asked, else who was asked next."""
        return (self._reply or self._answer or self).request.model

    @property
    def options(self) -> Mapping[str, Any]:
        """The provider's options; of a turn read from disk, numbers and switches only."""
        return self.request.options

    @property
    def finish(self) -> str | None:
        """How the answer ended, in the service's word."""
        return self.reply.finish

    @property
    def usage(self) -> Usage | None:
        """What the service counted."""
        return self.reply.usage

    @property
    def seconds(self) -> float:
        """How long the answer took."""
        return self.reply.seconds

    def __repr__(self) -> str:
        model = harmless(str(self.model))
        return f"<Turn {self.id[:8]} {model}: {self.state}, {len(self.text)} characters>"

    async def events(self) -> AsyncGenerator[Event, None]:
        """Ask, and give the answer's events; once. An error has in its `reply` what came before.

        On disk is the question before anything is sent, then what arrived, every second or so.
        """
        if self._answer is not None or self.state != "running":
            raise UsageError("This turn has been asked already.")
        self._answer = answer = Answer(self.request)
        snapshots = _Snapshots(self)
        try:
            if notice := await self._save():
                yield notice
            async with contextlib.aclosing(answer.events()) as given:
                async for event in given:
                    snapshots.add(event)
                    self.changes.tell()
                    yield event
            self._end("done")
            if notice := await self._save():
                yield notice
        except Exception as error:
            self._end("failed", error)
            await self._save()
            raise
        finally:
            snapshots.stop()
            if self.state == "running":  # closed or cancelled: there may be no loop to wait on
                self._end("done" if answer.reply().finish else "stopped")
                if self.journal:
                    await self.journal.save_now()

    def take(self, reply: Reply) -> None:
        """Set the answer."""
        self._reply = reply

    def _end(self, state: State, error: Exception | None = None) -> None:
        if self.state != "running" or self._answer is None:
            return
        reply = self._answer.reply() if state == "done" else self._answer.left()
        self.state, self._reply, self._answer = state, reply, None
        if error is not None:
            name = "" if isinstance(error, ChatError) else f"{type(error).__name__}: "
            self.error = secrets.mask(f"{name}{error}")
        timeline.bring_back(self)
        self.changes.tell(lasting=True)
        if self.journal:
            self.journal.record(ended(self))

    async def _save(self) -> Notice | None:
        """Write what is to be written, in another thread; return what the user should know."""
        if self.journal is None:
            return None
        try:
            error = await asyncio.to_thread(self.journal.save)
        except asyncio.CancelledError:  # the thread may not have begun
            self.journal.save_soon()
            raise
        if error is None or self._told:
            return None
        self._told = True
        notice = Notice(str(error))
        if self._answer is not None:
            self._answer.add(notice)
        else:
            notices = (*self.reply.notices, notice.text)
            self._reply = dataclasses.replace(self.reply, notices=notices)
        return notice


class _Snapshots:
    """Writes what arrived of an answer, at most once in an interval, while the answer goes on."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._arrived: dict[str, list[str]] = {"text": [], "reasoning": []}
        self._timer: asyncio.TimerHandle | None = None
        self._saving: asyncio.Future[StoreError | None] | None = None

    def add(self, event: Event) -> None:
        """Take an event; one that is text is on disk after the interval."""
        if self.turn.journal is None or not isinstance(event, TEXTS):
            return
        self._arrived["text" if isinstance(event, Text) else "reasoning"].append(event.text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SNAPSHOT_INTERVAL, self._write, loop)

    def stop(self) -> None:
        """Write no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self.turn.journal is None or self.turn.state != "running":
            return
        if self._saving is not None and not self._saving.done():  # the disk is slow
            self._timer = loop.call_later(SNAPSHOT_INTERVAL, self._write, loop)
            return
        texts = {kind: self._take(pieces) for kind, pieces in self._arrived.items()}
        self.turn.journal.record({"type": "arrived", "turn": self.turn.id, **texts})
        self._saving = loop.run_in_executor(None, self.turn.journal.save)

    @staticmethod
    def _take(pieces: list[str]) -> str:
        """Take the text that arrived, but for what may begin a secret: in two it isn't masked."""
        text = "".join(pieces)
        cut = secrets.settled(text, spare=0)
        pieces[:] = [text[cut:]]
        return text[:cut]


# -- records


def asked(turn: Turn, instead_of: Turn | None = None) -> Record:
    """Return the record of a turn that is asked."""
    return {
        "type": "asked",
        "turn": turn.id,
        **({"instead_of": instead_of.id} if instead_of else {}),
        **({"beside": turn.race[0].id} if turn.race and turn.race[0] is not turn else {}),
        "at": turn.asked_at,
        "cell": turn.cell,
        "execution": turn.execution,
        "background": turn.background,
        "stale": turn.stale,
        "model": str(turn.model),
        "system": turn.system,
        # texts stay out: a key may be among them, not yet known as a secret
        "options": {
            name: one for name, one in turn.options.items() if isinstance(one, int | float)
        },
        "question": [message.to_dict() for message in turn.question],
    }


def ended(turn: Turn) -> Record:
    """Return the record of a turn that has ended, its whole reply in it."""
    return {
        "type": "ended",
        "turn": turn.id,
        "state": turn.state,
        "error": turn.error,
        "reply": turn.reply.to_record(),
    }
