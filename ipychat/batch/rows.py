"""Rows of data, from any container, and the prompts that a template makes of them.

pandas is used if the user has imported it; nothing here imports it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sized
from typing import Any, TypeAlias

from ipychat.errors import UsageError
from ipychat.messages import Prompt

Template: TypeAlias = str | Callable[[Any], Prompt]
IT = re.compile(r"\{\{\s*(it\b[^{}]*?)\s*\}\}")


class Record(dict[str, Any]):
    """A row with several columns: `it["name"]`, or `it.name`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(_no_column(name, self)) from None


def is_frame(data: Any) -> bool:
    """Whether `data` is a pandas DataFrame."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def is_series(data: Any) -> bool:
    """Whether `data` is a pandas Series or Index."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.Series | pandas.Index)


def values(data: Any) -> Iterator[Any]:
    """Yield the rows: values, or records if there are columns. Raises UsageError."""
    if is_frame(data):
        names = [str(name) for name in data.columns]
        return (Record(zip(names, row, strict=True)) for row in _tuples(data))
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise UsageError(f"Data are rows, such as a list or a Series, not {type(data).__name__}.")
    given = data.values() if isinstance(data, Mapping) else data
    return (Record(one) if isinstance(one, Mapping) else one for one in given)


def _tuples(frame: Any) -> Iterator[tuple[Any, ...]]:
    rows: Iterator[tuple[Any, ...]] = frame.itertuples(index=False, name=None)
    return rows


def labels(data: Any) -> Any:
    """Return the rows' labels, or None if they are only numbered."""
    if is_frame(data) or (is_series(data) and hasattr(data, "index")):
        return data.index
    return tuple(data) if isinstance(data, Mapping) else None


def count(data: Any) -> int | None:
    """Return the number of rows, if it is known."""
    return len(data) if isinstance(data, Sized) else None


def parse_template(template: Template) -> Callable[[Any], Prompt]:
    """Return a function that makes a row's prompt.

    In a text, `{{it}}` is the row's value, `{{it.name}}` and `{{it["name"]}}` are columns. Other
    braces stay as written. Raises UsageError for a text without any of these.
    """
    if not isinstance(template, str):
        if not callable(template):
            raise UsageError(f"A template is a text or a function, not {type(template).__name__}.")
        return template
    texts = IT.split(template)
    if len(texts) == 1:
        raise UsageError(
            "The template has no {{it}}, so every row would ask the same.\n"
            "{{it}} is the row's value, {{it.name}} or {{it['name']}} its column."
        )
    paths = [_path(written) for written in texts[1::2]]
    between = texts[::2]

    def make(value: Any) -> str:
        found = [str(_follow(path, value)) for path in paths]
        pieces = [piece for pair in zip(between, [*found, ""], strict=True) for piece in pair]
        return "".join(pieces)

    return make


def _path(written: str) -> list[Hashable]:
    """Parse an expression into the names that lead from a row to it. Raises UsageError."""
    names: list[Hashable] = []
    try:
        node: ast.expr = ast.parse(written, mode="eval").body
        while not isinstance(node, ast.Name):
            match node:
                case ast.Attribute(value=inner, attr=name):
                    names.append(name)
                case ast.Subscript(value=inner, slice=ast.Constant(value=name)):
                    names.append(name)
                case _:
                    raise SyntaxError
            node = inner
    except (SyntaxError, ValueError, RecursionError):
        raise UsageError(
            f"A template takes {{{{it}}}}, {{{{it.name}}}} and {{{{it['name']}}}}, "
            f"not {{{{{written}}}}}.\nA function can do anything else."
        ) from None
    return names[::-1]


def _follow(path: list[Hashable], value: Any) -> Any:
    for name in path:
        try:
            value = value[name] if isinstance(value, Mapping) else _part(value, name)
        except (LookupError, AttributeError, TypeError):
            raise UsageError(_no_column(name, value)) from None
    return value


def _part(value: Any, name: Hashable) -> Any:
    """Return an object's attribute of that name, else its item."""
    if isinstance(name, str) and hasattr(value, name):
        return getattr(value, name)
    return value[name]


def _no_column(name: Hashable, row: Any) -> str:
    has = f" It has: {', '.join(map(str, [*row][:20]))}." if isinstance(row, Mapping) else ""
    return f"A row has no {name!r}.{has}"
