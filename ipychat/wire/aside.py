"""Work that may wait for a disk forever, in a daemon thread that can be abandoned.

Nobody joins the thread: an interrupt ends the wait immediately, and the process can exit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


async def run(work: Callable[..., T], *given: Any) -> T:
    """Call `work` with the arguments, in a thread of its own."""
    return await wait(start(work, *given))


def start(work: Callable[..., T], *given: Any) -> Future[T]:
    """Start `work`; several callers may wait for it."""
    future: Future[T] = Future()

    def do() -> None:
        try:
            result = work(*given)
        except BaseException as error:  # noqa: BLE001 - passed on to those who wait
            future.set_exception(error)
        else:
            future.set_result(result)

    future.set_running_or_notify_cancel()
    threading.Thread(target=do, daemon=True).start()
    return future


async def wait(future: Future[T]) -> T:
    """Wait for started work, first come, first served; cancelling one wait affects no other."""
    return await asyncio.wrap_future(future)
