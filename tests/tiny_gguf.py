"""Writes a model whose weights are set by hand, so that a real engine's answer is known beforehand.

A llama of two layers. Every token is a direction of its own. Attention looks everywhere alike and
carries one thing only to the last position: which keyword stands in the prompt. An answer begins
where the template has written `<|assistant|>`, and every token of it points to the next one. So the
text of an answer proves that the template was used and that the messages arrived; how it is sampled
changes nothing.
"""

import struct
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SPECIAL = ["<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
UNKNOWN, END, ASSISTANT = 0, 1, 4
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REPLIES = {
    "": ["I", " am", " a", " model", " of", " the", " tests", "."],
    "ZeroDivisionError": ["You", " divided", " by zero", ".\n\n", "```python\n", "x = 1", "\n```"],
    "naïve": ["Grüße", " —", " 你好", " 🙂", "!"],
    "COUNT": [f" {number}" for number in range(80)],
}
"""What is answered, by the keyword in the prompt, and how it is cut into tokens."""

KEYWORDS = [keyword for keyword in REPLIES if keyword]
WIDTH, LAYERS, CONTEXT = 128, 2, 32768
OPENING, HERE, SEEN = 0, 1, 1 + len(KEYWORDS)
"""Directions: of `<|assistant|>`, of the keywords, and of a keyword anywhere before."""
FIRST = SEEN + len(KEYWORDS)
"""The directions from here on are of the answers' tokens."""
SURE, SURER, SUREST = 10.0, 1e5, 1e7

NORMAL, UNKNOWN_KIND, CONTROL, WHOLE, BYTE = 1, 2, 3, 4, 6  # llama.cpp's kinds of tokens
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # GGUF's types of values


def expected(keyword: str = "") -> str:
    return "".join(REPLIES[keyword])


def write(path: Path, *, inner: int = WIDTH) -> Path:
    """Write the model. A larger `inner` makes each token cost more; on disk its zeros are a hole."""
    tensors = [*_tensors(inner)]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(_facts(inner)))
    head += b"".join(_string(name) + _value(value) for name, value in _facts(inner).items())
    at = 0
    for name, shape, _ in tensors:
        head += _string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}QIQ", *shape, 0, at)
        at += 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for _, shape, values in tensors:
            after = file.tell() + 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            file.write(values.tobytes())
            file.seek(after)
        file.truncate(after)
    return path


def _vocabulary() -> list[tuple[str, int]]:
    """The tokens and their kinds; the answers' tokens come last."""
    tokens = [(text, UNKNOWN_KIND if text == "<unk>" else CONTROL) for text in SPECIAL]
    tokens += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    tokens += [(keyword, WHOLE) for keyword in KEYWORDS]
    tokens += [(text.replace(" ", "▁"), NORMAL) for reply in REPLIES.values() for text in reply]
    assert len(tokens) == len(dict(tokens)), "a token in two places would point to two others"
    return tokens


def _tensors(inner: int) -> Iterator[tuple[str, tuple[int, ...], array]]:
    """Names, shapes (GGUF's: the inner dimension first) and values; what is missing is zero."""
    vocabulary = [text for text, _ in _vocabulary()]
    words, replies = len(vocabulary), sum(map(len, REPLIES.values()))
    assert FIRST + replies <= WIDTH, "one direction for each token"
    into, out = _zeros(words * WIDTH), _zeros(words * WIDTH)
    into[ASSISTANT * WIDTH + OPENING] = 1
    for number, keyword in enumerate(KEYWORDS):
        into[vocabulary.index(keyword) * WIDTH + HERE + number] = 1
    token, direction = words - replies, FIRST
    for keyword, reply in REPLIES.items():
        out[token * WIDTH + OPENING] = SURE if keyword else 3 * SURE
        if keyword:
            out[token * WIDTH + SEEN + KEYWORDS.index(keyword)] = SURER
        for one in range(FIRST, FIRST + replies):
            out[token * WIDTH + one] = -SUREST  # no answer begins within one
        for last in [False] * (len(reply) - 1) + [True]:
            into[token * WIDTH + direction] = 1
            out[(END if last else token + 1) * WIDTH + direction] = 10 * SURE
            token, direction = token + 1, direction + 1
    yield "token_embd.weight", (WIDTH, words), into
    yield "output.weight", (WIDTH, words), out
    ones, square = array("f", [1.0] * WIDTH), (WIDTH, WIDTH)
    yield "output_norm.weight", (WIDTH,), ones
    for layer in range(LAYERS):
        of, carried, placed = f"blk.{layer}.", _zeros(WIDTH**2), _zeros(WIDTH**2)
        for number in range(len(KEYWORDS) if layer == 0 else 0):
            carried[(HERE + number) * WIDTH + HERE + number] = 1
            placed[(SEEN + number) * WIDTH + HERE + number] = 1
        yield f"{of}attn_norm.weight", (WIDTH,), ones
        yield f"{of}attn_q.weight", square, array("f")
        yield f"{of}attn_k.weight", square, array("f")
        yield f"{of}attn_v.weight", square, carried
        yield f"{of}attn_output.weight", square, placed
        yield f"{of}ffn_norm.weight", (WIDTH,), ones
        yield f"{of}ffn_gate.weight", (WIDTH, inner), array("f")
        yield f"{of}ffn_up.weight", (WIDTH, inner), array("f")
        yield f"{of}ffn_down.weight", (inner, WIDTH), array("f")


def _zeros(count: int) -> array:
    return array("f", bytes(4 * count))


def _facts(inner: int) -> dict[str, Any]:
    tokens = _vocabulary()
    return {
        "general.architecture": "llama",
        "general.name": "a model of the tests",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.scores": [-float(number) for number in range(len(tokens))],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.bos_token_id": END,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.unknown_token_id": UNKNOWN,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": TEMPLATE,
    }


# -- https://github.com/ggml-org/ggml/blob/master/docs/gguf.md


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    kind, written = _typed(value)
    return struct.pack("<I", kind) + written


def _typed(value: Any) -> tuple[int, bytes]:
    match value:
        case bool():
            return BOOL, struct.pack("<?", value)
        case int():
            return U32, struct.pack("<I", value)
        case float():
            return F32, struct.pack("<f", value)
        case str():
            return STRING, _string(value)
    return ARRAY, _array(value)


def _array(values: Iterable[Any]) -> bytes:
    kinds, written = zip(*map(_typed, values), strict=True)
    kind = I32 if kinds[0] == U32 else kinds[0]  # the same bytes, for numbers that are not large
    return struct.pack("<IQ", kind, len(written)) + b"".join(written)
