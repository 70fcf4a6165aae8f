"""Ollama's protocol: what the contract, which holds for all, does not know of."""

import asyncio
import json
import socket
import time

import pytest

from ipychat import ask, errors
from ipychat.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    Notice,
    Reasoning,
    Text,
    TextPart,
    ToolCall,
    Usage,
)
from ipychat.providers import ollama
from ipychat.providers.ollama import CLOUD, Ollama
from ipychat.providers.provider import Card
from ipychat.store import credentials
from tests.loopback import FIN, HANG, answer, chunk, head
from tests.protocols import CUTS, joined

pytestmark = pytest.mark.usefixtures("sessions")
CHAT, SHOW, TAGS = "/api/chat", "/api/show", "/api/tags"
NDJSON = "application/x-ndjson"
DONE = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(autouse=True)
def _nothing_is_known_of_any_model():
    ollama._sizes.clear()


def line(**fields) -> bytes:
    return (
        json.dumps({"model": "m", "created_at": "2026-09-17T15:42:59Z", **fields}).encode() + b"\n"
    )


def part(**message) -> bytes:
    return line(message={"role": "assistant", "content": "", **message}, done=False)


def done(reason="stop", **counts) -> bytes:
    return line(**{**DONE, "done_reason": reason}, **counts)


def as_json(value, **more) -> list:
    return answer(json.dumps(value).encode(), content_type="application/json", **more)


def shown(length=131072, capabilities=("completion", "tools"), kind="llama", **more) -> list:
    info = {"general.architecture": kind, f"{kind}.context_length": length}
    known = {"model_info": info, "capabilities": list(capabilities), "license": "MIT"}
    return as_json({**known, **more})


@pytest.fixture
def events(service):
    """Ask a model whose context is long, and return the events of the scripted answer."""
    service.on(SHOW, shown())

    async def run(*script, messages=HELLO, **options):
        service.on(CHAT, list(script) or answer(done(), content_type=NDJSON))
        given = Ollama.create_async_generator("m", messages, base_url=service.url, **options)
        return [event async for event in given]

    return run


@pytest.fixture
def sent(events, service):
    """Ask, and return the body that was sent."""

    async def run(**options):
        await events(**options)
        return service.asked(CHAT)[-1].json

    return run


