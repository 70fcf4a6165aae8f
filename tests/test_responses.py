"""OpenAI's Responses: what is sent, what its events mean, and when it is asked by."""

import json

import pytest

import ipychat
from ipychat import config, errors
from ipychat.catalog import routes
from ipychat.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    ModelId,
    Notice,
    Reasoning,
    Text,
    TextPart,
    ToolCall,
    Usage,
)
from ipychat.providers.responses import Responses
from tests.loopback import answer, byte_by_byte
from tests.protocols import CUTS, ResponsesProtocol, joined, thought

pytestmark = pytest.mark.usefixtures("sessions")

PATH = "/responses"
event = ResponsesProtocol.event
COUNTED = {
    "input_tokens": 75,
    "input_tokens_details": {"cached_tokens": 32},
    "output_tokens": 1186,
    "output_tokens_details": {"reasoning_tokens": 1024},
    "total_tokens": 1261,
}
USAGE = Usage(75, 1186, 1024, 32)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell it.",
        "parameters": {"type": "object", "properties": {}},
    },
}


def response(*output, status="completed", **more) -> dict:
    return {"id": "resp_1", "object": "response", "status": status, "output": output,
            "usage": COUNTED, "error": None, "incomplete_details": None, **more}  # fmt: skip


def message(text: str = "", kind="output_text", **more) -> dict:
    part = {"type": kind, "text" if kind == "output_text" else "refusal": text, "annotations": []}
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
            "content": [part] if text else [], **more}  # fmt: skip


def said(index: int, *texts: str, kind="output_text") -> list[bytes]:
    deltas = (event(f"{kind}.delta", output_index=index, content_index=0, delta=t) for t in texts)
    return [
        event("output_item.added", output_index=index, item=message()),
        *deltas,
        event("output_item.done", output_index=index, item=message("".join(texts), kind)),
    ]


def reasoned(index: int, *summaries: str, **item) -> list[bytes]:
    item = {"id": "rs_1", "type": "reasoning", "summary": [], **item}
    given = [event("output_item.added", output_index=index, item=item)]
    for number, text in enumerate(summaries):
        at = {"output_index": index, "summary_index": number}
        half = len(text) // 2
        given += [
            event("reasoning_summary_part.added", **at, part={"type": "summary_text", "text": ""}),
            event("reasoning_summary_text.delta", **at, delta=text[:half]),
            event("reasoning_summary_text.delta", **at, delta=text[half:]),
            event("reasoning_summary_text.done", **at, text=text),
        ]
    item["summary"] = [{"type": "summary_text", "text": text} for text in summaries]
    return [*given, event("output_item.done", output_index=index, item=item)]


def called(index: int, name: str, *pieces: str, **more) -> list[bytes]:
    call = {"type": "function_call", "id": f"fc_{index}", "call_id": f"call_{index}", "name": name}
    whole = "".join(pieces)
    return [
        event("output_item.added", output_index=index, item={**call, "arguments": "", **more}),
        *(event("function_call_arguments.delta", output_index=index, delta=p) for p in pieces),
        event("function_call_arguments.done", output_index=index, arguments=whole),
        event("output_item.done", output_index=index, item={**call, "arguments": whole, **more}),
    ]


def stream(*items: list[bytes], end: dict | None = None) -> list[bytes]:
    begun = [
        event(kind, response=response(status="in_progress")) for kind in ("created", "in_progress")
    ]
    end = end or response()
    return [*begun, *(one for item in items for one in item), event(end["status"], response=end)]


