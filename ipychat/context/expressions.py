"""Expressions in a prompt: `{{df.head()}}` becomes the text of its value.

Other braces stay as written. Nothing is evaluated unless every expression can be parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ipychat.context._text import line, parse, why
from ipychat.errors import UsageError
from ipychat.text import words

MAX_CANDIDATES = 100
"""Possible ends of an expression that are tried; each costs a parse of all that precedes it."""
RAW = "--raw sends the prompt as written, with all its braces."


def expand(text: str, evaluate: Callable[[str], Any]) -> str:
    """Replace each `{{expression}}` by the text of its value.

    Raises UsageError for text that is not an expression, and for one that fails.
    """
    pieces = list(_split(text))
    return "".join(
        before if expression is None else before + _value_of(expression, evaluate)
        for before, expression in pieces
    )


def no_variable(error: NameError, names: Iterable[str]) -> str:
    """Name the unknown variable in an expression, and the closest known ones."""
    if not error.name:
        return str(error)
    return f"No variable named {error.name}.{words.near(error.name, names, most=1)}"


def _split(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield texts, each with the expression that follows it; the last has none."""
    at = 0
    while (start := text.find("{{", at)) >= 0 and (end := text.find("}}", start + 2)) >= 0:
        # an expression may contain `}}`, as a dict within a dict does
        for _ in range(MAX_CANDIDATES):
            if end < 0 or (expression := _as_expression(text[start + 2 : end])):
                break
            end = text.find("}}", end + 1)
        else:
            end = -1
        if end < 0:
            raise UsageError(f"There is no expression in {line(text[start:], 80)}\n{RAW}")
        yield text[at:start], expression
        at = end + 2
    yield text[at:], None


def _as_expression(written: str) -> str | None:
    """Return the text between braces as an expression; several lines need parentheses."""
    expression = written.strip()
    if parse(expression, "eval"):
        return expression
    # the second pair of parentheses keeps `a) + (b` out
    if "\n" in expression and all(parse(f"{a}{expression}\n{b}", "eval") for a, b in ("()", "[]")):
        return f"({expression}\n)"
    return None


def _value_of(expression: str, evaluate: Callable[[str], Any]) -> str:
    try:
        return str(evaluate(expression))
    except Exception as error:
        told = f"{{{{{line(expression, 80)}}}}} failed: {why(error)}"
        raise UsageError(f"{told}\n{RAW}") from error
