"""A tool, wherever it comes from: what the model is told of it, and how it runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ipychat.errors import UsageError
from ipychat.messages import ImagePart, TextPart

Json: TypeAlias = dict[str, Any]

MARK = "__ipychat_tool__"
"""The attribute of a function that says more of it as a tool."""
MCP = "mcp:"
"""What the names of MCP servers and their tools begin with."""
MAX_WIRE_NAME = 64
"""Characters of a tool's name that every service accepts."""
HASH_DIGITS = 8


class Failed(Exception):  # noqa: N818 - the model reads its name
    """A tool ran, and says that it failed. `parts` is what the model is told of it."""

    def __init__(self, *parts: str | TextPart | ImagePart) -> None:
        self.parts = tuple(TextPart(one) if isinstance(one, str) else one for one in parts)
        said = "\n".join(part.text for part in self.parts if isinstance(part, TextPart))
        super().__init__(f"the tool failed: {said}" if said else "the tool failed")


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of code that ran."""

    parts: tuple[TextPart | ImagePart, ...]
    """What it showed."""
    made: tuple[str, ...] = ()
    """Names of the notebook to which it gave a value; changes within a value are not seen."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a model may call. `run` takes the arguments that `read` returned."""

    name: str
    """As the user writes it: `load`, `kernel.run`, `mcp:git.git_status`."""
    description: str
    schema: Json
    """The JSON Schema of its arguments, an object."""
    read: Callable[[Json], Mapping[str, Any]]
    """Checks the arguments of a call. Raises ValueError, which says what is wrong."""
    run: Callable[[Mapping[str, Any]], Awaitable[Any]]
    reads: bool = False
    """Whether it only reads: it may then run unasked, if the user said so."""
    beside: bool = False
    """Whether it may run beside others: it only waits, or has a thread of its own."""
    ask: bool | Callable[[Json], bool] | None = None
    """Whether the user is asked, whatever they said of tools in general; None: what they said."""
    code: str = ""
    """What it runs, where that can change while its definition stays: a function's code."""

    @property
    def wire_name(self) -> str:
        """Its name for services, which take letters, digits, `_` and `-`."""
        name = re.sub(
            r"[^\w-]", "_", self.name.removeprefix(MCP).replace(".", "__"), flags=re.ASCII
        )
        if len(name) <= MAX_WIRE_NAME:
            return name
        return f"{name[: MAX_WIRE_NAME - HASH_DIGITS - 1]}_{_hash(self.name)[:HASH_DIGITS]}"

    @property
    def hash(self) -> str:
        """The hash of its definition, which is what the model is told of it."""
        return _hash([self.name, self.description, self.schema])

    @property
    def allowance(self) -> str:
        """What was always allowed holds for this alone: the definition, and its code."""
        return _hash([self.hash, self.code]) if self.code else self.hash

    def to_dict(self) -> Json:
        """Return it as chat-completion protocols write it."""
        function = {"name": self.wire_name, "description": self.description}
        return {"type": "function", "function": {**function, "parameters": self.schema}}

    def is_asked(self, arguments: Json, *, unless_reading: bool) -> bool:
        """Whether the user has to allow a call; `unless_reading` if tools that read may run."""
        if callable(self.ask):
            try:
                return bool(self.ask(arguments))
            except Exception:  # noqa: BLE001 - the user's own: it can't say that nobody need be asked
                return True
        if self.ask is not None:
            return self.ask
        return not (self.reads and unless_reading)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_names(tools: list[Tool]) -> None:
    """Raise UsageError for two tools that a service could not tell apart."""
    seen: dict[str, Tool] = {}
    for tool in tools:
        other = seen.setdefault(tool.wire_name, tool)
        if other is not tool:
            both = "" if tool.name == other.name else f": {other.name} and {tool.name}"
            raise UsageError(
                f"Two tools are called {tool.wire_name}{both}.\n"
                "Give one of them another name: @ipychat.tool(name=…)."
            )
