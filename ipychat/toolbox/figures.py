"""Matplotlib's inline figures: those that a model's code draws are shown in its result.

The cell's own figures, which are shown when it ends, are left alone; the code sees none of them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

BACKEND = "matplotlib_inline.backend_inline"


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Let the figures of this block and those of the cell around it not meet."""
    before = _take()
    try:
        yield
    finally:
        _take()  # what an interrupted run has left
        _put_back(before)


def _take() -> tuple[dict[Any, Any], list[Any], bool]:
    """Take the figures away that the backend would show next; none if they are kept open."""
    inline: Any = sys.modules.get(BACKEND)
    if inline is None or not inline.InlineBackend.instance().close_figures:
        return {}, [], False
    show, figures = inline.show, inline.Gcf.figs
    taken = {**figures}, show._to_draw, show._draw_called  # noqa: SLF001 - the backend's only way
    figures.clear()
    show._to_draw, show._draw_called = [], False  # noqa: SLF001 - the same
    return taken


def _put_back(taken: tuple[dict[Any, Any], list[Any], bool]) -> None:
    inline: Any = sys.modules.get(BACKEND)
    figures, to_draw, is_called = taken
    if figures:
        inline.Gcf.figs.update(figures)
        inline.show._to_draw, inline.show._draw_called = to_draw, is_called  # noqa: SLF001 - the same
