"""The notebook's last error: its frames, and the cell that raised it with the values it uses."""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from types import TracebackType
from typing import Any

from ipychat.context import cells, values
from ipychat.errors import ChatError, UsageError
from ipychat.secrets import mask

UNDERLINES = r"(?m)^ *[~^][~^ ]*\n"
"""The lines of a traceback that underline the line above."""
MAX_TRACEBACK = 6000
"""Characters of a traceback that are quoted, from its end, which says what happened."""
MAX_VALUES = 12
PACKAGE_FOLDER = r"^.*[/\\](?:site-packages|python3\.\d+)[/\\]"
"""What precedes a package's name in the path of its files."""
VALUE_BUDGET = 600
"""Characters of each value."""


def last_error() -> BaseException | None:
    """Return the last error that a cell raised."""
    error = getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None


def frames(error: BaseException) -> list[TracebackType]:
    """Return the error's frames, outermost first."""
    found = []
    trace = error.__traceback__ or getattr(sys, "last_traceback", None)
    while trace:
        found.append(trace)
        trace = trace.tb_next
    return found


def file_of(trace: TracebackType) -> str:
    """Return the name of the file, or of the cell's code, that a frame runs."""
    return trace.tb_frame.f_code.co_filename


def cell_number(shell: Any, file: str) -> int | None:
    """Return the number of the cell with that file name; None if it is not a cell's."""
    # The public way in makes a text of the number.
    number: int | None = shell.compile._filename_map.get(file)  # noqa: SLF001
    return number


def describe(shell: Any) -> list[str]:
    """Describe the last error: its cell as written, its traceback, the values it uses.

    Raises UsageError if there is none, or if the cell is not to blame.
    """
    error = last_error()
    if error is None:
        raise UsageError("There is no error to fix: no cell has failed yet.")
    if isinstance(error, ChatError):
        raise UsageError(f"The last error is ipychat's own; no code can fix it:\n{error}")
    through = frames(error)
    in_cells = [trace for trace in through if cell_number(shell, file_of(trace))]
    file = file_of(in_cells[0]) if in_cells else getattr(error, "filename", None) or ""
    # a cell that can't be parsed has no frame of its own: all frames are IPython's
    begin = None if isinstance(error, SyntaxError) and not in_cells else (in_cells or through)[:1]
    told = traceback.format_exception(type(error), error, begin[0] if begin else None)
    text = _without_places("".join(told), shell)
    if not isinstance(error, SyntaxError):
        # each version of Python underlines differently, so that a replay would not match
        text = re.sub(UNDERLINES, "", text)
    text = text if len(text) <= MAX_TRACEBACK else mask(text)[-MAX_TRACEBACK:]
    parts = [f"The error:\n\n```\n{text.rstrip()}\n```"]
    if number := cell_number(shell, file):
        cells_so_far = shell.history_manager.input_hist_raw
        if number < len(cells_so_far):
            source = cells_so_far[number]
        else:  # it was run without a place in the history, as nbval does
            source = "".join(linecache.getlines(file))
        parts.insert(0, f"The cell:\n\n```python\n{source.rstrip()}\n```")
        names = [name for name in cells.names_in(source) if name in shell.user_ns]
        held = [values.summarise(n, shell.user_ns[n], VALUE_BUDGET) for n in names[:MAX_VALUES]]
        parts.append("The values it mentions:\n\n" + "\n\n".join(held) if held else "")
    return parts


def _without_places(text: str, shell: Any) -> str:
    """Call cells by their numbers, and shorten paths of packages to start at the package.

    The full paths belong to this machine and this run; nobody else has to know them.
    """

    def named(match: re.Match[str]) -> str:
        file = match[1]
        if cell_number(shell, file):
            return "Cell In[…]"  # its number belongs to this run, too
        return f'File "{re.sub(PACKAGE_FOLDER, "", file)}"'

    return re.sub(r'File "([^"\n]+)"', named, text)
