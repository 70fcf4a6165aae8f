"""The engine, in a process of its own: started on first use, shared by all calls of this kernel.

In the kernel it would hold the interpreter's lock, could not be stopped, and would take the kernel
down if it crashed. The process ends when the kernel does, however that ends. Its weights are
memory-mapped, so several kernels share one copy. It listens on loopback, and requires a key that is
generated at each start and passed over its standard input.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from ipychat import config, requirements, secrets
from ipychat.errors import ChatError, MissingRequirementsError, ServerError, StoreError, UsageError
from ipychat.local import weights
from ipychat.wire import policy

BATCH = 128
"""Tokens read at once: a stop takes effect between two batches."""
BASE_MEMORY = 256_000_000
"""Bytes that the engine takes besides the weights and the context."""
CONTEXT_SHARE = 40_000
"""Tokens whose context takes as much memory as the weights; about the same for all current sizes.
"""
PARENT_POLL = 0.5
"""Seconds between the engine's checks that its kernel still exists."""
EXIT_WAIT = 2.0
"""Seconds for the system to report how a process ended after its connection broke off."""
LOG_WAIT = 0.5
"""Seconds for the engine's own thread to write why it failed; it can't be asked whether it has."""
CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what resources a container may use."""
ILLEGAL_INSTRUCTION = {-4, 0xC000001D}
"""Exit codes of a process whose CPU lacks an instruction: on POSIX, on Windows."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine."""

    root: str
    context: int
    key: str = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)

    async def ended(self) -> str | None:
        """Say how the engine ended, if that is why a connection to it broke off."""
        try:
            code = await asyncio.to_thread(self.process.wait, EXIT_WAIT)
        except subprocess.TimeoutExpired:
            return None
        return f"The engine {_how(code)}. The next question starts it anew."


def missing() -> str | None:
    """Say why the engine can't run on this machine; None if it can."""
    machine = platform.machine().lower()
    is_x86 = machine in {"x86_64", "amd64"}
    if find_spec("xllamacpp") is None:
        if not is_x86 and (machine not in {"arm64", "aarch64"} or sys.platform == "win32"):
            return f"no engine is built for {platform.system()} on {machine}"
        return f"not installed: {requirements.install('local')}"
    if is_x86 and not _has_avx2():
        return "this CPU lacks AVX2, which the engine needs"
    return None


async def running(path: Path, *, context: int | None = None, idle: float | None = None) -> Engine:
    """Return a ready engine that runs the weights at `path`.

    `context` is in tokens. After `idle` minutes without a question the weights are unloaded; the
    next question loads them again. Both default to the settings.

    Whatever can be checked beforehand is checked first. Raises MissingRequirementsError, StoreError
    for unusable weights, UsageError for too little memory, and ServerError if the engine ends
    instead of starting.
    """
    settings = config.current()
    context = settings.local_context if context is None else context
    idle = settings.local_idle if idle is None else idle
    if not (type(context) is int and context > 0):
        raise UsageError(f"The option context takes tokens, not {context!r}.")
    if not (isinstance(idle, int | float) and idle > 0):
        raise UsageError(f"The option idle takes minutes, not {idle!r}.")
    with _lock:
        started = _engines.get((path, context, idle))
        if started is None or _has_ended(started):
            started = _engines[path, context, idle] = _start(path, context, idle)
    try:
        return await asyncio.wrap_future(started)
    except ChatError as error:
        raise type(error)(*error.args) from None  # others wait for it, too: each gets its own


def end() -> None:
    """Stop every engine now; the next question starts a new one."""
    with _lock:
        _engines.clear()
        while _processes:
            process = _processes.pop()
            process.kill()
            _forget(process)


atexit.register(end)

# -- the kernel's side

_engines: dict[tuple[Path, int, float], Future[Engine]] = {}
_processes: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
"""Held only for moments: tasks of several loops may ask."""


def _has_ended(started: Future[Engine]) -> bool:
    if not started.done():
        return False
    if started.exception() is not None:
        return True
    process = started.result().process
    if process.poll() is None:
        return False
    _processes.discard(process)
    _forget(process)
    return True


