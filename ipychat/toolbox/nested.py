"""Whether the running code is a model's: such code asks no model and allows no tool.

This keeps a model from giving itself what the user has not allowed, by mistake or because a page
told it to. It is no wall: code that runs in the kernel can do whatever the kernel can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from ipychat.errors import UsageError

_run: ContextVar[object] = ContextVar("ipychat_run", default=None)
"""The run whose code is running; its tasks and threads inherit it."""


@contextlib.contextmanager
def inside(run: object) -> Iterator[None]:
    """Let what runs in this block be the code of `run`."""
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


def current() -> object:
    """Return the run whose code is running; None for the user's own code."""
    return _run.get()


def refuse(deed: str) -> None:
    """Raise UsageError if a model's code is running; `deed` is what it can't do."""
    if _run.get() is not None:
        raise UsageError(f"Code that a model runs can't {deed}: only the user can.")
