"""stream, events, ask; what providers may yield; prompts of every form."""

import asyncio
import contextlib

import pytest

import ipychat
from ipychat import errors
from ipychat.catalog import registry
from ipychat.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    Notice,
    Reasoning,
    Text,
    TextPart,
    ToolCall,
    Usage,
    parse_messages,
)
from ipychat.providers import format_prompt


@pytest.fixture
def yields(monkeypatch):
    """Register a provider that yields what it is told to, as `test`."""
    monkeypatch.setattr(registry, "_registered", {})

    def use(*pieces, **attributes):
        class Test:
            closed = False

            @classmethod
            async def create_async_generator(cls, model, messages, **options):
                try:
                    for piece in pieces:
                        if isinstance(piece, BaseException):
                            raise piece
                        await asyncio.sleep(0)
                        yield piece
                finally:
                    cls.closed = True

        for name, value in attributes.items():
            setattr(Test, name, value)
        registry.register(Test)
        return Test

    return use


async def test_stream_gives_text_only(yields):
    yields("a", Reasoning("hm"), {"text": "b"}, Notice("n"), {"content": "c"}, Text("d"), "")
    assert [text async for text in ipychat.stream("?", model="test:m")] == ["a", "b", "c", "d"]


async def test_events_gives_all_and_the_finish_last(yields):
    yields(FinishReason("length"), "a", Usage(1, 2))
    given = [event async for event in ipychat.events("?", model="test:m")]
    assert given == [Text("a"), Usage(1, 2), FinishReason("length")]


async def test_ask_returns_a_reply_with_everything(yields):
    call = ToolCall("1", "f", "{}")
    yields(Reasoning("hm"), "a", "b", call, Usage(1, 2), Notice("n"))
    reply = await ipychat.ask("?", model="test:m", system="Be short.", temperature=1)
    assert str(reply) == reply.text == "ab"
    assert reply.reasoning == "hm"
    assert reply.tool_calls == (call,)
    assert reply.usage == Usage(1, 2)
    assert reply.notices == ("n",)
    assert reply.finish == "stop"
    assert (reply.provider, str(reply.model)) == ("test", "test:m")
    assert [m.role for m in reply.request.messages] == ["system", "user"]
    assert reply.request.options == {"temperature": 1}
    assert 0 <= reply.first_text <= reply.seconds


async def test_closing_a_stream_closes_the_provider(yields):
    provider = yields("a", "b")
    async with contextlib.aclosing(ipychat.stream("?", model="test:m")) as given:
        await anext(given)
    assert provider.closed


async def test_an_error_carries_what_came_before(yields):
    yields("so far", errors.ServerError("it fell over"))
    with pytest.raises(errors.ServerError) as caught:
        await ipychat.ask("?", model="test:m")
    assert caught.value.reply.text == "so far"


async def test_a_providers_own_bug_is_one_line_with_its_traceback_chained(yields):
    yields("so far", KeyError("choices"))
    with pytest.raises(errors.AnswerError, match="Test failed with KeyError: 'choices'") as caught:
        await ipychat.ask("?", model="test:m")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize("piece", [7, None, b"bytes", {"other": "x"}, {"text": 7}])
async def test_a_provider_that_yields_something_else_is_told(yields, piece):
    yields(piece)
    with pytest.raises(errors.FormatError, match="neither text"):
        await ipychat.ask("?", model="test:m")


@pytest.mark.parametrize("reason", ["", "\x1b"])
async def test_a_finish_without_a_reason_is_the_end_and_nobody_is_asked_again(yields, reason):
    yields("a", FinishReason(reason))
    async with asyncio.timeout(5):
        reply = await ipychat.ask("?", model="test:m")
    assert reply.text == "a"
    assert reply.finish


async def test_a_provider_that_must_say_its_finish_and_does_not_was_cut_off(yields):
    yields("a", ends_with="finish")
    with pytest.raises(errors.BrokenAnswerError):
        await ipychat.ask("?", model="test:m")


async def test_a_provider_that_returns_a_plain_async_iterator_is_asked_too(yields):
    class Iterator:
        left = 2

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return "a"

    yields(create_async_generator=lambda **_: Iterator())
    assert str(await ipychat.ask("?", model="test:m")) == "aa"


async def test_a_provider_that_returns_no_iterator_is_told(yields):
    yields(create_async_generator=lambda **_: "text")
    with pytest.raises(errors.UsageError, match="returned str, not an async iterator"):
        await ipychat.ask("?", model="test:m")


@pytest.mark.parametrize("prompt", ["", "  \n", [], [{"role": "user", "content": ""}]])
async def test_an_empty_prompt_is_an_error_before_anything_is_sent(prompt):
    with pytest.raises(errors.UsageError, match="empty"):
        await ipychat.ask(prompt, model="openai:m")


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("Hi", [Message("user", "Hi")]),
        (Message("system", "Hi"), [Message("system", "Hi")]),
        ({"role": "assistant", "content": "Hi"}, [Message("assistant", "Hi")]),
        (["a", {"role": "user", "content": "b"}], [Message("user", "a"), Message("user", "b")]),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b", TextPart("c")]},
            [Message("user", (TextPart("a"), TextPart("b"), TextPart("c")))],
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "http://x/y.png"}},
                    {"type": "file", "file": {"filename": "a", "file_data": "data:t/x;base64,YQ=="}},
                ],
            },
            [Message("user", (ImagePart("http://x/y.png"), FilePart("a", b"a", "t/x")))],
        ),
        ([{"role": "assistant", "content": None}, "a"], [Message("assistant", ""), Message("user", "a")]),
    ],
)  # fmt: skip
def test_a_prompt_of_any_form_becomes_messages_and_these_dicts_again(prompt, messages):
    parsed = parse_messages(prompt)
    assert list(parsed) == messages
    assert parse_messages([m.to_dict() for m in parsed]) == parsed


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (7, "not int"),
        ([7], "not int"),
        ({"content": "no role"}, "role and content"),
        ({"role": "robot", "content": "x"}, "not 'robot'"),
        ({"role": "user", "content": 7}, "not int"),
        ({"role": "user", "content": b"x"}, "not bytes"),
        ({"role": "user", "content": [7]}, "dict with a type"),
        ({"role": "user", "content": [{"type": "audio"}]}, "'audio' can't be sent"),
        ({"role": "user", "content": [{"type": "file", "file": {"filename": "a", "file_data": "b"}}]},
         "base64 data URL"),
        ({"role": "user", "content": [
            {"type": "file", "file": {"filename": "a", "file_data": "data:t/x;base64,@"}}]},
         "not base64"),
    ],
)  # fmt: skip
def test_what_is_no_prompt_is_an_error_that_says_why(prompt, says):
    with pytest.raises(errors.UsageError, match=says):
        parse_messages(prompt)


def test_a_prompt_of_one_message_is_its_text_alone():
    assert format_prompt([{"role": "user", "content": "Hello"}]) == "Hello"


def test_a_prompt_of_several_messages_has_a_line_each_and_asks_for_the_next():
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "  "},
    ]
    assert format_prompt(messages) == "System: Be short.\nUser: Hi\nAssistant:"
