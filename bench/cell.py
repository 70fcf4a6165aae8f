"""The cost of an answer in a cell of a real kernel, compared with a minimal cell.

Two ways are measured: `%chat`, which asks a local service, and the floor, a cell that reads the
same bytes with aiohttp alone and appends to its output every 50 ms. CPU is the kernel's; messages
and bytes are the cell's outputs on iopub; a word counts as seen when a message with it reaches the
front end's socket.
"""

import ast
import asyncio
import contextlib
import functools
import json
import re
import statistics
import string
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from jupyter_client import AsyncKernelManager

from bench.rows import Figure

MANY = 10_000
ROUNDS = 9
SETTLE = 0.1
DIGITS = string.digits + string.ascii_lowercase
WORD = re.compile(r"\bq([0-9a-z]{3})\b")


def words(kind: str, count: int) -> list[str]:
    """An answer of `count` numbered words, each about as long as a token.

    `flat` is one paragraph of longer words, `endless` one of short ones, `markdown` has headings,
    lists and code.
    """
    short = [f"q{DIGITS[i // 1296]}{DIGITS[i // 36 % 36]}{DIGITS[i % 36]}" for i in range(count)]
    if kind == "flat":
        return [f"{word} words " for word in short]
    if kind == "endless":
        return [f"{word} " for word in short]
    return [_in_markdown(word, i % SECTION) for i, word in enumerate(short)]


SECTION = 160
BEFORE = {0: "\n\n## ", 5: "\n\n", 65: "\n\n- ", 77: "\n- ", 89: "\n- **"}
CODE = range(101, 125)


def _in_markdown(word: str, n: int) -> str:
    """The word at position `n` of a section: heading, paragraph, list, code, paragraph."""
    if n not in CODE:
        return f"{BEFORE.get(n, '')}{word}{'**' if n == 89 else ''} "
    match (n - CODE.start) % 4:
        case 0:
            opening = "\n\n```python" if n == CODE.start else ""
            return f"{opening}\n{word} = f("
        case 3:
            return word + (")\n```\n\n" if n == CODE[-1] else ")")
    return f"{word}, "


# -- in the kernel


@dataclass
class Watch:
    """The longest callback in CPU seconds, and the loop's worst lag."""

    held: float = 0.0
    late: float = 0.0

    @contextlib.contextmanager
    def on(self):
        run = asyncio.Handle._run  # noqa: SLF001 - no public hook is cheap enough

        def timed(handle):
            begin = time.thread_time()
            run(handle)
            self.held = max(self.held, time.thread_time() - begin)

        asyncio.Handle._run = timed  # noqa: SLF001
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()
            asyncio.Handle._run = run  # noqa: SLF001

    async def _look(self):
        while True:
            due = time.monotonic() + 0.002
            await asyncio.sleep(0.002)
            self.late = max(self.late, time.monotonic() - due)


@contextlib.asynccontextmanager
async def measured(result: dict, *, watch: bool):
    """Fill `result` with the cost of the block."""
    watcher = Watch()
    with watcher.on() if watch else contextlib.nullcontext():
        await asyncio.sleep(0.002)
        watcher.held = watcher.late = 0.0
        begin, begin_cpu = time.perf_counter(), time.process_time()
        yield
        result |= {"wall": time.perf_counter() - begin, "cpu": time.process_time() - begin_cpu}
    result |= {"held": watcher.held, "late": watcher.late}


async def read(url: str, *, watch: bool = False) -> dict:
    """The floor: raw aiohttp, split, `json.loads`, append every 50 ms."""
    import aiohttp

    result: dict = {}
    async with aiohttp.ClientSession() as session, measured(result, watch=watch):
        pending: list[str] = []
        due = 0.0
        rest = b""
        async with session.post(f"{url}/chat/completions", json={}) as response:
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        delta = json.loads(line[6:])["choices"][0]["delta"]
                        pending.append(delta.get("content") or "")
                if time.monotonic() > due:
                    print("".join(pending), end="", flush=True)
                    pending.clear()
                    due = time.monotonic() + 0.05
        print("".join(pending), end="", flush=True)
    return result


