"""Stored answers: looked up before a question is sent, saved when it is answered.

They are in ipychat's home, or in a notebook's cassette, a folder beside it. A cassette also records
which model each name stood for: where it is replayed there may be no key and no service from which
to tell.
"""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ipychat import config, secrets
from ipychat.config import NOTHING
from ipychat.errors import NotRecordedError, StoreError, UsageError
from ipychat.messages import Question, Reply
from ipychat.store import files
from ipychat.store.answers import AnswerStore, Entry, Receipt, lines, text_of
from ipychat.text.characters import harmless

KEPT_ENDINGS = {"stop", "tool_calls"}
"""Finish reasons of answers that are stored."""
MAX_DIFF = 12
"""Lines of a diff that an error shows."""

_Here: TypeAlias = tuple[str, str]
"""A cassette and a notebook."""
_stood_for: dict[_Here, dict[str, list[str]]] = {}
"""The models that each name has stood for since the kernel started."""
_unsaved: set[_Here] = set()
"""Those with a meaning that is not written yet."""
_told: set[tuple[str, ...]] = set()
"""Names about which the user has been told that they stood for several models."""
_asked: dict[str, set[str]] = {}
"""By cassette: hashes of the questions asked since the kernel started."""


def is_on() -> bool:
    """Whether nothing is sent and every answer has to be a stored one."""
    return config.replay() == "replay"


def is_apart() -> bool:
    """Whether conversations start empty, so that each run of a notebook asks the same."""
    return is_on() or config.cassette() is not None


def place() -> AnswerStore:
    """Return the store for answers. Raises StoreError if the cassette is a link.

    A link may have come with a repository, and point to any of the user's folders.
    """
    if cassette := config.cassette():
        folder = files.absolute(cassette)
        if folder.is_symlink():
            raise StoreError(
                f"The cassette {folder.name} is a link, which is not followed.\n"
                f"To use its target: %config IPyChat.cassette = {os.fspath(folder.resolve())!r}"
            )
        return AnswerStore(folder, shared=True)
    return AnswerStore(files.home() / "answers", shared=False)


def notebook() -> str:
    """Return the name by which a cassette lists this notebook; empty if it is unknown."""
    path, cassette = config.current().notebook or "", config.cassette()
    if not path.endswith(".ipynb") or not cassette:
        return ""
    try:
        beside = os.path.relpath(path, files.absolute(cassette).parent)
    except ValueError:  # on another drive
        return Path(path).name
    return Path(beside).as_posix()


# -- names


def meaning(name: str) -> str | None:
    """Return what a name meant when the cassette was recorded, if answers are looked up.

    Raises UsageError if it meant several models and nothing may be sent.
    """
    if config.replay() not in {"auto", "replay"} or not config.cassette():
        return None
    kept, mine = place().names(), notebook()
    if mine in kept:
        found = dict.fromkeys(kept[mine].get(name, ()), mine)
    else:  # one of them, or its name is unknown here
        found = {
            m: one or "one of them" for one, names in kept.items() for m in names.get(name, ())
        }
    if len(found) > 1 and is_on():
        said = ", ".join(f"{model} in {one}" for model, one in sorted(found.items()))
        raise UsageError(
            f"{name or 'The default model'} stood for several models when this was recorded: "
            f"{said}.\nName the model in the cells, or restart the kernel and record the whole "
            "notebook again."
        )
    return next(iter(found)) if len(found) == 1 else None


def remember(name: str, meant: str) -> None:
    """Record, along with the next answer, what a name means."""
    if (cassette := config.cassette()) and not is_on():
        known = _stood_for.setdefault((cassette, notebook()), {}).setdefault(name, [])
        if meant not in known:
            known.append(meant)
            _unsaved.add((cassette, notebook()))


# -- answers


async def find(
    request: Question, receipt: Receipt, meant: Mapping[str, str] = NOTHING
) -> Reply | None:
    """Return the stored answer to `request`, if there is one that may be used.

    In that case the names in `meant` stood for these models. Raises NotRecordedError if there is
    none and nothing may be sent.
    """
    if cassette := config.cassette():
        _asked.setdefault(cassette, set()).add(receipt.hash)
    match config.replay():
        case "replay":
            return await _recorded(request, receipt)
        case "auto":
            return await _earlier(request, receipt, meant)
        case "off" if request.cached:
            return await _earlier(request, receipt, meant)
    return None


