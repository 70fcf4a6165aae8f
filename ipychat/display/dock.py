"""The panel at JupyterLab's side: a comm that the page opens, and the kernel answers on.

Loading registers the target; all else is imported when a page opens it. A page holds the comm as
long as the notebook is in front, and says hello when it shows the panel: what the panel shows is
told from then on. It also says which page it is: what it had before a reload is closed.
"""

from __future__ import annotations

from typing import Any

from ipychat.chat import conversations
from ipychat.display.exchange import Exchange
from ipychat.errors import UsageError

_docks: dict[str, Dock] = {}
"""Those that are open, by their pages."""


class Dock:
    """A page's side, over a comm."""

    def __init__(self, comm: Any, shell: Any) -> None:
        self._comm = comm
        self._exchange = Exchange(conversations.conversation(), shell, self)
        self._is_shown = False
        comm.on_msg(self._receive)
        self.send({"kind": "ready"})

    def _receive(self, message: dict[str, Any]) -> None:
        self._exchange.receive(message["content"]["data"], message.get("buffers", ()))

    def send(self, content: dict[str, Any]) -> None:
        """Send the page a message."""
        self._comm.send(content)

    def greet(self) -> None:
        """Tell the page of the conversation from its first hello on."""
        if not self._is_shown:
            self._is_shown = True
            self._exchange.begin()

    def show(self, info: dict[str, Any]) -> None:
        """Nobody observes it but the page."""

    def write(self) -> None:
        """Nothing of it is in the notebook."""

    def close(self) -> None:
        """Tell the page nothing any more; the conversation goes on."""
        self._exchange.end()
        self._comm.close()

    def left(self, page: str) -> None:
        """Forget a page that has closed the comm."""
        self._exchange.end()
        if _docks.get(page) is self:
            del _docks[page]

    def stop(self) -> None:
        """Stop what was asked here."""
        self._exchange.stop()


def opened(shell: Any, comm: Any, message: dict[str, Any]) -> None:
    """Answer a page that has opened the comm."""
    match message["content"]["data"]:
        case {"page": str(page)}:
            if before := _docks.pop(page, None):
                before.close()
            _docks[page] = dock = Dock(comm, shell)
            comm.on_close(lambda _message: dock.left(page))
        case _:
            raise UsageError("A page says which one it is.")


def show(chat: str) -> None:
    """Have the pages show their sides, on the conversation of that name."""
    if not _docks:
        raise UsageError(
            "No JupyterLab with ipychat's extension shows this notebook.\n"
            "%chat_panel shows the panel below its cell."
        )
    for dock in _docks.values():
        dock.send({"kind": "show", "chat": chat})


def close_all() -> None:
    """Close every side, and stop what was asked there."""
    while _docks:
        _, dock = _docks.popitem()
        dock.stop()
        dock.close()
