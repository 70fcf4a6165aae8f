"""What tools did earlier: kept beside the answers that called them, and taken from there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ipychat.errors import StoreError, UsageError
from ipychat.messages import Reply, Step, ToolCall
from ipychat.store import replay
from ipychat.store.answers import Receipt
from ipychat.text import schemas, shapes
from ipychat.toolbox import results
from ipychat.toolbox.tool import Tool


def receipt(caller: Reply, call: ToolCall, tool: Tool | None) -> Receipt:
    """Return the canonical form of an answer's call, and its hash."""
    try:
        arguments = schemas.read(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    asked = {
        "tool": call.name,
        "definition": tool.hash if tool else "",
        "arguments": shapes.masked(arguments),
        "request": caller.hash,
        "index": caller.tool_calls.index(call),
    }
    return Receipt.of(asked)


async def find(caller: Reply, call: ToolCall, tool: Tool | None, *, is_kept: bool) -> Step | None:
    """Return what became of the call earlier, where that may be taken: of an answer that is kept.

    Raises NotRecordedError where nothing may run and nothing is kept.
    """
    kept = await replay.find_record(receipt(caller, call, tool), is_kept=is_kept)
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


async def keep(caller: Reply, step: Step, tool: Tool | None) -> str | None:
    """Keep what became of a call, where answers are kept; return why that failed."""
    if not replay.keeps(caller.request):
        return None
    record: dict[str, Any] = step.to_record()
    return await replay.keep_record(receipt(caller, step.call, tool), record)