async def find_record(
    receipt: Receipt, *, is_kept: bool, what: str = "result of this tool call"
) -> dict[str, Any] | None:
    """Return the stored result of a tool call, if it may be used: that of a kept answer.

    Raises NotRecordedError if there is none and nothing may run.
    """
    if cassette := config.cassette():
        _asked.setdefault(cassette, set()).add(receipt.hash)
    if not is_kept:
        return None
    answers = place()
    entry = await asyncio.to_thread(answers.read, receipt.hash)
    if entry is None and is_on():
        raise await asyncio.to_thread(_not_recorded, answers, receipt, what)
    return entry.answered if entry else None


async def keep_record(receipt: Receipt, record: dict[str, Any]) -> str | None:
    """Store the result of a tool call; return what the user should know about it."""
    return await _write(Entry(receipt, record))


async def _recorded(request: Question, receipt: Receipt) -> Reply:
    if receipt.unwritable:
        raise NotRecordedError(
            f"There is no stored answer to a question with {receipt.unwritable}."
        )
    answers = place()
    entry = await asyncio.to_thread(answers.read, receipt.hash)
    if entry is None:
        raise await asyncio.to_thread(_not_recorded, answers, receipt)
    return _reply(request, entry)


async def _earlier(request: Question, receipt: Receipt, meant: Mapping[str, str]) -> Reply | None:
    if found := await asyncio.to_thread(_read_earlier, place(), request, receipt):
        await _take_over(found[0], meant)
        return found[1]
    return None


async def find_all(
    asked: Sequence[tuple[Question, Receipt]], meant: Mapping[str, str] = NOTHING
) -> list[Reply | None]:
    """Like `find`, for many questions at once."""
    if config.replay() in {"replay", "refresh"}:  # which name what is missing, or read nothing
        return [await find(*one, meant) for one in asked]
    if cassette := config.cassette():
        _asked.setdefault(cassette, set()).update(receipt.hash for _, receipt in asked)
    answers, is_on = place(), config.replay() == "auto"

    def read() -> list[tuple[Entry, Reply] | None]:
        return [_read_earlier(answers, *one) if is_on or one[0].cached else None for one in asked]

    found = await asyncio.to_thread(read)
    for one in filter(None, found):
        await _take_over(one[0], meant)
    return [one and one[1] for one in found]


def _read_earlier(
    answers: AnswerStore, request: Question, receipt: Receipt
) -> tuple[Entry, Reply] | None:
    if receipt.unwritable or not receipt.repeatable:
        return None
    try:
        entry = answers.read(receipt.hash)
        reply = _reply(request, entry) if entry else None
    except StoreError as error:
        secrets.log.warning("%s It will be requested again.", error)
        return None
    if entry is None or reply is None or reply.model != request.model:
        return None  # other models that stood in for it are not its own answers
    return entry, reply


async def _take_over(entry: Entry, meant: Mapping[str, str]) -> None:
    """Add this notebook, and the meanings of names, to an entry of a cassette."""
    for name, model in meant.items():
        remember(name, model)
    cassette, mine = config.cassette(), notebook()
    is_new = bool(mine) and mine not in entry.notebooks
    if cassette and (is_new or (cassette, mine) in _unsaved):
        await _write(entry)


def keeps(request: Question) -> bool:
    """Whether the answer to `request` will be stored."""
    return bool(config.replay() != "off" or config.cassette() or request.cached)


async def keep(receipt: Receipt, reply: Reply) -> str | None:
    """Store the answer to a receipt's question; return what the user should know about it."""
    cassette = config.cassette()
    if not keeps(reply.request):
        return None
    why_not = receipt.unwritable and f"a question with {receipt.unwritable} can't be written down"
    if reply.finish not in KEPT_ENDINGS:
        why_not = f"it ended with {reply.finish}"
    if why_not:
        return f"Not kept in the cassette: {why_not}.{_stays(receipt)}" if cassette else None
    fault = await _write(_entry(receipt, reply))
    changed = [name for name, meant in _meant().items() if len(meant) > 1]
    if fault or not changed or cassette is None or tuple(changed) in _told:
        return fault
    _told.add(tuple(changed))
    names = ", ".join(name or "the default model" for name in changed)
    return f"This can't be replayed as it is: {names} has stood for several models in this kernel."


async def keep_all(answered: Sequence[tuple[Receipt, Reply]]) -> set[str]:
    """Like `keep`, for many answers at once; return everything the user should know."""
    if config.cassette():
        return {said for one in answered if (said := await keep(*one))}
    answers, is_on = place(), config.replay() != "off"
    entries = [
        _entry(receipt, reply)
        for receipt, reply in answered
        if (is_on or reply.request.cached)
        and not receipt.unwritable
        and reply.finish in KEPT_ENDINGS
    ]

    def write() -> Iterator[str]:
        for entry in entries:
            try:
                answers.keep(entry, {})
            except StoreError as error:
                yield _not_kept(error)

    return await asyncio.to_thread(lambda: {*write()})


