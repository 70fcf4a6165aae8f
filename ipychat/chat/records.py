"""Conversations as records: each change is one, and `fold` turns them into turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import MappingProxyType
from typing import get_args

from ipychat import secrets
from ipychat.chat import timeline
from ipychat.chat.journal import Record
from ipychat.chat.turn import State, Turn
from ipychat.errors import ChatError
from ipychat.messages import (
    OR_NONE,
    Message,
    ModelId,
    Place,
    Question,
    Reply,
    check_fields,
    parse_messages,
)

SETTINGS = ("model", "system", "title")
"""What a conversation is set to."""


def fold(records: Iterable[Record]) -> tuple[list[Turn], dict[str, str | None]]:
    """Return the turns and the settings that `records` result in.

    Records of an unknown type are skipped. A turn without an end is `lost`.
    """
    turns: list[Turn] = []
    by_id: dict[str, Turn] = {}
    cells: set[str | None] = set()
    settings: dict[str, str | None] = dict.fromkeys(SETTINGS)
    for record in records:
        try:
            match record["type"]:
                case "asked":
                    _place(turns, by_id, cells, record)
                case "arrived":
                    _take_snapshot(by_id[record["turn"]], record)
                case "ended":
                    _take_end(by_id[record["turn"]], record)
                    timeline.bring_back(by_id[record["turn"]])
                case "kept":
                    timeline.adopt(turns, by_id[record["turn"]])
                case "dropped":
                    turns.remove(by_id[record["turn"]])
                case "new":
                    turns.clear()
                case "set":
                    check_fields(record, dict.fromkeys(SETTINGS, OR_NONE))
                    settings.update({one: record[one] for one in SETTINGS if one in record})
        except (ChatError, LookupError, TypeError, ValueError, AttributeError) as error:
            # about a turn of another kernel that is gone, or edited by hand
            secrets.log.info("Skipped a record %r: %r", record.get("type"), error)
    for turn in by_id.values():
        if turn.state == "running":
            turn.state = "lost"
            timeline.bring_back(turn)
    return turns, settings


def _place(
    turns: list[Turn], by_id: dict[str, Turn], cells: set[str | None], record: Record
) -> None:
    turn = _turn_of(record)
    if "beside" in record:
        first = by_id[record["beside"]]
        first.race = turn.race = first.race or [first]
        turn.race.append(turn)
    elif (turn.cell is not None and turn.cell in cells) or "instead_of" in record:
        timeline.insert(turns, turn, by_id.get(record.get("instead_of", "")))
    else:  # searching all turns would take longer the more there are
        turn.among = turns
        turns.append(turn)
    cells.add(turn.cell)
    by_id[turn.id] = turn


def _turn_of(record: Record) -> Turn:
    check_fields(record, {"stale": bool, "background": bool, "at": str, "model": str})
    check_fields(record, dict.fromkeys(("cell", "execution", "system"), OR_NONE))
    question = parse_messages(record["question"])
    system = record.get("system")
    sent = (Message("system", system), *question) if system else question
    options = MappingProxyType(dict(record["options"]))
    place = Place(None, record["cell"], record["execution"], record["background"])
    return Turn(
        id=record["turn"],
        request=Question(
            ModelId.parse(record["model"]),
            sent,
            options,
            prompt=question,
            system=system,
            place=place,
        ),
        asked_at=record["at"],
        stale=record["stale"],
    )


def _take_snapshot(turn: Turn, record: Record) -> None:
    if turn.state == "running":
        check_fields(record, {"text": str, "reasoning": str})
        so_far = turn.reply
        turn.take(
            dataclasses.replace(
                so_far,
                text=so_far.text + record["text"],
                reasoning=so_far.reasoning + record["reasoning"],
            )
        )


def _take_end(turn: Turn, record: Record) -> None:
    check_fields(record, {"state": str, "error": OR_NONE})
    if record["state"] not in get_args(State):
        raise ValueError(record["state"])
    turn.take(Reply.of_record(turn.request, record["reply"]))
    turn.state, turn.error = record["state"], record["error"]
