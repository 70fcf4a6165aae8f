"""Costs of answers: one line per answer, in memory and on disk, for all notebooks.

Lines are written in batches in the background; answers don't wait for them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ipychat import config, secrets
from ipychat.errors import StoreError
from ipychat.messages import ModelId, Usage
from ipychat.store import files, transcripts
from ipychat.store.transcripts import Transcript

WRITE_DELAY = 0.5
"""Seconds to collect lines before they are written."""
MAX_TAIL = 16_384
"""Bytes at the end of the file in which recent models are searched for."""

_kept: list[dict[str, Any]] = []
"""This kernel's lines, if nothing is kept on disk."""
_unsaved: list[dict[str, Any]] = []
_saving = threading.Lock()
_timer: threading.Timer | None = None


def add(
    model: ModelId, usage: Usage | None, *, chat: str | None = None, at: str | None = None
) -> None:
    """Queue the line of an answer; `chat` is its conversation.

    Replayed answers are counted for this kernel, at their original cost, and not written.
    """
    global _timer  # noqa: PLW0603 - one timer for all
    entry = {
        "at": at or datetime.now(UTC).isoformat(timespec="seconds"),
        "notebook": config.current().notebook,
        "chat": chat,
        "model": str(model),
        **(usage.to_record() if usage else dict.fromkeys(Usage().to_record())),
    }
    if not config.current().keep or config.replay() == "replay":
        _kept.append(entry)
        return
    _unsaved.append(entry)
    if _timer is None:
        atexit.register(save)
    if _timer is None or _timer.finished.is_set():
        _timer = threading.Timer(WRITE_DELAY, save)
        _timer.daemon = True
        _timer.start()


def save() -> None:
    """Write the queued lines; lines that can't be written stay queued."""
    with _saving:
        if _timer is not None:
            _timer.cancel()  # lines added from now on need another timer
        entries = _unsaved[:]
        try:
            _file().append(*entries)
        except StoreError as error:
            secrets.log.warning("%s", error)
        else:
            del _unsaved[: len(entries)]


def entries() -> Iterator[dict[str, Any]]:
    """Yield every known line. Raises StoreError if the file can't be read.

    This writes nothing. It waits for a write in progress, but not for locks of other processes.
    """
    is_alone = _saving.acquire(timeout=files.HELD_TIMEOUT)
    try:
        written = [] if config.replay() == "replay" else _file().read()
        known = [*written, *_unsaved, *_kept]
    finally:
        if is_alone:
            _saving.release()
    yield from known


def recent(most: int) -> list[str]:
    """Return the models that answered most recently, the latest first."""
    written = [] if config.replay() == "replay" else _last_lines()
    lines = [*written, *_unsaved[:], *_kept[:]]
    models = [one["model"] for one in reversed(lines) if isinstance(one.get("model"), str)]
    return [*dict.fromkeys(models)][:most]


def _last_lines() -> list[dict[str, Any]]:
    try:
        with _file().path.open("rb") as file:
            file.seek(-min(file.seek(0, os.SEEK_END), MAX_TAIL), os.SEEK_END)
            lines = file.read().splitlines()
    except OSError:
        return []
    return [one for line in lines if (one := transcripts.parse(line)) is not None]


def _file() -> Transcript:
    return Transcript(files.home() / "usage.jsonl")
