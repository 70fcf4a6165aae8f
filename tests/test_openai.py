"""Chat completions: what the contract, which holds for all, does not know of."""

import asyncio
import json
import time
from urllib.parse import urlsplit

import pytest

from ipychat import ask, errors, messages
from ipychat.messages import FinishReason, Notice, Reasoning, Source, Text, ToolCall, Usage
from ipychat.providers import OpenAI
from ipychat.providers.openai import compatible
from ipychat.providers.presets import PRESETS
from ipychat.wire import content, http
from tests.loopback import END, FIN, HANG, answer, chunk, head
from tests.protocols import CUTS, OPENAI, completion, sse

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
    assert "%chat_login openai" in OpenAI.missing(OpenAI.root())


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


@pytest.mark.parametrize(
    ("root", "word"),
    [
        ("http://api.openai.com/v1", "max_completion_tokens"),
        ("http://us.API.openai.com/v1/", "max_completion_tokens"),
        ("http://api.openai.com:80", "max_completion_tokens"),
        ("http://api.openai.com.example.org", "max_tokens"),
        ("http://my-api.openai.com", "max_tokens"),
        ("http://example.org/api.openai.com", "max_tokens"),
    ],
)
async def test_openai_itself_is_told_the_limit_of_tokens_in_its_newer_word(service, root, word):
    path = f"{urlsplit(root).path.rstrip('/')}{PATH}"
    service.on(path, OPENAI.whole("Yes"))
    how = {"base_url": root, "proxy": service.url, "max_tokens": 5}
    assert [event async for event in OpenAI.create_async_generator("m", "?", **how)]
    assert {name: n for name, n in service.requests[0].json.items() if "max" in name} == {word: 5}


async def test_an_option_that_is_none_is_not_sent(events, service):
    await events(*OPENAI.whole("Yes"), temperature=None, stop=None, max_tokens=None)
    assert set(service.requests[0].json) == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize("nothing", [None, {}])
async def test_usage_is_not_asked_for_where_the_user_or_the_service_does_not_want_it(
    events, service, nothing
):
    await events(*OPENAI.whole("Yes"), stream_options=nothing)
    mistral = compatible("mistral", PRESETS["mistral"])
    asking = mistral.create_async_generator("m", "?", base_url=service.url)
    assert [event async for event in asking]
    assert not any("stream_options" in request.json for request in service.requests)


async def test_usage_that_is_wanted_in_other_words_is_asked_for_in_these(events, service):
    await events(*OPENAI.whole("Yes"), stream_options={"include_obfuscation": False})
    assert service.requests[0].json["stream_options"] == {"include_obfuscation": False}


# -- files


def asking_about(*files):
    return [messages.Message.asking("?", files).to_dict()]


async def test_a_file_of_text_is_sent_as_text_with_its_name_above_it(service):
    service.on(PATH, OPENAI.whole("Yes"))
    file = messages.FilePart("a.csv", "\ufeffx,ü".encode(), "text/csv")
    given = OpenAI.create_async_generator("m", asking_about(file), base_url=service.url)
    assert [event async for event in given]
    assert service.requests[0].json["messages"][0]["content"] == [
        {"type": "text", "text": "a.csv:\nx,ü"},
        {"type": "text", "text": "?"},
    ]


async def test_mistral_takes_a_pdf_in_its_own_form(service):
    service.on(PATH, OPENAI.whole("Yes"))
    mistral = compatible("mistral", PRESETS["mistral"])
    file = messages.FilePart("a.pdf", b"pdf", "application/pdf")
    given = mistral.create_async_generator("m", asking_about(file), base_url=service.url)
    assert [event async for event in given]
    assert service.requests[0].json["messages"][0]["content"][0] == {
        "type": "document_url",
        "document_url": "data:application/pdf;base64,cGRm",
        "document_name": "a.pdf",
    }


@pytest.mark.parametrize(
    "file",
    [
        messages.FilePart("a.zip", b"PK\0", "application/zip"),
        messages.FilePart("a.png", b"\x89PNG", "image/png"),
    ],
)
async def test_a_file_that_can_not_be_sent_is_an_error_that_says_what_can(service, file):
    given = OpenAI.create_async_generator("m", asking_about(file), base_url=service.url)
    with pytest.raises(errors.UsageError, match="OpenAI takes images, PDFs, and files of text"):
        await anext(given)
    assert not service.requests


