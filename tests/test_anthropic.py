"""Anthropic's messages: what the contract, which holds for all, does not know of."""

import itertools
import json

import pytest

from ipychat import ask, errors
from ipychat.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    Notice,
    Text,
    TextPart,
    ToolCall,
    Usage,
)
from ipychat.providers import _service
from ipychat.providers.anthropic import Anthropic
from ipychat.providers.provider import Card
from ipychat.store import credentials
from tests.loopback import FIN, HANG, answer, byte_by_byte, chunk, head
from tests.protocols import joined, message_event as event, sse, thought

pytestmark = pytest.mark.usefixtures("sessions")
PATH = "/v1/messages"
MODELS = "/v1/models"
KEY = "sk-ant-a-key-of-the-tests"
QUESTION = [{"role": "user", "content": "?"}]


@pytest.fixture
def events(service):
    async def run(*script, messages=QUESTION, **options):
        service.on(PATH, list(script))
        given = Anthropic.create_async_generator("m", messages, base_url=service.url, **options)
        return [event async for event in given]

    return run


@pytest.fixture
def sent(events, service):
    """Ask, and return the body that was sent."""

    async def run(*messages, **options):
        await events(*answer(*stream()), messages=list(messages) or QUESTION, **options)
        return service.requests[-1].json

    return run


@pytest.fixture
def refused(events, service):
    """Ask, and return why nothing was sent."""

    async def run(*messages, **options):
        with pytest.raises(errors.UsageError) as caught:
            await events(*answer(), messages=list(messages) or QUESTION, **options)
        assert not service.requests
        return str(caught.value)

    return run


# -- what the service writes, after its reference


def begin(**usage):
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
        "stop_reason": None, "stop_sequence": None,
    }  # fmt: skip
    counts = {"input_tokens": 25, "output_tokens": 1, **usage}
    return event("message_start", message={**message, "usage": counts})


def block(index, kind, *deltas, **fields):
    """A block of the content: its start, its deltas, its stop."""
    given = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    started = event("content_block_start", index=index, content_block={"type": kind, **fields})
    return [started, *given, event("content_block_stop", index=index)]


def text_block(index, *texts):
    return block(index, "text", *({"type": "text_delta", "text": t} for t in texts), text="")


def tool_block(index, id_, name, *pieces, kind="tool_use"):
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    return block(index, kind, *deltas, id=id_, name=name, input={})


def end(reason="end_turn", *, output=15, details=None, **usage):
    delta = {"stop_reason": reason, "stop_sequence": None}
    if details:
        delta["stop_details"] = details
    ended = event("message_delta", delta=delta, usage={"output_tokens": output, **usage})
    return [ended, event("message_stop")]


def stream(*blocks, reason="end_turn", **more):
    return [begin(), event("ping"), *itertools.chain(*blocks), *end(reason, **more)]


