"""Rate limits that services report in their headers; the latest report of each host counts.

Reads OpenAI's headers, which most services use, and Anthropic's. In both, a limit refills
continuously, and `reset` is the time until it is full.

https://platform.openai.com/docs/guides/rate-limits
https://docs.anthropic.com/en/api/rate-limits
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["requests", "tokens"]
KINDS: tuple[Kind, ...] = ("requests", "tokens")
NAMES = {
    kind: [
        [f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset")],
        [f"anthropic-ratelimit-{kind}-{what}" for what in ("limit", "remaining", "reset")],
    ]
    for kind in KINDS
}
"""The headers that report each kind of limit."""
MAX_HOSTS = 100
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d))")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of one kind."""

    whole: float
    left: float
    full_in: float
    """Seconds until the limit is full again."""

    @property
    def rate(self) -> float | None:
        """Units per second that may be spent from now on; None if that is unknown.

        What has been spent comes back within `full_in`; what is left may be spent in that time,
        too.
        """
        if self.full_in <= 0 or self.left >= self.whole:
            return None
        return max(self.whole - self.left, self.left) / self.full_in


_seen: dict[str, dict[Kind, Limit]] = {}


def seen(host: str) -> Mapping[Kind, Limit]:
    """Return the limits that `host` (with its port) reported last."""
    return _seen.get(host, {})


def note(host: str, headers: Mapping[str, str]) -> None:
    """Remember the limits in a response's headers; most have none."""
    found = {kind: limit for kind in KINDS if (limit := _parse(kind, headers))}
    if found:
        _seen.pop(host, None)
        _seen[host] = found
        if len(_seen) > MAX_HOSTS:
            del _seen[next(iter(_seen))]


def _parse(kind: Kind, headers: Mapping[str, str]) -> Limit | None:
    for names in NAMES[kind]:
        whole, left, reset = [headers.get(name, "").strip() for name in names]
        if whole and left and reset:
            with contextlib.suppress(ValueError):
                limit = Limit(float(whole), max(float(left), 0.0), _seconds(reset))
                if limit.whole > 0 and all(map(math.isfinite, astuple(limit))):
                    return limit
    return None


def _seconds(text: str) -> float:
    """Parse a duration (`6m0s`, `120ms`, `2.5`) or a date, in seconds. Raises ValueError."""
    if pieces := DURATION.findall(text):
        if DURATION.sub("", text):
            return datetime.fromisoformat(text).timestamp() - time.time()
        return sum(float(number) * UNITS[unit] for number, unit in pieces)
    with contextlib.suppress(ValueError):
        return float(text)
    return datetime.fromisoformat(text).timestamp() - time.time()