# -- where it is


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("", "http://127.0.0.1:11434"),
        ("  ", "http://127.0.0.1:11434"),
        ('""', "http://127.0.0.1:11434"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        ("example.com:", "http://example.com:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("192.168.0.7", "http://192.168.0.7:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("http://0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("::", "http://[::1]:11434"),
        ("[::]:1234", "http://[::1]:1234"),
        ("http://example.com", "http://example.com"),
        ("http://example.com:11434/", "http://example.com:11434"),
        ("https://example.com", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("https://example.com:1234", "https://example.com:1234"),
        ("https://[::1]", "https://[::1]"),
        ("http://", "http://127.0.0.1"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        ("https://example.com/a/b/", "https://example.com/a/b"),
        (' "example.com" ', "http://example.com:11434"),
        ("'example.com:1234'", "http://example.com:1234"),
        ("example.com:port", "http://example.com:11434"),
        ("example.com:65536", "http://example.com:11434"),
        ("https://example.com:-1", "https://example.com"),
        ("https://me:secret@example.com/x", "https://me:secret@example.com/x"),
        ("ollama.com", CLOUD),
        ("https://ollama.com:443/", CLOUD),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(monkeypatch, given, root):
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert Ollama.root() == root
    assert Ollama.root("http://127.0.0.1:5") == "http://127.0.0.1:5"


def test_without_ollama_host_it_is_this_machine():
    assert Ollama.root() == Ollama.base_url == "http://127.0.0.1:11434"


@pytest.mark.parametrize("host", ["[x", "a:b:80", "http://[x@y]:1", "::1%", "ftp://a b"])
async def test_an_address_that_is_none_is_an_error_of_the_question_alone(monkeypatch, host):
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert Ollama.missing(Ollama.root()) is None
    with pytest.raises(errors.UnreachableError):
        await ask("?", model="ollama:m", retries=0, connect_timeout=0.5)


@pytest.mark.parametrize(("host", "place"), [(":9", "127.0.0.1:9"), ("[::]:9", "[::1]:9")])
def test_a_server_that_does_not_run_here_is_missing(monkeypatch, host, place):
    monkeypatch.setenv("OLLAMA_HOST", host)
    begin = time.monotonic()
    assert Ollama.missing(Ollama.root()) == (
        f"not running at {place}: start Ollama, or set OLLAMA_HOST"
    )
    assert time.monotonic() - begin < 1


def test_nothing_is_missing_where_a_server_runs(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("OLLAMA_HOST", f"0.0.0.0:{server.getsockname()[1]}")
        assert Ollama.missing(Ollama.root()) is None


def test_a_server_elsewhere_is_not_looked_for():
    assert Ollama.missing("http://192.0.2.1:11434") is None


def test_ollama_com_misses_its_key(monkeypatch):
    assert "%chat_login ollama" in Ollama.missing(CLOUD)
    monkeypatch.setenv("OLLAMA_API_KEY", "a-key-of-the-cloud")
    assert Ollama.missing(CLOUD) is None


# -- its key


@pytest.mark.parametrize(
    ("host", "root", "goes"),
    [
        (None, CLOUD, True),
        (None, "http://127.0.0.1:11434", False),
        (None, "http://192.168.0.7:11434", False),
        ("", "http://127.0.0.1:11434", False),
        ("''", "http://127.0.0.1:11434", False),
        ("192.168.0.7", "http://192.168.0.7:11434", True),
        ("192.168.0.7", "http://192.168.0.8:11434", False),
        ("192.168.0.7", "http://127.0.0.1:11434", False),
        ("192.168.0.7", CLOUD, True),
        ("ollama.com", CLOUD, True),
        ("ollama.com", "http://ollama.com", False),
    ],
)
def test_the_environments_key_goes_to_ollama_host_and_ollama_com_only(
    monkeypatch, host, root, goes
):
    monkeypatch.setenv("OLLAMA_API_KEY", "a-key-of-the-cloud")
    if host is not None:
        monkeypatch.setenv("OLLAMA_HOST", host)
    assert Ollama.key(root) == ("a-key-of-the-cloud" if goes else None)
    assert (Ollama.key_found(root) == "OLLAMA_API_KEY") is goes


async def test_the_key_travels_in_a_header_and_with_every_request(monkeypatch, service):
    monkeypatch.setenv("OLLAMA_API_KEY", "a-key-of-the-cloud")
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{service.port}")
    service.on(SHOW, shown())
    service.on(CHAT, answer(part(content="Hi"), done(), content_type=NDJSON))
    assert (await ask("Hello", model="ollama:m")).text == "Hi"
    assert {r.path for r in service.requests} == {SHOW, CHAT}
    for request in service.requests:
        assert request.headers["Authorization"] == "Bearer a-key-of-the-cloud"
        assert b"a-key" not in request.body


async def test_a_local_server_is_asked_without_a_key(events, service, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "a-key-of-the-cloud")
    await events()
    assert all("Authorization" not in request.headers for request in service.requests)


async def test_a_key_that_is_given_goes_where_it_is_given_for(events, service):
    await events(api_key="my-very-own-key")
    assert service.requests[-1].headers["Authorization"] == "Bearer my-very-own-key"


async def test_a_key_that_was_kept_goes_to_its_address(events, service):
    credentials.keep_key("ollama", service.url, "a-key-that-was-kept")
    await events()
    assert service.requests[-1].headers["Authorization"] == "Bearer a-key-that-was-kept"
    assert Ollama.key("http://192.0.2.1:11434") is None


async def test_ollama_com_is_not_asked_without_a_key():
    with pytest.raises(errors.MissingKeyError, match="OLLAMA_API_KEY"):
        await ask("?", model="ollama:m", base_url="ollama.com")


async def test_a_key_is_masked_in_its_own_error(events):
    refused = as_json({"error": "unauthorized: my-very-own-key"}, status=401)
    with pytest.raises(errors.AuthenticationError) as caught:
        await events(*refused, api_key="my-very-own-key")
    assert "my-very-own-key" not in f"{caught.value} {caught.value!r}"


# -- what is asked


async def test_without_a_model_nothing_is_asked(service):
    asking = Ollama.create_async_generator("", HELLO, base_url=service.url)
    with pytest.raises(errors.ModelNotSupportedError, match="no default model"):
        await anext(asking)
    assert not service.requests


async def test_the_body_forbids_to_cut_the_prompt(sent):
    assert await sent() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": {"num_ctx": 8192},
    }


async def test_every_option_has_its_place(sent):
    body = await sent(
        temperature=0.5,
        max_tokens=100,
        top_p=0.9,
        stop="END",
        seed=7,
        top_k=40,
        num_ctx=4096,
        min_p=None,
        options={"num_gpu": 1, "seed": 8},
        think="low",
        keep_alive="1h",
        tools=[WEATHER],
        tool_choice="auto",
        idle_timeout=5,
        retries=1,
    )
    assert body.pop("options") == {
        "temperature": 0.5,
        "num_predict": 100,
        "top_p": 0.9,
        "stop": ["END"],
        "seed": 7,
        "top_k": 40,
        "num_ctx": 4096,
        "num_gpu": 1,
    }
    assert body == {
        "model": "m",
        "messages": HELLO,
        "stream": True,
        "truncate": False,
        "shift": False,
        "think": "low",
        "keep_alive": "1h",
        "tools": [WEATHER],
    }


async def test_who_wants_the_prompt_to_be_cut_can_have_it(sent):
    body = await sent(truncate=True, shift=True)
    assert (body["truncate"], body["shift"]) == (True, True)


async def test_no_tools_go_along_where_none_may_be_called(sent):
    assert "tools" not in await sent(tools=[WEATHER], tool_choice="none")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            {"type": "object"},
        ),
    ],
)
async def test_a_response_format_is_a_format(sent, wanted, field):
    assert (await sent(response_format=wanted)).get("format") == field


async def test_a_format_in_its_own_form_passes(sent):
    assert (await sent(format={"type": "array"}))["format"] == {"type": "array"}


async def test_every_kind_of_message_is_written_in_its_form(sent):
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                ImagePart.of_bytes(b"png", "image/png").to_dict(),
                FilePart("a.csv", b"x,y\n1,2", "text/csv").to_dict(),
            ],
        },
        {"role": "assistant", "content": "A table."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                ToolCall("call_0", "weather", '{"city": "Bärn"}').to_dict(),
                ToolCall("call_1", "time", "").to_dict(),
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [ToolCall("call_0", "date", "{}").to_dict()],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "today"},
        {"role": "tool", "tool_call_id": "of-nobody", "content": "?"},
    ]
    assert (await sent(messages=messages))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?\na.csv:\nx,y\n1,2", "images": ["cG5n"]},
        {"role": "assistant", "content": "A table."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_0",
                    "function": {"name": "weather", "arguments": {"city": "Bärn"}},
                },
                {"id": "call_1", "function": {"name": "time", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "noon", "tool_call_id": "call_1", "tool_name": "time"},
        {"role": "tool", "content": "rain", "tool_call_id": "call_0", "tool_name": "weather"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_0", "function": {"name": "date", "arguments": {}}}],
        },
        {"role": "tool", "content": "today", "tool_call_id": "call_0", "tool_name": "date"},
        {"role": "tool", "content": "?", "tool_call_id": "of-nobody"},
    ]


