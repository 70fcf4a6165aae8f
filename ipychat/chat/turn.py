"""A turn: a question and its answer, live and as records on disk.

Turns know nothing of cells except their ids.
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
from ipychat.chat.acting import Acting, answering
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
"""Seconds. At most this much of an answer is lost if the process is killed."""
TEXTS = (Text, Reasoning)


@dataclass(eq=False, repr=False, kw_only=True)
class Turn:
    """A question and its answer so far."""

    id: str
    request: Question
    """The request that is sent; for a turn loaded from disk, without the turns before it."""
    asked_at: str
    """In UTC, in ISO format."""
    stale: bool = False
    """Whether a cell above it was run again since."""
    state: State = "running"
    """`lost`: the process died while it was running."""
    error: str | None = None
    journal: Journal | None = None
    """Where it is recorded; None if it is not."""
    among: list[Turn] = field(default_factory=list)
    """The conversation's turns."""
    replaced: list[Turn] = field(default_factory=list)
    """The turns of an earlier run of its cell."""
    race: list[Turn] = field(default_factory=list)
    """All turns of its race, including itself; one of them is in the conversation."""
    changes: Changes = field(default_factory=Changes)
    """Its conversation's notifications."""
    stop: Callable[[], None] | None = None
    """Stops it early; set by whoever runs it."""
    _answer: Answer | Acting | None = None
    _reply: Reply | None = None
    _told: bool = False
    """Whether the user knows that it can't be written to disk."""

    @property
    def question(self) -> tuple[Message, ...]:
        """The user's messages, without the system message and the turns before."""
        return self.request.prompt

    @property
    def system(self) -> str | None:
        """The system message."""
        return self.request.system

    @property
    def cell(self) -> str | None:
        """The cell that asked."""
        return self.request.place.cell

    @property
    def execution(self) -> str | None:
        """The run of that cell."""
        return self.request.place.execution

    @property
    def background(self) -> bool:
        """Whether the cell ended before the answer."""
        return self.request.place.background

    @property
    def reply(self) -> Reply:
        """The answer so far."""
        if self._reply is not None:
            return self._reply
        return self._answer.reply() if self._answer else Reply(self.request)

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return self.reply.text

    @property
    def model(self) -> ModelId:
        """The model that answers: the one asked, or a fallback."""
        return (self._reply or self._answer or self).request.model

    @property
    def options(self) -> Mapping[str, Any]:
        """The provider's options; for a turn loaded from disk, only numbers and switches."""
        return self.request.options

    @property
    def finish(self) -> str | None:
        """How the answer ended, in the service's word."""
        return self.reply.finish

    @property
    def usage(self) -> Usage | None:
        """The service's count of tokens."""
        return self.reply.usage

    @property
    def seconds(self) -> float:
        """Duration of the answer."""
        return self.reply.seconds

    def __repr__(self) -> str:
        model = harmless(str(self.model))
        return f"<Turn {self.id[:8]} {model}: {self.state}, {len(self.text)} characters>"

    async def events(self) -> AsyncGenerator[Event, None]:
        """Ask, and yield the answer's events; once.

        The question is on disk before anything is sent, and what arrives follows every second or
        so. An error has in its `reply` what arrived before it.
        """
        if self._answer is not None or self.state != "running":
            raise UsageError("This turn has been asked already.")
        self._answer = answer = answering(self.request)
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
        """Write what is queued, in a thread; return a notice for the user."""
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
    """Writes an answer's text while it arrives, at most once per interval."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._arrived: dict[str, list[str]] = {"text": [], "reasoning": []}
        self._timer: asyncio.TimerHandle | None = None
        self._saving: asyncio.Future[StoreError | None] | None = None

    def add(self, event: Event) -> None:
        """Take an event; text is on disk after the interval."""
        if self.turn.journal is None or not isinstance(event, TEXTS):
            return
        self._arrived["text" if isinstance(event, Text) else "reasoning"].append(event.text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SNAPSHOT_INTERVAL, self._write, loop)

    def stop(self) -> None:
        """Stop writing."""
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
        """Remove and return the text that arrived, except a possible start of a secret."""
        text = "".join(pieces)
        cut = secrets.settled(text, spare=0)
        pieces[:] = [text[cut:]]
        return text[:cut]


# -- records


def asked(turn: Turn, instead_of: Turn | None = None) -> Record:
    """Return the record of a new turn."""
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
        # texts are left out: one may be a key that is not registered yet
        "options": {
            name: one for name, one in turn.options.items() if isinstance(one, int | float)
        },
        "question": [message.to_dict() for message in turn.question],
    }


def ended(turn: Turn) -> Record:
    """Return the record of a turn that has ended, with its whole reply."""
    return {
        "type": "ended",
        "turn": turn.id,
        "state": turn.state,
        "error": turn.error,
        "reply": turn.reply.to_record(),
    }
