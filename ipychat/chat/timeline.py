"""The order of turns: where one is placed, what it replaces, and which become stale.

All it knows of a turn is `Placed`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar


class Placed(Protocol):
    """A turn, as far as its place is concerned."""

    stale: bool
    among: list[Any]
    """The conversation's turns."""
    replaced: list[Any]
    """The turns of an earlier run of its cell."""
    race: list[Any]
    """All turns of its race, including itself."""

    @property
    def state(self) -> str:
        """Whether it is running, or how it ended."""
        ...

    @property
    def text(self) -> str:
        """Its answer so far."""
        ...

    @property
    def cell(self) -> str | None:
        """The cell that asked."""
        ...

    @property
    def execution(self) -> str | None:
        """The run of that cell."""
        ...


T = TypeVar("T", bound=Placed)


def position(
    turns: list[T], cell: str | None, execution: str | None, instead_of: T | None = None
) -> int:
    """Return where a turn is placed: instead of another, or its cell's earlier run, or after.

    After means after the other turns of the same run, or else at the end.
    """
    if instead_of in turns:
        return turns.index(instead_of)
    own = [i for i, turn in enumerate(turns) if cell is not None and turn.cell == cell]
    if not own:
        return len(turns)
    if execution is not None and turns[own[-1]].execution == execution:
        return own[-1] + 1
    return own[0]


def insert(turns: list[T], turn: T, instead_of: T | None = None) -> None:
    """Place `turn`; turns of an earlier run of its cell go, and later ones become stale.

    With `instead_of`, only that turn goes.
    """
    place = position(turns, turn.cell, turn.execution, instead_of)
    after = turns[place:]
    if instead_of in turns:
        later = after[1:]
    else:
        later = [other for other in after if turn.cell is None or other.cell != turn.cell]
    if len(later) < len(after):
        _age(later)
    turn.among = turns
    turn.replaced = [other for other in after if other not in later]
    turns[place:] = [turn, *later]


def bring_back(turn: T) -> None:
    """If `turn` ended without an answer, restore the turns it replaced.

    In a race, nothing is restored as long as another turn may still answer.
    """
    together = turn.race or [turn]
    if any(one.state == "running" for one in together):
        return
    has_answer = any(one.text.strip() for one in together)
    for one in together:
        answered = [other for other in one.replaced if other.text.strip()]
        one.replaced = []
        if one in one.among and not has_answer:
            place = one.among.index(one)
            one.among[place:place] = answered


def adopt(turns: list[T], turn: T) -> None:
    """Put `turn` in the place of the turn of its race in `turns`; later ones become stale."""
    [place] = [turns.index(one) for one in turn.race if one in turns]
    if turns[place] is turn:
        return
    turn.among, turn.stale = turns, turns[place].stale
    turns[place] = turn
    _age(turns[place + 1 :])


def _age(later: Iterable[T]) -> None:
    """Mark turns that have, or will have, an answer as stale."""
    for turn in later:
        turn.stale = turn.stale or turn.state == "running" or bool(turn.text.strip())
