"""Conversations, live in this kernel and stored on disk; `events`, `stream`, `ask`."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ipychat import config, secrets
from ipychat.catalog import receipts, resolve
from ipychat.chat.acting import Acting, answering
from ipychat.chat.answer import Answer
from ipychat.chat.journal import Changes, Journal, Record
from ipychat.chat.question import NO_OPTIONS, question
from ipychat.chat.records import SETTINGS, fold
from ipychat.chat.timeline import adopt, insert, position
from ipychat.chat.turn import Turn, asked, ended
from ipychat.chat.waiting import Wait, call
from ipychat.errors import InterruptedAnswerError, StoreError, UsageError
from ipychat.messages import (
    Event,
    Message,
    Place,
    Prompt,
    Question,
    Reply,
    Text,
    TextPart,
    distinct,
    parse_messages,
)
from ipychat.store import replay, transcripts
from ipychat.store.answers import Receipt
from ipychat.store.transcripts import Transcript
from ipychat.text import markup, shapes
from ipychat.text.characters import harmless, shortened
from ipychat.toolbox import given as toolbox
from ipychat.wire import aside

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = "default"
MAX_TITLE = 60
"""Characters of a title."""
MAX_LOOKED_AT = 2_000
"""Characters of a question that a title is made from."""
MAX_NAME = 50
"""Characters of a new name: so many fit into a file's name, whatever they are."""


