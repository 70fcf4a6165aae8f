"""What running code showed, in the order in which it came: text, displays, pictures, tracebacks."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NoReturn

from ipychat.messages import ImagePart, TextPart
from ipychat.toolbox import results

MAX_TEXT = 1_000_000
"""Characters that code may show; then it is stopped."""
MAX_PICTURES = 16
"""Pictures that it may show; then it is stopped."""
MAX_TRACEBACK = 20_000
"""Characters of a traceback; the rest is cut out of its middle."""
PICTURES = ("image/png", "image/jpeg")
WRITTEN = ("text/markdown", "text/latex", "text/html", "application/json")
"""Forms of a display that a model reads, if its plain text says no more than its class."""
CLASS_ONLY = "<IPython.core.display."
STYLE = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")

Part = str | ImagePart


class TooMuchOutputError(BaseException):
    """Ends code that shows too much; no `except Exception` of the code holds it."""


class Shown:
    """What one run has shown so far."""

    def __init__(self) -> None:
        self.is_open = True
        """Whether the run goes on: what its threads show later is not for the model."""
        self._parts: list[Part] = []
        self._places: dict[str, int] = {}
        """Of displays that can be updated, by their ids."""
        self._characters = 0
        self._pictures = 0

    def write(self, text: str) -> int:
        """Take text as it comes from a stream. Raises TooMuchOutputError."""
        __tracebackhide__ = True
        if not isinstance(text, str):
            raise TypeError(f"write() takes text, not {type(text).__name__}.")
        self._put(text)
        return len(text)

    def display(self, data: Mapping[str, Any], display_id: str | None = None) -> None:
        """Take a display in all its forms. Raises TooMuchOutputError."""
        __tracebackhide__ = True
        self._put(_read(data), self._places.get(display_id or ""))
        if display_id:
            self._places.setdefault(display_id, len(self._parts) - 1)

    def fail(self, lines: Iterable[str]) -> None:
        """Take a traceback, however much was shown before."""
        text = "\n".join(lines)
        if len(text) > MAX_TRACEBACK:
            text = results.bounded(STYLE.sub("", text), MAX_TRACEBACK)
        self._parts.append(f"{text}\n")

    def clear(self) -> None:
        """Forget what was shown, as a cell does whose output is cleared."""
        self._parts.clear()
        self._places.clear()
        self._characters = self._pictures = 0

    def close(self) -> None:
        """Take nothing more: the run has ended."""
        self.is_open = False

    def parts(self) -> tuple[TextPart | ImagePart, ...]:
        """Return all of it as a model is told of it: a picture that came twice, once."""
        parts: list[TextPart | ImagePart] = []
        for kind, group in groupby(self._parts, type):
            if kind is not str:
                pictures = [one for one in group if isinstance(one, ImagePart)]
                parts += [one for one in dict.fromkeys(pictures) if one not in parts]
            elif (text := _plain(group)).strip():
                parts.append(TextPart(text))
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        if sum(map(len, texts)) <= results.MAX_RESULT:
            return tuple(parts)
        pictures = [part for part in parts if isinstance(part, ImagePart)]
        return (TextPart(results.bounded("\n".join(texts))), *pictures)

    def _put(self, part: Part, place: int | None = None) -> None:
        """Add a part, or put it into the place of an earlier one."""
        __tracebackhide__ = True
        if isinstance(part, str):
            part = part[: MAX_TEXT + 1 - self._characters]
        if place is None:
            self._parts.append(part)
        else:
            self._count(self._parts[place], -1)
            self._parts[place] = part
        self._count(part, 1)
        if self._characters > MAX_TEXT:
            _stop(f"more than {MAX_TEXT:,} characters")
        if self._pictures > MAX_PICTURES:
            self._pictures -= 1
            self._parts.remove(part)
            _stop(f"more than {MAX_PICTURES} pictures")

    def _count(self, part: Part, sign: int) -> None:
        if isinstance(part, str):
            self._characters += sign * len(part)
        else:
            self._pictures += sign


def _stop(what: str) -> NoReturn:
    __tracebackhide__ = True
    raise TooMuchOutputError(f"The code showed {what}, and was stopped.")


def _read(data: Mapping[str, Any]) -> Part:
    """Return the form of a display that a model can use best."""
    for kind in PICTURES:
        if kind in data and (picture := _picture(data[kind])):
            return picture
    text = data.get("text/plain")
    if text is None or str(text).startswith(CLASS_ONLY):
        text = next((data[kind] for kind in WRITTEN if kind in data), text or "")
    return f"{text}\n"


def _picture(data: Any) -> ImagePart | None:
    with contextlib.suppress(ValueError):  # what is no base64 is no picture
        return results.picture_of(base64.b64decode(data) if isinstance(data, str) else bytes(data))
    return None


def _plain(texts: Iterable[Any]) -> str:
    """Return text as a terminal would leave it: without styles, each line as it was at its end."""
    text = STYLE.sub("", "".join(texts))
    if "\r" not in text:
        return text
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(lines)
