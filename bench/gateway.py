"""The overhead of the gateway, compared with asking the model directly.

The model is a script in a separate process, whose CPU is not counted. It is asked directly and
through each of the gateway's services in turn, with the gateway in the asking process, as in a
kernel. The floor is the least that a second connection costs: a relay that copies bytes unread.
"""

import asyncio
import contextlib
import functools
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from subprocess import DEVNULL, PIPE, Popen

import ipychat
from bench.rows import Figure
from bench.wire import END, http_chunk, packets
from ipychat.gateway.backend import Backend
from ipychat.gateway.server import Gateway
from ipychat.messages import Text
from ipychat.wire import http

ROUNDS, ASKS = 3, 30  # rounds for CPU, of which the minimum counts; for times, the median
MODEL = "openai:m"
DIRECTLY, RELAY = "directly", "by a relay of bytes"
SERVICES = {
    "openai:default": "openai/v1",
    "autonomous:qwen_coder": "autonomous",
    "koala:gpt-4o-mini": "koala",
    "robocoders:FrontEndAgent": "robocoders",
}
FIRST = "2 1 0.02"  # how many events, how many per packet, seconds between packets
SPEEDS = {
    "at full speed": "5000 5000 0",
    "5 in a packet": "1000 5 0.001",
    "1 in a packet": "400 1 0.001",
}
EVENTS = {prompt: int(prompt.split()[0]) for prompt in (FIRST, *SPEEDS.values())}

# -- the model, in a process of its own

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@functools.cache
def script(count: int, size: int) -> list[bytes]:
    """The body of an answer in packets, each event an HTTP chunk."""
    events = [*map(http_chunk, packets(count, 1))]
    events[-1] += END
    return [b"".join(events[i : i + size]) for i in range(0, count, size)]


class Listener(asyncio.Protocol):
    """Calls `asked` with each complete request; keeps the connection open."""

    def connection_made(self, transport):
        self.transport = transport
        self.request = b""

    def data_received(self, data):
        self.request += data
        head, blank, body = self.request.partition(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"content-length:")
        if blank and len(body) >= int(length.split(b"\r\n")[0] if length else 0):
            self.request = b""
            self.asked(head.split()[1], body)


class Model(Listener):
    """Answers as its prompt says."""

    def asked(self, _, body):
        count, size, pause = json.loads(body)["messages"][-1]["content"].split()
        self.task = asyncio.create_task(self.answer(int(count), int(size), float(pause)))

    async def answer(self, count, size, pause):
        first, *others = script(count, size)
        self.transport.write(HEAD + first)
        for packet in others:
            await asyncio.sleep(pause)
            self.transport.write(packet)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0)
    print(address(server), flush=True)
    await server.serve_forever()


def address(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.contextmanager
def process(*command: str):
    """Run a Python module that prints its address on its first line; yield the address."""
    arguments = [sys.executable, "-m", *command]
    with Popen(arguments, stdout=PIPE, stderr=DEVNULL, text=True) as started:
        try:
            yield started.stdout.readline().strip()
        finally:
            started.kill()


async def relay(near: asyncio.StreamReader, back: asyncio.StreamWriter, port: int) -> None:
    far, there = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source, sink):
        while data := await source.read(http.READ_BUFFER):
            sink.write(data)
        sink.close()

    await asyncio.gather(copy(near, there), copy(far, back))


Ways = dict[str, tuple[str, str]]  # by name: the model, and its address


def ways(model_url: str, root: str) -> Ways:
    services = {name: (name, f"{root}/{path}") for name, path in SERVICES.items()}
    return {DIRECTLY: (MODEL, model_url), **services}


async def ask(model: str, url: str, prompt: str) -> float:
    """Read an answer to its end; return the seconds until its first word."""
    begin, first, words = time.perf_counter(), 0.0, 0
    async with contextlib.aclosing(ipychat.events(prompt, model=model, base_url=url)) as events:
        async for event in events:
            if isinstance(event, Text):
                first = first or time.perf_counter() - begin
                words += event.text.count(" ")
    if words != EVENTS[prompt] - 1:
        raise SystemExit(f"{model} gave {words} words of {prompt}")
    return first


async def costs(ways: Ways, prompt: str) -> dict[str, float]:
    """CPU µs per event in this process."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in [*ways.items()][:: 1 if turn % 2 else -1]:
            gc.collect()
            begin = time.process_time()
            await ask(*way, prompt)
            if turn:  # the first round is a warm-up
                spent[name].append(time.process_time() - begin)
    return {name: min(cpu) / EVENTS[prompt] * 1e6 for name, cpu in spent.items()}


async def waits(ways: Ways) -> dict[str, float]:
    """Milliseconds until the first word."""
    rounds = [{name: await ask(*way, FIRST) for name, way in ways.items()} for _ in range(ASKS)]
    return {name: statistics.median(one[name] for one in rounds) * 1e3 for name in ways}


def through(what: str, found: dict[str, float]) -> Iterator[Figure]:
    """The time of the slowest service next to the relay's; then the overhead."""
    relayed = found[RELAY]
    services = {name: found[name] for name in SERVICES}
    slowest = max(services.values())
    yield Figure(what, slowest, relayed, others={"asked directly": found[DIRECTLY], **services})
    yield Figure(f"{what}: added", slowest - found[DIRECTLY])


async def measure() -> AsyncIterator[Figure]:
    with tempfile.TemporaryDirectory() as home, process("bench.gateway", "serve") as url:
        os.environ |= {"IPYCHAT_HOME": home, "OPENAI_BASE_URL": url}
        copy = functools.partial(relay, port=int(url.rpartition(":")[2]))
        server = await asyncio.start_server(copy, "127.0.0.1", 0)
        gateway = Gateway(Backend(model=MODEL))
        all_ways = ways(url, await gateway.start()) | {RELAY: (MODEL, address(server))}
        for figure in through("until the first word", await waits(all_ways)):
            yield figure
        for speed, prompt in SPEEDS.items():
            for figure in through(f"an event, {speed}", await costs(all_ways, prompt)):
                yield figure
        await http.close()
        server.close()
        await gateway.close()


if __name__ == "__main__":
    asyncio.run(serve())
