"""AutonomousAI, beyond the contract."""

import base64
import json

import pytest

from ipychat import errors
from ipychat.messages import FinishReason, Text
from ipychat.providers import AutonomousAI
from tests.loopback import answer
from tests.protocols import completion, sse

pytestmark = pytest.mark.usefixtures("sessions")
MESSAGES = [{"role": "user", "content": "Grüße"}]


@pytest.fixture
def events(service, monkeypatch):
    monkeypatch.setenv("IPYCHAT_AUTONOMOUS_URL", service.url)

    async def run(model, *pieces, path="/api/v1/ai/chat", **options):
        service.on(path, answer(*(pieces or (completion({"content": "Hi"}, "stop"),))))
        given = AutonomousAI.create_async_generator(model=model, messages=MESSAGES, **options)
        return [event async for event in given]

    return run


@pytest.mark.parametrize(
    ("name", "model", "path"),
    [
        ("", "llama", "/api/v1/ai/chat"),
        ("llama-3.3-70b", "llama", "/api/v1/ai/chat"),
        ("qwen_coder", "qwen_coder", "/api/v1/ai/chat"),
        ("qwen-2.5-coder-32b", "qwen_coder", "/api/v1/ai/chat"),
        ("hermes-3", "hermes", "/api/v1/ai/chat-hermes"),
        ("llama-3.2-90b", "vision", "/api/v1/ai/chat-vision"),
        ("llama-3.2-70b", "summary", "/api/v1/ai/summary"),
    ],
)
async def test_each_model_and_alias_goes_to_its_endpoint(events, service, name, model, path):
    assert await events(name, path=path) == [Text("Hi"), FinishReason("stop")]
    [received] = service.requests
    body = received.json
    assert json.loads(base64.b64decode(body.pop("messages"))) == MESSAGES
    assert body == {"threadId": model, "stream": False, "aiAgent": model}
    assert received.headers["country-code"] == "US"
    assert received.headers["origin"] == "https://www.autonomous.ai"
    assert "Mozilla" in received.headers["user-agent"]
    assert received.headers["content-type"] == "application/json"


async def test_an_unknown_model_is_an_error_that_lists_the_valid_ones(events, service):
    with pytest.raises(errors.ModelNotSupportedError, match="llama, qwen_coder, hermes, vision"):
        await events("gpt-9")
    assert not service.requests


async def test_the_words_data_inside_an_answer_stay(events):
    text = "send data: like this\ndata: [DONE]\n"
    assert (await events("llama", completion({"content": text}, "stop")))[0] == Text(text)


async def test_a_finish_reason_at_the_top_level_counts(events):
    pieces = [
        completion({"content": "Hi"}),
        sse('{"choices": [{"delta": {}}], "finish_reason": "stop"}'),
    ]
    assert await events("llama", *pieces) == [Text("Hi"), FinishReason("stop")]


async def test_done_is_recognised(events):
    pieces = [completion({"content": "Hi"}, "stop"), sse("[DONE]"), sse("not json")]
    assert await events("llama", *pieces) == [Text("Hi"), FinishReason("stop")]


async def test_a_plain_json_body_is_accepted(events):
    body = b'{"choices": [{"message": {"role": "assistant", "content": "Hi"}}]}'
    assert await events("llama", body) == [Text("Hi"), FinishReason("stop")]


async def test_the_class_has_its_documented_attributes():
    assert AutonomousAI.url == "https://www.autonomous.ai/anon/"
    assert (
        AutonomousAI.api_endpoints["summary"] == "https://chatgpt.autonomous.ai/api/v1/ai/summary"
    )
    assert AutonomousAI.default_model == "llama"
    assert AutonomousAI.working is False
    assert AutonomousAI.supports_stream
    assert AutonomousAI.supports_system_message
    assert AutonomousAI.supports_message_history
    assert AutonomousAI.get_models() == ["llama", "qwen_coder", "hermes", "vision", "summary"]
