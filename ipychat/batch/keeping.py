"""Storing answers: those that arrive during a write are written together."""

from __future__ import annotations

import asyncio

from ipychat import secrets
from ipychat.messages import Reply
from ipychat.store import replay
from ipychat.store.answers import Receipt


class Keeping:
    """Stores the answers of a run. A thread for each would take longer than all the writing."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Receipt, Reply, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, receipt: Receipt, reply: Reply) -> None:
        """Return when the answer is written, or the log says why it is not."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((receipt, reply, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        try:
            while taken := self._waiting:
                self._waiting = []
                for said in await replay.keep_all([one[:2] for one in taken]):
                    secrets.log.warning("%s", said)
                for *_, done in taken:
                    if not done.done():
                        done.set_result(None)
        except Exception as error:  # noqa: BLE001 - reported to those who wait
            for *_, done in taken:
                if not done.done():
                    done.set_exception(error)
        finally:
            self._writing = None
