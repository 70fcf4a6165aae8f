"""A running answer.

It can be stopped from any thread, is interrupted within milliseconds, and never swallows a
cancellation that is not its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

_in_front: list[Run] = []
"""The runs that an interrupt stops, oldest first."""
_before: Any = None
"""The handler of SIGINT before the first of them."""


class Run:
    """Runs work in a task of its own, so that stopping it cancels nothing else."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(work)
        self.stopped = False
        self.interrupted = False

    def stop(self) -> None:
        """Stop it at once, even if its loop waits for the network; callable from any thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def interrupt(self) -> None:
        """Stop it because the user interrupted the kernel."""
        self.interrupted = True
        self.stop()

    def _cancel(self) -> None:
        if not self._task.done():
            self.stopped = True
            self._task.cancel()

    @property
    def done(self) -> bool:
        """Whether it has ended, in any way."""
        return self._task.done()

    async def wait(self) -> None:
        """Wait for its end; being stopped is a normal end. Raises the work's errors."""
        try:
            await self._task
        except asyncio.CancelledError:
            # a time-out around us, a task group, the kernel's end: not ours to swallow
            if not self.stopped:
                raise


@contextlib.contextmanager
def in_front(run: Run) -> Iterator[None]:
    """Let SIGINT stop `run` within this block; a second one does nothing more.

    The kernel's own handler does not wake a loop that waits for the network; `Run.stop` does. Runs
    may overlap: the handler from before the first is restored after the last.
    """
    global _before  # noqa: PLW0603 - there is only one SIGINT
    if threading.current_thread() is not threading.main_thread():
        yield  # a subshell's thread gets no signals
        return
    if not _in_front:
        _before = signal.signal(signal.SIGINT, stop_those_in_front)
    _in_front.append(run)
    try:
        yield
    finally:
        _in_front.remove(run)
        if not _in_front:
            signal.signal(signal.SIGINT, _before or signal.default_int_handler)


def stop_those_in_front(*_: object) -> None:
    """Stop every answer that a cell is waiting for, as an interrupt does."""
    for run in tuple(_in_front):
        run.interrupt()