INCOMPLETE = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
FILTERED = response(status="incomplete", incomplete_details={"reason": "content_filter"})
SEALED = {"summary": [{"type": "summary_text", "text": "Look."}], "encrypted_content": "gAAA="}
RECORDED = {
    "text": (stream(said(0, "Hel", "lo")), [Text("Hello"), USAGE, FinishReason("stop")]),
    "a refusal": (
        stream(said(0, "I can't.", kind="refusal")),
        [Notice("The model refuses."), Text("I can't."), USAGE, FinishReason("stop")],
    ),
    "a summary of the reasoning, in two parts": (
        stream(reasoned(0, "First.", "Then."), said(1, "Yes")),
        [Reasoning("First.\n\nThen."), Text("Yes"), USAGE, FinishReason("stop")],
    ),
    "reasoning that comes sealed": (
        stream(reasoned(0, "Look.", encrypted_content="gAAA="), said(1, "Yes")),
        [
            thought("Look.", type="reasoning", id="rs_1", **SEALED),
            thought(type="message", id="msg_1", status="completed"),
            Text("Yes"),
            USAGE,
            FinishReason("stop"),
        ],
    ),
    "the reasoning itself": (
        stream(
            [
                event("output_item.added", output_index=0, item={"type": "reasoning"}),
                event("reasoning_text.delta", output_index=0, content_index=0, delta="Hm"),
                event("reasoning_text.delta", output_index=0, content_index=0, delta="."),
                event("output_item.done", output_index=0, item={"type": "reasoning"}),
            ],
            said(1, "Yes"),
        ),
        [Reasoning("Hm."), Text("Yes"), USAGE, FinishReason("stop")],
    ),
    "calls": (
        stream(called(0, "weather", '{"city":', '"Rom"}'), called(1, "time")),
        [
            ToolCall("call_0", "weather", '{"city":"Rom"}', '{"id": "fc_0"}'),
            ToolCall("call_1", "time", "{}", '{"id": "fc_1"}'),
            USAGE,
            FinishReason("tool_calls"),
        ],
    ),
    "arguments that are no JSON": (
        stream(called(0, "weather", '{"city"')),
        [
            ToolCall("call_0", "weather", '{"city"', '{"id": "fc_0"}'),
            USAGE,
            FinishReason("tool_calls"),
        ],
    ),
    "an answer that was cut": (
        stream(said(0, "so far"), end=INCOMPLETE),
        [Text("so far"), USAGE, FinishReason("length")],
    ),
    "an answer that was filtered": (
        stream(said(0, "so far"), end=FILTERED),
        [Text("so far"), USAGE, FinishReason("content_filter")],
    ),
    "items without a delta": (
        stream(
            [
                event("output_item.done", output_index=0, item={"type": "reasoning", "summary": [{"text": "Hm"}]}),
                event("output_item.done", output_index=1, item=message("Yes")),
            ]
        ),
        [Reasoning("Hm"), Text("Yes"), USAGE, FinishReason("stop")],
    ),
    "an end that has it all": (
        stream(end=response(message("Yes"))),
        [Text("Yes"), USAGE, FinishReason("stop")],
    ),
    "what is not known yet": (
        stream(
            [event("a_new_event", text="nothing to show")],
            [event("output_item.done", output_index=0, item={"type": "a_new_call", "id": "n"})],
            said(1, "Yes"),
        ),
        [
            Notice("OpenAI also sent a part that is not shown: a_new_call."),
            Text("Yes"),
            USAGE,
            FinishReason("stop"),
        ],
    ),
}  # fmt: skip


@pytest.fixture
def events(service):
    async def run(script, messages="?", model="m", **options):
        service.on(PATH, script)
        given = Responses.create_async_generator(
            model, messages, **{"base_url": service.url, "idle_timeout": 5, **options}
        )
        return joined([event async for event in given])

    return run


@pytest.fixture
def body(events, service):
    """Ask, and return the body that the service got."""

    async def run(messages="?", model="m", **options):
        await events(answer(*stream(said(0, "a"))), messages, model, **options)
        return service.requests[-1].json

    return run


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize(("pieces", "expected"), RECORDED.values(), ids=RECORDED)
async def test_a_stream_gives_its_events_however_it_is_cut(events, pieces, expected, cut):
    assert await events(answer(*cut(pieces))) == expected


@pytest.mark.parametrize("streamed", [True, False])
async def test_one_json_body_gives_the_same(events, service, streamed):
    call = {"type": "function_call", "id": "fc_2", "call_id": "c", "name": "f", "arguments": "{}"}
    reasoning = {"type": "reasoning", "id": "rs_1", **SEALED}
    whole = json.dumps(response(reasoning, message("Yes"), call)).encode()
    assert await events(answer(whole, content_type="application/json"), stream=streamed) == [
        thought("Look.", type="reasoning", id="rs_1", **SEALED),
        thought(type="message", id="msg_1", status="completed"),
        Text("Yes"),
        ToolCall("c", "f", "{}", '{"id": "fc_2"}'),
        USAGE,
        FinishReason("tool_calls"),
    ]
    assert service.requests[0].json["stream"] is streamed


