"""The body of a response: its bytes as they arrive, and the time limits for them.

aiohttp can limit the silence between two packets as well, but sets a new timer for each packet,
which costs more than reading a short event. Here one timer serves the whole body.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Protocol, Self

from ipychat.errors import FormatError, ServiceTimeoutError

MAX_RATIO = 1_000
"""Largest ratio of unpacked to compressed size of a body, once it is longer than FREE_BYTES."""
FREE_BYTES = 1024 * 1024
"""Unpacked bytes up to which the ratio doesn't matter: short texts may compress this well."""
READ_AHEAD = 64 * 1024
"""Bytes to read before yielding to the loop; aiohttp may have many more buffered."""
READER_BUSY = 0.1
"""Seconds until the timer checks again whether the reader has finished with a chunk."""
REST = 5.0
"""Seconds for what follows the end of an answer: at most its usage, which comes at once. A
connection that stays open for longer must not keep the cell running."""
ADVICE = "Try again, or allow more time."


class Stream(Protocol):
    """The part of aiohttp's StreamReader that is needed."""

    total_bytes: int

    def readany(self) -> Awaitable[bytes]:
        """Return what is buffered, or the next packet; empty at the end."""
        ...


class Content:
    """The chunks of a body; iterate it, or call `next`, once.

    A reader for whom blank lines and comments are no sign of life sets `heard` after each chunk
    that had content. ServiceTimeoutError is raised if nothing was heard for `idle` seconds.
    """

    __slots__ = (
        "_end", "_heard_size", "_host", "_idle", "_is_late", "_is_over", "_rest", "_size",
        "_stream", "_timer", "_translated", "_waiting", "heard",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        host: str,
        idle: float | None = None,
        translated: Callable[[Exception], Exception] = lambda error: error,
    ) -> None:
        self._stream = stream
        self._host = host
        self._idle = idle
        self._translated = translated
        """Returns the error to raise for one of the stream's."""
        self._size = 0
        """Bytes received."""
        self._rest = memoryview(b"")
        """The rest of the last packet, which was too long for one chunk."""
        self.heard = True
        self._heard_size = 0
        """Bytes received when something was last heard."""
        self._end = 0.0
        """When something must be heard, by the monotonic clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._is_late = False
        self._is_over = False

    @classmethod
    def of(cls, chunks: AsyncIterable[bytes], host: str = "The service") -> Content:
        """Wrap given chunks as the content of a response."""
        return chunks if isinstance(chunks, cls) else cls(_Given(chunks), host)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.heard = True
        if chunk := await self.next():
            return chunk
        raise StopAsyncIteration

    async def next(self, *, ends: bool = False) -> bytes:
        """Return the next chunk, empty at the end, which should come soon if it `ends`."""
        if ends:
            self._end_soon()
        stream, idle, size = self._stream, self._idle, self._size
        if self.heard and idle is not None and not self._is_over:
            self.heard = False
            self._heard_size = size
            self._end = time.monotonic() + idle
            if self._timer is None:
                self._set_timer(self._end)
        if 0 < size < stream.total_bytes or self._rest:  # reading it would not yield to the loop
            await asyncio.sleep(0)
        if self._rest:
            return self._cut(self._rest)
        task = self._waiting = asyncio.current_task()
        cancelling = task.cancelling() if task else 0
        try:
            chunk = await stream.readany()
        except asyncio.CancelledError:
            if not (self._is_late and task and task.uncancel() <= cancelling):
                raise
            which = "" if self._size == self._heard_size else " that belongs to an answer"
            said = f"{self._host} sent nothing for {self._idle:g} s{which}."
            raise ServiceTimeoutError(f"{said}\n{ADVICE}") from None
        except Exception as error:  # noqa: BLE001 - unknown errors are returned unchanged
            raise self._translated(error) from None
        finally:
            self._waiting = None
        self._size = size = size + len(chunk)
        if size > FREE_BYTES:
            self._check_ratio()
        return chunk if len(chunk) <= READ_AHEAD else self._cut(memoryview(chunk))

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self, chunk: memoryview) -> bytes:
        self._rest = chunk[READ_AHEAD:]
        return bytes(chunk[:READ_AHEAD])

    def _end_soon(self) -> None:
        """Limit the time for everything left to REST."""
        if not self._is_over:
            self._is_over = True
            self._idle = REST
            self._end = time.monotonic() + REST
            self.close()
            self._set_timer(self._end)

    def _set_timer(self, end: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(end - time.monotonic(), self._look)

    def _look(self) -> None:
        """End the wait for a chunk if it has been too long."""
        now = time.monotonic()
        if self._waiting is None:  # the reader is still processing the previous chunk
            self._set_timer(now + READER_BUSY)
        elif self._end > now:
            self._set_timer(self._end)
        else:
            self._is_late = True
            self._waiting.cancel()

    def _check_ratio(self) -> None:
        """Raise FormatError for a body compressed so as to fill memory."""
        packed = getattr(self._stream, "total_compressed_bytes", None)
        if packed and self._size > MAX_RATIO * packed:
            raise FormatError(
                f"{self._host} sent compressed data that unpacks to over "
                f"{MAX_RATIO:,} times its size; ipychat stopped reading it."
            )


class _Given:
    """Given chunks, as a stream."""

    total_bytes = 0

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = aiter(chunks)

    async def readany(self) -> bytes:
        return await anext(self._chunks, b"")
