"""What a service sends holds no loop, defeats no time-out and fills no memory."""

import asyncio
import contextlib
import gc
import itertools
import json
import random
import sys
import time
import zlib

import brotli
import psutil
import pytest

import ipychat
from ipychat import config, errors, messages
from ipychat.chat.answer import Answer
from ipychat.messages import FinishReason, Notice, Reasoning, Text, ToolCall
from ipychat.providers import OpenAI, _reader, provider
from ipychat.store import replay
from ipychat.wire import http
from ipychat.wire.sse import EventDecoder
from tests.loopback import END, HANG, answer, chunk, head
from tests.protocols import OPENAI, PROTOCOLS, completion, message_event, sse
from tests.watch import slowness

pytestmark = pytest.mark.usefixtures("sessions")
PATH = OPENAI.path
MIB = 1 << 20
SMALL = 1 << 10
"""Bytes that an answer may have in these tests."""


@pytest.fixture(params=PROTOCOLS, ids=str)
def protocol(request, service):
    request.param.prepare(service)
    return request.param


@pytest.fixture
def ask(protocol, service, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")

    async def run(*steps, **options):
        service.on(protocol.path, [head(200, protocol.content_type), *steps])
        asked = f"{protocol.name}:{protocol.model}"
        return await ipychat.ask("?", model=asked, base_url=service.url, stream=True, **options)

    return run


@pytest.fixture
def small():
    config.use(config.Config(max_answer=SMALL))


@contextlib.asynccontextmanager
async def gaps():
    """Give a list of how long the loop was held, in seconds of CPU time, while the block runs."""
    held = []

    async def beat():
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            held.append(time.thread_time() - last)
            last = time.thread_time()

    gc.freeze()  # the garbage of all tests before is not this loop's to look through
    beating = asyncio.create_task(beat())
    try:
        yield held
    finally:
        beating.cancel()
        gc.unfreeze()


def longest_gap() -> float:
    """0.1 s; longer on a slow machine, and while coverage takes time of its own for each line."""
    return 0.1 * slowness() * (2 if sys.gettrace() else 1)


def bomb(unit: bytes, size: int, *, first: bytes = b"", noise: int = 0) -> list:
    """A br body that unpacks to `unit` again and again; `noise` bytes a MiB don't pack."""
    packer = brotli.Compressor(quality=5, lgwin=22)
    run = unit * (MIB // len(unit))
    packed = [packer.process(first)]
    for number in range(size // MIB):
        line = b": " + random.Random(number).randbytes(noise // 2).hex().encode() + b"\n\n"
        packed += [packer.process(line if noise else b""), packer.process(run)]
    packed.append(packer.finish())
    return [head(headers={"Content-Encoding": "br"}), chunk(b"".join(packed)), HANG]


async def warm(service):
    service.on(PATH, OPENAI.whole("warm"))
    await ipychat.ask("?", model="openai:m", base_url=service.url)


# -- what unpacks to much more than it is


@pytest.mark.heavy
@pytest.mark.parametrize("size", [100, 1024], ids=["234 bytes", "1.7 kB"])
@pytest.mark.parametrize("unit", [b"\n", b"\r", b":\n\n", b"data: 1\n\n", b"x"], ids=repr)
async def test_a_body_made_to_fill_memory_is_told_at_once(service, unit, size):
    await warm(service)
    service.on(PATH, bomb(unit, size * MIB, first=OPENAI.text("so far")))
    begin = time.process_time()
    async with gaps() as held:
        with pytest.raises(errors.FormatError) as caught:
            await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert time.process_time() - begin < 5
    assert max(held, default=0) < longest_gap()
    assert caught.value.reply.text == "so far"
    if unit != b"data: 1\n\n":  # which is none of the protocol
        assert "over 1,000 times its size" in str(caught.value)


@pytest.mark.heavy
async def test_the_same_in_gzip_is_told_at_once(service):
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join(packer.compress(b"\n" * MIB) for _ in range(100)) + packer.flush()
    service.on(PATH, [head(headers={"Content-Encoding": "gzip"}), chunk(packed), HANG])
    with pytest.raises(errors.FormatError, match="over 1,000 times its size"):
        await ipychat.ask("?", model="openai:m", base_url=service.url)


@pytest.mark.heavy
@pytest.mark.parametrize("unit", [b"\n", b"\r", b":\n\n", b"data:\n\n", b"x\n\n"], ids=repr)
async def test_a_time_out_is_exact_whatever_comes_without_end(service, unit):
    await warm(service)
    service.on(PATH, bomb(unit, 400 * MIB, first=OPENAI.text("so far"), noise=4096))
    took = []
    while len(took) < 5 and min(took, default=9) >= 1.2:  # a busy machine stalls by itself
        begin = time.monotonic()
        async with gaps() as held:
            with pytest.raises(errors.ServiceTimeoutError):
                await ipychat.ask("?", model="openai:m", base_url=service.url, timeout=1)
        took.append(time.monotonic() - begin)
        assert max(held, default=0) < longest_gap()
    assert 0.9 < min(took) < 1.2, "where nothing else runs, 1.01"


async def test_a_body_that_packs_well_is_no_bomb(service):
    packer = brotli.Compressor(quality=5)
    line = "All work and no play makes Jack a dull boy. " * 20
    pieces = OPENAI.pieces(*(f"{number} {line}" for number in range(2_000)))
    packed = b"".join([*map(packer.process, pieces), packer.finish()])
    assert sum(map(len, pieces)) > 1.5 * MIB
    assert 100 < sum(map(len, pieces)) / len(packed) < 1000
    service.on(PATH, [head(headers={"Content-Encoding": "br"}), chunk(packed), END])
    reply = await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert reply.text.count("Jack") == 2_000 * 20


@pytest.mark.parametrize("status", [400, 503])
async def test_the_body_of_an_error_is_read_as_far_as_its_message_goes(
    service, monkeypatch, status
):
    monkeypatch.setattr(http, "ERROR_BODY_TIMEOUT", 0.3)
    drip = [x for _ in range(100) for x in (chunk(b"slow "), 0.05)]
    service.on(PATH, [head(status), *drip])
    begin = time.monotonic()
    with pytest.raises(errors.ServiceError, match="slow slow"):
        await ipychat.ask("?", model="openai:m", base_url=service.url, retries=0)
    assert time.monotonic() - begin < 2


def test_an_interrupt_ends_a_cell_that_unpacks_without_end(shared):
    kernel, service = shared
    service.on(PATH, bomb(b"\n", 1024 * MIB, first=OPENAI.text("so far"), noise=4096))
    for _ in range(2):  # the first one loads what is loaded on first use
        sent = kernel.send("%chat --no-history hi")
        kernel.wait_for(lambda sent=sent: "so far" in kernel.cells[sent].shown("text/html"))
        begin = time.monotonic()
        kernel.interrupt()
        ran = kernel.wait(sent)
        took = time.monotonic() - begin
    assert "Interrupted" in ran.error
    assert took < 0.15, "50 ms, and what a busy machine adds"


# -- one line, one event


@pytest.mark.parametrize(
    "inside",
    ["[],", "{},", "1,", '{"a":1},', '"",'],
)
async def test_a_line_with_millions_of_values_is_refused_before_it_is_read(service, inside):
    line = sse('{"choices": [' + inside * (15 * MIB // len(inside)) + "1]}")
    service.on(PATH, answer(OPENAI.text("so far"), line))
    with pytest.raises(errors.FormatError, match="more in it than an answer has") as caught:
        await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert caught.value.reply.text == "so far"


async def test_a_long_text_with_all_that_code_has_is_no_such_line(service):
    code = 'values = {"a": [1, 2, (3, 4)], "b": f(x, y)}\n' * 20_000
    service.on(PATH, answer(*OPENAI.pieces(code)))
    reply = await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert reply.text == code


def test_an_event_of_many_lines_is_refused():
    decoder = EventDecoder()
    with pytest.raises(errors.FormatError, match="over 262,144 lines"):
        for _ in itertools.repeat(None, 1_000):
            decoder.feed(b"data: x\n" * 4096)


def test_blank_blocks_and_comments_cost_next_to_nothing():
    begin = time.thread_time()
    decoder = EventDecoder()
    for unit in (b"\n", b"\r\n", b":\n\n"):
        for _ in range(32):
            assert decoder.feed(unit * (MIB // len(unit) // 32)) == []
    assert time.thread_time() - begin < 0.5


# -- silence is counted in events


@pytest.mark.parametrize("noise", [b"\n", b": still here\n\n", b"\r\n\r\n"], ids=repr)
@pytest.mark.parametrize("text", ["so far", ""])
async def test_noise_is_no_answer_and_keeps_no_stream_open(ask, protocol, noise, text):
    if noise.startswith(b":") and protocol.content_type != "text/event-stream":
        pytest.skip("not an event stream")
    drip = [x for _ in range(200) for x in (chunk(noise), 0.05)]
    await ask(*map(chunk, protocol.pieces("warm")), END)  # what is imported on use is there
    begin = time.monotonic()
    with pytest.raises(errors.ServiceTimeoutError, match=r"sent nothing for 0\.5 s") as caught:
        await ask(*[chunk(protocol.text(text))] * bool(text), *drip, idle_timeout=0.5)
    assert time.monotonic() - begin < 2
    assert caught.value.reply.text == text


async def test_a_slow_answer_with_noise_between_its_events_is_waited_for(ask, protocol):
    noise = [x for _ in range(5) for x in (chunk(b"\n\n"), 0.1)]
    pieces = [x for piece in protocol.pieces(*"abcde") for x in (chunk(piece), *noise)]
    assert (await ask(*pieces, END, idle_timeout=2)).text == "abcde"


async def test_a_packet_sets_no_timer_of_its_own(service, monkeypatch):
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda *given, **how: timers.append(given) or call_at(*given, **how)
    )
    steps = [step for _ in range(60) for step in (chunk(OPENAI.text("a")), 0.005)]
    service.on(PATH, [head(), *steps, chunk(OPENAI.finish()), END])
    assert (await ipychat.ask("?", model="openai:m", base_url=service.url)).text == "a" * 60
    assert len(timers) < 20


async def test_packed_bytes_that_unpack_to_nothing_keep_no_stream_open(service):
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(OPENAI.text("so far")) + packer.flush(zlib.Z_FULL_FLUSH)
    nothing = b"\x00\x00\x00\xff\xff"  # a stored block without a byte in it
    drip = [x for _ in range(100) for x in (chunk(nothing), 0.05)]
    service.on(PATH, [head(headers={"Content-Encoding": "gzip"}), chunk(first), *drip])
    begin = time.monotonic()
    with pytest.raises(errors.ServiceTimeoutError) as caught:
        await ipychat.ask("?", model="openai:m", base_url=service.url, idle_timeout=0.5)
    assert time.monotonic() - begin < 2
    assert caught.value.reply.text == "so far"


async def test_a_reader_that_takes_its_time_is_no_silent_service(service):
    service.on(PATH, answer(*OPENAI.pieces("a", "b", "c")))
    options = {"base_url": service.url, "idle_timeout": 0.2}
    given = []
    async for event in OpenAI.create_async_generator(
        "m", [{"role": "user", "content": "?"}], **options
    ):
        given.append(event)
        await asyncio.sleep(0.3)
    assert given[-1] == FinishReason("stop")


async def test_an_answer_that_was_waited_for_in_vain_can_be_cancelled_as_any_other(service):
    service.on(PATH, [head(), chunk(OPENAI.text("a")), HANG])
    asking = asyncio.create_task(
        ipychat.ask("?", model="openai:m", base_url=service.url, idle_timeout=30)
    )
    while not service.asked(PATH):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.shield(asking)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


# -- an answer that is too long


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("letter", ["x", "é", "✓", "\N{GRINNING FACE}"])
async def test_an_answer_without_end_is_kept_up_to_the_bound(ask, protocol, service, letter):
    endless = itertools.repeat(chunk(protocol.text(letter * 100)), 10_000)
    reply = await ask(*endless, HANG)
    size = len(reply.text.encode())
    assert SMALL - len(letter.encode()) < size <= SMALL
    assert set(reply.text) == {letter}
    assert reply.finish == "max_answer"
    assert reply.cut_off == "Cut off: the answer reached the size that IPyChat.max_answer allows"
    [received] = service.asked(protocol.path)
    assert await asyncio.to_thread(received.gone.wait, 2), "the connection is closed"


@pytest.mark.usefixtures("small")
async def test_an_answer_that_just_fits_is_whole(ask, protocol):
    pieces = map(chunk, protocol.pieces("x" * (SMALL - 1), "y"))
    reply = await ask(*pieces, END)
    assert len(reply.text) == SMALL
    assert (reply.finish, reply.cut_off) == ("stop", None)


@pytest.mark.usefixtures("small")
async def test_a_body_in_one_is_held_to_the_same_bound(service):
    said = {"choices": [{"message": {"content": "x" * 5000}, "finish_reason": "stop"}]}
    service.on(PATH, answer(json.dumps(said).encode(), content_type="application/json"))
    reply = await ipychat.ask("?", model="openai:m", base_url=service.url, stream=False)
    assert (reply.text, reply.finish) == ("x" * SMALL, "max_answer")


PLUG_INS = {
    "text": (lambda: "x" * 300, Text),
    "dicts": (lambda: {"text": "x" * 300}, Text),
    "reasoning": (lambda: Reasoning("x" * 300), Reasoning),
    "notices": (lambda: Notice("x" * 300), Notice),
    "tool calls": (lambda: ToolCall("a", "b", "x" * 300), ToolCall),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", PLUG_INS)
async def test_a_plug_ins_answer_is_held_to_it_whatever_it_is_made_of(kind):
    piece, event = PLUG_INS[kind]
    closed = []

    class Endless:
        @classmethod
        async def create_async_generator(cls, model, messages, **options):
            try:
                while True:
                    yield piece()
            finally:
                closed.append(True)

    route = messages.Route(provider.completed(Endless), None)
    user = messages.Message("user", "?")
    asked = messages.Question(messages.ModelId("helper", "m"), (user,), {}, route)
    *given, end = [one async for one in Answer(asked).events(keeps=False)]
    assert end == FinishReason("max_answer")
    assert closed
    assert {type(one) for one in given} == {event}
    whole = kind in {"tool calls", "notices"}
    assert len(given) == (3 if whole else 4), "half a call is none, half a text is one"


@pytest.mark.usefixtures("small")
async def test_arguments_that_come_without_end_are_no_call(service):
    def piece(arguments):
        function = {"name": "f", "arguments": arguments}
        call = {"index": 0, "id": "a", "function": function}
        return chunk(completion({"tool_calls": [call]}))

    service.on(PATH, [head(), chunk(OPENAI.text("hi")), *[piece("x" * 100)] * 5_000, HANG])
    reply = await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert (reply.text, reply.tool_calls, reply.finish) == ("hi", (), "max_answer")
    assert await asyncio.to_thread(service.requests[0].gone.wait, 2)


async def test_an_answer_that_was_cut_off_is_not_kept(service, tmp_path):
    settings = {"max_answer": SMALL, "replay": "auto", "cassette": str(tmp_path / "kept")}
    config.use(config.Config(**settings))
    service.on(PATH, OPENAI.whole("x" * 5000))
    for _ in range(2):
        reply = await ipychat.ask("?", model="openai:m", base_url=service.url)
        assert reply.finish == "max_answer"
        assert "Not kept in the cassette: it ended with max_answer." in reply.notices
    assert len(service.requests) == 2
    assert "max_answer" not in replay.KEPT_ENDINGS


@pytest.mark.heavy
async def test_many_small_words_take_no_more_memory_than_they_are():
    request = messages.Question(messages.ModelId("x", "m"), (), {})
    growing = Answer(request)
    process = psutil.Process()
    before = process.memory_info().rss
    for number in range(1_000_000):
        growing.add(Text(f"{number:6} "))
    assert process.memory_info().rss - before < 30 * MIB
    assert len(growing.reply().text) == 7_000_000


def test_an_answer_of_400_mb_is_cut_off_in_little_memory_and_a_cell_shows_its_beginning(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("warm"))
    kernel.run("%chat --no-history hi")
    text = "some words of an answer\n\n" * 4_000
    endless = [chunk(OPENAI.text(text))] * (400_000_000 // len(text))
    service.on(PATH, [head(), *endless, chunk(OPENAI.finish()), END])
    process = psutil.Process(kernel.pid)
    before = peak = process.memory_info().rss
    sent = kernel.send("%chat --no-history hi")
    while not (kernel.cells[sent].idle and kernel.cells[sent].reply):
        kernel.pump(0.01)
        kernel.take_replies()
        peak = max(peak, process.memory_info().rss)
    ran = kernel.wait(sent)
    assert ran.status == "ok", ran.error
    assert peak - before < 150 * MIB
    assert "the size that IPyChat.max_answer allows. It is 32 MiB." in ran.shown()
    assert "The first 262,144 of 33,554,432 characters are shown" in ran.shown()
    assert len(json.dumps(ran.outputs)) < 4 * MIB
    assert sum(len(json.dumps(one["content"])) for one in ran.messages) < 8 * MIB


# -- names, reasons, notices


async def test_a_finish_reason_of_five_million_letters_is_cut(service):
    service.on(PATH, answer(OPENAI.text("x"), completion(finish="f" * 5_000_000)))
    reply = await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert reply.finish == "f" * provider.MAX_REASON


async def test_names_and_ids_of_calls_are_cut_in_every_protocol_that_has_them(service):
    long = "n" * 100_000
    function = {"name": long, "arguments": {}}
    said = {
        "openai": completion({"tool_calls": [{"index": 0, "id": long, "function": {**function, "arguments": "{}"}}]}, "tool_calls"),
        "anthropic": message_event("content_block_start", index=0, content_block={"type": "tool_use", "id": long, "name": long, "input": {}})
        + message_event("message_delta", delta={"stop_reason": "tool_use"}),
        "gemini": sse(json.dumps({"candidates": [{"content": {"parts": [{"functionCall": {"id": long, "name": long}}]}, "finishReason": "STOP"}]})),
        "ollama": json.dumps({"message": {"tool_calls": [{"id": long, "function": function}]}, "done": True}).encode() + b"\n",
    }  # fmt: skip
    for protocol in PROTOCOLS:
        name = protocol.provider.__module__.rpartition(".")[2]
        if name in said:
            protocol.prepare(service)
            service.on(protocol.path, answer(said[name], content_type=protocol.content_type))
            reply = await ipychat.ask(
                "?", model=f"{name}:{protocol.model}", base_url=service.url, api_key="k" * 20
            )
            [call] = reply.tool_calls
            assert (len(call.id), len(call.name)) == (provider.MAX_ID, provider.MAX_NAME)


async def test_notices_that_a_service_gives_cause_for_are_few_and_short(service):
    blocked = [
        sse(json.dumps({"promptFeedback": {"blockReason": f"{number}" + "y" * 100_000}}))
        for number in range(200)
    ]
    gemini = next(one for one in PROTOCOLS if str(one) == "Gemini")
    service.on(gemini.path, answer(*blocked))
    reply = await ipychat.ask(
        "?", model=f"gemini:{gemini.model}", base_url=service.url, api_key="k" * 20
    )
    assert len(reply.notices) == _reader.MAX_NOTES
    assert max(map(len, reply.notices)) <= _reader.MAX_NOTE


async def test_a_retry_of_five_thousand_digits_harms_nothing_of_its_packet(service):
    packet = OPENAI.text("all ") + b"retry: " + b"9" * 5000 + b"\n\n" + OPENAI.text("of it")
    service.on(PATH, answer(packet, OPENAI.finish()))
    reply = await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert (reply.text, reply.finish) == ("all of it", "stop")


async def test_an_agents_lines_that_are_no_json_are_not_logged_without_end(service, caplog):
    agents = next(one for one in PROTOCOLS if str(one) == "RobocodersAPI")
    agents.prepare(service)
    service.on(agents.path, answer(agents.text("so far"), b"x\n" * 50_000))
    with pytest.raises(errors.FormatError, match="over 1,000 lines") as caught:
        await ipychat.ask("?", model=f"robocoders:{agents.model}", base_url=service.url)
    assert caught.value.reply.text == "so far"
    assert len(caplog.records) <= 1_000
