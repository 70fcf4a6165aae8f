"""Asynchronous magics: awaited natively where IPython can await, run synchronously elsewhere.

Such a magic is an `async def` method decorated with `@waits`. IPython doesn't await what a magic
returns, so a hook after its own input transformers turns

    get_ipython().run_cell_magic('chat', …)      into      (await get_ipython()._ipychat_cell(…))

wherever the code around it will be awaited. The magics remain ordinary ones: `%%chat?`, completion,
history and automagic notice nothing. Where IPython runs code without awaiting (`%%time`,
`%%capture`, `%run x.ipynb`, `%autoawait False`, `run_cell` inside a loop, a plain function) the
call is left as it is, and `@waits` runs the same coroutine to its end through `kernel.blocking`.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.inputtransformer2 import EscapedCommand, MagicAssign

from ipychat._lazy import load

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

T = TypeVar("T")
Waiting = Callable[..., Coroutine[Any, Any, Any]]

CELL, LINE = "_ipychat_cell", "_ipychat_line"
AWAITED = {"run_cell_magic": CELL, "run_line_magic": LINE}
SCOPES_OF_THEIR_OWN = (
    ast.FunctionDef,
    ast.Lambda,
    ast.ClassDef,
    ast.GeneratorExp,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
)
"""Contexts in which an `await` would be invalid, or would change the meaning of the code."""


async def _load() -> None:
    """Import what every question needs, outside the loop: this takes 70 ms once."""
    await load("ipychat.chat.conversations")
    await load("ipychat.providers._service")


def waits(magic: Waiting) -> Callable[..., Any]:
    """Turn an `async def` method into a magic: the hook uses `.awaited`, calling it blocks."""

    @functools.wraps(magic)
    def blocking(*args: Any) -> Any:
        from ipychat.kernel.blocking import run

        return run(magic(*args))

    blocking.awaited = magic  # type: ignore[attr-defined] # read by Awaiting below
    return blocking


class Awaiting:
    """The hook of one shell; `remove` undoes `install` completely."""

    has_side_effects = False

    def __init__(self, shell: InteractiveShell, waits: Callable[[str], bool]) -> None:
        self._shell = shell
        self._waits = waits
        """Whether the magic of that name waits."""
        self._tokens = [_first(EscapedCommand, waits), _first(MagicAssign, waits)]

    def install(self) -> None:
        """Install the hook and the functions it calls."""
        self._shell.input_transformers_post.append(self)
        self._shell.input_transformer_manager.token_transformers[:0] = self._tokens
        setattr(self._shell, CELL, self._cell)
        setattr(self._shell, LINE, self._line)

    def remove(self) -> None:
        """Remove everything again."""
        self._shell.input_transformers_post.remove(self)
        for tokens in self._tokens:
            self._shell.input_transformer_manager.token_transformers.remove(tokens)
        delattr(self._shell, CELL)
        delattr(self._shell, LINE)

    async def _cell(self, name: str, line: str, cell: str) -> Any:
        await _load()
        magic = self._shell.find_cell_magic(name)
        return await magic.awaited(magic.__self__, line, cell)

    async def _line(self, name: str, line: str, _stack_depth: int = 1) -> Any:
        await _load()
        magic = self._shell.find_line_magic(name)
        return await magic.awaited(magic.__self__, line)

    def __call__(self, lines: list[str]) -> list[str]:
        """Return the cell with our calls awaited, or unchanged."""
        source = "".join(lines)
        if "_magic('chat" not in source:  # the prefix of all our names
            return lines
        if not _will_be_awaited(self._shell):
            return lines
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return lines
        calls = list(self._calls(tree, awaits=True))
        if not calls:
            return lines
        # ast counts columns in UTF-8 bytes; edit from last to first, so earlier columns stay valid
        text = [line.encode() for line in source.splitlines(keepends=True)]
        for call in sorted(calls, key=lambda c: (c.lineno, c.col_offset), reverse=True):
            _insert(text, call.end_lineno, call.end_col_offset, b")")
            name = call.func.attr  # type: ignore[attr-defined] # checked by _is_ours
            end = call.func.end_col_offset
            _insert(text, call.func.end_lineno, end, AWAITED[name].encode(), len(name))
            _insert(text, call.lineno, call.col_offset, b"(await ")
        return b"".join(text).decode().splitlines(keepends=True)

    def _calls(self, node: ast.AST, *, awaits: bool) -> Iterable[ast.Call]:
        if isinstance(node, SCOPES_OF_THEIR_OWN):
            awaits = False
        elif isinstance(node, ast.AsyncFunctionDef):
            awaits = True
        if awaits and isinstance(node, ast.Call) and self._is_ours(node):
            yield node
        for child in ast.iter_child_nodes(node):
            yield from self._calls(child, awaits=awaits)

    def _is_ours(self, call: ast.Call) -> bool:
        match call:
            case ast.Call(
                func=ast.Attribute(attr=attr, value=ast.Call(func=ast.Name(id="get_ipython"))),
                args=[ast.Constant(value=str(name)), *_],
            ):
                return attr in AWAITED and self._waits(name)
        return False


def _insert(
    text: list[bytes], line: int | None, column: int | None, new: bytes, cut: int = 0
) -> None:
    """Replace the `cut` bytes before a position in the source by `new`."""
    at, old = (line or 1) - 1, text[(line or 1) - 1]
    column = column or 0
    text[at] = old[: column - cut] + new + old[column:]


def _first(kind: type[Any], waits: Callable[[str], bool]) -> type[Any]:
    """Return a token transformer that handles our line magics before help does: `%chat why?` asks.

    `%chat?` is still help, since nothing stands between the name and the question mark.
    """

    class First(kind):  # type: ignore[misc] # a base class made at run time
        priority = 1

        @classmethod
        def find(cls, tokens_by_line: list[list[Any]]) -> Any:
            return super().find([line for line in tokens_by_line if asks(line)])

    def asks(line: list[Any]) -> bool:
        _, percent, after = line[0].line.partition("%") if line else ("", "", "")
        words = after.split(maxsplit=1)
        return bool(percent and len(words) == 2 and waits(words[0]))

    return First


def _will_be_awaited(shell: InteractiveShell) -> bool:
    """Whether the top level of the cell being transformed will be awaited."""
    from IPython.core.async_helpers import _asyncio_runner

    runs_asyncio = shell.loop_runner is _asyncio_runner and not getattr(shell, "trio_runner", None)
    if not (shell.autoawait and runs_asyncio):
        return False
    frame = sys._getframe(1)  # noqa: SLF001 - only the stack tells who is calling
    while frame and frame.f_code.co_name != "transform_cell":
        frame = frame.f_back  # type: ignore[assignment] # the loop checks for None
    while frame and frame.f_code.co_name == "transform_cell":
        frame = frame.f_back  # type: ignore[assignment] # the same
    caller = frame.f_code.co_name if frame else ""
    if caller in {"do_execute", "run_cell_async"}:
        return True
    if caller in {"_run_cell", "run_cell"}:
        return asyncio._get_running_loop() is None  # noqa: SLF001 - the variant that does not raise
    return False


async def stoppable(work: Coroutine[Any, Any, T], so_far: str = "") -> T:
    """Wait for `work`, which an interrupt by the user ends."""
    from ipychat.errors import InterruptedAnswerError
    from ipychat.kernel.run import Run, in_front

    done: list[T] = []

    async def do() -> None:
        done.append(await work)

    run = Run(do())
    with in_front(run):
        await run.wait()
    if not done:
        raise InterruptedAnswerError(f"Interrupted. {so_far}".rstrip())
    return done[0]
