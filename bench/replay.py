"""The cost of storing answers, and of finding them among many.

The floor of a hit is reading the same file and parsing it.
"""

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import ipychat
from bench.gateway import FIRST, MODEL, process
from bench.rows import Figure
from ipychat import config
from ipychat.catalog import receipts
from ipychat.chat.question import question as request
from ipychat.messages import Reply, Text
from ipychat.store.answers import AnswerStore, Entry, lines
from ipychat.wire import http

ENTRIES, HITS, ASKS = 20_000, 500, 100
TEXT = "An answer of some length, as they are. " * 20


def asked(number: int):
    return request(f"Question {number}", model=MODEL, options={"seed": number})


def fill(folder: Path) -> None:
    """Store many answers; without other processes no lock is needed."""
    answers = AnswerStore(folder, shared=False)
    for number in range(ENTRIES):
        one = asked(number)
        record = Reply(one, TEXT, finish="stop", seconds=1.0).to_record() | {"text": lines(TEXT)}
        answers.keep(Entry(receipts.receipt(one), record), {})


async def hits(folder: Path) -> Figure:
    floor, ours = [], []
    for number in range(0, ENTRIES, ENTRIES // HITS):
        path = folder / f"{receipts.receipt(asked(number)).hash}.json"
        begin = time.perf_counter()
        json.loads(path.read_bytes())
        floor.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        reply = await ipychat.ask(f"Question {number}", model=MODEL, seed=number)
        ours.append(time.perf_counter() - begin)
        assert reply.cached
    middle, least = statistics.median(ours) * 1e3, statistics.median(floor) * 1e3
    return Figure("a hit among 20,000", middle, least)


async def first_word(seed: int) -> float:
    begin = time.perf_counter()
    events = ipychat.events(FIRST, model=MODEL, seed=seed)
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Text):
                took = time.perf_counter() - begin
                async for _ in events:
                    pass
                return took
    raise SystemExit("no word came")


async def recording(cassette: str) -> Figure:
    took: dict[str, list[float]] = {"off": [], "auto": []}
    for number in range(2 * ASKS):
        mode = "auto" if number % 2 else "off"
        config.use(config.Config(replay=mode, cassette=cassette if number % 2 else None))
        took[mode].append(await first_word(ENTRIES + number))
    off, on = (statistics.median(took[mode][5:]) * 1e3 for mode in took)
    return Figure("until the first word, where it is kept", on, off)


async def measure() -> AsyncIterator[Figure]:
    with tempfile.TemporaryDirectory() as home, process("bench.gateway", "serve") as url:
        os.environ |= {"IPYCHAT_HOME": home, "OPENAI_BASE_URL": url}
        folder = Path(home) / "__chat__"
        fill(folder)
        config.use(config.Config(replay="auto", cassette=str(folder)))
        yield await hits(folder)
        yield await recording(str(folder))
    await http.close()