def user(*parts) -> list:
    return [Message("user", parts).to_dict()]


def called(arguments: str) -> list:
    call = ToolCall("c", "weather", arguments).to_dict()
    return [*HELLO, {"role": "assistant", "content": "", "tool_calls": [call]}]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"messages": user(ImagePart("https://example.com/a.png"))}, "as bytes only"),
        ({"messages": user(ImagePart("data:image/png,abc"))}, "not base64"),
        ({"messages": user(ImagePart("data:image/png;base64,a b"))}, "not base64"),
        ({"messages": user(FilePart("a.pdf", b"\xff\xfe", "application/pdf"))}, "files of text"),
        ({"messages": user(FilePart("a.bin", b"a\0b"))}, "a.bin"),
        ({"messages": []}, "empty"),
        ({"tool_choice": "required"}, "which tool to call"),
        ({"tool_choice": {"type": "function"}}, "which tool to call"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"num_ctx": "big"}, "num_ctx"),
        ({"num_ctx": 0}, "num_ctx"),
        ({"num_ctx": True}, "num_ctx"),
        ({"options": {"num_ctx": 1.5}}, "num_ctx"),
        ({"options": "seed=1"}, "wants a dict"),
    ],
)
async def test_what_it_cannot_take_is_said_before_anything_is_sent(events, service, asked, says):
    with pytest.raises(errors.UsageError, match=says):
        await events(**asked)
    assert not service.requests


