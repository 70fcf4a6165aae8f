"""The pace of a run: below the known limits, with common pauses when a service refuses.

Limits come from the user, or from a service's headers. If neither says anything and the service
refuses, the rate of answers so far becomes the limit, and grows while answers arrive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from ipychat.wire.backoff import backoff
from ipychat.wire.limits import Kind, Limit

SHARE = 0.95
"""The share of a limit that is used."""
CATCH_UP = 0.025
"""Seconds of sending to catch up if the loop was late."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds of the first and of the longest pause, if the service names no time."""
GROWTH, CUT = 0.1, 0.7
"""Growth of a guessed rate per second, and the factor by which a refusal cuts it."""
MIN_RATE = 1.0
"""Prompts per second: the lowest first guess."""


class _Clock:
    """When the next prompt is due, at a given rate."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._due = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until the next prompt is due."""
        return max(self._due - now, 0.0) if self.rate else 0.0

    def spend(self, amount: float, now: float) -> None:
        """Delay the following prompts by the one that is sent now."""
        if self.rate:
            self._due = max(self._due, now - CATCH_UP) + amount / self.rate


class Pace:
    """Lets prompts go one after the other, each at its time."""

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        given: dict[Kind, float | None] = {"requests": rpm, "tokens": tpm}
        self._clocks = {kind: _Clock(a and a * SHARE / 60) for kind, a in given.items()}
        self._given = {kind for kind, amount in given.items() if amount}
        self._turn = asyncio.Lock()
        self._sent = False
        self._begun = asyncio.Event()
        """Set once the first answer's headers were seen; until then only one prompt is sent."""
        if rpm:
            self._begun.set()
        self._until = 0.0
        self._refused = 0  # pauses since the last answer
        self._refused_since: float | None = None
        self._guessed_at: float | None = None
        self._answers = 0
        self._since = time.monotonic()

    async def turn(self, tokens: int) -> None:
        """Return when a prompt of so many tokens may be sent."""
        async with self._turn:
            if self._sent and not self._begun.is_set():
                await self._begun.wait()
            while (wait := self._wait(time.monotonic())) > 0:  # noqa: ASYNC110 - the wait may grow meanwhile
                await asyncio.sleep(wait)
            if not self._sent:
                self._sent, self._since = True, time.monotonic()
            now = time.monotonic()
            self._clocks["requests"].spend(1, now)
            self._clocks["tokens"].spend(tokens, now)

    def _wait(self, now: float) -> float:
        return max(self._until - now, *(clock.wait(now) for clock in self._clocks.values()))

    @property
    def rate(self) -> float | None:
        """The limit in prompts per second; None if there is none."""
        return self._clocks["requests"].rate

    def learn(self, limits: Mapping[Kind, Limit]) -> None:
        """Use the limits in an answer's headers, unless the user set them."""
        self._begun.set()
        for kind, limit in limits.items():
            if kind not in self._given and (rate := limit.rate):
                self._clocks[kind].rate = rate * SHARE
                if kind == "requests":
                    self._guessed_at = None

    def answered(self, tokens: int, estimate: int) -> None:
        """Record an answer, with its tokens and the estimate that was used."""
        now = time.monotonic()
        self._refused, self._refused_since = 0, None
        self._answers += 1
        self._clocks["tokens"].spend(max(tokens - estimate, 0), now)
        clock = self._clocks["requests"]
        if clock.rate and self._guessed_at is not None:
            clock.rate *= 1 + GROWTH * min(now - self._guessed_at, 1.0)
            self._guessed_at = now

    def refused(self, wait: float | None) -> float:
        """Hold all prompts for as long as the service asks; return for how long it has refused."""
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        if now >= self._until:  # otherwise another prompt of the same burst was refused before
            self._refused += 1
            self._slow_down(now)
        if wait is None:
            wait = backoff(self._refused - 1, FIRST_PAUSE, LONGEST_PAUSE)
        self._until = max(self._until, now + wait)
        return now - self._refused_since

    def _slow_down(self, now: float) -> None:
        """Guess a rate if none is known: the rate of answers so far, reduced at each refusal."""
        clock = self._clocks["requests"]
        if "requests" in self._given or (clock.rate and self._guessed_at is None):
            return
        if clock.rate:
            clock.rate *= CUT
        else:
            clock.rate = max(self._answers / max(now - self._since, 0.001), MIN_RATE)
        self._guessed_at = now