USAGE = Usage(input=25, output=15)
RECORDED = {
    "plain text": (
        stream(text_block(0, "Hello", "!")),
        [Text("Hello!"), USAGE, FinishReason("stop")],
    ),
    "two blocks of text": (
        stream(text_block(0, "It is ", "cold"), text_block(1, ", they say.")),
        [Text("It is cold, they say."), USAGE, FinishReason("stop")],
    ),
    "text with citations": (
        stream(
            block(
                0,
                "text",
                {"type": "text_delta", "text": "The grass is green"},
                {
                    "type": "citations_delta",
                    "citation": {"type": "char_location", "cited_text": "Grass."},
                },
                {"type": "text_delta", "text": "."},
                text="",
                citations=[],
            )
        ),
        [Text("The grass is green."), USAGE, FinishReason("stop")],
    ),
    "thinking": (
        stream(
            block(
                0,
                "thinking",
                {"type": "thinking_delta", "thinking": "Let me see.\n"},
                {"type": "thinking_delta", "thinking": "27 * 453 = 12231"},
                {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
                thinking="",
                signature="",
            ),
            text_block(1, "27 * 453 = ", "12,231"),
            output_tokens_details={"thinking_tokens": 9},
        ),
        [
            thought(
                "Let me see.\n27 * 453 = 12231",
                type="thinking",
                thinking="Let me see.\n27 * 453 = 12231",
                signature="EqQBCgIYAhIM1gbcDa9GJwZA2b3h",
            ),
            Text("27 * 453 = 12,231"),
            Usage(input=25, output=15, reasoning=9),
            FinishReason("stop"),
        ],
    ),
    "thinking that is not told": (
        stream(
            block(0, "redacted_thinking", data="EmwKAhgBEgy3va3pzix"),
            block(
                1,
                "thinking",
                {"type": "signature_delta", "signature": "EosnCkYICxIMMb3LzNr"},
                thinking="",
                signature="",
            ),
            text_block(2, "Yes."),
        ),
        [
            thought(type="redacted_thinking", data="EmwKAhgBEgy3va3pzix"),
            thought(type="thinking", thinking="", signature="EosnCkYICxIMMb3LzNr"),
            Text("Yes."),
            USAGE,
            FinishReason("stop"),
        ],
    ),
    "a tool call": (
        stream(
            text_block(0, "Let me look."),
            tool_block(1, "toolu_1", "weather", "", '{"place": "San', ' Francisco"}'),
            reason="tool_use",
        ),
        [
            Text("Let me look."),
            ToolCall("toolu_1", "weather", '{"place": "San Francisco"}'),
            USAGE,
            FinishReason("tool_calls"),
        ],
    ),
    "two tool calls, one without arguments": (
        stream(
            tool_block(0, "toolu_1", "weather", '{"place": ', '"Zürich"}'),
            tool_block(1, "toolu_2", "time", ""),
            reason="tool_use",
        ),
        [
            ToolCall("toolu_1", "weather", '{"place": "Zürich"}'),
            ToolCall("toolu_2", "time", "{}"),
            USAGE,
            FinishReason("tool_calls"),
        ],
    ),
    "a tool of the service's own": (
        stream(
            text_block(0, "I'll search."),
            tool_block(1, "srvtoolu_1", "web_search", '{"query": "x"}', kind="server_tool_use"),
            block(
                2,
                "web_search_tool_result",
                tool_use_id="srvtoolu_1",
                content=[{"type": "web_search_result", "title": "A page", "url": "https://x.org"}],
            ),
            text_block(3, " Found."),
            server_tool_use={"web_search_requests": 1},
        ),
        [Text("I'll search. Found."), USAGE, FinishReason("stop")],
    ),
    "what is not known yet": (
        [
            begin(),
            event("a_new_event", text="nothing to show"),
            *block(0, "a_new_block", {"type": "text_delta", "text": "nothing to show"}),
            *text_block(1, "Yes"),
            *block(2, "text", {"type": "a_new_delta", "text": "nothing to show"}, text=""),
            *end(),
        ],
        [
            Notice("Anthropic also sent a part that is not shown: a_new_block."),
            Text("Yes"),
            USAGE,
            FinishReason("stop"),
        ],
    ),
    "text that stands in the start of its block": (
        stream(block(0, "text", {"type": "text_delta", "text": "lo"}, text="Hel")),
        [Text("Hello"), USAGE, FinishReason("stop")],
    ),
    "tokens of the cache": (
        [
            begin(cache_read_input_tokens=100, cache_creation_input_tokens=30),
            *text_block(0, "Yes"),
            *end(output=7),
        ],
        [Text("Yes"), Usage(input=155, output=7, cached=100, stored=30), FinishReason("stop")],
    ),
    "tokens that are counted anew at the end": (
        [
            begin(cache_read_input_tokens=None),
            *text_block(0, "Yes"),
            *end(input_tokens=2000, cache_read_input_tokens=1, cache_creation_input_tokens=None),
        ],
        [Text("Yes"), Usage(input=2001, output=15, cached=1), FinishReason("stop")],
    ),
    "a refusal that is explained": (
        stream(
            text_block(0, "Well, "),
            reason="refusal",
            details={"type": "refusal", "category": "bio", "explanation": "It may do harm."},
        ),
        [
            Text("Well, "),
            Notice("The model refuses: It may do harm."),
            USAGE,
            FinishReason("content_filter"),
        ],
    ),
    "a refusal without a word": (
        stream(reason="refusal", details={"type": "refusal", "explanation": None}),
        [USAGE, FinishReason("content_filter")],
    ),
}


@pytest.mark.parametrize(("pieces", "expected"), RECORDED.values(), ids=RECORDED)
class TestARecordedStreamGivesItsEvents:
    async def test_in_a_packet_for_each(self, events, pieces, expected):
        assert joined(await events(*answer(*pieces))) == expected

    async def test_in_one_packet(self, events, pieces, expected):
        assert joined(await events(*answer(b"".join(pieces)))) == expected

    async def test_byte_by_byte(self, events, pieces, expected):
        assert joined(await events(*byte_by_byte(b"".join(pieces)))) == expected


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        ("a_new_reason", "a_new_reason"),
    ],
)
async def test_how_it_ended_is_told(events, reason, ours):
    assert (await events(*answer(*stream(reason=reason))))[-1] == FinishReason(ours)


