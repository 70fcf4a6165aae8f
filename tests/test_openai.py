"""Chat completions: what the contract, which holds for all, does not know of."""

import json

import pytest

from ipychat import ask, errors, messages
from ipychat.messages import FinishReason, Notice, Reasoning, Text, Usage
from ipychat.providers import OpenAI
from tests.loopback import END, FIN, HANG, answer, chunk, head
from tests.protocols import completion, sse

pytestmark = pytest.mark.usefixtures("sessions")
PATH = "/chat/completions"


@pytest.fixture
def events(service):
    async def run(*script, **options):
        service.on(PATH, list(script))
        given = OpenAI.create_async_generator(
            "m", [{"role": "user", "content": "?"}], base_url=service.url, **options
        )
        return [event async for event in given]

    return run


async def test_deltas_of_one_packet_are_one_event(events):
    packet = completion({"content": "a"}) + completion({"content": "b"}) + completion(finish="stop")
    assert await events(*answer(packet)) == [Text("ab"), FinishReason("stop")]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_kept_apart_and_in_order(events, field):
    packet = b"".join([
        completion({"role": "assistant", "content": ""}),
        completion({"content": None, field: "hm"}),
        completion({"content": "yes"}),
        completion({"content": "!", field: "more"}),
        completion({field: " alone"}),
        completion(finish="stop"),
    ])  # fmt: skip
    assert await events(*answer(packet)) == [
        Reasoning("hm"), Text("yes"), Reasoning("more"), Text("!"), Reasoning(" alone"),
        FinishReason("stop"),
    ]  # fmt: skip


async def test_usage_comes_from_a_chunk_without_choices(events):
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    last = sse(json.dumps({"choices": [], "usage": usage}))
    script = answer(completion({"content": "a"}), completion(finish="stop"), last, sse("[DONE]"))
    assert Usage(input=7, output=5, reasoning=3, cached=2) in await events(*script)


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
async def test_how_it_ended_is_told(events, reason):
    script = answer(completion({"content": "a"}), completion(finish=reason), sse("[DONE]"))
    assert (await events(*script))[-1] == FinishReason(reason)


async def test_a_refusal_is_text_and_said(events):
    script = answer(completion({"refusal": "I won't.", "content": None}), completion(finish="stop"))
    assert await events(*script) == [
        Notice("The model refuses."), Text("I won't."), FinishReason("stop"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        sse('{"choices": []}'),
        sse('{"choices": null}'),
        sse('{"choices": [{"delta": null, "finish_reason": null}]}'),
        sse('{"choices": [{"finish_reason": null}]}'),
        completion({"role": "assistant"}),
        completion({"content": None}),
        completion({"content": ""}),
        sse('{"object": "ping"}'),
    ],
)
async def test_legal_but_empty_chunks_are_nothing(events, odd):
    script = answer(odd, completion({"content": "a"}), odd, completion(finish="stop"), odd)
    assert await events(*script) == [Text("a"), FinishReason("stop")]


async def test_an_end_without_done_is_whole_after_a_finish_reason(events):
    script = answer(completion({"content": "a"}), completion(finish="stop"))
    assert await events(*script) == [Text("a"), FinishReason("stop")]


async def test_one_event_over_two_data_lines_is_whole(events):
    two = b'data: {"choices": [{"delta":\ndata: {"content": "a"}}]}\n\n'
    script = answer(two, completion(finish="stop"))
    assert await events(*script) == [Text("a"), FinishReason("stop")]


async def test_what_comes_after_done_is_not_waited_for(events):
    script = [head(), chunk(completion({"content": "a"}, "stop") + sse("[DONE]")), HANG]
    assert await events(*script, idle_timeout=5) == [Text("a"), FinishReason("stop")]


