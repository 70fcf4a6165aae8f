"""The kernel's own tools that act: running code in the notebook, and proposing a cell.

Code runs as a cell does, but its output, its pictures and its error are the tool's result: the cell
that waits shows none of them. `In`, `Out`, `_` and the last error stay the user's. An interrupt
reaches the code like a cell's, and then ends whatever waits for the tool, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

from ipychat.context import namespace
from ipychat.errors import InterruptedAnswerError
from ipychat.messages import TextPart
from ipychat.text.characters import harmless, whole
from ipychat.toolbox import figures, nested
from ipychat.toolbox.diversion import diverted
from ipychat.toolbox.kernel import Reading, tool_of
from ipychat.toolbox.shown import Shown
from ipychat.toolbox.tool import Failed, Ran, Tool

QUIET = "It ran, and showed nothing."
PROPOSED = "A cell with the code stands below now. It did not run: that is up to the user."
CHANGED = "It had control characters, which were removed."
LAST_VALUES = ("_", "__", "___")
"""Names under which IPython keeps the last values."""
LAST_ERROR = ("last_type", "last_value", "last_traceback", "last_exc")
"""Names under which `sys` keeps the last error."""
OF_THE_CELL = (
    "last_execution_succeeded",
    "last_execution_result",
    "exec_result",
    "_in_post_execute",
)
"""What the shell, its display hook and its publisher know of the running cell, or of the last."""

_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
    weakref.WeakKeyDictionary()
)
"""Whose code runs now, by loop: the code of several answers runs one after the other."""


class FailedRun(Failed):
    """The code raised an error."""

    def __init__(self, ran: Ran) -> None:
        super().__init__(*ran.parts)
        self.made = ran.made
        """The names that it had made before."""


class InterruptedRunError(InterruptedAnswerError):
    """The user interrupted the code.

    What waits for the tool ends with this, and not with a KeyboardInterrupt: out of a task of the
    loop's, that would end the kernel.
    """

    def __init__(self, ran: Ran) -> None:
        super().__init__("Interrupted while a tool ran code.")
        self.ran = ran
        """What came before."""


def tools(shell: Any) -> list[Tool]:
    """Return the kernel's tools: those that only read, then those that act."""
    return [*Reading(shell).tools(), *Running(shell).tools()]


class Running:
    """The tools of one shell that act."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def tools(self) -> list[Tool]:
        """Return them as tools. A proposal runs nothing, so the user is not asked for it."""
        run = tool_of(self.run, code="Python, as in a cell: await and magics work")
        propose = tool_of(self.propose, code="The cell's code", note="What it is for, in one line")
        return [run, replace(propose, ask=False)]

    async def run(self, code: str) -> Ran:
        """Run code in the notebook, as a cell does; its variables stay.

        Returns what it prints and displays, its plots, and the value of its last expression.
        input() can't be answered.
        """
        nested.refuse("call a tool")
        async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            return await self._run(whole(code))

    async def _run(self, code: str) -> Ran:
        shell, shown, before = self._shell, Shown(), {**self._shell.user_ns}
        error: BaseException | None = None
        with (
            _kept(shell),
            figures.apart(),
            diverted(shell, shown, code),
            _interruptible(shown) as interrupts,
        ):
            try:
                with nested.inside(shown):
                    error = await self._execute(code)
            except KeyboardInterrupt as interrupt:  # it came between the code and IPython's own
                error = interrupt
        ran = Ran(shown.parts() or (TextPart(QUIET),), self._made(before))
        if interrupts:
            raise InterruptedRunError(ran)
        if error is not None:
            raise FailedRun(ran)
        return ran

    async def _execute(self, code: str) -> BaseException | None:
        """Run the code as a cell without a number; return the error that it ended with."""
        shell, task = self._shell, asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        cell, failed = code, None
        try:
            cell = shell.transform_cell(code)
        except Exception:  # noqa: BLE001 - IPython shows what its transformers raise
            failed = sys.exc_info()
        result = await shell.run_cell_async(
            code, store_history=False, transformed_cell=cell, preprocessing_exc_tuple=failed
        )
        shell.events.trigger("post_execute")  # as after a cell: this is when plots are shown
        shell.events.trigger("post_run_cell", result)
        if task and task.cancelling() > cancelled:  # IPython, or the code, took it for an error
            raise asyncio.CancelledError
        error: BaseException | None = result.error_before_exec or result.error_in_exec
        return error

    def _made(self, before: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names that have another value than before."""
        visible = namespace.of(self._shell).items()
        return tuple(name for name, value in visible if before.get(name, before) is not value)

    def propose(self, code: str, note: str = "") -> str:
        """Put a cell with code below the running one. It does not run: the user decides."""
        comment = [f"# {line}" for line in note.splitlines() if line.strip()]
        text = "\n".join([*comment, code.strip("\n")])
        earlier = self._proposed()
        if "%%" in (code.lstrip()[:2], earlier[:2]) and (comment or earlier):
            raise ValueError("A cell that begins with %% takes no note and stands alone.")
        cell = "\n\n".join(filter(None, [earlier, text]))
        self._shell.set_next_input(harmless(cell), replace=False)
        return PROPOSED if harmless(cell) == cell else f"{PROPOSED} {CHANGED}"

    def _proposed(self) -> str:
        """Return what stands in the next cell by now: setting it again would replace it."""
        if getattr(self._shell, "kernel", None) is None:
            return getattr(self._shell, "rl_next_input", None) or ""
        for payload in self._shell.payload_manager.read_payload():
            if payload.get("source") == "set_next_input" and not payload.get("replace"):
                return str(payload["text"])
        return ""


@contextlib.contextmanager
def _kept(shell: Any) -> Iterator[None]:
    """Keep what a cell leaves behind for the user: its values, its error, its number."""
    kept = [
        (names, {name: names[name] for name in which if name in names}, which)
        for names, which in ((shell.user_ns, LAST_VALUES), (vars(sys), LAST_ERROR))
    ]
    states = [
        (held, name, getattr(held, name))
        for held in (shell, shell.displayhook, shell.display_pub)
        for name in OF_THE_CELL
        if hasattr(held, name)
    ]
    numbers = shell.compile._filename_map  # noqa: SLF001 - the public way in makes texts of them
    numbered = {**numbers}
    trace = sys.gettrace()
    try:
        yield
    finally:
        if sys.gettrace() is not trace:  # a debugger's that could ask nobody
            sys.settrace(trace)
        for names, values, which in kept:
            for name in which:
                names.pop(name, None)
            names.update(values)
        for held, name, value in states:
            setattr(held, name, value)
        for file in numbers.keys() - numbered.keys():
            del numbers[file]
        numbers.update(numbered)


@contextlib.contextmanager
def _interruptible(shown: Shown) -> Iterator[list[int]]:
    """Let SIGINT interrupt the code of the run `shown` where it blocks; give those that came.

    Where it awaits, the handler that was there before cancels what waits for it.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came  # a subshell's thread gets no signals
        return
    task, before = asyncio.current_task(), signal.getsignal(signal.SIGINT)

    def handle(signum: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        # in another task, also in one of the code's, it would end the loop
        if nested.current() is shown and shown.is_open and asyncio.current_task() is task:
            came.append(signum)
            raise KeyboardInterrupt
        if callable(before):
            before(signum, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield came
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, before or signal.default_int_handler)
