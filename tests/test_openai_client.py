"""The gateway asked by OpenAI's own client, as other tools do; behind it a scripted model."""

import base64
import json

import pytest

from ipychat.gateway.backend import Backend
from ipychat.gateway.server import Gateway
from tests import test_seals
from tests.loopback import answer
from tests.protocols import PROTOCOLS, completion, sse
from tests.test_context_attachments import PNG

pytestmark = pytest.mark.usefixtures("sessions")
OPENAI = PROTOCOLS[0]
ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def library():
    """OpenAI's library, which takes a second to import: not in each worker that collects this file."""
    import openai

    return openai


def raises(*names: str, match: str | None = None):
    return pytest.raises(tuple(getattr(library(), name) for name in names), match=match)


@pytest.fixture
async def client(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    gateway = Gateway(Backend(model="openai:m"))
    root = await gateway.start()
    key = "sk-no-key-is-needed"
    async with library().AsyncOpenAI(
        base_url=f"{root}/openai/v1", api_key=key, max_retries=0
    ) as one:
        yield one
    await gateway.close()


def pieces_of_calls(*pieces: dict) -> list:
    deltas = [completion({"tool_calls": [piece]}) for piece in pieces]
    return answer(*deltas, OPENAI.finish("tool_calls"))


TWO_CALLS = pieces_of_calls(
    {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"city": '}},
    {"index": 0, "function": {"arguments": '"Paris"}'}},
    {"index": 1, "id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
)


async def test_it_streams(client, service):
    usage = sse(json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}))
    service.on(
        OPENAI.path,
        answer(*map(OPENAI.text, ("Hel", "lo ✓")), completion(finish="stop"), usage, sse("[DONE]")),
    )
    how = {"stream": True, "stream_options": {"include_usage": True}}
    stream = await client.chat.completions.create(model="default", messages=ASKED, **how)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello ✓"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.prompt_tokens == 3


async def test_it_answers_whole(client, service):
    service.on(OPENAI.path, OPENAI.whole("Hel", "lo"))
    reply = await client.chat.completions.create(model="openai:m", messages=ASKED)
    assert reply.choices[0].message.content == "Hello"
    assert reply.model == "openai:m"


async def test_it_lists_models(client):
    assert [model.id async for model in client.models.list()][:2] == ["default", "helper:notebook"]


@pytest.mark.parametrize("stream", [False, True])
async def test_it_calls_tools_and_takes_their_results(client, service, stream):
    service.on(OPENAI.path, TWO_CALLS, OPENAI.whole("Sunny."))
    asking = client.chat.completions.create
    if stream:
        async with client.chat.completions.stream(
            model="default", messages=ASKED, tools=[WEATHER]
        ) as given:
            reply = await given.get_final_completion()
    else:
        reply = await asking(model="default", messages=ASKED, tools=[WEATHER], tool_choice="auto")
        assert service.requests[0].json["tool_choice"] == "auto"
    assert service.requests[0].json["tools"] == [WEATHER]
    [choice] = reply.choices
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("a", "weather", '{"city": "Paris"}'),
        ("b", "time", "{}"),
    ]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "21 °C"} for call in calls]
    told = [*ASKED, choice.message, *results]
    after = await asking(model="default", messages=told, tools=[WEATHER])
    assert after.choices[0].message.content == "Sunny."
    sent = service.requests[-1].json["messages"]
    assert sent[1]["tool_calls"][0] == {
        "id": "a",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
    }
    assert sent[2:] == results


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("make", [test_seals.anthropic, test_seals.gemini, test_seals.openrouter])
async def test_what_the_models_service_wants_back_goes_through_the_client(
    client, service, monkeypatch, stream, make
):
    exchange = make()
    for name in ("ANTHROPIC_BASE_URL", "GEMINI_BASE_URL"):
        monkeypatch.setenv(name, service.url)
    service.on(exchange.path, answer(*exchange.pieces))
    asking = client.chat.completions
    if stream:
        async with asking.stream(model=exchange.model, messages=ASKED) as given:
            said = (await given.get_final_completion()).choices[0].message
    else:
        said = (await asking.create(model=exchange.model, messages=ASKED)).choices[0].message
    told = [*ASKED, said, test_seals.RESULT]
    await asking.create(model=exchange.model, messages=told)
    sent = exchange.messages(service.requests[-1].json)[1:]
    if make is test_seals.gemini:  # where the thought stood, a chat completion has no place for
        first = {"text": "", **sent[0]["parts"][1], "thoughtSignature": test_seals.SEALED}
        sent[0]["parts"][:2] = [first]
    assert sent == exchange.answer


@pytest.mark.parametrize("stream", [False, True])
async def test_sources_and_images_stand_beside_the_text(client, service, stream):
    cited = [{"url_citation": {"url": f"https://{n}.example", "title": n}} for n in ("a", "b")]
    image = {"image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
    pieces = [completion({"content": "Yes", "annotations": cited, "images": [image]})]
    service.on(OPENAI.path, answer(*pieces, completion(finish="stop"), sse("[DONE]")))
    asking = client.chat.completions
    if stream:
        async with asking.stream(model="default", messages=ASKED) as given:
            said = (await given.get_final_completion()).choices[0].message
    else:
        said = (await asking.create(model="default", messages=ASKED)).choices[0].message
    assert said.content == "Yes"
    assert [one.url_citation.title for one in said.annotations] == ["a", "b"]
    assert said.images[0]["image_url"]["url"] == image["image_url"]["url"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "BadRequestError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_gets_the_models_errors(client, service, status, error, stream):
    body = b'{"error": {"message": "because of this"}}'
    service.on(OPENAI.path, answer(body, status=status, Retry_After="3600"))
    with raises(error, match="because of this"):
        await client.chat.completions.create(model="default", messages=ASKED, stream=stream)


async def test_it_gets_an_error_in_mid_answer(client, service):
    service.on(OPENAI.path, answer(OPENAI.text("so far"), OPENAI.error))
    stream = await client.chat.completions.create(model="default", messages=ASKED, stream=True)
    text = ""
    with raises("APIError", match="the model fell over"):
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text == "so far"


async def test_an_unknown_model_is_not_found(client):
    with raises("NotFoundError", match="nonsense"):
        await client.chat.completions.create(model="nonsense", messages=ASKED)


@pytest.mark.parametrize("asked", [{"messages": []}, {"n": 2}, {"logprobs": True}])
async def test_what_it_cannot_do_is_refused(client, service, asked):
    with raises("BadRequestError", "UnprocessableEntityError"):
        await client.chat.completions.create(**{"model": "default", "messages": ASKED, **asked})
    assert not service.requests


async def test_no_address_or_key_of_a_clients_goes_to_the_model(client, service):
    service.on(OPENAI.path, OPENAI.whole("Hello"))
    own = {"base_url": "http://127.0.0.1:9", "api_key": "another", "proxy": "http://127.0.0.1:9"}
    reply = await client.chat.completions.create(model="default", messages=ASKED, extra_body=own)
    assert reply.choices[0].message.content == "Hello"
    assert not own.keys() & service.requests[0].json.keys()
