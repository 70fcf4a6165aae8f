"""Calls that wait for an answer: they warn if they are not awaited, and end at an interrupt.

This knows nothing of signals: `kernel.interrupts` catches them, and asks here who is waiting.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import warnings
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from ipychat.errors import InterruptedAnswerError

T = TypeVar("T")
P = ParamSpec("P")

_waiting: dict[asyncio.Task[Any] | None, Wait] = {}
"""By waiting task; for nested calls, the outermost."""


class Interrupt:
    """An interrupt of a cell, and the calls that it ended."""

    def __init__(self, cell: asyncio.Task[Any]) -> None:
        self.cell = cell
        self.errors: list[InterruptedAnswerError] = []
        """Errors of the calls that the user's own tasks were waiting for."""

    def end_all(self) -> None:
        """Cancel the cell; calls that are waiting by now raise errors that name the interrupt."""
        for wait in _waiting.values():
            if not wait.is_paused:
                wait.interrupt = self
        self.cell.cancel()


class Wait:
    """A block in which the running task waits for an answer.

    In the cell's own task, an interrupt raises the error that `error` creates. In a task of the
    user's it remains a cancellation, so that gathers and task groups behave as usual.
    """

    __slots__ = ("_error", "_is_inner", "_outer", "_task", "interrupt", "is_paused")

    def __init__(self, error: Callable[[], InterruptedAnswerError]) -> None:
        self._error = error
        self.interrupt: Interrupt | None = None
        """The interrupt that came while it was waiting."""

        self.is_paused = False
        """Whether the user's own code is running now."""
        self._task: asyncio.Task[Any] | None = None
        self._is_inner = False
        self._outer: Wait | None = None
        """An outer block of this task, which is paused."""

    def __enter__(self) -> Self:
        self._enter(asyncio.current_task())
        return self

    def _enter(self, task: asyncio.Task[Any] | None) -> None:
        self._task, outer = task, _waiting.get(task)
        self._is_inner = outer is not None and not outer.is_paused
        if not self._is_inner:
            self._outer, _waiting[task] = outer, self

    def _leave(self) -> None:
        if _waiting.get(self._task) is not self:
            return
        if self._outer is None:
            del _waiting[self._task]
        else:
            _waiting[self._task] = self._outer

    def resume(self) -> None:
        """Wait again, in whichever task is asking for more."""
        self.is_paused = False
        if (task := asyncio.current_task()) is not self._task:
            self._leave()
            self._enter(task)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self.interrupt is None or not isinstance(error, asyncio.CancelledError):
            return
        interrupted = self._error()
        if self._task is self.interrupt.cell:
            self._task.uncancel()
            raise interrupted from None
        self.interrupt.errors.append(interrupted)


def is_any() -> bool:
    """Whether any call is waiting."""
    return any(not wait.is_paused for wait in _waiting.values())


def waits(task: asyncio.Task[Any] | None) -> bool:
    """Whether `task` is waiting for an answer."""
    return task in _waiting and not _waiting[task].is_paused


class Call(Coroutine[Any, Any, T]):
    """The coroutine of a call that starts when it is awaited. If displayed before, it says so."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]], name: str) -> None:
        self._begin = begin
        self._coroutine: Coroutine[Any, Any, T] | None = None
        self._is_known = False
        """Whether it was awaited, or the user knows that it was not."""
        self.__name__ = self.__qualname__ = name

    def _begun(self) -> Coroutine[Any, Any, T]:
        if self._coroutine is None:
            self._coroutine, self._is_known = self._begin(), True
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begun().__await__()

    def send(self, value: Any) -> Any:
        """Resume it, as loops do."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error inside it."""
        return self._begun().throw(*error)

    def close(self) -> None:
        """Close it; it may not have started."""
        self._is_known = True
        if self._coroutine is not None:
            self._coroutine.close()

    def __repr__(self) -> str:
        if self._coroutine is None:
            self._is_known = True
            return f"Nothing was asked yet: write await before {self.__name__}(…)."
        return f"<Call {self.__name__}>"

    def __del__(self) -> None:
        if not self._is_known:
            told = f"{self.__name__}(…) was never awaited, so nothing was asked"
            warnings.warn(told, RuntimeWarning, stacklevel=2, source=self)


def call(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Call[T]]:
    """Turn an `async def` function into one that returns a `Call`."""

    @functools.wraps(function)
    def begin(*args: P.args, **kwargs: P.kwargs) -> Call[T]:
        return Call(functools.partial(function, *args, **kwargs), function.__name__)

    mark = getattr(inspect, "markcoroutinefunction", None)  # since Python 3.12
    return mark(begin) if mark else begin
