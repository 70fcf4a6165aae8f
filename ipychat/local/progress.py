"""Progress of a download in a terminal."""

from __future__ import annotations

import sys

from ipychat.local import weights


class Line:
    """One line that is overwritten in a terminal; elsewhere, a new line for every tenth."""

    def __init__(self) -> None:
        self._step = 1 if sys.stderr.isatty() else 10
        self._shown = -1

    def __call__(self, there: int, whole: int) -> None:
        """Show how many bytes of the total are here."""
        percent = min(100 * there // whole, 100)
        if percent // self._step != self._shown:
            self._shown = percent // self._step
            end = "\r" if self._step == 1 and percent < 100 else "\n"
            line = f"{percent:3} %  {weights.size(there)} of {weights.size(whole)}"
            print(line, end=end, file=sys.stderr, flush=True)  # noqa: T201 - the command's output
