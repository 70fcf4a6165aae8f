"""Remarks below an answer that did not end normally."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipychat import config

if TYPE_CHECKING:
    from ipychat.messages import Reply


def stopped(reply: Reply) -> str:
    """Say that the user stopped an answer."""
    return "Stopped before any answer." if reply.is_empty else "Stopped: what came is kept."


def broken(reply: Reply) -> str:
    """Say that an error ended an answer; empty if nothing had come."""
    return "Broken off: what came is kept." if reply.text else ""


def ending(reply: Reply) -> str:
    """Say how an answer ended; empty if it ended normally."""
    if reply.finish in {"stop", "tool_calls", None}:
        return ""
    from ipychat.messages import MAX_ANSWER, MAX_COST, MAX_STEPS

    advice = {
        "length": " --max-tokens sets it; %chat_continue goes on.",
        MAX_STEPS: " --max-steps sets it; %chat_continue goes on.",
        MAX_COST: " --max-cost sets it; %chat_continue goes on.",
        MAX_ANSWER: f" It is {_size(config.current().max_answer)}.",
    }.get(reply.finish, "")
    return f"{reply.cut_off or f'Ended with: {reply.finish}'}.{advice}"


def _size(count: int) -> str:
    return f"{count / (1 << 20):.3g} MiB" if count >= 1 << 20 else f"{count:,} bytes"
