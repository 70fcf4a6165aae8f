"""Which form an answer has: an event stream, or one JSON body. Shared by the providers.

Services are known to ignore `stream`, and to write an error's JSON or a web page with status 200,
under any content type; so the first character tells.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Literal, Protocol

from ipychat.errors import FormatError, ServiceTimeoutError
from ipychat.wire.http import MAX_BODY

BLANK = b"\xef\xbb\xbf \t\r\n"
REST = 5.0
"""Seconds. Behind its end an answer has its usage at most, which comes at once: what keeps the
connection open for longer must not keep the cell running."""


class _Ending(Protocol):
    @property
    def finish(self) -> str | None: ...


async def tell(
    content: AsyncIterable[bytes], service: str, answer: _Ending | None = None
) -> tuple[Literal["stream", "json"], AsyncGenerator[bytes, None]]:
    """Return the form, and the content without the blanks before it.

    Once the answer has its finish, the content ends in time or raises ServiceTimeoutError. Raises
    FormatError for an empty answer and for a web page.
    """
    chunks = aiter(content)
    async for chunk in chunks:
        if head := chunk.lstrip(BLANK):
            break
    else:
        raise FormatError(f"{service} sent an empty answer.")
    if head.startswith(b"<"):
        raise FormatError(f"{service} sent a web page in place of an answer.")
    return ("json" if head[:1] in b"{[" else "stream"), _again(head, chunks, answer)


async def _again(
    head: bytes, chunks: AsyncIterator[bytes], answer: _Ending | None
) -> AsyncGenerator[bytes, None]:
    try:
        yield head
        del head
        while answer is None or answer.finish is None:
            if not (chunk := await anext(chunks, b"")):
                return
            yield chunk
        end = asyncio.get_running_loop().time() + REST
        while True:
            try:
                async with asyncio.timeout_at(end):
                    chunk = await anext(chunks, b"")
            except TimeoutError:
                raise ServiceTimeoutError(f"It was over for {REST:g} s.") from None
            if not chunk:
                return
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()  # here and now: who collects it as garbage makes a task of that


async def read_json(content: AsyncIterable[bytes], service: str) -> str:
    """Return the text of a whole body."""
    chunks, size = [], 0
    async for chunk in content:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise FormatError(f"{service} sent an answer of over {MAX_BODY >> 20} MiB.")
    return b"".join(chunks).decode("utf-8-sig", "replace")
