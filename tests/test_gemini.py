"""Gemini: what the contract, which holds for all, does not know of."""

import json
import time
from urllib.parse import parse_qs

import pytest

from ipychat import ask, errors, messages
from ipychat.messages import FinishReason, Notice, Reasoning, Text, ToolCall, Usage
from ipychat.providers.gemini import Gemini
from ipychat.providers.provider import Card
from tests.loopback import END, FIN, HANG, answer, byte_by_byte, chunk, head
from tests.protocols import joined, sse, thought

pytestmark = pytest.mark.usefixtures("sessions")
PATH = "/v1beta/models/m:streamGenerateContent"
WHOLE_PATH = "/v1beta/models/m:generateContent"
KEY = "AIza-my-very-own-key"
SIGNATURE = "skip_thought_signature_validator"


def response(*parts: dict, finish: str | None = None, **more) -> dict:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r", **more}


def say(text: str, **more) -> dict:
    return response({"text": text}, **more)


def stream(*responses) -> bytes:
    return b"".join(sse(json.dumps(one)) for one in responses)


def every_event_a_packet(*responses) -> list:
    return answer(*(stream(one) for one in responses))


def one_packet(*responses) -> list:
    return answer(stream(*responses))


def every_byte_a_packet(*responses) -> list:
    return byte_by_byte(stream(*responses))


@pytest.fixture(params=[every_event_a_packet, one_packet, every_byte_a_packet])
def written(request):
    """One of the ways in which the same stream may arrive."""
    return request.param


@pytest.fixture
def events(service):
    """Ask, have the service answer with a script, and return all that came."""

    async def run(script, messages="?", **options):
        service.on(PATH, script)
        service.on(WHOLE_PATH, script)
        given = Gemini.create_async_generator(
            "m", messages, **{"base_url": service.url, "idle_timeout": 5, **options}
        )
        return joined([event async for event in given])

    return run


@pytest.fixture
def body(events, service):
    """Ask, and return the body that the service got."""

    async def run(messages="?", **options):
        await events(answer(stream(say("a", finish="STOP"))), messages, **options)
        return service.requests[-1].json

    return run


# -- what is answered


async def test_text_is_given_and_ends_with_stop(events, written):
    script = written(say("Hel"), say("lo wörld"), say("!", finish="STOP"))
    assert await events(script) == [Text("Hello wörld!"), FinishReason("stop")]


async def test_the_text_of_one_packet_is_one_event(service):
    service.on(PATH, one_packet(say("a"), say("b"), say("c", finish="STOP")))
    given = Gemini.create_async_generator("m", "?", base_url=service.url)
    assert [event async for event in given] == [Text("abc"), FinishReason("stop")]


async def test_thoughts_are_reasoning_and_in_their_order(events, written):
    script = written(
        response({"text": "Let me ", "thought": True}),
        response({"text": "see.", "thought": True}, {"text": "It is "}),
        response({"text": "4."}, {"text": "", "thoughtSignature": "c2ln"}, finish="STOP"),
    )
    assert await events(script) == [
        Reasoning("Let me see."),
        Text("It is 4."),
        thought(thoughtSignature="c2ln"),
        FinishReason("stop"),
    ]


async def test_a_function_call_is_a_tool_call(events, written):
    call = {"id": "f1", "name": "weather", "args": {"city": "Köln", "days": [1, 2]}}
    finished = response({"functionCall": call, "thoughtSignature": "c2ln"}, finish="STOP")
    finished["candidates"][0]["finishMessage"] = "Model generated function call(s)."
    assert await events(written(say("I look."), finished)) == [
        Text("I look."),
        ToolCall(
            "f1", "weather", '{"city": "Köln", "days": [1, 2]}', '{"thoughtSignature": "c2ln"}'
        ),
        FinishReason("tool_calls"),
    ]


async def test_calls_without_ids_get_their_numbers(events, written):
    script = written(
        response({"functionCall": {"name": "a"}}, {"functionCall": {"name": "b", "args": {}}}),
        response({"functionCall": {"name": "a", "args": {"x": 1}}}),
        response(finish="STOP"),
    )
    assert await events(script) == [
        ToolCall("call_0", "a", "{}"),
        ToolCall("call_1", "b", "{}"),
        ToolCall("call_2", "a", '{"x": 1}'),
        FinishReason("tool_calls"),
    ]


