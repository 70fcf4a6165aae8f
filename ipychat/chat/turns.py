"""Turns: a question and its answer, alive while it comes, and as records that disk keeps.

A conversation is what its records say: each change is one record, and `fold` makes the turns of
them again. Turns know nothing of cells but the ids they are given.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from ipychat import config, secrets
from ipychat.chat.answer import Answer
from ipychat.errors import ChatError, StoreError, UsageError
from ipychat.messages import (
    OR_NONE,
    ChatRequest,
    Event,
    Message,
    ModelId,
    Notice,
    Reasoning,
    Reply,
    Text,
    Usage,
    check_fields,
    parse_messages,
)
from ipychat.store import files, ledger
from ipychat.store.transcripts import Transcript
from ipychat.text.characters import harmless

State: TypeAlias = Literal["running", "done", "stopped", "failed", "lost"]
Record: TypeAlias = dict[str, Any]

SNAPSHOT_INTERVAL = 1.0
"""Seconds. So much of an answer may be lost with a process that is killed."""
PATIENCE = 0.2
"""Seconds. An interrupt waits no longer for the disk; not at all where it is stuck already."""
SAVING = "ipychat saves"
"""What threads are called that write a conversation."""
FORGETTING = {"dropped", "new"}
"""Records that are written even where nothing is kept any more, of what is there."""
TEXTS = (Text, Reasoning)


class Journal:
    """What happens to a conversation, record by record: queued here, then written to disk."""

    def __init__(self, transcript: Transcript | None, name: str, fault: StoreError | None) -> None:
        self.transcript = transcript
        self.fault = fault
        """Why it is not kept, where that is the disk's doing."""
        self.name = name
        self._unsaved: list[Record] = []
        self._saving = threading.Lock()
        self._began: float | None = None
        """When the disk was first asked to take what it is taking."""
        self._next: threading.Thread | None = None
        """Saves what is recorded until it gets its turn."""
        self._is_told = False
        """Whether the user knows that another process holds the lock."""

    def record(self, *records: Record) -> None:
        """Have `records` written by the next `save`; where nothing is kept, what forgets is."""
        is_kept = config.current().keep and config.replay() != "replay"
        self._unsaved += [one for one in records if is_kept or one["type"] in FORGETTING]

    def save(self) -> StoreError | None:
        """Write what is recorded; what the disk does not take is written by a later `save`.

        Return why it is not kept. Of a lock that another process holds that is said once.
        """
        with self._saving:
            self._began = time.monotonic()
            self._next = None
            records = self._unsaved[:]
            try:
                self._write(records)
                left: list[Record] = []
            except files.HeldError as error:
                _left.add(self)
                if self._is_told:
                    return None
                self._is_told = True
                said = "Until it is free, this conversation is kept in this kernel only."
                return StoreError(f"{error}\n{said}")
            except StoreError as error:
                left = self._write_each(records)
                if len(left) == len(records):
                    return StoreError(f"{error}\nThis turn is kept in this kernel only.")
            finally:
                self._began = None
            self._is_told = False
            _left.discard(self)
            self._unsaved[: len(records)] = left
        return self.fault and StoreError(f"{self.fault}\nThis turn is kept in this kernel only.")

    def _write_each(self, records: list[Record]) -> list[Record]:
        """Write what of `records` there is room for; return the rest."""
        left = []
        for record in records:
            try:
                self._write([record])
            except StoreError:
                left.append(record)
        return left

    def _write(self, records: list[Record]) -> None:
        if self.transcript is None or not records:
            return
        if self.transcript.path.exists():
            self.transcript.append(*records)
        elif any(one["type"] not in FORGETTING for one in records):
            self.transcript.append({"type": "named", "name": self.name}, *records)

    def save_soon(self) -> threading.Thread:
        """Save in a thread, for which the process's end waits; return the thread."""
        if self._next is None:
            self._next = saving = threading.Thread(target=self._save_and_log, name=SAVING)
            saving.start()
            return saving
        return self._next

    def _save_and_log(self) -> None:
        if error := self.save():
            secrets.log.warning("%s", error)

    async def save_now(self) -> None:
        """Save, before this returns unless the disk is stuck: then as soon as it is not."""
        began = self._began
        is_stuck = began is not None and time.monotonic() - began > PATIENCE
        saving = self.save_soon()
        if not is_stuck:
            await asyncio.to_thread(saving.join, PATIENCE)

    def change(self, *records: Record) -> None:
        """Have `records` written, on a loop soon; a disk that does not take them is logged."""
        self.record(*records)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._save_and_log()
        else:
            self.save_soon()


