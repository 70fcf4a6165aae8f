"""How far many prompts are: a bar in a notebook, a line in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from html import escape
from typing import TextIO

from ipychat.batch import Progress
from ipychat.display.download import Publish


class Bar:
    """A bar in a cell, painted anew with each report; where it ends it stays."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._id = os.urandom(8).hex()
        self._is_there = False

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        amount = "" if progress.total is None else f' value="{progress.settled}"'
        bar = f'<progress style="width:20em"{amount} max="{progress.total or 1}"></progress>'
        data = {"text/html": f"{bar} {escape(str(progress))}", "text/plain": str(progress)}
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
    """Return what shows reports: in a cell where there is one, else in the terminal."""
    if not watched:
        return None
    if publish is not None:
        return Bar(publish)
    stream = stream or sys.stdout
    return Line(stream) if stream.isatty() else None
