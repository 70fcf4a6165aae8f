"""What of the notebook goes along with a prompt: expressions, values, files, images, cells.

Everything here is text or a message's part when it leaves; nothing is sent and nothing is kept.
What is cut is said where it is cut, and known secrets are masked before a cut could halve them.

A value is looked at, never run through: no huge `repr`, no iterator consumed, no property called,
no data read that is not in memory already. Libraries are recognised by their classes' names and
used where the notebook has them; none is imported.
"""

from __future__ import annotations

import ast
import base64
import builtins
import contextlib
import inspect
import io
import keyword
import linecache
import re
import stat
import sys
import textwrap
import tokenize
import traceback
import warnings
from collections import deque
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MappingView,
    Sequence,
    Set as AbstractSet,
)
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path, PurePath
from types import MemberDescriptorType, ModuleType
from typing import Any, Literal

from ipychat.errors import UsageError
from ipychat.messages import FilePart, ImagePart, TextPart
from ipychat.secrets import mask

BUDGET = 2000
"""Characters of a value's summary, and of a cell's output."""
TEXT_LIMIT = 1 << 20
BINARY_LIMIT = 20 << 20
"""Bytes of a file that goes along: a text, an image or a PDF."""

CANDIDATES = 100
"""Ends of a `{{expression}}` that are tried; each costs a parse of all that stands before it."""
LOOK = 1_000_000
"""Numbers that are looked at for a range or a count of missing values: milliseconds."""
ITEMS = 100
"""Items that are taken from a collection, whatever the budget."""
SMALL = 200
"""Objects that a value may hold for its own `repr` to be called."""
LONGEST_SECRET = 4096
"""Characters that are read behind a cut, so that no secret is seen in halves."""

_SCALARS: set[type] = {int, float, complex, bool, range, slice}
_SCALARS |= {type(None), type(...), type(NotImplemented)}
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    dict: ("{", "}"),
}


# -- expressions in a prompt


def expand(text: str, evaluate: Callable[[str], Any]) -> str:
    """Replace each `{{expression}}` by the text of its value; other braces stay as written.

    Nothing is evaluated unless every expression can be parsed.
    Raises UsageError for one that is no expression, and for one that fails.
    """
    return "".join(
        [
            before if expression is None else before + _value_of(expression, evaluate)
            for before, expression in list(_split(text))
        ]
    )


def _split(text: str) -> Iterator[tuple[str, str | None]]:
    """Texts, each with the expression behind it; the last has none."""
    at = 0
    while (start := text.find("{{", at)) >= 0 and (end := text.find("}}", start + 2)) >= 0:
        for _ in range(CANDIDATES):
            if end < 0 or (expression := _as_expression(text[start + 2 : end])):
                break
            end = text.find("}}", end + 1)
        else:
            end = -1
        if end < 0:
            raise UsageError(
                f"There is no expression in {_line(text[start:], 80)}\n"
                "--raw sends the prompt as written, with all its braces."
            )
        yield text[at:start], expression
        at = end + 2
    yield text[at:], None


def _as_expression(written: str) -> str | None:
    """What can be evaluated of the text between braces: over several lines it needs brackets."""
    expression = written.strip()
    if _parse(expression, "eval"):
        return expression
    # the second pair keeps `a) + (b` out
    if "\n" in expression and all(_parse(f"{a}{expression}\n{b}", "eval") for a, b in ("()", "[]")):
        return f"({expression}\n)"
    return None


def _value_of(expression: str, evaluate: Callable[[str], Any]) -> str:
    try:
        value = evaluate(expression)
        return value if isinstance(value, str) else str(value)
    except Exception as error:
        raise UsageError(
            f"{{{{{_line(expression, 80)}}}}} failed: {_why(error)}\n"
            "--raw sends the prompt as written, with all its braces."
        ) from error


def _parse(source: str, mode: Literal["eval", "exec"]) -> ast.AST | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an invalid escape, say: running the cell tells that
        try:
            return ast.parse(source, mode=mode)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


# -- texts and their cuts


def _beginning(text: str, limit: int) -> str:
    """At most `limit` characters of the masked text, none of them of a secret that was halved."""
    if limit <= 0:
        return ""
    read = limit + LONGEST_SECRET
    masked = mask(str.__getitem__(text, slice(read)))
    return (masked if len(text) <= read else masked[:-LONGEST_SECRET])[:limit]


def _end(text: str, limit: int) -> str:
    if limit <= 0:
        return ""
    read = limit + LONGEST_SECRET
    masked = mask(text[-read:])
    return (masked if len(text) <= read else masked[LONGEST_SECRET:])[-limit:]


