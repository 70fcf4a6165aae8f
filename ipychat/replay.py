"""Answers that are kept: looked up before a question is sent, written when it is answered.

They stand in ipychat's home, or in a notebook's cassette, a folder beside it. A cassette also keeps
which model each name stood for: where it is replayed there may be no key and no service, by which
a name would be given to one.
"""

from __future__ import annotations

import asyncio
import difflib
from dataclasses import replace
from pathlib import Path

from ipychat import config, secrets
from ipychat.characters import harmless
from ipychat.errors import NotRecordedError, StoreError, UsageError
from ipychat.messages import ChatRequest, ModelId, Reply
from ipychat.store import files
from ipychat.store.answers import Answers, Entry, Receipt, lines, text_of

KEPT = {"stop", "tool_calls"}
"""How an answer has to end to be kept."""
MAX_DIFF = 12
"""Lines of a difference that an error shows."""

_stood_for: dict[tuple[str, str], dict[str, str]] = {}
"""By cassette and notebook: which model each name stood for first since the kernel started."""
_unsaved: set[tuple[str, str]] = set()
"""The same: those of which a name is not written yet."""
_asked: dict[str, set[str]] = {}
"""By cassette: the hashes of what was asked since the kernel started."""


def is_on() -> bool:
    """Whether nothing is asked, and every answer is one that is kept."""
    return config.replay() == "replay"


def is_apart() -> bool:
    """Whether conversations begin empty, so that each run of a notebook asks the same."""
    return is_on() or config.cassette() is not None


def place() -> Answers:
    """Return where answers are kept."""
    if cassette := config.cassette():
        return Answers(files.absolute(cassette), shared=True)
    return Answers(files.home() / "answers", shared=False)


def notebook() -> str:
    """Return the name by which a cassette lists this notebook; empty where it is not known."""
    path, cassette = config.current().notebook or "", config.cassette()
    if not path.endswith(".ipynb") or not cassette:
        return ""
    folder = files.absolute(cassette).parent
    inside = Path(path).is_relative_to(folder)
    return Path(path).relative_to(folder).as_posix() if inside else Path(path).name


# -- names


def resolved(name: str) -> ModelId | None:
    """Return the model that a name stood for when the cassette was recorded, if it is replayed."""
    if not (is_on() and config.cassette()):
        return None
    kept, mine = place().names(), notebook()
    if model := kept.get(mine, {}).get(name):
        return ModelId.parse(model)
    if mine:
        return None
    by_model = {names[name]: one for one, names in kept.items() if name in names}
    if len(by_model) > 1:
        said = ", ".join(f"{model} in {one}" for model, one in sorted(by_model.items()))
        raise UsageError(
            f"{name or 'The default model'} stood for several models when this was recorded: "
            f"{said}.\nThe notebook's own name is not known here: name the model in its cells."
        )
    return next(map(ModelId.parse, by_model), None)


def remember(name: str, model: ModelId) -> None:
    """Have it kept, with the next answer, which model a name stood for; the first one counts."""
    if (cassette := config.cassette()) and not is_on():
        names = _stood_for.setdefault((cassette, notebook()), {})
        if name not in names:
            names[name] = str(model)
            _unsaved.add((cassette, notebook()))


# -- answers


async def find(request: ChatRequest, receipt: Receipt) -> Reply | None:
    """Return the answer to `request` that is kept, if it may be taken for one.

    Raises NotRecordedError where there is none and nothing may be asked.
    """
    how = config.replay()
    if how == "off" and request.cached:
        how = "auto"
    if cassette := config.cassette():
        _asked.setdefault(cassette, set()).add(receipt.hash)
    if how not in {"auto", "replay"} or (how == "auto" and not receipt.repeatable):
        return None
    answers = place()
    try:
        entry = await asyncio.to_thread(answers.read, receipt.hash)
    except StoreError as error:
        if how == "replay":
            raise
        secrets.log.warning("%s It is asked for anew.", error)
        return None
    if entry is None:
        if how == "replay":
            raise await asyncio.to_thread(_not_recorded, answers, receipt)
        return None
    reply = _reply(request, entry)
    if how == "replay":
        return reply
    if reply.model != request.model:  # another spoke for it then: it may be able to now
        return None
    mine = notebook()
    is_new = bool(mine) and mine not in entry.notebooks
    if cassette and (is_new or (cassette, mine) in _unsaved):
        await _write(entry)
    return reply


async def keep(receipt: Receipt, reply: Reply) -> str | None:
    """Keep the answer to what `receipt` says; return what the user should know of it."""
    cassette = config.cassette()
    if config.replay() == "off" and not (cassette or reply.request.cached):
        return None
    if reply.finish not in KEPT:
        return f"Not kept in the cassette: it ended with {reply.finish}." if cassette else None
    record = reply.to_record() | {
        "text": lines(reply.text),
        "reasoning": lines(reply.reasoning),
        "seconds": round(reply.seconds, 3),
        "first_text": reply.first_text and round(reply.first_text, 3),
    }
    return await _write(Entry(receipt, record))


async def _write(entry: Entry) -> str | None:
    """Write an entry as this notebook's; return why it can't be."""
    mine = notebook()
    here = (config.cassette() or "", mine)
    entry = replace(entry, notebooks=(mine,) if mine else ())
    _unsaved.discard(here)
    try:
        await asyncio.to_thread(place().keep, entry, {mine: _stood_for.get(here, {})})
    except StoreError as error:
        _unsaved.add(here)
        return f"{error}\nThis answer is not kept for a replay."
    return None


def _reply(request: ChatRequest, entry: Entry) -> Reply:
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


def cassette() -> Answers:
    """Return the notebook's cassette. Raises UsageError where it has none."""
    if not config.cassette():
        raise UsageError(
            "This notebook has no cassette: %config IPyChat.cassette = True begins one."
        )
    return place()


def prune() -> list[Entry]:
    """Remove what no listed notebook asks any more, and return it.

    A notebook that is gone asks nothing. This one asks what it has asked since the kernel started,
    and what its saved outputs say; of the others nothing is known, and theirs stays.
    """
    answers, mine = cassette(), notebook()
    asked, saved = _asked.get(config.cassette() or "", set()), _saved()
    gone = []
    for entry in answers.all():
        for name in entry.notebooks:
            if name == mine:
                is_asked = entry.receipt.hash in asked or entry.receipt.hash in saved
            else:
                is_asked = (answers.folder.parent / name).exists()
            if not is_asked and answers.forget(entry.receipt.hash, name):
                gone.append(entry)
    return gone


def _saved() -> str:
    """Return the notebook's file, in whose outputs the hashes of their questions are."""
    try:
        return Path(config.current().notebook or "").read_text("utf-8", "replace")
    except OSError:
        return ""


def _not_recorded(answers: Answers, receipt: Receipt) -> NotRecordedError:
    nearest, count = answers.nearest(receipt)
    said = [f"No answer to this question is among the {count} in {answers.folder}."]
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
