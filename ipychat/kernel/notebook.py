"""What the shell knows: the running cell, its notebook, its viewers, and where output goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ipychat.secrets import mask
from ipychat.text.characters import harmless

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from IPython.core.interactiveshell import InteractiveShell

Publish = Callable[..., None]


def _parent(shell: InteractiveShell) -> dict[str, Any]:
    """The message that requested the cell; empty in a terminal."""
    if not is_kernel(shell):
        return {}
    parent: dict[str, Any] = shell.get_parent() or {}  # type: ignore[attr-defined] # a kernel's
    return parent


def is_kernel(shell: InteractiveShell) -> bool:
    """Whether this is a notebook's kernel, not a terminal."""
    return getattr(shell, "kernel", None) is not None


def runs_at_the_prompt(shell: InteractiveShell) -> bool:
    """Whether the loop runs between cells: in a kernel, and in a terminal after `%gui asyncio`."""
    return is_kernel(shell) or getattr(shell, "active_eventloop", None) == "asyncio"


def running_cell(shell: InteractiveShell) -> tuple[str | None, str]:
    """Return the running cell (None if the front end names none), and which run of it this is."""
    parent = _parent(shell)
    cell = parent.get("metadata", {}).get("cellId")
    execution = parent.get("header", {}).get("msg_id") or str(shell.execution_count)
    return (cell if isinstance(cell, str) else None), execution


def names_in_sight(shell: InteractiveShell) -> dict[str, Any]:
    """Return the names visible to the user's running code: a function's locals and the globals."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - nothing else knows whose names they are
    while frame and frame.f_globals is not shell.user_global_ns:
        frame = frame.f_back
    names: dict[str, Any] = shell.user_ns
    if frame is None or frame.f_locals is names:
        return names
    return {**shell.user_global_ns, **names, **frame.f_locals}


def is_watched(shell: InteractiveShell) -> bool:
    """Whether someone sees output as it arrives.

    Nobody does if the notebook is executed headless, or `%%capture` takes the output.
    """
    return not _is_captured(shell) and bool(
        _parent(shell).get("content", {}).get("allow_stdin", True)
    )


def _is_captured(shell: InteractiveShell) -> bool:
    from IPython.core.displaypub import CapturingDisplayPublisher

    return isinstance(shell.display_pub, CapturingDisplayPublisher)


def name(shell: InteractiveShell) -> str:
    """Return the name under which this notebook's conversations are kept.

    Its path if the front end says it, else a name unique to this kernel or terminal.
    """
    if path := os.environ.get("JPY_SESSION_NAME") or shell.user_ns.get("__vsc_ipynb_file__"):
        return str(path)
    if is_kernel(shell):
        return f"kernel-{shell.kernel.ident}"  # type: ignore[attr-defined] # a kernel's
    return f"terminal-{os.getpid()}-{shell.history_manager.session_number}"  # type: ignore[union-attr] # a shell has one


def main_loop(shell: InteractiveShell) -> asyncio.AbstractEventLoop:
    """Return the loop that runs cells, also to other threads."""
    loop: asyncio.AbstractEventLoop = shell.kernel.io_loop.asyncio_loop  # type: ignore[attr-defined] # a kernel's
    return loop


def publisher(shell: InteractiveShell) -> Publish:
    """Return a function that sends output to the cell running now, even while another one runs."""
    pub: Any = shell.display_pub

    def publish(
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        transient = {"display_id": display_id} if display_id else {}
        # a front end may be a terminal, which would act on control characters
        if "text/plain" in data:
            data = {**data, "text/plain": mask(harmless(data["text/plain"]))}
        pub.publish(data, metadata or {}, transient=transient, update=update)

    if not is_kernel(shell) or _is_captured(shell) or _parents_follow_tasks():
        return publish
    parent = _parent(shell)

    def publish_there(data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        # before version 7, a task's output goes to whichever cell is running
        running = pub.parent_header
        pub.parent_header = parent["header"]
        try:
            publish(data, *args, **kwargs)
        finally:
            pub.parent_header = running

    return publish_there


def _parents_follow_tasks() -> bool:
    from ipykernel._version import version_info

    return version_info >= (7,)
