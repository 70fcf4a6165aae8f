"""What it costs to read a stream, beside the least that it can cost.

`make bench` prints a table. Costs are CPU time of this process, whose rivals take turns in the same
run; the services answer from processes of their own, with bytes that were encoded beforehand. The
floor is the shortest loop that reads such a stream at all: split the lines, parse the JSON.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from math import inf
from pathlib import Path

import psutil

from ipychat.messages import Event, FinishReason, Text
from ipychat.providers import OpenAI, _completions
from ipychat.wire import http

EVENTS = 5_000
ROUNDS = 15
STREAMS = 1_000
EVENTS_A_STREAM = 200
PAUSE = 0.02
"""Seconds between two events where a stream goes at the pace of a model."""
MESSAGES = [{"role": "user", "content": "?"}]

DATA = b"data: "
DONE = b"data: [DONE]\n\n"


def event(delta: dict, finish: str | None = None) -> bytes:
    """One event of about 200 bytes, with all that OpenAI puts into it."""
    payload = {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return DATA + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


def packets(count: int, size: int) -> list[bytes]:
    """An answer of `count` events, `size` of them in a packet."""
    events = [event({"content": f" word{i % 100}"}) for i in range(count - 1)]
    events.append(event({}, "stop") + DONE)
    return [b"".join(events[i : i + size]) for i in range(0, count, size)]


# -- the service, in a process of its own


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)
END = b"0\r\n\r\n"


class Service(asyncio.Protocol):
    """Answers `/whole/…` at full speed; `/held/…` goes on after one event once told to."""

    whole = HEAD + b"".join(map(http_chunk, packets(EVENTS, 1))) + END
    first, *others = map(http_chunk, packets(EVENTS_A_STREAM, 1))
    held: set["Service"] = set()

    def connection_made(self, transport):
        self.transport = transport
        self.request = b""

    def connection_lost(self, _):
        self.held.discard(self)

    def data_received(self, data):
        self.request += data
        head, blank, body = self.request.partition(b"\r\n\r\n")
        if not blank:
            return
        _, _, length = head.lower().partition(b"content-length:")
        if len(body) < int(length.split(b"\r\n")[0] or 0):
            return
        match head.split()[1].split(b"/")[1:]:
            case [b"whole", *_]:
                self.transport.write(self.whole)
                self.transport.close()
            case [b"held", *_]:
                self.transport.write(HEAD + self.first)
                self.held.add(self)
            case [b"release", pause]:
                self.transport.write(b"HTTP/1.1 204 Go\r\nConnection: close\r\n\r\n")
                self.transport.close()
                self.task = asyncio.create_task(self.release(float(pause)))

    async def release(self, pause):
        """Write to all in turn, one event each, and pause before the next."""
        streams = [*self.held]
        for data in [*self.others, END]:
            for stream in streams:
                stream.transport.write(data)
            await asyncio.sleep(pause)
        for stream in streams:
            stream.transport.close()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Service, "127.0.0.1", 0, backlog=2 * STREAMS)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def service():
    """Run the service; give its address."""
    command = [sys.executable, str(Path(__file__)), "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


# -- the readers, each a packet's worth at a time


async def floor(chunks: AsyncIterator[bytes]) -> AsyncIterator[list]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield [
            json.loads(line[6:].decode())
            for line in lines
            if line.startswith(DATA) and line[6:] != b"[DONE]"
        ]


async def floor_over_http(url: str) -> AsyncIterator[list]:
    body = {"model": "m", "messages": MESSAGES, "stream": True}
    async with http.session().post(f"{url}/chat/completions", json=body) as response:
        async for payloads in floor(response.content.iter_any()):
            yield payloads


def ours(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    return _completions.read(chunks, "The service")


def ours_over_http(url: str) -> AsyncIterator[Event]:
    return OpenAI.create_async_generator("m", MESSAGES, base_url=url)


async def replay(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def drain(answer: AsyncIterator, opened: asyncio.Semaphore | None = None) -> int:
    """Read to the end; return how many events were in it. Ours joins a packet's texts into one."""
    count = 0
    async for got in answer:
        if opened and not count:
            opened.release()
        if isinstance(got, list):
            count += len(got)
        elif isinstance(got, Text):
            count += got.text.count(" ")
        elif isinstance(got, FinishReason):
            count += 1
    return count


# -- the measures