# -- how much of it fits


def prompt(tokens: int) -> list:
    return [{"role": "user", "content": "abc" * tokens}]


@pytest.mark.parametrize(
    ("asked", "context"),
    [
        ({"messages": prompt(5000)}, 8192),
        ({"messages": prompt(7000)}, 16384),
        ({"messages": prompt(15000)}, 32768),
        ({"messages": prompt(5000), "max_tokens": 4000}, 16384),
        ({"messages": prompt(100_000)}, 131072),
        ({"messages": prompt(130_000)}, 131072),
        ({"messages": [{"role": "user", "content": "ж" * 7000}]}, 16384),
        ({"messages": user(*[ImagePart.of_bytes(b"x", "image/png")] * 7)}, 16384),
        ({"tools": [{"type": "function", "function": {"name": "x" * 21000}}]}, 16384),
        ({"messages": called(json.dumps({"x": "y" * 21000}))}, 16384),
        ({"messages": called('{"city":')}, 8192),
        ({"messages": [{"role": "user", "content": "ok"}] * 1000}, 16384),
        ({"max_tokens": -1}, 8192),
    ],
)
async def test_the_context_has_room_for_prompt_and_answer_in_steps(sent, asked, context):
    assert (await sent(**asked))["options"]["num_ctx"] == context


@pytest.mark.parametrize(("length", "context"), [(2048, 2048), (8000, 8000), (9000, 8192)])
async def test_the_context_is_never_longer_than_the_models_own(sent, service, length, context):
    service.on(SHOW, shown(length))
    assert (await sent())["options"]["num_ctx"] == context


@pytest.mark.parametrize(
    ("parameters", "context"),
    [
        ('num_keep    24\nnum_ctx        32768\nstop    "num_ctx 5"', 32768),
        ("num_ctx 4096", 8192),
        ('stop    "num_ctx 65536"', 8192),
        ("num_ctx many", 8192),
        (None, 8192),
        (7, 8192),
    ],
)
async def test_the_context_is_never_shorter_than_the_model_is_set_to(
    sent, service, parameters, context
):
    service.on(SHOW, shown(parameters=parameters))
    assert (await sent())["options"]["num_ctx"] == context


async def test_a_model_that_thinks_has_more_room_for_its_answer(sent, service):
    assert (await sent(messages=prompt(5000)))["options"]["num_ctx"] == 8192
    ollama._sizes.clear()
    service.on(SHOW, shown(capabilities=["completion", "thinking"]))
    assert (await sent(messages=prompt(5000)))["options"]["num_ctx"] == 16384