class Conversation:
    """Turns in order. Magics, panel and Python calls share one object per conversation."""

    def __init__(self, name: str, transcript: Transcript | None, *, is_apart: bool = False) -> None:
        self.journal = Journal(None, name, None)
        self.changes = Changes()
        self.is_apart = is_apart
        """Whether it started empty, in a file of its own, whatever an earlier kernel left."""
        self.tools: Any = None
        """What models may run here, where a question gives no tools; None: `IPyChat.tools`."""
        self._settings: dict[str, str | None] = {}
        """The model, the system message and the title, once known."""
        self._turns: list[Turn] | None = None
        self._read: set[Turn] = set()
        self._reading = threading.RLock()
        self._loading: Future[list[Turn]] | None = None
        if is_apart or transcript is None:
            self._turns, self._settings = [], dict.fromkeys(SETTINGS)
        self.keep_in(transcript)

    def keep_in(self, transcript: Transcript | None) -> None:
        """Store it in this file from now on."""
        self.journal.transcript = transcript
        if self.is_apart and transcript and transcript.path.exists():
            self.journal.record({"type": "new"}, {"type": "set", "model": None, "system": None})

    # -- what is read

    async def load(self, *, turns: bool = True) -> None:
        """Load what is on disk, once, without holding the loop: everything, or only the settings.

        What is needed before that is read synchronously.
        """
        if not turns:
            if not self._knows_settings():
                await aside.run(self._load_settings)
        elif self._turns is None:
            if self._loading is None:
                self._loading = aside.start(self._load)
            await aside.wait(self._loading)

    @property
    def turns(self) -> list[Turn]:
        """The turns, in order."""
        return self._load() if self._turns is None else self._turns

    def _load(self) -> list[Turn]:
        with self._reading:
            if self._turns is None:
                turns, settings = self._fold()
                self._read = {*turns}
                self._settings = settings | self._settings
                self._turns = turns
            return self._turns

    def _load_settings(self) -> None:
        with self._reading:
            if not self._knows_settings():
                self._settings = self._fold("set")[1] | self._settings

    def _knows_settings(self) -> bool:
        return self._settings.keys() >= {*SETTINGS}

    def _fold(self, kind: str = "") -> tuple[list[Turn], dict[str, str | None]]:
        transcript = self.journal.transcript
        try:
            return fold(transcript.records(kind) if transcript else ())
        except StoreError as error:  # it must stay as it is
            self.journal.transcript, self.journal.fault = None, error
            return fold(())

    def _setting(self, name: str) -> str | None:
        if name not in self._settings:
            self._load_settings()
        return self._settings[name]

    @property
    def name(self) -> str:
        """Its name, here and on disk."""
        return self.journal.name

    def __repr__(self) -> str:
        stale = f", {self.stale_count} stale" if self.stale_count else ""
        return f"<Conversation {self.name!r}: {len(self.turns)} turns{stale}>"

    def question(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        place: Place | None = None,
        instead_of: Turn | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> Question:
        """Create a question of this conversation; nothing is changed yet.

        The turns before its place are sent along; with `instead_of`, those before that turn. A
        place without a conversation belongs to none: no turns are sent.
        """
        place = place or Place(self.name)
        own = parse_messages(prompt)
        before: Iterable[Message] = ()
        if place.chat is not None:
            at = position(self.turns, place.cell, place.execution, instead_of)
            before = _history(self.turns[:at], own)
        return question(
            own,
            model=model or self.model,
            system=self._system_message(system),
            before=before,
            place=place,
            options=options,
        )

    def with_tools(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options, with this conversation's tools where they give none."""
        return {"tools": self.tools, **{k: v for k, v in options.items() if v is not None}}

    def begin(self, *questions: Question, instead_of: Turn | None = None) -> Turn:
        """Place a question, or put it in the place of another turn; `turn.events()` asks it.

        It replaces what an earlier run of its cell asked. If there are several questions (one for
        each model of a race), the first takes the place; the turn's `race` holds all turns.
        """
        turns = [
            Turn(
                id=uuid.uuid4().hex,
                request=one,
                asked_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            for one in questions
        ]
        for one in turns if len(turns) > 1 else ():
            one.race = turns
        if questions[0].place.chat is not None:
            for one in turns:
                one.journal, one.changes = self.journal, self.changes
            insert(self.turns, turns[0], instead_of)
            # written before anything is sent
            self.journal.record(*(asked(one, instead_of) for one in turns))
            self.changes.tell()
        return turns[0]

    def _system_message(self, given: str | None) -> str | None:
        return given or self.system or config.current().system

    @property
    def continues(self) -> int:
        """The number of its turns that were loaded from disk."""
        return sum(turn in self._read for turn in self.turns)

    @property
    def model(self) -> str | None:
        """The model of questions that name none."""
        return self._setting("model")

    @model.setter
    def model(self, name: str | None) -> None:
        self._settings["model"] = name
        self.changed({"type": "set", "model": name})

    @property
    def system(self) -> str | None:
        """The system message of questions without their own."""
        return self._setting("system")

    @system.setter
    def system(self, text: str | None) -> None:
        self._settings["system"] = text
        self.changed({"type": "set", "system": text})

    @property
    def title(self) -> str:
        """Its title: the one that was set, else made from the first question."""
        return self._setting("title") or (_title(self.turns[0].question) if self.turns else "")

    @title.setter
    def title(self, text: str | None) -> None:
        self._settings["title"] = text = " ".join((text or "").split())[:MAX_TITLE] or None
        self.changed({"type": "set", "title": text})

    @property
    def stale_count(self) -> int:
        """The number of turns below a cell that was run again since."""
        return sum(turn.stale for turn in self.turns)

    def turn(self, number: int) -> Turn:
        """Return a turn by its number, starting at 1."""
        if not 1 <= number <= len(self.turns):
            raise UsageError(f"There is no turn {number}: {self.name} has {len(self.turns)}.")
        return self.turns[number - 1]

    def before(self, place: Place) -> list[Turn]:
        """Return the turns that are sent with a question at this place."""
        return self.turns[: position(self.turns, place.cell, place.execution)]

    def keep(self, number: int) -> Turn:
        """Choose the answer with that number, starting at 1, as the last race's winner."""
        race = next((turn.race for turn in reversed(self.turns) if turn.race), [])
        if not race:
            raise UsageError(f"{self.name} has no race: %%chat -m A -m B asks several models.")
        if not 1 <= number <= len(race):
            raise UsageError(f"There is no answer {number}: {len(race)} models were asked.")
        turn = race[number - 1]
        if not turn.text.strip():
            raise UsageError(f"{turn.model} gave no answer to continue from.")
        self.adopt(turn)
        return turn

    def adopt(self, turn: Turn) -> None:
        """Put `turn` in the place of the turn of its race that is in this conversation, if any."""
        if turn not in self.turns and any(one in self.turns for one in turn.race):
            adopt(self.turns, turn)
            self.changed({"type": "kept", "turn": turn.id})

    def drop(self, number: int) -> Turn:
        """Remove a turn by its number, starting at 1."""
        turn = self.turn(number)
        self.turns.remove(turn)
        self.changed({"type": "dropped", "turn": turn.id})
        return turn

    def undo(self) -> Turn:
        """Remove the last turn."""
        if not self.turns:
            raise UsageError(f"{self.name} has no turns.")
        return self.drop(len(self.turns))

    def clear(self) -> None:
        """Start over with the same model and system message; the turns stay on disk."""
        self.turns.clear()
        self.changed({"type": "new"})

    def changed(self, *records: Record) -> None:
        """Record changes, and notify listeners."""
        self.journal.change(*records)
        self.changes.tell(lasting=True)

    def receipt(self, turn: Turn) -> Receipt | None:
        """Return the receipt of a turn's question; None if it can't be known any more."""
        place = self.turns.index(turn) if turn in self.turns else len(self.turns)
        asked = turn.reply.request
        # for a turn loaded from disk, the history is whatever still precedes it
        head, own = asked.messages[: -len(turn.question)], asked.messages[-len(turn.question) :]
        before = _history(self.turns[:place], turn.question)
        now = distinct((*head, *before, *own))
        for one in (asked, replace(asked, messages=now)):
            then = receipts.as_recorded(one)
            for make in (receipts.receipts(one), *([then.receipt] if then else ())):
                receipt: Receipt = make(one.messages)
                if receipt.hash == turn.reply.hash:
                    return receipt
        return None

    def fork(self, name: str) -> Conversation:
        """Return a new conversation that continues from here; running turns are left out."""
        other = conversation(name)
        if other is self or other.turns:
            raise UsageError(f"There is a conversation {name!r} already.")
        other.model, other.system = self.model, self.system
        for turn in self.turns:
            if turn.state != "running":
                twin = copy.copy(turn)
                twin.id, twin.journal, twin.race = uuid.uuid4().hex, other.journal, []
                other.turns.append(twin)
                other.journal.record(asked(twin), ended(twin))
        other.changed()
        return other

    def to_markdown(self, longest: int | None = None) -> str:
        """Format the conversation as Markdown, with known secrets masked.

        The question's texts are shortened to `longest` characters each.
        """
        title = f": {self.title}" if self.title else ""
        lines = [f"# {harmless(self.name + title)}"]
        for number, turn in enumerate(self.turns, 1):
            how = "" if turn.state == "done" else f" · {turn.state}"
            how += " · stale" if turn.stale else ""
            lines.append(f"## {number}. {turn.model} · {turn.reply.at or turn.asked_at}{how}")
            lines += [shapes.mask(_quoted(message, longest)) for message in turn.question]
            answer = markup.with_closed_fence(turn.text)
            lines += filter(None, [answer, turn.error and f"*{turn.error}*"])
        return secrets.mask("\n\n".join(lines) + "\n")


def _title(question: Iterable[Message]) -> str:
    """Return a title made from a question: its first line with words, masked."""
    own = [part.text for one in question for part in one.parts if isinstance(part, TextPart)][-1:]
    lines = "".join(shapes.mask(harmless(text[:MAX_LOOKED_AT])) for text in own).splitlines()
    line = next((" ".join(line.split()) for line in lines if any(map(str.isalnum, line))), "")
    if len(line) <= MAX_TITLE:
        return line
    return line[: MAX_TITLE - 1].rpartition(" ")[0].rstrip(" ,.;:") + " …"


def _history(turns: Iterable[Turn], own: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages of the turns that are sent before `own`, as many as the user allows.

    These are the turns with an answer: text, or calls that the messages after it answer.
    """
    sent: list[tuple[Message, ...]] = []
    following, left = own, config.current().history
    is_apart = replay.is_apart()  # a background answer ends at a different time in each run
    for turn in reversed([*turns]):
        if left == 0:
            break
        if turn.state == "running" or (is_apart and turn.background):
            continue
        if answer := turn.reply.answered(following):
            following = (*turn.question, *answer)
            sent.append(following)
            left = left and left - 1
    return tuple(itertools.chain.from_iterable(reversed(sent)))


def _quoted(message: Message, longest: int | None) -> str:
    texts = [
        shortened(part.text, longest)
        if isinstance(part, TextPart)
        else f"[{getattr(part, 'name', 'image')}]"
        for part in message.parts
    ]
    return "\n".join(f"> {line}".rstrip() for line in "\n".join(texts).splitlines())


# -- those that live in this kernel

_live: dict[tuple[str | None, str], Conversation] = {}
"""By notebook and name; changing a setting doesn't replace a conversation."""


def conversation(name: str | None = None) -> Conversation:
    """Return the live conversation of that name.

    If a cassette is on when it is first requested, it starts empty; otherwise the stored turns are
    loaded when needed.
    """
    name, notebook = name or DEFAULT, config.current().notebook
    if (notebook, name) not in _live:
        is_apart = replay.is_apart()
        transcript = _transcript(name, is_apart=is_apart)
        _live[notebook, name] = Conversation(name, transcript, is_apart=is_apart)
    live = _live[notebook, name]
    if live.journal.transcript is None and not live.journal.fault:
        # it may have been opened while nothing was kept
        live.keep_in(_transcript(name, is_apart=live.is_apart))
    return live


def _transcript(name: str, *, is_apart: bool) -> Transcript | None:
    folder = _folder(is_apart=is_apart)
    return Transcript(folder / transcripts.file_name(name)) if folder else None


def _folder(*, is_apart: bool) -> Path | None:
    """The folder for the notebook's conversations; None if they are not stored."""
    settings = config.current()
    if settings.notebook is None or not settings.keep or replay.is_on():
        return None
    # a recording has its own folder: afterwards the notebook's conversation continues as it was
    return transcripts.notebook_folder(settings.notebook + " (recorded)" * is_apart)


def rename(talk: Conversation, name: str) -> None:
    """Rename a live conversation, here and on disk.

    Raises UsageError if the name is taken.
    """
    if name in names():
        raise UsageError(f"There is a conversation {name!r} already.")
    if not name.strip() or len(name) > MAX_NAME:
        raise UsageError(f"A conversation's name has 1 to {MAX_NAME} characters.")
    if talk.journal.transcript and (there := _transcript(name, is_apart=talk.is_apart)):
        talk.journal.transcript.move(there.path)
    notebook = config.current().notebook
    _live[notebook, name] = _live.pop((notebook, talk.name))
    talk.journal.name = name
    talk.changed({"type": "named", "name": name})


def names() -> list[str]:
    """Return the names of the notebook's conversations, live and on disk."""
    folder, here = _folder(is_apart=replay.is_apart()), config.current().notebook
    live = {name for notebook, name in _live if notebook == here}
    return sorted({*live, *(transcripts.names(folder) if folder else ())})


def every() -> Iterator[Conversation]:
    """Yield every conversation of the notebook; those not in use are read and dropped again."""
    is_apart, notebook = replay.is_apart(), config.current().notebook
    for name in names():
        live = _live.get((notebook, name))
        yield live or Conversation(name, _transcript(name, is_apart=is_apart), is_apart=is_apart)


# -- asking


async def _ask(
    prompt: Prompt, chat: str | None, model: str | None, system: str | None, options: dict[str, Any]
) -> Turn | Answer | Acting:
    """Begin a turn of a conversation, or an answer outside any."""
    secrets.hide(options)  # the caller's frame refers to them, too
    with Wait(lambda: InterruptedAnswerError("Interrupted before anything was asked.")):
        await resolve.ready(model)
        if chat is None:
            system = system or config.current().system
            given = await toolbox.take(options)
            return answering(question(prompt, model=model, system=system, options=given))
        talk = conversation(chat)
        await talk.load()
        given = await toolbox.take(talk.with_tools(options))
    return talk.begin(talk.question(prompt, model=model, system=system, options=given))


def _wait(asked: Turn | Answer | Acting) -> Wait:
    return Wait(lambda: InterruptedAnswerError.of(_left(asked)))


def _left(asked: Turn | Answer | Acting) -> Reply:
    return asked.reply if isinstance(asked, Turn) else asked.left()


async def events(
    prompt: Prompt,
    *,
    model: str | None = None,
    chat: str | None = None,
    system: str | None = None,
    **options: Any,
) -> AsyncGenerator[Event, None]:
    """Ask a model, and yield the answer's typed events, `FinishReason` last.

    `chat` names the conversation to add this to; by default it belongs to none.
    """
    asked = await _ask(prompt, chat, model, system, options)
    with _wait(asked) as wait:
        async with contextlib.aclosing(asked.events()) as given:
            async for event in given:
                wait.is_paused = True
                yield event
                wait.resume()


async def stream(
    prompt: Prompt,
    *,
    model: str | None = None,
    chat: str | None = None,
    system: str | None = None,
    **options: Any,
) -> AsyncGenerator[str, None]:
    """Ask a model, and yield the answer's text as it arrives."""
    asked = await _ask(prompt, chat, model, system, options)
    with _wait(asked) as wait:
        async with contextlib.aclosing(asked.events()) as given:
            async for event in given:
                if isinstance(event, Text):
                    wait.is_paused = True
                    yield event.text
                    wait.resume()


@call
async def ask(
    prompt: Prompt,
    *,
    model: str | None = None,
    chat: str | None = None,
    system: str | None = None,
    **options: Any,
) -> Reply:
    """Ask a model, and return the whole answer.

    `model` is provider:name, a bare name or an alias; by default, the default model. `chat` names
    the conversation to add this to. `options` go to the provider: temperature, max_tokens, timeout,
    proxy, base_url, api_key, and whatever else it knows; the dict `extra` may hold others.
    `large=True` sends a question of any size.
    """
    asked = await _ask(prompt, chat, model, system, options)
    with _wait(asked):
        async with contextlib.aclosing(asked.events()) as given:
            async for _ in given:
                pass
    return asked.reply if isinstance(asked, Turn) else asked.reply()
