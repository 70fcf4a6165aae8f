"""The body of an answer: its bytes as they come, and how long they are waited for.

aiohttp can limit the silence between two packets, too; it sets a timer anew for each packet, which
costs more than reading a short event does. Here one timer serves the whole body.
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
"""Seconds until the timer looks again whether the reader has finished with a chunk."""
REST = 5.0
"""Seconds for what follows the end of an answer. That is its usage at most, which comes at once: a
connection that stays open for longer must not keep the cell running."""
ADVICE = "Try again, or allow more time."


class Stream(Protocol):
    """What is needed of aiohttp's StreamReader."""

    total_bytes: int

    def readany(self) -> Awaitable[bytes]:
        """Return what is at hand, or the next packet; empty at the end."""
        ...


class Content:
    """The chunks of a body; iterate it, or call `next`, once.

    A reader for whom blanks and comments are no sign of life sets `heard` after each chunk that had
    something in it. ServiceTimeoutError is raised where nothing was heard for `idle` seconds.
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
        """Bytes that came."""
        self._rest = memoryview(b"")
        """What came with the last chunk, and was too much for one."""
        self.heard = True
        self._heard_size = 0
        """Bytes that had come when something was last heard."""
        self._end = 0.0
        """Until when something has to be heard, by the monotonic clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._is_late = False
        self._is_over = False

    @classmethod
    def of(cls, chunks: AsyncIterable[bytes], host: str = "The service") -> Content:
        """Return chunks that are given as the content of an answer."""
        return chunks if isinstance(chunks, cls) else cls(_Given(chunks), host)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.heard = True
        if chunk := await self.next():
            return chunk
        raise StopAsyncIteration

    async def next(self, *, ends: bool = False) -> bytes:
        """Return the next chunk, empty at the end, which is near if it `ends`."""
        if ends:
            self._end_soon()
        stream, idle, size = self._stream, self._idle, self._size
        if self.heard and idle is not None and not self._is_over:
            self.heard = False
            self._heard_size = size
            self._end = time.monotonic() + idle
            if self._timer is None:
                self._set_timer(self._end)
        if 0 < size < stream.total_bytes or self._rest:  # reading it would not wait
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
        except Exception as error:  # noqa: BLE001 - what is unknown comes back as it is
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
        """Wait no longer than REST for all that is left."""
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
        """End the wait for a chunk, if it was too long."""
        now = time.monotonic()
        if self._waiting is None:  # the reader is busy with the chunk before
            self._set_timer(now + READER_BUSY)
        elif self._end > now:
            self._set_timer(self._end)
        else:
            self._is_late = True
            self._waiting.cancel()

    def _check_ratio(self) -> None:
        """Raise FormatError for a body that was compressed in order to fill memory."""
        packed = getattr(self._stream, "total_compressed_bytes", None)
        if packed and self._size > MAX_RATIO * packed:
            raise FormatError(
                f"{self._host} sent compressed data that unpacks to over "
                f"{MAX_RATIO:,} times its size; ipychat stopped reading it."
            )


class _Given:
    """Chunks as a stream."""

    total_bytes = 0

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = aiter(chunks)

    async def readany(self) -> bytes:
        return await anext(self._chunks, b"")
