"""The panel: a chat widget over a live conversation, the same one as the cells'.

The page keeps what it was told, in one store for all its views; here is only what it was told
last. What it asks for comes as messages, on whichever thread the kernel takes them, and is done on
the kernel's loop. What it shows is told every `TICK` at most, for as long as something changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakSet

import anywidget
import traitlets

from ipychat import config, requirements, secrets
from ipychat.catalog import offers, ranking, resolve
from ipychat.catalog.ranking import Rank
from ipychat.chat import conversations
from ipychat.chat.conversations import Conversation
from ipychat.chat.turn import Turn
from ipychat.display._news import OURS, Told
from ipychat.display._transcript import StaticTranscript
from ipychat.display.live_page import bundle
from ipychat.errors import ChatError, UsageError
from ipychat.kernel import notebook
from ipychat.kernel.notebook import Publish
from ipychat.kernel.run import Run
from ipychat.messages import FilePart, ImagePart, Message, Place, TextPart
from ipychat.store import replay

TICK = 0.04
"""Seconds between two messages to the page."""
HERE = Path(__file__).parent
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_open: WeakSet[Panel] = WeakSet()
_numbers = itertools.count(1)
"""Of the panels of this kernel."""


def panel(*, model: str | None = None, chat: str | None = None) -> Panel:
    """Return a panel on the notebook's conversation, or on the one called `chat`."""
    from IPython import get_ipython

    requirements.check("anywidget")
    requirements.check("ipywidgets")
    shell = get_ipython()
    if shell is None or not notebook.is_kernel(shell):
        raise UsageError("The panel needs a notebook: here, %chat asks.")
    conversation = conversations.conversation(chat)
    if model:
        conversation.model = resolve.lasting(model)
    return Panel(
        conversation,
        loop=notebook.main_loop(shell),
        publisher=functools.partial(notebook.publisher, shell),
    )


def close_all() -> None:
    """Close every panel, and stop what was asked there."""
    for one in list(_open):
        for run in one.runs:
            run.stop()
        one.close()


def random_id() -> str:
    """Return an id that nothing else has."""
    return os.urandom(8).hex()


