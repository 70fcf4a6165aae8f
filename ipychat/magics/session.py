"""State shared by the magics of one shell: conversations, jobs, and how answers are shown."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any, Protocol

from ipychat import config
from ipychat.errors import ChatError, InterruptedAnswerError, UsageError
from ipychat.text.characters import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipychat.chat.conversations import Conversation
    from ipychat.chat.race import Comparison
    from ipychat.chat.turn import Turn
    from ipychat.kernel.jobs import Job
    from ipychat.kernel.run import Run
    from ipychat.magics.questions import Questions
    from ipychat.messages import Event, Place, Question, Reply


class View(Protocol):
    """Shows an answer, in a cell or a terminal."""

    header: str
    """Shown above the answer."""

    def add(self, event: Event) -> None:
        """Show an event, now or soon."""
        ...

    async def close(self, reply: Reply, *, ending: str = "") -> None:
        """Show the final reply, and how it ended."""
        ...


class Manner:
    """How an answer is shown, and what else is done with it."""

    def __init__(
        self,
        format: str,  # noqa: A002 - the flag's name
        *,
        to: str | None = None,
        model: str | None = None,
        offers_code: bool = False,
        runs_scripts: bool = False,
    ) -> None:
        self.format = format
        self.to = to
        self.model = model
        """The model as the user wrote it."""
        self.offers_code = offers_code
        """Whether the answer's code is put into the next cell."""
        self.runs_scripts = runs_scripts
        """Whether pages in the answer are also shown live."""


