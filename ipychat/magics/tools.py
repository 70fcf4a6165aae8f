"""What models may run: `%chat_tools` and `%chat_approve`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ipychat.errors import UsageError
from ipychat.kernel.awaiting import stoppable, waits

if TYPE_CHECKING:
    from ipychat.magics.session import Session
    from ipychat.toolbox.decisions import Allowed


@magics_class
class ToolMagics(Magics):
    """The magics for tools."""

    shell: Any

    def __init__(self, session: Session) -> None:
        super().__init__(session.shell)
        self._session = session

    @no_var_expand
    @line_magic
    @waits
    async def chat_tools(self, line: str) -> Any:
        """Show what a model could be given with `--tools`, and whether it is ready.

        Words narrow the list.
        """
        from ipychat.toolbox import offers

        found = await stoppable(asyncio.to_thread(offers.offers, self.shell))
        words = line.lower().split()
        chosen = [one for one in found if all(word in str(one.row()).lower() for word in words)]
        if not chosen:
            raise UsageError(f"No tool matches {line.strip()!r}. %chat_tools lists all.")
        return offers.Offers(chosen)

    @no_var_expand
    @line_magic
    @waits
    async def chat_approve(self, line: str) -> None:
        """List the tools that are always allowed in this notebook.

        `%chat_approve revoke N` asks about number N again, `%chat_approve revoke all` about each.
        """
        from ipychat.toolbox import decisions

        words = line.split()
        known = await stoppable(asyncio.to_thread(decisions.allowed))
        if not words:
            print(_listed(known))
            return
        for one in _chosen(words, known):
            await stoppable(asyncio.to_thread(decisions.revoke, one))
            print(f"{one.tool} asks again.")


def _listed(known: list[Allowed]) -> str:
    if not known:
        return "No tool is always allowed in this notebook."
    lines = [
        f"{number}. {one.tool}{'' if one.lasts else ', until the kernel ends'}"
        for number, one in enumerate(known, 1)
    ]
    return "\n".join([*lines, "%chat_approve revoke N asks about it again."])


def _chosen(words: list[str], known: list[Allowed]) -> list[Allowed]:
    match words:
        case ["revoke", "all"]:
            return known
        case ["revoke", number] if number.isdigit() and 1 <= int(number) <= len(known):
            return [known[int(number) - 1]]
        case ["revoke", number]:
            raise UsageError(f"There is no number {number}: %chat_approve lists what is allowed.")
    raise UsageError("%chat_approve lists what is always allowed; %chat_approve revoke N ends it.")