_left: set[Journal] = set()
"""Those with records that wait for a lock; written when the process ends, if it is free by then."""


@atexit.register
def _save_left() -> None:
    for journal in [*_left]:
        journal.save()


class Changes:
    """Tells those who follow it that something has changed, wherever it did."""

    def __init__(self) -> None:
        self._following: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.lasting: list[Callable[[], None]] = []
        """Called at once when a turn has ended or gone: soon after, the kernel may end, too."""

    def tell(self, *, lasting: bool = False) -> None:
        """Wake those who follow; from any thread."""
        for loop, event in self._following:
            if not event.is_set() and not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        if lasting:
            for call in self.lasting:
                call()

    async def follow(self) -> AsyncGenerator[None, None]:
        """Give one item for all that has changed since the last."""
        event = asyncio.Event()
        mine = (asyncio.get_running_loop(), event)
        self._following.append(mine)
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            self._following.remove(mine)


@dataclass(eq=False, repr=False, kw_only=True)
class Turn:
    """A question and its answer, as far as it came."""

    id: str
    question: tuple[Message, ...]
    """What the user asked, without the system message and the turns before it."""
    request: ChatRequest
    """What is sent; of a turn read from disk, without the turns before it."""
    asked_at: str
    """UTC, in ISO form."""
    system: str | None = None
    cell: str | None = None
    execution: str | None = None
    """Which run of the cell."""
    background: bool = False
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
        """Have `reply` as the answer."""
        self._reply = reply

    def _end(self, state: State, error: Exception | None = None) -> None:
        if self.state != "running" or self._answer is None:
            return
        reply = self._answer.reply()
        if state != "done":
            texts = secrets.mask_cut(reply.text), secrets.mask_cut(reply.reasoning)
            reply = dataclasses.replace(reply, text=texts[0], reasoning=texts[1])
        self.state, self._reply, self._answer = state, reply, None
        if error is not None:
            name = "" if isinstance(error, ChatError) else f"{type(error).__name__}: "
            self.error = secrets.mask(f"{name}{error}")
        bring_back(self)
        if not reply.cached:
            self._count(reply)
        self.changes.tell(lasting=True)
        if self.journal:
            self.journal.record(ended(self))

    def _count(self, reply: Reply) -> None:
        """Have what it cost in the ledger, if an answer came."""
        if reply.text or reply.reasoning or reply.usage:
            name = self.journal.name if self.journal else None
            ledger.add(reply.model, reply.usage, chat=name, at=reply.at)

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


def position(
    turns: list[Turn], cell: str | None, execution: str | None, instead_of: Turn | None = None
) -> int:
    """Return where a turn belongs: in place of another, or of its cell's earlier run, or behind.

    Behind, that is after those of the same run, else at the end.
    """
    if instead_of in turns:
        return turns.index(instead_of)
    own = [i for i, turn in enumerate(turns) if cell is not None and turn.cell == cell]
    if not own:
        return len(turns)
    if execution is not None and turns[own[-1]].execution == execution:
        return own[-1] + 1
    return own[0]


def insert(turns: list[Turn], turn: Turn, instead_of: Turn | None = None) -> None:
    """Put `turn` where it belongs; the turns of an earlier run of its cell go, later ones age.

    In place of a single turn, it is that one that goes.
    """
    place = position(turns, turn.cell, turn.execution, instead_of)
    after = turns[place:]
    if instead_of in turns:
        later = after[1:]
    else:
        later = [other for other in after if turn.cell is None or other.cell != turn.cell]
    if len(later) < len(after):
        _age(later)
    turn.among = turns
    turn.replaced = [other for other in after if other not in later]
    turns[place:] = [turn, *later]