def _entry(receipt: Receipt, reply: Reply) -> Entry:
    said = {"text": lines(reply.text), "reasoning": lines(reply.reasoning)}
    return Entry(receipt, reply.to_record() | said, images=reply.images)


def _not_kept(error: StoreError) -> str:
    return f"{error}\nThis answer is not stored for replay."


def _stays(receipt: Receipt) -> str:
    return " An earlier answer stays there." if place().has(receipt.hash) else ""


def _meant() -> dict[str, list[str]]:
    return _stood_for.get((config.cassette() or "", notebook()), {})


async def _write(entry: Entry) -> str | None:
    """Write an entry for this notebook; return why that failed."""
    mine = notebook()
    here = (config.cassette() or "", mine)
    entry = replace(entry, notebooks=(mine,) if mine else ())
    _unsaved.discard(here)
    try:
        await asyncio.to_thread(place().keep, entry, {mine: _meant()})
    except StoreError as error:
        _unsaved.add(here)
        return _not_kept(error)
    return None


def _reply(request: Question, entry: Entry) -> Reply:
    """Build the reply from an entry, which anyone may have written."""
    given = entry.answered
    try:
        said = {name: text_of(given[name]) for name in ("text", "reasoning")}
        notices = [*map(harmless, given["notices"])]
        reply = Reply.of_record(request, {**given, **said, "notices": notices})
        reply = replace(reply, images=entry.images)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise StoreError(
            f"The answer {entry.receipt.hash[:12]} was written by another version of ipychat."
        ) from None
    if reply.finish not in KEPT_ENDINGS or not str(reply.model).isprintable():
        raise StoreError(f"The answer {entry.receipt.hash[:12]} was not stored by ipychat.")
    return reply


def cassette() -> AnswerStore:
    """Return the notebook's cassette. Raises UsageError if it has none."""
    if not config.cassette():
        raise UsageError(
            "This notebook has no cassette: %config IPyChat.cassette = True creates one."
        )
    return place()


def stale() -> list[tuple[Entry, str]]:
    """Return the entries that a listed notebook no longer asks for, with that notebook.

    A notebook that is gone asks for nothing. This one asks for what it has asked since the kernel
    started, and for what its saved outputs mention; nothing is known of others. Raises UsageError
    if this kernel has asked nothing: then nothing is known of this notebook either.
    """
    answers, mine = cassette(), notebook()
    asked, saved = _asked.get(config.cassette() or ""), _saved()
    if not asked:
        raise UsageError(
            "Nothing has been asked since the kernel started: run the whole notebook first."
        )
    return [
        (entry, name)
        for entry in answers.all()
        if not (entry.receipt.hash in asked or entry.receipt.hash in saved)
        for name in entry.notebooks
        if name == mine or not (answers.folder.parent / name).exists()
    ]


def prune() -> list[Entry]:
    """Delete the entries that no listed notebook asks for any more; return them."""
    answers = cassette()
    found = stale()
    gone = [entry for entry, name in found if answers.forget(entry.receipt.hash, name)]
    for notebook in answers.names():
        if notebook and not (answers.folder.parent / notebook).exists():
            answers.forget_names(notebook)
    return gone


def _saved() -> str:
    """Return the notebook file's text: its outputs hold the hashes of their questions."""
    try:
        return Path(config.current().notebook or "").read_text("utf-8", "replace")
    except OSError:
        return ""


def _not_recorded(
    answers: AnswerStore, receipt: Receipt, what: str = "answer to this question"
) -> NotRecordedError:
    nearest, count = answers.nearest(receipt)
    # outputs travel to other machines: name the folder only if it may be the wrong one
    where = answers.folder.name if count else f"{answers.folder}, which is empty"
    said = [f"No {what} is kept in the folder {where}."]
    if nearest:
        said.append(f"The nearest, {nearest.receipt.hash[:12]}, differs (- then, + now):")
        old, new = nearest.receipt.text.splitlines(), receipt.text.splitlines()
        differing = [
            line
            for line in difflib.unified_diff(old, new, lineterm="", n=0)
            if not line.startswith(("---", "+++", "@@"))
        ]
        said += differing[:MAX_DIFF]
        if len(differing) > MAX_DIFF:
            said.append(f"… and {len(differing) - MAX_DIFF} more lines")
    said.append("Record it with IPYCHAT_REPLAY=auto, or %config IPyChat.replay = 'auto'.")
    return NotRecordedError("\n".join(said))
