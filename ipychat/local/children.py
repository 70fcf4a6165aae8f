"""Programs that run beside the kernel and speak over their standard input and output.

Each has a process group of its own, which is ended as a whole and ends with the kernel, however
that ends. What a program writes to standard error never reaches the notebook: it is read and
dropped, but for its last lines. Nothing here waits on the loop: pipes are read and written in
threads.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipychat.errors import UsageError
from ipychat.text.characters import harmless
from ipychat.wire import aside, policy

MAX_TOLD = 2_048
"""Bytes of standard error that are kept."""
READ_SIZE = 64 * 1024
"""Bytes."""
GRACE = 1.0
"""Seconds to end by itself once standard input is closed, and again after SIGTERM."""
EXIT_GRACE = 0.3
"""Seconds that all programs together have for that when the kernel exits."""
POLL = 0.01
"""Seconds between two looks at whether a program has ended."""
STATUS_WAIT = 1.0
"""Seconds for the system to report how a program ended, and for its last words to arrive."""
INHERITED = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"
)  # fmt: skip
INHERITED_ON_WINDOWS = (
    "APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT", "SYSTEMDRIVE",
    "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE",
)  # fmt: skip
"""Variables that every program gets; none of them is a key."""
GUARD = 'read -r _ || kill -s KILL -- "-$1"'
"""A shell's script: kills a process group once its standard input closes without a line."""


class TooLongError(Exception):
    """A program wrote a line that is longer than allowed."""


_children: set[Child] = set()
"""Those that may still run."""