async def test_calls_that_were_cut_end_with_length(events):
    script = one_packet(response({"functionCall": {"name": "a"}}, finish="MAX_TOKENS"))
    assert (await events(script))[-1] == FinishReason("length")


async def test_the_last_usage_counts(events, written):
    first = {"promptTokenCount": 7, "totalTokenCount": 7, "promptTokensDetails": []}
    last = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 2,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 37,
    }
    script = written(say("a", usageMetadata=first), say("b", finish="STOP", usageMetadata=last))
    assert await events(script) == [
        Text("ab"), Usage(input=12, output=25, reasoning=20, cached=4), FinishReason("stop"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *(
            (reason, "content_filter")
            for reason in (
                "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
                "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
            )
        ),
        ("LANGUAGE", "language"),
        ("OTHER", "other"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
        ("UNEXPECTED_TOOL_CALL", "unexpected_tool_call"),
        ("NO_IMAGE", "no_image"),
        ("A_NEW_ONE", "a_new_one"),
    ],
)  # fmt: skip
async def test_how_it_ended_is_told(events, written, said, ours):
    script = written(say("a"), {"candidates": [{"finishReason": said, "index": 0}]})
    assert await events(script) == [Text("a"), FinishReason(ours)]


async def test_why_it_ended_is_told_where_the_service_says_so(events, written):
    candidate = {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "No such function."}
    assert await events(written({"candidates": [candidate]})) == [
        Notice("Gemini says: No such function."), FinishReason("malformed_function_call"),
    ]  # fmt: skip


async def test_an_unspecified_reason_is_none(events, written):
    assert await events(written(say("a", finish="FINISH_REASON_UNSPECIFIED"))) == [Text("a")]


async def test_a_blocked_question_is_said_and_no_error(events, written):
    blocked = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": []},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
    }
    assert await events(written(blocked)) == [
        Notice("Gemini blocked the question: PROHIBITED_CONTENT."),
        Usage(input=9),
        FinishReason("content_filter"),
    ]


async def test_feedback_that_blocks_nothing_is_nothing(events, written):
    harmless = {"promptFeedback": {"safetyRatings": [{"category": "x", "probability": "LOW"}]}}
    script = written(harmless, say("a", finish="STOP", **harmless))
    assert await events(script) == [Text("a"), FinishReason("stop")]


