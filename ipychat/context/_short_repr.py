"""A one-line summary of a value, without iterating through it.

No huge `repr`, no iterator consumed, no property called. Libraries' classes are recognised by name
and used if the notebook has imported them; none is imported here.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections import abc, deque
from datetime import date, timedelta
from itertools import islice
from types import MemberDescriptorType, ModuleType
from typing import Any

from ipychat.context._text import MAX_SECRET, beginning, line

MAX_OBJECTS = 200
"""Objects that a value may contain for its own `repr` to be called."""

COLLECTION = (abc.Mapping, abc.Sequence, abc.Set, abc.MappingView)


def glance(value: Any, room: int = 80, depth: int = 2) -> str:
    """Summarise a value in one line of about `room` characters."""
    try:
        text = _brief(value, room, depth)
    except Exception:  # noqa: BLE001 - whatever an object does when it is inspected
        text = bare(value)
    return text if len(text) <= 2 * room + 40 and "\n" not in text else line(text, 2 * room)


def _brief(value: Any, room: int, depth: int) -> str:
    match value:
        case str() | bytes() | bytearray():
            return _quoted(value, room)
        case type() | ModuleType():
            return f"<{'class' if isinstance(value, type) else 'module'} {value.__name__}>"
        case range():
            return repr(value)
    if isinstance(value, date | timedelta) or is_of(value, "numpy", "generic"):
        return str(value)  # their `repr` is longer and says no more
    if isinstance(value, COLLECTION):
        return _items(value, room, depth)
    if is_of(value, "numpy", "ndarray") or is_of(value, "pandas", "NDFrame"):
        return f"<{type_name(value)}, shape {value.shape}>"
    return line(own_repr(value), room)


def _quoted(value: str | bytes | bytearray, room: int) -> str:
    more = f"… {len(value) - room:,} more" if len(value) > room else ""
    if isinstance(value, str):
        return repr(beginning(value, room)) + more
    text = value[: room + MAX_SECRET + 1].decode("latin-1")  # it may contain a secret
    return f"b{beginning(text, room)!r}{more}"


def _items(value: Any, room: int, depth: int) -> str:
    texts = []
    for item in first_items(value, 8) if depth else ():
        pair = item if isinstance(value, abc.Mapping) else (item,)
        texts.append(": ".join(glance(each, room // 2, depth - 1) for each in pair))
    if more := len(value) - len(texts):
        texts.append(f"… {more:,} more")
    brackets: dict[type, str] = {list: "[{}]", tuple: "({})", set: "{{{}}}", dict: "{{{}}}"}
    return brackets.get(type(value), f"{type_name(value)}({{}})").format(", ".join(texts))


def first_items(value: Any, most: int) -> list[Any]:
    """The first items. A set's are sorted: its own order differs between runs."""
    items = list(islice(value.items() if isinstance(value, abc.Mapping) else iter(value), most))
    return sorted(items, key=glance) if isinstance(value, set | frozenset) else items


def own_repr(value: Any) -> str:
    """The object's own `repr`, if it has one and contains little."""
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__ or isinstance(value, abc.Iterator) or not is_small(value):
        return bare(value)
    try:
        # an address says nothing, and a text that differs between runs never matches a stored
        # answer
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    except Exception as error:  # noqa: BLE001 - a `repr` is the user's code
        return f"<{type_name(value)} object whose repr raises {type(error).__name__}>"


def bare(value: Any) -> str:
    """An object described by its type alone."""
    return f"<{type_name(value)} object>"


def type_name(value: Any) -> str:
    """The name of its class."""
    return str(type(value).__name__)


def is_of(value: Any, library: str, name: str) -> bool:
    """Whether the value is an instance of the library's class of that name, or of a subclass."""
    return library in sys.modules and any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == library
        for kind in type(value).__mro__
    )


def is_small(value: Any) -> bool:
    """Whether a value contains so little that its `repr` is cheap."""
    waiting = [value]
    for _ in range(MAX_OBJECTS):  # counted once per reference, as a `repr` shows it
        if not waiting:
            return True
        each = waiting.pop()
        most = MAX_SECRET if isinstance(each, str | bytes | bytearray) else MAX_OBJECTS
        if isinstance(each, COLLECTION) and len(each) > most:
            return False
        if isinstance(each, dict | list | tuple | set | frozenset | deque):
            waiting += first_items(each, MAX_OBJECTS)
        if not isinstance(each, type | ModuleType) and not inspect.isroutine(each):
            waiting += attributes(each).values()
    return False


def attributes(value: Any) -> dict[str, Any]:
    """An object's `__dict__` and slots; no properties."""
    found = {}
    for kind in reversed(type(value).__mro__):
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType):
                with contextlib.suppress(AttributeError):
                    found[name] = member.__get__(value)
    with contextlib.suppress(AttributeError):
        found.update(object.__getattribute__(value, "__dict__"))
    return found