@pytest.mark.parametrize(
    "bad",
    [
        event("failed", response=response(status="failed", error={"code": "x", "message": "It fell over"})),
        event("error", error={"message": "It fell over"}),
        ResponsesProtocol.event("error", code="x", message="It fell over").replace(b"response.error", b"error"),
    ],
)  # fmt: skip
async def test_a_failure_is_an_error_and_the_text_is_kept(service, bad):
    service.on(PATH, answer(*stream(said(0, "so far"))[:-1], bad))
    config.use(config.current()._replace(protocols={"openai": "responses"}))
    with pytest.raises(errors.ServerError, match="It fell over") as caught:
        await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "response.output_text.delta"},
        {"type": "response.output_text.delta", "delta": 7},
        {"type": "response.function_call_arguments.delta", "output_index": 9, "delta": "x"},
        {"type": "response.output_item.added", "item": {"type": "function_call"}},
        {"type": "response.output_item.done", "output_index": 0, "item": 7},
        {"type": "response.output_item.done", "output_index": [], "item": {}},
        {"type": "response.completed", "response": {"output": 5}},
        {"type": "response.completed"},
        {"type": 7},
        {},
        {"status": "completed", "output": "x"},
    ],
)
async def test_what_is_not_the_protocol_is_an_error_and_the_text_is_kept(service, wrong):
    bad = b"data: " + json.dumps(wrong).encode() + b"\n\n"
    service.on(PATH, answer(*stream(said(0, "so far"))[:-1], bad))
    config.use(config.current()._replace(protocols={"openai": "responses"}))
    with pytest.raises(errors.FormatError) as caught:
        await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


async def test_what_stands_behind_the_end_is_not_waited_for(service):
    from tests.loopback import HANG, chunk, head

    service.on(PATH, [head(), *map(chunk, stream(said(0, "Yes"))), HANG])
    given = Responses.create_async_generator("m", "?", base_url=service.url, idle_timeout=5)
    assert [one async for one in given][-1] == FinishReason("stop")


# -- what is asked

ENCRYPTED = ["reasoning.encrypted_content"]


async def test_nothing_is_stored_there_and_its_thoughts_are_asked_for(body):
    assert await body("Hello") == {
        "model": "m",
        "input": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "store": False,
        "include": ENCRYPTED,
        "reasoning": {"summary": "auto"},
    }


@pytest.mark.parametrize(
    "model",
    ["gpt-4.1", "gpt-4o-mini", "gpt-3.5-turbo", "chatgpt-4o-latest", "ft:gpt-4o:me", "gpt-5-chat-latest"],
)  # fmt: skip
async def test_a_model_that_does_not_reason_is_not_asked_to(body, model):
    assert not {"reasoning", "include"} & (await body(model=model)).keys()


@pytest.mark.parametrize("model", ["gpt-5", "gpt-6-luna", "o3", "o1", "gpt-40", "my-deployment"])
async def test_any_other_is(body, model):
    assert (await body(model=model))["reasoning"] == {"summary": "auto"}


async def test_common_options_are_translated(body):
    schema = {"type": "object", "properties": {}}
    written = await body(
        max_tokens=9, temperature=0.5, reasoning_effort="low", verbosity="low", tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        stream_options={"include_usage": True}, include=["message.output_text.logprobs"],
    )  # fmt: skip
    assert {
        name: written[name] for name in written.keys() - {"model", "input", "stream", "store"}
    } == {
        "max_output_tokens": 9,
        "temperature": 0.5,
        "reasoning": {"summary": "auto", "effort": "low"},
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "x", "schema": schema},
        },
        "tools": [{"type": "function", **WEATHER["function"]}],
        "tool_choice": {"type": "function", "name": "weather"},
        "include": ["message.output_text.logprobs", *ENCRYPTED],
    }


async def test_the_services_own_words_are_passed_on(body):
    own = {"tools": [{"type": "web_search"}], "truncation": "auto", "store": True}
    written = await body(**own, reasoning={"summary": None}, text={"verbosity": "high"})
    assert {name: written[name] for name in own} == own
    assert written["reasoning"] == {}
    assert written["text"] == {"verbosity": "high"}


@pytest.mark.parametrize("name", ["stop", "seed", "n", "logit_bias"])
async def test_what_it_does_not_take_is_told_before_it_is_sent(events, service, name):
    with pytest.raises(errors.UsageError, match=rf"takes no {name} .*\n.*completions"):
        await events([], **{name: 1})
    assert not service.requests


