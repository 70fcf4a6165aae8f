"""Who decides whether a tool runs: the terms of the question, what was always allowed, the user.

Whoever asks the user is handed in; here stands only what is asked, and what may be answered.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ipychat import config
from ipychat.errors import StoreError, UsageError
from ipychat.messages import Decision, ToolCall
from ipychat.secrets import log
from ipychat.store import files
from ipychat.text import schemas
from ipychat.toolbox.tool import MCP, Json, Tool

NOBODY = (
    "nobody can be asked here. --approve reads (in Python approve='reads') runs tools that only "
    "read, --approve all runs every tool"
)
ALLOWED = "allowed.json"
IN_KERNEL = {"kernel.run"}
"""Tools that may do anything: what is always allowed of them is allowed until the kernel ends."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that waits for the user's decision."""

    tool: Tool
    call: ToolCall
    arguments: Json
    """As the model wrote them."""
    cell: str | None = None
    """The cell that asked the question."""
    background: bool = False
    """Whether no cell waits for it: a prompt would be another cell's."""
    asks: str = ""
    """What the user is asked, where it is not about a single call."""

    @property
    def where(self) -> str:
        """Where the tool runs."""
        if self.tool.name.startswith(MCP):
            return f"the MCP server {self.tool.name.removeprefix(MCP).partition('.')[0]}"
        return "this kernel"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about a call."""

    decision: Decision
    arguments: Json
    """The arguments to run it with."""
    reason: str = ""


Ask: TypeAlias = Callable[[Pending], Awaitable[Verdict]]
"""Asks the user; cancelled where the user interrupts instead."""
Approve: TypeAlias = str | Callable[[ToolCall], Any]
"""One of `config.APPROVALS`, or a function of the call: True runs it, False refuses it, a text
refuses it with that reason, and a mapping runs it with those arguments."""


def check(approve: Any) -> Approve:
    """Return what says who decides. Raises UsageError if it is none of the ways."""
    if callable(approve) or approve in config.APPROVALS:
        known: Approve = approve
        return known
    raise UsageError(f"approve is ask, reads, all or a function of the call, not {approve!r}.")


async def decide(pending: Pending, approve: Approve, ask: Ask | None) -> Verdict:
    """Decide about a call, asking the user if need be."""
    arguments = pending.arguments
    if callable(approve):
        answer = approve(pending.call)
        return _read(await answer if inspect.isawaitable(answer) else answer, arguments)
    if not pending.tool.is_asked(arguments, unless_reading=approve != "ask"):
        return Verdict("unasked", arguments, _why(pending.tool, approve))
    if approve == "all" and pending.tool.ask is None:
        return Verdict("unasked", arguments, "--approve all")
    if await asyncio.to_thread(is_allowed, pending.tool):
        return Verdict("always", arguments)
    if ask is None:
        return Verdict("refused", arguments, NOBODY)
    verdict = await ask(pending)
    if verdict.decision == "always":
        try:
            await asyncio.to_thread(allow, pending.tool)
        except StoreError as error:  # the disk is full: what was decided holds as long as we can
            log.warning("%s Until the kernel ends it is allowed.", error)
    return verdict


def _why(tool: Tool, approve: str) -> str:
    if tool.ask is not None:
        return "it needs no approval"
    return f"--approve {approve}"


def _read(answer: Any, arguments: Json) -> Verdict:
    """Read what a function of the user's has decided."""
    match answer:
        case True:
            return Verdict("once", arguments, "approve=")
        case False | None:
            return Verdict("refused", arguments, "approve= refused it")
        case str(reason):
            return Verdict("refused", arguments, reason)
        case Mapping():
            return Verdict("edited", dict(answer), "approve=")
    raise UsageError(
        f"approve= returns True, False, a text or a mapping, not {type(answer).__name__}."
    )


# -- what is always allowed

_Key: TypeAlias = tuple[str, str, str]
"""A notebook, a tool, and its `allowance`."""
_until_the_end: dict[_Key, None] = {}
"""What is allowed until this kernel ends."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A tool that is always allowed in a notebook."""

    notebook: str
    tool: str
    hash: str
    lasts: bool
    """Whether it is kept when the kernel ends."""


def _here() -> str:
    return config.current().notebook or ""


def is_allowed(tool: Tool) -> bool:
    """Whether this tool, as it is defined and coded now, is always allowed in this notebook."""
    key = (_here(), tool.name, tool.allowance)
    return key in _until_the_end or (_keeps(tool) and key in _kept())


def allow(tool: Tool) -> None:
    """Always allow this tool, as it is defined and coded now, in this notebook."""
    key = (_here(), tool.name, tool.allowance)
    _until_the_end[key] = None
    if _keeps(tool):
        _change(lambda kept: [*(one for one in kept if one[:2] != key[:2]), key])
        del _until_the_end[key]


def _keeps(tool: Tool) -> bool:
    return tool.name not in IN_KERNEL and bool(_here()) and config.current().keep


def allowed() -> list[Allowed]:
    """Return what is always allowed in this notebook."""
    here = _here()
    keys = [(*key, True) for key in _kept()] + [(*key, False) for key in _until_the_end]
    return [Allowed(*key) for key in keys if key[0] == here]


def revoke(one: Allowed) -> None:
    """Ask about this tool again."""
    key = (one.notebook, one.tool, one.hash)
    _until_the_end.pop(key, None)
    if one.lasts:
        _change(lambda kept: [other for other in kept if other != key])


def _kept() -> list[_Key]:
    """Read what is kept; what is damaged allows nothing."""
    try:
        return _parsed((files.home() / ALLOWED).read_text("utf-8"))
    except (OSError, ValueError):
        return []


def _parsed(content: str) -> list[_Key]:
    match schemas.read(content):
        case list(found) if all(_is_key(one) for one in found):
            return [(one[0], one[1], one[2]) for one in found]
    raise ValueError("it holds no list of what is allowed")


def _is_key(one: Any) -> bool:
    return isinstance(one, list) and [*map(type, one)] == [str] * 3


def _change(change: Callable[[list[_Key]], list[_Key]]) -> None:
    """Change what is kept. Raises StoreError."""
    path = files.home() / ALLOWED
    with files.locked(path):
        if path.exists():
            try:
                _parsed(path.read_text("utf-8"))
            except (OSError, ValueError) as error:
                files.move_aside(path, str(error))
        files.write(path, json.dumps(change(_kept()), indent=1).encode() + b"\n")
