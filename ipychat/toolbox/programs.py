"""What programs write that a model's code starts: they know the descriptors 1 and 2 alone.

Only in a kernel: in a terminal whatever is shown goes through these descriptors.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator

from ipychat.toolbox.shown import Shown, TooMuchOutputError

DESCRIPTORS = (1, 2)
CHUNK = 1 << 16
THREAD_NAME = "ipychat-programs"


@contextlib.contextmanager
def diverted(shown: Shown) -> Iterator[Callable[[], None]]:
    """Divert the descriptors; give a function that takes what was written by now."""
    try:
        saved = [(one, os.dup(one)) for one in DESCRIPTORS]
    except OSError:  # a process without them
        yield lambda: None
        return
    pipe = _Pipe(shown)
    try:
        yield pipe.drain
    finally:
        for descriptor, copy in saved:
            os.dup2(copy, descriptor)
            os.close(copy)
        pipe.drain()


class _Pipe:
    """A pipe behind the descriptors. It lives until the last program that has it has ended."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_over = False
        self._end, begin = os.pipe()
        os.set_blocking(self._end, False)
        for descriptor in DESCRIPTORS:
            os.dup2(begin, descriptor)
        os.close(begin)
        # a program that nobody reads from would wait, and the code for it
        threading.Thread(target=self._follow, name=THREAD_NAME, daemon=True).start()

    def drain(self) -> None:
        """Take what is there."""
        with self._lock, contextlib.suppress(BlockingIOError):
            while not self._is_over:
                if data := os.read(self._end, CHUNK):
                    self._take(data)
                else:
                    self._is_over = True

    def _take(self, data: bytes) -> None:
        if not self._shown.is_open:
            os.write(DESCRIPTORS[0], data)  # the program outlives the run
            return
        try:
            self._shown.write(self._text.decode(data))
        except TooMuchOutputError as error:
            self._shown.fail([str(error)])
            self._is_over = True  # the program ends at its next write

    def _follow(self) -> None:
        there = select.poll()
        there.register(self._end, select.POLLIN)
        while not self._is_over:
            there.poll()
            self.drain()
        os.close(self._end)