async def test_what_can_not_be_shown_is_said_once(events, written):
    picture = {"inlineData": {"mimeType": "audio/wav", "data": "cG5n"}}
    code = {"executableCode": {"language": "PYTHON", "code": "1 + 1"}}
    script = written(response(picture), response(picture, code), say("Done.", finish="STOP"))
    assert await events(script) == [
        Notice("Gemini also sent media, which is not shown."),
        Notice("Gemini also sent code that it ran, which is not shown."),
        Text("Done."),
        FinishReason("stop"),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"candidates": []},
        {"candidates": None},
        {"candidates": [{"index": 0}]},
        {"candidates": [{"content": None, "finishReason": None}]},
        {"candidates": [{"content": {"role": "model"}}]},
        {"candidates": [{"content": {"parts": None}}]},
        response(),
        say(""),
        response({"thoughtSignature": "c2ln"}),
        {"usageMetadata": None, "promptFeedback": None},
    ],
)
async def test_legal_but_empty_responses_are_nothing(events, odd):
    script = one_packet(odd, say("a"), odd, say("b", finish="STOP"), odd)
    assert await events(script) == [Text("ab"), FinishReason("stop")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidates": 7},
        {"candidates": ["a"]},
        {"candidates": {"a": 1}},
        {"candidates": [{"content": "a"}]},
        {"candidates": [{"content": {"parts": "a"}}]},
        {"candidates": [{"content": {"parts": [7]}}]},
        {"candidates": [{"finishReason": ["STOP"]}]},
        {"candidates": [{"finishReason": "OTHER", "finishMessage": 7}]},
        response({"text": 7}),
        response({"text": ["a"], "thought": True}),
        response({"functionCall": "a"}),
        response({"functionCall": {"args": {}}}),
        response({"functionCall": {"name": 7}}),
        response({"functionCall": {"name": "a", "id": 7}}),
        {"promptFeedback": {"blockReason": 7}},
        "a",
        7,
        None,
        [7],
    ],
)
async def test_what_is_not_the_protocol_is_an_error_and_the_text_is_kept(service, written, wrong):
    service.on(PATH, written(say("so far"), wrong, say("more", finish="STOP")))
    with pytest.raises(errors.FormatError) as caught:
        await ask("?", model="gemini:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize("usage", ["a", ["a"], {"promptTokenCount": "7"}])
async def test_usage_that_can_not_be_read_is_no_error(events, written, usage):
    script = written(say("so far"), say("!", finish="STOP", usageMetadata=usage))
    given = await events(script)
    assert (given[0], given[-1]) == (Text("so far!"), FinishReason("stop"))


async def test_counts_that_are_written_as_floats_are_counts(events, written):
    usage = {"promptTokenCount": 12.0, "candidatesTokenCount": -1, "thoughtsTokenCount": 1.5}
    script = written(say("a", finish="STOP", usageMetadata=usage))
    assert await events(script) == [Text("a"), Usage(12), FinishReason("stop")]


async def test_a_missing_last_line_end_loses_nothing(events):
    script = answer(stream(say("a"), say("b", finish="STOP")).rstrip())
    assert await events(script) == [Text("ab"), FinishReason("stop")]


FAULT = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize("fault", [FAULT, [FAULT], say(" it", **FAULT)])
async def test_an_error_in_mid_stream_has_the_services_message(service, written, fault):
    service.on(PATH, written(say("so far"), fault))
    with pytest.raises(errors.ServerError, match=r"The model is overloaded\.") as caught:
        await ask("?", model="gemini:m", base_url=service.url)
    assert caught.value.reply.text in {"so far", "so far it"}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("fault", [FAULT, [FAULT]])
@pytest.mark.parametrize("split", [False, True])
async def test_an_error_that_is_no_event_of_the_stream_is_found(service, fault, indent, split):
    body = stream(say("so far")) + json.dumps(fault, indent=indent).encode() + b"\n"
    service.on(PATH, byte_by_byte(body) if split else answer(body))
    with pytest.raises(errors.ServerError, match=r"The model is overloaded\.") as caught:
        await ask("?", model="gemini:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize("blanks", [b"\n" * 20_000, b"\r \n" * 8000, b"\n[" * 9000, b"\n{ " * 9000])
async def test_the_end_of_a_stream_is_searched_quickly(events, blanks):
    begin = time.process_time()
    given = await events(answer(stream(say("a", finish="STOP")) + blanks))
    assert time.process_time() - begin < 1
    assert given == [Text("a"), FinishReason("stop")]


async def test_an_error_that_the_model_writes_of_is_text(events, written):
    text = '\n{"error": {"message": "no"}}\n'
    assert await events(written(say(text, finish="STOP"))) == [Text(text), FinishReason("stop")]


async def test_a_clean_end_in_mid_answer_keeps_the_text(service):
    service.on(PATH, [head(), chunk(stream(say("so far"))), END])
    with pytest.raises(errors.BrokenAnswerError, match="without saying") as caught:
        await ask("?", model="gemini:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize("how", [FIN, HANG])
async def test_a_connection_lost_after_the_finish_is_said_but_no_error(events, how):
    script = [head(), chunk(stream(say("a", finish="STOP"))), how]
    text, notice, finish = await events(script, idle_timeout=0.3)
    assert (text, finish) == (Text("a"), FinishReason("stop"))
    assert "behind the answer" in notice.text


async def test_without_stream_one_body_is_asked_for(events, service):
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2}
    body = say("Hello", finish="STOP", usageMetadata=usage)
    script = answer(json.dumps(body, indent=2).encode(), content_type="application/json")
    assert await events(script, stream=False) == [Text("Hello"), Usage(1, 2), FinishReason("stop")]
    assert service.asked(WHOLE_PATH)


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("split", [False, True])
async def test_a_list_of_responses_in_one_body_is_whole(events, content_type, split):
    responses = [say("Hel"), say("lo"), say("!", finish="STOP")]
    body = b"\n " + json.dumps(responses, indent=2).encode()
    script = byte_by_byte(body, content_type) if split else answer(body, content_type=content_type)
    assert await events(script) == [Text("Hello!"), FinishReason("stop")]


async def test_a_list_with_an_error_is_one_and_the_text_is_kept(service):
    body = json.dumps([say("so far"), FAULT]).encode()
    service.on(PATH, answer(body, content_type="application/json"))
    with pytest.raises(errors.ServerError, match=r"The model is overloaded\.") as caught:
        await ask("?", model="gemini:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize(
    "body", [b'{"candidates": [{"content": {"parts": [{"te', b"[{}, 7]", b"[1"]
)
async def test_a_body_that_is_torn_or_no_response_is_an_error(events, body):
    with pytest.raises(errors.FormatError, match="not valid JSON"):
        await events(answer(body, content_type="application/json"))


async def test_a_body_without_a_finish_was_cut_off(service):
    service.on(WHOLE_PATH, answer(json.dumps(say("so far")).encode()))
    with pytest.raises(errors.BrokenAnswerError, match="without saying") as caught:
        await ask("?", model="gemini:m", base_url=service.url, stream=False)
    assert caught.value.reply.text == "so far"


async def test_a_status_has_the_message_of_an_error_in_a_list(events):
    refused = answer(json.dumps([FAULT]).encode(), status=400, content_type="application/json")
    with pytest.raises(errors.RequestError, match=r"The model is overloaded\."):
        await events(refused)


# -- what is asked


async def test_a_question_is_asked_with_nothing_else(body):
    assert await body([{"role": "user", "content": "Hi"}], retries=1, timeout=9) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]
    }


async def test_a_stream_is_asked_for_as_events(body, service):
    await body()
    assert [(asked.path, asked.query) for asked in service.requests] == [(PATH, "alt=sse")]


async def test_without_stream_no_events_are_asked_for(body, service):
    await body(stream=False)
    assert [(asked.path, asked.query) for asked in service.requests] == [(WHOLE_PATH, "")]


async def test_the_conversation_has_its_roles_and_the_system_its_own_place(body):
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "?"}]},
    ]  # fmt: skip
    assert await body(conversation) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "1 + 1?"}]},
            {"role": "model", "parts": [{"text": "2"}]},
            {"role": "user", "parts": [{"text": "And"}, {"text": "?"}]},
        ],
    }


