"""What the author of a provider tests: that it answers as any other does."""

import pytest

import ipychat


async def test_it_says_again_what_it_was_told():
    reply = await ipychat.ask("hello you", model="parrot:loud")
    assert (reply.text, reply.finish, reply.usage.output) == ("HELLO YOU ", "stop", 2)


async def test_it_streams():
    texts = [text async for text in ipychat.stream("one two", model="parrot:quiet")]
    assert texts == ["one ", "two "]


async def test_its_options_come_from_the_call():
    with pytest.raises(ipychat.ChatError, match="can't wait"):
        await ipychat.ask("hello", model="parrot:quiet", pause=-1)


async def test_a_model_that_it_has_not_is_an_error_that_lists_its_models():
    with pytest.raises(ipychat.ChatError, match="quiet, loud"):
        await ipychat.ask("hello", model="parrot:dead")