# -- one JSON body


def body(*content, reason="end_turn"):
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "content": content,
        "stop_reason": reason, "usage": {"input_tokens": 3, "output_tokens": 4},
    }  # fmt: skip
    return json.dumps(message).encode()


CONTENT = [
    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "text", "text": "Hello"},
    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
    {"type": "text", "text": ", you.", "citations": None},
    {"type": "tool_use", "id": "t", "name": "weather", "input": {"place": "Zürich"}},
    {"type": "tool_use", "id": "u", "name": "time", "input": {}},
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_one_json_body_is_whole_whether_a_stream_was_asked_or_not(
    events, service, content_type, streamed
):
    script = answer(b"\n " + body(*CONTENT, reason="tool_use"), content_type=content_type)
    assert joined(await events(*script, stream=streamed)) == [
        thought("Hm.", **CONTENT[0]),
        thought(**CONTENT[1]),
        Text("Hello, you."),
        ToolCall("t", "weather", '{"place": "Zürich"}'),
        ToolCall("u", "time", "{}"),
        Usage(3, 4),
        FinishReason("tool_calls"),
    ]
    assert service.requests[0].json["stream"] is streamed


@pytest.mark.parametrize(
    "said",
    [
        b'{"type": "ping"}',
        b'{"type": "message", "content": "Hi"}',
        body({"type": "text", "text": "Hello"}, reason=None),
    ],
)
async def test_json_that_is_no_whole_message_is_an_error(service, said):
    service.on(PATH, answer(said))
    with pytest.raises(errors.AnswerError):
        await ask("?", model="anthropic:m", base_url=service.url)


async def test_a_torn_json_body_is_an_error(events):
    with pytest.raises(errors.FormatError, match="not valid JSON"):
        await events(*answer(body({"type": "text", "text": "Hello"})[:-9]))


# -- what goes wrong

OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}


async def collected(given):
    """The events, and the error that ended them."""
    events = []
    with pytest.raises(errors.ChatError) as caught:
        async for one in given:
            events += [one]
    return events, caught.value


@pytest.mark.parametrize("split", [True, False])
async def test_an_error_in_mid_stream_is_the_services_and_the_text_before_it_is_kept(
    service, split
):
    pieces = [begin(), *text_block(0, "so ", "far")[:-1], event("error", error=OVERLOADED)]
    service.on(PATH, answer(*(pieces if split else [b"".join(pieces)])))
    given = Anthropic.create_async_generator("m", QUESTION, base_url=service.url)
    events, error = await collected(given)
    assert joined(events) == [Text("so far")]
    assert isinstance(error, errors.ServerError)
    assert str(error) == "Anthropic answered with an error: Overloaded"


async def test_an_error_without_a_message_is_one_too(events):
    with pytest.raises(errors.ServerError):
        await events(*answer(begin(), event("error")))


async def test_an_overloaded_service_is_asked_again_and_the_user_is_told(events, service):
    busy = json.dumps({"type": "error", "error": OVERLOADED, "request_id": "req_1"}).encode()
    refuses = answer(busy, status=529, content_type="application/json", Retry_After="0")
    service.on(PATH, refuses, answer(*stream(text_block(0, "Yes"))))
    reply = await ask("?", model="anthropic:m", base_url=service.url)
    assert reply.text == "Yes"
    assert "answered 529: Overloaded" in reply.notices[0]
    with pytest.raises(errors.ServerError, match="Overloaded") as caught:
        await events(*refuses, retries=0)
    assert caught.value.status == 529


