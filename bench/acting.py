"""What tools cost: the CPU of a step beside its request, in one conversation and in a kept run.

The service is a thread of this process, whose CPU is taken off.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ipychat
from bench.rows import Figure
from ipychat import config
from tests.acting import COMPLETIONS
from tests.loopback import Service

STEPS, ROUNDS = 20, 9


def nothing(n: int) -> int:
    """Return the number."""
    return n


class Clock:
    """The CPU time of this process, without that of the service's thread."""

    def __init__(self, service: Service) -> None:
        thread = service.run(_ident())
        self._of_the_service = time.pthread_getcpuclockid(thread)

    def milliseconds(self) -> float:
        return 1000 * (time.process_time() - time.clock_gettime(self._of_the_service))


async def _ident() -> int:
    return threading.get_ident()


async def cost(service: Service, steps: int, **how) -> float:
    """The CPU of a question with so many steps, in milliseconds; the least of several."""
    clock, took = Clock(service), []
    for number in range(ROUNDS):
        rounds = [[("nothing", {"n": number * 100 + step})] for step in range(steps)]
        service.on(COMPLETIONS.path, COMPLETIONS.script(*rounds, "Done"))
        begin = clock.milliseconds()
        await ipychat.ask(f"Do it {number}", model="openai:m", base_url=service.url, **how)
        took.append(clock.milliseconds() - begin)
    return min(took)


async def measured(service: Service, folder: str) -> list[Figure]:
    tools = {"tools": [nothing], "approve": "all"}
    await cost(service, 1, **tools)  # what is imported on use is there
    plain = await cost(service, 0)
    given = await cost(service, 0, **tools)
    step = (await cost(service, STEPS, **tools) - given) / STEPS
    config.use(config.current()._replace(cassette=str(Path(folder, "__chat__")), replay="refresh"))
    kept = (await cost(service, STEPS, **tools) - await cost(service, 0, **tools)) / STEPS
    return [
        Figure("a step and its request", step, plain),
        Figure("a step and its request, kept in a cassette", kept, plain),
        Figure("a question with a tool that is not called", given, plain),
    ]


def measure() -> Iterator[Figure | str]:
    service = Service()
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(measured(service, folder))
    service.close()
