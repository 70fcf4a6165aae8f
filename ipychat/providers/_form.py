"""Which form an answer has: an event stream, or one JSON body. Shared by the providers.

Services are known to ignore `stream`, and to write an error's JSON or a web page with status 200,
under any content type; so the first character tells.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Literal

from ipychat.errors import FormatError
from ipychat.wire.http import MAX_BODY

BLANK = b"\xef\xbb\xbf \t\r\n"


async def tell(
    content: AsyncIterable[bytes], service: str
) -> tuple[Literal["stream", "json"], AsyncIterator[bytes]]:
    """Return the form, and the content with what had to be read to see it.

    Raises FormatError for an empty answer and for a web page.
    """
    rest = aiter(content)
    head = b""
    async for chunk in rest:
        head += chunk
        if first := head.lstrip(BLANK)[:1]:
            break
    else:
        raise FormatError(f"{service} sent an empty answer.")
    if first == b"<":
        raise FormatError(f"{service} sent a web page in place of an answer.")
    return ("json" if first in b"{[" else "stream"), _again(head, rest)


async def _again(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in rest:
        yield chunk


async def read_json(content: AsyncIterable[bytes], service: str) -> str:
    """Return the text of a whole body."""
    chunks, size = [], 0
    async for chunk in content:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise FormatError(f"{service} sent an answer of over {MAX_BODY >> 20} MiB.")
    return b"".join(chunks).decode("utf-8-sig", "replace")