def delta(**fields):
    return sse(json.dumps({"type": "content_block_delta", "index": 0, **fields}))


def of_type(kind, **fields):
    return sse(json.dumps({"type": kind, **fields}))


@pytest.mark.parametrize(
    "line",
    [
        sse('{"choices": [{"delta": {"content": "Hi"}}]}'),
        sse('{"type": 7}'),
        sse('{"type": ["ping"]}'),
        sse('{"type": null}'),
        delta(),
        delta(delta=None),
        delta(delta=[]),
        delta(delta={}),
        delta(delta={"type": None, "text": "x"}, index=1) + delta(delta={"type": ["text_delta"]}),
        delta(delta={"type": "text_delta"}),
        delta(delta={"type": "text_delta", "text": None}),
        delta(delta={"type": "text_delta", "text": 5}),
        delta(delta={"type": "thinking_delta", "thinking": ["x"]}),
        delta(delta={"type": "input_json_delta", "partial_json": "{}"}, index=[0]),
        delta(delta={"type": "input_json_delta", "partial_json": {}}, index=9),
        of_type("content_block_start", index=0),
        of_type("content_block_start", content_block={"type": "text"}),
        of_type("content_block_start", index=0, content_block="text"),
        of_type("content_block_start", index=0, content_block={"type": "text", "text": 5}),
        of_type("content_block_start", index=0, content_block={"type": "tool_use"}),
        of_type(
            "content_block_start", index=0, content_block={"type": "tool_use", "id": 1, "name": "x"}
        ),
        of_type("content_block_start", index={}, content_block={"type": "a_new_block"}),
        of_type("message_start", message=None),
        of_type("message_start", message={"content": 7}),
        of_type("message_delta"),
        of_type("message_delta", delta={"stop_reason": 7}),
        of_type("message_delta", delta={"stop_reason": ["end_turn"]}),
        of_type("message_delta", delta={"stop_details": "no"}),
        of_type("message_delta", delta={"stop_details": {"explanation": 7}}),
    ],
)
@pytest.mark.parametrize("split", [True, False])
async def test_what_is_not_the_protocol_is_an_error_and_the_text_before_it_is_kept(
    service, line, split
):
    tool = event(
        "content_block_start",
        index=9,
        content_block={"type": "tool_use", "id": "t", "name": "x", "input": {}},
    )
    pieces = [begin(), tool, *text_block(1, "so far"), line, *end()]
    service.on(PATH, answer(*(pieces if split else [b"".join(pieces)])))
    given = Anthropic.create_async_generator("m", QUESTION, base_url=service.url)
    events, error = await collected(given)
    assert events == [Text("so far")]
    assert type(error) is errors.FormatError


@pytest.mark.parametrize("line", ["1,2", '"a"', "[1]", "null", '{"a": 1},{"b": 2}', "[DONE]"])
async def test_a_payload_that_is_no_object_is_an_error(events, line):
    with pytest.raises(errors.FormatError, match="not valid JSON"):
        await events(*answer(begin() + sse(line)))


@pytest.mark.parametrize(
    "usage", [7, "x", ["output_tokens"], {"output_tokens": "7"}, {"output_tokens_details": 7}]
)
async def test_usage_that_can_not_be_read_is_no_error(events, usage):
    ended = event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    given = await events(*answer(begin(), *text_block(0, "Yes"), ended, event("message_stop")))
    assert (given[0], given[-1]) == (Text("Yes"), FinishReason("stop"))


async def test_what_goes_wrong_behind_the_reason_is_said_and_takes_nothing(events):
    pieces = [begin(), *tool_block(0, "t", "time", "{}"), *end("tool_use")[:-1]]
    notice, call, usage, finish = await events(*answer(*pieces, event("error", error=OVERLOADED)))
    assert "behind the answer: Anthropic answered with an error: Overloaded" in notice.text
    assert (call, usage) == (ToolCall("t", "time", "{}"), USAGE)
    assert finish == FinishReason("tool_calls")