async def test_messages_are_items(body):
    pdf, image = FilePart("a.pdf", b"%PDF", "application/pdf"), ImagePart("https://h/a.png", "low")
    conversation = (
        Message("system", "Be brief."),
        Message("user", (TextPart("See"), image, pdf, FilePart("a.txt", b"hi"))),
        Message("assistant", (TextPart("I look."), ToolCall("c", "f", ""))),
        Message("tool", (TextPart("seen"), ImagePart("data:image/png;base64,cG5n")), "c"),
        Message("assistant", "Well."),
        Message("user", "And?"),
    )
    assert (await body(conversation))["input"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "https://h/a.png", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
                {"type": "input_text", "text": "a.txt:\nhi"},
            ],
        },
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [
                {"type": "input_text", "text": "seen"},
                {"type": "input_image", "image_url": "data:image/png;base64,cG5n"},
            ],
        },
        {"role": "assistant", "content": "Well."},
        {"role": "user", "content": "And?"},
    ]  # fmt: skip


async def test_a_result_of_no_call_is_refused(events, service):
    with pytest.raises(errors.UsageError, match="tool_call_id"):
        await events([], [{"role": "tool", "content": "12 °C"}])
    assert not service.requests


@pytest.mark.parametrize(
    ("said", "how"),
    [
        ("Your organization must be verified to generate reasoning summaries.", "'reasoning={"),
        ("Unsupported parameter: 'reasoning.summary' is not supported.", "reasoning=false"),
        ("Encrypted content is not supported with this model.", "reasoning=false"),
    ],
)
async def test_what_is_refused_of_the_reasoning_says_how_to_do_without(events, said, how):
    body = json.dumps({"error": {"message": said}}).encode()
    with pytest.raises(errors.RequestError, match=f"--option {how}"):
        await events(answer(body, status=400, content_type="application/json"))


async def test_without_reasoning_nothing_is_asked_of_it(body):
    assert not {"reasoning", "include"} & (await body(reasoning=False)).keys()


async def test_a_byte_at_a_time_is_whole(events):
    script = byte_by_byte(b"".join(stream(said(0, "Grüße 😀"))))
    assert (await events(script))[0] == Text("Grüße 😀")


# -- when it is asked by


def protocol_of(name, **options):
    return routes.find(ModelId(name, "m"), options).provider.protocol


@pytest.mark.parametrize(
    ("root", "protocol"),
    [
        ("https://api.openai.com/v1", "responses"),
        ("https://API.OpenAI.com:443/v1", "responses"),
        ("https://mine.openai.azure.com/openai/v1", "responses"),
        ("http://127.0.0.1:8000/v1", "completions"),
        ("https://api.openai.com.evil.example/v1", "completions"),
        ("https://evil.example/api.openai.com/", "completions"),
        ("https://api.openai.com@evil.example/v1", "completions"),
    ],
)
def test_openai_and_azure_are_asked_by_it_and_other_addresses_by_completions(
    monkeypatch, root, protocol
):
    assert protocol_of("openai", base_url=root) == protocol
    monkeypatch.setenv("OPENAI_BASE_URL", root)
    assert protocol_of("openai") == protocol


def test_the_user_chooses_otherwise():
    assert (protocol_of("openai"), protocol_of("groq")) == ("responses", "completions")
    config.use(config.Config(protocols={"openai": "completions", "groq": "responses"}))
    assert (protocol_of("openai"), protocol_of("groq")) == ("completions", "responses")
    assert protocol_of("anthropic") == "anthropic"


def test_whoever_is_asked_is_the_same_service_in_either_protocol():
    one = routes.find(ModelId("openai", "m"), {}).provider
    config.use(config.Config(protocols={"openai": "completions"}))
    other = routes.find(ModelId("openai", "m"), {}).provider
    assert one is not other
    for name in (
        "__name__",
        "__doc__",
        "name",
        "label",
        "base_url",
        "key_variables",
        "default_model",
    ):
        assert getattr(one, name) == getattr(other, name)


async def test_the_default_models_tools_are_asked_for_in_a_way_that_the_service_takes(
    service, monkeypatch
):
    """It refuses functions by chat completions, unless the effort is none, even where it is not set."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test-0123456789")
    root = "http://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", root)
    service.on("/v1/responses", answer(*stream(said(0, "Sunny"))))
    reply = await ipychat.ask("?", model="openai:", tools=[WEATHER], proxy=service.url)
    assert reply.text == "Sunny"
    assert service.requests[0].headers["Host"] == "api.openai.com"
    sent = service.requests[0].json
    assert "effort" not in sent["reasoning"]
    assert sent["tools"] == [{"type": "function", **WEATHER["function"]}]
