"""The cost of many prompts, compared with the same requests made with aiohttp alone.

The model is a separate process that answers after 100 ms. It may limit requests per second, report
the limit in its headers, and refuse requests above it.
"""

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import psutil

from bench.gateway import Listener, address, process
from bench.rows import Figure
from ipychat import batch
from ipychat.wire import http, limits

PROMPTS, MANY = 2_000, 100_000
ANSWER = 0.1
"""Seconds until an answer arrives."""
RATE = 200
"""Requests per second that the limited service allows, and the size of a burst."""
MODEL = "openai:m"
MIB = 1 << 20

# -- the model, in a process of its own


def _payload(delta: dict, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


BODY = _payload({"content": "good"}) + _payload({}, "stop") + b"data: [DONE]\n\n"


def _said(status: str, body: bytes, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n"
    )
    return f"{head}{headers}\r\n".encode() + body


class Model(Listener):
    """Answers `/limited/…` and `/free/…` after a delay, `/fast/…` at once; reports counts at
    `/count`."""

    answered = refused = 0
    left, at = float(RATE), 0.0

    def asked(self, target, _):
        match target.split(b"/")[1]:
            case b"count":
                counted = json.dumps([self.answered, self.refused]).encode()
                self.transport.write(_said("200 OK", counted))
                Model.answered = Model.refused = 0
            case b"limited":
                self.limit()
            case b"fast":
                self.answer()
            case _:
                asyncio.get_running_loop().call_later(ANSWER, self.answer)

    def limit(self):
        """A token bucket, as OpenAI describes its own."""
        now = time.monotonic()
        Model.left, Model.at = min(self.left + (now - self.at) * RATE, RATE), now
        if self.left < 1:
            Model.refused += 1
            self.transport.write(_said("429 Busy", b"{}", "Retry-After: 1\r\n"))
            return
        Model.left -= 1
        given = {
            "limit": RATE,
            "remaining": int(self.left),
            "reset": f"{(RATE - self.left) / RATE:.3f}s",
        }
        headers = "".join(f"x-ratelimit-{name}-requests: {v}\r\n" for name, v in given.items())
        asyncio.get_running_loop().call_later(ANSWER, self.answer, headers)

    def answer(self, headers=""):
        Model.answered += 1
        self.transport.write(_said("200 OK", BODY, headers))


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0, backlog=1024)
    print(address(server), flush=True)
    await server.serve_forever()


def counts(url: str) -> tuple[int, int]:
    """Requests answered and refused since the last call."""
    with urllib.request.urlopen(f"{url}/count") as answer:
        return tuple(json.loads(answer.read()))


# -- the rivals


async def floor(url: str, count: int, concurrency: int) -> tuple[float, float]:
    """The same with aiohttp alone, each answer written to a file: seconds, and CPU seconds."""
    numbers = iter(range(count))
    folder = Path(tempfile.mkdtemp(dir=os.environ["IPYCHAT_HOME"]))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work():
            for number in numbers:
                body = {
                    "model": "m",
                    "stream": True,
                    "messages": [{"role": "user", "content": f"{number}"}],
                }
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    content = await answer.read()
                new = folder / f".{number}"
                new.write_bytes(content)
                new.replace(folder / f"{number}")

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - wall, time.process_time() - cpu


async def ours(
    url: str, count: int, concurrency: int, word: str = ""
) -> tuple[float, float, batch.Results]:
    os.environ["OPENAI_BASE_URL"] = url
    limits._seen.clear()  # noqa: SLF001 - each run starts cold
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    results = await batch.map(
        range(count), f"{word} {{{{it}}}}", model=MODEL, concurrency=concurrency
    )
    return time.perf_counter() - wall, time.process_time() - cpu, results


async def speed(url: str) -> AsyncIterator[Figure]:
    await ours(f"{url}/free", 50, 50, "warm")
    for concurrency in (64, 256):
        least, least_cpu = await floor(f"{url}/free", PROMPTS, concurrency)
        took, cpu, _ = await ours(f"{url}/free", PROMPTS, concurrency, f"at {concurrency}")
        yield Figure(f"2,000 prompts, {concurrency} at once", took, least)
        a_prompt, least = cpu / PROMPTS * 1e3, least_cpu / PROMPTS * 1e3
        yield Figure(f"a prompt's CPU, {concurrency} at once", a_prompt, least)
    counts(url)
    took, _, results = await ours(f"{url}/free", PROMPTS, 64, "at 64")
    asked, _ = counts(url)
    yield Figure("a second run", took)
    yield Figure("a second run: prompts sent", asked)
    if results.counts != {"cached": PROMPTS}:
        raise SystemExit(f"not all were kept: {results}")


async def limited(url: str) -> AsyncIterator[Figure]:
    ideal = PROMPTS / RATE
    counts(url)
    took, _, results = await ours(f"{url}/limited", PROMPTS, 256, "limited")
    asked, refused = counts(url)
    failed = PROMPTS - results.counts["done"]
    yield Figure("200 a second allowed", took, ideal)
    yield Figure("200 a second allowed: rows that failed", failed)
    yield Figure("200 a second allowed: refusals", refused / (asked + refused) * 100)


def killed(url: str) -> Iterator[Figure]:
    """Kill a run when half of it is answered, and run it again."""
    counts(url)
    command = [sys.executable, "-m", "bench.batch", "run"]
    environment = {**os.environ, "OPENAI_BASE_URL": f"{url}/free"}
    answers = Path(os.environ["IPYCHAT_HOME"]) / "answers"
    before = len([*answers.iterdir()])
    with subprocess.Popen(command, env=environment) as running:
        while len([*answers.iterdir()]) - before < PROMPTS / 2:
            time.sleep(0.01)
        running.kill()
    subprocess.run(command, env=environment, check=True)
    asked, _ = counts(url)
    yield Figure("killed at half, and run again: prompts sent in all", asked)


@contextlib.contextmanager
def running_many() -> Iterator[subprocess.Popen]:
    """Start a large run against a model of its own, alongside measurements that are not timed."""
    command = [sys.executable, "-m", "bench.batch", "many"]
    with tempfile.TemporaryDirectory() as home, process("bench.batch", "serve") as url:
        environment = {**os.environ, "IPYCHAT_HOME": home, "OPENAI_BASE_URL": f"{url}/fast"}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as running:
            yield running


async def many() -> None:
    """Print by how many MiB this process has grown at most."""
    me = psutil.Process()
    data = [f"Prompt number {number}" for number in range(MANY)]
    await batch.map(["warm"], "{{it}}", model=MODEL)
    before, most = me.memory_info().rss, 0

    def look(_):
        nonlocal most
        most = max(most, me.memory_info().rss)

    await batch.map(data, "{{it}}", model=MODEL, progress=look)
    print((most - before) / MIB)
    await http.close()


async def measure() -> AsyncIterator[Figure]:
    with tempfile.TemporaryDirectory() as home, process("bench.batch", "serve") as url:
        os.environ |= {"IPYCHAT_HOME": home, "IPYCHAT_SERVERS": "off"}
        async for figure in speed(url):
            yield figure
        with running_many() as many:
            async for figure in limited(url):
                yield figure
            for figure in killed(url):
                yield figure
            grown, _ = many.communicate()
            yield Figure("100,000 prompts: memory over the data", float(grown))
    await http.close()


async def once() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await batch.map(range(PROMPTS), "killed {{it}}", model=MODEL)
    await http.close()


if __name__ == "__main__":
    works = {"serve": serve, "many": many, "run": once}
    asyncio.run(works[sys.argv[1]]())