async def test_a_new_block_takes_the_place_of_the_one_at_its_index(events):
    pieces = stream(tool_block(0, "t", "time", "{}"), text_block(0, "Yes"), reason="tool_use")
    given = await events(*answer(*pieces))
    assert given[:2] == [Text("Yes"), ToolCall("t", "time", "{}")]


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [([], '{"a": 1}'), (["", '{"a"', ": 2}"], '{"a": 2}')],
)
async def test_pieces_of_an_input_take_the_place_of_the_one_in_the_start(events, pieces, arguments):
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    called = block(0, "tool_use", *deltas, id="t", name="f", input={"a": 1})
    given = await events(*answer(*stream(called, reason="tool_use")))
    assert given[0] == ToolCall("t", "f", arguments)


async def test_over_a_thousand_calls_are_an_error(events):
    calls = (tool_block(i, f"t{i}", "f", "{}") for i in range(1001))
    with pytest.raises(errors.FormatError, match="over 1,000 tool calls"):
        await events(*answer(b"".join(stream(*calls))))


async def test_what_comes_after_the_stop_is_not_waited_for(events):
    whole = b"".join(stream(text_block(0, "Yes")))
    script = [head(), chunk(whole + sse("[DONE]")), HANG]
    assert await events(*script, idle_timeout=5) == [Text("Yes"), USAGE, FinishReason("stop")]


@pytest.mark.parametrize("how", [FIN, HANG])
async def test_a_connection_lost_between_the_reason_and_the_stop_is_said_but_no_error(events, how):
    pieces = stream(text_block(0, "Yes"))[:-1]
    script = [head(), *map(chunk, pieces), how]
    text, notice, usage, finish = await events(*script, idle_timeout=0.3)
    assert (text, usage, finish) == (Text("Yes"), USAGE, FinishReason("stop"))
    assert "behind the answer" in notice.text


async def test_a_stop_without_a_reason_is_no_end(service):
    service.on(PATH, answer(begin(), *text_block(0, "so far"), event("message_stop")))
    with pytest.raises(errors.BrokenAnswerError, match="without saying") as caught:
        await ask("?", model="anthropic:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


# -- what is sent


async def test_a_question_is_sent_with_what_the_service_wants_of_each(sent, service):
    assert await sent() == {
        "model": "m",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "cache_control": {"type": "ephemeral"},
    }
    [asked] = service.requests
    assert (asked.method, asked.path) == ("POST", PATH)
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert asked.headers["Content-Type"] == "application/json"


async def test_nothing_of_travelling_is_sent(sent):
    travel = {"idle_timeout": 5, "connect_timeout": 5, "timeout": 50, "retries": 1, "proxy": ""}
    body = await sent(api_key=KEY, **travel)
    assert body.keys() == {"model", "max_tokens", "messages", "stream", "cache_control"}


async def test_system_messages_go_to_the_system_wherever_they_stand(sent):
    body = await sent(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "system", "content": " "},
        {"role": "user", "content": "?"},
    )
    assert body["system"] == "Be brief.\n\nBe kind."
    assert body["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "?"},
    ]


async def test_images_and_files_are_sent_as_blocks(sent):
    message = Message(
        "user",
        (
            TextPart("What is this?"),
            TextPart("\n"),
            ImagePart.of_bytes(b"png", "image/png"),
            ImagePart("HTTPS://example.org/a.jpg"),
            FilePart("a.pdf", b"pdf", "application/pdf"),
            FilePart("a.csv", "\ufeffa,ü".encode(), "text/csv; charset=utf-8"),
            FilePart("a.json", b"{}", "application/json"),
        ),
    )
    assert (await sent(message.to_dict()))["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"},
        },
        {"type": "image", "source": {"type": "url", "url": "HTTPS://example.org/a.jpg"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
            "title": "a.pdf",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "a,ü"},
            "title": "a.csv",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "{}"},
            "title": "a.json",
        },
    ]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (FilePart("a.zip", b"PK\0\0", "application/zip"), "a.zip"),
        (FilePart("a.bin", b"\x80"), "a.bin"),
        (FilePart("a.txt", b"\xff\xfe", "text/plain"), "UTF-8"),
        (ImagePart.of_bytes(b"bmp", "image/bmp"), "png"),
        (ImagePart("data:image/png,raw"), "base64"),
        (ImagePart("data:image/png;base64"), "base64"),
        (ImagePart("file:///etc/passwd"), "web address"),
        (ImagePart("image/png"), "web address"),
    ],
)
async def test_a_part_that_the_service_takes_no_way_is_refused_before_anything_is_sent(
    refused, part, says
):
    assert says in await refused(Message("user", (TextPart("?"), part)).to_dict())


