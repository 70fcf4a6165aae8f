"""The conversation and its turns, and the files beside the notebook.

`%chat_history`, `%chat_new`, `%chat_fork`, `%chat_undo`, `%chat_keep`, `%chat_fix`,
`%chat_continue`, `%chat_receipt`, `%chat_cassette` and `%chat_audit`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ipychat import config, secrets
from ipychat.errors import UsageError
from ipychat.kernel.awaiting import stoppable, waits
from ipychat.magics import flags as flags_
from ipychat.magics.flags import flag
from ipychat.text.characters import counted, harmless

if TYPE_CHECKING:
    from ipychat.chat.conversations import Conversation
    from ipychat.magics.session import Session
    from ipychat.messages import Reply

FIX = """\
A cell of my notebook failed. Say in two or three sentences what is wrong, then give the whole
corrected cell in one Python code block."""


@magics_class
class HistoryMagics(Magics):
    """The magics for conversations."""

    shell: Any

    def __init__(self, session: Session) -> None:
        super().__init__(session.shell)
        self._session = session

    @flag(
        "--export",
        metavar="FILE",
        help="Write the conversation to this file: a page if it ends in .html, else Markdown.",
    )
    @flag("--search", metavar="WORDS", help="List the turns that have all of these words.")
    @flag("--title", metavar="TEXT", help="Give the conversation this title.")
    @flag("--drop", type=int, metavar="N", help="Drop turn number N.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_history(self, line: str) -> None:
        """Show the notebook's conversation, or the one with the name given.

        `--search` looks through all of the notebook's conversations.
        """
        flags, words = flags_.parse_words(self.chat_history, line, self._session.questions.expand)
        if flags.search is not None:
            await self._search(flags.search)
            return
        conversation = await self._read(" ".join(words) or None)
        if flags.title is not None:
            conversation.title = flags.title
            print(f"The title of {conversation.name} is now: {harmless(conversation.title)}")
            return
        if flags.drop is not None:
            conversation.drop(flags.drop)
            print(f"Dropped turn {flags.drop} of {conversation.name}.")
            return
        if not conversation.turns and not flags.export:
            print(f"Conversation {conversation.name} is empty.")
            return
        if flags.export:
            written = await stoppable(asyncio.to_thread(_written, conversation, flags.export))
            _export(flags.export, written)
            print(f"Wrote {conversation.name} to {flags.export}.")
            return
        text = await stoppable(asyncio.to_thread(conversation.to_markdown))
        html = await stoppable(asyncio.to_thread(_html, text))
        self._session.publish({"text/html": html, "text/plain": text})

    async def _search(self, words: str) -> None:
        from ipychat.chat import search
        from ipychat.text import tables

        found = await stoppable(asyncio.to_thread(search.search, words))
        rows = [(one.chat, str(one.number), one.at, one.excerpt) for one in found]
        if rows:
            self._session.publish(tables.bundle(rows, ("conversation", "turn", "asked", "text")))
        else:
            print(f"No turn of this notebook has these words: {harmless(words)}")

    async def _read(self, name: str | None = None) -> Conversation:
        """Return the existing conversation of that name, with its turns loaded."""
        conversation = self._session.known_conversation(name)
        await stoppable(conversation.load())
        return conversation

    @line_magic
    @waits
    async def chat_new(self, line: str) -> None:
        """Clear the notebook's conversation, or the one with the name given."""
        conversation = await self._read(flags_.unquoted(line) or None)
        turns = counted(len(conversation.turns), "turn")
        conversation.clear()
        print(f"Conversation cleared ({turns}).")

    @line_magic
    @waits
    async def chat_fork(self, line: str) -> None:
        """Copy the notebook's conversation under the name given."""
        name = flags_.unquoted(line)
        if not name:
            raise UsageError("%chat_fork needs the name of the copy.")
        fork = (await self._read()).fork(name)
        turns = counted(len(fork.turns), "turn")
        print(f"Copied {turns} to {name}. To go on there: --chat {name}.")

    @line_magic
    @waits
    async def chat_undo(self, line: str) -> None:
        """Drop the last turn of the notebook's conversation, or of the one with the name given."""
        conversation = await self._read(flags_.unquoted(line) or None)
        if not conversation.turns:
            raise UsageError(f"{conversation.name} has no turn to drop.")
        conversation.undo()
        print(f"Dropped the last turn; {counted(len(conversation.turns), 'turn')} left.")

    @flag("-c", "--chat", metavar="NAME", help="Conversation to use; by default the notebook's.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_keep(self, line: str) -> None:
        """Continue from another answer of the last race: the one with the number given."""
        flags, words = flags_.parse_words(self.chat_keep, line, self._session.questions.expand)
        if len(words) != 1 or not words[0].isdecimal():
            raise UsageError("%chat_keep needs the number of an answer of the last race.")
        conversation = await self._read(flags.chat)
        turn = conversation.keep(int(words[0]))
        print(f"This conversation now continues from the answer of {turn.model}.")

    @flag("-m", "--model", help="Model to ask.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_fix(self, line: str) -> Reply:
        """Explain the last error and put a corrected cell below; a hint of yours may follow."""
        flags, hint = flags_.parse(self.chat_fix, line, self._session.questions.expand)
        from ipychat.catalog import resolve
        from ipychat.context import failures
        from ipychat.magics.session import Manner

        resolve.learn_secrets()

        text = "\n\n".join(filter(None, [FIX, hint, *failures.describe(self.shell)]))
        conversation = await self._read()
        await stoppable(resolve.ready(flags.model or conversation.model))
        question = conversation.question(
            text, model=flags.model, place=self._session.place(conversation)
        )
        manner = Manner("markdown", model=flags.model, offers_code=True)
        return await self._session.answer(conversation, question, manner)

    @flag("-m", "--model", help="Model to ask; by default the one whose answer was cut off.")
    @flag("-c", "--chat", metavar="NAME", help="Conversation to use; by default the notebook's.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_continue(self, line: str) -> Reply:
        """Continue the last answer, which was cut off or stopped; a hint of yours may follow.

        The rest becomes a turn of its own.
        """
        flags, hint = flags_.parse(self.chat_continue, line, self._session.questions.expand)
        from ipychat.catalog import resolve
        from ipychat.chat import continuation
        from ipychat.magics.session import Manner

        conversation = await self._read(flags.chat)
        await stoppable(resolve.ready(flags.model or conversation.model))
        place = self._session.place(conversation)
        question = continuation.question(conversation, place, model=flags.model, hint=hint)
        manner = Manner(config.current().format, model=flags.model or str(question.model))
        return await self._session.answer(conversation, question, manner)

    @line_magic
    @waits
    async def chat_receipt(self, line: str) -> None:
        """Show what the last turn asked, exactly, and what it cost; or the turn of a number."""
        from ipychat.display import request

        conversation = await self._read()
        number = line.strip() or str(len(conversation.turns))
        if not number.isdecimal():
            raise UsageError(f"%chat_receipt takes the number of a turn, not {number!r}.")
        turn = conversation.turn(int(number))
        self._session.publish(request.receipt(turn.reply, conversation.receipt(turn)))

    @line_magic
    def chat_cassette(self, line: str) -> None:
        """List the answers that are kept beside this notebook.

        `%chat_cassette show ENTRY` shows one. After a run of the whole notebook,
        `%chat_cassette prune` lists those that no notebook asks any more, and
        `%chat_cassette prune --yes` removes them.
        """
        from ipychat.display import cassette as shown
        from ipychat.store import replay

        answers = replay.cassette()
        match line.split():
            case []:
                listed = list(answers.all())
                if listed:
                    self._session.publish(shown.entries(listed))
                print(f"{counted(len(listed), 'answer')} in {_beside(answers.folder)}")
            case ["show", name]:
                found = [one for one in answers.all() if one.receipt.hash.startswith(name)]
                if len(found) != 1:
                    raise UsageError(f"{len(found) or 'No'} entries begin with {name!r}.")
                self._session.publish(shown.entry(found[0]))
            case ["prune"]:
                found = [entry for entry, _ in replay.stale()]
                if found:
                    self._session.publish(shown.entries(found))
                said = counted(len(found), "answer")
                print(f"{said} no longer asked for. %chat_cassette prune --yes removes them.")
            case ["prune", "--yes"]:
                print(f"Removed {counted(len(replay.prune()), 'answer')}.")
            case _:
                raise UsageError("%chat_cassette takes nothing, show ENTRY, or prune [--yes].")

    @no_var_expand
    @line_magic
    @waits
    async def chat_audit(self, line: str) -> None:
        """Look for secrets in the notebooks, cassettes and folders that you name.

        Without a name: in this notebook, as it was last saved, and in its cassette.
        """
        from ipychat import audit
        from ipychat.text import tables

        magic: Any = self.chat_audit  # type: ignore[misc] # IPython's hint forgets self
        _, paths = flags_.parse_words(magic, line, self._session.questions.expand)
        searched = [Path(path) for path in paths or _of_this_notebook()]
        looked_at, found = await stoppable(asyncio.to_thread(audit.scan, searched))
        if found:
            self._session.publish(tables.bundle([one.row() for one in found], audit.HEADS))
        print(audit.summary(looked_at, found))


def _written(conversation: Conversation, name: str) -> str:
    """Return the conversation as its file will hold it, by the file's name."""
    from ipychat.display import export

    as_page = name.lower().endswith((".html", ".htm"))
    return export.page(conversation) if as_page else conversation.to_markdown()


def _html(markdown: str) -> str:
    from ipychat.text import markup

    return secrets.mask(harmless(markup.to_html(markdown, final=True)))


def _of_this_notebook() -> list[str]:
    """Return the notebook's own file, and its cassette if it has one."""
    book, cassette = config.current().notebook or "", config.cassette()
    if not Path(book).is_file():
        raise UsageError(
            "The path of this notebook's file is unknown.\n"
            "Name it, or a folder: %chat_audit NOTEBOOK.ipynb"
        )
    return [book, *([str(cassette)] if cassette and Path(cassette).is_dir() else [])]


def _export(name: str, text: str) -> None:
    from ipychat.store import files

    path = Path(name).expanduser()
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.")
    files.write(path, text.encode())  # whole or not at all


def _beside(folder: Path) -> str:
    """Return the path of a folder from here: outputs travel to other machines."""
    here = Path.cwd()
    return folder.relative_to(here).as_posix() if folder.is_relative_to(here) else folder.name
