"""The transcript that stays in a saved notebook, where the panel itself can't."""

from __future__ import annotations

import os
from html import escape

from ipychat import markup, secrets
from ipychat.conversations import Conversation
from ipychat.kernel.notebook import Publish
from ipychat.turns import Turn

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
    """One output that shows the conversation as it stands, whenever a turn has ended."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._id = ""
        self._shown: list[tuple[str, str]] | None = None
        self._html: dict[tuple[str, str], str] = {}

    def update(self, talk: Conversation) -> None:
        """Show what has ended, if that has changed."""
        ended = [turn for turn in talk.turns if turn.state != "running"]
        keys = [(turn.id, str(turn.state)) for turn in ended]
        if keys == self._shown:
            return
        self._shown = keys
        for turn in ended:
            self._html.setdefault((turn.id, turn.state), _turn_html(turn))
        html = "".join(self._html[key] for key in keys) or f'<p style="{_SMALL}">No turns yet.</p>'
        data = {
            "text/html": f'<div class="ipychat ipychat-transcript">{_STYLE}{html}</div>',
            "text/plain": talk.to_markdown() if keys else "",
        }
        update, self._id = bool(self._id), self._id or os.urandom(8).hex()
        self._publish(data, {}, display_id=self._id, update=update)


def _turn_html(turn: Turn) -> str:
    [*_, question] = turn.question
    how = "" if turn.state == "done" else f" · {turn.state}"
    head = escape(f"{turn.model}{how}")
    error = f'<p style="{_SMALL}">{escape(turn.error)}</p>' if turn.error else ""
    return (
        f'<div style="{_QUESTION}">{escape(secrets.mask(question.text))}</div>'
        f'<div style="{_SMALL}">{head}</div>{markup.to_html(turn.text, final=True)}{error}'
    )
