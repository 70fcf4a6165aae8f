"""Answers that go on in the background: handles to await and to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING

from ipychat.errors import InterruptedAnswerError
from ipychat.kernel.run import Run, in_front

if TYPE_CHECKING:
    from ipychat.messages import Reply


class Job:
    """A background answer. `await job` gives its reply, or raises what went wrong with it."""

    def __init__(
        self, number: int, title: str, run: Run, settle: Callable[[Run], Awaitable[Reply]]
    ) -> None:
        self.number = number
        self.title = title
        self._run = run
        self._settled = asyncio.ensure_future(settle(run))
        self._settled.add_done_callback(_retrieve)

    @property
    def state(self) -> str:
        """`running`, `stopped`, `failed` or `done`."""
        if not self._settled.done():
            return "running"
        if self._settled.cancelled() or self._run.stopped:
            return "stopped"
        return "failed" if self._settled.exception() else "done"

    def stop(self) -> None:
        """Stop it; what has come is kept. From any thread."""
        self._run.stop()

    def __await__(self) -> Generator[object, None, Reply]:
        return self._wait().__await__()

    async def _wait(self) -> Reply:
        wait = Run(_until_done(self._settled))
        stops = _is_cell_of_a_terminal(asyncio.current_task())
        with in_front(wait) if stops else contextlib.nullcontext():
            await wait.wait()
        if wait.interrupted:
            raise InterruptedAnswerError("Interrupted; the answer goes on: %chat_stop stops it.")
        return self._settled.result()

    def __repr__(self) -> str:
        return f"chat job {self.number}: {self.state} - {self.title}"


async def _until_done(settled: asyncio.Future[Reply]) -> None:
    """Wait without stopping it when the wait is."""
    await asyncio.wait([settled])


def _is_cell_of_a_terminal(task: asyncio.Task[object] | None) -> bool:
    """Whether an interrupt would leave `task` hanging: a terminal's cell is never cancelled."""
    return getattr(task and task.get_coro(), "__name__", "") == "run_cell_async"


def _retrieve(settled: asyncio.Future[Reply]) -> None:
    """Its cell has shown the error; whether anyone awaits the job is up to the user."""
    if not settled.cancelled():
        settled.exception()
