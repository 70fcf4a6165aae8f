"""The gateway's Responses, asked by OpenAI's own client; behind it a scripted model."""

import json

import pytest

from tests import test_seals
from tests.loopback import answer
from tests.protocols import OPENAI, completion, sse
from tests.test_openai_client import TWO_CALLS, client, library, raises

pytestmark = pytest.mark.usefixtures("sessions")
__all__ = ["client"]

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tell it.",
    "parameters": {"type": "object", "properties": {}},
    "strict": None,
}
ASKED = "What is the weather in Paris?"


async def test_it_streams(client, service):
    usage = sse(json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}))
    pieces = [completion({"reasoning_content": "Hm"}), *map(OPENAI.text, ("Hel", "lo ✓"))]
    service.on(OPENAI.path, answer(*pieces, completion(finish="stop"), usage, sse("[DONE]")))
    async with client.responses.stream(model="default", input=ASKED) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == final.output_text == "Hello ✓"
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output[0].summary[0].text == "Hm"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 2)
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == [
        *range(len([event for event in events if hasattr(event, "sequence_number")]))
    ]


async def test_it_answers_whole(client, service):
    service.on(OPENAI.path, OPENAI.whole("Hel", "lo"))
    told = {"instructions": "Be brief.", "temperature": 0.5, "max_output_tokens": 9}
    reply = await client.responses.create(model="openai:m", input=ASKED, **told)
    assert (reply.output_text, reply.status, reply.model) == ("Hello", "completed", "openai:m")
    sent = service.requests[0].json
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
    ]
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 9)


@pytest.mark.parametrize("stream", [False, True])
async def test_it_calls_tools_and_takes_their_results(client, service, stream):
    service.on(OPENAI.path, TWO_CALLS, OPENAI.whole("Sunny."))
    how = {"model": "default", "tools": [WEATHER]}
    if stream:
        async with client.responses.stream(input=ASKED, **how) as given:
            reply = await given.get_final_response()
    else:
        reply = await client.responses.create(input=ASKED, **how)
    calls = [item for item in reply.output if item.type == "function_call"]
    assert [(c.call_id, c.name, c.arguments) for c in calls] == [
        ("a", "weather", '{"city": "Paris"}'),
        ("b", "time", "{}"),
    ]
    function = {name: WEATHER[name] for name in ("name", "description", "parameters")}
    assert service.requests[0].json["tools"][0]["function"].items() >= function.items()
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "21 °C"}
        for call in calls
    ]
    told = [{"role": "user", "content": ASKED}, *reply.output, *results]
    after = await client.responses.create(input=told, **how)
    assert after.output_text == "Sunny."
    sent = service.requests[-1].json["messages"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["a", "b"]
    assert [one["content"] for one in sent[2:]] == ["21 °C", "21 °C"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "make", [test_seals.anthropic, test_seals.gemini, test_seals.openrouter, test_seals.responses]
)
async def test_what_the_models_service_wants_back_goes_through_the_client(
    client, service, monkeypatch, stream, make
):
    exchange = make()
    test_seals.speak(exchange)
    for name in ("ANTHROPIC_BASE_URL", "GEMINI_BASE_URL"):
        monkeypatch.setenv(name, service.url)
    service.on(exchange.path, answer(*exchange.pieces))
    if stream:
        async with client.responses.stream(model=exchange.model, input=ASKED) as given:
            said = (await given.get_final_response()).output
    else:
        said = (await client.responses.create(model=exchange.model, input=ASKED)).output
    result = {"type": "function_call_output", "call_id": "t1", "output": "Rain."}
    told = [{"role": "user", "content": ASKED}, *said, result]
    await client.responses.create(model=exchange.model, input=told)
    assert exchange.messages(service.requests[-1].json)[1:] == exchange.answer


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, "BadRequestError"), (429, "RateLimitError"), (500, "InternalServerError")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_gets_the_models_errors(client, service, status, error, stream):
    body = b'{"error": {"message": "because of this"}}'
    service.on(OPENAI.path, answer(body, status=status, Retry_After="3600"))
    with raises(error, match="because of this"):
        await client.responses.create(model="default", input=ASKED, stream=stream)


async def test_an_error_in_mid_stream_ends_the_response_as_failed(client, service):
    service.on(OPENAI.path, answer(OPENAI.text("so far"), OPENAI.error))
    stream = await client.responses.create(model="default", input=ASKED, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.failed"
    assert "the model fell over" in events[-1].response.error.message


async def test_an_answer_that_is_cut_is_incomplete(client, service):
    service.on(OPENAI.path, answer(*OPENAI.pieces("so far", reason="length")))
    reply = await client.responses.create(model="default", input=ASKED)
    assert (reply.status, reply.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"previous_response_id": "resp_1"}, "keeps no responses"),
        ({"store": True}, "stores nothing"),
        ({"background": True}, "answers at once"),
        ({"conversation": "conv_1"}, "keeps no conversations"),
        ({"input": [{"type": "item_reference", "id": "rs_1"}]}, "item_reference"),
    ],
)
async def test_what_would_have_to_be_kept_is_refused_with_a_reason(client, service, asked, says):
    with raises("BadRequestError", match=says):
        await client.responses.create(**{"model": "default", "input": ASKED, **asked})
    assert not service.requests


async def test_store_false_is_what_it_does(client, service):
    service.on(OPENAI.path, OPENAI.whole("Hi"))
    assert (await client.responses.create(model="default", input=ASKED, store=False)).output_text


async def test_images_and_files_are_passed_on(client, service):
    service.on(OPENAI.path, OPENAI.whole("Hi"))
    content = [
        {"type": "input_text", "text": "See"},
        {"type": "input_image", "image_url": "data:image/png;base64,cG5n", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
    ]  # fmt: skip
    asked = [{"role": "user", "content": content}]
    await client.responses.create(model="default", input=asked)
    text, image, file = service.requests[0].json["messages"][0]["content"]
    assert (text["text"], image["image_url"]["detail"]) == ("See", "low")
    assert file["file"]["filename"] == "a.pdf"


@pytest.mark.parametrize("given", [None, 7, [7], [{"role": "user", "content": [{"type": "x"}]}]])
async def test_an_input_that_is_none_is_refused(client, service, given):
    with raises("UnprocessableEntityError", "BadRequestError"):
        await client.responses.create(model="default", input=given)
    assert not service.requests


async def test_an_unknown_model_is_not_found(client):
    with raises("NotFoundError"):
        await client.responses.create(model="no-such-model", input=ASKED)


def test_the_client_is_openais():
    assert library().__title__ == "openai"