async def test_images_and_files_are_sent_with_their_types(service):
    parts = (
        messages.TextPart("What is this?"),
        messages.ImagePart.of_bytes(b"png", "image/png"),
        messages.ImagePart("data:image/webp;charset=utf-8;base64,d2Vi"),
        messages.ImagePart("https://example.org/a.jpg?size=2"),
        messages.ImagePart("https://example.org/unknown"),
        messages.ImagePart("gs://bucket/b.png"),
        messages.FilePart("a.pdf", b"pdf", "application/pdf"),
        messages.FilePart("a.mp3", b"mp3", "audio/mpeg"),
        messages.FilePart("a.csv", "\ufeffx,ü".encode(), "text/csv"),
        messages.FilePart("a.json", b"{}", "application/json"),
    )
    service.on(PATH, answer(stream(say("a", finish="STOP"))))
    await ask(messages.Message("user", parts), model="gemini:m", base_url=service.url)
    assert service.requests[0].json["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "What is this?"},
                {"inlineData": {"mimeType": "image/png", "data": "cG5n"}},
                {"inlineData": {"mimeType": "image/webp", "data": "d2Vi"}},
                {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.org/a.jpg?size=2"}},
                {"fileData": {"fileUri": "https://example.org/unknown"}},
                {"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/b.png"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
                {"inlineData": {"mimeType": "audio/mpeg", "data": "bXAz"}},
                {"text": "a.csv:\nx,ü"},
                {"text": "a.json:\n{}"},
            ],
        }
    ]  # fmt: skip


async def test_neighbours_of_one_role_are_one_and_what_is_blank_is_left_out(body):
    conversation = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": " \n"},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": [{"type": "text", "text": " "}, {"type": "text", "text": "d"}]},
        {"role": "user", "content": "e"},
    ]  # fmt: skip
    assert (await body(conversation))["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "parts": [{"text": "e"}]},
    ]


def asks(*calls: tuple, text: str | None = None) -> dict:
    written = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in calls
    ]
    return {"role": "assistant", "content": text, "tool_calls": written}


