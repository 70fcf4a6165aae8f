"""The cost of reading a stream, compared with the shortest possible loop.

Costs are CPU time of this process; competitors take turns in the same run, and the services answer
from separate processes with bytes encoded beforehand. The floor is the shortest loop that reads
such a stream at all: split the lines, parse the JSON. A raw socket and raw aiohttp only take the
bytes.
"""

import asyncio
import contextlib
import gc
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from urllib.parse import urlsplit

import psutil

import ipychat
from bench.rows import Figure
from ipychat.messages import Event, FinishReason, Text
from ipychat.providers import OpenAI, _completions, _reader, responses
from ipychat.wire import http
from ipychat.wire.content import Content

EVENTS = 5_000
ROUNDS = 9
FEW_ROUNDS = 3
"""For clients that have no bound."""
STREAMS = 1_000
EVENTS_A_STREAM = 200
PAUSE = 0.02
"""Seconds between two events of a stream at a model's usual speed."""
LONG_PAUSE = 0.1
"""The same, so long that every packet is read before the next one is sent."""
MESSAGES = [{"role": "user", "content": "?"}]

DATA = b"data: "
DONE = b"data: [DONE]\n\n"


def event(delta: dict, finish: str | None = None) -> bytes:
    """One event of about 200 bytes, with all the fields that OpenAI sends."""
    payload = {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return DATA + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


def packets(count: int, size: int) -> list[bytes]:
    """An answer of `count` events, `size` of them per packet."""
    events = [event({"content": f" word{i % 100}"}) for i in range(count - 1)]
    events.append(event({}, "stop") + DONE)
    return [b"".join(events[i : i + size]) for i in range(0, count, size)]


def response_packets(count: int, size: int) -> list[bytes]:
    """The same in OpenAI's Responses, whose events name their kind twice."""

    def event(number: int, kind: str, **fields) -> bytes:
        payload = {"type": f"response.{kind}", **fields, "sequence_number": number}
        data = json.dumps(payload, separators=(",", ":"))
        return f"event: response.{kind}\ndata: {data}\n\n".encode()

    where = {
        "item_id": "msg_67c9a281e3f88190a38a5ea1c9c2bb1c0f7a",
        "output_index": 0,
        "content_index": 0,
    }
    events = [
        event(
            i,
            "output_text.delta",
            **where,
            delta=f" word{i % 100}",
            logprobs=[],
            obfuscation="x7Gb2",
        )
        for i in range(count - 1)
    ]
    whole = {"id": "resp_1", "status": "completed", "output": [], "usage": {"input_tokens": 1}}
    events.append(event(count, "completed", response=whole))
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
    """Answers `/whole/…` at full speed; `/held/…` continues after one event when told to."""

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
        """Write one event to each connection in turn, pausing before the next."""
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
    """Run the service; yield its address."""
    command = [sys.executable, "-m", "bench.wire"]
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


async def aiohttp_alone(url: str) -> AsyncIterator[int]:
    async with http.session().post(f"{url}/chat/completions", json={}) as response:
        async for chunk in response.content.iter_any():
            yield len(chunk)


async def socket_alone(url: str) -> AsyncIterator[int]:
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as one:
        one.sendall(b"POST /whole/chat HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        while data := one.recv(http.READ_BUFFER):
            yield len(data)


async def openai_client(url: str) -> AsyncIterator[int]:
    import openai

    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client:
        answer = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        async for one in answer:
            yield len(one.choices)


async def litellm_client(url: str) -> AsyncIterator[int]:
    import litellm

    options = {"api_base": url, "api_key": "k", "stream": True}
    async for one in await litellm.acompletion("openai/m", MESSAGES, **options):
        yield len(one.choices)


PEERS = {"openai": openai_client, "litellm": litellm_client}


class InMemory:
    """A call whose answer is already in memory."""

    total_bytes = 0

    def __init__(self, chunks: list[bytes]):
        self.chunks = iter(chunks)
        self.content = Content(self, "The service")

    async def readany(self) -> bytes:
        return next(self.chunks, b"")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def send(self):
        return
        yield


def ours(chunks: list[bytes]) -> AsyncIterator[Event]:
    return read(chunks, _completions.Completion("The service"))


def our_responses(chunks: list[bytes]) -> AsyncIterator[Event]:
    return read(chunks, responses.Response("The service", {}))


def read(chunks: list[bytes], answer: _reader.Answer) -> AsyncIterator[Event]:
    async def ask() -> _reader.Asked:
        return _reader.Asked(InMemory(chunks), answer)

    return _reader.read(ask)


async def through_ipychat(url: str) -> AsyncIterator[str | FinishReason]:
    async for text in ipychat.stream("?", model="openai:m", base_url=url, api_key="k"):
        yield text
    yield FinishReason("stop")  # which `stream` keeps to itself


def ours_over_http(url: str) -> AsyncIterator[Event]:
    return OpenAI.create_async_generator("m", MESSAGES, base_url=url)


async def replay(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def drain(answer: AsyncIterator, opened: asyncio.Semaphore | None = None) -> int:
    """Read to the end; return the number of events. Ours merges a packet's texts into one."""
    count = 0
    async for got in answer:
        if opened and not count:
            opened.release()
        if isinstance(got, list):
            count += len(got)
        elif isinstance(got, Text):
            count += got.text.count(" ")
        elif isinstance(got, str):
            count += got.count(" ")
        elif isinstance(got, FinishReason):
            count += 1
    return count


# -- the measures


async def compare(ours: Callable[[], AsyncIterator], floor: Callable[[], AsyncIterator]):
    """The best CPU µs per event of each, and the median of the rounds' ratios."""
    costs = {ours: [], floor: []}
    for turn in range(ROUNDS + 1):
        for reader in (ours, floor) if turn % 2 else (floor, ours):
            gc.collect()
            begin = time.process_time()
            count = await drain(reader())
            cost = (time.process_time() - begin) / EVENTS * 1e6
            if count != EVENTS:
                raise SystemExit(f"{count} events came, not {EVENTS}")
            if turn:  # the first round is a warm-up
                costs[reader].append(cost)
    ratio = statistics.median(a / b for a, b in zip(costs[ours], costs[floor], strict=True))
    return min(costs[ours]), min(costs[floor]), ratio


async def crowd(
    reader: Callable[[str], AsyncIterator], url: str, count: int, pause: float = 0
) -> tuple[float, float, float]:
    """Open `count` streams at once: KiB for each, then chunks per second and per CPU second."""
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


async def alone(reader: Callable[[str], AsyncIterator], url: str) -> float:
    """The best CPU µs per event of a client that is only shown."""
    costs = []
    for _ in range(FEW_ROUNDS + 1):
        begin = time.process_time()
        async for _ in reader(f"{url}/whole"):
            pass
        costs.append((time.process_time() - begin) / EVENTS * 1e6)
    return min(costs)


async def measure() -> AsyncIterator[Figure | str]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * STREAMS
    soft = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
    with service() as url:
        async for figure in many(url):  # first, while no freed memory hides what a stream takes
            yield figure
        async for figure in one(url):
            yield figure
    await http.close()


async def many(url: str) -> AsyncIterator[Figure]:
    await crowd(ours_over_http, url, 1)  # loads what is loaded on first use
    size, rate, _ = await crowd(ours_over_http, url, STREAMS)
    _, most, _ = await crowd(floor_over_http, url, STREAMS)
    yield Figure("memory of a stream", size)
    yield Figure("1,000 streams, at full speed", rate, most)
    _, _, rate = await crowd(ours_over_http, url, STREAMS, PAUSE)
    _, _, most = await crowd(floor_over_http, url, STREAMS, PAUSE)
    yield Figure("1,000 streams, at a model's pace", rate, most)
    await crowd(through_ipychat, url, 1)
    _, _, rate = await crowd(through_ipychat, url, STREAMS, LONG_PAUSE)
    _, _, most = await crowd(floor_over_http, url, STREAMS, LONG_PAUSE)
    yield Figure("1,000 `ipychat.stream`s, an event a packet", rate, most)


async def one(url: str) -> AsyncIterator[Figure | str]:
    for size in (20, 5, 1):
        chunks = packets(EVENTS, size)
        best, least, ratio = await compare(
            lambda chunks=chunks: ours(chunks),
            lambda chunks=chunks: floor(replay(chunks)),
        )
        yield Figure(f"in memory, {size} in a packet", best, least, ratio)
    chunks = response_packets(EVENTS, 20)
    best, least, ratio = await compare(lambda: our_responses(chunks), lambda: floor(replay(chunks)))
    yield Figure("Responses in memory, 20 in a packet", best, least, ratio)
    best, least, ratio = await compare(
        lambda: ours_over_http(f"{url}/whole"), lambda: floor_over_http(f"{url}/whole")
    )
    others = {name: reader for name, reader in PEERS.items() if find_spec(name)}
    for name in PEERS.keys() - others:
        yield f"{name} is not installed: it reads nothing beside ours."
    others = {"raw socket": socket_alone, "raw aiohttp": aiohttp_alone, **others}
    costs = {name: await alone(reader, url) for name, reader in others.items()}
    yield Figure("over HTTP, at full speed", best, least, ratio, costs)


if __name__ == "__main__":
    asyncio.run(serve())