@pytest.mark.heavy
async def test_a_large_file_does_not_hold_the_loop(service):
    service.on(PATH, OPENAI.whole("Yes"))
    asked = asking_about(messages.FilePart("a.pdf", bytes(20 << 20), "application/pdf"))
    gaps = []

    async def meter():
        last = time.process_time()  # what the machine does for others holds no loop
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            gaps.append(now - last)
            last = now

    http.session()  # loads the client
    measuring = asyncio.create_task(meter())
    given = OpenAI.create_async_generator("m", asked, base_url=service.url)
    assert Text("Yes") in [event async for event in given]
    measuring.cancel()
    assert max(gaps) < 0.15  # 0.3 where all is done at once; 0.02 on a machine that is idle
    sent = service.requests[0].json["messages"][0]["content"][0]
    assert sent == asked[0]["content"][0]


# -- what is no answer


@pytest.mark.parametrize(
    ("said", "error", "says"),
    [
        ({}, errors.FormatError, "without an answer"),
        ({"ok": True}, errors.FormatError, "without an answer"),
        ({"choices": []}, errors.FormatError, "without an answer"),
        ({"choices": None}, errors.FormatError, "without an answer"),
        ({"choices": [{}]}, errors.FormatError, "without an answer"),
        ({"choices": [{"finish_reason": "stop"}]}, errors.FormatError, "without an answer"),
        ({"detail": "Not Found"}, errors.ServerError, "Not Found"),
        ({"message": "no such model"}, errors.ServerError, "no such model"),
        ({"choices": [], "message": "too busy"}, errors.ServerError, "too busy"),
        ({"object": "error", "message": "not loaded"}, errors.ServerError, "not loaded"),
        ({"error": "no"}, errors.ServerError, "no"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_body_without_an_answer_is_an_error(service, said, error, says, stream):
    service.on(PATH, answer(json.dumps(said).encode(), content_type="application/json"))
    with pytest.raises(error, match=says):
        await ask("?", model="openai:m", base_url=service.url, stream=stream)


DIED = {"message": "upstream died", "code": 502}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (completion({"content": ""}, "error", error=DIED), "upstream died"),
        (sse(json.dumps({"choices": [{"delta": {}, "error": DIED}]})), "upstream died"),
        (
            sse(json.dumps({"choices": [{"finish_reason": "error", "error": DIED}]})),
            "upstream died",
        ),
        (completion(finish="error"), r"with an error\."),
        (sse('{"object": "error", "message": "out of memory", "code": 500}'), "out of memory"),
        (b'event: error\ndata: {"message": "out of memory", "code": 500}\n\n', "out of memory"),
        (sse('{"detail": "gone"}'), "gone"),
    ],
)
async def test_an_error_in_any_of_its_forms_is_the_services_and_the_text_is_kept(
    service, line, says
):
    service.on(PATH, answer(completion({"content": "so far"}), line, sse("[DONE]")))
    with pytest.raises(errors.ServerError, match=says) as caught:
        await ask("?", model="openai:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


async def test_an_error_that_a_service_writes_at_length_is_cut(events):
    body = json.dumps({"error": {"message": "long \n" * 100_000}}).encode()
    with pytest.raises(errors.ServerError) as caught:
        await events(*answer(body))
    assert str(caught.value).endswith(" …")
    assert len(str(caught.value)) < 400


# -- what comes behind the answer


async def test_an_answer_that_is_whole_is_not_held_by_a_connection_that_stays_open(
    events, monkeypatch
):
    monkeypatch.setattr(content, "REST", 0.3)
    usage = sse('{"choices": [], "usage": {"prompt_tokens": 1}}')
    pings = [step for _ in range(100) for step in (chunk(b": ping\n\n"), 0.05)]
    script = [head(), chunk(completion({"content": "a"}, "stop")), chunk(usage), *pings]
    begin = time.monotonic()
    text, notice, counted, finish = await events(*script)
    assert time.monotonic() - begin < 2
    assert (text, counted, finish) == (Text("a"), Usage(1), FinishReason("stop"))
    assert "behind the answer" in notice.text


CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (sse('{"error": {"message": "too late"}}'), "too late"),
        (sse('{"usage":'), "not valid JSON"),
        (sse('{"choices": "x"}'), "none of its protocol"),
        (sse('{"detail": "too late"}'), "too late"),
    ],
)
async def test_what_goes_wrong_behind_the_answer_is_said_and_takes_nothing_from_it(
    events, line, says
):
    script = answer(completion(CALL), completion(finish="tool_calls"), line)
    notice, call, finish = await events(*script)
    assert "behind the answer: " in notice.text
    assert says in notice.text
    assert (call, finish) == (messages.ToolCall("c", "f", "{}"), FinishReason("tool_calls"))


