"""The panel in an output: a widget that carries an exchange, and the transcript that stays.

The page keeps what it was told, in one store for all its views; here is only what it was told last.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any
from weakref import WeakSet

import anywidget
import traitlets

from ipychat import requirements
from ipychat.catalog import resolve
from ipychat.chat import conversations
from ipychat.chat.conversations import Conversation
from ipychat.display import cards
from ipychat.display._transcript import StaticTranscript
from ipychat.display.exchange import Exchange, name_of, random_id
from ipychat.display.live_page import bundle
from ipychat.errors import UsageError
from ipychat.kernel import notebook
from ipychat.store import replay

HERE = Path(__file__).parent

_open: WeakSet[Panel] = WeakSet()
_numbers = itertools.count(1)
"""Of the panels of this kernel."""


def panel(*, model: str | None = None, chat: str | None = None) -> Panel:
    """Return a panel on the notebook's conversation, or on the one called `chat`."""
    from IPython import get_ipython

    requirements.check("anywidget")
    requirements.check("ipywidgets")
    shell = get_ipython()
    if shell is None or not notebook.is_kernel(shell):
        raise UsageError("The panel needs a notebook: here, %chat asks.")
    conversation = conversations.conversation(chat)
    if model:
        conversation.model = resolve.lasting(model)
    return Panel(conversation, shell)


def close_all() -> None:
    """Close every panel, and stop what was asked there."""
    for one in list(_open):
        one.stop()
        one.close()


class Panel(anywidget.AnyWidget):
    """A chat panel. `model`, `chat` and `busy` can be observed; asking goes through the page."""

    _esm = HERE / "panel.js"
    _css = HERE / "panel.css"

    chat = traitlets.Unicode(read_only=True).tag(sync=True)
    """The conversation's name."""
    model = traitlets.Unicode().tag(sync=True)
    """Who answers."""
    busy = traitlets.Bool(default_value=False, read_only=True).tag(sync=True)
    """Whether an answer is coming."""

    def __init__(self, conversation: Conversation, shell: Any) -> None:
        self._publisher = functools.partial(notebook.publisher, shell)
        self._pages = 0
        """How many have said hello; only the first knows the outputs by their display ids."""
        self._shown: list[str] = []
        """The display ids of the outputs that hold the transcript."""
        self._exchange = Exchange(conversation, shell, self)
        super().__init__(model=name_of(conversation))
        self.set_trait("chat", conversation.name)
        # where answers are replayed, a transcript is the same in every run
        mark = str(next(_numbers)) if replay.is_apart() else self.model_id
        self._transcript = StaticTranscript(mark)
        self.observe(self._take_model, names="model")
        self.on_msg(lambda _, content, buffers: self._exchange.receive(content, buffers))
        _open.add(self)
        self._exchange.begin()
        self._leave_cards = cards.listen(self.send)

    @traitlets.validate("model")
    def _resolve(self, proposal: Any) -> str:
        name: str = proposal["value"]
        # what the conversation has is shown, even if nobody of that name is here any more
        known = {"", self._exchange.conversation.model}
        return resolve.lasting(name) if name not in known else name

    def _take_model(self, change: Any) -> None:
        """Use the trait's value, which another widget may have set, as the model."""
        talk = self._exchange.conversation
        if change["new"] != name_of(talk):
            talk.model = change["new"]

    # -- what the exchange wants of its carrier

    def greet(self) -> None:
        """Give a page that opens after the first one the transcript."""
        self._pages += 1
        if self._pages > 1:
            self._hand_over(self._transcript.now(self._exchange.conversation))

    def show(self, info: dict[str, Any]) -> None:
        """Show what is known in the traits."""
        self.set_trait("chat", info["chat"])
        self.set_trait("busy", info["busy"])
        self.set_trait("model", info["model"])

    def write(self) -> None:
        """Write the conversation into the notebook's output."""
        if data := self._transcript.news(self._exchange.conversation):
            publish = self._publisher()  # of the cell that runs: headless, no other is heard
            for display_id in self._shown:
                publish(data, {}, display_id=display_id, update=True)
            if self._pages > 1:
                self._hand_over(data)

    def _hand_over(self, data: dict[str, Any]) -> None:
        """Let the page put the transcript into the notebook: after a reload only it can."""
        self.send({"kind": "transcript", "panel": self._transcript.mark, "data": data})

    def _ipython_display_(self, **_: Any) -> None:
        """Show the panel, and above it the transcript that stays where there is no kernel."""
        publish, display_id = self._publisher(), random_id()
        publish(self._transcript.now(self._exchange.conversation), {}, display_id=display_id)
        self._shown.append(display_id)
        publish(bundle(self, "(a chat panel)"))

    def stop(self) -> None:
        """Stop what was asked here."""
        self._exchange.stop()

    def close(self) -> None:
        """Take it off the page; the conversation goes on."""
        self._leave_cards()
        self._exchange.end()
        super().close()
