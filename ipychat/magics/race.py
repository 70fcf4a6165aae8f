"""`%%chat -m A -m B`: several models answer side by side; `--first` keeps the first answer."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ipychat.errors import FormatError, InterruptedAnswerError, UsageError
from ipychat.magics.endings import ending, stopped

if TYPE_CHECKING:
    from ipychat.chat.conversations import Conversation
    from ipychat.chat.race import Comparison, Race
    from ipychat.chat.turn import Turn
    from ipychat.display.race import RaceView, TerminalRace
    from ipychat.magics.session import Session
    from ipychat.messages import Question


def check(flags: Namespace) -> None:
    """Raise UsageError for flags that make no sense in a race."""
    if len(flags.model) < 2:
        raise UsageError("--first needs several models: %%chat --first -m A -m B.")
    for name in ("background", "run_scripts"):
        if getattr(flags, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for one model, and {len(flags.model)} are named.")


async def run(
    session: Session,
    conversation: Conversation,
    questions: list[Question],
    flags: Namespace,
) -> Comparison:
    """Ask all models, show their answers in the running cell, and return the results.

    If all have failed, raises the first one's error.
    """
    from ipychat.chat.race import Race
    from ipychat.kernel import notebook
    from ipychat.kernel.run import Run, in_front

    turn = conversation.begin(*questions)
    race = Race(conversation, turn, first=flags.first)
    shown = _Shown(session, race, conversation, flags)
    running = Run(shown.watch())
    for one in race.turns:
        one.stop = running.stop
    with in_front(running):
        try:
            await running.wait()
        finally:
            is_said = running.interrupted and not notebook.is_kernel(session.shell)
            await shown.close(is_said=is_said)
    results = race.results()
    if flags.to:
        session.shell.user_ns[flags.to] = results
    if running.interrupted:
        raise InterruptedAnswerError.of(race.kept.reply)
    if len(race.errors) == len(race.turns):
        raise race.errors[race.turns[0]]
    session.shown = results
    return results


class _Shown:
    """A race displayed in the running cell."""

    def __init__(
        self, session: Session, race: Race, conversation: Conversation, flags: Namespace
    ) -> None:
        from ipychat import config
        from ipychat.catalog import routes

        self._forms = [
            flags.format or routes.format_of(turn.request) or config.current().format
            for turn in race.turns
        ]
        self._race = race
        self._is_kept = not flags.no_history
        self._numbers = {turn: number for number, turn in enumerate(race.turns)}
        header = " · ".join(() if flags.no_history else session.standing(conversation))
        self._view = self._make_view(session.shell, header, first=flags.first)

    def _make_view(self, shell: Any, header: str, *, first: bool) -> RaceView | TerminalRace:
        from ipychat.display.race import RaceView, TerminalRace
        from ipychat.kernel import notebook

        if not notebook.is_kernel(shell):
            return TerminalRace(sys.stdout, self._forms, header=header, first=first)
        names = [str(turn.model) for turn in self._race.turns]
        live, publish = notebook.is_watched(shell), notebook.publisher(shell)
        return RaceView(publish, names, self._forms, header=header, live=live)

    async def watch(self) -> None:
        """Show events until all models have ended."""
        async with contextlib.aclosing(self._race.events()) as events:
            async for turn, event in events:
                if event is None:
                    await self._end(turn)
                else:
                    self._view.add(self._numbers[turn], event)

    async def close(self, *, is_said: bool) -> None:
        """Show the final state; `is_said` if the stopped ones have already been reported."""
        try:
            for turn in self._race.turns:
                await self._end(turn, is_said=is_said)
        finally:  # even if that is interrupted
            winner = self._race.winner
            number = None if winner is None else self._numbers[winner]
            await self._view.close(number, ending=self._said())

    def _said(self) -> str:
        race = self._race
        if race.winner:
            others = [str(turn.request.model) for turn in race.turns if turn is not race.winner]
            return f"The first of {len(race.turns)}, before {', '.join(others)}."
        if not (self._is_kept and race.kept.text.strip()):
            return ""
        number = self._numbers[race.kept] + 1
        return f"The conversation goes on with answer {number}; %chat_keep N takes another."

    async def _end(self, turn: Turn, *, is_said: bool = False) -> None:
        from ipychat.display.cell import check_json

        number, reply, errors = self._numbers[turn], turn.reply, self._race.errors
        if self._forms[number] == "json" and turn not in errors:
            try:
                check_json(reply)
            except FormatError as fault:
                errors[turn] = fault
        if error := errors.get(turn):
            said = f"{type(error).__name__}: {error}"
        else:
            said = ending(reply) if turn.state == "done" else "" if is_said else stopped(reply)
        await self._view.end(number, reply, ending=said)
