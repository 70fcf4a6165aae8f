"""Kernels that are forked, where nobody measures a start: that takes a fifth of a start's CPU time.

The process that they are forked from, `tests/template.py`, has imported what a kernel imports. For the
rest they are like started ones, which `tests/test_kernels.py` tests. A system without `pidfd_open`, such
as macOS, starts them.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from tests import template

TIMEOUT = 60
"""Seconds within which a template has forked; its first kernel waits for its imports."""
AT_START = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_")
"""How the variables begin that an interpreter reads when it starts."""


@functools.cache
def template_of(python: str, env: frozenset[tuple[str, str]]) -> socket.socket:
    """Start the process that kernels of one interpreter and environment are forked from."""
    ours, its = socket.socketpair(type=socket.SOCK_SEQPACKET)
    others = {name: value for name, value in os.environ.items() if not name.startswith(AT_START)}
    process = subprocess.Popen(
        [python, template.__file__, str(its.fileno())],
        pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, env=others | dict(env), cwd="/",
    )  # fmt: skip
    its.close()
    ours.settimeout(TIMEOUT)

    @atexit.register
    def end() -> None:
        ours.close()
        process.terminate()
        process.wait()

    return ours


class Forked:
    """A forked kernel, with as much of `Popen` as jupyter_client uses. Its parent is the template."""

    stdin = stdout = stderr = None

    def __init__(self, python: str, **given: Any) -> None:
        start = {(name, value) for name, value in given["env"].items() if name.startswith(AT_START)}
        asked = template_of(python, frozenset(start))
        stdin, end = os.pipe()
        os.close(end)
        socket.send_fds(asked, [json.dumps(given).encode()], [stdin, 1, 2])
        os.close(stdin)
        self.pid = int(asked.recv(100))
        self._ended = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        return 0 if select.select([self._ended], [], [], 0)[0] else None

    def wait(self) -> int:
        select.select([self._ended], [], [])
        os.close(self._ended)
        return 0

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._ended, number)


class Forking(LocalProvisioner):
    """Forks kernels, and starts those that have flags of Python's own."""

    async def launch_kernel(self, cmd: list[str], **how: Any) -> dict[str, Any]:
        python, *flags = cmd
        if flags[:2] != ["-m", template.LAUNCHER] or not hasattr(os, "pidfd_open"):
            return await super().launch_kernel(cmd, **how)
        self.cwd = how.get("cwd") or Path.cwd()
        self.process = Forked(python, arguments=flags[2:], env=how["env"], cwd=str(self.cwd))
        self.pid = self.pgid = self.process.pid
        return self.connection_info

    async def send_signal(self, signum: int) -> None:
        if await self.poll() is None:  # else its number may be another's
            await super().send_signal(signum)

    async def kill(self, restart: bool = False) -> None:
        await super().kill(restart)
        if self.process:  # who waits for it would look only every tenth of a second
            self.process.wait()
            self.process = None


PROVISIONER = {"provisioner_name": "forking"}
"""What a kernel's specification says to have it forked."""
KernelProvisionerFactory.instance().provisioners["forking"] = EntryPoint(
    "forking", f"{__name__}:{Forking.__name__}", KernelProvisionerFactory.GROUP_NAME
)
