"""The line decoder."""

import itertools

import pytest
from hypothesis import given, settings, strategies as st

from ipychat.wire.ndjson import LineDecoder


def decode(*chunks: bytes) -> list[str]:
    decoder = LineDecoder()
    return [line for c in chunks for line in decoder.feed(c)] + decoder.close()


EXAMPLES = {
    "LF": (b'{"a": 1}\n{"b": 2}\n', ['{"a": 1}', '{"b": 2}']),
    "CRLF": (b"1\r\n2\r\n", ["1", "2"]),
    "CR": (b"1\r2\r", ["1", "2"]),
    "no last line end": (b"1\n2", ["1", "2"]),
    "blank lines": (b"\n\n1\n  \n2\n\n", ["1", "2"]),
    "a byte order mark": (b"\xef\xbb\xbf1\n", ["1"]),
    "UTF-8": ('{"é": "😀"}\n'.encode(), ['{"é": "😀"}']),
    "a line separator is no line end": ('"a\u2028b\u0085c"\n'.encode(), ['"a\u2028b\u0085c"']),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_decoded_whole_and_at_every_cut_and_byte_by_byte(name):
    stream, lines = EXAMPLES[name]
    assert decode(stream) == lines
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == lines
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], stream[cut:]) == lines, cut


pieces = st.sampled_from([b"a", b" ", b"\n", b"\r", b"\r\n", "é".encode(), b"\xff", b'{"x": 1}'])


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=30), st.lists(st.integers(0, 100), max_size=6))
def test_any_stream_at_any_cuts_agrees_with_a_simple_reference(parts, cuts):
    stream = b"".join(parts)
    text = stream.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert decode(*chunks) == [line for line in text.split("\n") if line.strip()]


def test_a_line_of_two_mebibytes_is_whole_however_it_is_cut():
    line = b"x" * (2 << 20) + b"\n"
    assert decode(*(line[i : i + 997] for i in range(0, len(line), 997))) == [line[:-1].decode()]