@pytest.mark.parametrize("word", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_of_tokens_takes_no_more_than_half_of_what_the_model_has(sent, word):
    options = (await sent(**{word: 10**6}))["options"]
    assert options == {"num_predict": 10**6, "num_ctx": 131072}
    assert (await sent(**{word: 60_000}))["options"]["num_ctx"] == 65536


async def test_a_prompt_that_the_model_cannot_take_is_refused_with_both_numbers(events, service):
    service.on(SHOW, shown(4096))
    with pytest.raises(
        errors.UsageError, match=r"about 5,0\d\d tokens, and m takes 4,096"
    ) as caught:
        await events(messages=prompt(5000))
    assert "num_ctx=4096" in str(caught.value)
    assert not service.asked(CHAT)


async def test_a_num_ctx_that_is_given_holds_and_nothing_is_looked_up(sent, service):
    assert (await sent(num_ctx=512, messages=prompt(5000)))["options"] == {"num_ctx": 512}
    assert (await sent(options={"num_ctx": 600}))["options"] == {"num_ctx": 600}
    assert not service.asked(SHOW)


async def test_a_model_is_looked_up_once(events, service):
    await events()
    await events()
    [request] = service.asked(SHOW)
    assert (request.method, request.json) == ("POST", {"model": "m"})


@pytest.mark.parametrize(
    "script",
    [
        answer(b"no such path", status=404, content_type="text/plain"),
        as_json({"error": "no"}, status=403),
        as_json([]),
        as_json({}),
        as_json({"model_info": ["llama"]}),
        as_json({"model_info": {"general.architecture": "llama", "llama.context_length": "long"}}),
        as_json({"model_info": {"general.architecture": ["llama"]}}),
        answer(b'{"model_info"', content_type="application/json"),
        [head(200, "application/json"), chunk(b"{"), FIN],
    ],
)
async def test_where_the_models_length_is_not_said_it_is_asked_all_the_same(sent, service, script):
    service.on(SHOW, script)
    assert (await sent(messages=prompt(200_000)))["options"]["num_ctx"] == 262144


async def test_a_hang_of_the_look_up_ends_in_a_timeout(events, service):
    service.on(SHOW, [HANG])
    with pytest.raises(errors.ServiceTimeoutError):
        await events(idle_timeout=0.2)


def counted(**counts) -> list:
    return answer(part(content="Hi"), done(**counts), content_type=NDJSON)


def notices(given: list) -> list[str]:
    return [event.text for event in given if isinstance(event, Notice)]


@pytest.mark.parametrize(
    ("read", "tokens"),
    [
        (512, 100),  # all of the context is full
        (260, 5000),  # less was read than was written
    ],
)
async def test_a_prompt_that_an_old_ollama_cut_is_told(events, read, tokens):
    script = counted(prompt_eval_count=read, eval_count=2)
    given = await events(*script, num_ctx=512, messages=prompt(tokens))
    [notice] = notices(given)
    assert f"{read:,} tokens" in notice
    assert "may have cut" in notice
    assert given[-1] == FinishReason("stop")


@pytest.mark.parametrize(
    ("counts", "tokens"),
    [
        ({"prompt_eval_count": 12, "eval_count": 2}, 100),
        ({"prompt_eval_count": 511, "eval_count": 2}, 100),
        ({"prompt_eval_count": 5000, "eval_count": 2}, 5000),  # a cloud's context is its own
        ({"eval_count": 2}, 5000),
        ({}, 5000),
    ],
)
async def test_nothing_is_said_where_all_fits_or_nothing_is_known(events, counts, tokens):
    given = await events(*counted(**counts), num_ctx=512, messages=prompt(tokens))
    assert not notices(given)


@pytest.mark.parametrize("odd", ["many", [1], -1, 1.5, True, 10**400])
async def test_a_count_that_can_not_be_read_is_no_error(events, odd):
    script = counted(prompt_eval_count=odd, eval_count=2.0, prompt_eval_cached_count=odd)
    assert await events(*script) == [Text("Hi"), Usage(output=2), FinishReason("stop")]


async def test_an_answer_that_filled_the_context_is_told(events):
    full = counted(reason="length", prompt_eval_count=100, eval_count=412)
    [notice] = notices(await events(*full, num_ctx=512))
    assert "where the context of 512 tokens was full" in notice
    asked_for = counted(reason="length", prompt_eval_count=100, eval_count=50)
    assert not notices(await events(*asked_for, num_ctx=512, max_tokens=50))


# -- what is answered

COUNTS = {"prompt_eval_count": 29, "prompt_eval_cached_count": 20, "eval_count": 3}
RAIN = {"function": {"name": "weather", "arguments": {"city": "Bärn", "days": 2}}}
NOON = {"id": "abc", "function": {"index": 1, "name": "time", "arguments": {}}}
STREAMS = {
    "text": (
        [part(content="Hel"), part(content="lo ✓"), part(content="."), done(**COUNTS)],
        [Text("Hello ✓."), Usage(input=29, output=3, cached=20), FinishReason("stop")],
    ),
    "the last line has text": (
        [line(message={"content": "Hi"}, done=True, done_reason="stop")],
        [Text("Hi"), FinishReason("stop")],
    ),
    "thinking": (
        [
            part(thinking="Let me"),
            part(thinking=" see."),
            part(content="42"),
            part(content="!"),
            part(thinking="Or", content=" no"),
            done(),
        ],
        [Reasoning("Let me see."), Text("42!"), Reasoning("Or"), Text(" no"), FinishReason("stop")],
    ),
    "one call": (
        [part(content="I ask."), part(tool_calls=[RAIN]), done(eval_count=9)],
        [
            Text("I ask."),
            ToolCall("call_0", "weather", '{"city": "Bärn", "days": 2}'),
            Usage(output=9),
            FinishReason("tool_calls"),
        ],
    ),
    "two calls at once": (
        [part(tool_calls=[RAIN, NOON]), done()],
        [
            ToolCall("call_0", "weather", '{"city": "Bärn", "days": 2}'),
            ToolCall("abc", "time", "{}"),
            FinishReason("tool_calls"),
        ],
    ),
    "two calls one after the other": (
        [part(tool_calls=[RAIN]), part(tool_calls=[RAIN]), done("length")],
        [
            ToolCall("call_0", "weather", '{"city": "Bärn", "days": 2}'),
            ToolCall("call_1", "weather", '{"city": "Bärn", "days": 2}'),
            FinishReason("length"),
        ],
    ),
    "length": ([part(content="a"), done("length")], [Text("a"), FinishReason("length")]),
    "load": ([done("load")], [FinishReason("load")]),
    "unload": ([done("unload")], [FinishReason("unload")]),
    "no reason": ([part(content="a"), done("")], [Text("a"), FinishReason("stop")]),
    "a reason that is null": ([done(None)], [FinishReason("stop")]),
    "nulls": (
        [
            line(message=None, done=False),
            line(done=False),
            line(message={"content": None, "thinking": None, "tool_calls": None}),
            line(message={"content": "a"}, error=None),
            done(prompt_eval_count=None),
        ],
        [Text("a"), FinishReason("stop")],
    ),
    "calls without arguments": (
        [part(tool_calls=[{"function": {"name": "time", "arguments": None}}]), done()],
        [ToolCall("call_0", "time", "{}"), FinishReason("tool_calls")],
    ),
    "arguments that are JSON text": (
        [part(tool_calls=[{"function": {"name": "time", "arguments": '{"a": 1}'}}]), done()],
        [ToolCall("call_0", "time", '{"a": 1}'), FinishReason("tool_calls")],
    ),
}


@pytest.mark.parametrize("way", CUTS)
@pytest.mark.parametrize("stream", STREAMS)
async def test_a_stream_of_its_protocol_gives_its_events(events, stream, way):
    pieces, expected = STREAMS[stream]
    given = await events(*answer(*CUTS[way](pieces), content_type=NDJSON))
    assert (given if way == "one packet" else joined(given)) == expected


async def test_what_comes_after_the_end_is_not_waited_for(events):
    script = [head(200, NDJSON), chunk(part(content="a") + done() + part(content="b")), HANG]
    assert await events(*script, idle_timeout=5) == [Text("a"), FinishReason("stop")]


@pytest.mark.parametrize("space", [None, 2], ids=["one line", "many lines"])
@pytest.mark.parametrize("way", ["one packet", "byte by byte"])
async def test_one_json_body_is_whole(events, service, space, way):
    value = {**DONE, "message": {"role": "assistant", "content": "Hello ✓"}, "eval_count": 1}
    body = json.dumps(value, indent=space, ensure_ascii=False).encode()
    given = await events(*answer(*CUTS[way]([body]), content_type=NDJSON), stream=False)
    assert given == [Text("Hello ✓"), Usage(output=1), FinishReason("stop")]
    assert service.asked(CHAT)[0].json["stream"] is False


async def test_an_error_over_many_lines_is_told(events):
    body = json.dumps({"error": {"message": "no such luck"}}, indent=2).encode()
    with pytest.raises(errors.ServerError, match="no such luck"):
        await events(*answer(body), stream=False)


@pytest.mark.parametrize("torn", [b'{"message": {"content": "Hel', b'{"done": tr'])
async def test_a_torn_last_line_is_an_answer_that_broke_off(service, torn):
    service.on(SHOW, shown())
    service.on(CHAT, answer(part(content="so far"), torn, content_type=NDJSON))
    with pytest.raises(errors.BrokenAnswerError) as caught:
        await ask("?", model="ollama:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize(
    "odd",
    [
        b"[]\n",
        b"null\n",
        b"1,2\n",
        b'{"a": 1},{"b": 2}\n',
        b"[" * 100_000 + b"\n",
        line(message=["a"]),
        line(message="a"),
        part(content=["a"]),
        part(content=5),
        part(thinking=True),
        part(tool_calls=5),
        part(tool_calls=["weather"]),
        part(tool_calls=[{}]),
        part(tool_calls=[{"function": "weather"}]),
        part(tool_calls=[{"function": {"arguments": {}}}]),
        part(tool_calls=[{"function": {"name": 5}}]),
        part(tool_calls=[{"id": 5, "function": {"name": "weather"}}]),
        done(5),
        done(["stop"]),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_line_of_another_form_is_an_error_and_the_text_is_kept(service, odd, together):
    pieces = [part(content="so far"), odd, done()]
    service.on(SHOW, shown())
    service.on(
        CHAT,
        answer(
            *CUTS["one packet" if together else "every event a packet"](pieces), content_type=NDJSON
        ),
    )
    with pytest.raises(errors.FormatError) as caught:
        await ask("?", model="ollama:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("an error was encountered while running the model", "while running the model"),
        ({"message": "out of memory"}, "out of memory"),
        (["odd"], "answered with an error"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_an_error_in_mid_stream_keeps_the_text_and_the_calls(service, error, says, together):
    pieces = [part(content="so far"), part(tool_calls=[NOON]), line(error=error)]
    service.on(SHOW, shown())
    service.on(
        CHAT,
        answer(
            *CUTS["one packet" if together else "every event a packet"](pieces), content_type=NDJSON
        ),
    )
    with pytest.raises(errors.ServerError, match=says) as caught:
        await ask("?", model="ollama:m", base_url=service.url)
    assert caught.value.reply.text == "so far"
    assert caught.value.reply.tool_calls == (ToolCall("abc", "time", "{}"),)


async def test_an_unknown_model_is_an_error_that_says_how_to_get_it(events, service):
    missing = as_json({"error": "model 'm' not found"}, status=404)
    service.on(SHOW, missing)
    with pytest.raises(errors.NotFoundError, match="model 'm' not found") as caught:
        await events(*missing)
    assert caught.value.status == 404
    assert "ollama pull m" in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "the prompt is longer than the context length currently available to the model",
        '{"error":{"code":400,"message":"request (4289 tokens) exceeds the available context size"}}',
    ],
)
async def test_a_prompt_that_ollama_refuses_names_the_size(events, said):
    with pytest.raises(errors.RequestError, match="context") as caught:
        await events(*as_json({"error": said}, status=400))
    assert "num_ctx=8192" in str(caught.value)
    assert caught.value.status == 400


async def test_another_refusal_has_no_such_advice(events):
    with pytest.raises(errors.RequestError, match="does not support tools") as caught:
        await events(*as_json({"error": "m does not support tools"}, status=400))
    assert "num_ctx" not in str(caught.value)


# -- which models there are


def tags(*names: str) -> list:
    return as_json({"models": [{"name": name, "model": name, "size": 5} for name in names]})


async def test_the_models_are_listed_with_what_is_known_of_them(service):
    def one(request):
        return {
            "llama3.2:latest": shown(131072, ["completion", "tools"]),
            "gemma3:4b": shown(8192, ["completion", "vision"], "gemma3"),
            "nomic-embed-text:latest": shown(2048, ["embedding"], "nomic-bert"),
            "old:latest": as_json({"details": {"family": "llama"}}),
            "odd:latest": as_json({"capabilities": "all", "model_info": 5}),
            "gone:latest": as_json({"error": "model not found"}, status=404),
            "torn:latest": answer(b'{"capabilities"'),
            "list:latest": as_json([]),
        }[request.json["model"]]

    names = ["llama3.2", "gemma3:4b", "nomic-embed-text", "old", "odd", "gone", "torn", "list"]
    names = [name if ":" in name else f"{name}:latest" for name in names]
    service.on(TAGS, tags(*names))
    service.on(SHOW, one)
    assert await Ollama.cards(service.url) == [
        Card("llama3.2:latest", context=131072, vision=False, tools=True),
        Card("gemma3:4b", context=8192, vision=True, tools=False),
        Card("old:latest"),
        Card("odd:latest"),
        Card("gone:latest"),
        Card("torn:latest"),
        Card("list:latest"),
    ]
    [listed] = service.asked(TAGS)
    assert listed.method == "GET"


async def test_eight_models_are_asked_about_at_a_time(service):
    service.on(TAGS, tags(*(f"m{i}" for i in range(20))))
    service.on(SHOW, [HANG])
    listing = asyncio.create_task(Ollama.cards(service.url, idle_timeout=30))
    async with asyncio.timeout(10):
        while len(service.asked(SHOW)) < 8:
            await asyncio.sleep(0.01)
    service.on(SHOW, shown())
    listing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listing
    shows = service.asked(SHOW)
    assert len(shows) == 8
    for request in shows:
        assert await asyncio.to_thread(request.gone.wait, 5)


async def test_a_model_that_hangs_does_not_hide_the_others(service):
    service.on(TAGS, tags("slow", "quick"))
    service.on(SHOW, lambda request: [HANG] if request.json["model"] == "slow" else shown(4096))
    assert await Ollama.cards(service.url, idle_timeout=0.3) == [
        Card("slow"),
        Card("quick", context=4096, vision=False, tools=True),
    ]


async def test_an_ollama_without_models_has_none(service):
    service.on(TAGS, tags())
    assert await Ollama.cards(service.url) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"models": 5}', b'{"models": [5]}', b'{"models": [{}]}',
     b'{"models": [{"name": 5}]}', b'{"models": null}', b"[" * 100_000],
)  # fmt: skip
async def test_a_list_of_another_form_is_an_error(service, body):
    service.on(TAGS, answer(body, content_type="application/json"))
    with pytest.raises(errors.FormatError, match="list of models"):
        await Ollama.cards(service.url)


async def test_a_list_that_is_refused_is_an_error(service):
    service.on(TAGS, as_json({"error": "unauthorized"}, status=401))
    with pytest.raises(errors.AuthenticationError, match="unauthorized"):
        await Ollama.cards(service.url)


async def test_the_list_is_asked_for_with_the_key_that_is_given(service):
    service.on(TAGS, tags("m"))
    service.on(SHOW, shown())
    await Ollama.cards(service.url, api_key="my-very-own-key", retries=0)
    assert [r.headers["Authorization"] for r in service.requests] == ["Bearer my-very-own-key"] * 2


def test_a_text_part_alone_is_its_text():
    [written] = ollama._write_messages((Message("user", (TextPart("a"), TextPart("b"))),))
    assert written == {"role": "user", "content": "a\nb"}
