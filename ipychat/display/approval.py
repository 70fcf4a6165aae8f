"""Asking the user whether a tool may run: by a card of the front end, else by a prompt."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

from ipychat.display import cards, steps
from ipychat.display.cards import decidable
from ipychat.kernel import prompts
from ipychat.text.characters import shortened
from ipychat.toolbox.decisions import NOBODY, Pending, Verdict

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

MAX_SHOWN = 20_000
"""Characters that a prompt shows; it shows all of a call or does not ask."""
UNSEEN = (
    "its arguments are too long to be shown at a prompt: {:,} characters, more than {:,}. "
    "Write less at once"
)
KEYS = "[y] once, [a] always, [e] edit, [n because …] refuse"
KEYS_WITHOUT_EDIT = "[y] once, [a] always, [n because …] refuse"


class Approval:
    """Asks the user of one shell, one call at a time."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._alone = asyncio.Lock()

    async def __call__(self, pending: Pending) -> Verdict:
        """Return what the user decides."""
        if verdict := await cards.ask(pending):
            return verdict
        async with self._alone:
            if pending.background or not prompts.can_ask(self._shell):
                return Verdict("refused", pending.arguments, NOBODY)
            try:
                return await self._prompt(pending)
            except EOFError:
                return Verdict("refused", pending.arguments, "nobody answered")
            except KeyboardInterrupt:  # in a terminal, where the prompt has the keys
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()
                raise

    async def _prompt(self, pending: Pending) -> Verdict:
        arguments = pending.arguments
        fault = ""
        while True:
            asked = _question(pending, arguments)
            if len(asked) > MAX_SHOWN:
                return Verdict("refused", arguments, UNSEEN.format(len(asked), MAX_SHOWN))
            said = (await prompts.line(self._shell, f"{fault}{asked}")).strip()
            key, _, rest = said.partition(" ")
            match key.lower():
                case "y" | "yes" | "once":
                    return Verdict("once", arguments)
                case "a" | "always":
                    return Verdict("always", arguments)
                case "n" | "no":
                    reason = rest.strip().removeprefix("because").strip()
                    return Verdict("refused", pending.arguments, reason or "the user refused it")
                case "e" | "edit" if not pending.asks:
                    fault, arguments = await self._edited(pending, arguments)
                    if not fault:
                        return Verdict("edited", arguments)
                case _:
                    fault = f"{shortened(key, 20)!r} is none of these keys.\n" if key else ""

    async def _edited(
        self, pending: Pending, arguments: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Return what is wrong with the arguments that the user wrote, and the arguments."""
        written = await prompts.line(
            self._shell, f"Arguments, as JSON (now {decidable(json.dumps(arguments))}): "
        )
        if not written.strip():
            return "", arguments
        try:
            given = json.loads(written)
            cards.check_masks(written, arguments)
            pending.tool.read(given)
        except (ValueError, TypeError) as error:
            return f"These arguments can't be used: {error}\n", arguments
        return "", given


def _question(pending: Pending, arguments: dict[str, Any]) -> str:
    """Return what a prompt asks about a call with these arguments."""
    if pending.asks:
        return f"{decidable(pending.asks)}\n{KEYS_WITHOUT_EDIT}: "
    return f"The model wants to run {described(pending.tool.name, arguments)}\n{KEYS}: "


def described(tool: str, arguments: dict[str, Any]) -> str:
    """Describe a call, with code as code: all of it, as it is to be decided about."""
    code, rest = steps.parted(arguments)
    said = [f"{tool}({steps.listed(rest)})" if rest or not code else tool]
    if code:
        said += [f"    {line}" for line in decidable(code).split("\n")]
    said[0] = decidable(said[0])
    return "\n".join([*said, *cards.note("\n".join(said), arguments)])
