"""Interrupts of a cell that waits: they end what it awaits, in milliseconds.

The kernel's own handler cancels the cell, but leaves asleep a loop that waits for the net; a
terminal's leaves the cell's coroutine behind, hanging. Ours stands before it while the extension is
loaded, and is put in place with each cell, since the kernel sets its own for each.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

from ipychat.chat import waiting
from ipychat.chat.waiting import Interrupt

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from IPython.core.interactiveshell import InteractiveShell


class Interrupts:
    """What SIGINT does in one shell; `install` and `remove` leave nothing behind."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell: Any = shell
        self._before: Any = None
        """The handler that was there."""
        self._cell: asyncio.Task[Any] | None = None
        """Of the cell that awaits something, the last if none runs."""
        self._is_asked = False
        """Whether the loop has been asked to end the cell, and has not come to it."""
        self._interrupt: Interrupt | None = None
        """Of the cell that runs."""
        self._custom: tuple[Any, Any] | None = None
        """Which errors the shell handled otherwise before, and how."""

    def install(self) -> None:
        """Put it in place, for the cell that runs and all to come."""
        self._shell.events.register("pre_run_cell", self._begin)
        self._shell.events.register("post_run_cell", self._end)
        self._begin()

    def remove(self) -> None:
        """Take it away again."""
        self._shell.events.unregister("pre_run_cell", self._begin)
        self._shell.events.unregister("post_run_cell", self._end)
        if _in_main_thread() and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)

    def _begin(self, _info: Any = None) -> None:
        if not _in_main_thread():
            return  # a subshell's thread gets no signals
        if _is_cell(task := _current_task()):
            self._cell = task
        if (before := signal.getsignal(signal.SIGINT)) != self._handle:
            self._before = before
            signal.signal(signal.SIGINT, self._handle)

    def _end(self, _result: Any) -> None:
        if self._custom is not None and _in_main_thread():
            self._shell.custom_exceptions, self._shell.CustomTB = self._custom
            self._interrupt = self._custom = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        cell, running = self._cell, _current_task()
        if cell is None or cell.done():
            self._call_before(signum, frame)
        elif running is cell and not waiting.waits(cell) and self._is_of_the_user(frame):
            signal.default_int_handler(signum, frame)
        elif waiting.is_any() and not self._is_asked:
            self._is_asked = True
            cell.get_loop().call_soon_threadsafe(self._stop, cell)
        else:
            cell.get_loop().call_soon_threadsafe(int)  # wakes it for what the other asks of it
            self._call_before(signum, frame)

    def _call_before(self, signum: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(signum, frame)

    def _is_of_the_user(self, frame: FrameType | None) -> bool:
        """Whether code of the notebook runs, or something that it has called."""
        while frame and frame.f_globals is not self._shell.user_global_ns:
            frame = frame.f_back
        return frame is not None

    def _stop(self, cell: asyncio.Task[Any]) -> None:
        self._is_asked = False
        if cell.done():
            return
        if self._custom is None:
            self._custom = self._shell.custom_exceptions, self._shell.CustomTB
            self._shell.set_custom_exc((asyncio.CancelledError,), self._show)
        self._interrupt = Interrupt(cell)
        self._interrupt.end_all()

    def _show(
        self,
        shell: Any,
        kind: type[BaseException],  # noqa: ARG002 - what IPython gives
        error: BaseException,
        traceback: TracebackType | None,
        tb_offset: int | None = None,  # noqa: ARG002 - as above
    ) -> None:
        """Show a cancellation that came up from a task of the user's as what it is."""
        if self._interrupt and self._interrupt.errors:
            error, traceback = self._interrupt.errors[0], None
            if result := shell.displayhook.exec_result:
                result.error_in_exec = error  # what the kernel replies, and history formats
        shell.showtraceback((type(error), error, traceback), running_compiled_code=True)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _current_task() -> asyncio.Task[Any] | None:
    """Return the task that runs in this thread; None where its loop waits, or there is none."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _is_cell(task: asyncio.Task[Any] | None) -> bool:
    """Whether `task` is a cell that is awaited, not one that runs within a task of the kernel's."""
    return getattr(task and task.get_coro(), "__name__", "") == "run_cell_async"