def result(id_: str | None, content="done") -> dict:
    return {"role": "tool", "content": content, **({"tool_call_id": id_} if id_ else {})}


QUESTION = {"role": "user", "content": "?"}


async def test_a_call_and_its_result_are_sent_with_the_name_and_the_services_id(body):
    conversation = [QUESTION, asks(("f1", "weather", '{"city": "Köln"}'), text="I look."), result("f1", "rain")]  # fmt: skip
    assert (await body(conversation))["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {
                    "functionCall": {"id": "f1", "name": "weather", "args": {"city": "Köln"}},
                    "thoughtSignature": SIGNATURE,
                },
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "f1",
                        "name": "weather",
                        "response": {"output": "rain"},
                    }
                }
            ],
        },
    ]


async def test_the_results_of_several_calls_go_together_and_in_the_calls_order(body):
    conversation = [
        QUESTION,
        asks(("call_0", "a", '{"x": 1}'), ("call_1", "a", "")),
        result("call_1", "second"),
        result("call_0", "first"),
        {"role": "user", "content": "Well?"},
        asks(("call_0", "b", "{}")),
        result("call_0", "third"),
    ]
    assert (await body(conversation))["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "a", "args": {"x": 1}}, "thoughtSignature": SIGNATURE},
                {"functionCall": {"name": "a", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "a", "response": {"output": "first"}}},
                {"functionResponse": {"name": "a", "response": {"output": "second"}}},
                {"text": "Well?"},
            ],
        },
        {
            "role": "model",
            "parts": [{"functionCall": {"name": "b", "args": {}}, "thoughtSignature": SIGNATURE}],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "b", "response": {"output": "third"}}}],
        },
    ]


async def test_an_image_in_a_result_goes_along(body):
    shown = [
        {"type": "text", "text": "the plot"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
    ]
    written = await body([QUESTION, asks(("f1", "plot", "{}")), result("f1", shown)])
    assert written["contents"][2]["parts"] == [
        {
            "functionResponse": {
                "id": "f1",
                "name": "plot",
                "response": {"output": "the plot"},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "cG5n"}}],
            }
        }
    ]


def image(url: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("conversation", "says"),
    [
        ([{"role": "system", "content": [image("data:image/png;base64,cG5n")]}, QUESTION], "system"),
        ([{"role": "user", "content": [image("http://example.org/a.png")]}], "https://"),
        ([{"role": "user", "content": [image("https://example.org/a.gif")]}], "not as image/gif"),
        ([{"role": "user", "content": [image("data:image/gif;base64,R0lG")]}], "not as image/gif"),
        ([{"role": "user", "content": [messages.FilePart("a.zip", b"PK\0").to_dict()]}], "audio and video, and files of text"),
        ([QUESTION, {"role": "assistant", "content": "Yes"}], "the last message must be"),
        ([QUESTION, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": " "}], "the last message must be"),
        ([{"role": "system", "content": "Be brief."}], "the last message must be"),
        ([{"role": "user", "content": [image("data:image/svg+xml,<svg/>")]}], "base64"),
        ([{"role": "user", "content": [image("data:;base64,cG5n")]}], "base64"),
        ([QUESTION, result("f1")], "'f1'"),
        ([QUESTION, asks(("f1", "a", "{}")), result("f2")], "'f2'"),
        ([QUESTION, asks(("f1", "a", "{}")), result(None)], "no message before it asks for"),
        ([QUESTION, asks(("f1", "a", "{}")), result("f1", [image("https://example.org/a.png")])], "tool's result"),
    ],
)  # fmt: skip
async def test_what_can_not_be_sent_is_an_error_before_it_is_sent(
    body, service, conversation, says
):
    with pytest.raises(errors.UsageError, match=says):
        await body(conversation)
    assert not service.requests


async def test_common_options_are_translated(body):
    written = await body(temperature=0.5, max_tokens=9, top_p=0.9, stop="END")
    assert written["generationConfig"] == {
        "temperature": 0.5, "maxOutputTokens": 9, "topP": 0.9, "stopSequences": ["END"],
    }  # fmt: skip
    assert set(written) == {"contents", "generationConfig"}


async def test_the_limit_of_tokens_is_read_in_its_newer_word_too(body):
    written = await body(max_completion_tokens=9)
    assert written["generationConfig"] == {"maxOutputTokens": 9}
    assert set(written) == {"contents", "generationConfig"}


async def test_options_that_are_none_are_not_set(body):
    nothing = dict.fromkeys(["temperature", "stop", "tools", "tool_choice", "response_format"])
    assert set(await body(**nothing)) == {"contents"}


async def test_the_users_own_config_goes_over_what_was_translated(body):
    own = {"temperature": 1, "thinkingConfig": {"includeThoughts": True}}
    written = await body(temperature=0.5, stop=["a", "b"], generationConfig=own)
    assert written["generationConfig"] == {"stopSequences": ["a", "b"], **own}


async def test_other_options_go_into_the_body(body):
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    written = await body(safetySettings=safety, cachedContent="cachedContents/x")
    assert written["safetySettings"] == safety
    assert written["cachedContent"] == "cachedContents/x"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"type": "json_object"}, {"responseMimeType": "application/json"}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
        ({"type": "text"}, None),
    ],
)
async def test_a_response_format_is_translated(body, given, written):
    assert (await body(response_format=given)).get("generationConfig") == written


