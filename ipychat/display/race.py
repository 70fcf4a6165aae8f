"""What a race shows: answers side by side, in columns that go below each other where it is narrow.

Each column is a cell's view of its own, whose output is put into one with the others'. How often
that one is drawn has a budget, as each view's painting has: so that three fast services cost the
front end what three cells do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from ipychat.display import cell
from ipychat.display.cell import CellView, Publish, small
from ipychat.display.terminal import TerminalView
from ipychat.errors import FormatError
from ipychat.messages import Event, Notice, Reply, Text
from ipychat.secrets import mask

if TYPE_CHECKING:
    from typing import TextIO

RATE = 16_000
"""Bytes a second for each answer: HTML alone costs less than a cell's two forms."""
WINDOW = 2_000
"""Characters at the end of each answer, at least, that are shown while it grows."""

_COLUMNS = "display:flex;flex-wrap:wrap;gap:.75em;align-items:stretch;margin:.25em 0"
_COLUMN = (
    "flex:1 1 20em;min-width:0;box-sizing:border-box;padding:.6em .9em;border-radius:8px;"
    "border:1px solid var(--jp-border-color2,#bdbdbd)"
)
_HEAD = (
    "display:flex;flex-wrap:wrap;gap:0 .75em;justify-content:space-between;align-items:baseline;"
    "padding-bottom:.35em;margin-bottom:.5em;"
    "border-bottom:1px solid var(--jp-border-color2,#bdbdbd)"
)


def times(reply: Reply) -> str:
    """Say how long an answer took."""
    first = "" if reply.first_text is None else f"{reply.first_text:.2f} s to the first text · "
    return f"{first}{reply.seconds:.2f} s" if reply.seconds else ""


@dataclass(slots=True)
class _Column:
    """What is known of one answer by now."""

    number: int
    name: str
    took: str = ""
    html: str = ""
    plain: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_html(self) -> str:
        head = f'<strong style="overflow-wrap:anywhere">{self.number}. {escape(self.name)}</strong>'
        return (
            f'<div style="{_COLUMN}"><div class="mathjax_ignore" style="{_HEAD}">'
            f"{head}{small(self.took)}</div>{self.html}</div>"
        )

    def to_plain(self) -> str:
        return "\n\n".join(filter(None, [heading(self.number, self.name, self.took), self.plain]))


def heading(number: int, name: str, took: str) -> str:
    """Say in a line whose answer comes."""
    return " · ".join(filter(None, [f"{number}. {name}", took]))


class RaceView:
    """Shows a race in its cell: `add` what comes, `end` each, then `close`, however it ended.

    Not `live`, it sends one output at the end.
    """

    def __init__(
        self,
        publish: Publish,
        names: Sequence[str],
        formats: Sequence[str],
        *,
        header: str = "",
        live: bool = True,
    ) -> None:
        self._publish = publish
        self._header = header
        self._live = live
        self._columns = [_Column(number, name) for number, name in enumerate(names, 1)]
        self._views = [
            CellView(
                partial(self._take, column), format=form, live=live, in_one=True, window=WINDOW
            )
            for column, form in zip(self._columns, formats, strict=True)
        ]
        self._id = os.urandom(8).hex()
        self._is_shown = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._rate = float(RATE * len(names))
        self._credit = float(cell.BURST)
        self._credited = time.monotonic()
        if live:
            for view in self._views:
                view.add(Text(""))  # from now on it shows how long it takes

    def add(self, number: int, event: Event) -> None:
        """Take an event of one answer."""
        self._views[number].add(event)

    async def end(self, number: int, reply: Reply, *, ending: str = "") -> None:
        """Show an answer as it ended; further calls for it do nothing."""
        column = self._columns[number]
        column.name, column.took = str(reply.model), times(reply)
        with contextlib.suppress(FormatError):  # `ending` says so
            await self._views[number].close(reply, ending=ending)

    async def close(self, winner: int | None = None, *, ending: str = "") -> None:
        """Show all for good, or the winner alone."""
        if self._timer is not None:
            self._timer.cancel()
        columns = self._columns if winner is None else [self._columns[winner]]
        html = self._to_html(columns) + small(ending)
        plain = "\n\n".join([*(one.to_plain() for one in columns), *filter(None, [ending])])
        known = [one.metadata["ipychat"] for one in columns if "ipychat" in one.metadata]
        metadata = {"ipychat": {"race": known}}
        display_id = self._id if self._live else None
        data = {"text/html": mask(html), "text/plain": mask(plain)}
        self._publish(data, metadata, display_id=display_id, update=self._is_shown)

    def _to_html(self, columns: Sequence[_Column]) -> str:
        inner = "".join(one.to_html() for one in columns)
        return f'{small(self._header)}<div class="ipychat-race" style="{_COLUMNS}">{inner}</div>'

    # -- while it grows

    def _take(
        self,
        column: _Column,
        data: dict[str, Any],
        metadata: dict[str, Any],
        *,
        display_id: str | None = None,  # noqa: ARG002 - a column has no output of its own
        update: bool = False,  # noqa: ARG002 - as above
    ) -> None:
        """Take what a column's view has drawn; it is shown when its time has come."""
        column.html, column.plain = data.get("text/html", ""), data.get("text/plain", "")
        column.metadata = metadata
        if self._live and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._due, loop.time()), self._paint)

    def _paint(self) -> None:
        self._timer = None
        html = mask(self._to_html(self._columns))
        self._publish({"text/html": html}, {}, display_id=self._id, update=self._is_shown)
        self._is_shown = True
        now = time.monotonic()
        earned = (now - self._credited) * self._rate
        self._credit = min(cell.BURST, self._credit + earned) - cell.MESSAGE - len(html)
        self._credited = now
        debt = max(0.0, -self._credit)
        self._due = asyncio.get_running_loop().time() + max(cell.GAP, debt / self._rate)


class TerminalRace:
    """Writes the answers of a race as they end, or the winner alone where the first is wanted."""

    def __init__(
        self, stream: TextIO, formats: Sequence[str], *, header: str = "", first: bool = False
    ) -> None:
        self._stream = stream
        self._formats = formats
        self._header = header
        self._first = first
        self._ended: dict[int, tuple[Reply, str]] = {}

    def add(self, number: int, event: Event) -> None:
        """Wait: only whole answers are written."""

    async def end(self, number: int, reply: Reply, *, ending: str = "") -> None:
        """Write an answer as it ended; further calls for it do nothing."""
        if number not in self._ended:
            self._ended[number] = reply, ending
            if not self._first:
                await self._write(number)

    async def close(self, winner: int | None = None, *, ending: str = "") -> None:
        """Write what is left."""
        if self._first:
            for number in sorted(self._ended) if winner is None else [winner]:
                await self._write(number)
        if ending:
            self._stream.write(f"{ending}\n")

    async def _write(self, number: int) -> None:
        reply, ending = self._ended[number]
        view = TerminalView(self._stream, format=self._formats[number])
        head = heading(number + 1, str(reply.model), times(reply))
        view.header = "\n".join(filter(None, [self._header, head]))
        self._header = ""
        for notice in reply.notices:
            view.add(Notice(notice))
        with contextlib.suppress(FormatError):
            await view.close(reply, ending=ending)
        self._stream.write("\n")