@pytest.mark.parametrize("role", ["system", "assistant"])
async def test_only_text_can_be_said_by_others_than_the_user(refused, role):
    picture = Message(role, (TextPart("?"), ImagePart("https://example.org/a.png"))).to_dict()
    assert role in await refused(QUESTION[0], picture)


CALLS = [ToolCall("t", "weather", '{"place": "Zürich"}'), ToolCall("u", "time", "")]


async def test_tool_calls_and_their_results_are_sent_as_blocks_the_results_in_one_message(sent):
    picture = (TextPart("seen"), ImagePart.of_bytes(b"png", "image/png"))
    body = await sent(
        QUESTION[0],
        Message("assistant", (TextPart("Let me look."), *CALLS)).to_dict(),
        Message("tool", "12 °C", tool_call_id="t").to_dict(),
        Message("tool", picture, tool_call_id="u").to_dict(),
        Message("tool", "", tool_call_id="v").to_dict(),
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": None, "tool_calls": [CALLS[1].to_dict()]},
        Message("tool", "noon", tool_call_id="u").to_dict(),
    )
    time = {"type": "tool_use", "id": "u", "name": "time", "input": {}}
    image = {"type": "base64", "media_type": "image/png", "data": "cG5n"}
    assert body["messages"] == [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t", "name": "weather", "input": {"place": "Zürich"}},
                time,
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "12 °C"},
                {
                    "type": "tool_result",
                    "tool_use_id": "u",
                    "content": [
                        {"type": "text", "text": "seen"},
                        {"type": "image", "source": image},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "v"},
            ],
        },
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": [time]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "u", "content": "noon"}],
        },
    ]


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", "[" * 1_000])
async def test_arguments_that_are_no_object_are_sent_as_the_model_wrote_them(sent, arguments):
    call = Message("assistant", (ToolCall("t", "weather", arguments),)).to_dict()
    result = Message("tool", "No such argument.", tool_call_id="t", failed=True).to_dict()
    _, [called], [told] = [
        one["content"] for one in (await sent(QUESTION[0], call, result))["messages"]
    ]
    assert called["input"] == {"malformed": arguments}
    assert told["is_error"] is True


async def test_a_result_of_no_call_is_refused(refused):
    assert "tool_call_id" in await refused(QUESTION[0], {"role": "tool", "content": "12 °C"})


async def test_a_message_without_a_word_is_left_out(sent):
    body = await sent(
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "\n"},
        {"role": "user", "content": [{"type": "text", "text": ""}]},
        {"role": "user", "content": "?"},
    )
    assert [one["content"] for one in body["messages"]] == ["Hello", "?"]


@pytest.mark.parametrize(
    "conversation",
    [
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Yes"}],
        [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": " \n"},
        ],
        [{"role": "system", "content": "Be brief."}],
        [{"role": "user", "content": [{"type": "text", "text": " "}]}],
    ],
)
async def test_where_nobody_asks_anything_it_is_said(refused, conversation):
    assert "the last message must be" in await refused(*conversation)


# -- options


async def test_options_of_the_service_go_into_the_body_as_they_are(sent):
    given = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 100,
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "low"},
        "metadata": {"user_id": "x"},
    }
    body = await sent(**given)
    assert {name: body[name] for name in given} == given


