"""The event-stream decoder: the WHATWG's own examples, every cut, and a simple reference."""

import itertools
import time

import pytest
from hypothesis import given, settings, strategies as st

from ipychat.errors import FormatError
from ipychat.wire import _lines
from ipychat.wire.sse import EventDecoder, ServerSentEvent as Event


def decode(*chunks: bytes) -> list[Event]:
    decoder = EventDecoder()
    return [event for c in chunks for event in decoder.feed(c)] + decoder.close()


# https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.1 and 9.2.6, in their order.
EXAMPLES = {
    "messages": (
        b"data: This is the first message.\n\n"
        b"data: This is the second message, it\ndata: has two lines.\n\n"
        b"data: This is the third message.\n\n",
        [
            Event("This is the first message."),
            Event("This is the second message, it\nhas two lines."),
            Event("This is the third message."),
        ],
    ),
    "event types": (
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        [Event("73857293", "add"), Event("2153", "remove"), Event("113411", "add")],
    ),
    "one event of three lines": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [Event("YHOO\n+2\n10")],
    ),
    "comment, ids": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [
            Event("first event", id="1"),
            Event("second event", id=""),
            Event(" third event", id=""),
        ],
    ),
    # The specification drops the last block, which no blank line ends; here close() gives it.
    "empty data": (b"data\n\ndata\ndata\n\ndata:", [Event(""), Event("\n"), Event("")]),
    "one space": (b"data:test\n\ndata: test\n\n", [Event("test"), Event("test")]),
}
MORE = {
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
    "a byte order mark is text elsewhere": (b"data: \xef\xbb\xbfa\n\n", [Event("\ufeffa")]),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [Event("a\nb"), Event("c")]),
    "CR": (b"data: a\rdata: b\r\rdata: c\r\r", [Event("a\nb"), Event("c")]),
    "mixed line ends": (b"data: a\r\ndata: b\r\n\ndata: c\n\r", [Event("a\nb"), Event("c")]),
    "several blank lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [Event("a"), Event("b")]),
    "retry": (b"retry: 250\ndata: a\n\n", [Event("a", retry=250)]),
    "a retry that is no number": (b"retry: soon\ndata: a\n\n", [Event("a")]),
    "an id with NUL is ignored": (b"id: 1\n\nid: 2\0\ndata: a\n\n", [Event("a", id="1")]),
    "ids last": (b"id: 7\ndata: a\n\ndata: b\n\n", [Event("a", id="7"), Event("b", id="7")]),
    "an event without data": (b"event: ping\n\ndata: a\n\n", [Event("a")]),
    "unknown fields": (b"foo: bar\nDATA: x\n data: y\ndata: a\n\n", [Event("a")]),
    "a colon in the data": (b'data: {"a": "b: c"}\n\n', [Event('{"a": "b: c"}')]),
    "no final blank line": (b"data: a\n", [Event("a")]),
    "no final line end": (b"data: a", [Event("a")]),
    "UTF-8": ("data: héllo ✓ 😀\n\n".encode(), [Event("héllo ✓ 😀")]),
    "not UTF-8": (b"data: \xff\n\n", [Event("\ufffd")]),
    "nothing": (b"", []),
    "only comments": (b": a\n: b\n\n:\n\n", []),
}
ALL = EXAMPLES | MORE


@pytest.mark.parametrize("name", ALL)
def test_an_example_is_decoded_fed_whole(name):
    stream, events = ALL[name]
    assert decode(stream) == events


@pytest.mark.parametrize("name", ALL)
def test_an_example_is_decoded_byte_by_byte(name):
    stream, events = ALL[name]
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == events


@pytest.mark.parametrize("name", ALL)
def test_an_example_is_decoded_at_every_cut_in_two(name):
    stream, events = ALL[name]
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], stream[cut:]) == events, cut


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_an_example_means_the_same_with_other_line_ends(name, end):
    stream, events = ALL[name]
    if b"\r" not in stream:
        assert decode(stream.replace(b"\n", end)) == events


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_given_as_soon_as_its_blank_line_is_there(end):
    decoder = EventDecoder()
    assert decoder.feed(b"data: a" + end) == []
    assert decoder.feed(end) == [Event("a")]


def reference(stream: bytes) -> list[Event]:
    """The specification's algorithm, line by line, over the whole stream."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events, data, kind, last_id, retry = [], [], "", "", None
    for line in [*lines, ""]:
        if not line:
            if data:
                events.append(Event("\n".join(data), kind or "message", last_id, retry))
            data, kind = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and value and all(c in "0123456789" for c in value):
            retry = int(value)
    return events


pieces = st.sampled_from(
    [b"data", b": ", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"event", b"id", b"retry", b"12",
     b"\0", b"\xef\xbb\xbf", "é😀".encode(), b"\xc3", b"x", b"data: {}\n\n", b"data: y"]
)  # fmt: skip


@pytest.mark.heavy
@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=40), st.lists(st.integers(0, 200), max_size=8))
def test_any_stream_at_any_cuts_agrees_with_the_reference(parts, cuts):
    stream = b"".join(parts)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert decode(*chunks) == reference(stream)


def data_alone(*chunks: bytes) -> list[str]:
    """The data of the events, by the short way where a chunk is one event of one line."""
    decoder, found = EventDecoder(), []
    for c in chunks:
        one = decoder.data_of(c)
        found += [event.data for event in decoder.feed(c)] if one is None else [one]
    return found + [event.data for event in decoder.close()]


@given(st.lists(pieces, max_size=20))
@settings(deadline=None)
def test_the_short_way_to_an_events_data_leads_to_the_same(parts):
    assert data_alone(*parts) == [event.data for event in decode(*parts)]


def test_a_line_of_two_mebibytes_is_whole_however_it_is_cut():
    text = "x" * (2 << 20)
    stream = f"data: {text}\n\n".encode()
    assert decode(*(stream[i : i + 1000] for i in range(0, len(stream), 1000))) == [Event(text)]


@pytest.mark.heavy
@pytest.mark.parametrize("unit", [b"x", b"data: x\n"], ids=["one long line", "one long event"])
def test_time_is_linear_in_the_length_of_an_unfinished_event(unit):
    def seconds(times: int) -> float:
        begin = time.process_time()
        decoder = EventDecoder()
        for _ in range(times):
            decoder.feed(unit)
        decoder.close()
        return time.process_time() - begin

    few, many = min(seconds(10_000) for _ in range(3)), min(seconds(160_000) for _ in range(3))
    assert many < few * 16 * 4  # quadratic would be 256 times as long


@pytest.mark.parametrize("unit", [b"x" * 65536, b"data: " + b"x" * 65536 + b"\n"])
def test_memory_is_bounded(unit):
    decoder = EventDecoder()
    with pytest.raises(FormatError, match="16 MiB"):
        for _ in range(2 * _lines.MAX_LINE // 65536):
            decoder.feed(unit)
