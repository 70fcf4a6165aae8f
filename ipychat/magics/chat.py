"""`%%chat` and `%chat`: ask, and show the answer while it comes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Protocol

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from ipychat import config
from ipychat.errors import ChatError, InterruptedAnswerError, UsageError
from ipychat.kernel.awaiting import waits
from ipychat.magics import flags as flags_
from ipychat.magics.endings import ending, stopped
from ipychat.magics.flags import at_least, flag
from ipychat.settings import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipychat.conversations import Conversation
    from ipychat.kernel.jobs import Job
    from ipychat.kernel.run import Run
    from ipychat.magics.questions import Questions
    from ipychat.messages import Event, Message, Reply
    from ipychat.race import Comparison
    from ipychat.turns import Turn

    class View(Protocol):
        """What shows an answer: a cell's view or a terminal's."""

        header: str
        """What is said above the answer."""

        def add(self, event: Event) -> None:
            """Show an event, now or soon."""
            ...

        async def close(self, reply: Reply, *, ending: str = "") -> None:
            """Show the whole reply for good, and how it ended."""
            ...


class Manner:
    """How an answer is shown, and where it goes besides."""

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
        """The model as it was written."""
        self.offers_code = offers_code
        """Whether the code of the answer goes into the next cell."""
        self.runs_scripts = runs_scripts
        """Whether pages in the answer are shown live, too."""


@magics_class
class ChatMagics(Magics):
    """The magics that ask."""

    shell: Any
    shown: Reply | Comparison | None = None
    """What the running cell has shown already, which its end need not show again."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.jobs: list[Job] = []
        self._panels: dict[str | None, Any] = {}
        """By the cells that show them."""
        self._greeted: list[Conversation] = []
        """The conversations of which the user knows that they continue."""

    @functools.cached_property
    def questions(self) -> Questions:
        """What makes questions of prompts and flags."""
        from ipychat.magics.questions import Questions

        return Questions(self.shell)

    @flag(
        "-m",
        "--model",
        action="append",
        default=[],
        help="Model to ask: provider:name, a bare name, or an alias; several answer side by side.",
    )
    @flag("--first", action="store_true", help="Of several models, keep the first that answers.")
    @flag("-c", "--chat", metavar="NAME", help="Conversation to use; by default the notebook's.")
    @flag("-s", "--system", metavar="TEXT", help="System message: what the model is told first.")
    @flag("-f", "--format", choices=FORMATS, help="How to show the answer.")
    @flag("-t", "--to", metavar="VARIABLE", help="Variable to put the reply into.")
    @flag(
        "-b", "--background", action="store_true", help="Return at once; the answer goes on here."
    )
    @flag("--no-history", action="store_true", help="Neither send nor keep the conversation.")
    @flag("--temperature", type=at_least(0), help="Sampling temperature.")
    @flag(
        "--max-tokens",
        type=at_least(1, int),
        metavar="N",
        help="Limit of the answer's length, in tokens.",
    )
    @flag(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Another option, sent to the service unchecked; may be repeated.",
    )
    @flag(
        "--timeout",
        type=at_least(0.001),
        metavar="SECONDS",
        help="Limit of the time for the whole answer.",
    )
    @flag("--proxy", metavar="URL", help="Proxy for this request: http:// or socks5://.")
    @flag(
        "--with",
        dest="with_",
        action="append",
        default=[],
        metavar="NAME",
        help="Send a summary of a value of the notebook; may be repeated.",
    )
    @flag(
        "--cells",
        type=at_least(1, int),
        default=0,
        metavar="N",
        help="Send the last N cells with their outputs.",
    )
    @flag("--file", action="append", default=[], metavar="PATH", help="Send a file along.")
    @flag(
        "--image",
        action="append",
        default=[],
        metavar="PATH-OR-VARIABLE",
        help="Send an image along.",
    )
    @flag(
        "--run-scripts",
        action="store_true",
        help="Show pages live, too: their scripts run and can reach the network.",
    )
    @flag(
        "--each",
        metavar="COLUMN",
        help="Ask once per row: {{it}} is the row, {{it.name}} its column.",
    )
    @flag("--into", metavar="COLUMN", help="Where the answers to --each go: df.name or a variable.")
    @flag(
        "--schema", metavar="NAME", help="Form of the answers: a class, a Literal or a JSON schema."
    )
    @flag(
        "--concurrency",
        type=at_least(1, int),
        metavar="N",
        help="Rows to ask at once; by default 64.",
    )
    @flag("--rpm", type=at_least(0.001), metavar="N", help="Limit of requests a minute.")
    @flag("--tpm", type=at_least(1), metavar="N", help="Limit of tokens a minute.")
    @flag(
        "--max-cost",
        type=at_least(1e-6),
        metavar="DOLLARS",
        help="Stop before it costs more than this.",
    )
    @flag(
        "--cached",
        action="store_true",
        help="Use the answer that was kept earlier, if there is one.",
    )
    @flag("--allow-secrets", action="store_true", help="Send secrets unmasked, this once.")
    @flag("--large", action="store_true", help="Send the question however large it is.")
    @flag("--raw", action="store_true", help="Send the prompt as written, without expanding {{…}}.")
    @flag("--dry-run", action="store_true", help="Show what would be sent; send nothing.")
    @no_var_expand
    @line_cell_magic
    @waits
    async def chat(self, line: str, cell: str | None = None) -> Any:
        """Ask a model; its answer streams in below.

        Use it as a cell (flags on the first line, the prompt below) or as a line (flags, then the
        prompt). The prompt is sent as written, but {{expressions}} are replaced by their values.
        A line's prompt that begins like a flag stands behind --.
        """
        from ipychat.magics.models import stoppable

        flags, text = flags_.parse(self.chat, line, self.questions.expand)
        if cell is not None and text:
            raise UsageError(
                f"A %%chat line holds flags only, and {text.split()[0]!r} is none.\n"
                "Write the prompt on the lines below, or use %chat."
            )
        if flags.to is not None and not self.is_free(flags.to):
            raise UsageError(f"--to wants the name of a variable of yours, not {flags.to!r}.")
        models = flags.model or [None]
        if is_race := len(models) > 1 or flags.first:
            from ipychat.magics import race

            race.check(flags)
        if flags.each is not None or flags.into or flags.schema:
            from ipychat.magics import each

            return await each.run(self, text if cell is None else cell, flags)
        question = await self.questions.message(text if cell is None else cell, flags)
        asked: dict[str, Any] = {
            "model": models[0],
            "system": flags.system,
            "history": not flags.no_history,
            "options": flags_.options_of(flags),
        }
        conversation = self.conversation(flags.chat)
        await stoppable(conversation.load(turns=not flags.no_history))
        if flags.dry_run:
            for model in models:
                await self._show_request(conversation, question, asked | {"model": model})
            return None
        if is_race:
            return await race.run(self, conversation, question, asked, flags)
        manner = self._manner(flags, conversation, models[0])
        if flags.background:
            return self._begin_job(conversation, question, asked, manner)
        return await self.answer(conversation, question, asked, manner)

    def _manner(self, flags: Namespace, conversation: Conversation, model: str | None) -> Manner:
        from ipychat import catalog
        from ipychat.kernel import notebook

        if flags.run_scripts and not (
            notebook.is_kernel(self.shell) and flags.format in {None, "html"}
        ):
            raise UsageError("--run-scripts shows pages in a notebook, with --format html.")
        own = "html" if flags.run_scripts else catalog.format_of(model or conversation.model)
        form = flags.format or own or config.current().format
        return Manner(
            form,
            to=flags.to,
            model=model,
            offers_code=form == "code",
            runs_scripts=flags.run_scripts,
        )

    @line_magic("%chat")  # type: ignore[arg-type] # IPython's hint forgets the name
    def not_first(self, line: str) -> None:
        """Say what is wrong where `%%chat` is not a cell's first line."""
        raise UsageError(
            "%%chat must stand on the first line of its cell: move what is above it elsewhere.\n"
            "Inside code, ask with %chat, or with await ipychat.ask(…)."
        )

    @flag("-m", "--model", help="Model to use from now on.")
    @flag("-c", "--chat", metavar="NAME", help="Conversation to show; by default the notebook's.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_panel(self, line: str) -> Any:
        """Show a panel to chat in, on the same conversation as the cells."""
        flags, words = flags_.parse_words(self.chat_panel, line, self.questions.expand)
        if words:
            raise UsageError(f"%chat_panel takes flags only, and {words[0]!r} is none.")
        from ipychat.display.panel import panel
        from ipychat.kernel import notebook
        from ipychat.magics.models import stoppable

        await stoppable(self.conversation(flags.chat).load())
        cell, _ = notebook.running_cell(self.shell)
        if cell in self._panels:
            self._panels.pop(cell).close()  # the cell runs again: its output has gone
        shown = panel(model=flags.model, chat=flags.chat)
        if cell is not None:
            self._panels[cell] = shown
        return shown

    @line_magic
    @waits
    async def chat_jobs(self, line: str) -> list[Job]:
        """List the background answers; `%chat_jobs wait` waits for all of them."""
        match line.strip():
            case "wait":
                for job in self.jobs:
                    try:
                        await job
                    except InterruptedAnswerError:
                        raise  # the wait was
                    except ChatError:
                        pass  # its own cell shows it
            case "":
                pass
            case other:
                raise UsageError(f"%chat_jobs takes nothing or wait, not {other!r}.")
        if not self.jobs:
            print("No background answers yet: %%chat --background starts one.")
        return self.jobs

    @line_magic
    def chat_stop(self, line: str) -> None:
        """Stop background answers: all of them, or the ones with these numbers."""
        wanted = line.split()
        numbers = {str(job.number) for job in self.jobs}
        for number in wanted:
            if number not in numbers:
                raise UsageError(f"There is no job {number}. See %chat_jobs.")
        stopped = [
            job
            for job in self.jobs
            if job.state == "running" and (not wanted or str(job.number) in wanted)
        ]
        for job in stopped:
            job.stop()
        if not stopped:
            what = "no background answer is running" if not wanted else "it has ended already"
            print(f"Nothing to stop: {what}.")

    def is_free(self, name: str) -> bool:
        """Whether a variable of that name is the user's to set: not Python's, not IPython's."""
        import builtins
        import keyword

        own = {"In", "Out", "get_ipython", "exit", "quit", *dir(builtins)}
        word = name.isidentifier() and not keyword.iskeyword(name)
        return word and name not in own and not name.startswith("_")

    def conversation(self, name: str | None = None) -> Conversation:
        """Return the conversation of that name, else the notebook's own."""
        from ipychat import conversations

        return conversations.conversation(name)

    def known_conversation(self, name: str | None = None) -> Conversation:
        """Return the conversation of that name, which must be there already."""
        from ipychat import conversations

        known = conversations.names()
        if name and name not in known:
            there = f"There are: {', '.join(known)}." if known else "There is none yet."
            raise UsageError(f"There is no conversation {name!r}. {there}")
        return self.conversation(name)

    async def answer(
        self, conversation: Conversation, question: Message, asked: dict[str, Any], manner: Manner
    ) -> Reply:
        """Ask, show the answer in the running cell, and return it."""
        from ipychat.kernel.run import in_front

        turn, run, view = self._begin(conversation, question, asked, manner)
        with in_front(run):
            reply = await self._settle(turn, run, view, manner, alone=False)
        self.shown = reply
        return reply

    async def _show_request(
        self, conversation: Conversation, question: Message, asked: dict[str, Any]
    ) -> None:
        from ipychat.display import request as shown
        from ipychat.kernel import notebook
        from ipychat.wire import large

        cell, execution = notebook.running_cell(self.shell)
        request = conversation.request(question, cell=cell, execution=execution, **asked)
        self.publish(await large.run(shown.bundle, request))

    # -- how it is answered

    def _begin(
        self,
        conversation: Conversation,
        question: Message,
        asked: dict[str, Any],
        manner: Manner,
        *,
        background: bool = False,
    ) -> tuple[Turn, Run, View]:
        from ipychat.kernel import notebook
        from ipychat.kernel.run import Run

        cell, execution = notebook.running_cell(self.shell)
        turn = conversation.begin(
            question, cell=cell, execution=execution, background=background, **asked
        )
        view = self._view(manner, background=background)
        view.header = self._header(conversation, turn, manner)
        run = Run(_watch(turn, view))
        turn.stop = run.stop
        return turn, run, view

    def _view(self, manner: Manner, *, background: bool) -> View:
        from ipychat import replay
        from ipychat.kernel import notebook

        if not notebook.is_kernel(self.shell):
            from ipychat.display.terminal import TerminalView

            return TerminalView(None if background else sys.stdout, format=manner.format)
        from ipychat.display.cell import CellView

        live, apart = notebook.is_watched(self.shell), replay.is_apart()
        publish = notebook.publisher(self.shell)
        view = CellView(publish, format=manner.format, live=live, in_one=apart)
        if background and (apart or not live):
            view.reserve()
        return view

    def _header(self, conversation: Conversation, turn: Turn, manner: Manner) -> str:
        """Say who answers where that is not what was written, and what else must be known."""
        said = []
        from ipychat import catalog, replay

        named = manner.model or conversation.model
        if not replay.is_apart():  # else all that another machine's settings name is said, too
            named = named or config.current().model or catalog.named_by_the_environment()
        if turn.request.recorded is None and named not in {turn.model.name, str(turn.model)}:
            said.append(str(turn.model))
        if not (named or replay.is_apart()) and (found := catalog.default().announced):
            said.append(found)
        return " · ".join([*said, *(self.standing(conversation) if turn.journal else ())])

    def standing(self, conversation: Conversation) -> Iterator[str]:
        """Give what must be known of the conversation that goes on."""
        if conversation.continues and conversation not in self._greeted:
            turns = counted(conversation.continues, "turn")
            yield f"continues {turns}; %chat_new starts clean"
        self._greeted.append(conversation)
        if stale := conversation.stale_count:
            yield f"{counted(stale, 'later turn')} {'is' if stale == 1 else 'are'} stale"

    async def _settle(
        self, turn: Turn, run: Run, view: View, manner: Manner, *, alone: bool
    ) -> Reply:
        """Wait for the end and show it, whichever it is."""
        from ipychat.kernel import notebook

        try:
            await run.wait()
        except ChatError as error:
            await view.close(turn.reply, ending=_broken(turn, error, alone=alone))
            raise
        except asyncio.CancelledError:
            await view.close(turn.reply, ending=stopped(turn.reply))
            raise
        # in a terminal the error of an interrupt stands right below what came, and says it all
        says_it_all = turn.reply.is_empty or not notebook.is_kernel(self.shell)
        is_said = run.interrupted and says_it_all
        await view.close(turn.reply, ending="" if is_said else _ending(turn, run))
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
            from ipychat.display import cell, live

            for page in cell.pages(reply.text):
                shown = live.bundle(live.LivePage(page=page), "(a live page)")
                notebook.publisher(self.shell)(shown)
        return reply

    def _begin_job(
        self, conversation: Conversation, question: Message, asked: dict[str, Any], manner: Manner
    ) -> Job:
        from ipychat import shapes
        from ipychat.kernel import notebook
        from ipychat.kernel.jobs import Job

        shell = self.shell
        turn, run, view = self._begin(conversation, question, asked, manner, background=True)
        title = shapes.mask(question.text).strip().splitlines()[-1:] or ["…"]
        job = Job(
            len(self.jobs) + 1,
            title[0][:60],
            run,
            lambda run: self._settle(turn, run, view, manner, alone=True),
            functools.partial(notebook.publisher, shell) if notebook.is_kernel(shell) else None,
        )
        self.jobs.append(job)
        if not notebook.runs_at_the_prompt(self.shell):
            print("It stands still at the prompt: await it, or let %gui asyncio run it there.")
        return job

    def publish(self, data: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
        """Show something in the running cell."""
        from ipychat.kernel import notebook

        notebook.publisher(self.shell)(data, metadata)


def counted(number: int, what: str) -> str:
    """Return the number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"


async def _watch(turn: Turn, view: View) -> None:
    async with contextlib.aclosing(turn.events()) as events:
        async for event in events:
            view.add(event)
            await asyncio.sleep(0)  # a service at full speed leaves room for painting


def _ending(turn: Turn, run: Run) -> str:
    return stopped(turn.reply) if run.stopped else ending(turn.reply)


def _broken(turn: Turn, error: ChatError, *, alone: bool) -> str:
    """Mark what an error left; in a cell of its own job nobody else shows the error itself."""
    if alone:
        return str(error)
    return "Broken off: what came is kept." if turn.reply.text else ""
