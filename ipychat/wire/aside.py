"""Work that may wait for a disk for ever: in a thread of its own, which can be left behind.

Nobody joins it: an interrupt ends the wait at once, and a process ends in spite of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


async def run(work: Callable[..., T], *given: Any) -> T:
    """Run `work` on the arguments in a thread of its own."""
    return await wait(start(work, *given))


def start(work: Callable[..., T], *given: Any) -> Future[T]:
    """Begin `work`; several may wait for it."""
    future: Future[T] = Future()

    def do() -> None:
        try:
            result = work(*given)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told to those who wait
            future.set_exception(error)
        else:
            future.set_result(result)

    future.set_running_or_notify_cancel()
    threading.Thread(target=do, daemon=True).start()
    return future


async def wait(future: Future[T]) -> T:
    """Wait for work that has begun, in the order of asking; whoever leaves stops no other."""
    return await asyncio.wrap_future(future)
