"""Whether a race is as fast as its fastest model, and how soon the others are cancelled.

The three services are separate processes, each with its own delay; they report when they had sent
their last word, and when a connection was closed. The conversation is stored on disk, like a
notebook's.
"""

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

from bench.gateway import HEAD, address, process
from bench.rows import Figure
from bench.wire import END, http_chunk, packets
from ipychat import config
from ipychat.chat import conversations
from ipychat.chat.race import Race
from ipychat.messages import Text
from ipychat.wire import http

ROUNDS = 9
SERVICES = {"groq": 0.2, "openai": 0.1, "mistral": 0.3}
"""Seconds until the first word of each."""
EVENTS, PAUSE = 20, 0.01

# -- a service, in a process of its own


class Model(asyncio.Protocol):
    """Answers after a delay; reports when it had answered, or was disconnected before."""

    delay = 0.0
    answered: list[float] = []
    left: list[float] = []

    def connection_made(self, transport):
        self.transport, self.task = transport, None

    def data_received(self, data):
        if data.startswith(b"GET"):
            told = json.dumps({"answered": self.answered, "left": self.left}).encode()
            self.answered.clear()
            self.left.clear()
            length = f"Content-Length: {len(told)}\r\nConnection: close\r\n\r\n".encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + length + told)
            self.transport.close()
        elif self.task is None and data.startswith(b"POST"):
            self.task = asyncio.create_task(self.answer())

    async def answer(self):
        await asyncio.sleep(self.delay)
        self.transport.write(HEAD)
        *others, last = packets(EVENTS, 1)
        for packet in others:
            self.transport.write(http_chunk(packet))
            await asyncio.sleep(PAUSE)
        self.transport.write(http_chunk(last) + END)
        self.answered.append(time.monotonic())
        self.task = None

    def connection_lost(self, _):
        if self.task is not None:
            self.task.cancel()
            self.left.append(time.monotonic())


async def serve(delay: str) -> None:
    Model.delay = float(delay)
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0)
    print(address(server), flush=True)
    await server.serve_forever()


def told(url: str) -> dict[str, list[float]]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


async def outcome(url: str) -> dict[str, list[float]]:
    """When a service had answered or was disconnected; it notices a little later than we do."""
    for _ in range(500):
        times = told(url)
        if times["answered"] or times["left"]:
            return times
        await asyncio.sleep(0.01)
    raise SystemExit(f"{url} neither answered nor was left")


# -- the race


async def first_text(*services: str, first: bool = False) -> float:
    """Ask these models; return the milliseconds until the first text of any of them."""
    talk = conversations.conversation("bench")
    models = [f"{name}:m" for name in services]
    begin, seen = time.perf_counter(), 0.0
    given = {"api_key": "k"}
    turn = talk.begin(*(talk.question("Hi", model=one, options=given) for one in models))
    async with contextlib.aclosing(Race(talk, turn, first=first).events()) as events:
        async for _, event in events:
            if isinstance(event, Text):
                seen = seen or time.perf_counter() - begin
    talk.clear()
    return seen * 1e3


async def race(urls: dict[str, str]) -> AsyncIterator[Figure]:
    fastest = min(SERVICES, key=lambda name: SERVICES[name])
    alone, together, closed = [], [], []
    for _ in range(ROUNDS):
        alone.append(await first_text(fastest))
        together.append(await first_text(*SERVICES))
        for url in urls.values():
            told(url)
        await first_text(*SERVICES, first=True)
        heard = [await outcome(url) for url in urls.values()]
        won = min(at for times in heard for at in times["answered"])
        closed += [(at - won) * 1e3 for times in heard for at in times["left"]]
    least, most = statistics.median(alone[3:]), statistics.median(together[3:])
    yield Figure("the fastest's first text", most, least)
    yield Figure("the others are closed after", statistics.median(closed))
    yield Figure("the others are closed after, at most", max(closed))


async def measure() -> AsyncIterator[Figure]:
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["IPYCHAT_HOME"] = home
        urls = {
            name: stack.enter_context(process("bench.race", "serve", str(delay)))
            for name, delay in SERVICES.items()
        }
        config.use(config.Config(urls=urls, notebook=str(Path(home) / "n.ipynb")))
        async for figure in race(urls):
            yield figure
        await http.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]))
