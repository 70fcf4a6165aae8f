"""What can truly be said of an exception: the commonest kinds, each with what to look at.

Each piece of advice is read off the error, its line and the values that stood there; nothing is
evaluated, imported or guessed.
"""

from __future__ import annotations

import builtins
import difflib
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from ipychat.context import cells

MOST = 2000
"""Names, keys or files that near misses are sought among."""
PIP_NAMES = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "PIL": "pillow",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules whose package on PyPI is called otherwise."""
USUAL = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "plt": "import matplotlib.pyplot as plt",
    "sns": "import seaborn as sns",
    "tf": "import tensorflow as tf",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as far as it is known: from the notebook, or from a text about one."""

    kind: str
    message: str
    error: BaseException | None = None
    line: str = ""
    """The source that raised it."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """What could be named where it was raised, builtins aside."""

    def get(self, attribute: str) -> Any:
        """Return what the error itself holds under that name; None if it doesn't."""
        return getattr(self.error, attribute, None)

    def subject(self) -> str:
        """Return what the message has in quotes first."""
        found = re.search(r"['\"](.+?)['\"]", self.message)
        return found[1] if found else ""

    def mentioned(self) -> dict[str, Any]:
        """Return the values of the names on its line."""
        return {name: self.names[name] for name in cells.names_in(self.line) if name in self.names}


Lines: TypeAlias = Iterator[str]


def advise(failure: Failure) -> list[str]:
    """Return what to look at, a sentence or two each; of an unknown kind what Python says of it."""
    for kind in _kinds(failure):
        if kind in ADVICE:
            return list(ADVICE[kind](failure))
    return []


def _kinds(failure: Failure) -> list[str]:
    cls: Any = type(failure.error) if failure.error else getattr(builtins, failure.kind, None)
    ancestors = cls.__mro__ if isinstance(cls, type) else ()
    return [failure.kind, *(each.__name__ for each in ancestors)]


def near(name: str, known: Iterable[str], most: int = 3) -> str:
    """Return which of the known names come near, as code, or nothing."""
    by_small = {each.lower(): each for each in islice(known, MOST) if each != name}
    found = difflib.get_close_matches(name.lower(), by_small, most, 0.6)
    return ", ".join(f"`{by_small[each]}`" for each in found)


def _name(failure: Failure) -> Lines:
    name = failure.get("name") or failure.subject()
    yield f"Nothing is called `{name}` where this line runs."
    known = [each for each in (*failure.names, *dir(builtins)) if each[:1] != "_"]
    if found := near(name, known):
        yield f"Names like it that are there: {found}."
    if name in USUAL:
        yield f"Usually `{name}` comes from `{USUAL[name]}`."
    yield "If a cell defines it, run that cell first; if it is meant as text, put it in quotes."


def _module(failure: Failure) -> Lines:
    name = failure.get("name") or failure.subject()
    top, _, rest = name.partition(".")
    if rest and top in sys.modules:
        home = getattr(sys.modules[top], "__file__", None) or "Python itself"
        yield f"`{top}` is there (from `{home}`), but it has no part `{rest}`."
        yield f"Check the spelling and the version: `%pip show {PIP_NAMES.get(top, top)}`."
        return
    installed = {*sys.stdlib_module_names, *(module.name for module in pkgutil.iter_modules())}
    if top in sys.stdlib_module_names:
        yield f"`{top}` belongs to Python's standard library; this Python was built without it."
        return
    if found := near(top, sorted(installed)):
        yield f"Installed modules of a similar name: {found}."
    package = PIP_NAMES.get(top, top)
    yield f"If `{top}` is what you want, install it with `%pip install {package}`."
    if top not in PIP_NAMES:
        yield (
            f"A package may be called otherwise than its module: look at "
            f"https://pypi.org/project/{package}/ before you install it."
        )


def _import(failure: Failure) -> Lines:
    wanted, home = failure.subject(), failure.get("name")
    module = sys.modules.get(home or "")
    if not wanted.isidentifier() or module is None:
        yield "The module was found, but it could not be imported; the message says what failed."
        return
    yield f"`{home}` was found, but it holds no `{wanted}`."
    if found := near(wanted, _attributes(module)):
        yield f"Names like it in there: {found}."
    if path := failure.get("path"):
        yield f"It was loaded from `{path}`: is that the one you mean, in the version you need?"
    if "partially initialized" in failure.message:
        yield "It was still being imported: two modules import each other, in a circle."


def _attributes(value: Any) -> list[str]:
    try:
        return [name for name in dir(value) if name[:1] != "_"]
    except Exception:  # noqa: BLE001 - `__dir__` may be the user's code
        return []


