"""Descriptions of values for a language model, by type.

Values are inspected, never iterated to the end, and only data already in memory is read.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import stat
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ipychat.context._short_repr import (
    COLLECTION,
    attributes,
    bare,
    first_items,
    glance,
    is_of,
    is_small,
    own_repr,
    type_name,
)
from ipychat.context._text import BUDGET, count, cut, why

MAX_NUMBERS = 1_000_000
"""Numbers inspected for a range or a count of missing values: takes milliseconds."""
MAX_ITEMS = 100
"""Items taken from a collection, whatever the budget."""


def summarise(name: str, value: Any, budget: int = BUDGET) -> str:
    """Describe a value for a language model, in at most `budget` characters.

    Its `_repr_llm_()` takes precedence. Never raises; an object that can't be inspected is
    described by its type.
    """
    notes: list[str] = []
    for describe in (_by_itself, _by_kind, _object):
        try:
            lines = _fit(describe(value), budget - len(name) - 2)
        except Exception as error:  # noqa: BLE001 - whatever an object does when it is inspected
            notes.append(f"(looking at it raised {why(error)})")
        else:
            if lines:
                return cut("\n".join([f"{name}: {lines[0]}", *notes, *lines[1:]]), budget)
    return cut("\n".join([f"{name}: {type_name(value)}", *notes[:1]]), budget)


class _Lines(NamedTuple):
    """Lines of which as many are shown as fit."""

    texts: Iterable[str]
    total: int
    what: str
    share: float = 1  # of the remaining room

    def fit(self, room: int) -> list[str]:
        room = int(room * self.share) - len(f"… {count(self.total, f'more {self.what}')}")
        taken: list[str] = []
        for text in self.texts:
            room -= len(text) + 1
            if room < 0:
                break
            taken.append(text)
        more = self.total - len(taken)
        return [*taken, f"… {count(more, f'more {self.what}')}"] if more else taken


_Parts = Iterator[str | _Lines]
"""A description: the value in one line, then further details."""


def _fit(parts: _Parts, room: int) -> list[str]:
    lines: list[str] = []
    for part in parts:
        added = [cut(part, room)] if isinstance(part, str) else part.fit(room)
        lines += added
        room -= sum(len(each) + 1 for each in added)
    return lines


def _by_itself(value: Any) -> _Parts:
    # looked up on the class: some objects have every attribute
    if hasattr(type(value), "_repr_llm_") and isinstance(text := value._repr_llm_(), str):
        yield type_name(value)
        yield text


def _by_kind(value: Any) -> _Parts:
    return next(describe for matches, describe in _KINDS if matches(value))(value)


# -- Python's own


def _scalar(value: Any) -> _Parts:
    yield f"{type_name(value)} = {glance(value, MAX_ITEMS)}"


def _text(value: str | bytes | bytearray) -> _Parts:
    if len(value) <= MAX_ITEMS:
        yield from _scalar(value)
        return
    what = "character" if isinstance(value, str) else "byte"
    yield f"{type_name(value)}, {count(len(value), what)}"
    yield value if isinstance(value, str) else glance(value, MAX_ITEMS)


def _mapping(value: Any) -> _Parts:
    yield f"{type_name(value)}, {count(len(value), 'key')}"
    lines = (
        f"- {glance(key, 60)}: {type_name(item)} = {glance(item)}"
        for key, item in first_items(value, MAX_ITEMS)
    )
    yield _Lines(lines, len(value), "key")


def _collection(value: Any) -> _Parts:
    yield f"{type_name(value)}, {count(len(value), 'item')}"
    items = first_items(value, MAX_ITEMS)
    yield _Lines((f"- {glance(item)}" for item in items), len(value), "item")


def _code(value: Any) -> _Parts:
    name = getattr(value, "__qualname__", type_name(value))
    yield f"{'class' if isinstance(value, type) else type_name(value)} {name}"
    if source := _source(value):
        yield source.strip()
        return
    with contextlib.suppress(Exception):  # not every builtin has a signature
        name += f"({', '.join(inspect.signature(value).parameters)})"
    yield f"{name}\n{inspect.getdoc(value) or 'its source is not at hand'}"


def _source(value: Any) -> str:
    with contextlib.suppress(Exception):  # the source may be missing for many reasons
        return textwrap.dedent(inspect.getsource(value))
    with contextlib.suppress(Exception):
        # a class defined in a cell: `__main__` has no file, but its methods have
        method = next(filter(inspect.isfunction, vars(value).values()))
        lines, at = inspect.findsource(inspect.unwrap(method))
        head = re.compile(rf"\s*class {value.__name__}\b")
        at = max(number for number in range(at) if head.match(lines[number]))
        while lines[at - 1].lstrip().startswith("@"):
            at -= 1
        return textwrap.dedent("".join(inspect.getblock(lines[at:])))
    return ""


def _module(value: ModuleType) -> _Parts:
    content = vars(value)
    version = content.get("__version__")
    yield f"module {value.__name__}" + (f", version {glance(version)}" if version else "")
    # sorted: a summary that differs between runs would never match a stored answer
    names = sorted(name for name in content.get("__all__") or content if name[:1] != "_")
    yield _Lines((f"- {name}" for name in names), len(names), "public name")


def _exception(value: BaseException) -> _Parts:
    chain = [value, value.__cause__, value.__context__]
    if is_small([each.args for each in chain if each]):
        yield f"exception {why(value)}"
        yield "".join(traceback.format_exception(value, limit=-5)).strip()
    else:
        yield f"exception {type_name(value)}, which holds much"


def _path(value: Path) -> _Parts:
    yield f"{type_name(value)} = {glance(str(value), 300)}"
    there = "not there, or not to be seen"
    with contextlib.suppress(OSError, ValueError):
        found = value.stat()
        is_folder = stat.S_ISDIR(found.st_mode)
        there = "a folder" if is_folder else f"a file of {count(found.st_size, 'byte')}"
    yield there


def _object(value: Any) -> _Parts:
    """Any other object: its own `repr`, and its public attributes."""
    home = type(value).__module__
    head = type_name(value) + ("" if home in {"builtins", "__main__"} else f" ({home})")
    if isinstance(value, Iterator):
        yield f"{head}, an iterator, not consumed"
        return
    public = {name: each for name, each in attributes(value).items() if not name.startswith("_")}
    says = own_repr(value)
    if not public and "\n" not in says and len(says) <= MAX_ITEMS:
        yield f"{head} = {says}"
        return
    yield head
    if says != bare(value):
        yield cut(says, BUDGET // 3) if public else says
    lines = (f"- {name}: {type_name(each)} = {glance(each)}" for name, each in public.items())
    yield _Lines(islice(lines, MAX_ITEMS), len(public), "attribute")


# -- pandas and numpy


def _table(value: Any) -> _Parts:
    """A DataFrame, or a Series as a table with one column."""
    table = value.to_frame() if value.ndim == 1 else value
    rows, columns = table.shape
    yield f"{type_name(value)}, {count(rows, 'row')} and {count(columns, 'column')}"
    looked = table.iloc[: max(MAX_ITEMS, MAX_NUMBERS // max(1, min(columns, MAX_ITEMS)))]
    yield f"columns, looking at the first {len(looked):,} rows:"
    # by position, since names may be duplicated
    lines = (
        _column(table.columns[at], looked.iloc[:, at]) for at in range(min(columns, MAX_ITEMS))
    )
    yield _Lines(lines, columns, "column", share=3 / 4)
    first = table.iloc[:10, :8]
    yield f"first rows, {first.shape[1]} of {count(columns, 'column')}:"
    yield " | ".join(["index", *(glance(name, 30) for name in first.columns)])
    cells = first.itertuples(name=None)
    yield _Lines((" | ".join(glance(cell, 30) for cell in row) for row in cells), rows, "row")


def _column(name: Any, column: Any) -> str:
    known = column.dropna()
    shown = _range(known)
    if not shown and (examples := dict.fromkeys(glance(item, 30) for item in known.iloc[:20])):
        shown = f", e.g. {', '.join(islice(examples, 3))}"
    return f"- {glance(name, 60)}: {column.dtype}, {len(column) - len(known):,} missing{shown}"


def _index(value: Any) -> _Parts:
    yield f"{type_name(value)}, {count(len(value), 'label')} of {value.dtype}"
    yield _Lines((f"- {glance(label)}" for label in value[:10]), len(value), "label")


def _array(value: Any) -> _Parts:
    yield f"{type_name(value)}, shape {value.shape}, dtype {value.dtype}"
    looked = value.flat[:MAX_NUMBERS]  # copies only these, also from a memory-mapped file
    if value.dtype.kind in "biufmM":
        known = looked[looked == looked]  # noqa: PLR0124 - NaN and NaT differ from themselves
        of = f" (of the first {MAX_NUMBERS:,})" if value.size > MAX_NUMBERS else ""
        yield f"{len(looked) - len(known):,} missing{_range(known)}{of}"
    yield f"first values: {', '.join(map(glance, looked[:10]))}"
    if value.size > 10:
        yield f"… {count(int(value.size) - 10, 'more value')}"


def _range(known: Any) -> str:
    if getattr(known.dtype, "kind", "O") not in "biufmM" or not len(known):
        return ""
    return f", {known.min()!s} to {known.max()!s}"


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], _Parts]], ...] = (
    (lambda value: isinstance(value, int | float | complex | range | date | timedelta), _scalar),
    (lambda value: value is None or is_of(value, "numpy", "generic"), _scalar),
    (lambda value: isinstance(value, str | bytes | bytearray), _text),
    (lambda value: isinstance(value, type) or inspect.isroutine(value), _code),
    (lambda value: isinstance(value, ModuleType), _module),
    (lambda value: isinstance(value, BaseException), _exception),
    (lambda value: isinstance(value, Path), _path),
    (lambda value: is_of(value, "pandas", "NDFrame"), _table),
    (lambda value: is_of(value, "pandas", "Index"), _index),
    (lambda value: is_of(value, "numpy", "ndarray"), _array),
    (lambda value: isinstance(value, Mapping), _mapping),
    (lambda value: isinstance(value, COLLECTION), _collection),
    (lambda _: True, _object),
)
"""Checks and describers, in order; the first that matches is used."""