@pytest.mark.parametrize("blank", [b"data:\n\n", b"data: \n\n", b"data:  \t\n\n"])
async def test_blank_data_is_skipped(events, blank):
    pieces = [blank, completion({"content": "a"}), blank + completion(finish="stop"), blank]
    assert await events(*answer(*pieces)) == [Text("a"), FinishReason("stop")]


@pytest.mark.parametrize("done", ["[DONE] ", "  [DONE]", "[DONE]\t"])
async def test_done_counts_with_blanks_around_it(events, done):
    packet = completion({"content": "a"}, "stop") + sse(done) + sse("more")
    script = [head(), chunk(packet), HANG]
    assert await events(*script) == [Text("a"), FinishReason("stop")]


async def test_megabytes_of_blanks_before_the_answer_cost_little(events):
    blanks = [chunk(b"\n" * 8192)] * 1000
    begin = time.process_time()
    pieces = [chunk(completion({"content": "a"}, "stop")), END]
    assert await events(head(), *blanks, *pieces) == [Text("a"), FinishReason("stop")]
    assert time.process_time() - begin < 5


# -- counts


@pytest.mark.parametrize(
    ("count", "read"),
    [
        (7, 7),
        (7.0, 7),
        *((odd, 0) for odd in (7.5, -7, True, "7", [7], {}, None, 1e300, 10**13, 10**400)),
        (float("nan"), 0),
        (float("inf"), 0),
    ],
)
async def test_a_count_that_can_not_be_read_is_none_and_no_error(events, count, read):
    usage = {"prompt_tokens": count, "completion_tokens": 1}
    script = answer(completion({"content": "a"}, "stop", usage=usage))
    assert await events(*script) == [Text("a"), Usage(read, 1), FinishReason("stop")]


@pytest.mark.parametrize("usage", ["x", 7, ["x"], {"completion_tokens_details": 7}])
async def test_usage_of_another_form_is_no_error(events, usage):
    script = answer(completion({"content": "a"}, "stop", usage=usage))
    events = await events(*script)
    assert (events[0], events[-1]) == (Text("a"), FinishReason("stop"))


@pytest.mark.parametrize(
    ("cost", "read"),
    [
        (0, 0),
        (0.25, 0.25),
        *((odd, None) for odd in (-1, 1e6, True, "1", [], 10**400, float("nan"), float("inf"))),
    ],
)
async def test_a_cost_that_is_no_sum_of_money_is_not_known(events, cost, read):
    usage = {"prompt_tokens": 1, "cost": cost}
    script = answer(completion({"content": "a"}, "stop", usage=usage))
    assert Usage(1, cost=read) in await events(*script)


