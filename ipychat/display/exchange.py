"""The kernel's end of a panel: carries out what its page asks for, and tells it what to show.

It is the same for a widget in an output (`panel`) and for JupyterLab's side (`dock`). Requests of
the page arrive on any thread and are carried out on the kernel's loop. Changes are sent to the page
at most every `TICK`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ipychat import config, secrets
from ipychat.catalog import offers, ranking, resolve
from ipychat.catalog.ranking import Rank
from ipychat.chat import continuation, conversations, search
from ipychat.chat.conversations import Conversation
from ipychat.chat.turn import Turn
from ipychat.context import attachments, cells, namespace, values
from ipychat.display import cards
from ipychat.display._news import OURS, Told
from ipychat.errors import ChatError, UsageError
from ipychat.kernel import notebook
from ipychat.kernel.run import Run
from ipychat.messages import FilePart, ImagePart, Message, Part, Place, Question, TextPart
from ipychat.toolbox.given import GIVEN, take
from ipychat.wire import aside

TICK = 0.04
"""Seconds between two messages to the page."""
MIN_TICK = 0.005
"""Seconds after the first message that follows a pause; doubled with each further one."""
QUIET = 0.5
"""Seconds without a message that count as a pause."""
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
SHAPED = {"DataFrame", "Series", "ndarray"}
SIZED = {str, bytes, list, tuple, dict, set, frozenset}
MAX_NAMES = 500
"""Variables, and files, that the page can choose from."""


class Carrier(Protocol):
    """Carries messages to a panel's page, and keeps its transcript."""

    def send(self, content: dict[str, Any]) -> None:
        """Send the page a message."""
        ...

    def greet(self) -> None:
        """Greet a page that has just opened."""
        ...

    def show(self, info: dict[str, Any]) -> None:
        """Show the state of the conversation, apart from its turns."""
        ...

    def write(self) -> None:
        """Update the transcript: a turn has ended or was removed."""
        ...


