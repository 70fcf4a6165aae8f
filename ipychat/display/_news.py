"""What the page of a panel doesn't know yet of a conversation."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from ipychat import secrets
from ipychat.chat.turn import Turn
from ipychat.display import answer, steps
from ipychat.messages import FilePart, Part, Reply, Step, TextPart
from ipychat.text import shapes
from ipychat.text.characters import harmless

OURS = "panel-"
"""What the cell ids of questions that a panel asks begin with."""


MAX_ALONG = 60
"""Characters that are shown of a text that went along."""


class Told:
    """What the page knows, so that only what is new is sent."""

    def __init__(self) -> None:
        self._info = ""
        self._order: list[str] | None = None
        self._heads: dict[str, tuple[Any, ...]] = {}
        self._lengths: dict[tuple[str, str], int] = {}

    def news(self, info: dict[str, Any], turns: list[Turn]) -> dict[str, Any]:
        """Return the fields of a `sync` message with everything that is new to the page."""
        news: dict[str, Any] = {"all": True} if self._order is None else {}
        if (written := json.dumps(info)) != self._info:
            self._info, news["info"] = written, info
        if (order := [turn.id for turn in turns]) != self._order:
            self._order, news["order"] = order, order
        replies = [(turn, turn.reply) for turn in turns]  # each is made anew while it grows
        heads = [head for turn, reply in replies if (head := self._new_head(turn, reply))]
        deltas = [delta for turn, reply in replies if (delta := self._delta(turn, reply))]
        return {
            **news,
            **({"turns": heads} if heads else {}),
            **({"deltas": deltas} if deltas else {}),
        }

    def _new_head(self, turn: Turn, reply: Reply) -> dict[str, Any] | None:
        known = (
            *(turn.state, turn.stale, turn.error, reply.notices, reply.usage, reply.finish),
            len(reply.steps),
        )
        if self._heads.get(turn.id) == known:
            return None
        self._heads[turn.id] = known
        return head_of(turn, reply)

    def _delta(self, turn: Turn, reply: Reply) -> dict[str, Any] | None:
        delta: dict[str, Any] = {}
        for field in ("text", "reasoning"):
            whole: str = getattr(reply, field)
            end = secrets.settled(whole) if turn.state == "running" else len(whole)
            known = self._lengths.get((turn.id, field), 0)
            if end > known:
                delta |= {"at": known, field: whole[known:end]}
                self._lengths[turn.id, field] = end
        return {"id": turn.id, **delta} if delta else None


def head_of(turn: Turn, reply: Reply) -> dict[str, Any]:
    [*_, question] = turn.question
    texts = [part for part in question.parts if isinstance(part, TextPart)]
    along = [part for part in question.parts if part not in texts[-1:]]
    return {
        "id": turn.id,
        "question": shapes.mask(texts[-1].text) if texts else "",
        "files": [_name_of(part) for part in along],
        "model": str(turn.model),
        "at": turn.asked_at,
        "cell": turn.execution is not None and not _is_ours(turn),
        "place": turn.cell if _is_ours(turn) else None,
        "state": turn.state,
        "stale": turn.stale,
        "error": turn.error,
        "notices": [secrets.mask(notice) for notice in reply.notices],
        "finish": reply.finish,
        "tokens": [reply.usage.input, reply.usage.output] if reply.usage else None,
        "cost": reply.cost,
        "seconds": round(reply.seconds, 1) if turn.state != "running" else 0,
        **({"steps": _steps(reply)} if reply.steps else {}),
    }


def _is_ours(turn: Turn) -> bool:
    return (turn.cell or "").startswith(OURS)


def _steps(reply: Reply) -> list[dict[str, Any]]:
    """Return the steps, each with how much of the text stands before it, as the page counts it."""
    at = 0
    told: list[dict[str, Any]] = []
    for part in reply.parts:
        if isinstance(part, TextPart):
            at += answer.units(part.text)
        elif isinstance(part, Step):
            told.append({**shapes.masked(steps.part(part)), "at": at})
    return told


def _name_of(part: Part) -> str:
    """Return what is shown of what went along: a summary's first line, a file's name."""
    if isinstance(part, TextPart):
        lines = harmless(shapes.mask(part.text)).splitlines()
        said = (line.strip() for line in lines if not line.startswith(("Cell:", "```")))
        return textwrap.shorten(next(filter(None, said), "text"), MAX_ALONG, placeholder=" …")
    return harmless(secrets.mask(part.name)) if isinstance(part, FilePart) else "image"