@pytest.mark.parametrize(("total", "output"), [(20, 12), (15, 5), (None, 5)])
async def test_thoughts_that_a_service_does_not_count_as_written_are_added(events, total, output):
    """xAI's form; only its total tells."""
    usage = {
        "prompt_tokens": 8,
        "completion_tokens": 5,
        "total_tokens": total,
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    script = answer(completion({"content": "a"}, "stop", usage=usage))
    assert Usage(8, output, reasoning=7) in await events(*script)


# -- tool calls


def pieces_of(*pieces):
    given = [
        {"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}
        for index, id_, name, arguments in pieces
    ]
    return b"".join(completion({"tool_calls": [one]}) for one in given)


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([(0, "a", "f", "{"), (0, None, None, "}")], [("a", "f", "{}")]),
        ([(0, "a", "f", "1"), (1, "b", "g", "2"), (0, "", "", "3")], [("a", "f", "13"), ("b", "g", "2")]),
        ([(None, "a", "f", "1"), (None, "b", "g", "2"), (None, "a", None, "3")], [("a", "f", "13"), ("b", "g", "2")]),
        ([(None, None, "f", "1"), (None, "a", None, "2"), (None, None, None, "3")], [("a", "f", "123")]),
        ([(0, "a", "f", "1"), (0, "b", "g", "2"), (0, "a", None, "3")], [("a", "f", "13"), ("b", "g", "2")]),
        ([(0, None, "f", "1"), (0, "a", None, "2")], [("a", "f", "12")]),
    ],
)  # fmt: skip
async def test_a_piece_belongs_to_the_call_of_its_index_else_of_its_id_else_to_the_last(
    events, pieces, calls
):
    *given, _ = await events(*answer(pieces_of(*pieces) + OPENAI.finish("tool_calls")))
    assert given == [messages.ToolCall(*call) for call in calls]


async def test_a_thousand_calls_are_read_quickly_and_one_more_is_an_error(events):
    most = [(0, f"c{i}", "f", "{}") for i in range(1000)]
    begin = time.process_time()
    given = await events(*answer(pieces_of(*most * 10) + OPENAI.finish("tool_calls")))
    assert time.process_time() - begin < 3
    assert len(given) == 1001
    with pytest.raises(errors.FormatError, match="over 1,000 tool calls"):
        await events(*answer(pieces_of(*most, (0, "more", "f", "")) + OPENAI.finish()))


async def test_a_thinking_part_is_reasoning(events):
    """Mistral's form."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
    parts = [thinking, {"type": "text", "text": "yes"}, {"type": "reference", "reference_ids": [1]}]
    packet = completion({"content": parts}) + completion({"content": "!"})
    script = answer(packet + completion(finish="stop"))
    assert await events(*script) == [Reasoning("hm"), Text("yes!"), FinishReason("stop")]


@pytest.mark.parametrize("thinking", [[], "", None, [{"type": "text", "text": None}]])
async def test_a_thinking_part_without_a_thought_is_nothing(events, thinking):
    """Mistral closes its thoughts with one."""
    parts = [{"type": "thinking", "thinking": thinking, "closed": True}]
    packet = completion({"content": parts}) + completion({"content": "yes"}, "stop")
    assert await events(*answer(packet)) == [Text("yes"), FinishReason("stop")]


async def test_a_part_without_text_is_told_and_the_answer_goes_on(events):
    part = {"type": "input_audio", "input_audio": {"data": "x"}}
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    packet = completion({"content": [part, image, {"type": "text", "text": "yes"}]})
    given = await events(*answer(packet * 2 + completion(finish="stop")))
    note = Notice("OpenAI also sent a part that is not shown: input_audio.")
    source = Source("https://x.example/a.png", "an image")
    assert given == [note, source, Text("yesyes"), FinishReason("stop")]


async def test_done_ends_an_answer_that_has_no_finish_reason(events):
    """Snowflake's and Databricks' form."""
    script = answer(completion({"content": "a"}), sse("[DONE]"))
    assert await events(*script) == [Text("a"), FinishReason("stop")]
    script = answer(pieces_of((0, "a", "f", "{}")), sse("[DONE]"))
    assert await events(*script) == [ToolCall("a", "f", "{}"), FinishReason("tool_calls")]


@pytest.mark.parametrize("pieces", [[sse("[DONE]")], [completion({"content": "a"})]])
async def test_done_without_an_answer_and_an_answer_without_done_are_not_whole(service, pieces):
    service.on(PATH, answer(*pieces))
    with pytest.raises(errors.BrokenAnswerError):
        await ask("?", model="openai:m", base_url=service.url)


@pytest.mark.parametrize("key", ["message", "delta"])
async def test_content_that_is_an_object_is_its_json(events, key):
    """Cloudflare's form, where JSON was asked for."""
    said = {"choices": [{key: {"role": "assistant", "content": {"title": "Äpfel"}}, "finish_reason": "stop"}]}  # fmt: skip
    body = json.dumps(said).encode()
    script = answer(body) if key == "message" else answer(sse(body.decode()))
    assert await events(*script) == [Text('{"title": "Äpfel"}'), FinishReason("stop")]