class Exchange:
    """A conversation and the page that shows it."""

    def __init__(self, conversation: Conversation, shell: Any, carrier: Carrier) -> None:
        self.conversation = conversation
        self.runs: list[Run] = []
        """The answers that this page asked for and that are still running."""
        self._shell = shell
        self._loop = notebook.main_loop(shell)
        self._carrier = carrier
        self._options: dict[str, Any] = {}
        self._chats = conversations.names()
        self._told = Told()
        self._following: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Start telling the page about the conversation."""
        self._follow(self.conversation)

    def end(self) -> None:
        """Stop telling the page; the conversation is not affected."""
        self._leave()
        for task in (self._following, *self._tasks):
            if task is not None:
                task.cancel()

    def stop(self) -> None:
        """Stop what was asked here."""
        for run in self.runs:
            run.stop()

    # -- from the page

    def receive(self, content: Any, buffers: Iterable[Any]) -> None:
        """Take a message, on any thread."""
        held = [bytes(one) for one in buffers]
        self._loop.call_soon_threadsafe(lambda: self._begin(self._answer(content, held)))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        ack = {"kind": "ack", "id": content.get("id")}
        try:
            await self.conversation.load()
            await self._do(**content, buffers=buffers)
        except ChatError as error:
            ack["error"] = str(error)
        except Exception as error:  # noqa: BLE001 - the page waits for a word, whatever it is
            ack["error"] = secrets.mask(f"Not done: {error!r}")
        self._carrier.send(ack)
        self._chats = conversations.names()
        await self.conversation.load()
        self.tell()

    async def _do(self, *, kind: str, buffers: list[bytes], **wanted: Any) -> None:
        """Call the method for this kind of request."""
        wanted.pop("id", None)
        if kind == "ask":
            wanted["buffers"] = buffers
        done = getattr(self, f"_do_{kind}")(**wanted)
        if done is not None:
            await done

    def _do_hello(self) -> None:
        self._told = Told()
        self._carrier.greet()
        cards.tell(self._carrier.send)

    def _do_seen(self, card: str) -> None:
        cards.seen(card)

    def _do_decide(self, card: str, decision: str, arguments: Any = None, reason: str = "") -> None:
        cards.decide(card, decision, arguments, reason)

    def _do_models(self) -> None:
        self._tell_models()
        self._begin(self._refresh())

    async def _refresh(self) -> None:
        """Ask the services that are ready for their lists, once a day, and tell what they say."""
        await offers.refresh(stale_only=True)
        self._tell_models()

    def _tell_models(self) -> None:
        offered = ranking.ranked(self.conversation.model)
        self._carrier.send({"kind": "models", "models": list(itertools.starmap(_offer, offered))})

    async def _do_ask(
        self,
        text: str,
        files: list[dict[str, str]],
        buffers: list[bytes],
        along: Iterable[dict[str, Any]] = (),
    ) -> None:
        parts = [part for one in along for part in await self._along(**one)]
        await self._ask(Message.asking(text, [*parts, *_parts(files, buffers)]))

    async def _do_again(self, turn: str) -> None:
        old = self._turn(turn)
        await self._ask(old.question[-1], old)

    async def _do_edit(self, turn: str, text: str) -> None:
        old = self._turn(turn)
        await self._ask(_edited(old.question[-1], text), old)

    def _do_stop(self) -> None:
        running = [turn for turn in self.conversation.turns if turn.state == "running"]
        if running and not any(turn.stop for turn in running):
            raise UsageError("It was asked by code: interrupt the kernel to stop it.")
        _let_go(*running)

    def _do_drop(self, turn: str) -> None:
        _let_go(self._turn(turn))
        self.conversation.drop(self.conversation.turns.index(self._turn(turn)) + 1)

    def _do_undo(self) -> None:
        _let_go(*self.conversation.turns[-1:])
        self.conversation.undo()

    def _do_new(self) -> None:
        _let_go(*self.conversation.turns)
        self.conversation.clear()

    def _do_model(self, name: str) -> None:
        self.conversation.model = resolve.lasting(name)

    def _do_system(self, text: str) -> None:
        self.conversation.system = text.strip() or None

    def _do_options(self, options: dict[str, Any]) -> None:
        self._options = _checked(options)

    def _do_chat(self, name: str) -> None:
        self._follow(conversations.conversation(name.strip()))

    def _do_fork(self, name: str) -> None:
        self._follow(self.conversation.fork(name.strip()))

    def _do_rename(self, name: str) -> None:
        conversations.rename(self.conversation, name.strip())

    def _turn(self, id_: str) -> Turn:
        for turn in self.conversation.turns:
            if turn.id == id_:
                return turn
        raise UsageError("That turn is gone.")

    def _do_continue(self) -> None:
        self._start(continuation.question(self.conversation, self._place()))

    def _do_title(self, text: str) -> None:
        self.conversation.title = text

    async def _do_titles(self) -> None:
        titles = await aside.run(search.titles)
        self._carrier.send({"kind": "titles", "titles": titles})

    async def _do_search(self, words: str) -> None:
        found = await aside.run(search.search, words)
        rows = [one._asdict() for one in found]
        self._carrier.send({"kind": "found", "words": words, "found": rows})

    async def _do_export(self, form: str) -> None:
        from ipychat.display import export

        talk = self.conversation
        text = await aside.run(export.page if form == "html" else Conversation.to_markdown, talk)
        name = f"{talk.name}.{form}"
        self._carrier.send({"kind": "file", "name": name, "text": text})

    # -- what goes along

    async def _do_names(self) -> None:
        """Tell which variables, and which files of the kernel's folder, can be sent along."""
        known = namespace.of(self._shell)
        first = sorted(known)[:MAX_NAMES]
        variables = [{"name": one, "about": _about(known[one])} for one in first]
        files, resources = await aside.run(_files), await _resources()
        told = {"variables": variables, "files": files, "resources": resources}
        self._carrier.send({"kind": "names", **told})

    async def _do_weigh(self, along: dict[str, Any]) -> None:
        """Tell the size of what would be sent along."""
        size = sum(
            len(part.text) if isinstance(part, TextPart) else len(getattr(part, "data", b""))
            for part in await self._along(**along)
        )
        self._carrier.send({"kind": "weight", "of": along, "size": size})

    async def _along(
        self, kind: str, name: str, source: str = "", output: str | None = None
    ) -> Sequence[Part]:
        resolve.learn_secrets()  # what goes along is cut where no secret is
        match kind:
            case "file":
                return [await aside.run(attachments.file_part, name)]
            case "cell":
                return [TextPart(cells.cells_text([(source, output or None)]))]
            case "resource":
                from ipychat.toolbox import recorded

                return await recorded.resource(name)
        if name not in self._shell.user_ns:
            raise UsageError(f"No variable named {name}.")
        return [TextPart(values.summarise(name, self._shell.user_ns[name]))]

    # -- asking

    async def _ask(self, question: Message, old: Turn | None = None) -> None:
        """Ask; in the place of `old`, if that is given, and as it was asked."""
        options = {**self._options, "extra": self._as_before(old)}
        if old and old.request.given:
            options[GIVEN] = old.request.given
        else:
            options = await take(self.conversation.with_tools(options))
        _let_go(old)
        asked = self.conversation.question(
            question,
            system=old.system if old else None,
            place=self._place(old),
            instead_of=old,
            options=options,
        )
        self._start(asked, old)

    def _start(self, question: Question, old: Turn | None = None) -> None:
        turn = self.conversation.begin(question, instead_of=old)
        run = Run(_read(turn))
        turn.stop = run.stop
        self.runs = [*(one for one in self.runs if not one.done), run]

    def _place(self, old: Turn | None = None) -> Place:
        """Return the place of a question: a new one at the end, or that of an earlier turn."""
        return Place(
            self.conversation.name,
            old.cell if old else f"{OURS}{random_id()}",
            old.execution if old else random_id(),
        )

    def _as_before(self, old: Turn | None) -> dict[str, Any]:
        """Return the options of an earlier turn that are not set here."""
        before = old.options if old else {}
        return {name: value for name, value in before.items() if name not in self._options}

    # -- to the page

    def _follow(self, conversation: Conversation) -> None:
        """Show this conversation from now on."""
        self._leave()
        self.conversation, self._told = conversation, Told()
        conversation.changes.lasting.append(self._carrier.write)
        self._carrier.write()
        self._loop.call_soon_threadsafe(self._start_following)

    def _leave(self) -> None:
        """Write no more of the conversation that is shown."""
        lasting = self.conversation.changes.lasting
        if self._carrier.write in lasting:
            lasting.remove(self._carrier.write)

    def _start_following(self) -> None:
        if self._following is not None:
            self._following.cancel()
        self._following = self._loop.create_task(self._keep_telling(self.conversation))
        # what a question needs to know is read before the user has typed one
        self._begin(_look(self.conversation.model))

    async def _keep_telling(self, conversation: Conversation) -> None:
        await conversation.load()
        self.tell()
        pause, last = TICK, 0.0
        async with contextlib.aclosing(conversation.changes.follow()) as changes:
            async for _ in changes:
                self.tell()
                # the first changes after a pause are shown at once: the turn, then its first word
                is_first = self._loop.time() - last > QUIET
                pause, last = (MIN_TICK if is_first else min(2 * pause, TICK)), self._loop.time()
                await asyncio.sleep(pause)

    def tell(self) -> None:
        """Tell the page what is new, if anything is; known secrets are masked."""
        talk = self.conversation
        running = any(turn.state == "running" for turn in talk.turns)
        info = {
            "chat": talk.name,
            "chats": self._chats,
            "title": talk.title,
            "model": name_of(talk),
            "system": talk.system and secrets.mask(talk.system),
            "options": self._options,
            "busy": running,
        }
        if news := self._told.news(info, talk.turns):
            self._carrier.send({"kind": "sync", **news})
        self._carrier.show(info)