class Panel(anywidget.AnyWidget):
    """A chat panel. `model`, `chat` and `busy` can be observed; asking goes through the page."""

    _esm = HERE / "panel.js"
    _css = HERE / "panel.css"

    chat = traitlets.Unicode(read_only=True).tag(sync=True)
    """The conversation's name."""
    model = traitlets.Unicode().tag(sync=True)
    """Who answers."""
    busy = traitlets.Bool(default_value=False, read_only=True).tag(sync=True)
    """Whether an answer is coming."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        loop: asyncio.AbstractEventLoop,
        publisher: Callable[[], Publish],
    ) -> None:
        self._loop = loop
        self._publisher = publisher
        self._conversation = conversation
        self._options: dict[str, Any] = {}
        self._chats = conversations.names()
        self._told = Told()
        self._following: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._pages = 0
        """How many have said hello; only the first knows the outputs by their display ids."""
        self._shown: list[str] = []
        """The display ids of the outputs that hold the transcript."""
        self.runs: list[Run] = []
        """What was asked here and still comes."""
        super().__init__(model=_name_of(conversation))
        self.set_trait("chat", conversation.name)
        # where answers are replayed, a transcript is the same in every run
        mark = str(next(_numbers)) if replay.is_apart() else self.model_id
        self._transcript = StaticTranscript(mark)
        self.observe(self._take_model, names="model")
        self.on_msg(self._receive)
        _open.add(self)
        self._follow(conversation)

    # -- from the page

    def _receive(self, _: Any, content: Any, buffers: list[Any]) -> None:
        """Take a message, on any thread."""
        self._loop.call_soon_threadsafe(self._answer, content, buffers)

    def _answer(self, content: dict[str, Any], buffers: list[Any]) -> None:
        ack = {"kind": "ack", "id": content.get("id")}
        try:
            self._do(**content, buffers=[bytes(one) for one in buffers])
        except ChatError as error:
            ack["error"] = str(error)
        except Exception as error:  # noqa: BLE001 - the page waits for a word, whatever it is
            ack["error"] = secrets.mask(f"Not done: {error!r}")
        self.send(ack)
        self._chats = conversations.names()
        self._tell()

    def _do(self, *, kind: str, buffers: list[bytes], **wanted: Any) -> None:
        """Do what the page asks for: the method of that name does."""
        wanted.pop("id", None)
        if kind == "ask":
            wanted["buffers"] = buffers
        getattr(self, f"_do_{kind}")(**wanted)

    def _do_hello(self) -> None:
        self._told = Told()
        self._pages += 1
        if self._pages > 1:
            self._hand_over(self._transcript.now(self._conversation))

    def _do_models(self) -> None:
        self._tell_models()
        self._refreshing = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        """Ask the services that are ready for their lists, once a day, and tell what they say."""
        await offers.refresh(stale_only=True)
        self._tell_models()

    def _tell_models(self) -> None:
        offered = ranking.ranked(self._conversation.model)
        self.send({"kind": "models", "models": list(itertools.starmap(_offer, offered))})

    def _do_ask(self, text: str, files: list[dict[str, str]], buffers: list[bytes]) -> None:
        self._ask(_question(text, files, buffers))

    def _do_again(self, turn: str) -> None:
        old = self._turn(turn)
        self._ask(old.question[-1], old)

    def _do_edit(self, turn: str, text: str) -> None:
        old = self._turn(turn)
        self._ask(_edited(old.question[-1], text), old)

    def _do_stop(self) -> None:
        running = [turn for turn in self._conversation.turns if turn.state == "running"]
        if running and not any(turn.stop for turn in running):
            raise UsageError("It was asked by code: interrupt the kernel to stop it.")
        _let_go(*running)

    def _do_drop(self, turn: str) -> None:
        _let_go(self._turn(turn))
        self._conversation.drop(self._conversation.turns.index(self._turn(turn)) + 1)

    def _do_undo(self) -> None:
        _let_go(*self._conversation.turns[-1:])
        self._conversation.undo()

    def _do_new(self) -> None:
        _let_go(*self._conversation.turns)
        self._conversation.clear()

    def _do_model(self, name: str) -> None:
        self._conversation.model = resolve.lasting(name)

    def _do_system(self, text: str) -> None:
        self._conversation.system = text.strip() or None

    def _do_options(self, options: dict[str, Any]) -> None:
        self._options = _checked(options)

    def _do_chat(self, name: str) -> None:
        self._follow(conversations.conversation(name.strip()))

    def _do_fork(self, name: str) -> None:
        self._follow(self._conversation.fork(name.strip()))

    def _do_rename(self, name: str) -> None:
        conversations.rename(self._conversation, name.strip())

    def _turn(self, id_: str) -> Turn:
        for turn in self._conversation.turns:
            if turn.id == id_:
                return turn
        raise UsageError("That turn is gone.")

    @traitlets.validate("model")
    def _resolve(self, proposal: Any) -> str:
        name: str = proposal["value"]
        # what the conversation has is shown, even if nobody of that name is here any more
        return resolve.lasting(name) if name not in {"", self._conversation.model} else name

    def _take_model(self, change: Any) -> None:
        """Use the trait's value, which another widget may have set, as the model."""
        if change["new"] != _name_of(self._conversation):
            self._conversation.model = change["new"]

    def _ask(self, question: Message, old: Turn | None = None) -> None:
        """Ask; in the place of `old`, if that is given, and as it was asked."""
        _let_go(old)
        talk = self._conversation
        asked = talk.question(
            question,
            system=old.system if old else None,
            place=Place(
                talk.name,
                old.cell if old else f"{OURS}{random_id()}",
                old.execution if old else random_id(),
            ),
            instead_of=old,
            options={**self._options, "extra": self._as_before(old)},
        )
        turn = talk.begin(asked, instead_of=old)
        run = Run(_read(turn))
        turn.stop = run.stop
        self.runs = [*(one for one in self.runs if not one.done), run]

    def _as_before(self, old: Turn | None) -> dict[str, Any]:
        """Return the options of an earlier turn that are not set here."""
        given = old.options if old else {}
        return {name: value for name, value in given.items() if name not in self._options}

    # -- to the page

    def _follow(self, conversation: Conversation) -> None:
        """Show this conversation from now on."""
        self._leave()
        self._conversation, self._told = conversation, Told()
        conversation.changes.lasting.append(self._write)
        self._write()
        self._loop.call_soon_threadsafe(self._start_following)

    def _leave(self) -> None:
        """Write no more of the conversation that is shown."""
        lasting = self._conversation.changes.lasting
        if self._write in lasting:
            lasting.remove(self._write)

    def _start_following(self) -> None:
        if self._following is not None:
            self._following.cancel()
        self._following = self._loop.create_task(self._keep_telling(self._conversation))
        # what a question needs to know is read before the user has typed one
        self._looking = self._loop.create_task(_look(self._conversation.model))

    async def _keep_telling(self, conversation: Conversation) -> None:
        self._tell()
        async with contextlib.aclosing(conversation.changes.follow()) as changes:
            async for _ in changes:
                self._tell()
                await asyncio.sleep(TICK)

    def _tell(self) -> None:
        """Tell the page what is new, if anything is; known secrets are masked."""
        talk = self._conversation
        running = any(turn.state == "running" for turn in talk.turns)
        info = {
            "chat": talk.name,
            "chats": self._chats,
            "model": _name_of(talk),
            "system": talk.system and secrets.mask(talk.system),
            "options": self._options,
            "busy": running,
        }
        if news := self._told.news(info, talk.turns):
            self.send({"kind": "sync", **news})
        self.set_trait("chat", talk.name)
        self.set_trait("busy", running)
        self.set_trait("model", info["model"])

    # -- what stays

    def _write(self) -> None:
        """Write the conversation into the notebook's output."""
        if data := self._transcript.news(self._conversation):
            publish = self._publisher()  # of the cell that runs: headless, no other is heard
            for display_id in self._shown:
                publish(data, {}, display_id=display_id, update=True)
            if self._pages > 1:
                self._hand_over(data)

    def _hand_over(self, data: dict[str, Any]) -> None:
        """Let the page put the transcript into the notebook: after a reload only it can."""
        self.send({"kind": "transcript", "panel": self._transcript.mark, "data": data})

    def _ipython_display_(self, **_: Any) -> None:
        """Show the panel, and above it the transcript that stays where there is no kernel."""
        publish, display_id = self._publisher(), random_id()
        publish(self._transcript.now(self._conversation), {}, display_id=display_id)
        self._shown.append(display_id)
        publish(bundle(self, "(a chat panel)"))

    def close(self) -> None:
        """Take it off the page; the conversation goes on."""
        self._leave()
        for task in (self._following, self._looking, self._refreshing):
            if task is not None:
                task.cancel()
        super().close()