ASK = """
import os
from bench import cell as bench
os.environ["OPENAI_BASE_URL"] = {url!r}
os.environ["OPENAI_API_KEY"] = "nothing-secret"
result = {{}}
async with bench.measured(result, watch={watch}):
    answer = %chat --no-history -m openai:m go
assert len(answer.text) == {length}, len(answer.text)
"""
READ = """
from bench import cell as bench
result = await bench.read({url!r}, watch={watch})
"""
WAYS = {"read": READ, "chat": ASK}


# -- the service


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@functools.cache
def encoded(kind: str, count: int) -> tuple[list[bytes], bytes, bytes]:
    """The events of an answer, its end, and all of its bytes."""
    events = [event({"content": word}) for word in words(kind, count)]
    end = event({}, "stop") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return events, end, b"".join(events) + end


def event(delta: dict, finish: str | None = None) -> bytes:
    payload = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return chunk(b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Service:
    """Answers `/KIND/COUNT/RATE/chat/completions`; records when each word was sent."""

    def __init__(self) -> None:
        self.sent: list[float] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = re.search(r"content-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                _, kind, count, rate, *_ = head.split()[1].split("/")
                writer.write(HEAD)
                await self._stream(writer, kind, int(count), float(rate))

    async def _stream(
        self, writer: asyncio.StreamWriter, kind: str, count: int, rate: float
    ) -> None:
        events, end, whole = encoded(kind, count)
        self.sent.clear()
        if not rate:
            writer.write(whole)
            await writer.drain()
            return
        begin = time.monotonic()
        for i, event in enumerate(events):
            await asyncio.sleep(begin + i / rate - time.monotonic())
            self.sent.append(time.monotonic())
            writer.write(event)
        writer.write(end)


# -- the front end


@dataclass
class Run:
    """The cost of one cell."""

    wall: float = 0.0
    cpu: float = 0.0
    held: float = 0.0
    late: float = 0.0
    messages: int = 0
    size: int = 0
    delays: list[float] = field(default_factory=list)

    @property
    def seen(self) -> tuple[float, float]:
        """Median and 95th percentile of the delays, in ms."""
        delays = sorted(self.delays)
        return delays[len(delays) // 2] * 1e3, delays[int(len(delays) * 0.95)] * 1e3


class Front:
    """Runs cells in a kernel and reads what it publishes."""

    def __init__(self, client, url: str, service: Service) -> None:
        self.client = client
        self.url = url
        self.service = service

    async def run(
        self, way: str, kind: str, count: int, rate: float = 0, *, watch: bool = False
    ) -> Run:
        url = f"{self.url}/{kind}/{count}/{rate}"
        length = sum(map(len, words(kind, count)))
        code = WAYS[way].format(url=url, watch=watch, length=length)
        reply, seen = await self.execute(code)
        text = reply["user_expressions"]["result"]["data"]["text/plain"]
        result = json.loads(ast.literal_eval(text))
        sent = self.service.sent
        run = Run(**result, messages=len(seen), size=sum(size for _, size, _ in seen))
        shown = 0
        for at, _, last in seen:
            run.delays += [at - sent[i] for i in range(shown, min(last + 1, len(sent)))]
            shown = max(shown, last + 1)
        await asyncio.sleep(SETTLE)
        return run

    async def execute(self, code: str) -> tuple[dict, list[tuple[float, int, int]]]:
        """Run a cell; return its reply and, for each output, its time, size and last word."""
        expressions = {"result": "__import__('json').dumps(result)"}
        sent = self.client.execute(code, user_expressions=expressions, allow_stdin=True)
        seen = await self._read(sent)
        reply = {}
        while reply.get("parent_header", {}).get("msg_id") != sent:
            reply = await self.client.get_shell_msg(timeout=120)
        if reply["content"]["status"] != "ok":
            raise SystemExit("\n".join(reply["content"]["traceback"]))
        return reply["content"], seen

    async def _read(self, sent: str) -> list[tuple[float, int, int]]:
        socket, session = self.client.iopub_channel.socket, self.client.session
        seen = []
        while True:
            frames = await socket.recv_multipart()
            at = time.monotonic()
            message = session.deserialize(session.feed_identities(frames)[1])
            content = message["content"]
            if message["parent_header"].get("msg_id") != sent:
                continue
            match message["msg_type"]:
                case "status" if content["execution_state"] == "idle":
                    return seen
                case "stream":
                    text = content["text"]
                case "display_data" | "update_display_data":
                    text = content["data"].get("text/html", "")
                case _:
                    continue
            last = max((int(word, 36) for word in WORD.findall(text)), default=-1)
            seen.append((at, sum(map(len, frames)), last))


@contextlib.asynccontextmanager
async def front():
    """A kernel with the extension, and a service beside it."""
    service = Service()
    server = await asyncio.start_server(service.answer, "127.0.0.1", 0)
    manager = AsyncKernelManager()
    await manager.start_kernel(extra_arguments=["--IPKernelApp.log_level=40"])
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        yield Front(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", service)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
        server.close()


# -- the figures

KINDS = {"flat": "flat", "Markdown": "markdown"}
"""Names in the rows → kinds of `words`."""


async def full_speed(front: Front) -> AsyncIterator[Figure]:
    for name, kind in KINDS.items():
        runs: dict[str, list[Run]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS + 1):
            for way in WAYS:
                runs[way].append(await front.run(way, kind, MANY))

        def middle(what: str, runs: dict[str, list[Run]] = runs) -> list[float]:
            """Medians of `%chat` and of the floor; the first run is a warm-up."""
            return [
                statistics.median(getattr(run, what) for run in runs[way][1:])
                for way in ("chat", "read")
            ]

        wall, cpu = ([took * 1e3 for took in middle(what)] for what in ("wall", "cpu"))
        yield Figure(f"10,000 words, {name}: until the end", *wall)
        yield Figure(f"10,000 words, {name}: the kernel's CPU", *cpu)
        if name == "flat":
            yield Figure("10,000 words, flat: messages", *middle("messages"))


async def lags(front: Front) -> AsyncIterator[Figure]:
    for name, kind in KINDS.items():
        best = {}
        for way in WAYS:
            runs = [await front.run(way, kind, MANY, watch=True) for _ in range(5)]
            best[way] = [min(getattr(run, what) for run in runs) * 1e3 for what in ("held", "late")]
        (held, late), (least, earliest) = best["chat"], best["read"]
        yield Figure(f"{name}: the longest callback", held, least)
        yield Figure(f"{name}: the loop's worst lag", late, earliest)


async def paced(fronts: dict[str, Front]) -> AsyncIterator[Figure]:
    plans = {
        "300 words at 50 a second": ("markdown", 300, 50),
        "2,000 words of Markdown at 100 a second": ("markdown", 2_000, 100),
        "a paragraph of 2,000 words at 100 a second": ("endless", 2_000, 100),
    }
    for name, plan in plans.items():
        # concurrently, each with a kernel of its own: they are idle most of the time
        runs = [fronts[way].run(way, *plan) for way in ("chat", "read")]
        ours, floor = await asyncio.gather(*runs)
        (middle, most), (least, least_most) = ours.seen, floor.seen
        yield Figure(f"{name}: seen after", middle, least)
        yield Figure(f"{name}: seen after, 95 %", most, least_most)
        yield Figure(f"{name}: sent", ours.size / 1024, floor.size / 1024)


async def measure() -> AsyncIterator[Figure]:
    async with front() as one, front() as two:
        for fronted in (one, two):
            await fronted.execute("%load_ext ipychat\nresult = None")
        for figures in (full_speed(one), lags(one), paced({"chat": one, "read": two})):
            async for figure in figures:
                yield figure
