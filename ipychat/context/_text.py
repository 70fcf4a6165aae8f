"""Text for prompts: truncation, and parsing of Python.

Truncation never splits a known secret; the firewall masks whole ones.
"""

from __future__ import annotations

import ast
import warnings
from typing import Literal

from ipychat.secrets import MASK, whole_until

BUDGET = 2000
"""Characters of a value's summary, and of a cell's output."""
MAX_SECRET = 4096
"""Characters read beyond a cut, so that a secret across it is recognised."""


def beginning(text: str, limit: int) -> str:
    """At most `limit` characters, without the first half of a secret."""
    limit = min(max(0, limit), len(text))
    at = whole_until(text, limit)
    return text[:limit] if at == limit else (text[:at] + MASK)[:limit]


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and how many more characters there are."""
    if len(text) <= limit:
        return text
    kept = beginning(text, limit - len(f"\n… {count(len(text), 'more character')}"))
    return f"{kept}\n… {count(len(text) - len(kept), 'more character')}".lstrip("\n")


def line(text: str, limit: int) -> str:
    """The beginning of the text, in one line."""
    begin = " ".join(beginning(text, limit + 1).split())
    whole = len(begin) <= limit and len(text) <= limit + 1
    return begin if whole else f"{beginning(begin, limit)} …"


def why(error: BaseException) -> str:
    """The error's type and message, in one line."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error's own text is the user's code
        text = ""
    return line(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)


def count(number: int, what: str) -> str:
    """The number and the noun, in the plural where needed."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def parse(source: str, mode: Literal["eval", "exec"]) -> ast.AST | None:
    """The syntax tree; None if this is not Python."""
    with warnings.catch_warnings():
        # such as an invalid escape: running the cell will report it
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source, mode=mode)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