async def test_options_that_are_none_are_not_sent(sent):
    names = ["temperature", "max_tokens", "stop", "tools", "tool_choice", "response_format"]
    assert await sent(**dict.fromkeys(names)) == await sent()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 32_000),
        ({"thinking": {"type": "adaptive"}}, 32_000),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, 32_000),
        ({"thinking": {"type": "enabled", "budget_tokens": 40_000}}, 48_192),
        ({"max_completion_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "max_tokens": 50}, 50),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}, "max_tokens": 12_000}, 12_000),
    ],
)
async def test_there_is_room_for_an_answer_behind_the_thinking(sent, options, expected):
    assert (await sent(**options))["max_tokens"] == expected


@pytest.mark.parametrize("stop", ["END", ["END"]])
async def test_stop_is_the_services_stop_sequences(sent, stop):
    body = await sent(stop=stop)
    assert body["stop_sequences"] == ["END"]
    assert "stop" not in body


SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}


async def test_tools_are_written_in_the_services_form_and_its_own_pass(sent):
    own = {"name": "own", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    function = {"name": "weather", "description": "Now", "parameters": SCHEMA, "strict": True}
    bare = {"name": "time", "description": None}
    tools = [*({"type": "function", "function": one} for one in (function, bare)), own, search]
    assert (await sent(tools=tools))["tools"] == [
        {"name": "weather", "description": "Now", "input_schema": SCHEMA, "strict": True},
        {"name": "time", "input_schema": {"type": "object", "properties": {}}},
        own,
        search,
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "time"}}, {"type": "tool", "name": "time"}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
async def test_the_choice_of_a_tool_is_written_in_the_services_form(sent, choice, expected):
    assert (await sent(tool_choice=choice))["tool_choice"] == expected


async def test_a_schema_is_the_format_of_the_output_beside_what_else_is_set_for_it(sent):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    body = await sent(response_format=wanted, output_config={"effort": "low"})
    form = {"type": "json_schema", "schema": SCHEMA}
    assert body["output_config"] == {"effort": "low", "format": form}
    assert "response_format" not in body
    assert await sent(response_format={"type": "text"}) == await sent()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"response_format": {"type": "json_object"}}, "schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": None}}}, "schema"),
        ({"response_format": "json"}, "schema"),
        (
            {
                "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
                "output_config": "low",
            },
            "output_config",
        ),
        ({"tools": "weather"}, "list"),
        ({"tools": {"name": "weather"}}, "list"),
        ({"tools": ["weather"]}, "dict"),
        ({"tools": [{"type": "function", "function": {}}]}, "name"),
        ({"tools": [{"type": "function", "name": "weather"}]}, "function"),
        ({"tool_choice": "weather"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "weather"}}, "tool_choice"),
        ({"tool_choice": 7}, "tool_choice"),
    ],
)
async def test_an_option_that_can_not_be_written_is_refused_before_anything_is_sent(
    refused, options, says
):
    assert says in await refused(**options)


# -- keys and addresses


async def ask_at(service, **options):
    service.on(PATH, answer(*stream(text_block(0, "Yes"))))
    return await ask("?", model="anthropic:m", **options)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_the_key_of_the_environment_goes_to_the_environments_address(
    monkeypatch, service, ending
):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", service.url + ending)
    assert (await ask_at(service)).text == "Yes"
    [asked] = service.requests
    assert asked.path == PATH
    assert asked.headers["x-api-key"] == KEY
    assert "Authorization" not in asked.headers


async def test_the_key_of_the_environment_goes_to_no_other_address(monkeypatch, service):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    await ask_at(service, base_url=service.url)
    assert "x-api-key" not in service.requests[0].headers


async def test_a_key_that_is_given_goes_to_the_address_that_is_given(service):
    await ask_at(service, base_url=f"{service.url}/v1", api_key=KEY)
    assert service.requests[0].headers["x-api-key"] == KEY


async def test_a_kept_key_goes_to_its_address_however_that_is_written(service):
    credentials.keep_key("anthropic", service.url, KEY)
    await ask_at(service, base_url=f"{service.url}/v1/")
    assert service.requests[0].headers["x-api-key"] == KEY


