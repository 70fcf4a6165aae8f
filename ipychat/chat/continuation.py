"""Continuing an answer that was cut off: a new turn asks for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipychat.errors import UsageError
from ipychat.text import markup
from ipychat.toolbox.given import GIVEN

if TYPE_CHECKING:
    from ipychat.chat.conversations import Conversation
    from ipychat.chat.turn import Turn
    from ipychat.messages import Place, Question

GO_ON = "Your answer was cut off. Go on exactly where it ends, and repeat nothing of it."
STEPS = "You were stopped between two calls of tools. Go on with what you were asked."
IN_CODE = "It ends within a code block: begin with the line that opens one, then go on."


def is_cut_off(turn: Turn) -> bool:
    """Whether an answer began but did not end."""
    if turn.state == "running" or not (turn.text.strip() or turn.reply.steps):
        return False
    return turn.state != "done" or turn.reply.cut_off is not None


def question(
    talk: Conversation, place: Place, *, model: str | None = None, hint: str = ""
) -> Question:
    """Return a question for the rest of the answer before this place, with the same options."""
    before = talk.before(place)
    if not before or not is_cut_off(before[-1]):
        raise UsageError(
            f"There is nothing to continue: the last answer of {talk.name} is complete."
            if before
            else f"There is nothing to continue: {talk.name} has no answer yet."
        )
    turn = before[-1]
    is_in_code = markup.with_closed_fence(turn.text) != turn.text
    texts = [GO_ON if turn.text.strip() else STEPS, IN_CODE if is_in_code else "", hint]
    return talk.question(
        " ".join(filter(None, texts)),
        model=model or str(turn.model),
        system=turn.system,
        place=place,
        options={"extra": dict(turn.options), GIVEN: turn.request.given},
    )
