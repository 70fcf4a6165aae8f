"""The budget of a run: reserved before a prompt is sent, settled when it is answered."""

from __future__ import annotations

import asyncio

from ipychat.batch.asker import Answered
from ipychat.catalog import lists, routes
from ipychat.errors import UsageError
from ipychat.messages import Question, Usage, dollars

ASSUMED_TOKENS = 500
"""Tokens of an answer if nothing limits them and no answer has arrived yet."""


class Sum:
    """A sum that is unknown if one of its amounts is."""

    def __init__(self) -> None:
        self.amount: float | None = 0.0

    def add(self, amount: float | None) -> None:
        """Add an amount."""
        if amount is None or self.amount is None:
            self.amount = None
        else:
            self.amount += amount


class Budget:
    """Money left to spend; answers in progress are counted at their estimated price."""

    def __init__(self, most: float | None, base: Question) -> None:
        self._most = most
        self._base = base
        self._spent = 0.0
        self._reserved: dict[int, float] = {}
        self._settled = asyncio.Event()
        self._longest = longest(base)
        self._seen = 0
        self._is_known = False
        self._more = 1.0
        """The factor by which prompts have exceeded their estimated tokens."""
        if most is not None and routes.cost(base, Usage(1, 1)) is None:
            raise UsageError(f"max_cost can't be enforced: the price of {base.model} is unknown.")

    def __str__(self) -> str:
        return f"is left of max_cost, {dollars(self._most or 0)}: {dollars(self._spent)} are spent"

    def _estimate(self, question: Question) -> float:
        read = round(lists.estimate_tokens(question) * self._more)
        written = self._longest or 2 * self._seen or ASSUMED_TOKENS
        return routes.cost(self._base, Usage(read, written)) or 0.0

    async def reserve(self, key: int, question: Question) -> bool:
        """Reserve an answer's cost once there is enough money; False if there never will be.

        The first prompt is sent alone: its cost shows how good the estimates are.
        """
        if self._most is None:
            return True
        while (self._reserved and not self._is_known) or self._spent + sum(
            self._reserved.values()
        ) + self._estimate(question) > self._most:
            if not self._reserved:
                return False
            self._settled.clear()
            await self._settled.wait()
        self._reserved[key] = self._estimate(question)
        return True

    def release(self, key: int) -> None:
        """Release a reservation that was not spent."""
        self._reserved.pop(key, None)
        self._settled.set()

    def settle(self, key: int, question: Question, answered: Answered) -> None:
        """Replace a reservation by the actual cost."""
        reserved = self._reserved.pop(key, 0.0)
        usage = answered.usage
        self._spent += reserved if usage is None or usage.cost is None else usage.cost
        if usage:
            self._seen = max(self._seen, usage.output)
            read = usage.input / max(lists.estimate_tokens(question), 1)
            self._more = max(self._more, read / max(answered.attempts, 1))
        self._is_known = True
        self._settled.set()


def longest(base: Question) -> int | None:
    """Return the limit of an answer's tokens, if the options set one."""
    given = [base.options.get(name) for name in ("max_tokens", "max_completion_tokens")]
    return next((one for one in given if isinstance(one, int)), None)
