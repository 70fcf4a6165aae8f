"""A conversation's changes: writing them to disk, and notifying listeners."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

from ipychat import config, secrets
from ipychat.errors import StoreError
from ipychat.store import files
from ipychat.store.transcripts import Transcript

Record: TypeAlias = dict[str, Any]
"""A change, as a line of a transcript."""

INTERRUPT_WAIT = 0.2
"""Seconds that an interrupt waits for the disk, unless the disk has been stuck for longer."""
THREAD_NAME = "ipychat saves"
"""The name of threads that write a conversation."""
REMOVALS = {"dropped", "new"}
"""Records that are written even if nothing is kept any more: they remove what is on disk."""


class Journal:
    """A conversation's changes, queued here and then written to disk."""

    def __init__(self, transcript: Transcript | None, name: str, fault: StoreError | None) -> None:
        self.transcript = transcript
        self.fault = fault
        """Why it is not stored, if the disk is to blame."""
        self.name = name
        self._unsaved: list[Record] = []
        self._saving = threading.Lock()
        self._began: float | None = None
        """When the current write started."""
        self._next: threading.Thread | None = None
        """The thread that waits to write what is queued."""
        self._is_told = False
        """Whether the user knows that another process holds the lock."""

    def record(self, *records: Record) -> None:
        """Queue `records` for `save`; if nothing is kept, only those that remove something."""
        is_kept = config.current().keep and config.replay() != "replay"
        self._unsaved += [one for one in records if is_kept or one["type"] in REMOVALS]

    def save(self) -> StoreError | None:
        """Write the queue; what can't be written stays for a later `save`.

        Returns why it was not written; that another process holds the lock is reported once.
        """
        with self._saving:
            self._began = time.monotonic()
            self._next = None
            records = self._unsaved[:]
            try:
                self._write(records)
                left: list[Record] = []
            except files.HeldError as error:
                _left.add(self)
                if self._is_told:
                    return None
                self._is_told = True
                said = "Until it is free, this conversation is kept in this kernel only."
                return StoreError(f"{error}\n{said}")
            except StoreError as error:
                left = self._write_each(records)
                if len(left) == len(records):
                    return StoreError(f"{error}\nThis turn is kept in this kernel only.")
            finally:
                self._began = None
            self._is_told = False
            _left.discard(self)
            self._unsaved[: len(records)] = left
        return self.fault and StoreError(f"{self.fault}\nThis turn is kept in this kernel only.")

    def _write_each(self, records: list[Record]) -> list[Record]:
        """Write as many of `records` as there is space for; return the rest."""
        left = []
        for record in records:
            try:
                self._write([record])
            except StoreError:
                left.append(record)
        return left

    def _write(self, records: list[Record]) -> None:
        if self.transcript is None or not records:
            return
        if self.transcript.path.exists():
            self.transcript.append(*records)
        elif any(one["type"] not in REMOVALS for one in records):
            self.transcript.append({"type": "named", "name": self.name}, *records)

    def save_soon(self) -> threading.Thread:
        """Save in a thread, which the process waits for when it ends; return the thread."""
        if self._next is None:
            self._next = saving = threading.Thread(target=self._save_and_log, name=THREAD_NAME)
            saving.start()
            return saving
        return self._next

    def _save_and_log(self) -> None:
        if error := self.save():
            secrets.log.warning("%s", error)

    async def save_now(self) -> None:
        """Save before returning, unless the disk is stuck: then as soon as possible."""
        began = self._began
        is_stuck = began is not None and time.monotonic() - began > INTERRUPT_WAIT
        saving = self.save_soon()
        if not is_stuck:
            await asyncio.to_thread(saving.join, INTERRUPT_WAIT)

    def change(self, *records: Record) -> None:
        """Write `records`, in a thread if a loop is running; log an error of the disk."""
        self.record(*records)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._save_and_log()
        else:
            self.save_soon()


_left: set[Journal] = set()
"""Journals that are waiting for a lock; written when the process ends, if it is free by then."""


@atexit.register
def _save_left() -> None:
    for journal in [*_left]:
        journal.save()


class Changes:
    """Notifies listeners of changes, in any thread."""

    def __init__(self) -> None:
        self._following: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.lasting: list[Callable[[], None]] = []
        """Called immediately when a turn has ended or gone: the kernel may end soon after."""

    def tell(self, *, lasting: bool = False) -> None:
        """Wake the listeners; callable from any thread."""
        for loop, event in self._following:
            if not event.is_set() and not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        if lasting:
            for call in self.lasting:
                call()

    async def follow(self) -> AsyncGenerator[None, None]:
        """Yield once for all changes since the last time."""
        event = asyncio.Event()
        mine = (asyncio.get_running_loop(), event)
        self._following.append(mine)
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            self._following.remove(mine)
