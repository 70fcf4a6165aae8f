"""Interrupts of a waiting cell: they end what it awaits, within milliseconds.

The kernel's own handler cancels the cell, but does not wake a loop that waits for the network; a
terminal's leaves the cell's coroutine hanging. Ours precedes it while the extension is loaded, and
is installed anew for each cell, since the kernel sets its own for each.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from IPython.core.interactiveshell import InteractiveShell

    from ipychat.chat.waiting import Interrupt

WAITING = "ipychat.chat.waiting"
"""The module that knows what is waiting; nothing is before it was imported."""


class Interrupts:
    """The handler of SIGINT in one shell; `remove` undoes `install` completely."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell: Any = shell
        self._before: Any = None
        """The previous handler."""
        self._cell: asyncio.Task[Any] | None = None
        """The task of the awaited cell; the last one if none is running."""
        self._is_asked = False
        """Whether the loop was asked to end the cell, and has not done so yet."""
        self._interrupt: Interrupt | None = None
        """The interrupt of the running cell."""
        self._custom: tuple[Any, Any] | None = None
        """The shell's previous custom exception handler, and its exceptions."""

    def install(self) -> None:
        """Install the handler, for the running cell and all later ones."""
        self._shell.events.register("pre_run_cell", self._begin)
        self._shell.events.register("post_run_cell", self._end)
        self._begin()

    def remove(self) -> None:
        """Remove it again."""
        self._shell.events.unregister("pre_run_cell", self._begin)
        self._shell.events.unregister("post_run_cell", self._end)
        if _in_main_thread() and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)

    def _begin(self, info: Any = None) -> None:
        if not _in_main_thread():
            return  # a subshell's thread gets no signals
        if info is not None and not info.store_history:
            return  # code that runs within a cell
        if _is_cell(task := _current_task()):
            self._cell = task
        if (before := signal.getsignal(signal.SIGINT)) != self._handle:
            self._before = before
            signal.signal(signal.SIGINT, self._handle)

    def _end(self, result: Any) -> None:
        is_cell = result.info is None or result.info.store_history
        if is_cell and self._custom is not None and _in_main_thread():
            self._shell.custom_exceptions, self._shell.CustomTB = self._custom
            self._interrupt = self._custom = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        cell, running = self._cell, _current_task()
        if cell is None or cell.done():
            self._call_before(signum, frame)
            return
        waiting = sys.modules.get(WAITING)
        waits = waiting and waiting.waits(cell)
        if running is cell and not waits and self._is_of_the_user(frame):
            signal.default_int_handler(signum, frame)
        elif waiting and waiting.is_any() and not self._is_asked:
            self._is_asked = True
            cell.get_loop().call_soon_threadsafe(self._stop, cell)
        else:
            cell.get_loop().call_soon_threadsafe(int)  # wakes the loop
            self._call_before(signum, frame)

    def _call_before(self, signum: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(signum, frame)

    def _is_of_the_user(self, frame: FrameType | None) -> bool:
        """Whether the interrupted frame is the notebook's code, or called by it."""
        while frame and frame.f_globals is not self._shell.user_global_ns:
            frame = frame.f_back
        return frame is not None

    def _stop(self, cell: asyncio.Task[Any]) -> None:
        self._is_asked = False
        if cell.done():
            return
        from ipychat.chat.waiting import Interrupt

        if self._custom is None:
            self._custom = self._shell.custom_exceptions, self._shell.CustomTB
            self._shell.set_custom_exc((asyncio.CancelledError,), self._show)
        self._interrupt = Interrupt(cell)
        self._interrupt.end_all()

    def _show(
        self,
        shell: Any,
        kind: type[BaseException],  # noqa: ARG002 - IPython's parameter
        error: BaseException,
        traceback: TracebackType | None,
        tb_offset: int | None = None,  # noqa: ARG002 - as above
    ) -> None:
        """Show a cancellation that left a task of the user's as an interrupt."""
        if self._interrupt and self._interrupt.errors:
            error, traceback = self._interrupt.errors[0], None
            if result := shell.displayhook.exec_result:
                result.error_in_exec = error  # used in the kernel's reply, and by history
        shell.showtraceback((type(error), error, traceback), running_compiled_code=True)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _current_task() -> asyncio.Task[Any] | None:
    """Return the running task of this thread; None if its loop is waiting, or there is none."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _is_cell(task: asyncio.Task[Any] | None) -> bool:
    """Whether `task` is an awaited cell, not a task within one of the kernel's."""
    return getattr(task and task.get_coro(), "__name__", "") == "run_cell_async"