async def test_a_body_that_a_filter_left_without_a_message_ends_with_it(service):
    """Azure's form."""
    choice = {"index": 0, "finish_reason": "content_filter", "content_filter_results": {}}
    body = json.dumps({"choices": [choice]}).encode()
    service.on(PATH, answer(body, content_type="application/json"))
    reply = await ask("?", model="openai:m", base_url=service.url, stream=False)
    assert (reply.text, reply.finish) == ("", "content_filter")


async def test_an_error_in_a_field_of_its_own_is_told_in_its_words(service):
    line = b'error: {"code": 500, "message": "the context is full", "type": "server_error"}\n\n'
    service.on(PATH, answer(completion({"content": "so far"}), line))
    with pytest.raises(errors.ServerError, match="the context is full") as caught:
        await ask("?", model="openai:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize("name", ["cached_tokens", "prompt_cache_hit_tokens"])
async def test_cached_tokens_are_counted_wherever_they_stand(events, name):
    """Moonshot's and DeepSeek's form."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2, name: 5}
    script = answer(completion({"content": "a"}, "stop", usage=usage))
    assert Usage(9, 2, cached=5) in await events(*script)


async def test_usage_is_found_beside_the_finish_too(events):
    """Groq's form, and Moonshot's."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    groq = completion({"content": "a"}, "stop", x_groq={"id": "r", "usage": usage})
    assert Usage(9, 2) in await events(*answer(groq))
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "usage": usage}
    moonshot = sse(json.dumps({"choices": [choice]}))
    assert Usage(9, 2) in await events(*answer(moonshot))


async def test_reasoning_details_are_reasoning_where_nothing_else_says_it(events):
    """OpenRouter's form."""
    details = [
        {"type": "reasoning.text", "text": "h"},
        {"type": "reasoning.summary", "summary": "m"},
        {"type": "reasoning.encrypted", "data": "gAAA"},
    ]
    packet = completion({"reasoning_details": details})
    packet += completion({"reasoning": "!", "reasoning_details": [{"text": "!"}]})
    script = answer(packet + completion({"content": "yes"}, "stop"))
    assert await events(*script) == [Reasoning("hm!"), Text("yes"), FinishReason("stop")]


async def test_a_call_of_a_custom_tool_has_its_name_and_input(events):
    call = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "4 + 4"}}
    script = answer(completion({"tool_calls": [call]}, "tool_calls"))
    assert (await events(*script))[0] == ToolCall("a", "f", "4 + 4")


async def test_an_images_detail_is_sent_and_counts_in_the_receipt(service):
    service.on(PATH, OPENAI.whole("Yes"))
    hashes = []
    for detail in ({}, {"detail": "low"}, {"detail": "high"}):
        image = {"url": "https://x.example/a.png", **detail}
        content = [{"type": "image_url", "image_url": image}]
        reply = await ask(
            {"role": "user", "content": content}, model="openai:m", base_url=service.url
        )
        assert service.requests[-1].json["messages"][0]["content"] == content
        hashes.append(reply.hash)
    assert len({*hashes}) == 3


# -- recorded streams: the documented shapes of the services that speak this protocol


def call_piece(index, id_=None, name=None, arguments=""):
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": id_, "type": "function"} if id_ else {})