async def test_tools_are_translated_and_its_own_pass(body):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    weather = {"name": "weather", "description": "Tells it.", "parameters": schema, "strict": True}
    tools = [
        {"type": "function", "function": weather},
        {"googleSearch": {}},
        {"type": "function", "function": {"name": "now"}},
    ]
    assert (await body(tools=tools))["tools"] == [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "Tells it.", "parametersJsonSchema": schema},
                {"name": "now"},
            ]
        },
        {"googleSearch": {}},
    ]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "a"}},
            {"mode": "ANY", "allowedFunctionNames": ["a"]},
        ),
    ],
)
async def test_a_tool_choice_is_translated(body, choice, config):
    written = await body(tool_choice=choice, toolConfig={"retrievalConfig": {"languageCode": "de"}})
    assert written["toolConfig"] == {
        "functionCallingConfig": config, "retrievalConfig": {"languageCode": "de"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"tools": "weather"},
        {"tools": ["weather"]},
        {"tool_choice": "any"},
        {"tool_choice": ["auto"]},
        {"response_format": "json"},
        {"response_format": {"type": "json_schema"}},
        {"generationConfig": "hot"},
    ],
)
async def test_an_option_that_is_none_of_these_is_an_error_that_names_it(body, service, options):
    [name] = options
    with pytest.raises(errors.UsageError, match=name.removesuffix("s")):
        await body(**options)
    assert not service.requests


# -- addresses, names, keys


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("gemini-flash-latest", "models/gemini-flash-latest"),
        ("models/gemini-flash-latest", "models/gemini-flash-latest"),
        ("tunedModels/mine-1", "tunedModels/mine-1"),
        ("a b?c#d", "models/a%20b%3Fc%23d"),
        ("../files/x", "models/..%2Ffiles%2Fx"),
        ("models/a/b", "models/a%2Fb"),
        ("ä", "models/%C3%A4"),
    ],
)
def test_a_models_name_is_one_step_of_the_path(name, resource):
    assert Gemini.path(name) == f"/{resource}:streamGenerateContent?alt=sse"


async def test_a_name_with_odd_characters_arrives_as_it_is(service):
    path = "/v1beta/models/a b?c:streamGenerateContent"
    service.on(path, answer(stream(say("a", finish="STOP"))))
    assert (await ask("?", model="gemini:a b?c", base_url=service.url)).text == "a"


@pytest.mark.parametrize(
    ("given", "root"),
    [
        (None, "https://generativelanguage.googleapis.com/v1beta"),
        ("https://example.org", "https://example.org/v1beta"),
        ("https://example.org/v1beta/", "https://example.org/v1beta"),
        ("https://example.org/v1", "https://example.org/v1"),
        ("https://example.org/v1alpha", "https://example.org/v1alpha"),
        ("https://example.org/v1/gemini", "https://example.org/v1/gemini/v1beta"),
    ],
)
def test_a_root_ends_with_a_version(monkeypatch, given, root):
    assert Gemini.root(given) == root
    if given:
        monkeypatch.setenv("GEMINI_BASE_URL", given)
        assert Gemini.root() == root


