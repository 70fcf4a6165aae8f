"""How far a download is, in a cell."""

from __future__ import annotations

import os
import time
from typing import Protocol

from ipychat.local import weights

EVERY = 0.2
"""Seconds between two paints."""


class Publish(Protocol):
    """Sends one output, or a change of it."""

    def __call__(
        self, data: dict[str, str], *, display_id: str | None = None, update: bool = False
    ) -> None:
        """Send it."""


class Bar:
    """A bar that is painted anew while it grows."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._id = os.urandom(8).hex()
        self._painted: float | None = None

    def __call__(self, there: int, whole: int) -> None:
        """Say how many bytes are there, and how many there will be."""
        now = time.monotonic()
        if self._painted is None or now - self._painted > EVERY or there >= whole:
            said = f"{weights.size(there)} of {weights.size(whole)}"
            bar = f'<progress style="width:20em" value="{there}" max="{whole}"></progress> {said}'
            data = {"text/html": bar, "text/plain": said}
            self._publish(data, display_id=self._id, update=self._painted is not None)
            self._painted = now
