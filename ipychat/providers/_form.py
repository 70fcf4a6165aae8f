"""Which form an answer has. Shared by the providers.

Services are known to ignore `stream`, and to write an error's JSON or a web page with status 200,
under any content type; so the first character tells.
"""

from typing import Literal

from ipychat.errors import FormatError
from ipychat.wire.content import Content
from ipychat.wire.http import MAX_BODY

BLANK = b"\xef\xbb\xbf \t\r\n"


async def begin(content: Content, service: str) -> tuple[Literal["stream", "json"], bytes]:
    """Return the form of what comes, and the first chunk without the blanks before it.

    Raises FormatError for an empty answer and for a web page.
    """
    while chunk := await content.next():
        if head := chunk.lstrip(BLANK):
            break
    else:
        raise FormatError(f"{service} sent an empty answer.")
    if head.startswith(b"<"):
        raise FormatError(f"{service} sent a web page in place of an answer.")
    return ("json" if head[:1] in b"{[" else "stream"), head


async def whole(content: Content, head: bytes, service: str) -> str:
    """Return the text of a body that is one JSON value, and begins with `head`."""
    chunks, size = [head], len(head)
    while chunk := await content.next():
        content.heard = not chunk.isspace()
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise FormatError(f"{service} sent an answer of over {MAX_BODY >> 20} MiB.")
    return b"".join(chunks).decode("utf-8-sig", "replace")