USAGE = {
    "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}  # fmt: skip
COUNTED = sse(json.dumps({"id": "x", "choices": [], "usage": USAGE}))
DONE = sse("[DONE]")
RECORDED = {
    "OpenAI, text": (
        [completion({"role": "assistant", "content": "", "refusal": None}), completion({"content": "Hel"}),
         completion({"content": "lo ✓"}), completion(finish="stop"), COUNTED, DONE],
        ("Hello ✓", "", [], "stop", Usage(11, 7, 3, 4)),
    ),
    "OpenAI, two calls at once": (
        [completion({"role": "assistant", "content": None, "tool_calls": [call_piece(0, "call_a", "weather")]}),
         completion({"tool_calls": [call_piece(0, arguments='{"city":')]}),
         completion({"tool_calls": [call_piece(0, arguments=' "Köln"}')]}),
         completion({"tool_calls": [call_piece(1, "call_b", "time")]}),
         completion({"tool_calls": [call_piece(1, arguments="{}")]}),
         completion(finish="tool_calls"), COUNTED, DONE],
        ("", "", [ToolCall("call_a", "weather", '{"city": "Köln"}'), ToolCall("call_b", "time", "{}")],
         "tool_calls", Usage(11, 7, 3, 4)),
    ),
    "DeepSeek, thoughts before the answer, usage beside the finish": (
        [completion({"role": "assistant", "content": None, "reasoning_content": ""}),
         completion({"content": None, "reasoning_content": "Let me "}), completion({"content": None, "reasoning_content": "see."}),
         completion({"content": "42", "reasoning_content": None}), completion({"content": ""}, "stop", usage=USAGE), DONE],
        ("42", "Let me see.", [], "stop", Usage(11, 7, 3, 4)),
    ),
    "Mistral, thinking parts": (
        [completion({"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}),
         completion({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "…"}], "closed": True}]}),
         completion({"content": [{"type": "text", "text": "4"}]}), completion({"content": "2"}),
         completion({"content": ""}, "stop", usage={"prompt_tokens": 5, "total_tokens": 9, "completion_tokens": 4}), DONE],
        ("42", "Hm…", [], "stop", Usage(5, 4)),
    ),
    "OpenRouter, comments, a call as a whole, and the cost": (
        [b": OPENROUTER PROCESSING\n\n", b": OPENROUTER PROCESSING\n\n", completion({"role": "assistant", "content": "", "reasoning": "hm"}),
         completion({"content": "", "tool_calls": [call_piece(0, "tool_0", "look", '{"at": 1}')]}),
         completion({"content": ""}, "tool_calls", native_finish_reason="tool_calls"),
         sse(json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
                         "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.25}})), DONE],
        ("", "hm", [ToolCall("tool_0", "look", '{"at": 1}')], "tool_calls", Usage(3, 2, cost=0.25)),
    ),
    "xAI, thoughts that are counted apart": (
        [completion({"role": "assistant", "reasoning_content": "hm"}), completion({"content": "Hi"}), completion(finish="stop"),
         sse(json.dumps({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 399,
                                                  "completion_tokens_details": {"reasoning_tokens": 386}}})), DONE],
        ("Hi", "hm", [], "stop", Usage(12, 387, 386)),
    ),
    "Groq, usage in a field of its own beside the common one": (
        [completion({"role": "assistant", "content": "Hi"}), completion({}, "stop", x_groq={"id": "r", "usage": USAGE}), COUNTED, DONE],
        ("Hi", "", [], "stop", Usage(11, 7, 3, 4)),
    ),
    "vLLM, cut at the limit": (
        [completion({"role": "assistant", "content": ""}), completion({"content": "so far"}), completion({"content": ""}, "length", stop_reason=None), COUNTED, DONE],
        ("so far", "", [], "length", Usage(11, 7, 3, 4)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", RECORDED)
async def test_a_recorded_stream_is_read_exactly_however_it_is_cut(events, name, cut):
    pieces, (text, reasoning, calls, finish, usage) = RECORDED[name]
    given = await events(*answer(*CUTS[cut](pieces)))
    assert "".join(event.text for event in given if isinstance(event, Text)) == text
    assert "".join(event.text for event in given if isinstance(event, Reasoning)) == reasoning
    assert [event for event in given if isinstance(event, ToolCall)] == calls
    assert [event for event in given if isinstance(event, Usage)] == [usage]
    assert given[-1] == FinishReason(finish)
    assert not [event for event in given if isinstance(event, Notice)]