def random_id() -> str:
    """Return an id that nothing else has."""
    return os.urandom(8).hex()


def name_of(conversation: Conversation) -> str:
    """Return the model that answers in a conversation, as far as its name means one."""
    try:
        return str(resolve.resolve(conversation.model))
    except UsageError:
        return conversation.model or ""


def _about(value: object) -> str:
    """Return the type and size of a value, without calling code that may be slow."""
    kind = type(value).__name__
    shape = getattr(value, "shape", None) if kind in SHAPED else None
    if isinstance(shape, tuple):
        return f"{kind} {' by '.join(map(str, shape))}"
    return f"{kind} of {len(value):,}" if type(value) in SIZED else kind  # type: ignore[arg-type] # as they have


def _files() -> list[str]:
    try:
        found = [one for one in Path.cwd().iterdir() if one.is_file()]
    except OSError:
        return []
    return sorted(one.name for one in found if not one.name.startswith("."))[:MAX_NAMES]


async def _resources() -> list[dict[str, str]]:
    """List what the MCP servers have that run; none is started for it."""
    if (mcp := sys.modules.get("ipychat.toolbox.mcp")) is None:
        return []
    found: list[dict[str, str]] = []
    for server in mcp.servers():
        if server.runs:
            with contextlib.suppress(ChatError):
                found += [
                    {"name": f"mcp:{server.name}/{one.name}", "about": one.description}
                    for one in await mcp.resources(server.name, allowed=_is_running)
                ]
    return found[:MAX_NAMES]


async def _is_running(_server: object) -> bool:
    return True


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


def _edited(question: Message, text: str) -> Message:
    """Return the question with another text, and with what went along with it."""
    texts = [part for part in question.parts if isinstance(part, TextPart)]
    return Message.asking(text, (part for part in question.parts if part not in texts[-1:]))


def _parts(files: Iterable[Any], buffers: list[bytes]) -> list[Part]:
    return [
        ImagePart.of_bytes(data, file["type"])
        if file["type"] in IMAGES
        else FilePart(file["name"], data, file["type"] or "application/octet-stream")
        for file, data in zip(files, buffers, strict=True)
    ]


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name == "effort" and value in {None, *config.EFFORTS}:
            continue
        if name not in {"temperature", "max_tokens"} or not isinstance(value, int | float | None):
            raise UsageError(f"{name} is no number that can be set here.")
    return {name: value for name, value in options.items() if value is not None}
