"""Completion on our magics' own lines: flags, models, conversations, variables, files.

In `{{…}}`, in the cell too: what of the notebook may stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipychat.magics.flags import flag_names
from ipychat.magics.settings import FORMATS

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from ipychat.magics.session import Session

LINE = r"(?s)^\s*(?:[\w.,\s]+=\s*)?%{1,2}(chat\w*)\s+(.*)$"
MODEL_FLAGS = {"-m", "--model"}
NAMES_WANTED = {
    "-c": "chats", "--chat": "chats", "-t": "variables", "--to": "variables",
    "--with": "variables", "--file": "files", "--image": "files", "--export": "files",
}  # fmt: skip
EXPRESSION = re.compile(r"\{\{(?:(?!\}\}).)*?([\w.]*)$", re.DOTALL)
"""An expression that is not closed yet, and the name that is being written in it."""
CELL = re.compile(r"\s*%%chat\s")
BY_MAGIC = {
    "chat_login": "accounts",
    "chat_use": "models",
    "chat_models": "models",
    "chat_history": "chats",
    "chat_new": "chats",
    "chat_undo": "chats",
}


def complete(session: Session, context: CompletionContext) -> SimpleMatcherResult:
    """Say what can stand at the cursor; nothing where the line is none of ours."""
    from IPython.core.completer import SimpleCompletion

    line = context.line_with_cursor[: context.cursor_position]
    match = re.match(LINE, line)
    in_cell = CELL.match(context.full_text)
    if not (match or in_cell):
        return {"completions": []}
    if expression := EXPRESSION.search(line):
        word = expression[1]
        found = _names(session, word)
    elif match:
        words = match[2].split()
        word = "" if not words or line[-1].isspace() else words.pop()
        found = _candidates(session, match[1], words, word)
    else:
        return {"completions": []}
    return {
        "completions": [SimpleCompletion(one) for one in found if one.startswith(word)],
        "matched_fragment": word,
        "suppress": bool(found),
    }


def _candidates(session: Session, magic: str, words: list[str], word: str) -> list[str]:
    before = words[-1] if words else ""
    if before in MODEL_FLAGS:
        return _models()
    if before in {"-f", "--format"}:
        return list(FORMATS)
    if wanted := NAMES_WANTED.get(before):
        return sorted(_OF[wanted](session, word))
    if word.startswith("-"):
        return sorted(flag_names(session.shell.find_line_magic(magic)))
    if not words and (wanted := BY_MAGIC.get(magic)):
        return sorted(_OF[wanted](session, word))
    return []


def _models() -> list[str]:
    from ipychat import config
    from ipychat.catalog import offers

    models = sorted(map(str, offers.every_model()))
    return [*config.current().aliases, *offers.every_name(), *models]


def _chats(_session: Session, _word: str) -> Iterable[str]:
    from ipychat.chat import conversations

    return conversations.names()


def _accounts(_session: Session, _word: str) -> Iterable[str]:
    """Give the providers that take a key."""
    from ipychat.catalog import registry

    return [name for name, cls in registry.loaded() if getattr(cls, "key_variables", ())]


def _names(session: Session, word: str) -> list[str]:
    """List what may stand in an expression: variables, or the attributes of one."""
    if "." in word:
        return list(session.shell.Completer.attr_matches(word))
    return sorted(_variables(session, word))


def _variables(session: Session, _word: str) -> Iterable[str]:
    hidden = session.shell.user_ns_hidden
    return [n for n in session.shell.user_ns if not n.startswith("_") and n not in hidden]


def _files(_session: Session, word: str) -> Iterable[str]:
    folder, _, _ = word.rpartition("/")
    base = Path(folder or ("/" if word.startswith("/") else ".")).expanduser()
    try:
        found = [(one.name, one.is_dir()) for one in base.iterdir()]
    except OSError:
        found = []
    prefix = f"{folder}/" if "/" in word else ""
    return [f"{prefix}{name}{'/' if folder_too else ''}" for name, folder_too in found]


_OF: dict[str, Callable[[Any, str], Iterable[str]]] = {
    "models": lambda _session, _word: _models(),
    "accounts": _accounts,
    "chats": _chats,
    "variables": _variables,
    "files": _files,
}
