"""How messages get to an MCP server and back: by pipes to a program, or by HTTP.

The SDK starts no process and opens no socket here: a program is a `local.children.Child`, and each
request goes through `wire.http`, which holds the allowed hosts, proxies and certificates, and
follows no redirect. Importing this imports the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import anyio
import httpx2
import mcp_types as types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from ipychat.errors import ChatError, FormatError, ServerError, UsageError
from ipychat.local.children import Child, TooLongError
from ipychat.toolbox.servers import Target
from ipychat.wire import aside, http

Streams: TypeAlias = tuple[Any, Any]
"""The messages that come, and those that go."""

MAX_MESSAGE = 16 << 20
"""Bytes of a message."""
MAX_WAITING = 64
"""Messages that wait to be written: giving up on a call must not wait for a server that hangs."""
IDLE_TIMEOUT = 86_400.0
"""Seconds of silence on a connection: the limits are those of each request."""
NO_LONGER_TRUE = {"content-encoding", "content-length", "transfer-encoding", "set-cookie"}
"""Headers of a response that our client has used up, or must not keep."""
OURS = {"host", "content-length", "accept-encoding", "connection", "cookie", "user-agent"}
"""Headers of a request that our client writes."""


class Link(ABC):
    """The way to one server. What goes wrong is kept in `fault` before the SDK hears of it."""

    given_up = "is no longer asked"
    """What became of a server that took too long."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.fault: ChatError | None = None
        self.over = asyncio.Event()
        """Set when it is to end, or broke."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Streams]:
        """Open it, in the manner of the SDK's transports."""

    def fail(self, error: ChatError) -> None:
        """End it at once; `error` is why."""
        self.fault = self.fault or error
        self.over.set()
        self.kill()

    def kill(self) -> None:  # noqa: B027 - there may be nothing to end
        """End what was started for it."""

    @property
    def last_words(self) -> str:
        """What the server said last of itself, to be put behind a sentence."""
        return ""

    def _too_long(self) -> FormatError:
        return FormatError(
            f"The MCP server {self.target.name} sent over {MAX_MESSAGE >> 20} MiB at once, and "
            f"{self.given_up}.\nAsk it for less."
        )


def link_to(target: Target) -> Link:
    """Return the way to a server, not yet open."""
    return Web(target) if target.url else Pipes(target)


# -- pipes


class Pipes(Link):
    """The pipes of a program."""

    given_up = "was ended"
    _child: Child | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Streams]:
        """Start the program."""
        self._child = child = await _started(self.target)
        incoming, read = anyio.create_memory_object_stream[Any](0)
        write, outgoing = anyio.create_memory_object_stream[Any](MAX_WAITING)
        try:
            async with incoming, read, write, outgoing, anyio.create_task_group() as group:
                group.start_soon(self._read, child, incoming)
                group.start_soon(_write, child, outgoing)
                try:
                    yield read, write
                finally:
                    group.cancel_scope.cancel()
            if self.fault is None:
                await child.end()
        finally:
            child.kill()

    def kill(self) -> None:
        """End the program, and whatever it started."""
        if self._child is not None:
            self._child.kill()

    @property
    def last_words(self) -> str:
        """The end of its standard error."""
        return self._child.last_words if self._child else ""

    async def _read(self, child: Child, incoming: Any) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with incoming:
                try:
                    while (message := await aside.run(_next_message, child)) is not None:
                        await incoming.send(message)
                except TooLongError:
                    self.fail(self._too_long())
                if not self.over.is_set():
                    how = await child.how_it_ended() or f"closed its output.{child.last_words}"
                    self.fail(ServerError(f"The MCP server {self.target.name} {how}"))


async def _write(child: Child, outgoing: Any) -> None:
    async with outgoing:
        async for one in outgoing:
            text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
            with contextlib.suppress(OSError):  # whoever reads finds out how it ended
                await aside.run(child.write, text.encode() + b"\n")


async def _started(target: Target) -> Child:
    """Start a program in a thread; if nobody waits for it any more, end it."""
    start = aside.start(lambda: Child(target.command, env=target.env, cwd=target.cwd))
    try:
        return await aside.wait(start)
    except asyncio.CancelledError:
        start.add_done_callback(_abandon)
        raise


def _abandon(start: Future[Child]) -> None:
    if not start.exception():
        start.result().kill()


def _next_message(child: Child) -> SessionMessage | None:
    """Wait for a message; what a program prints besides is kept with its standard error."""
    while (line := child.read_line(MAX_MESSAGE)) is not None:
        try:
            return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            child.tell(line)
    return None


# -- HTTP


class Web(Link):
    """Streamable HTTP."""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Streams]:
        """Open it; no request is sent yet."""
        url = self.target.url
        client = httpx2.AsyncClient(
            transport=_Transport(self),
            headers=dict(self.target.headers),
            timeout=None,  # each request has a time-out of ours
            trust_env=False,
        )
        how = streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE)
        async with client, how as streams:
            yield streams

    @contextlib.contextmanager
    def failing(self, request: httpx2.Request) -> Iterator[None]:
        """Keep what goes wrong; the SDK hears of it as of an error of its own client's."""
        try:
            yield
        except ChatError as error:
            if request.method == "POST":  # nobody waits for the others
                self.fail(error)
            raise httpx2.TransportError(type(error).__name__, request=request) from None

    async def chunks(self, call: http.Call, request: httpx2.Request) -> AsyncIterator[bytes]:
        """Yield a body, at most `MAX_MESSAGE` long unless it is the stream for news."""
        size = 0
        with self.failing(request):
            async for chunk in call.content:
                size += len(chunk)
                if size > MAX_MESSAGE and request.method == "POST":
                    raise self._too_long()
                yield chunk


class _Transport(httpx2.AsyncBaseTransport):
    """Sends the SDK's requests with our client."""

    def __init__(self, link: Web) -> None:
        self._link = link

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        with self._link.failing(request):
            call = http.Call(
                request.method,
                str(request.url.copy_with(userinfo=b"")),  # httpx2 made a header of it
                headers={n: one for n, one in request.headers.items() if n.lower() not in OURS},
                body=await request.aread() or None,
                transport=http.Transport(idle_timeout=IDLE_TIMEOUT, timeout=None, retries=0),
            )
            try:
                response = await call.open()
                await _refuse(response, self._link.target.name)
            except BaseException:
                await call.__aexit__(None, None, None)
                raise
        named = response.headers.items()
        headers = [(name, one) for name, one in named if name.lower() not in NO_LONGER_TRUE]
        body = _Body(call, self._link.chunks(call, request))
        return httpx2.Response(response.status, headers=headers, stream=body)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, call: http.Call, chunks: AsyncIterator[bytes]) -> None:
        self._call = call
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        await self._call.__aexit__(None, None, None)


async def _refuse(response: Any, name: str) -> None:
    """Raise for a response that is no answer of a server's: a redirect, a login, a failure."""
    status = response.status
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    if status == 401:
        raise UsageError(
            f"The MCP server {name} wants a login (401), and OAuth is not spoken here.\n"
            f'Put its token into the row: "headers": {{"Authorization": "Bearer ${{NAME}}"}}.'
        )
    if 300 <= status < 400 or status in {403, 407, 429} or (status >= 500 and not is_json):
        await http.raise_for_status(response)
