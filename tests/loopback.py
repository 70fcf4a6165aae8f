"""Real servers on loopback, each in a thread of its own: a scripted service, and two proxies.

A script is a sequence of steps: bytes are written as they are, a number pauses, and `HANG`, `FIN`
and `RESET` do what they say. Whoever scripts a service has its every byte in hand.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
import zlib
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

HANG = "hang"
FIN = "fin"
RESET = "reset"


def head(
    status: int = 200,
    content_type: str = "text/event-stream",
    *,
    chunked: bool = True,
    headers: dict[str, str] | None = None,
) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


END = b"0\r\n\r\n"


def answer(
    *pieces: bytes, status: int = 200, content_type: str = "text/event-stream", **headers: str
) -> list[Any]:
    """A script: a whole answer, each piece a chunk of its own."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [head(status, content_type, headers=named), *map(chunk, pieces), END]


def byte_by_byte(data: bytes, content_type: str = "text/event-stream") -> list[Any]:
    return [head(200, content_type), *(chunk(data[i : i + 1]) for i in range(len(data))), END]


def gzipped(data: bytes, content_type: str = "text/event-stream") -> list[Any]:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(data) + packer.flush()
    return [head(200, content_type, headers={"Content-Encoding": "gzip"}), chunk(packed), END]


@dataclass
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""
    """As it was sent, without the question mark."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once the client has closed the connection before the script was over."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Listening = socket.socket | TransportSocket


class _Threaded:
    """An event loop in a thread, and whatever `start` puts on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._doors = self.run(self.start())
        self.port = self._doors[0].getsockname()[1]

    async def start(self) -> Sequence[Listening]:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self) -> None:
        self.run(self._shut_the_doors())
        self.run(self.stop())
        self.run(self._end_the_rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _shut_the_doors(self) -> None:
        """Accept nobody more, and let in who has knocked: asyncio would drop their sockets open."""
        for door in self._doors:
            self.loop.remove_reader(door)
        await _some_turns()

    async def _end_the_rest(self) -> None:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _some_turns()
        for transport in list(self.loop._transports.values()):
            if transport.get_extra_info("socket").fileno() != -1:  # a lost one stays in the list
                transport.abort()
        await _some_turns()


async def _some_turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


Script = Iterable[Any] | Callable[[Received], Iterable[Any]]


class Service(_Threaded):
    """Answers each path with the scripts given for it, one a request, the last one for ever."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Received] = []
        self._scripts: dict[str, list[Script]] = {}
        super().__init__()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process that asks this service unless told otherwise."""
        return {
            "OPENAI_BASE_URL": self.url,
            "OPENAI_API_KEY": "sk-a-key-of-the-tests",
            "IPYCHAT_MODEL": "openai:m",
        }

    def on(self, path: str, *scripts: Script) -> None:
        self._scripts[path] = list(scripts)

    def asked(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path]

    async def start(self) -> Sequence[Listening]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        door = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, door, ssl_context=self._tls).start()
        return [door]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(
            request.method,
            request.path,
            request.headers.copy(),
            await request.read(),
            request.rel_url.raw_query_string,
        )
        self.requests.append(received)
        scripts = self._scripts.get(request.path)
        if not scripts:
            return web.Response(status=404, text="no script for this path")
        script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        transport = request.transport
        try:
            await self._play(script(received) if callable(script) else script, transport)
        except (asyncio.CancelledError, ConnectionError):
            received.gone.set()
            raise
        if transport is not None:
            transport.close()
        return web.Response()

    async def _play(self, script: Iterable[Any], transport: Any) -> None:
        for step in script:
            if transport is None or transport.is_closing():
                raise ConnectionResetError
            match step:
                case bytes():
                    transport.write(step)
                    while transport.get_write_buffer_size() > 1 << 20:
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(0)
                case int() | float():
                    await asyncio.sleep(step)
                case "hang":
                    await asyncio.Event().wait()
                case "fin":
                    transport.close()
                    return
                case "reset":
                    await asyncio.sleep(0.02)  # what was written before is to arrive
                    linger = struct.pack("ii", 1, 0)
                    sock = transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    transport.abort()
                    return


class Proxy(_Threaded):
    """A forwarding HTTP proxy that remembers the request lines it saw and may ask for a login."""

    def __init__(self, authorization: str | None = None) -> None:
        self.seen: list[str] = []
        self._authorization = authorization
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Sequence[Listening]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            request = await reader.readuntil(b"\r\n\r\n")
            line, _, rest = request.partition(b"\r\n")
            method, target, version = line.split()
            self.seen.append(f"{method.decode()} {target.decode()}")
            if self._authorization and self._authorization.encode() not in rest:
                writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
                writer.close()
                return
            host, _, path = target.removeprefix(b"http://").partition(b"/")
            name, _, port = host.decode().partition(":")
            up_reader, up_writer = await asyncio.open_connection(name, int(port))
            up_writer.write(b"%s /%s %s\r\n%s" % (method, path, version, rest))
            await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))
        writer.close()


class SocksProxy(Proxy):
    """A SOCKS5 proxy without a login (RFC 1928), for IPv4 addresses and names."""

    @property
    def url(self) -> str:
        return f"socks5://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            _, methods = await reader.readexactly(2)
            await reader.readexactly(methods)
            writer.write(b"\x05\x00")
            _, _, _, kind = await reader.readexactly(4)
            if kind == 1:
                name = socket.inet_ntoa(await reader.readexactly(4))
            else:
                name = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            (port,) = struct.unpack("!H", await reader.readexactly(2))
            self.seen.append(f"{name}:{port}")
            up_reader, up_writer = await asyncio.open_connection(name, port)
            writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