def _attribute(failure: Failure) -> Lines:
    if failure.error is None or failure.get("name") is None:
        yield "The object has no attribute of that name: check the spelling and the object's type."
        return
    value, name = failure.get("obj"), failure.get("name")
    if value is None:
        yield (
            f"What stands before `.{name}` is `None`: look at what should have given a value there."
            " Methods that change an object in place return `None`."
        )
        return
    what = f"module `{value.__name__}`" if isinstance(value, ModuleType) else "object"
    yield f"The {what} (type `{type(value).__name__}`) has no attribute `{name}`."
    if found := near(name, _attributes(value)):
        yield f"Attributes like it: {found}."


def _key(failure: Failure) -> Lines:
    args: tuple[Any, ...] = failure.error.args if failure.error else ()
    wanted = args[0] if args else failure.subject()
    seen = False
    for name, value in failure.mentioned().items():
        keys = _keys(value)
        if keys is None or wanted in keys:
            continue
        seen = True
        texts = [key for key in islice(keys, MOST) if isinstance(key, str)]
        found = near(wanted, texts) if isinstance(wanted, str) else ""
        if found:
            yield f"`{name}` has no such key; keys like it: {found}."
        else:
            first = ", ".join(f"`{str(key)[:40]!r}`" for key in texts[:8])
            yield f"`{name}` has no such key" + (f"; it has {first}." if first else ".")
    if not seen:
        yield "The key is not in the mapping."
    yield "`in` tells whether a key is there; `.get(key)` of a dict gives `None` where it is not."


def _keys(value: Any) -> list[Any] | None:
    """The keys of a dict or the columns of a table; of nothing else, for looking may cost."""
    if isinstance(value, dict):
        return list(islice(value, MOST))
    pandas: Any = sys.modules.get("pandas")
    if pandas and isinstance(value, pandas.DataFrame):
        return list(value.columns[:MOST])
    return None


def _index(failure: Failure) -> Lines:
    for name, value in failure.mentioned().items():
        if isinstance(value, list | tuple | str | bytes):
            size = len(value)
            valid = f"0 to {size - 1}, or -{size} to -1" if size else "none"
            yield f"`{name}` has {size:,} item{'s' * (size != 1)}; its positions: {valid}."
    shapes = {n: v.shape for n, v in failure.mentioned().items() if _is_array(v)}
    for name, shape in shapes.items():
        yield f"`{name}` has the shape {shape}; positions are counted from 0."
    yield "The position asked for lies outside. Counting begins at 0, so the last is `len(x) - 1`."


def _is_array(value: Any) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return bool(numpy) and isinstance(value, numpy.ndarray)


SAID: dict[str, tuple[tuple[str, str], ...]] = {
    "TypeError": (
        (
            r"unsupported operand type\(s\) for (.+?): '(.+?)' and '(.+?)'",
            (
                "`{0}` does not work between a `{1}` and a `{2}`: convert one of them first, with "
                "`int(…)`, `float(…)` or `str(…)`, or look where it got the wrong type."
            ),
        ),
        (
            r'can only concatenate (\w+) \(not "(.+?)"\)',
            (
                "`+` joins a `{0}` only to another: convert the `{1}` first; for texts, "
                '`f"… {{value}}"` does.'
            ),
        ),
        (
            r"'(.+?)' object is not callable",
            (
                "A `{0}` stands before `(…)`, as if it were a function: is a comma or an operator "
                "missing, or should the brackets be `[…]`?"
            ),
        ),
        (
            r"'NoneType' object is not (\w+)",
            (
                "The value is `None`, so something before it gave no result: a function without "
                "`return`, or a method that changes an object in place."
            ),
        ),
        (r"'(.+?)' object is not subscriptable", "A `{0}` can't be asked for items with `[…]`."),
        (r"'(.+?)' object is not iterable", "A `{0}` can't be run through: is `range(…)` meant?"),
        (
            r"missing \d+ required .*?arguments?: (.+)",
            "The call leaves out {0}: give it, or a default in the function's definition.",
        ),
        (
            r"takes (.+?) positional arguments? but (\d+) (?:was|were) given",
            "The function takes {0} arguments and got {1}; of a method, `self` counts as one.",
        ),
        (
            r"got an unexpected keyword argument '(.+?)'",
            "The function has no parameter `{0}`: check its spelling and the library's version.",
        ),
        (r"unhashable type: '(.+?)'", "A `{0}` can change, so it can't be a key; a `tuple` can."),
    ),
    "ValueError": (
        (
            r"invalid literal for int\(\) with base \d+: (.+)",
            "The text {0} is no whole number: look for blanks, separators, decimal points.",
        ),
        (r"could not convert string to float: (.+)", "The text {0} is no number as Python writes."),
        (
            r"(?:too many|not enough) values to unpack \((.+?)\)",
            "The number of names left of `=` differs from the values on its right: {0}.",
        ),
        (
            r"truth value of an? (.+?) (?:with .*?)?is ambiguous",
            (
                "A {0} is neither true nor false as a whole: ask `.any()`, `.all()` or `.empty`, "
                "and combine conditions with `&` and `|`, each in brackets."
            ),
        ),
        (r"math domain error", "The function isn't defined there, as a root of a negative number."),
        (
            r"not in list|substring not found",
            "What was looked for is not in there; ask with `in` first.",
        ),
    ),
    "SyntaxError": (
        (r"was never closed", "A bracket is opened and not closed: the mark shows which."),
        (r"unterminated", "A text's closing quote is missing, or the line ends before it."),
        (r"expected ':'", "The line that begins a block has to end in a colon."),
        (r"Missing parentheses in call", "This is Python 2: in Python 3 it is a call, `print(…)`."),
        (r"cannot assign to|Maybe you meant '=='", "`=` assigns, `==` compares."),
        (r"incomplete input|unexpected EOF", "The cell ends before the statement does."),
        (r"outside (?:async )?function", "This is only possible inside a function."),
        (r"f-string", "Look at the braces and quotes in the f-string; `{{{{` writes a brace."),
    ),
}
"""What a message says, and what that means."""


