"""The notebook's names, and what they stand for. A name is looked up, never evaluated."""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any


def visible(names: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names that the user has defined, without those that IPython hides."""
    return {
        name: value
        for name, value in list(names.items())
        if isinstance(name, str)
        and not name.startswith("_")
        and not (name in hidden and hidden[name] is value)
    }


def of(shell: Any) -> dict[str, Any]:
    """Return the names that the user has defined in a shell."""
    return visible(shell.user_ns, shell.user_ns_hidden)


def look_up(dotted: str, names: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what a dotted name may stand for: the notebook's, a builtin, an imported module's.

    No property and no `__getattr__` is run: a property is yielded itself.
    """
    path = dotted.split(".")
    roots = names, vars(builtins)
    starts = [(root[path[0]], path[1:]) for root in roots if path[0] in root]
    splits = [(".".join(path[:end]), path[end:]) for end in range(len(path), 0, -1)]
    starts += [(sys.modules[name], rest) for name, rest in splits if name in sys.modules]
    for value, rest in starts:
        with contextlib.suppress(AttributeError, TypeError):
            yield functools.reduce(_attribute, rest, value)


def _attribute(value: Any, name: str) -> Any:
    held = inspect.getattr_static(value, name)
    return held.__func__ if isinstance(held, staticmethod | classmethod) else held
