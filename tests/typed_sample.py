"""The public API as its types say it is: `make wheel` checks this file against the wheel.

It is never run. What must be an error says so with an ignore, which mypy refuses where there is
none.
"""

from collections.abc import AsyncIterator
from typing import Any, Literal, assert_type

import ipychat
from ipychat import providers


async def ask() -> str:
    reply = await ipychat.ask("Why?", model="openai:gpt-4o-mini", chat="sky", temperature=0.2)
    assert_type(reply, ipychat.Reply)
    assert_type(reply.finish, str | None)
    assert_type(reply.cost, float | None)
    assert_type(reply.code, tuple[str, ...])
    if reply.usage:
        assert_type(reply.usage, ipychat.Usage)
    return str(reply)


async def stream() -> None:
    async for text in ipychat.stream("Why?", system="Be brief."):
        assert_type(text, str)
    async for event in ipychat.events([{"role": "user", "content": "Why?"}]):
        match event:
            case ipychat.Text(text) | ipychat.Reasoning(text):
                assert_type(text, str)
            case ipychat.FinishReason(reason):
                assert_type(reason, str)


async def many(column: list[str]) -> list[Any]:
    table = await ipychat.compare("Why?", ["anthropic", "openai"], first=True)
    for one in table:
        assert_type(one.reply, ipychat.Reply)
    results = await ipychat.map(column, "Good or bad? {{it}}", schema=Literal["good", "bad"])
    assert_type(results.errors, dict[int, ipychat.ChatError])
    assert_type(results.texts, list[str | None])
    assert_type(results[0].text, str)
    return results.values


def in_the_notebook() -> None:
    talk = ipychat.conversation("sky")
    talk.model = "openai:gpt-4o-mini"
    assert_type(talk.to_markdown(), str)
    assert_type(ipychat.panel(model="openai").busy, bool)
    ipychat.model_picker("openai:gpt-4o-mini")
    for offer in ipychat.models("mini"):
        assert_type(offer.state, str)
    assert_type(ipychat.secrets.mask("a text"), str)


@ipychat.register
class Backwards:
    """A provider of one's own."""

    @classmethod
    async def create_async_generator(
        cls, model: str, messages: providers.Messages, **options: Any
    ) -> AsyncIterator[str]:
        del model, options
        yield str(messages[-1]["content"])[::-1]


async def directly() -> None:
    messages: providers.Messages = [{"role": "user", "content": "a page with one button"}]
    async for _ in providers.RobocodersAPI.create_async_generator("FrontEndAgent", messages):
        pass
    async for _ in Backwards.create_async_generator("letters", messages):
        pass


async def mistakes() -> None:
    await ipychat.ask()  # type: ignore[call-arg]
    await ipychat.ask("Why?", model=1)  # type: ignore[arg-type]
    await ipychat.compare("Why?")  # type: ignore[call-arg]
    ipychat.nonsense  # type: ignore[attr-defined] # noqa: B018
    providers.Nonsense  # type: ignore[attr-defined] # noqa: B018