@pytest.mark.parametrize("variable", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
@pytest.mark.parametrize("end", ["", "/", "/v1beta"])
async def test_the_key_of_the_environment_goes_to_the_environments_address(
    monkeypatch, service, variable, end
):
    monkeypatch.setenv(variable, KEY)
    monkeypatch.setenv("GEMINI_BASE_URL", service.url + end)
    service.on(PATH, answer(stream(say("a", finish="STOP"))))
    assert (await ask("?", model="gemini:m")).text == "a"
    [received] = service.requests
    assert received.headers["x-goog-api-key"] == KEY
    assert KEY not in f"{received.path} {received.body}"


async def test_the_key_of_the_environment_goes_to_no_other_address(monkeypatch, body, service):
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    await body()
    assert "x-goog-api-key" not in service.requests[0].headers


async def test_a_key_that_is_given_goes_where_it_is_told(body, service):
    await body(api_key=KEY)
    assert service.requests[0].headers["x-goog-api-key"] == KEY


async def test_without_a_key_gemini_itself_is_not_asked():
    with pytest.raises(errors.MissingKeyError, match="GEMINI_API_KEY"):
        await ask("?", model="gemini:m")
    assert "%chat_login gemini" in Gemini.missing(Gemini.root())


async def test_a_key_is_masked_in_the_services_own_error(events):
    said = {"error": {"code": 400, "message": f"API key not valid: {KEY}."}}
    refused = answer(json.dumps(said).encode(), status=400, content_type="application/json")
    with pytest.raises(errors.RequestError) as caught:
        await events(refused, api_key=KEY)
    assert KEY not in f"{caught.value} {caught.value!r}"
    assert "•••" in str(caught.value)


# -- the list of models

MODELS = "/v1beta/models"


def page(*models: dict, token: str | None = None) -> list:
    listed = {"models": list(models), **({"nextPageToken": token} if token else {})}
    return answer(json.dumps(listed).encode(), content_type="application/json")


def model(name: str, *methods: str, **more) -> dict:
    return {"name": f"models/{name}", "supportedGenerationMethods": list(methods), **more}


async def test_the_models_that_answer_are_listed_from_all_pages(service):
    service.on(
        MODELS,
        page(
            model("a", "generateContent", "countTokens", inputTokenLimit=1_048_576),
            model("embeds", "embedContent", inputTokenLimit=2048),
            {"name": "models/says-nothing"},
            token="+/= next&x=1",
        ),
        page(model("b", "generateContent")),
    )
    cards = await Gemini.cards(service.url, api_key=KEY)
    assert cards == [Card("a", context=1_048_576), Card("b")]
    assert [asked.headers["x-goog-api-key"] for asked in service.requests] == [KEY, KEY]
    first, second = (parse_qs(asked.query) for asked in service.requests)
    assert first == {"pageSize": ["1000"]}
    assert second == {"pageSize": ["1000"], "pageToken": ["+/= next&x=1"]}


async def test_a_list_that_does_not_end_is_an_error(service):
    service.on(MODELS, page(model("a", "generateContent"), token="again"))
    with pytest.raises(errors.FormatError, match="does not end"):
        await Gemini.cards(service.url)
    assert len(service.requests) == 20


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"7", b"null", b"{}", b"<html></html>",
        b'{"error": {"message": "no"}}',
        b'{"models": 7}',
        b'{"models": ["a"]}',
        b'{"models": [{"supportedGenerationMethods": ["generateContent"]}]}',
        b'{"models": [{"name": 7, "supportedGenerationMethods": ["generateContent"]}]}',
        b'{"models": [{"name": "a", "supportedGenerationMethods": 7}]}',
        b'{"models": [], "nextPageToken": 7}',
    ],
)  # fmt: skip
async def test_a_list_of_another_shape_is_an_error(service, body):
    service.on(MODELS, answer(body, content_type="application/json"))
    with pytest.raises(errors.FormatError, match="list of models"):
        await Gemini.cards(service.url)


async def test_a_key_that_is_refused_for_the_list_is_an_error_without_it(service):
    said = {"error": {"code": 401, "message": f"No such key: {KEY}"}}
    service.on(MODELS, answer(json.dumps(said).encode(), status=401))
    with pytest.raises(errors.AuthenticationError) as caught:
        await Gemini.cards(service.url, api_key=KEY)
    assert KEY not in str(caught.value)
