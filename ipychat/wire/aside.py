"""Work that may wait for a disk forever, in a daemon thread that can be abandoned.

Nobody joins the thread: an interrupt ends the wait immediately, and the process can exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, for code that blocks the loop of an awaited cell."""
    if threading.current_thread() is not threading.main_thread():
        yield  # a subshell's thread gets no signals
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
