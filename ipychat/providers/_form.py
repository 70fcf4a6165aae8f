"""Which form an answer has, and how long it is waited for. Shared by the providers.

Services are known to ignore `stream`, and to write an error's JSON or a web page with status 200,
under any content type; so the first character tells.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable
from typing import Any, Literal

from ipychat.errors import FormatError, ServiceTimeoutError
from ipychat.wire.http import MAX_BODY, OTHER_TIMEOUT

BLANK = b"\xef\xbb\xbf \t\r\n"
BUSY = 0.1
"""Seconds after which it is looked again whether whoever reads is done with a chunk."""
REST = 5.0
"""Seconds. Behind its end an answer has its usage at most, which comes at once: what keeps the
connection open for longer must not keep the cell running."""


class Chunks:
    """The bytes of an answer. Blanks and comments alone don't keep it waiting.

    Whoever reads sets `heard` after a chunk that had something in it; where none comes within
    `idle` seconds, ServiceTimeoutError is raised. There is one timer for all chunks, which is set
    anew when it has run out: `asyncio.timeout` around each would cost more than reading it does.
    """

    __slots__ = (
        "_chunks", "_end", "_idle", "_is_late", "_is_over", "_service", "_timer", "_waiting",
        "heard",
    )  # fmt: skip

    def __init__(
        self, content: AsyncIterable[bytes], service: str, idle: float | None = None
    ) -> None:
        self._chunks = aiter(content)
        self._service = service
        self._idle = idle
        self.heard = True
        self._end = 0.0
        """Until when there has to be something, by the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._is_late = False
        self._is_over = False

    async def begin(self) -> tuple[Literal["stream", "json"], bytes]:
        """Return the form of what comes, and the first chunk without the blanks before it.

        Raises FormatError for an empty answer and for a web page.
        """
        while chunk := await self.next():
            if head := chunk.lstrip(BLANK):
                break
        else:
            raise FormatError(f"{self._service} sent an empty answer.")
        if head.startswith(b"<"):
            raise FormatError(f"{self._service} sent a web page in place of an answer.")
        return ("json" if head[:1] in b"{[" else "stream"), head

    def next(self, *, ends: bool = False) -> Awaitable[bytes]:
        """Return an awaitable of the next chunk, empty at the end, which is near if it `ends`."""
        if ends:
            self.end_soon()
        return anext(self._chunks, b"") if self._idle is None else self._next(self._idle)

    async def _next(self, idle: float) -> bytes:
        if self.heard and not self._is_over:
            self.heard = False
            self._end = time.monotonic() + idle
            if self._timer is None:
                self._set_timer()
        task = self._waiting = asyncio.current_task()
        cancelling = task.cancelling() if task else 0
        try:
            return await anext(self._chunks, b"")
        except asyncio.CancelledError:
            if not (self._is_late and task and task.uncancel() <= cancelling):
                raise
            raise ServiceTimeoutError(
                f"{self._service} sent nothing for {idle:g} s that belongs to an answer.\n"
                f"{OTHER_TIMEOUT}"
            ) from None
        finally:
            self._waiting = None

    def _set_timer(self, end: float | None = None) -> None:
        self._timer = asyncio.get_running_loop().call_at(end or self._end, self._look)

    def _look(self) -> None:
        """End the wait for a chunk, if it was too long."""
        now = time.monotonic()
        if self._waiting is None:  # whoever reads is busy with the chunk before
            self._set_timer(now + BUSY)
        elif self._end > now:
            self._set_timer()
        else:
            self._is_late = True
            self._waiting.cancel()

    def end_soon(self) -> None:
        """Wait no longer than REST for all that is left."""
        if not self._is_over:
            self._is_over = True
            self._idle = REST
            self._end = time.monotonic() + REST
            self._stop_timer()
            self._set_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def whole(self, head: bytes) -> str:
        """Return the text of a body that is one JSON value, and begins with `head`."""
        chunks, size = [head], len(head)
        while chunk := await self.next():
            self.heard = not chunk.isspace()
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise FormatError(f"{self._service} sent an answer of over {MAX_BODY >> 20} MiB.")
        return b"".join(chunks).decode("utf-8-sig", "replace")

    async def aclose(self) -> None:
        """Close what the bytes come from, here and now: garbage collection makes a task of it."""
        self._stop_timer()
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()
