"""Answers in the background: handles to await and to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING

from ipychat.chat.waiting import Wait
from ipychat.errors import InterruptedAnswerError
from ipychat.kernel.run import Run
from ipychat.text.characters import harmless

if TYPE_CHECKING:
    from ipychat.kernel.notebook import Publish
    from ipychat.messages import Reply


class Job:
    """A background answer. `await job` returns its reply, or raises its error."""

    def __init__(
        self,
        number: int,
        title: str,
        run: Run,
        settle: Callable[[Run], Awaitable[Reply]],
        publisher: Callable[[], Publish] | None = None,
    ) -> None:
        self.number = number
        self.title = title
        self._run = run
        self._publisher = publisher
        """Returns a function that sends output to the running cell; None in a terminal."""
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
        """Stop it; what has arrived is kept. Callable from any thread."""
        self._run.stop()

    def __await__(self) -> Generator[object, None, Reply]:
        return self._wait().__await__()

    async def _wait(self) -> Reply:
        with Wait(_interrupted):
            await asyncio.wait([self._settled])  # ends without stopping it
        return self._settled.result()

    def __repr__(self) -> str:
        return harmless(f"chat job {self.number}: {self.state} - {self.title}")

    def _ipython_display_(self) -> None:
        """Show its state in the running cell, and keep it up to date there."""
        if self._publisher is None:
            raise NotImplementedError  # a terminal shows the current state
        publish, display_id = self._publisher(), os.urandom(8).hex()

        def show(_: object = None, *, update: bool = True) -> None:
            publish({"text/plain": repr(self)}, display_id=display_id, update=update)

        show(update=False)
        if not self._settled.done():
            self._settled.add_done_callback(show)


def _interrupted() -> InterruptedAnswerError:
    return InterruptedAnswerError("Interrupted; the answer goes on: %chat_stop stops it.")


def _retrieve(settled: asyncio.Future[Reply]) -> None:
    """Mark its error as retrieved: its cell has shown it, and nobody need await the job."""
    if not settled.cancelled():
        settled.exception()
