"""Answers that are kept: looked up before a question is sent, written when it is answered.

They stand in ipychat's home, or in a notebook's cassette, a folder beside it. A cassette also keeps
which model each name stood for: where it is replayed there may be no key and no service, by which
a name would be given to one.
"""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ipychat import config, secrets
from ipychat.config import NOTHING
from ipychat.errors import NotRecordedError, StoreError, UsageError
from ipychat.messages import Question, Reply
from ipychat.store import files
from ipychat.store.answers import AnswerStore, Entry, Receipt, lines, text_of
from ipychat.text.characters import harmless

KEPT = {"stop", "tool_calls"}
"""How an answer has to end to be kept."""
MAX_DIFF = 12
"""Lines of a difference that an error shows."""

_Here: TypeAlias = tuple[str, str]
"""A cassette and a notebook."""
_stood_for: dict[_Here, dict[str, list[str]]] = {}
"""What each name has stood for since the kernel started."""
_unsaved: set[_Here] = set()
"""Those of which a meaning is not written yet."""
_told: set[tuple[str, ...]] = set()
"""Of which names the user knows that they stood for several models."""
_asked: dict[str, set[str]] = {}
"""By cassette: the hashes of what was asked since the kernel started."""


def is_on() -> bool:
    """Whether nothing is asked, and every answer is one that is kept."""
    return config.replay() == "replay"


def is_apart() -> bool:
    """Whether conversations begin empty, so that each run of a notebook asks the same."""
    return is_on() or config.cassette() is not None


def place() -> AnswerStore:
    """Return where answers are kept. Raises StoreError for a cassette that is a link.

    It may have come with a repository, and lead to any folder of the user's.
    """
    if cassette := config.cassette():
        folder = files.absolute(cassette)
        if folder.is_symlink():
            raise StoreError(
                f"The cassette {folder.name} is a link, which is not followed.\n"
                f"To use where it leads: %config IPyChat.cassette = {os.fspath(folder.resolve())!r}"
            )
        return AnswerStore(folder, shared=True)
    return AnswerStore(files.home() / "answers", shared=False)


def notebook() -> str:
    """Return the name by which a cassette lists this notebook; empty where it is not known."""
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

    Raises UsageError where it stood for several things, and nothing may be asked.
    """
    if config.replay() not in {"auto", "replay"} or not config.cassette():
        return None
    kept, mine = place().names(), notebook()
    if mine in kept:
        found = dict.fromkeys(kept[mine].get(name, ()), mine)
    else:  # one of them, or its name is not known here
        found = {
            m: one or "one of them" for one, names in kept.items() for m in names.get(name, ())
        }
    if len(found) > 1 and is_on():
        said = ", ".join(f"{model} in {one}" for model, one in sorted(found.items()))
        raise UsageError(
            f"{name or 'The default model'} stood for several when this was recorded: {said}.\n"
            "Name the model in the cells, or restart the kernel and record the whole notebook anew."
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
    """Return the answer to `request` that is kept, if it may be taken for one.

    If it is, the names in `meant` have stood for these models. Raises NotRecordedError where there
    is none and nothing may be asked.
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


async def _recorded(request: Question, receipt: Receipt) -> Reply:
    if receipt.unwritable:
        raise NotRecordedError(f"No answer is kept to a question with {receipt.unwritable}.")
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
    """As `find`, of many questions in one go."""
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
        secrets.log.warning("%s It is asked for anew.", error)
        return None
    if entry is None or reply is None or reply.model != request.model:
        return None  # another that spoke in its place then is none of its own
    return entry, reply


async def _take_over(entry: Entry, meant: Mapping[str, str]) -> None:
    """Add this notebook to an entry of a cassette, and what names meant."""
    for name, model in meant.items():
        remember(name, model)
    cassette, mine = config.cassette(), notebook()
    is_new = bool(mine) and mine not in entry.notebooks
    if cassette and (is_new or (cassette, mine) in _unsaved):
        await _write(entry)


def keeps(request: Question) -> bool:
    """Whether the answer to `request` is kept."""
    return bool(config.replay() != "off" or config.cassette() or request.cached)


