"""What is measured, and all bounds, which are nowhere else.

A script yields a `Figure` for each of its rows, or a sentence that says what it leaves out and why.
Times on a shared machine say little by themselves. So a run fails for a figure that is too far from
its floor, measured in the same run, or for a count, which doesn't depend on the machine. What a
quiet machine should reach is a goal: the table says whether it is met, and nothing fails for it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A measured quantity; if `more` is better, its goal is a minimum.

    `times` is the largest ratio to the floor, `limit` the largest count.
    """

    name: str
    unit: str = ""
    floor: str = ""
    """What the floor is."""
    times: float | None = None
    limit: float | None = None
    goal: float | None = None
    more: bool = False


@dataclass(frozen=True)
class Figure:
    """The measurement for the row of that name: ours, its floor, and others that do the same."""

    name: str
    ours: float
    floor: float | None = None
    ratio: float | None = None
    """The ratio, if it is not simply the quotient: the rounds' median, for example."""
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """What one script measures."""

    title: str
    says: str
    rows: tuple[Row, ...]


APPENDED = "read, append every 50 ms"
SPLIT = "split + `json.loads`"
OVER_HTTP = "raw aiohttp, split + `json.loads`"
NO_TOOLS = "a question without tools"
RELAY = "a relay of bytes"
ASKED_AND_KEPT = "raw aiohttp, a file each"


def long_answer(what: str, sent: float | None = None) -> Iterator[Row]:
    yield Row(f"{what}: seen after", "ms", APPENDED, times=2.5, goal=30)
    yield Row(f"{what}: seen after, 95 %", "ms", APPENDED, times=2.5, goal=60)
    # two forms: the text for the extension, HTML for who has none
    yield Row(f"{what}: sent", "KiB", APPENDED, times=4.5, goal=sent)


