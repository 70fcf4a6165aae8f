"""What waits for an answer: calls that say so until they are awaited, and end at an interrupt.

It knows nothing of signals: `kernel.interrupts` catches them, and asks here who waits.
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
"""By the task that waits; the outermost, where one call is made of another."""


class Interrupt:
    """One interrupt of a cell, and what it ended."""

    def __init__(self, cell: asyncio.Task[Any]) -> None:
        self.cell = cell
        self.errors: list[InterruptedAnswerError] = []
        """Of the answers that tasks of the user's waited for."""

    def end_all(self) -> None:
        """Cancel the cell; the errors of those who wait by now say that this was why."""
        for wait in _waiting.values():
            if not wait.is_paused:
                wait.interrupt = self
        self.cell.cancel()


class Wait:
    """A block in which the running task waits for an answer.

    An interrupt leaves it as the error that `error` makes where the cell itself waits. In a task
    of the user's it stays a cancellation, so that gathers and task groups end as they do.
    """

    __slots__ = ("_error", "_is_inner", "_outer", "_task", "interrupt", "is_paused")

    def __init__(self, error: Callable[[], InterruptedAnswerError]) -> None:
        self._error = error
        self.interrupt: Interrupt | None = None
        """The one that came while it waited."""

        self.is_paused = False
        """Whether the user's own code runs now."""
        self._task: asyncio.Task[Any] | None = None
        self._is_inner = False
        self._outer: Wait | None = None
        """What waits in this task already, and is paused."""

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
        """Wait again, whichever task it is that asks for more."""
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
    """Whether anyone waits for an answer."""
    return any(not wait.is_paused for wait in _waiting.values())


def waits(task: asyncio.Task[Any] | None) -> bool:
    """Whether `task` waits for an answer."""
    return task in _waiting and not _waiting[task].is_paused


class Call(Coroutine[Any, Any, T]):
    """The coroutine of a call that begins when it is awaited. Shown before, it says so."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]], name: str) -> None:
        self._begin = begin
        self._coroutine: Coroutine[Any, Any, T] | None = None
        self._is_known = False
        """Whether the user knows that it was not awaited, or it was."""
        self.__name__ = self.__qualname__ = name

    def _begun(self) -> Coroutine[Any, Any, T]:
        if self._coroutine is None:
            self._coroutine, self._is_known = self._begin(), True
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begun().__await__()

    def send(self, value: Any) -> Any:
        """Go on with it, as loops do."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error where it waits."""
        return self._begun().throw(*error)

    def close(self) -> None:
        """End it; it need not have begun."""
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
    """Make a function whose coroutine is a `Call` of an `async def`."""

    @functools.wraps(function)
    def begin(*args: P.args, **kwargs: P.kwargs) -> Call[T]:
        return Call(functools.partial(function, *args, **kwargs), function.__name__)

    mark = getattr(inspect, "markcoroutinefunction", None)  # from Python 3.12 on
    return mark(begin) if mark else begin