def _let_go(*turns: Turn | None) -> None:
    """Stop those that still come, before they are taken out."""
    for turn in turns:
        if turn is not None and turn.state == "running" and turn.stop:
            turn.stop()


async def _look(model: str | None) -> None:
    with contextlib.suppress(ChatError):  # which the question itself will say
        await resolve.ready(model)


async def _read(turn: Turn) -> None:
    with contextlib.suppress(ChatError):  # the turn has it, and the page shows it
        async with contextlib.aclosing(turn.events()) as events:
            async for _ in events:
                await asyncio.sleep(0)


# -- what the page is told


def _offer(offer: offers.Offer, rank: Rank) -> dict[str, Any]:
    model = offer.model
    return {
        "id": str(model),
        "provider": model.provider,
        "name": model.name,
        "rank": rank.name.lower(),
        "missing": offer.missing,
        "state": offer.state,
    }


# -- what the page asks for


def _name_of(conversation: Conversation) -> str:
    try:
        return str(resolve.resolve(conversation.model))
    except UsageError:
        return conversation.model or ""


def _edited(question: Message, text: str) -> Message:
    """Return the question with another text, and with what went along with it."""
    return Message.asking(text, (p for p in question.parts if not isinstance(p, TextPart)))


def _question(text: str, files: Iterable[Any], buffers: list[bytes]) -> Message:
    along = [
        ImagePart.of_bytes(data, file["type"])
        if file["type"] in IMAGES
        else FilePart(file["name"], data, file["type"] or "application/octet-stream")
        for file, data in zip(files, buffers, strict=True)
    ]
    return Message.asking(text, along)


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name == "effort" and value in {None, *config.EFFORTS}:
            continue
        if name not in {"temperature", "max_tokens"} or not isinstance(value, int | float | None):
            raise UsageError(f"{name} is no number that can be set here.")
    return {name: value for name, value in options.items() if value is not None}
