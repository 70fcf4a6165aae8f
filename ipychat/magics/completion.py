"""Completion on our magics' own lines: flags, models, conversations, variables, files.

In `{{…}}`, in the cell too: what of the notebook may stand there. Each says of what kind it is, for
which a front end has an icon.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ipychat import config
from ipychat.magics.flags import flag_names
from ipychat.magics.settings import FORMATS

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from ipychat.magics.session import Session

LINE = r"(?s)^\s*(?:[\w.,\s]+=\s*)?%{1,2}(chat\w*)\s+(.*)$"
NAMES_WANTED = {
    **dict.fromkeys(("-m", "--model"), "model"),
    **dict.fromkeys(("-c", "--chat"), "conversation"),
    **dict.fromkeys(("-t", "--to", "--with"), "variable"),
    **dict.fromkeys(("--file", "--image", "--export"), "file"),
    **dict.fromkeys(("-f", "--format"), "format"),
    "--tools": "tool",
    "--approve": "approval",
}
"""What is named behind a flag."""
EXPRESSION = re.compile(r"\{\{(?:(?!\}\}).)*?([\w.]*)$", re.DOTALL)
"""An expression that is not closed yet, and the name that is being written in it."""
CELL = re.compile(r"\s*%%chat\s")
BY_MAGIC = {
    "chat_login": "service",
    "chat_use": "model",
    "chat_models": "model",
    "chat_history": "conversation",
    "chat_new": "conversation",
    "chat_undo": "conversation",
}
"""What is named first behind a magic."""


def complete(session: Session, context: CompletionContext) -> SimpleMatcherResult:
    """Say what can stand at the cursor; nothing where the line is none of ours."""
    from IPython.core.completer import SimpleCompletion

    line = context.line_with_cursor[: context.cursor_position]
    match = re.match(LINE, line)
    in_cell = CELL.match(context.full_text)
    if not (match or in_cell):
        return {"completions": []}
    if expression := EXPRESSION.search(line):
        word, kind = expression[1], "variable"
        found = _names(session, word)
    elif match:
        words = match[2].split()
        word = "" if not words or line[-1].isspace() else words.pop()
        kind, found = _candidates(session, match[1], words, word)
    else:
        return {"completions": []}
    return {
        "completions": [SimpleCompletion(one, type=kind) for one in found],
        "matched_fragment": word,
        "suppress": bool(found),
        "ordered": True,
    }


def _candidates(session: Session, magic: str, words: list[str], word: str) -> tuple[str, list[str]]:
    """Return what kind of word is wanted, and those that fit what is typed of it, in order."""
    before = words[-1] if words else ""
    kind = NAMES_WANTED.get(before, "")
    if not kind and word.startswith("-"):
        function = session.shell.find_line_magic(magic)
        return "flag", sorted(one for one in flag_names(function) if one.startswith(word))
    kind = kind or ("" if words else BY_MAGIC.get(magic, ""))
    return kind, _OF[kind](session, word) if kind else []


def _models(session: Session, word: str) -> list[str]:
    """List aliases and models, in the order of every list; by its own name what is typed of it."""
    from ipychat.catalog import offers, ranking

    aliases = sorted(one for one in config.current().aliases if one.startswith(word))
    found = ranking.known(word, current=session.conversation().model)
    return [
        *aliases,
        *(
            one.model.name
            if word
            and one.model.name.startswith(word)
            and len(offers.offering(one.model.name)) == 1
            else str(one.model)
            for one in found
        ),
    ]


def _chats(_session: Session, word: str) -> list[str]:
    from ipychat.chat import conversations

    return [one for one in conversations.names() if one.startswith(word)]


def _services(_session: Session, word: str) -> list[str]:
    """List the providers that take a key."""
    from ipychat.catalog import registry

    keyed = (name for name, cls in registry.loaded() if getattr(cls, "key_variables", ()))
    return [name for name in keyed if name.startswith(word)]


def _names(session: Session, word: str) -> list[str]:
    """List what may stand in an expression: variables, or the attributes of one."""
    if "." in word:
        return list(session.shell.Completer.attr_matches(word))
    return _variables(session, word)


def _variables(session: Session, word: str) -> list[str]:
    from ipychat.context import namespace

    return sorted(one for one in namespace.of(session.shell) if one.startswith(word))


def _tools(session: Session, word: str) -> list[str]:
    """List what may stand behind `--tools`, behind its last comma."""
    from ipychat.toolbox import offers

    before, comma, begun = word.rpartition(",")
    names = ["kernel", *(one.name for one in offers.offers(session.shell))]
    return [f"{before}{comma}{one}" for one in names if one.startswith(begun)]


def _files(_session: Session, word: str) -> list[str]:
    folder, _, _ = word.rpartition("/")
    base = Path(folder or ("/" if word.startswith("/") else ".")).expanduser()
    try:
        found = [(one.name, one.is_dir()) for one in base.iterdir()]
    except OSError:
        found = []
    prefix = f"{folder}/" if "/" in word else ""
    paths = (f"{prefix}{name}{'/' if is_folder else ''}" for name, is_folder in found)
    return sorted(one for one in paths if one.startswith(word))


_OF: dict[str, Callable[[Session, str], list[str]]] = {
    "model": _models,
    "service": _services,
    "conversation": _chats,
    "variable": _variables,
    "file": _files,
    "tool": _tools,
    "approval": lambda _session, word: [o for o in config.APPROVALS if o.startswith(word)],
    "format": lambda _session, word: [one for one in FORMATS if one.startswith(word)],
}
