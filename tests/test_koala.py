"""Koala, beyond the contract."""

import json

import aiohttp
import pytest

from ipychat import errors
from ipychat.providers import Koala, get_random_string
from tests.loopback import answer
from tests.protocols import sse

pytestmark = pytest.mark.usefixtures("sessions")


class FakeResponse:
    """The documents' example: a content with nothing but `__aiter__`."""

    def __init__(self, *pieces: bytes) -> None:
        self.content = self
        self._pieces = pieces

    async def __aiter__(self):
        for piece in self._pieces:
            yield piece


async def parsed(*pieces: bytes) -> list:
    return [payload async for payload in Koala._parse_event_stream(FakeResponse(*pieces))]


async def test_three_pieces_without_line_ends_are_three_objects():
    pieces = [b'data: {"text": "Hello"} ', b'data: {"text": "my"} ', b'data: {"text": "friend"} ']
    assert await parsed(*pieces) == [{"text": "Hello"}, {"text": "my"}, {"text": "friend"}]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_a_real_stream_is_right_however_it_is_cut(size):
    texts = ["Hello", ' data: {"a": 1} ', "✓\n", ""]
    stream = b"".join(sse(json.dumps(text)) for text in texts) + sse("[DONE]")
    assert await parsed(*(stream[i : i + size] for i in range(0, len(stream), size))) == texts


@pytest.fixture
def ask(service, monkeypatch):
    monkeypatch.setenv("IPYCHAT_KOALA_URL", service.url)
    service.on("/api/gpt/", answer(sse('"Hi"'), sse('{"text": "!"}')))

    async def run(messages, **options):
        given = Koala.create_async_generator(model="", messages=messages, **options)
        return [piece async for piece in given]

    return run


async def test_it_yields_on_what_the_service_sends(ask):
    assert await ask([{"role": "user", "content": "Hello"}]) == ["Hi", {"text": "!"}]


async def test_the_body_is_the_documented_one(ask, service):
    await ask([
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Three"}]},
    ])  # fmt: skip
    assert service.requests[0].json == {
        "input": "Three Be short. Be kind.",
        "inputHistory": ["One"],
        "outputHistory": ["Two"],
        "model": "gpt-4o-mini",
    }


async def test_without_system_texts_the_input_is_the_last_message_alone(ask, service):
    await ask([{"role": "user", "content": "Hello"}])
    assert service.requests[0].json["input"] == "Hello"


async def test_the_headers_are_the_documented_ones_and_the_visitor_is_new_each_time(ask, service):
    for _ in range(2):
        await ask([{"role": "user", "content": "Hello"}])
    one, two = (request.headers for request in service.requests)
    assert one["Accept-Encoding"] == "gzip, deflate, br"
    assert "Firefox/122.0" in one["User-Agent"]
    assert one["Accept"] == "text/event-stream"
    assert one["Referer"] == "https://koala.sh/chat"
    assert one["TE"] == "trailers"
    assert len(one["Visitor-ID"]) == 20
    assert one["Visitor-ID"].isalnum()
    assert one["Visitor-ID"] != two["Visitor-ID"]


async def test_a_connector_of_the_callers_own_is_used_and_not_closed(ask):
    async with aiohttp.TCPConnector() as connector:
        assert await ask([{"role": "user", "content": "Hello"}], connector=connector)
        assert not connector.closed


async def test_brotli_is_undone(ask, service):
    import brotli

    packed = brotli.compress(sse('"packed"'))
    service.on("/api/gpt/", answer(packed, Content_Encoding="br"))
    assert await ask([{"role": "user", "content": "Hello"}]) == ["packed"]


async def test_an_unknown_model_is_an_error():
    with pytest.raises(errors.ModelNotSupportedError, match="gpt-4o-mini"):
        async for _ in Koala.create_async_generator("gpt-9", [{"role": "user", "content": "?"}]):
            pass


def test_random_strings_have_the_length_asked_for():
    assert len(get_random_string()) == 10
    assert len(get_random_string(20)) == 20
    assert get_random_string(20) != get_random_string(20)