def _cut(text: str, limit: int) -> str:
    """The text, or its beginning and how much more there is."""
    if len(text) <= limit:
        return mask(text)
    note = f"\n… {_count(len(text) - limit, 'more character')}"
    kept = _beginning(text, limit - len(note) - 3)
    return kept + f"\n… {_count(max(1, len(text) - len(kept)), 'more character')}"


def _cut_middle(text: str, limit: int) -> str:
    """The text, or its beginning and its end: what went wrong stands at the end of an output."""
    if len(text) <= limit:
        return mask(text)
    first, last = _beginning(text, limit * 2 // 3), _end(text, limit // 3)
    more = _count(max(1, len(text) - len(first) - len(last)), "more character")
    return f"{first}\n… {more} …\n{last}"


def _line(text: str, limit: int) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(_beginning(text, limit + 1).split())
    return line if len(line) <= limit and len(text) <= limit + 1 else f"{line[:limit]} …"


def _why(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error's own text is the user's code
        text = ""
    return _line(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _size(number: int) -> str:
    return f"{number / (1 << 20):,.1f} MiB" if number >= 1 << 20 else f"{number / 1024:,.1f} KiB"


def _fenced(text: str, language: str = "") -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"


# -- values


def summarise(name: str, value: Any, budget: int = BUDGET) -> str:
    """What a language model should know of a value, in at most `budget` characters.

    Its `_repr_llm_()` wins. Never raises; an object that can't be looked at is named by its type.
    """
    notes: list[str] = []
    for describe in (_by_itself, _describer(value), _object):
        try:
            page = describe(value, budget - len(name) - 2)
        except Exception as error:  # noqa: BLE001 - whatever an object does when it is looked at
            notes.append(f"(looking at it raised {_why(error)})")
        else:
            if page:
                text = "\n".join([f"{name}: {page.lines[0]}", *notes, *page.lines[1:]])
                return mask(_cut(text, budget))
    return mask(_cut("\n".join([f"{name}: {_type(value)}", *notes[:1]]), budget))


class _Page:
    """The lines of a summary, as far as there is room."""

    NOTES = 60
    """Characters that are kept free for saying what was cut."""

    def __init__(self, head: str, room: int) -> None:
        self.lines = [head]
        self.room = room - len(head) - self.NOTES

    def add(self, line: str) -> None:
        self.lines.append(line)
        self.room -= len(line) + 1

    def take(self, texts: Iterable[str], room: int | None = None) -> list[str]:
        """As many of the texts as there is room for."""
        room = self.room if room is None else min(room, self.room)
        taken = []
        for text in texts:
            room -= len(text) + 2
            if room < 0:
                break
            taken.append(text)
        return taken

    def fill(self, texts: Iterable[str], total: int, what: str, *, room: int | None = None) -> int:
        """Add as many lines as there is room for, and how many more there are."""
        taken = self.take(texts, room)
        for line in taken:
            self.add(line)
        if total > len(taken):
            self.add(f"… {_count(total - len(taken), f'more {what}')}")
        return len(taken)

    def add_list(self, head: str, texts: Iterable[str], total: int, what: str) -> None:
        """Add as many texts as there is room for in one line, and how many more there are."""
        taken = self.take(texts)
        self.add(head + ", ".join(taken))
        self.fill((), total - len(taken), what)

    def add_text(self, text: str) -> None:
        """Add as much of a text as there is room for, and how much more there is."""
        length, room = str.__len__(text), self.room
        begin = _beginning(text, room)
        if begin:
            self.add(begin)
        if length > room:
            self.add(f"… {_count(length - len(begin), 'more character')}")


def _by_itself(value: Any, room: int) -> _Page | None:
    if isinstance(value, type) or not _has(value, "_repr_llm_") or not callable(value._repr_llm_):
        return None
    text = value._repr_llm_()
    if not isinstance(text, str):
        return None
    page = _Page(_type(value), room)
    page.add_text(text)
    return page


def _describer(value: Any) -> Callable[[Any, int], _Page | None]:
    try:
        return next(describe for matches, describe in _DESCRIBERS if matches(value))
    except Exception:  # noqa: BLE001 - an object may raise when it is asked for its class
        return _object


def _scalar(value: Any, room: int) -> _Page:
    return _Page(f"{_type(value)} = {_short(value, max(room, 20))}", room)


def _text(value: Any, room: int) -> _Page:
    length = str.__len__(value)
    if length <= ITEMS:
        return _scalar(value, room)
    page = _Page(f"{_type(value)}, {_count(length, 'character')}", room)
    page.add_text(value)
    return page


def _bytes(value: Any, room: int) -> _Page:
    page = _Page(f"{_type(value)}, {_count(len(value), 'byte')}", room)
    shown = min(ITEMS, max(1, page.room // 4), len(value))
    page.add(_short_bytes(value, shown))
    if len(value) > shown:
        page.add(f"… {_count(len(value) - shown, 'more byte')}")
    return page


def _mapping(value: Any, room: int) -> _Page:
    page = _Page(f"{_type(value)}, {_count(len(value), 'key')}", room)
    items = _items(value, ITEMS)
    if items:
        page.add(f"key types: {_types([key for key, _ in items], len(value))}")
    lines = (f"- {_short(key, 60)}: {_type(item)} = {_short(item)}" for key, item in items)
    page.fill(lines, len(value), "key")
    return page


def _collection(value: Any, room: int) -> _Page:
    total = len(value)
    page = _Page(f"{_type(value)}, {_count(total, 'item')}", room)
    items = _items(value, ITEMS)
    if items:
        page.add(f"item types: {_types(items, total)}")
    page.fill((f"- {_short(item)}" for item in items), total, "item")
    return page


def _items(value: Any, most: int) -> list[Any]:
    """The first items. Those of a set are sorted: its own order differs from run to run."""
    items = list(islice(value.items() if isinstance(value, Mapping) else iter(value), most))
    return sorted(items, key=_short) if isinstance(value, set | frozenset) else items


def _types(items: Sequence[Any], total: int) -> str:
    names = list(dict.fromkeys(map(_type, items)))
    text = ", ".join(names[:10]) + (f", … {len(names) - 10} more" if len(names) > 10 else "")
    return text if len(items) >= total else f"{text} (of the first {len(items):,})"


def _table(value: Any, room: int) -> _Page:
    rows, columns = value.shape
    page = _Page(f"{_type(value)}, {_extent(value)}", room)
    looked = min(rows, max(ITEMS, LOOK // max(1, min(columns, ITEMS))))
    page.add("columns:" if looked == rows else f"columns, looking at the first {looked:,} rows:")
    shown = page.fill(
        (_column(value, at, looked) for at in range(min(columns, ITEMS))),
        columns,
        "column",
        room=page.room * 3 // 4,
    )
    # three or more rows should fit; a cell is fifteen characters wide, more or less
    wide = min(shown, max(1, page.room // 4 // 15))
    page.add("first rows:" if wide == columns else f"first rows, {wide} of {columns:,} columns:")
    page.add(" | ".join(["index", *(_short(value.columns[at], 30) for at in range(wide))]))
    lines = (
        " | ".join(_short(cell, 30) for cell in (value.index[row], *_cells(value, row, wide)))
        for row in range(min(rows, 10))
    )
    page.fill(lines, rows, "row")
    return page


def _extent(value: Any) -> str:
    rows, columns = value.shape
    return f"{_count(rows, 'row')} × {_count(columns, 'column')}"  # noqa: RUF001 - as tables say it


def _cells(value: Any, row: int, wide: int) -> list[Any]:
    return [value.iat[row, at] for at in range(wide)]


def _column(value: Any, at: int, looked: int) -> str:
    """A column by its place, for names may come twice."""
    column = value.iloc[:looked, at]
    missing = f"{int(column.isna().sum()):,} missing"
    examples = dict.fromkeys(_short(item, 30) for item in column.dropna().iloc[:20])
    shown = f", e.g. {', '.join(list(examples)[:3])}" if examples else ""
    return f"- {_short(value.columns[at], 60)}: {column.dtype}, {missing}{shown}"


def _series(value: Any, room: int) -> _Page:
    named = "" if value.name is None else f", named {_short(value.name, 60)}"
    page = _Page(f"{_type(value)}, {_count(len(value), 'value')} of {value.dtype}{named}", room)
    looked = value.iloc[:LOOK]
    of = f" (of the first {LOOK:,})" if len(value) > LOOK else ""
    page.add(f"{int(looked.isna().sum()):,} missing{_range(looked.dropna())}{of}")
    page.fill(
        (
            f"- {_short(value.index[at], 30)}: {_short(value.iat[at])}"
            for at in range(len(looked[:10]))
        ),
        len(value),
        "value",
    )
    return page


def _index(value: Any, room: int) -> _Page:
    page = _Page(f"{_type(value)}, {_count(len(value), 'label')} of {value.dtype}", room)
    page.fill((f"- {_short(label)}" for label in value[:10]), len(value), "label")
    return page


def _array(value: Any, room: int) -> _Page:
    page = _Page(f"{_type(value)}, shape {value.shape}, dtype {value.dtype}", room)
    looked = value.flat[:LOOK]  # copies these only, also of a view or a file mapped into memory
    of = f" (of the first {LOOK:,} values)" if value.size > LOOK else ""
    missing = ""
    if value.dtype.kind in "fmM":
        known = looked[looked == looked]  # noqa: PLR0124 - NaN and NaT differ from themselves
        missing = f", {looked.size - known.size:,} NaN" if known.size < looked.size else ""
        looked = known
    if about := (_range(looked) + missing).removeprefix(", "):
        page.add(about + of)
    page.add_list("first values: ", map(_short, islice(value.flat, 10)), int(value.size), "value")
    return page


def _range(values: Any) -> str:
    if getattr(values.dtype, "kind", "O") not in "biufmM" or not len(values):
        return ""
    return f", range {values.min()!s} to {values.max()!s}"


def _array_like(value: Any, room: int) -> _Page:
    """Tensors, arrays on a disk or a device: their data stays where it is, if it is much."""
    shape = tuple(value.shape)
    page = _Page(f"{_type(value)} ({type(value).__module__}), shape {shape}", room)
    page.add(f"dtype {_short(value.dtype)}")
    size = 1
    for length in shape:
        size *= length
    page.add_text(_repr(value)) if size <= ITEMS else page.add("values not read")
    return page


def _code(value: Any, room: int) -> _Page:
    source = _source(value)
    kind = "class" if isinstance(value, type) else _type(value)
    shown = getattr(value, "__qualname__", "") if source else _signed(value)
    page = _Page(f"{kind} {shown}", room)
    if not source:
        doc = inspect.getdoc(value) or "its source is not at hand, and it has no docstring"
        page.fill(doc.splitlines(), doc.count("\n") + 1, "line")
        return page
    lines = source.splitlines()
    page.fill(lines, len(lines), "line")
    return page


def _signed(value: Any) -> str:
    """The name with its signature; a default that is large is left out."""
    name = getattr(value, "__qualname__", None) or _type(value)
    try:
        signature = inspect.signature(value)
        given = [
            parameter if _is_small(parameter.default) else parameter.replace(default=...)
            for parameter in signature.parameters.values()
        ]
        text = str(signature.replace(parameters=given))
        return f"{name}{_line(re.sub(r' at 0x[0-9a-fA-F]+', '', text), 200)}"
    except Exception:  # noqa: BLE001 - no signature, or a default's `repr` that raises
        return str(name)


def _source(value: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value))
    except Exception:  # noqa: BLE001 - of the many ways in which a source is not there
        return _class_source(value) if isinstance(value, type) else ""


def _class_source(value: type) -> str:
    """The source of a class of a cell: `__main__` has no file, but its methods have one."""
    for member in vars(value).values():
        code = getattr(getattr(member, "__wrapped__", member), "__code__", None)
        if code is None:
            continue
        lines = linecache.getlines(code.co_filename)
        tree = _parse("".join(lines), "exec")
        for node in ast.walk(tree) if tree else ():
            if (
                isinstance(node, ast.ClassDef)
                and node.name == value.__name__
                and node.lineno <= code.co_firstlineno <= (node.end_lineno or 0)
            ):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                return textwrap.dedent("".join(lines[first - 1 : node.end_lineno]))
    return ""


def _module(value: Any, room: int) -> _Page:
    content = vars(value)
    version = content.get("__version__")
    shown = f", version {_line(version, 60)}" if isinstance(version, str) else ""
    page = _Page(f"module {value.__name__}{shown}", room)
    if isinstance(value.__doc__, str) and value.__doc__.strip():
        page.add(_line(value.__doc__.strip().split("\n\n")[0], 200))
    listed = content.get("__all__")
    given = listed if isinstance(listed, list | tuple) else content
    # sorted: a summary that differs from run to run would never be found among the kept answers
    names = sorted(name for name in given if isinstance(name, str) and not name.startswith("_"))
    page.add_list("public names: ", names, len(names), "name")
    return page


def _exception(value: Any, room: int) -> _Page:
    message = _why(value) if _is_small(value) else _repr(value)
    page = _Page(f"exception {message}", room)
    frames = traceback.extract_tb(value.__traceback__, limit=-5)
    lines = (f"- {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames)
    if frames:
        page.add("raised at, the innermost last:")
        page.fill(lines, len(frames), "frame")
    cause = value.__cause__ or (None if value.__suppress_context__ else value.__context__)
    if cause is not None:
        page.add(f"caused by {_why(cause) if _is_small(cause) else _repr(cause)}")
    return page


def _path(value: Any, room: int) -> _Page:
    page = _Page(f"{_type(value)} = {_short(str(value), 300)}", room)
    if isinstance(value, Path):
        try:
            found = value.stat()
        except (OSError, ValueError):
            page.add("not there, or not to be seen")
        else:
            is_folder = stat.S_ISDIR(found.st_mode)
            page.add("a folder" if is_folder else f"a file of {_count(found.st_size, 'byte')}")
    return page


def _object(value: Any, room: int) -> _Page:
    """Any other object: what it says of itself, and its public attributes."""
    attributes = {n: v for n, v in _attributes(value).items() if not n.startswith("_")}
    home = type(value).__module__
    head = _type(value) + ("" if home in {"builtins", "__main__"} else f" ({home})")
    if _is_iterator(value):
        return _Page(f"{head}, an iterator, not consumed", room)
    says = _repr(value)
    if not attributes and "\n" not in says and len(says) <= min(ITEMS, room):
        return _Page(f"{head} = {says}", room)
    page = _Page(head, room)
    if says != _bare(value):
        page.add_text(_cut(says, page.room // 3) if attributes else says)
    lines = (f"- {each}: {_type(item)} = {_short(item)}" for each, item in attributes.items())
    page.fill(islice(lines, ITEMS), len(attributes), "attribute")
    return page


# -- what a value is, without running any of its code if that can be


def _type(value: Any) -> str:
    return type(value).__name__


def _has(value: Any, name: str) -> bool:
    """Whether there is such an attribute; a `__getattr__` that knows every name is not asked."""
    return inspect.getattr_static(value, name, None) is not None


def _is_of(value: Any, library: str, name: str) -> bool:
    return library in sys.modules and any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == library
        for kind in type(value).__mro__
    )


def _is_library_scalar(value: Any) -> bool:
    """Numbers of numpy and times of pandas: their `str` is short, their `repr` is noise."""
    return (_is_of(value, "numpy", "generic") and not isinstance(value, str | bytes)) or (
        isinstance(value, datetime | timedelta) and type(value).__module__.startswith("pandas")
    )


def _is_array_like(value: Any) -> bool:
    return (
        _has(value, "shape")
        and _has(value, "dtype")
        and isinstance(value.shape, tuple)
        and all(isinstance(length, int) for length in value.shape)
    )


def _is_iterator(value: Any) -> bool:
    return hasattr(type(value), "__next__") and not isinstance(value, io.IOBase)


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds: its `__dict__` and its slots, no properties."""
    found = {}
    for kind in reversed(type(value).__mro__):
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType):
                with contextlib.suppress(AttributeError):
                    found[name] = member.__get__(value)
    if isinstance(value, BaseException):
        found["args"] = value.args
    with contextlib.suppress(AttributeError):
        found.update(object.__getattribute__(value, "__dict__"))
    return found


def _is_small(value: Any) -> bool:
    """Whether all that a value holds is little, so that its `repr` can't be much work."""
    waiting, seen = [value], 0
    while waiting:
        # each is counted as often as it is held, for a `repr` shows it as often
        seen += 1
        held = _held(waiting.pop())
        if held is None or seen + len(waiting) + len(held) > SMALL:
            return False
        waiting += held
    return True


def _held(value: Any) -> list[Any] | None:
    """What a value holds; None if it is large by itself."""
    if isinstance(value, str | bytes | bytearray):
        return [] if len(value) <= LONGEST_SECRET else None
    if type(value) is int:
        return [] if value.bit_length() <= LONGEST_SECRET else None
    if isinstance(value, dict):
        if dict.__len__(value) > SMALL:
            return None
        return [*dict.keys(value), *dict.values(value), *_attributes(value).values()]
    kinds: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
    for kind in kinds:
        if isinstance(value, kind):
            return None if kind.__len__(value) > SMALL else list(kind.__iter__(value))
    if isinstance(value, type | ModuleType) or inspect.isroutine(value):
        return []
    if isinstance(value, Mapping | Sequence | AbstractSet | MappingView) and len(value) > SMALL:
        return None
    return list(_attributes(value).values())


def _bare(value: Any) -> str:
    return f"<{_type(value)} object>"


def _repr(value: Any) -> str:
    """The object's own `repr`, if it has one and has little to tell."""
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__ or _is_iterator(value) or not _is_small(value):
        return _bare(value)
    try:
        # an address tells nothing, and a text that differs from run to run is never found again
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    except Exception as error:  # noqa: BLE001 - a `repr` is the user's code
        return f"<{_type(value)} object whose repr raises {type(error).__name__}>"


def _short(value: Any, room: int = 80, depth: int = 2) -> str:
    """A value in one line of `room` characters, more or less."""
    try:
        text = _brief(value, max(room, 8), depth)
    except Exception:  # noqa: BLE001 - whatever an object does when it is looked at
        text = _bare(value)
    return text if len(text) <= 2 * room + 40 and "\n" not in text else _line(text, 2 * room)


def _brief(value: Any, room: int, depth: int) -> str:
    match value:
        case int() if type(value) is int and value.bit_length() > 4000:
            # its decimal digits take quadratic time, and Python refuses more than 4,300
            return f"an integer of about {int(value.bit_length() * 0.30103):,} digits"
        case _ if type(value) in _SCALARS:
            return repr(value)
        case str():
            return _short_text(value, room)
        case bytes() | bytearray():
            more = f"… {len(value) - room:,} more" if len(value) > room else ""
            return _short_bytes(value, room) + more
        case type() | ModuleType():
            return f"<{'class' if isinstance(value, type) else 'module'} {value.__name__}>"
        case Mapping() | Sequence() | AbstractSet() | MappingView():
            return _brief_items(value, room, depth)
    return _brief_data(value, room)


def _brief_data(value: Any, room: int) -> str:
    if _is_library_scalar(value):
        return str(value)
    if _is_of(value, "pandas", "DataFrame"):
        return f"<{_type(value)}, {_extent(value)}>"
    if _is_array_like(value):
        return f"<{_type(value)}, shape {value.shape}, dtype {_line(str(value.dtype), 40)}>"
    if inspect.isroutine(value):
        return f"<{_type(value)} {getattr(value, '__qualname__', '')}>"
    return _line(_repr(value), room)


def _short_text(value: str, room: int) -> str:
    length = str.__len__(value)
    if length <= room:
        return repr(str.__str__(value))
    return f"{_beginning(value, room)!r}… {length - room:,} more"


def _short_bytes(value: bytes | bytearray, shown: int) -> str:
    """The beginning of bytes as Python writes it, unless a secret is in there."""
    text = bytes(value[: shown + LONGEST_SECRET + 1]).decode("latin-1")
    begin = _beginning(text, shown)
    return repr(bytes(value[:shown])) if begin == text[:shown] else f"b{begin!r}"


def _brief_items(value: Any, room: int, depth: int) -> str:
    total = len(value)
    opening, closing = _BRACKETS.get(type(value), (f"{_type(value)}(", ")"))
    taken: list[str] = []
    for item in _items(value, 8) if depth else ():
        inner = room // 2, depth - 1
        if isinstance(value, Mapping):
            text = f"{_short(item[0], *inner)}: {_short(item[1], *inner)}"
        else:
            text = _short(item, *inner)
        room -= len(text) + 2
        if room < 0 and taken:
            break
        taken.append(text)
    if total > len(taken):
        taken.append(f"… {total - len(taken):,} more")
    return opening + ", ".join(taken) + closing


_DESCRIBERS: tuple[tuple[Callable[[Any], bool], Callable[[Any, int], _Page]], ...] = (
    (lambda value: type(value) in _SCALARS or _is_library_scalar(value), _scalar),
    (lambda value: isinstance(value, str), _text),
    (lambda value: isinstance(value, bytes | bytearray), _bytes),
    (lambda value: isinstance(value, type) or inspect.isroutine(value), _code),
    (lambda value: callable(value) and _has(value, "__wrapped__"), _code),
    (lambda value: isinstance(value, ModuleType), _module),
    (lambda value: isinstance(value, BaseException), _exception),
    (lambda value: isinstance(value, PurePath), _path),
    (lambda value: _is_of(value, "pandas", "DataFrame"), _table),
    (lambda value: _is_of(value, "pandas", "Series"), _series),
    (lambda value: _is_of(value, "pandas", "Index"), _index),
    (lambda value: _is_of(value, "numpy", "ndarray"), _array),
    (_is_array_like, _array_like),
    (lambda value: isinstance(value, Mapping), _mapping),
    (lambda value: isinstance(value, Sequence | AbstractSet | MappingView), _collection),
    (lambda _: True, _object),
)


# -- files and images


def file_part(path: str | Path, *, base: Path | None = None) -> TextPart | ImagePart | FilePart:
    """A file as a part of a message: a text, an image or a PDF.

    A relative path starts at `base`. Raises UsageError where there is no such file, where it can't
    be read, where it is too large, and for any other kind of file.
    """
    where, data = _read(path, base)
    if kind := _image_type(data):
        return ImagePart.of_bytes(data, kind)
    if data.startswith(b"%PDF-"):
        return FilePart(where.name, data, "application/pdf")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(
            f"{path} is neither a text in UTF-8 nor an image (png, jpeg, gif, webp) nor a PDF: "
            "it can't go along."
        )
    if len(data) > TEXT_LIMIT:
        raise UsageError(
            f"{path} has {_size(len(data))}; a text that goes along has at most "
            f"{_size(TEXT_LIMIT)}.\nSend the part of it that matters."
        )
    # what the user wrote tells where a file stands in a project; a whole path tells of the user
    name = where.name if Path(path).expanduser().is_absolute() else Path(path).as_posix()
    language = where.suffix[1:] if where.suffix[1:].isalnum() else ""
    return TextPart(mask(f"{' '.join(name.split())}\n{_fenced(text, language)}"))


def _read(path: str | Path, base: Path | None = None) -> tuple[Path, bytes]:
    try:
        where = Path(path).expanduser()
        where = base.expanduser() / where if base else where
        mode = where.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path} is a folder; name the files in it that should go along.")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is a device or a pipe, not a file.")
        with where.open("rb") as file:
            data = file.read(BINARY_LIMIT + 1)
    except FileNotFoundError:
        start = "" if Path(path).is_absolute() else f" in {base or Path.cwd()}"
        raise UsageError(f"There is no file {path}{start}.") from None
    except (OSError, ValueError, RuntimeError) as error:  # the last two: no such name, no such user
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{_line(str(path), 200)} can't be read: {reason}") from None
    if len(data) > BINARY_LIMIT:
        raise UsageError(
            f"{path} is too large: an image or a PDF that goes along has at most "
            f"{_size(BINARY_LIMIT)}, a text {_size(TEXT_LIMIT)}."
        )
    return where, data


def _image_type(data: bytes) -> str | None:
    """The media type, by the bytes that each format begins with."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def image_part(value: Any, name: str) -> ImagePart:
    """An image as a part of a message.

    It may be bytes, a path, a web address, an image of PIL or of IPython, a figure of matplotlib,
    or anything that shows itself as PNG or JPEG. Raises UsageError for what is no image.
    """
    if isinstance(value, str) and re.fullmatch(r"https?://\S+", value, re.IGNORECASE):
        return ImagePart(value)
    if isinstance(value, str | Path):
        return _part_of_bytes(_read(value)[1], f"{name} ({_short(str(value))})")
    if isinstance(value, bytes | bytearray | memoryview):
        return _part_of_bytes(bytes(value), name)
    try:
        drawn = _draw(value)
    except Exception as error:
        raise UsageError(f"{name} could not be drawn: {_why(error)}") from error
    if isinstance(drawn, str):
        return ImagePart(drawn)
    if drawn is not None:
        return _part_of_bytes(drawn, name)
    if _is_array_like(value):
        raise UsageError(
            f"{name} is an array ({_type(value)}), and how it should look is not known.\n"
            f"Make an image of it: PIL.Image.fromarray({name}), or a figure: plt.imshow({name})."
        )
    raise UsageError(
        f"{name} is no image but of type {_type(value)}.\n"
        "An image is a path, an http(s) address, bytes, an image of PIL or a figure of matplotlib."
    )


def _part_of_bytes(data: bytes, name: str) -> ImagePart:
    kind = _image_type(data)
    if kind is None:
        raise UsageError(f"{name} is no image: its bytes are none of png, jpeg, gif and webp.")
    if len(data) > BINARY_LIMIT:
        raise UsageError(
            f"{name} has {_size(len(data))}; an image has at most {_size(BINARY_LIMIT)}."
        )
    return ImagePart.of_bytes(data, kind)


def _draw(value: Any) -> bytes | str | None:
    """The image's bytes or its web address; None if the value can't be drawn."""
    if _is_of(value, "PIL", "Image"):
        with io.BytesIO() as file:
            # the other modes are not PNG's: colours for printing, floats
            fits = value.mode in {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
            (value if fits else value.convert("RGB")).save(file, format="PNG")
            return file.getvalue()
    figure = value if _has(value, "savefig") or not _has(value, "figure") else value.figure
    if _has(figure, "savefig") and not isinstance(figure, type):
        with io.BytesIO() as file:
            figure.savefig(file, format="png")
            return file.getvalue()
    if _is_of(value, "IPython", "Image"):
        if value.data is None:
            return str(value.url) if str(value.url).lower().startswith("http") else None
        return _image_bytes(value.data)
    for method in ("_repr_png_", "_repr_jpeg_"):
        if _has(value, method) and (shown := getattr(value, method)()):
            return _image_bytes(shown[0] if isinstance(shown, tuple) else shown)
    return None


def _image_bytes(shown: bytes | str) -> bytes:
    """What a rich display is made of: bytes, or the text that a notebook file writes for them."""
    return base64.b64decode(shown) if isinstance(shown, str) else bytes(shown)


# -- cells


def cells_text(cells: Sequence[tuple[str, str | None]], *, budget: int = BUDGET) -> str:
    """The last cells, oldest first: each source, and of each output at most `budget` characters."""
    blocks = []
    for source, output in cells:
        blocks.append(f"Cell:\n{_fenced(source, 'python')}")
        if output and (text := _plain(output)).strip():
            blocks.append(f"Its output:\n{_fenced(_cut_middle(text, budget))}")
    return mask("\n\n".join(blocks))


def _plain(output: str) -> str:
    """An output as it looks: without colours, and the last state of a line written many times."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


PYTHON_CELLS = {"time", "timeit", "capture", "prun", "memit"}
"""Cell magics whose body is this kernel's Python; the body of any other may be prose."""


def names_in(source: str) -> list[str]:
    """The names that a cell mentions, in order of appearance, without builtins and magics."""
    tree = _parse(source, "exec")
    if tree is None:
        source = _without_magics(source)
        tree = _parse(source, "exec")
    names = _names_of_tokens(source) if tree is None else _names_of_tree(tree)
    return [name for name in dict.fromkeys(names) if not hasattr(builtins, name)]


def _without_magics(source: str) -> str:
    """The Python of a cell; a line for IPython becomes a `pass`, for it may be all of a block."""
    first, _, body = source.lstrip().partition("\n")
    if first.startswith("%%"):
        if first[2:].partition(" ")[0] not in PYTHON_CELLS:
            return ""
        source = body
    return "\n".join(map(_without_magic, source.splitlines()))


def _without_magic(line: str) -> str:
    code = line.strip()
    if code.startswith(("%", "!", "?")) or re.fullmatch(r"[\w.*]+\?{1,2}", code):
        return line[: len(line) - len(line.lstrip())] + "pass"
    return re.sub(r"^([\w\s,.\[\]'\"]+=)\s*[!%].*", r"\1 None", line)  # files = !ls


def _names_of_tree(tree: ast.AST) -> list[str]:
    found: list[tuple[int, int, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name):
                found.append((node.lineno, node.col_offset, name))
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                found.append((node.lineno, node.col_offset, name))
            case ast.alias(name=name, asname=alias) if name != "*":
                found.append((node.lineno, node.col_offset, alias or name.partition(".")[0]))
    return [name for *_, name in sorted(found, key=lambda each: each[:2])]


def _names_of_tokens(source: str) -> Iterator[str]:
    """The names of a cell with a syntax error, as far as it can be read as tokens."""
    depth, before = 0, ""
    tokens = list(_tokens(source))
    for token, after in zip(tokens, [*(each.string for each in tokens[1:]), ""], strict=True):
        word = token.string
        depth += (word in {"(", "[", "{"}) - (word in {")", "]", "}"})
        is_parameter = depth > 0 and after == "="
        if token.type == tokenize.NAME and before != "." and not is_parameter:
            if not keyword.iskeyword(word):
                yield word
        elif token.type == tokenize.STRING and "f" in word.partition(word[-1])[0].lower():
            yield from _names_of_tree(_parse(word, "eval") or ast.Module([], []))
        before = word


def _tokens(source: str) -> Iterator[tokenize.TokenInfo]:
    lines = source.splitlines(keepends=True)
    while lines:
        row = 1
        try:
            for token in tokenize.generate_tokens(iter(lines).__next__):
                row = max(row, token.end[0])
                yield token
            return
        except (tokenize.TokenError, SyntaxError):
            del lines[:row]  # what stands behind the line that can't be read may be fine
