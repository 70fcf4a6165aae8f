"""What answers cost: one line for each, in the kernel's memory and on disk, for all notebooks.

Lines are written in batches behind the answers, which wait for none of it.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from ipychat import config, secrets
from ipychat.errors import StoreError
from ipychat.messages import ModelId, Usage
from ipychat.store import files
from ipychat.store.transcripts import Transcript

PAUSE = 0.5
"""Seconds for which lines are gathered."""

_kept: list[dict[str, Any]] = []
"""Of this kernel, where nothing is kept on disk."""
_unsaved: list[dict[str, Any]] = []
_saving = threading.Lock()
_timer: threading.Timer | None = None


def add(
    model: ModelId, usage: Usage | None, *, chat: str | None = None, at: str | None = None
) -> None:
    """Queue an answer's line; `chat` is the conversation that it belongs to.

    While answers are replayed, those are counted, as they were, and nothing is written.
    """
    global _timer  # noqa: PLW0603 - one timer for all
    entry = {
        "at": at or datetime.now(UTC).isoformat(timespec="seconds"),
        "notebook": config.current().notebook,
        "chat": chat,
        "model": str(model),
        **(asdict(usage) if usage else dict.fromkeys(one.name for one in fields(Usage))),
    }
    if not config.current().keep or config.replay() == "replay":
        _kept.append(entry)
        return
    _unsaved.append(entry)
    if _timer is None:
        atexit.register(save)
    if _timer is None or _timer.finished.is_set():
        _timer = threading.Timer(PAUSE, save)
        _timer.daemon = True
        _timer.start()


def save() -> None:
    """Write what is gathered; what the disk does not take is written the next time."""
    with _saving:
        if _timer is not None:
            _timer.cancel()  # whatever is added from now on wants another
        entries = _unsaved[:]
        try:
            _file().append(*entries)
        except StoreError as error:
            secrets.log.warning("%s", error)
        else:
            del _unsaved[: len(entries)]


def entries() -> Iterator[dict[str, Any]]:
    """Give every line that is known. Raises StoreError where the file can't be read.

    Nothing is written for it. Whoever writes is waited for, but not as long as others hold a lock.
    """
    is_alone = _saving.acquire(timeout=files.HELD_TIMEOUT)
    try:
        written = [] if config.replay() == "replay" else _file().read()
        known = [*written, *_unsaved, *_kept]
    finally:
        if is_alone:
            _saving.release()
    yield from known


def _file() -> Transcript:
    return Transcript(files.home() / "usage.jsonl")