class Session:
    """A shell's conversations and jobs."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.jobs: list[Job] = []
        self.shown: Reply | Comparison | None = None
        """What the running cell has already shown, so that its end need not show it again."""
        self._greeted: list[Conversation] = []
        """Conversations that the user has been told continue from before."""

    @functools.cached_property
    def questions(self) -> Questions:
        """Creates messages from prompts and flags."""
        from ipychat.magics.questions import Questions

        return Questions(self.shell)

    def is_free(self, name: str) -> bool:
        """Whether the user may set a variable of that name: it isn't Python's or IPython's."""
        import builtins
        import keyword

        own = {"In", "Out", "get_ipython", "exit", "quit", *dir(builtins)}
        word = name.isidentifier() and not keyword.iskeyword(name)
        return word and name not in own and not name.startswith("_")

    def conversation(self, name: str | None = None) -> Conversation:
        """Return the conversation of that name, by default the notebook's own."""
        from ipychat.chat import conversations

        return conversations.conversation(name)

    def known_conversation(self, name: str | None = None) -> Conversation:
        """Return the existing conversation of that name."""
        from ipychat.chat import conversations

        known = conversations.names()
        if name and name not in known:
            there = f"There are: {', '.join(known)}." if known else "There is none yet."
            raise UsageError(f"There is no conversation {name!r}. {there}")
        return self.conversation(name)

    def place(self, conversation: Conversation | None, *, background: bool = False) -> Place:
        """Return the place of the running cell's question, in a conversation or in none."""
        from ipychat.kernel import notebook
        from ipychat.messages import Place

        name = conversation.name if conversation else None
        return Place(name, *notebook.running_cell(self.shell), background)

    async def answer(self, conversation: Conversation, question: Question, manner: Manner) -> Reply:
        """Ask, show the answer in the running cell, and return it."""
        from ipychat.kernel.run import in_front

        turn, run, view = self._begin(conversation, question, manner)
        with in_front(run):
            reply = await self._settle(turn, run, view, manner, alone=False)
        self.shown = reply
        return reply

    async def show(self, question: Question) -> None:
        """Show what would be sent, without sending anything."""
        from ipychat.display import request
        from ipychat.wire import offload

        self.publish(await offload.run(request.bundle, question))

    # -- how it is answered

    def _begin(
        self, conversation: Conversation, question: Question, manner: Manner
    ) -> tuple[Turn, Run, View]:
        from ipychat.kernel.run import Run

        turn = conversation.begin(question)
        view = self._view(manner, question)
        view.header = self._header(conversation, turn, manner)
        run = Run(_watch(turn, view))
        turn.stop = run.stop
        return turn, run, view

    def _view(self, manner: Manner, question: Question) -> View:
        from ipychat.kernel import notebook
        from ipychat.store import replay

        background = question.place.background
        if not notebook.is_kernel(self.shell):
            from ipychat.display.terminal import TerminalView

            stream, asked = None if background else sys.stdout, str(question.model)
            return TerminalView(stream, format=manner.format, asked=asked)
        from ipychat.display.cell import CellView

        live, apart = notebook.is_watched(self.shell), replay.is_apart()
        publish = notebook.publisher(self.shell)
        view = CellView(publish, format=manner.format, live=live, in_one=apart)
        if background and (apart or not live):
            view.reserve()
        stopping = "%chat_stop stops it" if background else "interrupt the kernel to stop"
        view.begin(str(question.model), stopping)
        return view

    def _header(self, conversation: Conversation, turn: Turn, manner: Manner) -> str:
        """Say which model answers, if the user wrote another name, and what else matters."""
        said = []
        from ipychat.catalog import resolve
        from ipychat.store import replay

        named = manner.model or conversation.model
        # else everything that another machine's settings name would be reported
        if not replay.is_apart():
            named = named or config.current().model or resolve.named_by_the_environment()
        if turn.request.recorded is None and named not in {turn.model.name, str(turn.model)}:
            said.append(str(turn.model))
        if not (named or replay.is_apart()) and (found := resolve.default().announced):
            said.append(found)
        return " · ".join([*said, *(self.standing(conversation) if turn.journal else ())])

    def standing(self, conversation: Conversation) -> Iterator[str]:
        """Yield what the user must know about a conversation that continues."""
        if conversation.continues and conversation not in self._greeted:
            turns = counted(conversation.continues, "turn")
            yield f"continues {turns}; %chat_new starts clean"
        self._greeted.append(conversation)
        if stale := conversation.stale_count:
            yield f"{counted(stale, 'later turn')} {'is' if stale == 1 else 'are'} stale"

    async def _settle(
        self, turn: Turn, run: Run, view: View, manner: Manner, *, alone: bool
    ) -> Reply:
        """Wait for the end of the answer, and show it, however it ended."""
        from ipychat.kernel import notebook
        from ipychat.magics.endings import broken, ending, stopped

        try:
            await run.wait()
        except ChatError as error:
            # a cell shows the error itself below this; a job of its own has nothing that would
            said = str(error) if alone else broken(turn.reply)
            await view.close(turn.reply, ending=said)
            raise
        except asyncio.CancelledError:
            await view.close(turn.reply, ending=stopped(turn.reply))
            raise
        ended = stopped if run.stopped else ending
        # the error of an interrupt stands right below what came, and says it all
        await view.close(turn.reply, ending="" if run.interrupted else ended(turn.reply))
        reply = turn.reply
        if manner.to:
            self.shell.user_ns[manner.to] = reply
        if run.interrupted:
            raise InterruptedAnswerError.of(reply)
        if manner.offers_code and not alone:
            from ipychat.magics import next_cell

            if said := next_cell.offer(reply, self.shell):
                print(said)
        if manner.runs_scripts:
            from ipychat.display import cell, live_page

            for page in cell.pages(reply.text):
                shown = live_page.bundle(live_page.LivePage(page=page), "(a live page)")
                notebook.publisher(self.shell)(shown)
        return reply

    def begin_job(self, conversation: Conversation, question: Question, manner: Manner) -> Job:
        """Ask in the background, while the notebook goes on."""
        from ipychat.kernel import notebook
        from ipychat.kernel.jobs import Job
        from ipychat.text import shapes

        shell = self.shell
        turn, run, view = self._begin(conversation, question, manner)
        title = shapes.mask(question.prompt[-1].text).strip().splitlines()[-1:] or ["…"]
        job = Job(
            len(self.jobs) + 1,
            title[0][:60],
            run,
            lambda run: self._settle(turn, run, view, manner, alone=True),
            functools.partial(notebook.publisher, shell) if notebook.is_kernel(shell) else None,
        )
        self.jobs.append(job)
        if not notebook.runs_at_the_prompt(self.shell):
            print("It does not run at the prompt: await it, or use %gui asyncio.")
        return job

    def publish(self, data: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
        """Show something in the running cell."""
        from ipychat.kernel import notebook

        notebook.publisher(self.shell)(data, metadata)


async def _watch(turn: Turn, view: View) -> None:
    async with contextlib.aclosing(turn.events()) as events:
        async for event in events:
            view.add(event)
            await asyncio.sleep(0)  # a fast service must leave time for painting
