"""A recorder that runs in a kernel: the steps of the event loop that took longest, and where.

What counts is CPU time of the loop's own thread: neither a busy machine nor work in other threads
makes a step longer. Python's collector of garbage is left out: how long it takes depends on all that
the notebook holds. A second thread looks at the loop's thread meanwhile and notes which of
ipychat's lines a long step stands in; a step in which none was seen is the user's or IPython's.
`begin()` and `long_steps()` are run in the kernel, by `Watch`.
"""

import asyncio
import gc
import sys
import threading
import time
from pathlib import Path

COUNTING = 0.04
"""Seconds of CPU time in which the machine that the bounds are for counts to a million."""
LONG = 0.004
"""Seconds of CPU time from which on a step is noted."""
LOOK = 0.001
"""Seconds between two looks at the loop's thread."""


class Recorder:
    def __init__(self):
        self.steps: list[tuple[float, list[str]]] = []
        self._thread = threading.get_ident()
        self._seen: dict[str, int] | None = None  # of the running step
        self._run = run = asyncio.Handle._run
        self._is_on = True
        self._collecting = 0.0  # when it began
        self._collected = 0.0  # seconds of the running step
        gc.callbacks.append(self._collect)

        def timed(handle):
            if threading.get_ident() != self._thread:
                run(handle)
                return
            before, self._seen = self._seen, {}
            self._collected = 0.0
            begin = time.thread_time()
            run(handle)
            took, seen = time.thread_time() - begin - self._collected, self._seen
            self._seen = before
            if took >= LONG and seen:
                self.steps.append((took, sorted(seen, key=seen.get, reverse=True)))

        asyncio.Handle._run = timed
        threading.Thread(target=self._look, daemon=True).start()

    def _collect(self, phase, _):
        if threading.get_ident() == self._thread:
            if phase == "start":
                self._collecting = time.thread_time()
            else:
                self._collected += time.thread_time() - self._collecting

    def _look(self):
        while self._is_on:
            time.sleep(LOOK)
            seen = self._seen
            if seen is not None and (line := self._line()):
                seen[line] = seen.get(line, 0) + 1

    def _line(self) -> str | None:
        """The innermost line of ours in which the loop's thread stands."""
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            path = frame.f_code.co_filename
            if "/ipychat/" in path and "/tests/" not in path:
                return f"{path.rpartition('/ipychat/')[2]}:{frame.f_lineno} {frame.f_code.co_name}"
            frame = frame.f_back
        return None

    def stop(self) -> list[tuple[float, list[str]]]:
        asyncio.Handle._run = self._run
        self._is_on = False
        gc.callbacks.remove(self._collect)
        return sorted(self.steps, reverse=True)


class Watch:
    """The recorder of one kernel; within the block every step of its loop is looked at."""

    def __init__(self, kernel):
        self._kernel = kernel
        self.steps: list[tuple[float, list[str]]] = []

    def __enter__(self):
        source = Path(__file__).read_text("utf-8")
        setup = f"import types; _watch = types.ModuleType('watch'); exec({source!r}, vars(_watch))"
        assert self._kernel.run(setup).status == "ok"
        assert self._kernel.run("_recorder = _watch.Recorder()").status == "ok"
        return self

    def __exit__(self, *_):
        self.steps = self._kernel.value("_recorder.stop()")

    @property
    def longest(self) -> float:
        """The longest step of ours, in seconds of CPU time."""
        return max((took for took, _ in self.steps), default=0.0)

    def __str__(self):
        return "\n".join(f"{took * 1e3:.1f} ms: {', '.join(at[:5])}" for took, at in self.steps)


def slowness() -> float:
    """Return how many times as long as that machine this one takes; never less than 1."""

    def count() -> float:
        begin, number = time.thread_time(), 0
        while number < 1_000_000:
            number += 1
        return time.thread_time() - begin

    return max(1.0, min(count() for _ in range(3)) / COUNTING)
