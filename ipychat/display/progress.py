"""How far something is: a bar in a notebook, a line in a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ipychat.batch import Progress
    from ipychat.kernel.notebook import Publish
    from ipychat.local import weights

EVERY = 0.2
"""Seconds between two paints of a download, which tells of each piece."""


class Bar:
    """A bar in a cell, painted anew with each report; where it ends it stays."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._id = os.urandom(8).hex()
        self._is_there = False

    def show(self, there: int, whole: int | None, said: str) -> None:
        """Show how much of the whole is there, and say it; the whole may not be known."""
        amount = "" if whole is None else f' value="{there}"'
        bar = f'<progress style="width:20em"{amount} max="{whole or 1}"></progress>'
        data = {"text/html": f"{bar} {escape(said)}", "text/plain": said}
        self._publish(data, display_id=self._id, update=self._is_there)
        self._is_there = True


class Line:
    """A line in a terminal, written over itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        """Show how far it is; behind the last report the next line begins."""
        said = str(progress)
        end = "\n" if progress.settled == progress.total else ""
        self._stream.write(f"\r{said:{self._width}}{end}")
        self._stream.flush()
        self._width = len(said)


def shown(
    publish: Publish | None, *, watched: bool, stream: TextIO | None = None
) -> Callable[[Progress], None] | None:
    """Return a function that shows a run's progress, in a cell or in the terminal."""
    if not watched:
        return None
    if publish is not None:
        bar = Bar(publish)
        return lambda progress: bar.show(progress.settled, progress.total, str(progress))
    stream = stream or sys.stdout
    return Line(stream) if stream.isatty() else None


def fetched(publish: Publish) -> weights.Progress:
    """Return a function that shows a download's progress in a cell."""
    from ipychat.local.weights import size

    bar = Bar(publish)
    due = 0.0

    def show(there: int, whole: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due or there >= whole:
            bar.show(there, whole, f"{size(there)} of {size(whole)}")
            due = now + EVERY

    return show