@pytest.mark.parametrize("given", [None, "https://api.anthropic.com/v1"])
async def test_without_a_key_anthropic_itself_is_not_asked(given):
    with pytest.raises(errors.MissingKeyError, match="ANTHROPIC_API_KEY"):
        await ask("?", model="anthropic:m", base_url=given)
    with pytest.raises(errors.MissingKeyError, match="ANTHROPIC_API_KEY"):
        await Anthropic.cards(given)
    assert "%chat_login anthropic" in Anthropic.missing(Anthropic.root(given))


async def test_a_key_is_masked_in_the_services_own_error(events):
    said = {"type": "authentication_error", "message": f"invalid x-api-key {KEY}"}
    script = answer(json.dumps({"type": "error", "error": said}).encode(), status=401)
    with pytest.raises(errors.AuthenticationError) as caught:
        await events(*script, api_key=KEY)
    assert KEY not in f"{caught.value} {caught.value!r}"
    assert "invalid x-api-key" in str(caught.value)


# -- the list of models


def page(*models, after=None):
    ids = [one.get("id") for one in models]
    listed = {"data": models, "has_more": after is not None, "first_id": ids[0], "last_id": after}
    return answer(json.dumps(listed).encode(), content_type="application/json")


def model(name, **fields):
    return {"type": "model", "id": name, "display_name": name.title(), **fields}


async def test_the_models_of_all_pages_are_listed_with_what_is_known_of_them(service):
    seeing = {"image_input": {"supported": True}, "pdf_input": {"supported": True}}
    service.on(
        MODELS,
        page(
            model("opus", max_input_tokens=1_000_000, capabilities=seeing, lifecycle="active"),
            model("gone", lifecycle="retired"),
            model(
                "old", lifecycle="deprecated", capabilities={"image_input": {"supported": False}}
            ),
            after="old&x=1",
        ),
        page(model("haiku", max_input_tokens=0, capabilities=None), after="haiku"),
        page(model("bare")),
    )
    cards = await Anthropic.cards(service.url, api_key=KEY)
    assert cards == [
        Card("opus", context=1_000_000, vision=True),
        Card("old", vision=False),
        Card("haiku"),
        Card("bare"),
    ]
    assert [asked.query for asked in service.requests] == [
        "limit=1000",
        "limit=1000&after_id=old%26x%3D1",
        "limit=1000&after_id=haiku",
    ]
    for asked in service.requests:
        assert asked.headers["x-api-key"] == KEY
        assert asked.headers["anthropic-version"] == "2023-06-01"


async def test_a_list_that_says_nothing_of_pages_is_one_page(service):
    service.on(MODELS, answer(b'{"data": [{"id": "a"}, {"id": "b"}]}'))
    assert await Anthropic.cards(service.url) == [Card("a"), Card("b")]


async def test_a_list_that_does_not_end_is_an_error(service):
    service.on(MODELS, page(model("a"), after="a"))
    with pytest.raises(errors.FormatError, match="does not end"):
        await Anthropic.cards(service.url)
    assert len(service.requests) == _service.MAX_PAGES


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"<html>",
        b"{",
        b"[]",
        b"{}",
        b"7",
        b"\xff",
        b"[" * 100_000,
        b'{"data": null}',
        b'{"data": {"id": "a"}}',
        b'{"data": ["a"]}',
        b'{"data": [{"name": "a"}]}',
        b'{"data": [{"id": 7}]}',
        b'{"data": [{"id": "a", "capabilities": 7}]}',
        b'{"data": [{"id": "a", "capabilities": {"image_input": true}}]}',
        b'{"data": [{"id": "a"}], "has_more": true}',
        b'{"data": [{"id": "a"}], "has_more": true, "last_id": 7}',
        b'{"type": "error", "error": {"type": "api_error", "message": "no"}}',
    ],
)
async def test_a_list_that_can_not_be_read_is_an_error(service, said):
    service.on(MODELS, answer(said))
    with pytest.raises(errors.FormatError, match="can't be read"):
        await Anthropic.cards(service.url)


async def test_a_list_that_is_refused_is_the_services_error(service):
    said = {"type": "error", "error": {"type": "authentication_error", "message": "invalid key"}}
    service.on(MODELS, answer(json.dumps(said).encode(), status=401))
    with pytest.raises(errors.AuthenticationError, match="invalid key"):
        await Anthropic.cards(service.url, api_key=KEY)