PARTS = {
    "loading": Part(
        "Loading, the first cell, an interrupt",
        "In real kernels. CPU time is the least of several; an interrupt is the median time from "
        "the signal to the cell's reply.",
        (
            Row("`%load_ext ipychat`", "CPU ms", "one empty magic", times=12, goal=5),
            Row(
                "the first cell beyond the second", "CPU ms", "import aiohttp", times=2.5, goal=170
            ),
            Row("an interrupt", "ms", "`time.sleep`", times=3, goal=50),
            Row("an interrupt under `%%time`", "ms", "`time.sleep`", times=3, goal=100),
        ),
    ),
    "wire": Part(
        "Reading",
        "CPU time of reading 5,000 chat-completion events, rivals in turn; then 1,000 streams of "
        "200 events at once, on one loop.",
        (
            Row("memory of a stream", "KiB", limit=20),
            Row("1,000 streams, at full speed", "events/s", OVER_HTTP, 2, goal=40_000, more=True),
            Row("1,000 streams, at a model's pace", "events/CPU s", OVER_HTTP, 2, more=True),
            Row(
                "1,000 `ipychat.stream`s, an event a packet",
                "events/CPU s",
                OVER_HTTP,
                2.5,
                more=True,
            ),
            Row("in memory, 20 in a packet", "µs an event", SPLIT, times=1.3),
            Row("in memory, 5 in a packet", "µs an event", SPLIT, times=2),
            Row("in memory, 1 in a packet", "µs an event", SPLIT, times=3),
            Row("Responses in memory, 20 in a packet", "µs an event", SPLIT, times=1.3),
            Row("over HTTP, at full speed", "µs an event", OVER_HTTP, times=1.3),
        ),
    ),
    "cell": Part(
        "Cells in a real kernel",
        "`%chat` asks a service on this machine. At full speed: medians of nine; the loop's lags, "
        "the best of five. At a model's pace: how long after it was sent a word has reached the "
        "front end, and what the whole answer put on the wire to it.",
        (
            Row("10,000 words, flat: until the end", "ms", APPENDED, times=2.5, goal=80),
            Row("10,000 words, flat: the kernel's CPU", "ms", APPENDED, times=2.5, goal=80),
            Row("10,000 words, flat: messages", "", APPENDED, limit=10),
            Row("10,000 words, Markdown: until the end", "ms", APPENDED, times=4, goal=180),
            Row("10,000 words, Markdown: the kernel's CPU", "ms", APPENDED, times=4, goal=180),
            Row("flat: the longest callback", "CPU ms", APPENDED, goal=10),
            Row("flat: the loop's worst lag", "ms", APPENDED, goal=10),
            Row("Markdown: the longest callback", "CPU ms", APPENDED, goal=10),
            Row("Markdown: the loop's worst lag", "ms", APPENDED, goal=10),
            *long_answer("300 words at 50 a second"),
            *long_answer("2,000 words of Markdown at 100 a second", sent=700),
            *long_answer("a paragraph of 2,000 words at 100 a second", sent=700),
        ),
    ),
    "gateway": Part(
        "The gateway",
        "Through the slowest of its services, in the process of who asks; medians and least CPU. "
        "The floor is a relay that copies bytes unread. Added is what it takes over asking the "
        "model directly. One event in a packet is over that goal: the price of a second "
        "connection, as ADR 6 tells.",
        (
            Row("until the first word", "ms", RELAY, times=3),
            Row("until the first word: added", "ms", goal=2),
            Row("an event, at full speed", "CPU µs", RELAY, times=2),
            Row("an event, at full speed: added", "CPU µs", goal=25),
            Row("an event, 5 in a packet", "CPU µs", RELAY, times=2.5),
            Row("an event, 5 in a packet: added", "CPU µs", goal=25),
            Row("an event, 1 in a packet", "CPU µs", RELAY, times=2.5),
            Row("an event, 1 in a packet: added", "CPU µs", goal=25),
        ),
    ),
    "replay": Part(
        "Answers that are kept",
        "Medians. A hit is an answer that is found among those that are kept.",
        (
            Row("a hit among 20,000", "ms", "read the file, parse it", times=25, goal=1),
            Row("until the first word, where it is kept", "ms", "not kept", times=4),
        ),
    ),
    "small": Part(
        "The small model on this machine",
        "Medians of ten. A stop is measured up to another question's first text, less what that "
        "takes when the engine is idle.",
        (
            Row("the first text", "ms", "the engine asked by aiohttp", times=1.5),
            Row("a stop frees the engine", "ms", goal=300),
        ),
    ),
    "race": Part(
        "A race of three models",
        "They answer after 0.1, 0.2 and 0.3 seconds. Medians, but for the last.",
        (
            Row("the fastest's first text", "ms", "asked alone", times=1.2),
            Row("the others are closed after", "ms", goal=100),
            Row("the others are closed after, at most", "ms", goal=100),
        ),
    ),
    "acting": Part(
        "Tools",
        "CPU of a question whose model calls a function that does nothing, with the request that "
        "tells the result; the floor is a question without tools.",
        (
            Row("a step and its request", "CPU ms", NO_TOOLS, times=4, goal=5),
            Row("a step and its request, kept in a cassette", "CPU ms", NO_TOOLS, times=9, goal=8),
            Row("a question with a tool that is not called", "CPU ms", NO_TOOLS, times=2.5),
        ),
    ),
    "batch": Part(
        "Many prompts",
        "2,000 prompts to a model that answers after 100 ms. If nothing else took time, they took "
        "3.13 seconds with 64 at once, 0.78 with 256: the goals are 1.3 times that.",
        (
            Row("2,000 prompts, 64 at once", "s", ASKED_AND_KEPT, times=2, goal=4.06),
            Row("a prompt's CPU, 64 at once", "ms", ASKED_AND_KEPT, times=6, goal=0.5),
            Row("2,000 prompts, 256 at once", "s", ASKED_AND_KEPT, times=3, goal=1.02),
            Row("a prompt's CPU, 256 at once", "ms", ASKED_AND_KEPT, times=6, goal=0.5),
            Row("a second run", "s", goal=0.2),
            Row("a second run: prompts sent", limit=0),
            Row("200 a second allowed", "s", "2,000 / 200", goal=11),
            Row("200 a second allowed: rows that failed", limit=0),
            Row("200 a second allowed: refusals", "%", limit=1),
            Row("killed at half, and run again: prompts sent in all", limit=2_064),
            Row("100,000 prompts: memory over the data", "MiB", limit=200),
        ),
    ),
    "panel": Part(
        "The panel, in JupyterLab and Chromium",
        "Medians, taken in the page.",
        (
            Row("the first word, drawn after it left", "ms", goal=80),
            Row("Stop", "ms", goal=100),
            Row("while 100 kB come", "frames/s", "nothing comes", times=1.2, goal=55, more=True),
            Row("while 100 kB come: the longest frame", "ms"),
        ),
    ),
}
"""By script, in the order in which they run."""