async def compare(ours: Callable[[], AsyncIterator], floor: Callable[[], AsyncIterator]):
    """Best CPU µs an event of either, and the median of the ratios of each round."""
    costs = {ours: [], floor: []}
    for turn in range(ROUNDS + 1):
        for reader in (ours, floor) if turn % 2 else (floor, ours):
            gc.collect()
            begin = time.process_time()
            count = await drain(reader())
            cost = (time.process_time() - begin) / EVENTS * 1e6
            if count != EVENTS:
                raise SystemExit(f"{count} events came, not {EVENTS}")
            if turn:  # the first one warms up
                costs[reader].append(cost)
    ratio = statistics.median(a / b for a, b in zip(costs[ours], costs[floor], strict=True))
    return min(costs[ours]), min(costs[floor]), ratio


async def crowd(
    reader: Callable[[str], AsyncIterator], url: str, count: int, pause: float = 0
) -> tuple[float, float, float]:
    """Open `count` streams at once: KiB for each, then chunks a second and a CPU second."""
    opened = asyncio.Semaphore(0)
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    async with asyncio.timeout(60):
        tasks = [asyncio.create_task(drain(reader(f"{url}/held"), opened)) for _ in range(count)]
        for _ in tasks:
            await opened.acquire()
        gc.collect()
        grown = process.memory_info().rss - before
        begin, begin_cpu = time.perf_counter(), time.process_time()
        async with http.session().get(f"{url}/release/{pause}"):
            pass
        counts = await asyncio.gather(*tasks)
        wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    if counts != [EVENTS_A_STREAM] * count:
        raise SystemExit(f"{sum(counts)} events came, not {EVENTS_A_STREAM * count}")
    await http.close()
    chunks = count * (EVENTS_A_STREAM - 1)
    return grown / count / 1024, chunks / wall, chunks / cpu


def row(what: str, *columns: str) -> None:
    print(f"{what:42}", *(f"{column:>12}" for column in columns), flush=True)


def verdict(value: float, *, at_most: float = inf, at_least: float = 0) -> str:
    return "met" if at_least <= value <= at_most else "NOT MET"


async def main() -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        del os.environ[name]
    with service() as url:
        await many(url)  # first, while no freed memory hides what a stream takes
        await one(url)
    await http.close()


async def many(url: str) -> None:
    row(f"{STREAMS:,} streams at once", "floor", "ours", "", "bound")
    await crowd(ours_over_http, url, 1)  # loads what is loaded on first use
    size, rate, _ = await crowd(ours_over_http, url, STREAMS)
    _, most, _ = await crowd(floor_over_http, url, STREAMS)
    met = verdict(size, at_most=20), verdict(rate, at_least=40_000)
    row("  KiB a stream", "", f"{size:.1f}", "", "≤ 20", met[0])
    row("  chunks a second", f"{most:,.0f}", f"{rate:,.0f}", "", "≥ 40,000", met[1])
    _, _, paced = await crowd(ours_over_http, url, STREAMS, PAUSE)
    _, _, most = await crowd(floor_over_http, url, STREAMS, PAUSE)
    row("  a CPU second, at a model's pace", f"{most:,.0f}", f"{paced:,.0f}")


async def one(url: str) -> None:
    row(f"One stream of {EVENTS:,} events, µs an event", "floor", "ours", "ratio", "bound")
    for size in (20, 5, 1):
        chunks = packets(EVENTS, size)
        best, least, ratio = await compare(
            lambda chunks=chunks: ours(replay(chunks)),
            lambda chunks=chunks: floor(replay(chunks)),
        )
        bound = ("≤ 1.3", verdict(ratio, at_most=1.3)) if size == 20 else ()
        what = f"  in memory, packets of {len(chunks[0]):,} bytes"
        row(what, f"{least:.2f}", f"{best:.2f}", f"{ratio:.2f}", *bound)
    best, least, ratio = await compare(
        lambda: ours_over_http(f"{url}/whole"), lambda: floor_over_http(f"{url}/whole")
    )
    what, met = "  over HTTP, at full speed", verdict(ratio, at_most=1.3)
    row(what, f"{least:.2f}", f"{best:.2f}", f"{ratio:.2f}", "≤ 1.3", met)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * STREAMS
    soft = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
    asyncio.run(serve() if sys.argv[1:] == ["serve"] else main())
