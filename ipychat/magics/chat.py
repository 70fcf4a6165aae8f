"""`%%chat` and `%chat`: ask, and show the answer as it arrives."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from ipychat import config
from ipychat.errors import ChatError, InterruptedAnswerError, UsageError
from ipychat.kernel.awaiting import waits
from ipychat.magics import flags as flags_
from ipychat.magics.flags import at_least, flag, heading
from ipychat.magics.session import Manner
from ipychat.magics.settings import FORMATS

if TYPE_CHECKING:
    from ipychat.chat.conversations import Conversation
    from ipychat.kernel.jobs import Job
    from ipychat.magics.session import Session
    from ipychat.messages import Question


@magics_class
class ChatMagics(Magics):
    """The magics that ask questions."""

    shell: Any

    def __init__(self, session: Session) -> None:
        super().__init__(session.shell)
        self._session = session
        self._panels: dict[str | None, Any] = {}
        """By the cells that show them."""

    @heading("Who is asked, and in which conversation")
    @flag(
        "-m",
        "--model",
        action="append",
        default=[],
        help="Model to ask: provider:name, a bare name, or an alias; several answer side by side.",
    )
    @flag("--first", action="store_true", help="Of several models, keep the first that answers.")
    @flag("-c", "--chat", metavar="NAME", help="Conversation to use; by default the notebook's.")
    @flag("--no-history", action="store_true", help="Neither send nor keep the conversation.")
    @flag("-s", "--system", metavar="TEXT", help="System message: what the model is told first.")
    @heading("What goes along")
    @flag(
        "--with",
        dest="with_",
        action="append",
        default=[],
        metavar="NAME",
        help="Send a summary of a value, or what an MCP server has: mcp:SERVER/URI. Repeatable.",
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
    @flag("--raw", action="store_true", help="Send the prompt as written, without expanding {{…}}.")
    @heading("What the model may do")
    @flag(
        "--tools",
        action="append",
        default=[],
        metavar="NAMES",
        help="Functions of yours, kernel, mcp:SERVER, web; with commas, and repeatable.",
    )
    @flag(
        "--approve",
        choices=config.APPROVALS,
        help="ask you about each call, about those that do more than read (reads), or never (all).",
    )
    @flag(
        "--max-steps",
        type=at_least(1, int),
        metavar="N",
        help="Tool calls after which it ends; by default 20.",
    )
    @heading("The answer")
    @flag("-f", "--format", choices=FORMATS, help="How to show the answer.")
    @flag("-t", "--to", metavar="VARIABLE", help="Variable to put the reply into.")
    @flag(
        "-b", "--background", action="store_true", help="Return at once; the answer goes on here."
    )
    @flag(
        "--effort",
        choices=config.EFFORTS,
        help="How hard the model thinks; other levels of a service's own go by --option.",
    )
    @flag(
        "--max-tokens",
        type=at_least(1, int),
        metavar="N",
        help="Limit of the answer's length, in tokens.",
    )
    @flag("--temperature", type=at_least(0), help="Sampling temperature.")
    @flag(
        "--cached",
        action="store_true",
        help="Use the answer that was kept earlier, if there is one.",
    )
    @flag(
        "--run-scripts",
        action="store_true",
        help="Show pages live, too: their scripts run and can reach the network.",
    )
    @heading("How it is sent")
    @flag("--dry-run", action="store_true", help="Show what would be sent; send nothing.")
    @flag("--large", action="store_true", help="Send the question however large it is.")
    @flag("--allow-secrets", action="store_true", help="Send secrets unmasked, this once.")
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
    @heading("Many rows at once")
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
    @no_var_expand
    @line_cell_magic
    @waits
    async def chat(self, line: str, cell: str | None = None) -> Any:
        """Ask a model; its answer streams in below.

            %%chat
            Why does {{df.shape[0]}} differ from {{len(rows)}}?

            %chat --with df Which column has gaps?

            %%chat -m openai:gpt-6-luna -m anthropic:claude-sonnet-5-5 --cells 3
            What is the next step?

        As a cell it has its flags on the first line and the prompt below; as a line, flags, then
        the prompt. The prompt is sent as written, but {{expressions}} are replaced by their values.
        A line's prompt that begins like a flag stands behind --.
        """
        from ipychat.catalog import resolve
        from ipychat.kernel.awaiting import stoppable
        from ipychat.toolbox import given

        flags, text = flags_.parse(self.chat, line, self._session.questions.expand)
        if cell is not None and text:
            raise UsageError(
                f"The %%chat line takes flags only, and {text.split()[0]!r} is not one.\n"
                "Write the prompt on the lines below, or use %chat."
            )
        if flags.to is not None and not self._session.is_free(flags.to):
            raise UsageError(f"--to takes the name of a variable of yours, not {flags.to!r}.")
        models = flags.model or [None]
        if is_race := len(models) > 1 or flags.first:
            from ipychat.magics import race

            race.check(flags)
        if flags.each is not None or flags.into or flags.schema:
            from ipychat.magics import each

            return await each.run(self._session, text if cell is None else cell, flags)
        message = await self._session.questions.message(text if cell is None else cell, flags)
        conversation = self._session.conversation(flags.chat)
        await stoppable(conversation.load(turns=not flags.no_history))
        for model in models:
            await stoppable(resolve.ready(model or conversation.model))
        place = self._session.place(
            None if flags.no_history else conversation, background=flags.background
        )
        options = conversation.with_tools(flags_.options_of(flags))
        reading = given.take(options, only_reads=bool(is_race))
        waits_for_tools = options["tools"] or config.current().tools
        options = await (stoppable(reading) if waits_for_tools else reading)
        questions = [
            conversation.question(
                message,
                model=model,
                system=flags.system,
                place=place,
                options=options,
            )
            for model in models
        ]
        if flags.dry_run:
            for question in questions:
                await self._session.show(question)
            return None
        if is_race:
            return await race.run(self._session, conversation, questions, flags)
        [question] = questions
        manner = self._manner(flags, question)
        if flags.background:
            return self._session.begin_job(conversation, question, manner)
        return await self._session.answer(conversation, question, manner)

    def _manner(self, flags: Namespace, question: Question) -> Manner:
        from ipychat.catalog import routes
        from ipychat.kernel import notebook

        if flags.run_scripts and not (
            notebook.is_kernel(self.shell) and flags.format in {None, "html"}
        ):
            raise UsageError("--run-scripts shows pages in a notebook, with --format html.")
        own = "html" if flags.run_scripts else routes.format_of(question)
        form = flags.format or own or config.current().format
        return Manner(
            form,
            to=flags.to,
            model=next(iter(flags.model), None),
            offers_code=form == "code",
            runs_scripts=flags.run_scripts,
        )

    @line_magic("%chat")  # type: ignore[arg-type] # IPython's hint drops the name
    def not_first(self, line: str) -> None:
        """Explain what is wrong if `%%chat` is not on a cell's first line."""
        raise UsageError(
            "%%chat must stand on the first line of its cell: move what is above it elsewhere.\n"
            "Inside code, ask with %chat, or with await ipychat.ask(…)."
        )

    @flag("-m", "--model", help="Model to use from now on.")
    @flag("-c", "--chat", metavar="NAME", help="Conversation to show; by default the notebook's.")
    @flag("--side", action="store_true", help="Show it at JupyterLab's side.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_panel(self, line: str) -> Any:
        """Show a panel to chat in, on the same conversation as the cells."""
        flags, words = flags_.parse_words(self.chat_panel, line, self._session.questions.expand)
        if words:
            raise UsageError(f"%chat_panel takes flags only, and {words[0]!r} is not one.")
        from ipychat.kernel import notebook
        from ipychat.kernel.awaiting import stoppable

        conversation = self._session.conversation(flags.chat)
        await stoppable(conversation.load())
        if flags.side:
            self._show_side(conversation, flags.model)
            return None
        from ipychat.display.panel import panel

        cell, _ = notebook.running_cell(self.shell)
        if cell in self._panels:
            self._panels.pop(cell).close()  # the cell runs again: its output is gone
        shown = panel(model=flags.model, chat=flags.chat)
        if cell is not None:
            self._panels[cell] = shown
        return shown

    def _show_side(self, conversation: Conversation, model: str | None) -> None:
        from ipychat.catalog import resolve
        from ipychat.display import dock

        if model:
            conversation.model = resolve.lasting(model)
        dock.show(conversation.name)

    @line_magic
    @waits
    async def chat_jobs(self, line: str) -> list[Job]:
        """List the background answers; `%chat_jobs wait` waits for all of them."""
        match line.strip():
            case "wait":
                for job in self._session.jobs:
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
        if not self._session.jobs:
            print("No background answers yet: %%chat --background starts one.")
        return self._session.jobs

    @line_magic
    def chat_stop(self, line: str) -> None:
        """Stop background answers: all of them, or the ones with these numbers."""
        wanted = line.split()
        numbers = {str(job.number) for job in self._session.jobs}
        for number in wanted:
            if number not in numbers:
                raise UsageError(f"There is no job {number}. See %chat_jobs.")
        stopped = [
            job
            for job in self._session.jobs
            if job.state == "running" and (not wanted or str(job.number) in wanted)
        ]
        for job in stopped:
            job.stop()
        if not stopped:
            what = "no background answer is running" if not wanted else "it has ended already"
            print(f"Nothing to stop: {what}.")
