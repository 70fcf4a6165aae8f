"""The kernel's own tools that only read: variables, documentation, cells and their outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from ipychat import secrets
from ipychat.context import cells, namespace, values
from ipychat.text import schemas, words
from ipychat.toolbox.tool import Json, Tool

MAX_VARIABLES = 200
MAX_CELLS = 50
ROW_BUDGET = 100
"""Characters that describe one of many values."""
BUDGET = 4_000
"""Characters that describe a single value."""
EMPTY = inspect.Parameter.empty
KINDS = {"name": "string", "n": "integer", "code": "string", "note": "string"}


class Reading:
    """The tools of one shell that change nothing. What they can't do, they say in a ValueError."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def tools(self) -> list[Tool]:
        """Return them as tools."""
        dotted = "A name of the notebook, which may have dots: df, model.layers"
        return [
            _tool(self.variables),
            _tool(self.inspect, name=dotted),
            _tool(self.documentation, name=dotted),
            _tool(self.cells, n="How many cells, the last ones"),
            _tool(self.output, n="The number of the cell, as in Out[3]"),
        ]

    def variables(self) -> str:
        """List the variables of the notebook, each with its type and a short value."""
        known = namespace.of(self._shell)
        rows = [_described(name, known[name], ROW_BUDGET) for name in islice(known, MAX_VARIABLES)]
        more = [f"… and {len(known) - len(rows):,} more"] if len(known) > len(rows) else []
        return "\n".join([*rows, *more]) or "Nothing is defined in this notebook yet."

    def inspect(self, name: str) -> str:
        """Describe the value of a name: its type, size, columns, items. Nothing is evaluated."""
        value = self._value(name)
        if isinstance(value, property):
            return f"{name} is a property: only running code can tell its value."
        return _described(name, value, BUDGET)

    def documentation(self, name: str) -> str:
        """Return the signature and the docstring of a function, class or module."""
        value = self._value(name)
        try:
            signature = str(inspect.signature(value))
        except (TypeError, ValueError):
            signature = ""
        return f"{name}{signature}\n\n{inspect.getdoc(value) or 'It has no docstring.'}"

    def cells(self, n: int) -> str:
        """Return the code of the last n cells that ran, with their outputs."""
        last = cells.last(self._shell, max(1, min(n, MAX_CELLS)))
        return cells.cells_text(last) or "No other cell has run yet."

    def output(self, n: int) -> str:
        """Describe the value that cell n showed, which is Out[n]."""
        shown: Mapping[int, Any] = self._shell.user_ns["Out"]
        if n not in shown:
            known = ", ".join(map(str, shown)) or "none"
            raise ValueError(f"Cell {n} showed no value. Cells that did: {known}.")
        return _described(f"Out[{n}]", shown[n], BUDGET)

    def _value(self, name: str) -> Any:
        known = namespace.of(self._shell)
        for value in namespace.look_up(name.strip(), self._shell.user_ns):
            return value
        raise ValueError(f"No variable named {name}.{words.near(name, known, most=1)}")


def _described(name: str, value: Any, budget: int) -> str:
    if secrets.is_name(name.rpartition(".")[2]):
        return f"{name}: {type(value).__name__}, not shown: by its name it is a secret"
    return values.summarise(name, value, budget)


def tool_of(method: Callable[..., Any], **parameters: str) -> Tool:
    """Return a method as one of the kernel's tools; `parameters` says what each one takes."""
    taken = inspect.signature(method).parameters
    schema = {
        "type": "object",
        "properties": {
            name: {"type": KINDS[name], "description": said} for name, said in parameters.items()
        },
        "required": [name for name in parameters if taken[name].default is EMPTY],
        "additionalProperties": False,
    }

    def read(arguments: Json) -> Mapping[str, Any]:
        schemas.check(schema, arguments)
        return arguments

    async def run(arguments: Mapping[str, Any]) -> Any:
        value = method(**arguments)
        return await value if inspect.isawaitable(value) else value

    name, description = f"kernel.{method.__name__}", inspect.getdoc(method) or ""
    return Tool(name, description, schema, read, run)


def _tool(method: Callable[..., str], **parameters: str) -> Tool:
    return replace(tool_of(method, **parameters), reads=True, beside=True)
