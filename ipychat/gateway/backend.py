"""Who answers in place of a service: an agent's instructions over the default model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ipychat.catalog import receipts, registry, resolve, routes
from ipychat.chat.answer import Answer
from ipychat.gateway import _seals
from ipychat.gateway.agents import AGENTS, Sees
from ipychat.messages import (
    CUT_OFF,
    Event,
    FinishReason,
    Message,
    ModelId,
    Question,
    Text,
    Usage,
)
from ipychat.store import ledger

GATEWAY = "(the gateway)"
"""Stands in the ledger for a conversation."""
MAX_CONTINUATIONS = 4
"""How often an answer that its model cut off is continued."""
CONTINUE = "Go on exactly where you stopped, without repeating anything."


class Backend(NamedTuple):
    """What stands behind a gateway."""

    model: str | None = None
    """Who answers; None: whom the default rules choose, at each request."""
    repository: Path | None = None
    """The folder that RepoAgent may read."""
    notebook: bool = False
    """Whether agents may see what the notebook has defined."""

    def model_id(self) -> ModelId:
        """Return who answers now."""
        return resolve.resolve(self.model) if self.model else resolve.answering()

    async def ask(
        self, agent: str, messages: tuple[Message, ...], options: dict[str, Any] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Let `agent` answer; a name that is no agent's adds no instructions."""
        model = self.model_id()
        if model.provider != registry.HELPER:  # which follows no instructions
            messages = (*[m async for m in self._instructions(agent, messages)], *messages)
        given = MappingProxyType(options or {})
        question = Question(model, messages, given, routes.find(model, given))
        origin = receipts.origin(question)
        answer = Answer(question, fallbacks=False)
        async with contextlib.aclosing(answer.events(keeps=False)) as events:
            async for event in events:
                if isinstance(event, Usage):  # what it is relayed by may have no place for it
                    ledger.add(model, event, chat=GATEWAY)
                yield _seals.closed(event, origin)

    async def ask_whole(
        self, agent: str, messages: tuple[Message, ...]
    ) -> AsyncGenerator[Event, None]:
        """As `ask`, but an answer that its model cut off is continued, up to a bound."""
        for left in range(MAX_CONTINUATIONS, -1, -1):
            said: list[str] = []
            finish = FinishReason("stop")
            async with contextlib.aclosing(self.ask(agent, messages)) as events:
                async for event in events:
                    match event:
                        case FinishReason():
                            finish = event
                            continue
                        case Text(text):
                            said.append(text)
                    yield event
            if finish.reason == "length" and said and left:
                so_far = Message("assistant", "".join(said))
                messages = (*messages, so_far, Message("user", CONTINUE))
                continue
            if remark := CUT_OFF.get(finish.reason):  # the protocol has no other place for it
                parts = f", after {MAX_CONTINUATIONS} more parts" if said and not left else ""
                yield Text(f"\n\n*({remark}{parts}.)*")
            yield finish
            return

    async def _instructions(
        self, agent: str, messages: tuple[Message, ...]
    ) -> AsyncIterator[Message]:
        known = AGENTS.get(agent)
        if known is None:
            return
        seen = ""
        if known.sees is Sees.NOTEBOOK and self.notebook:
            from ipychat.context.notebook import describe

            seen = describe()
        elif known.sees is Sees.REPOSITORY:
            from ipychat.context import repository

            asked = messages[-1].text if messages else ""
            folder = self.repository
            seen = await repository.describe(folder, asked) if folder else NO_REPOSITORY
        yield Message("system", "\n\n".join(filter(None, [known.instructions, seen])))


NO_REPOSITORY = "You were given no repository: say so, and that the gateway takes one with --repo."