@pytest.mark.parametrize("how", [FIN, HANG])
async def test_a_connection_lost_after_the_finish_is_said_but_no_error(events, how):
    script = [head(), chunk(completion({"content": "a"}, "stop")), how]
    text, notice, finish = await events(*script, idle_timeout=0.3)
    assert (text, finish) == (Text("a"), FinishReason("stop"))
    assert "behind the answer" in notice.text


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_one_json_body_though_a_stream_was_asked_is_whole(events, content_type):
    body = {
        "choices": [
            {"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    script = answer(b"\n " + json.dumps(body).encode(), content_type=content_type)
    assert await events(*script) == [Text("Hello"), Usage(1, 2), FinishReason("stop")]


async def test_without_stream_one_json_body_is_asked_for(events, service):
    script = answer(b'{"choices": [{"message": {"content": "Hello"}}]}')
    assert await events(*script, stream=False) == [Text("Hello"), FinishReason("stop")]
    assert service.requests[0].json["stream"] is False


async def test_a_torn_json_body_is_an_error(events):
    with pytest.raises(errors.FormatError):
        await events(*answer(b'{"choices": [{"message": {"content": "Hel'))


async def test_a_torn_last_event_is_an_answer_that_broke_off(events):
    torn = completion({"content": "b"})[:-9]
    with pytest.raises(errors.BrokenAnswerError, match="in the middle of a line"):
        await events(*answer(completion({"content": "a"}), torn))
    text, notice, _ = await events(*answer(completion({"content": "a"}, "stop"), torn))
    assert text == Text("a")
    assert "behind the answer" in notice.text


async def test_an_error_in_a_list_is_told(events):
    with pytest.raises(errors.ServerError, match="no such luck"):
        await events(*answer(b'[{"error": {"message": "no such luck"}}]'))


@pytest.mark.parametrize("line", ["1,2", '"a"', "[1]", "null", '{"a": 1},{"b": 2}'])
async def test_a_payload_that_is_no_object_is_an_error(events, line):
    with pytest.raises(errors.FormatError):
        await events(*answer(completion({"content": "a"}), sse(line)))


async def test_the_body_has_the_model_the_messages_and_every_option(events, service):
    await events(*answer(completion(finish="stop")), temperature=0.5, stop=["x"])
    assert service.requests[0].json == {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "stop": ["x"],
    }


async def test_the_key_of_the_environment_goes_to_the_environments_address(monkeypatch, service):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-key")
    monkeypatch.setenv("OPENAI_BASE_URL", service.url + "/")
    service.on(PATH, answer(completion({"content": "a"}, "stop")))
    reply = await ask("?", model="openai:m")
    assert service.requests[0].headers["Authorization"] == "Bearer sk-environment-key"
    assert reply.text == "a"


async def test_the_key_of_the_environment_goes_to_no_other_address(monkeypatch, events, service):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-key")
    await events(*answer(completion(finish="stop")))
    assert "Authorization" not in service.requests[0].headers


async def test_without_a_key_openai_itself_is_not_asked():
    with pytest.raises(errors.MissingKeyError, match="OPENAI_API_KEY"):
        await ask("?", model="openai:m")
    assert "OPENAI_API_KEY" in OpenAI.missing(OpenAI.root())


async def test_a_key_is_masked_in_the_services_own_error(events):
    body = b'{"error": {"message": "Incorrect API key provided: sk-my-very-own-key."}}'
    with pytest.raises(errors.AuthenticationError) as caught:
        await events(
            *answer(body, status=401, content_type="application/json"), api_key="sk-my-very-own-key"
        )
    assert "sk-my-very-own-key" not in f"{caught.value} {caught.value!r}"
    assert "•••" in str(caught.value)


async def test_images_and_files_are_sent_as_parts(service):
    parts = (
        messages.TextPart("What is this?"),
        messages.ImagePart.of_bytes(b"png", "image/png"),
        messages.FilePart("a.pdf", b"pdf", "application/pdf"),
    )
    service.on(PATH, answer(completion(finish="stop")))
    await ask(messages.Message("user", parts), model="openai:m", base_url=service.url)
    assert service.requests[0].json["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"},
        },
    ]


async def test_a_clean_end_in_mid_answer_keeps_the_text(service):
    service.on(PATH, [head(), chunk(completion({"content": "so far"})), END])
    with pytest.raises(errors.BrokenAnswerError) as caught:
        await ask("?", model="openai:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


async def test_how_the_request_travels_is_no_part_of_its_body(events, service):
    travel = {"timeout": 5, "connect_timeout": 5, "idle_timeout": 5, "retries": 0}
    await events(*answer(completion(finish="stop")), temperature=0.5, **travel)
    assert set(service.requests[0].json) == {
        "model",
        "messages",
        "stream",
        "stream_options",
        "temperature",
    }


async def test_openai_itself_is_told_the_limit_of_tokens_in_its_newer_word(
    events, service, monkeypatch
):
    await events(*answer(completion(finish="stop")), max_tokens=5)
    monkeypatch.setattr(OpenAI, "base_url", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    await events(*answer(completion(finish="stop")), max_tokens=5)
    other, own = (request.json for request in service.requests)
    assert (other["max_tokens"], "max_completion_tokens" in other) == (5, False)
    assert (own["max_completion_tokens"], "max_tokens" in own) == (5, False)


async def test_a_thinking_part_is_reasoning(events):
    """Mistral's form."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
    parts = [thinking, {"type": "text", "text": "yes"}, {"type": "reference", "reference_ids": [1]}]
    packet = completion({"content": parts}) + completion({"content": "!"})
    script = answer(packet + completion(finish="stop"))
    assert await events(*script) == [Reasoning("hm"), Text("yes!"), FinishReason("stop")]
