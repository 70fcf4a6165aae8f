"""Asking the user for a line while the loop goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ipychat.kernel import notebook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

LOOK = 0.03
"""Seconds between two looks for an answer."""


def can_ask(shell: InteractiveShell) -> bool:
    """Whether somebody is there who could type a line."""
    if notebook.is_kernel(shell):
        return bool(shell.kernel._allow_stdin)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    return hasattr(shell, "pt_app") and shell.pt_app is not None


async def line(shell: InteractiveShell, prompt: str) -> str:
    """Ask for a line. Raises KeyboardInterrupt or EOFError where the user leaves it."""
    if notebook.is_kernel(shell):
        return await _from_front_end(shell.kernel, prompt)  # type: ignore[attr-defined]
    from prompt_toolkit import PromptSession

    said: str = await PromptSession[str]().prompt_async(prompt)
    return said


async def _from_front_end(kernel: Any, prompt: str) -> str:
    """Send what `input` would send, and look for the reply without holding the loop."""
    import zmq

    socket = kernel.stdin_socket
    while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:  # replies to earlier prompts
        socket.recv_multipart(zmq.NOBLOCK)
    content = {"prompt": prompt, "password": False}
    parent = kernel.get_parent("shell")
    kernel.session.send(socket, "input_request", content, parent, ident=_ident(kernel))
    while True:
        if socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            _, reply = kernel.session.recv(socket, zmq.NOBLOCK)
            if reply is not None:
                value = str(reply["content"].get("value", ""))
                if value == "\x04":
                    raise EOFError
                return value
        await asyncio.sleep(LOOK)


def _ident(kernel: Any) -> Any:
    """Return the address of the front end that runs the cell."""
    if hasattr(kernel, "_get_shell_context_var"):  # since ipykernel 7
        return kernel._get_shell_context_var(kernel._shell_parent_ident)  # noqa: SLF001
    return kernel._parent_ident["shell"]  # noqa: SLF001
