"""What tools did earlier: kept beside the answers that called them, and taken from there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ipychat.chat.answer import Answer
from ipychat.errors import StoreError, UsageError
from ipychat.messages import Step, ToolCall
from ipychat.store import replay
from ipychat.store.answers import Receipt
from ipychat.text import schemas, shapes
from ipychat.toolbox import results
from ipychat.toolbox.tool import Tool


def receipt(answer: Answer, call: ToolCall, tool: Tool | None) -> Receipt:
    """Return the canonical form of a call, and its hash."""
    reply = answer.reply()
    try:
        arguments = schemas.read(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    asked = {
        "tool": call.name,
        "definition": tool.hash if tool else "",
        "arguments": shapes.masked(arguments),
        "request": reply.hash,
        "index": reply.tool_calls.index(call),
    }
    return Receipt.of(asked)


async def find(answer: Answer, call: ToolCall, tool: Tool | None) -> Step | None:
    """Return what became of the call earlier, where that may be taken.

    Raises NotRecordedError where nothing may run and nothing is kept.
    """
    kept = await replay.find_step(receipt(answer, call, tool), is_kept=answer.is_kept)
    if kept is None:
        return None
    try:
        step = Step.of_record(call, kept)
        if step.tool != (tool.name if tool else ""):
            raise ValueError("another tool's")
        return replace(step, result=results.cleaned(step.result))
    except (LookupError, TypeError, ValueError, AttributeError, UsageError):
        raise StoreError(
            f"The result of {call.name} was not stored by this version of ipychat."
        ) from None


async def keep(answer: Answer, step: Step, tool: Tool | None) -> str | None:
    """Keep what became of a call, where answers are kept; return why that failed."""
    if not replay.keeps(answer.request):
        return None
    record: dict[str, Any] = step.to_record()
    return await replay.keep_step(receipt(answer, step.call, tool), record)