def bring_back(turn: Turn) -> None:
    """Put the answers that `turn` replaced before it again, if it ended without one of its own.

    Of a race, none is brought back as long as one of them may answer.
    """
    together = turn.race or [turn]
    if any(one.state == "running" for one in together):
        return
    has_answer = any(one.text.strip() for one in together)
    for one in together:
        answered = [other for other in one.replaced if other.text.strip()]
        one.replaced = []
        if one in one.among and not has_answer:
            place = one.among.index(one)
            one.among[place:place] = answered


def adopt(turns: list[Turn], turn: Turn) -> None:
    """Put `turn` in the place of the one of its race that stands in `turns`; later ones age."""
    [place] = [turns.index(one) for one in turn.race if one in turns]
    if turns[place] is turn:
        return
    turn.among, turn.stale = turns, turns[place].stale
    turns[place] = turn
    _age(turns[place + 1 :])


def _age(later: Iterable[Turn]) -> None:
    """Have turns count as answers to what stands there no more: those that have, or get, one."""
    for turn in later:
        turn.stale = turn.stale or turn.state == "running" or bool(turn.text.strip())


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


def fold(records: Iterable[Record]) -> tuple[list[Turn], str | None, str | None]:
    """Return the turns, the model and the system message that `records` come to.

    Records of an unknown type are skipped. A turn without an end is lost.
    """
    turns: list[Turn] = []
    by_id: dict[str, Turn] = {}
    cells: set[str | None] = set()
    settings: dict[str, str | None] = {}
    for record in records:
        try:
            match record["type"]:
                case "asked":
                    _place(turns, by_id, cells, record)
                case "arrived":
                    _take_snapshot(by_id[record["turn"]], record)
                case "ended":
                    _take_end(by_id[record["turn"]], record)
                    bring_back(by_id[record["turn"]])
                case "kept":
                    adopt(turns, by_id[record["turn"]])
                case "dropped":
                    turns.remove(by_id[record["turn"]])
                case "new":
                    turns.clear()
                case "set":
                    check_fields(record, {"model": OR_NONE, "system": OR_NONE})
                    settings.update(record)
        except (ChatError, LookupError, TypeError, ValueError, AttributeError) as error:
            # of another kernel's turn that is gone, or edited by hand
            secrets.log.info("Skipped a record %r: %r", record.get("type"), error)
    for turn in by_id.values():
        if turn.state == "running":
            turn.state = "lost"
            bring_back(turn)
    return turns, settings.get("model"), settings.get("system")


def _place(
    turns: list[Turn], by_id: dict[str, Turn], cells: set[str | None], record: Record
) -> None:
    turn = _turn_of(record)
    if "beside" in record:
        first = by_id[record["beside"]]
        first.race = turn.race = first.race or [first]
        turn.race.append(turn)
    elif (turn.cell is not None and turn.cell in cells) or "instead_of" in record:
        insert(turns, turn, by_id.get(record.get("instead_of", "")))
    else:  # looked for among all turns, each of them would take longer the more there are
        turn.among = turns
        turns.append(turn)
    cells.add(turn.cell)
    by_id[turn.id] = turn


def _turn_of(record: Record) -> Turn:
    check_fields(record, {"stale": bool, "background": bool, "at": str, "model": str})
    check_fields(record, dict.fromkeys(("cell", "execution", "system"), OR_NONE))
    question = parse_messages(record["question"])
    system = record.get("system")
    sent = (Message("system", system), *question) if system else question
    options = MappingProxyType(dict(record["options"]))
    return Turn(
        id=record["turn"],
        question=question,
        request=ChatRequest(ModelId.parse(record["model"]), sent, options),
        asked_at=record["at"],
        system=system,
        cell=record["cell"],
        execution=record["execution"],
        background=record["background"],
        stale=record["stale"],
    )


def _take_snapshot(turn: Turn, record: Record) -> None:
    if turn.state == "running":
        check_fields(record, {"text": str, "reasoning": str})
        so_far = turn.reply
        turn.take(
            dataclasses.replace(
                so_far,
                text=so_far.text + record["text"],
                reasoning=so_far.reasoning + record["reasoning"],
            )
        )


def _take_end(turn: Turn, record: Record) -> None:
    check_fields(record, {"state": str, "error": OR_NONE})
    if record["state"] not in get_args(State):
        raise ValueError(record["state"])
    turn.take(Reply.of_record(turn.request, record["reply"]))
    turn.state, turn.error = record["state"], record["error"]