async def keep(receipt: Receipt, reply: Reply) -> str | None:
    """Keep the answer to what `receipt` says; return what the user should know of it."""
    cassette = config.cassette()
    if not keeps(reply.request):
        return None
    why_not = receipt.unwritable and f"a question with {receipt.unwritable} can't be written down"
    if reply.finish not in KEPT:
        why_not = f"it ended with {reply.finish}"
    if why_not:
        return f"Not kept in the cassette: {why_not}.{_stays(receipt)}" if cassette else None
    fault = await _write(_entry(receipt, reply))
    changed = [name for name, meant in _meant().items() if len(meant) > 1]
    if fault or not changed or cassette is None or tuple(changed) in _told:
        return fault
    _told.add(tuple(changed))
    names = ", ".join(name or "the default model" for name in changed)
    return f"Not to be replayed as it is: {names} has stood for several models in this kernel."


async def keep_all(answered: Sequence[tuple[Receipt, Reply]]) -> set[str]:
    """As `keep`, of many answers in one go; return all that the user should know of them."""
    if config.cassette():
        return {said for one in answered if (said := await keep(*one))}
    answers, is_on = place(), config.replay() != "off"
    entries = [
        _entry(receipt, reply)
        for receipt, reply in answered
        if (is_on or reply.request.cached) and not receipt.unwritable and reply.finish in KEPT
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
    return Entry(receipt, reply.to_record() | said)


def _not_kept(error: StoreError) -> str:
    return f"{error}\nThis answer is not kept for a replay."


def _stays(receipt: Receipt) -> str:
    return " An earlier answer stays there." if place().has(receipt.hash) else ""


def _meant() -> dict[str, list[str]]:
    return _stood_for.get((config.cassette() or "", notebook()), {})


async def _write(entry: Entry) -> str | None:
    """Write an entry as this notebook's; return why it can't be."""
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
    """Read the answer of an entry, which anyone may have written."""
    given = entry.answered
    try:
        said = {name: text_of(given[name]) for name in ("text", "reasoning")}
        notices = [*map(harmless, given["notices"])]
        reply = Reply.of_record(request, {**given, **said, "notices": notices})
    except (LookupError, TypeError, ValueError, AttributeError):
        raise StoreError(
            f"The answer {entry.receipt.hash[:12]} was written by another version of ipychat."
        ) from None
    if reply.finish not in KEPT or not str(reply.model).isprintable():
        raise StoreError(f"The answer {entry.receipt.hash[:12]} is not one that ipychat has kept.")
    return reply


def cassette() -> AnswerStore:
    """Return the notebook's cassette. Raises UsageError where it has none."""
    if not config.cassette():
        raise UsageError(
            "This notebook has no cassette: %config IPyChat.cassette = True begins one."
        )
    return place()


def stale() -> list[tuple[Entry, str]]:
    """Return the entries that a listed notebook asks no more, with that notebook.

    A notebook that is gone asks nothing. This one asks what it has asked since the kernel started,
    and what its saved outputs say; of the others nothing is known. What was asked now stays.
    Raises UsageError where this kernel has asked nothing: then nothing is known of this one either.
    """
    answers, mine = cassette(), notebook()
    asked, saved = _asked.get(config.cassette() or ""), _saved()
    if not asked:
        raise UsageError(
            "Nothing was asked since the kernel started: run the whole notebook first."
        )
    return [
        (entry, name)
        for entry in answers.all()
        if not (entry.receipt.hash in asked or entry.receipt.hash in saved)
        for name in entry.notebooks
        if name == mine or not (answers.folder.parent / name).exists()
    ]


def prune() -> list[Entry]:
    """Remove what no listed notebook asks any more, and return it."""
    answers = cassette()
    found = stale()
    gone = [entry for entry, name in found if answers.forget(entry.receipt.hash, name)]
    for notebook in answers.names():
        if notebook and not (answers.folder.parent / notebook).exists():
            answers.forget_names(notebook)
    return gone


def _saved() -> str:
    """Return the notebook's file, in whose outputs the hashes of their questions are."""
    try:
        return Path(config.current().notebook or "").read_text("utf-8", "replace")
    except OSError:
        return ""


def _not_recorded(answers: AnswerStore, receipt: Receipt) -> NotRecordedError:
    nearest, count = answers.nearest(receipt)
    # an output goes to other machines: where the folder is, only if it may be the wrong one
    where = answers.folder.name if count else f"{answers.folder}, which is empty"
    said = [f"No answer to this question is kept in the folder {where}."]
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