def _said(kind: str, otherwise: str) -> Callable[[Failure], Lines]:
    def advice(failure: Failure) -> Lines:
        for pattern, meaning in SAID[kind]:
            if found := re.search(pattern, failure.message):
                yield meaning.format(*found.groups())
                break
        else:
            yield otherwise
        if "not callable" in failure.message:
            for name in dict.fromkeys(re.findall(r"\b\w+(?=\()", failure.line)):
                if hasattr(builtins, name) and not callable(failure.names.get(name, print)):
                    yield f"Your own `{name}` hides Python's: `del {name}` brings that back."

    return advice


def _zero(failure: Failure) -> Lines:
    values = failure.mentioned().items()
    for name in [n for n, v in values if isinstance(v, int | float) and v == 0]:
        yield f"`{name}` is 0 here."
    yield "Find out why the divisor is 0, or ask first: `a / b if b else …`."


def _path(failure: Failure) -> Path | None:
    name = failure.get("filename") if failure.error else failure.subject()
    return Path(name) if isinstance(name, str) and name else None


def _no_file(failure: Failure) -> Lines:
    path = _path(failure)
    if path is None:
        yield "The file or program that was asked for is not there."
        return
    folder = path.parent
    if not path.is_absolute():
        yield f"Relative paths begin at the working folder, `{Path.cwd()}`."
    if not folder.is_dir():
        yield f"The folder `{folder}` is not there either."
    elif found := near(path.name, _files(folder)):
        yield f"Files of a similar name in `{folder.absolute()}`: {found}."
    else:
        yield f"No file in `{folder.absolute()}` has a similar name."


def _files(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, MOST)]
    except OSError:
        return []


def _permission(failure: Failure) -> Lines:
    path = _path(failure)
    if path is None or not path.exists():
        folder = path.parent if path else None
        if folder and folder.is_dir() and not os.access(folder, os.W_OK):
            yield f"You may not write in the folder `{folder}`."
        yield "The system refused it to the user that this kernel runs as."
        return
    if path.is_dir():
        yield f"`{path}` is a folder; a file's path is needed to open it."
    rights = {"read": os.R_OK, "write": os.W_OK}
    able = [name for name, flag in rights.items() if os.access(path, flag)]
    yield f"This kernel's user may {' and '.join(able) or 'neither read nor write'} `{path}`."
    yield "Use another place, or change the rights; on Windows, close other programs that use it."


def _indentation(failure: Failure) -> Lines:
    if "\t" in failure.line or failure.kind == "TabError":
        yield "There is a tab: indent with spaces only, four a level."
    if "expected an indented block" in failure.message:
        yield "After the line that ends in a colon, the block has to stand further right."
    elif "unindent does not match" in failure.message:
        yield "The line stands at a column at which no block before it began."
    else:
        yield "The line stands further right than the one before, which began no block."


def _unbound(failure: Failure) -> Lines:
    name = failure.get("name") or failure.subject()
    yield (
        f"The function assigns `{name}` somewhere, so it is local in all of it, and this line "
        "runs before the assignment."
    )
    yield f"Assign it first, hand it over as an argument, or declare `global {name}`."


