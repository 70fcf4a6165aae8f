"""Where the output of a model's code goes: into its result, and never into the cell's own output.

Each way out has a stand-in while a run lasts. A stand-in asks whose code is calling: what other
cells, answers and threads show in the meantime goes where it always goes. Threads that the code
starts count as its own; what they show after the run goes where it always goes, too.
"""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import functools
import getpass
import os
import sys
import threading
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core import page

from ipychat.context import attachments
from ipychat.errors import UsageError
from ipychat.toolbox import nested, programs
from ipychat.toolbox.shown import Shown

SHOW = "_showtraceback"
"""IPython's method that displays every traceback."""
ASKS = "Nobody can answer input() while a model's code runs: put the value into the code."
EXIT = "exit() would end the user's session: code that a model runs can't do that."
NEXT_CELL = "Code that a model runs can't change a cell: the tool kernel.propose puts one below."
DEBUGGER = "No debugger was opened: nobody can answer it while a model's code runs."


@contextlib.contextmanager
def diverted(shell: Any, shown: Shown, code: str) -> Iterator[None]:
    """Divert what the code of the run `shown` shows, and refuse what it may not ask or end."""
    start, named = threading.Thread.start, shell.compile.format_code_name
    with contextlib.ExitStack() as stack:
        stack.callback(shown.close)

        def divert(held: Any, name: str, inside: Callable[..., Any]) -> None:
            stack.enter_context(_stand_in(shown, held, name, inside))

        stack.enter_context(shell.display_trap)  # else IPython would set its hook over ours
        divert(sys, "displayhook", functools.partial(_show_value, shell, shown, code))
        drain = stack.enter_context(_programs(shell, shown))
        for stream in {id(one): one for one in (sys.stdout, sys.stderr)}.values():
            # its method, since handlers of logs hold the stream itself
            divert(stream, "write", functools.partial(_write, shown, drain, os.getpid()))
        divert(shell.display_pub, "publish", functools.partial(_show, shown))
        divert(shell.display_pub, "clear_output", lambda *_, **__: shown.clear())
        divert(shell, SHOW, lambda _kind, _error, lines: shown.fail(lines))
        divert(shell.compile, "format_code_name", functools.partial(_code_name, shell, named))
        divert(page, "page", functools.partial(_show_page, shown))
        divert(threading.Thread, "start", functools.partial(_start_inside, start))
        if shell.system != shell.system_piped:  # a terminal's, which sys.stdout would not see
            divert(shell, "system", shell.system_piped)
        for held, name in _ways_to_ask(shell):
            divert(held, name, _refusing(ASKS))
        for held, name in ((shell, "debugger"), (sys, "breakpointhook")):
            divert(held, name, lambda *_, **__: shown.fail([DEBUGGER]))
        if hasattr(shell, "ask_exit"):
            divert(shell, "ask_exit", _refusing(EXIT))
        divert(shell, "set_next_input", _refusing(NEXT_CELL))
        yield


@contextlib.contextmanager
def _stand_in(shown: Shown, held: Any, name: str, inside: Callable[..., Any]) -> Iterator[None]:
    """Let the code of the run reach `inside` by that name, and all other code what was there."""
    before, is_own = getattr(held, name), name in vars(held)

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        reached = inside if nested.current() is shown and shown.is_open else before
        return reached(*args, **kwargs)

    setattr(held, name, stand_in)
    try:
        yield
    finally:
        if vars(held).get(name) is stand_in:  # else somebody's own stands there by now
            if is_own:
                setattr(held, name, before)
            else:
                delattr(held, name)


@contextlib.contextmanager
def _programs(shell: Any, shown: Shown) -> Iterator[Callable[[], None]]:
    """Divert what programs write, where this diverts nothing else."""
    if getattr(shell, "kernel", None) is None or os.name != "posix":
        yield lambda: None
        return
    with programs.diverted(shown) as drain:
        yield drain


def _write(shown: Shown, drain: Callable[[], None], process: int, text: str) -> int:
    """Show what code prints, behind what its programs wrote before."""
    __tracebackhide__ = True
    if os.getpid() != process:  # a fork has the pipe alone
        return os.write(1, text.encode(errors="replace"))
    drain()
    return shown.write(text)


def _ways_to_ask(shell: Any) -> list[tuple[Any, str]]:
    """Return where everything that asks the user ends up."""
    kernel = getattr(shell, "kernel", None)
    if hasattr(kernel, "_input_request"):
        return [(kernel, "_input_request")]
    return [(builtins, "input"), (getpass, "getpass")]


def _refusing(why: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> None:
        raise UsageError(why)

    return refuse


def _start_inside(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    """Start a thread whose code counts as that of whoever starts it."""
    context = contextvars.copy_context()
    thread.run = functools.partial(context.run, thread.run)  # type: ignore[method-assign] # as meant
    start(thread)


def _show(shown: Shown, data: dict[str, Any], *_: Any, transient: Any = None, **__: Any) -> None:
    """Show what is displayed, in the place of what had its id."""
    __tracebackhide__ = True
    shown.display(data, (transient or {}).get("display_id"))


def _code_name(shell: Any, named: Callable[[str], Any], file: str) -> Any:
    """Name code in a traceback: the run's own has no number, and IPython would give it the next."""
    numbers = shell.compile._filename_map  # noqa: SLF001 - the public way in makes texts of them
    is_ours = numbers.get(file) == shell.execution_count
    return ("Your", "code") if is_ours else named(file)


def _show_page(shown: Shown, data: Any, *_: Any, **__: Any) -> None:
    """Show what a pager would: help, source, history."""
    shown.display(data if isinstance(data, dict) else {"text/plain": data})


def _show_value(shell: Any, shown: Shown, code: str, value: Any = None) -> None:
    """Show the value of an expression as a cell would; it is kept nowhere."""
    if value is None or _ends_in_semicolon(shell, code):
        return
    data, _ = shell.display_formatter.format(value)
    if getattr(shell, "kernel", None) is None:  # a terminal's formatter draws nothing
        with contextlib.suppress(Exception):  # drawing is the value's own code
            data["image/png"] = attachments.drawn(value) or b""
    if data:  # else it has displayed itself
        shown.display(data)


def _ends_in_semicolon(shell: Any, code: str) -> bool:
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        return bool(shell.displayhook.semicolon_at_end_of_expression(code))
    return False