class Child:
    """A running program. Start it in a thread: starting reads the disk."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> None:
        """Start `command`. Raises PolicyError, and UsageError if there is no such program."""
        policy.check_command(*command)
        self.command = command[0]
        self._process = _start(command, inherited() | dict(env or {}), cwd)
        self._guard = _guard(self._process.pid)
        self._reads = threading.Lock()
        """Held while standard output is read: a pipe that is read must not be closed."""
        self._told = bytearray()
        self._pending = bytearray()
        _children.add(self)
        self._hears = threading.Thread(target=self._hear, daemon=True)
        self._hears.start()
        self.ended = aside.start(self._wait)
        """The exit status, once it is known."""

    @property
    def pid(self) -> int:
        """The number of the process, and of its group."""
        return self._process.pid

    @property
    def told(self) -> str:
        """The end of what the program wrote to standard error."""
        return harmless(bytes(self._told).decode("utf-8", "replace")).strip()

    def tell(self, line: bytes) -> None:
        """Keep a line of standard output that is no message, as if it came from standard error."""
        self._told += line[-MAX_TOLD:] + b"\n"
        del self._told[:-MAX_TOLD]

    def read_line(self, longest: int) -> bytes | None:
        """Wait for a line of standard output; None at its end. Raises TooLongError."""
        begin = 0
        while (at := self._pending.find(b"\n", begin)) < 0:
            begin = len(self._pending)
            if begin > longest:
                raise TooLongError
            if not (chunk := self._read()):
                return None
            self._pending += chunk
        with memoryview(self._pending) as pending:
            line = bytes(pending[:at])
        del self._pending[: at + 1]
        return line

    def _read(self) -> bytes:
        pipe: Any = self._process.stdout
        with self._reads:
            chunk = b"" if pipe.closed else os.read(pipe.fileno(), READ_SIZE)
            if not chunk:
                pipe.close()
        return chunk

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises OSError if the program no longer reads."""
        pipe: Any = self._process.stdin
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[pipe.write(rest) :]
        except ValueError:  # closed meanwhile
            raise BrokenPipeError from None

    async def how_it_ended(self) -> str | None:
        """Say how the program ended, with its last words; None if it still runs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STATUS_WAIT):
                code = await aside.wait(self.ended)
            await aside.run(self._hears.join, STATUS_WAIT)
            return f"{_how(code)}.{self.last_words}"
        return None

    @property
    def last_words(self) -> str:
        """The end of what the program said, as a line to put behind a sentence."""
        said = " / ".join(filter(None, map(str.strip, self.told.splitlines()[-5:])))
        return f"\nIt said last: {said}" if said else ""

    async def end(self) -> None:
        """Let the program end by itself, then make it; its process group goes with it."""
        self._hang_up()
        for ask_again in (self._terminate, self.kill):
            if await self._ended_within(GRACE):
                break
            ask_again()
        self.kill()

    async def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await aside.wait(self.ended)
        return self.ended.done()

    def kill(self) -> None:
        """End the whole process group now."""
        _signal(self._process, "SIGKILL")
        self._forget()
        if self._reads.acquire(blocking=False):  # else its reader meets the end, and closes it
            self._process.stdout.close()  # type: ignore[union-attr] # a pipe
            self._reads.release()

    def _forget(self) -> None:
        self._hang_up()
        self._release_guard()
        _children.discard(self)

    def _terminate(self) -> None:
        _signal(self._process, "SIGTERM")

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr] # a pipe

    def _release_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(OSError, ValueError):
                guard.communicate(b"\n")

    def _hear(self) -> None:
        """Read standard error to its end, however much there is."""
        with self._process.stderr as pipe:  # type: ignore[union-attr] # a pipe
            while chunk := os.read(pipe.fileno(), READ_SIZE):
                self._told += chunk[-MAX_TOLD:]
                del self._told[:-MAX_TOLD]

    def _wait(self) -> int:
        """Wait for the end; what is left of the process group is ended, too."""
        if sys.platform == "linux":  # until it is reaped, its number can't be another group's
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            _signal(self._process, "SIGKILL")
        code = self._process.wait()
        self._forget()
        return code


def inherited() -> dict[str, str]:
    """Return the variables that every program gets."""
    names = INHERITED_ON_WINDOWS if sys.platform == "win32" else INHERITED
    return {
        name: value
        for name, value in os.environ.items()
        if name in names
        and not value.startswith("()")  # a function of the shell's, which would run
    }


def end_all() -> None:
    """End every program now."""
    left = list(_children)
    for child in left:
        child._hang_up()  # noqa: SLF001 - of this module
    _wait_for(left, EXIT_GRACE)
    for child in left:
        child.kill()


atexit.register(end_all)


def _wait_for(children: list[Child], seconds: float) -> None:
    waiting = threading.Event()
    for _ in range(int(seconds / POLL)):
        if all(child.ended.done() for child in children):
            return
        waiting.wait(POLL)


def _start(
    command: Sequence[str], env: Mapping[str, str], cwd: str | Path | None
) -> subprocess.Popen[bytes]:
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        command = [shutil.which(command[0], path=env.get("PATH")) or command[0], *command[1:]]
    try:
        return subprocess.Popen(  # noqa: S603 - no shell, and what the user allowed
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,  # an interrupt of the kernel must not reach it
            creationflags=flags,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        missing = isinstance(error, FileNotFoundError) and error.filename != str(cwd)
        named = command[0] if missing or not cwd else f"{command[0]} in {cwd}"
        raise UsageError(f"Can't start {named}: {why}.\nIs it installed, and on PATH?") from None


def _guard(group: int) -> subprocess.Popen[bytes] | None:
    """Start a shell that kills a process group if the kernel is killed. POSIX only."""
    if sys.platform == "win32":
        return None
    with contextlib.suppress(OSError):
        return subprocess.Popen(  # noqa: S603 - the script is ours, the group a number
            ["/bin/sh", "-c", GUARD, "sh", str(group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,  # whoever kills the kernel's group must not kill this
        )
    return None


def _signal(process: subprocess.Popen[bytes], name: str) -> None:
    if process.returncode is not None:  # its number may be another's by now
        return
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, getattr(signal, name))


def _how(code: int) -> str:
    name = signal.strsignal(-code) if code < 0 else None
    return f"ended ({name or f'status {code}'})"