def _recursion(failure: Failure) -> Lines:
    trace, calls = failure.get("__traceback__"), dict[str, int]()
    while trace:
        code = trace.tb_frame.f_code.co_name
        calls[code] = calls.get(code, 0) + 1
        trace = trace.tb_next
    most = max(calls, key=lambda name: calls[name], default="")
    if most and calls[most] > 10:
        yield f"`{most}` stands {calls[most]:,} times in the traceback: it calls itself on and on."
    yield "Check that the case that ends it is reached; a loop has no such limit."
    yield f"Python's limit is {sys.getrecursionlimit():,} calls in one another."


def _memory(_: Failure) -> Lines:
    yield "What was asked for does not fit into this machine's free memory, or a limit of it."
    yield "`del` what is no longer needed, work in pieces (`chunksize=…`), or use smaller types."


def _unicode(failure: Failure) -> Lines:
    data, encoding = failure.get("object"), failure.get("encoding")
    if not isinstance(data, bytes):
        yield "The text is in another encoding than the one it was read with."
        return
    yield f"The byte 0x{data[failure.get('start')]:02x} is not possible in {encoding}."
    marks = {
        b"\x1f\x8b": "gzip data, no text",
        b"PK\x03\x04": "a ZIP archive (as `.xlsx` and `.docx` are), no text",
        b"\xff\xfe": 'text in UTF-16: `encoding="utf-16"`',
        b"\xfe\xff": 'text in UTF-16: `encoding="utf-16"`',
        b"\x89PNG": "a PNG image, no text",
    }
    for mark, meaning in marks.items():
        if data.startswith(mark):
            yield f"It begins as {meaning}."
            return
    yield 'Windows and older programs often write `encoding="cp1252"`; `latin-1` reads any byte.'


def _json(failure: Failure) -> Lines:
    text, at = failure.get("doc"), failure.get("pos")
    if not isinstance(text, str):
        yield "The text is no valid JSON at the place named."
        return
    if not text.strip():
        yield "The text is empty: look at what should have given it (a file, an answer's body)."
        return
    yield f"It stops here: `{text[max(0, at - 30) : at]}` ⟶ `{text[at : at + 10]}`"
    if text.lstrip().startswith("<"):
        yield "It begins with `<`: this is HTML or XML, perhaps a web page that tells an error."
    elif "Extra data" in failure.message:
        yield "There is more behind the first value: JSON lines are read one line at a time."
    elif text[at : at + 1] == "'":
        yield "JSON wants double quotes; Python's own notation is read by `ast.literal_eval`."
    elif text[at : at + 1] in "]}":
        yield "A comma before a closing bracket is not allowed."


def _stop(_: Failure) -> Lines:
    yield "`next(…)` was asked of an iterator that is used up; an iterator can be run through once."
    yield "`next(iterator, None)` gives `None` in that case."


def _assertion(_: Failure) -> Lines:
    yield "The condition behind `assert` was false: compare it with the values above."


def _timeout(_: Failure) -> Lines:
    yield "Nothing came in time: the other side is slow or can't be reached from here."
    yield "Try it again, or give a longer `timeout=…`."


def _connection(failure: Failure) -> Lines:
    if "refused" in f"{failure.kind} {failure.message}".lower():
        yield "Nothing listens at that address: is the server running, are host and port right?"
    elif "reset" in f"{failure.kind} {failure.message}".lower():
        yield "The other side closed the connection in the middle."
    else:
        yield "There is no connection: check the address, the network and the proxy."


def _chat(_: Failure) -> Lines:
    yield "This is an error of ipychat's own; its message says what to do."


ADVICE: dict[str, Callable[[Failure], Lines]] = {
    "AssertionError": _assertion,
    "AttributeError": _attribute,
    "ChatError": _chat,
    "ConnectionError": _connection,
    "FileNotFoundError": _no_file,
    "ImportError": _import,
    "IndentationError": _indentation,
    "IndexError": _index,
    "JSONDecodeError": _json,
    "KeyError": _key,
    "MemoryError": _memory,
    "ModuleNotFoundError": _module,
    "NameError": _name,
    "PermissionError": _permission,
    "RecursionError": _recursion,
    "StopIteration": _stop,
    "SyntaxError": _said("SyntaxError", "Look at the marked place, and right before it."),
    "TimeoutError": _timeout,
    "TypeError": _said("TypeError", "A value is of a type that can't be used like this."),
    "UnboundLocalError": _unbound,
    "UnicodeDecodeError": _unicode,
    "ValueError": _said("ValueError", "The type is right, but the value can't be used here."),
    "ZeroDivisionError": _zero,
}
"""By the name of the class; the nearest ancestor counts."""
