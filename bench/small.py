"""How soon the small local model says its first word, and how soon a stop frees it.

The floor is the same engine, asked with aiohttp alone. No two questions begin alike, or the engine
would find the beginning of the second in its cache.
"""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from functools import partial

import aiohttp

import ipychat
from bench.rows import Figure
from ipychat.local import engine, weights
from ipychat.wire import http

ROUNDS = 10
MODEL = f"local:{weights.TINY}"
LONG = "Tell me a long story about a fox, number {}."


async def alone(running: engine.Engine, question: str, tokens: int) -> float:
    """Ask with aiohttp alone; return the seconds until the first text."""
    body = {
        "model": weights.TINY,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **weights.OFFERS[weights.TINY].options,
        "max_tokens": tokens,
    }
    headers = {"Authorization": f"Bearer {running.key}"}
    url = f"{running.root}/v1/chat/completions"
    begin = time.perf_counter()
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers=headers) as answer,
    ):
        took = 0.0
        async for line in answer.content:
            if not took and line.startswith(b"data: {"):
                [*choices] = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    took = time.perf_counter() - begin
    return took


async def ours(question: str, tokens: int) -> float:
    """Ask through ipychat; return the seconds until the first text."""
    begin, took = time.perf_counter(), 0.0
    async for _ in ipychat.stream(question, model=MODEL, max_tokens=tokens):
        took = took or time.perf_counter() - begin
    return took


async def stopped(running: engine.Engine, number: int) -> float:
    """Cancel a long answer; return the seconds until the engine has started another."""
    begun = asyncio.Event()

    async def ask() -> None:
        async for _ in ipychat.stream(LONG.format(number), model=MODEL, max_tokens=2000):
            begun.set()

    asking = asyncio.create_task(ask())
    await begun.wait()
    begin = time.perf_counter()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await alone(running, f"Hello, number {number}.", 1)
    return time.perf_counter() - begin


async def measure() -> AsyncIterator[Figure | str]:
    if weights.TINY not in weights.there() or engine.missing():
        yield f"The small model is not here: python -m ipychat.local pull {weights.TINY}."
        return
    running = await engine.running(weights.place(weights.TINY))
    await alone(running, "Hello.", 5)
    ways = {"alone": partial(alone, running), "ours": ours}
    firsts: dict[str, list[float]] = {who: [] for who in ways}
    stops, short = [], []
    for number in range(ROUNDS):
        for who, ask in ways.items():
            firsts[who].append(await ask(f"{who} {number}: say hello.", 5))
        short.append(await alone(running, f"Hello, guest {number}.", 1))
        stops.append(await stopped(running, number))
    yield Figure(
        "the first text",
        1e3 * statistics.median(firsts["ours"]),
        1e3 * statistics.median(firsts["alone"]),
    )
    yield Figure(
        "a stop frees the engine",
        1e3 * max(0, statistics.median(stops) - statistics.median(short)),
    )
    await http.close()
    engine.end()
