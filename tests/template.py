"""A process that has imported what a kernel imports, and forks a kernel each time that it is asked.

`tests/forks.py` starts it and asks it, over the socket that its argument names. A request is JSON;
with it come the files that are the kernel's stdin, stdout and stderr. The kernel answers with its pid.
"""

import contextlib
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import time
from pathlib import Path

LAUNCHER = "ipykernel_launcher"
IMPORTED = [
    "ipykernel.kernelapp", "ipykernel.debugger", "IPython.core.completerlib", "IPython.core.oinspect",
    "IPython.extensions.storemagic", "tornado.platform.asyncio",
]  # fmt: skip
"""What takes long of what a kernel imports before it listens; none of it starts a thread."""


def reap(*_: object) -> None:
    """Let go of kernels that have ended; their CPU time then counts as this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork_where_asked(asked: socket.socket, imports_set: dict[str, str]) -> None:
    """Fork for each request; return in the kernel, which then is as if just started."""
    signal.signal(signal.SIGCHLD, reap)
    while True:
        request, files, *_ = socket.recv_fds(asked, 1 << 20, 3)
        if not request:  # who asked has ended
            os._exit(0)
        if not os.fork():
            break
        for file in files:
            os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    given = json.loads(request)
    sys.argv[1:] = given["arguments"]
    os.chdir(given["cwd"])
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does; most launchers take it out again
    os.environ.clear()
    os.environ.update(given["env"] | imports_set)
    time.tzset()
    asked.send(str(os.getpid()).encode())
    asked.close()


def import_all() -> dict[str, str]:
    """Import what takes long; return the variables that this set, for each kernel to have them."""
    before = dict(os.environ)
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # read on import: a kernel ends with its parent
    with contextlib.redirect_stderr(io.StringIO()):  # a kernel takes no notice of a warning, either
        for name in IMPORTED:
            importlib.import_module(name)
    return dict(os.environ.items() - before.items())


if __name__ == "__main__":
    del sys.path[0]  # this folder
    fork_where_asked(socket.socket(fileno=int(sys.argv.pop())), import_all())
    runpy.run_module(LAUNCHER, run_name="__main__", alter_sys=True)