def _forget(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _start(path: Path, context: int, idle: float) -> Future[Engine]:
    """Start an engine in a daemon thread, so that waiting for it never delays the kernel's exit."""
    started: Future[Engine] = Future()
    started.set_running_or_notify_cancel()  # now a waiting task's cancellation can't cancel it

    def start() -> None:
        try:
            started.set_result(_launch(path, context, idle))
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            started.set_exception(error)

    threading.Thread(target=start, name="ipychat-engine", daemon=True).start()
    return started


def _launch(path: Path, context: int, idle: float) -> Engine:
    if lacking := missing():
        raise MissingRequirementsError(
            f"The engine can't answer here: {lacking}.\n"
            "Ollama or another server on this machine can: see %chat_setup."
        )
    weights.check(path)
    _check_memory(path, context)
    secrets.register(key := token_urlsafe(32))
    asked = {"path": str(path), "context": context, "idle": idle, "key": key, "parent": os.getpid()}
    process = _open()
    with contextlib.suppress(OSError):  # it ended immediately: its output says why
        process.stdin.write(json.dumps(asked).encode() + b"\n")  # type: ignore[union-attr] # a pipe
        process.stdin.flush()  # type: ignore[union-attr] # a pipe
    with process.stdout as said:  # type: ignore[union-attr] # a pipe
        *log, last = said.read().decode("utf-8", "replace").splitlines() or [""]
    with contextlib.suppress(ValueError, LookupError, TypeError):
        root = json.loads(last)["root"]
        policy.own(root)
        return Engine(root, context, key, process)
    _processes.discard(process)
    _forget(process)
    raise _fault(path, [*log, last], process.returncode)


def _open() -> subprocess.Popen[bytes]:
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    process = subprocess.Popen(
        # -P: no module may be imported from the notebook's folder
        [sys.executable, "-P", "-m", "ipychat.local", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # an interrupt of the kernel must not reach the engine
        creationflags=flags,
    )
    _processes.add(process)
    return process


def _fault(path: Path, log: list[str], code: int) -> ChatError:
    """Return the error that says why an engine did not start."""
    if code in ILLEGAL_INSTRUCTION:
        return MissingRequirementsError("The engine needs a CPU with AVX2, which this one lacks.")
    for line in reversed(log):
        if found := re.search("error loading model: (.+)", line):
            return StoreError(
                f"The engine can't load {path}: {found[1]}.\n"
                "It is damaged, incomplete, or of an unknown kind."
            )
    why = next((line for line in reversed(log) if line.strip()), "it said nothing")
    return ServerError(f"The engine {_how(code)} instead of starting: {why}")


def _how(code: int) -> str:
    if code == -9:
        return "was ended by the system or a user (SIGKILL), as happens when memory runs out"
    name = signal.strsignal(-code) if code < 0 else None
    return f"ended by itself ({name or f'status {code}'})"


def _check_memory(path: Path, context: int) -> None:
    needed = path.stat().st_size * (1 + context / CONTEXT_SHARE) + BASE_MEMORY
    free = _free_memory()
    if free < needed:
        raise UsageError(
            f"{path.name} needs about {weights.size(needed)} of memory with a context of "
            f"{context:,}, and {weights.size(free)} are free.\n"
            "Use smaller weights or a smaller context, or close other programs."
        )


def _free_memory() -> int:
    import psutil

    free: int = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError, LookupError):  # "max" means no limit
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        cached = dict(line.split() for line in lines)
        used -= int(cached["active_file"]) + int(cached["inactive_file"])
        free = min(free, limit - used)
    return max(free, 0)


def _has_avx2() -> bool:
    if sys.platform == "linux":
        with contextlib.suppress(OSError), CPUINFO.open() as told:
            first = told.read(8192)  # it says the same about each core
            return re.search(r"^flags\s*:.*\bavx2\b", first, re.MULTILINE) is not None
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(40))  # …_AVX2_INSTRUCTIONS_…
    return True  # unknown: without the instructions the engine will end with a signal of its own


# -- the engine's side


def serve() -> None:
    """Run the engine that the first line of standard input describes, until the kernel ends.

    Standard output holds what went wrong or, on its last line, the root URL.
    """
    asked = json.loads(sys.stdin.buffer.readline())
    _end_while_loading()
    try:
        server = _load(**asked)
        said = {"root": server.listening_address}
    except Exception as error:  # noqa: BLE001 - reported to the kernel, whatever it is
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said), flush=True)  # noqa: T201 - the process's output
    if "error" in said:
        time.sleep(LOG_WAIT)
        sys.exit(1)  # not os._exit: a thread of the engine may still be writing why
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # closing them tells the kernel that there is no more
        os.dup2(nothing, stream)
    _wait_for_end(asked["parent"])
    os._exit(0)  # without waiting for an answer that is being written


def _load(*, path: str, context: int, idle: float, key: str, parent: int) -> Any:  # noqa: ARG001 - the kernel's id, which the caller waits for
    """Load the weights, and listen."""
    import xllamacpp

    how = xllamacpp.CommonParams()
    how.model.path = path
    how.n_ctx = context
    how.n_parallel = 1
    how.n_batch = how.n_ubatch = BATCH
    how.cpuparams.n_threads = how.cpuparams_batch.n_threads = max(1, _cores() - 1)
    how.cache_ram_mib = 0  # cached prompts would add gigabytes to the context
    how.sleep_idle_seconds = max(1, round(idle * 60))
    how.verbosity = 1  # errors only
    how.warmup = how.ui = how.endpoint_slots = False
    how.use_jinja = True  # the weights' own template
    how.api_keys = [key]
    return xllamacpp.Server(how)  # on loopback, at a free port


def _cores() -> int:
    """Return the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max" means no limit
        quota, period = (CGROUP / "cpu.max").read_text().split()
        cores = min(cores, int(quota) // int(period))
    return cores


def _end_while_loading() -> None:
    """End with the kernel even while loading, which holds the interpreter's lock.

    The signal for a closed pipe ends a process by default. Only Linux has it: elsewhere the
    kernel's end is noticed after loading.
    """
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _wait_for_end(parent: int) -> None:
    """Return when the kernel has ended: standard input closes, or only orphans hold it open."""
    if sys.platform == "win32":
        sys.stdin.buffer.read()
        return
    while os.getppid() == parent and not select.select([0], [], [], PARENT_POLL)[0]:
        pass
