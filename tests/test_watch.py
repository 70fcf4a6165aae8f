"""No step of ours holds the kernel's loop for over 10 ms, whatever a service sends.

That is on a machine that counts to a million in 40 ms; on a slower one it is as much longer.
"""

import brotli
import pytest

from tests.loopback import END, answer, chunk, head
from tests.protocols import PROTOCOLS, completion, sse
from tests.test_magics import PATH, echo
from tests.watch import Watch, slowness

OPENAI = PROTOCOLS[0]
BOUND = 0.010
EXCEPTIONS = {
    "a long prompt": (0.1, "IPython and ipykernel read and hash the cell's 95,000 characters"),
    "an event of 4 MiB": (0.06, "the JSON of one event is read by one call of Python's"),
    "megabytes of reasoning": (0.06, "as above: it is one event"),
}
"""What may hold the loop for longer, and for how long, in seconds of CPU time; and why."""
WORDS = [f"word {i} of **many**, " for i in range(5_000)]
MARKDOWN = "\n\n".join(
    [
        "# A heading",
        "some *text* " * 40,
        "- a\n- b",
        "```python\nx = f(1)\n" * 20 + "```",
        "| a | b |\n|-|-|\n| 1 | 2 |",
    ]
    * 20
)
CELLS = {
    "a short answer": ("%chat hi", echo),
    "many words": ("%chat hi", OPENAI.whole(*WORDS)),
    "Markdown": (
        "%chat hi",
        OPENAI.whole(*(MARKDOWN[i : i + 5] for i in range(0, len(MARKDOWN), 5))),
    ),
    "one that is not kept": ("%chat --no-history hi", echo),
    "a long prompt": ("%%chat --no-history\n" + "a line of a prompt\n" * 5_000, echo),
    "the history": ("%chat_history", echo),
    "a dry run": ("%chat --dry-run hi", echo),
    "the models": ("%chat_models", echo),
    "the set-up": ("%chat_setup", echo),
    "the usage": ("%chat_usage", echo),
    "a race": ("%chat -m openai:a -m openai:b hi", echo),
    "rows": ("texts = ['a', 'b']\n%chat --each texts --into rows say {{it}}", echo),
    "from Python": ("await ipychat.ask('hi')", echo),
    "through the gateway": ("%chat -m koala:gpt-4o-mini hi", OPENAI.whole("Hello")),
}


def bomb(size: int) -> list:
    packer = brotli.Compressor(quality=5)
    line = b"\n" * (1 << 20)
    body = (
        packer.process(OPENAI.text("hi"))
        + b"".join(packer.process(line) for _ in range(size))
        + packer.finish()
    )
    return [head(headers={"Content-Encoding": "br"}), chunk(body), END]


HOSTILE = {
    "100 MiB of newlines in 234 bytes": lambda: bomb(100),
    "a line of 30 MiB": lambda: answer(b"data: " + b"x" * (30 << 20)),
    "an event of 4 MiB": lambda: answer(OPENAI.text("x" * (4 << 20)), OPENAI.finish()),
    "a million comments": lambda: answer(b":\n" * 1_000_000, OPENAI.text("hi"), OPENAI.finish()),
    "a million blank lines": lambda: answer(
        b"\r\n" * 1_000_000, OPENAI.text("hi"), OPENAI.finish()
    ),
    "a hundred thousand empty deltas": lambda: answer(
        completion({}) * 100_000, OPENAI.text("hi"), OPENAI.finish()
    ),
    "a word of 1 MiB in small pieces": lambda: OPENAI.whole(*["x" * 100] * 10_000),
    "nested lists": lambda: answer(sse("[" * 100_000)),
    "a fence that never ends": lambda: OPENAI.whole(
        "```python\n", *["x = f(1)  # " * 8 + "\n"] * 2_000
    ),
    "ten thousand headings": lambda: OPENAI.whole(*["# a\n\n"] * 10_000),
    "brackets": lambda: OPENAI.whole(*["[" * 100] * 500),
    "a table of 2,000 rows": lambda: OPENAI.whole("|a|b|\n|-|-|\n", *["|1|2|\n"] * 2_000),
    "a page of an error": lambda: answer(b"<html>" + b"x" * (1 << 20), status=502, Retry_After="0"),
    "a retry of 5,000 digits": lambda: answer(
        b"retry: " + b"9" * 5_000 + b"\n\n", OPENAI.text("hi"), OPENAI.finish()
    ),
    "megabytes of reasoning": lambda: answer(
        completion({"reasoning_content": "thought " * 500_000}), OPENAI.text("hi"), OPENAI.finish()
    ),
}


def allowed(what: str) -> float:
    bound, _ = EXCEPTIONS.get(what, (BOUND, ""))
    return bound * slowness()


@pytest.fixture(scope="module")
def fork():
    return False


@pytest.fixture(scope="module")
def warm(shared):
    """A kernel in which each kind of cell has run once: what is imported on use is there."""
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run("import ipychat")
    for code, _ in CELLS.values():
        kernel.run(code)
    return kernel, service


def stays_free(kernel, code: str, what: str):
    """Run a cell and return what it showed; what shares the machine's cores gets three tries."""
    for _ in range(3):
        with Watch(kernel) as watch:
            ran = kernel.run(code)
        if watch.longest <= allowed(what):
            return ran
    pytest.fail(str(watch))


@pytest.mark.parametrize("what", CELLS)
def test_an_ordinary_cell_leaves_the_loop_free(warm, what):
    kernel, service = warm
    code, script = CELLS[what]
    service.on(PATH, script)
    kernel.run("%chat_new")
    ran = stays_free(kernel, code, what)
    assert ran.status == "ok", ran.error


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_answer_leaves_the_loop_free(warm, what):
    kernel, service = warm
    service.on(PATH, HOSTILE[what]())
    stays_free(kernel, "%chat --no-history --timeout 20 hi", what)
