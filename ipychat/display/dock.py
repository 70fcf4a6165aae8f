"""The panel at JupyterLab's side, over a comm that its page opens.

Loading the extension registers the comm's target; the rest is imported when a page opens it. The
comm stays open while the notebook is, and the page says hello when it first shows the panel; only
then is it told about the conversation. Each page has an id that survives a reload, so that its
previous comm can be closed.
"""

from __future__ import annotations

from typing import Any

from ipychat.chat import conversations
from ipychat.display import cards
from ipychat.display.exchange import Exchange
from ipychat.errors import UsageError

_docks: dict[str, Dock] = {}
"""The open sides, by page."""


class Dock:
    """The side of one page."""

    def __init__(self, comm: Any, shell: Any) -> None:
        self._comm = comm
        self._exchange = Exchange(conversations.conversation(), shell, self)
        self._is_shown = False
        comm.on_msg(self._receive)
        self.send({"kind": "ready"})
        self._leave_cards = cards.listen(self.send)

    def _receive(self, message: dict[str, Any]) -> None:
        self._exchange.receive(message["content"]["data"], message.get("buffers", ()))

    def send(self, content: dict[str, Any]) -> None:
        """Send the page a message."""
        self._comm.send(content)

    def greet(self) -> None:
        """Start telling the page, at its first hello."""
        if not self._is_shown:
            self._is_shown = True
            self._exchange.begin()

    def show(self, info: dict[str, Any]) -> None:
        """Do nothing: only the page shows the state."""

    def write(self) -> None:
        """Do nothing: the notebook holds no transcript of it."""

    def close(self) -> None:
        """Close the comm; the conversation is not affected."""
        self._leave_cards()
        self._exchange.end()
        self._comm.close()

    def left(self, page: str) -> None:
        """Forget the page, which has closed its comm."""
        self._leave_cards()
        self._exchange.end()
        if _docks.get(page) is self:
            del _docks[page]

    def stop(self) -> None:
        """Stop what was asked here."""
        self._exchange.stop()


def opened(shell: Any, comm: Any, message: dict[str, Any]) -> None:
    """Handle a comm that a page has opened."""
    match message["content"]["data"]:
        case {"page": str(page)}:
            if before := _docks.pop(page, None):
                before.close()
            _docks[page] = dock = Dock(comm, shell)
            comm.on_close(lambda _message: dock.left(page))
        case _:
            raise UsageError("The page that opened the comm gave no id.")


def show(chat: str) -> None:
    """Show the panel on every page, with the conversation of that name."""
    if not _docks:
        raise UsageError(
            "No JupyterLab with ipychat's extension has this notebook open.\n"
            "%chat_panel shows the panel below its cell."
        )
    for dock in _docks.values():
        dock.send({"kind": "show", "chat": chat})


def close_all() -> None:
    """Close every side, and stop its answers."""
    while _docks:
        _, dock = _docks.popitem()
        dock.stop()
        dock.close()
