"""The transcript that stays in a saved notebook, where the panel itself can't."""

from __future__ import annotations

from html import escape
from typing import Any

from ipychat.chat.conversations import Conversation
from ipychat.chat.turn import Turn
from ipychat.text import markup, shapes
from ipychat.text.characters import shortened

LONGEST = 20_000
"""Characters of a question that are written into the notebook."""

# Where the live panel stands below it, the transcript is hidden; and a panel whose kernel is gone,
# which JupyterLab shows as an error in words, is.
_STYLE = """<style>
.jp-OutputArea-child:has(.ipychat-transcript):has(+ .jp-OutputArea-child .ic-panel),
.jp-OutputArea-child:has(.ipychat-transcript) + .jp-OutputArea-child
  > .jupyter-widgets.jp-OutputArea-output:not(:has(*)) { display: none }
</style>"""
_QUESTION = (
    "white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid "
    "var(--jp-border-color1,#bdbdbd);padding-left:.6em;margin:.8em 0 .4em"
)
_SMALL = "font-size:.85em;color:var(--jp-ui-font-color2,#767676)"


class StaticTranscript:
    """A conversation as it stands, in the forms that an output has; written once a change."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        """What says of an output whose transcript it is."""
        self._html: dict[tuple[str, str], str] = {}
        self._data: dict[str, Any] = {}

    def news(self, talk: Conversation) -> dict[str, Any] | None:
        """Return the output that shows what has ended; None if that is the same as before."""
        ended = {(t.id, str(t.state)): t for t in talk.turns if t.state != "running"}
        if self._data and list(self._html) == list(ended):
            return None
        self._html = {k: self._html.get(k) or _turn_html(turn) for k, turn in ended.items()}
        html = "".join(self._html.values()) or f'<p style="{_SMALL}">No turns yet.</p>'
        kind = f'class="ipychat ipychat-transcript" data-panel="{self.mark}"'
        self._data = {
            "text/html": f"<div {kind}>{_STYLE}{html}</div>",
            "text/plain": talk.to_markdown(LONGEST) if ended else "",
        }
        return self._data

    def now(self, talk: Conversation) -> dict[str, Any]:
        """Return that output in any case."""
        return self.news(talk) or self._data


def _turn_html(turn: Turn) -> str:
    [*_, question] = turn.question
    how = "" if turn.state == "done" else f" · {turn.state}"
    head = escape(f"{turn.model}{how}")
    error = f'<p style="{_SMALL}">{escape(turn.error)}</p>' if turn.error else ""
    asked = shortened(shapes.mask(question.text), LONGEST)
    return (
        f'<div style="{_QUESTION}">{escape(asked)}</div>'
        f'<div style="{_SMALL}">{head}</div>{markup.to_html(turn.text, final=True)}{error}'
    )
