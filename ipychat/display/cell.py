"""What a cell shows of an answer: live while it grows, one static bundle at the end.

Each output has two forms: the text, for the front end's extension, which draws it, and HTML for
every other front end.

While live, finished blocks stand frozen in outputs of their own and only the newest is redrawn,
on a budget of bytes and CPU time, so that a long answer costs no more a second than a short one.
At the end the first output holds the whole answer and the others are empty.

Whatever is shown here is markup's sanitised HTML or escaped; known secrets are masked; nothing
relies on a style sheet, a script or the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, get_args

from ipychat.display import _beside, answer, steps
from ipychat.errors import FormatError, UsageError
from ipychat.messages import (
    Event,
    FinishReason,
    Notice,
    Reasoning,
    Reply,
    Step,
    Text,
    TextPart,
    ToolCall,
    Usage,
)
from ipychat.secrets import mask, settled
from ipychat.text.characters import harmless, whole

Format: TypeAlias = Literal["markdown", "text", "code", "json", "html"]
FORMATS: tuple[str, ...] = get_args(Format)

T = TypeVar("T")


class Publish(Protocol):
    """Sends one output; it has a display id only where later ones update it."""

    def __call__(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any],
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        """Send it."""


# -- the schedule: measured, see `make bench`

GAP = 0.045
"""Seconds between two paints, at least."""
CPU_SHARE = 8
"""A paint may take one in so many of the loop's seconds."""
RATE = 27_000
"""Bytes a second that the output may cost in the long run."""
BURST = 40_000
"""Bytes that may come at once."""
MESSAGE = 600
"""Bytes that a message costs beside what it shows."""
FIRST_SIGN = 0.1
"""Seconds after which a cell says who is asked, if nothing has come."""
TICK = 1.0
"""Seconds of silence after which the elapsed time is shown anew."""

FREEZE_OVER = 120
"""Characters of finished blocks in the newest part from which on they are frozen."""
FREEZE_LINES_OVER = 1_000
"""The same for plain text, whose lines are all finished blocks."""
SOFT = 400
"""Characters of a paragraph from which on it is cut at a space while it grows."""
MAX_SOFT = 10_000
"""Characters of it that are looked at for such a place at once; it takes 2 ms."""
REASONING_TAIL = 600
"""Characters of the reasoning that are shown while it grows."""

MAX_SHOWN = 1 << 18
"""Characters of an answer's text that are shown, and as many of its reasoning. Front ends and saved
notebooks suffer from more; the reply has all of it."""

SLICE = 0.0015
"""Seconds of CPU time after which the loop has its turn."""
PART = 1_000
"""Characters of finished Markdown that are rendered at once, or more where a block has more."""
HEAVY = 6_000
"""Characters of Markdown that take longer than a slice: the executor's work."""
MANY_MARKS = 200
"""Brackets and bars in it that do, too: what may begin a link, and the cells of tables."""
MOST_INDENTED = 20_000
"""Characters that JSON may grow by where it is indented, beside four times its own."""
HEAVY_CODE = 2_500
"""The same where code is coloured."""

# -- looks: JupyterLab's variables, with values that can be read on white and on black

_FRAME = "overflow-wrap:break-word;max-width:100%;overflow-x:auto"
_SMALL = (
    "color:var(--jp-ui-font-color2,#767676);font-size:.85em;white-space:pre-line;"
    "overflow-wrap:anywhere"
)
_ENDING = f"{_SMALL};border-left:3px solid var(--jp-warn-color0,#e08600);padding-left:.5em"
_BELOW = f"{_SMALL};margin-top:.4em"
_PLAIN = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0"
_SUMMARY = "cursor:pointer"
_PREVIEW = (
    "width:100%;height:24em;box-sizing:border-box;background:#fff;color-scheme:light;"
    "border:1px solid var(--jp-border-color2,#999)"
)
# What stands below an answer that grows is hidden for some seconds after each paint; so it is read
# where no paint comes any more, and where style sheets are taken out. The style comes with an
# answer's first output, the rest with each paint, so it is short.
_MOVING = (
    "<style>@keyframes ic-cut{from,to{visibility:hidden}}"
    f".ic-cut{{animation:ic-cut 5s;{_ENDING}}}"
    "@keyframes ic-dot{to{opacity:.3}}"
    ".ic-dot{animation:ic-dot 1s infinite alternate;color:var(--jp-brand-color1,#2196f3)}</style>"
)
_DOT = '<span class="ic-dot">●</span>'
STRANDED = "The kernel ended before this answer did: %chat_history shows what was kept."
_STRANDED = f'<div class="ic-cut">{STRANDED}</div>'
_POLICY = (
    '<!doctype html><meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
)
# A page in a frame may always leave it; only the policy of the page around it forbids that.
_HOLDER = (
    f"{_POLICY}<style>html,body{{height:100%;margin:0}}"
    "iframe{display:block;width:100%;height:100%;border:0}</style>"
)
# What a page asks the browser to prepare no policy covers, nor what is in the frames within it;
# `wbr` is as empty as these are.
_PREPARING = re.compile(r"<(?:link|meta|base|i?frame)(?=[\s/>])", re.IGNORECASE)


def _frame(html: str) -> str:
    return f'<div class="ipychat" style="{_FRAME}">{html}</div>'


def small(text: str, style: str = _SMALL) -> str:
    """Write what ipychat says itself, beside the answer."""
    # not to be typeset: two prices are no formula
    return f'<div class="mathjax_ignore" style="{style}">{escape(text)}</div>' if text else ""


def _smalls(texts: Iterable[str]) -> str:
    return "".join(map(small, texts))


def _plain(text: str) -> str:
    return f'<pre style="{_PLAIN}">{escape(text)}</pre>' if text else ""


def _folded(summary: str, html: str, *, kind: str) -> str:
    return (
        f'<details class="ipychat-{kind}">'
        f'<summary style="{_SMALL};{_SUMMARY}">{escape(summary)}</summary>{html}</details>'
    )


def _folded_thought(html: str, seconds: float | None) -> str:
    said = f"Thought for {seconds:.1f} s" if seconds else "Reasoning"
    return _folded(said, html, kind="reasoning")


def _preview(page: str) -> str:
    inner = escape(f'{_POLICY}<base target="_blank">{_PREPARING.sub("<wbr", page)}')
    holder = escape(f'{_HOLDER}<iframe sandbox="" srcdoc="{inner}"></iframe>')
    return f'<iframe sandbox="" title="Preview" style="{_PREVIEW}" srcdoc="{holder}"></iframe>'


def _left_out(text: str, what: str) -> str:
    """Say how much of `text`, which is that of the reply's `what`, is not shown."""
    if len(text) <= MAX_SHOWN:
        return ""
    return (
        f"The first {MAX_SHOWN:,} of {len(text):,} characters are shown; "
        f"the reply's {what} has them all."
    )


def _shown(text: str) -> str:
    """`text` without secrets and without halves of characters, which no message can carry."""
    return mask(whole(text))


# -- work on the loop


class _Work:
    """Rendering that leaves the loop its turns: in slices, the heavy parts in the executor."""

    def __init__(self) -> None:
        self.cpu = 0.0
        self._since = time.thread_time()

    async def do(self, work: Callable[[], T], *, heavy: bool) -> T:
        """Run `work` and return its result."""
        if heavy:
            self._pause()
            loop = asyncio.get_running_loop()
            result, cpu = await loop.run_in_executor(None, _timed, work)
            self.cpu += cpu
            self._since = time.thread_time()
            return result
        result = work()
        if time.thread_time() - self._since > SLICE:
            self._pause()
            await asyncio.sleep(0)
            self._since = time.thread_time()
        return result

    def end(self) -> float:
        """Return the seconds of CPU time that it took."""
        self._pause()
        return self.cpu

    def _pause(self) -> None:
        self.cpu += time.thread_time() - self._since


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    begin = time.thread_time()
    return work(), time.thread_time() - begin


class _AtOnce(_Work):
    """The same for callers that have no loop, or no time: nothing waits, all is done here."""

    async def do(self, work: Callable[[], T], *, heavy: bool) -> T:  # noqa: ARG002 - all is at once
        return work()


_loaded: set[str] = set()
"""What is known to be imported: `markup`, and the languages whose lexers are (up to 40 ms each)."""


async def _load() -> None:
    """Import what renders, outside the loop: it takes 60 ms once."""
    if "markup" not in _loaded:
        await asyncio.get_running_loop().run_in_executor(None, _render, "")
        _loaded.add("markup")


def _render(markdown: str, *, final: bool = False) -> str:
    from ipychat.text import markup

    return markup.to_html(markdown, final=final)


_FENCE_INFO = re.compile(r"^[ \t>]*(?:`{3,}|~{3,})[ \t]*([\w+#.-]+)", re.MULTILINE)


def _is_heavy(block: str) -> bool:
    languages = _FENCE_INFO.findall(block)
    return _are_new(languages) or _takes_long(block, HEAVY_CODE if languages else HEAVY)


def _render_settled(block: str) -> str:
    """Render what of a growing block can be drawn."""
    from ipychat.text import markup

    return _render(markup.settled(block))


def _takes_long(markdown: str, heavy: int = HEAVY) -> bool:
    return len(markdown) > heavy or markdown.count("[") + markdown.count("|") > MANY_MARKS


def _are_new(languages: Iterable[str]) -> bool:
    new = {f"language {language}" for language in languages} - _loaded
    _loaded.update(new)
    return bool(new)


async def _finished(markdown: str, work: _Work) -> str:
    """Render finished blocks for good."""
    from ipychat.text import markup

    if not markdown:
        return ""
    if markup.has_link_definitions(markdown):
        return await work.do(partial(_render, markdown, final=True), heavy=True)
    if len(markdown) < PART:
        parts = [markdown]
    else:
        parts = await work.do(partial(markup.blocks, markdown, PART), heavy=_takes_long(markdown))
    html = [
        await work.do(partial(_render, part, final=True), heavy=_is_heavy(part)) for part in parts
    ]
    return "".join(html)


# -- the end


@dataclass(frozen=True, slots=True)
class _Body:
    """An answer in its format."""

    html: str
    plain: str


async def _body(text: str, format: str, work: _Work) -> _Body:  # noqa: A002 - the flag's name
    match format:
        case "text":
            return _Body(_plain(text), text)
        case "code":
            return await _code(text, work)
        case "json":
            return await _json(text, work)
        case "html":
            return await _html(text, work)
    return _Body(await _finished(text, work), text)


async def _code(text: str, work: _Work) -> _Body:
    from ipychat.text import markup

    blocks = markup.code_blocks(text)
    if not blocks:
        return _Body(await _finished(text, work), text)
    html = [await _one_code(code, language, work) for language, code in blocks]
    if _unfenced(text) is text:
        html.append(_folded("Whole answer", await _finished(text, work), kind="whole"))
    return _Body("".join(html), "\n\n".join(code.rstrip("\n") for _, code in blocks))


async def _one_code(code: str, language: str, work: _Work) -> str:
    from ipychat.text import markup

    heavy = _are_new([language]) or len(code) > HEAVY_CODE
    return small(language) + await work.do(partial(markup.code_html, code, language), heavy=heavy)


async def _json(text: str, work: _Work) -> _Body:
    pretty = await work.do(partial(pretty_json, text), heavy=len(text) > HEAVY_CODE)
    if pretty is None:
        return _Body(_plain(text), text)
    return _Body(await _one_code(pretty, "json", work), pretty)


def pages(text: str) -> list[str]:
    """Return the HTML in an answer: its fenced pages, or all of it where it begins with a tag."""
    from ipychat.text import markup

    fenced = [
        code
        for language, code in markup.code_blocks(text)
        if language.lower() in {"html", "htm", "xhtml"} and code.strip()
    ]
    return fenced or ([text] if text.lstrip().startswith("<") else [])


async def _html(text: str, work: _Work) -> _Body:
    found = pages(text)
    html = [
        _preview(page) + _folded("HTML", await _one_code(page, "html", work), kind="code")
        for page in found
    ]
    if found != [text] and _unfenced(text) is text:
        whole_answer = await _finished(text, work)
        html.append(_folded("Whole answer", whole_answer, kind="whole") if found else whole_answer)
    return _Body("".join(html), "\n\n".join(found) or text)


def _unfenced(text: str) -> str:
    """What stands in the fence where `text` is nothing but one; else `text` itself."""
    first, *lines = text.strip().split("\n")
    mark = first[:3]
    if lines and mark in {"```", "~~~"}:
        last = lines.pop().strip()
        if len(last) >= 3 and not last.strip(mark[0]):
            return "\n".join(lines)
    return text


def parse_json(text: str) -> Any:
    """Read an answer that is JSON, alone or in one fence.

    Raises FormatError for anything else, also for the NaN and Infinity that Python would take.
    """
    try:
        return json.loads(_unfenced(text), parse_constant=_refuse_constant)
    except RecursionError:
        raise FormatError("The answer is JSON nested too deeply to be read.") from None
    except ValueError as error:
        raise FormatError(f"The answer is not JSON: {error}. It is kept as text.") from None


def pretty_json(text: str) -> str | None:
    """Write an answer that is JSON with line ends and indentation.

    None for one that is no JSON, and for one whose indentation alone would fill the notebook.
    """
    pieces: list[str] = []
    room = MOST_INDENTED + 4 * len(text)
    has_halves = r"\ud" in text.lower()  # of characters, which only JSON's escapes can carry
    try:
        writer = json.JSONEncoder(indent=2, ensure_ascii=has_halves)
        for piece in writer.iterencode(parse_json(text)):
            pieces.append(piece)
            room -= len(piece)
            if room < 0:
                return None
    except (FormatError, RecursionError):
        return None
    return "".join(pieces)


def check_json(reply: Reply) -> None:
    """Raise FormatError, with `reply` in it, for an answer that came to its end and is no JSON."""
    if reply.finish is None:
        return
    try:
        parse_json(reply.text)
    except FormatError as error:
        error.reply = reply
        raise


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _metadata(reply: Reply) -> dict[str, Any]:
    return {
        "ipychat": {
            "model": str(reply.model),
            "provider": reply.provider,
            "hash": reply.hash,
            "at": reply.at,
            **({"cached": True} if reply.cached else {}),
            "finish": reply.finish,
            "usage": reply.usage.to_record() if reply.usage else None,
            "cost": reply.cost,
            "seconds": round(reply.seconds, 3),
            "first_text": None if reply.first_text is None else round(reply.first_text, 3),
        }
    }


@dataclass(frozen=True, slots=True)
class _Ending:
    """All that is known of an answer when it has ended."""

    reply: Reply
    format: str
    header: str
    ending: str
    above: int
    """How many of the notices came before the text."""
    timed: bool
    """Whether it says how long it took: not where each run has to give the same."""
    thought: float | None = None
    """Seconds that the model took to think, where that is known."""

    def bundle(self, body: _Body, reasoning: str) -> dict[str, Any]:
        """Make the static bundle; empty where there is nothing to show."""
        notices = self.reply.notices
        left_out = _left_out(self.reply.text, ".text")
        html = (
            small(self.header)
            + _smalls(notices[: self.above])
            + (_folded_thought(reasoning, self.thought) if reasoning else "")
            + small(_left_out(self.reply.reasoning, ".reasoning"))
            + body.html
            + small(left_out, _ENDING)
            + _beside.html(self.reply)
            + _smalls(map(steps.waiting, _unanswered(self.reply)))
            + _smalls(notices[self.above :])
            + small(self.ending, _ENDING)
        )
        if not html:
            return {}
        html += small(answer.below(self.reply, timed=self.timed), _BELOW)
        said = [body.plain] if body.plain.strip() else [self.header, *notices]
        if self.format in {"markdown", "text"} or not body.plain.strip():
            # code that is copied has nothing else in it
            said += [left_out, _beside.plain(self.reply), self.ending]
        data: dict[str, Any] = {
            "text/html": _frame(html),
            "text/plain": "\n\n".join(filter(None, said)),
        }
        if self.format == "markdown":
            data[answer.MIME] = self._payload(left_out)
        return data

    def _payload(self, left_out: str) -> dict[str, Any]:
        reply = self.reply
        unread = _left_out(reply.reasoning, ".reasoning")
        return answer.payload(
            self._state,
            [
                *answer.notices([self.header, *reply.notices[: self.above]]),
                answer.reasoning(_shown(reply.reasoning[:MAX_SHOWN]), seconds=self.thought),
                *answer.notices([unread]),
                *_said(reply),
                *answer.notices([left_out], warning=True),
                *map(answer.image, reply.images),
                *(answer.source(one, at) for at, one in enumerate(reply.sources, 1)),
                *answer.notices([*map(steps.waiting, _unanswered(reply))]),
                *answer.notices(reply.notices[self.above :]),
                *answer.notices([self.ending], warning=True),
            ],
            footer=answer.footer(reply, timed=self.timed),
        )

    @property
    def _state(self) -> answer.State:
        if self.reply.cut_off:
            return "cut off"
        return "stopped" if self.reply.finish is None else "done"


def bundle(
    reply: Reply,
    format: str = "markdown",  # noqa: A002 - the flag's name
    header: str = "",
    ending: str = "",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return data and metadata of the output that shows `reply` as it ended."""
    end = _Ending(reply, format, header, ending, len(reply.notices), timed=not reply.cached)
    return _masked(_run(_final_data(end, _AtOnce()))), _metadata(reply)


def _unanswered(reply: Reply) -> list[ToolCall]:
    """Return the calls of which nothing came: the caller runs those tools."""
    if not reply.tool_calls:
        return []
    known = {step.call for step in reply.steps}
    return [call for call in reply.tool_calls if call not in known]


def _pieces(reply: Reply) -> Iterator[str | Step]:
    """Yield an answer's texts and the steps between them, as much of them as is shown."""
    text = ""
    room = MAX_SHOWN
    for part in reply.parts:
        match part:
            case TextPart(said):
                text += said[:room]
                room = max(0, room - len(said))
            case Step():
                yield text.strip("\n")
                yield part
                text = ""
    yield text.strip("\n")


def _said(reply: Reply) -> list[answer.Part | None]:
    """Return an answer's texts and steps as parts."""
    if not (reply.tool_calls and reply.steps):
        return [answer.text(_shown(reply.text[:MAX_SHOWN]))]
    return [
        answer.text(_shown(one)) if isinstance(one, str) else steps.part(one)
        for one in _pieces(reply)
    ]


async def _with_steps(reply: Reply, format: str, work: _Work) -> _Body:  # noqa: A002
    """Render an answer with its steps where they stand."""
    html: list[str] = []
    said: list[str] = []
    for one in _pieces(reply):
        if isinstance(one, Step):
            html.append(steps.html(one))
            said.append(steps.plain(one))
        elif one:
            body = await _body(_shown(one), format, work)
            html.append(body.html)
            said.append(body.plain)
    return _Body("".join(html), "\n\n".join(said))


async def _final_data(end: _Ending, work: _Work, finished: str | None = None) -> dict[str, Any]:
    text = _shown(end.reply.text[:MAX_SHOWN])
    if end.reply.tool_calls and end.reply.steps:
        body = await _with_steps(end.reply, end.format, work)
    elif finished is not None and end.format == "markdown":
        body = _Body(finished, text)
    else:
        body = await _body(text, end.format, work)
    reasoning = await _finished(_shown(end.reply.reasoning[:MAX_SHOWN]), work)
    return end.bundle(body, reasoning)


def _run(coroutine: Any) -> Any:
    """Run to its end a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


def _masked(data: Any) -> Any:
    # masked last: a secret may have had control characters in it
    match data:
        case str():
            return mask(harmless(data))
        case dict():
            return {name: _masked(value) for name, value in data.items()}
        case list():
            return [_masked(value) for value in data]
    return data


def _size(data: Any) -> int:
    """Count the characters that `data` shows, about as they go over the wire."""
    match data:
        case str():
            return len(data)
        case dict():
            return sum(len(name) + _size(value) for name, value in data.items())
        case list():
            return sum(map(_size, data))
    return 4


# -- the live view


class CellView:
    """Shows one answer in its cell. `add` what comes, then `close`, however it ended.

    Not `live` (no one watches, or the output is captured), it sends one output at the end.
    `in_one`, no part is frozen: what is saved is the same, watched or not, and painted seldom. A
    `window` then leaves out, while it grows, what stands above so many of its last characters.
    """

    def __init__(
        self,
        publish: Publish,
        *,
        format: str = "markdown",  # noqa: A002 - the flag's name
        live: bool = True,
        in_one: bool = False,
        window: int | None = None,
    ) -> None:
        if format not in FORMATS:
            raise UsageError(f"A format is one of {', '.join(FORMATS)}, not {format!r}.")
        self.header = ""
        """Who answers, where that must be said; shown from the next paint on."""
        self._model = ""
        self._stopping = ""
        self._publish = publish
        self._format = format
        self._live = live
        self._in_one = in_one
        self._window = window
        self._begin = time.monotonic()
        self._closed = False
        # what came
        self._new: list[str | Step] = []
        self._reasoning: list[str] = []
        self._thought: list[float] = []
        """When reasoning came first, and when the text did."""
        self._above: list[str] = []
        self._below: list[str] = []
        self._last_kind = ""
        """Of the notice that came last."""
        self._tokens = 0
        self._has_text = False
        self._room: dict[type[Event], int] = {Text: MAX_SHOWN, Reasoning: MAX_SHOWN}
        # what is drawn: `_tail` is the end of `_open`, which is what no finished HTML is kept for
        self._ids: list[str] = []
        self._wants_part = True
        self._lead_is_done = False
        self._open = ""
        self._tail = ""
        self._at = 0
        """Of the text, what stands in parts that have ended, as the page counts it."""
        self._steps = 0
        """How many are shown."""
        self._live_id = os.urandom(8).hex()
        self._left_out = 0
        self._done_source: list[str] = []
        self._done_html: list[str] = []
        # when
        self._painter: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._drawing = asyncio.Lock()
        self._due = 0.0
        self._credit = float(BURST)
        self._credited = self._begin

    def reserve(self) -> None:
        """Take a place in the cell: after its end, a headless front end takes updates only."""
        if not self._ids:
            self._draw("")

    def begin(self, model: str, stopping: str) -> None:
        """Say before long who is asked, and how to stop it, if nothing has come by then."""
        self._model, self._stopping = model, stopping
        self._start_painting()

    def _start_painting(self) -> None:
        if self._live and self._painter is None:
            self._painter = asyncio.get_running_loop().create_task(self._keep_painting())

    def add(self, event: Event) -> None:
        """Take an event; it is painted when its time has come."""
        match event:
            case Text(text):
                if len(self._thought) == 1:
                    self._thought.append(time.monotonic())
                self._new.append(self._fitting(Text, text))
                self._has_text = self._has_text or bool(text)
            case Reasoning(text):
                if not self._thought:
                    self._thought.append(time.monotonic())
                self._reasoning.append(self._fitting(Reasoning, text))
            case Notice(text, kind):
                notices = self._below if self._has_text else self._above
                if kind and kind == self._last_kind and notices:
                    notices.pop()
                notices.append(text)
                self._last_kind = kind
            case ToolCall():
                self._below.append(steps.waiting(event, steps.MAX_LINE))
                self._last_kind = ""
            case Step():
                if (said := steps.waiting(event.call, steps.MAX_LINE)) in self._below:
                    self._below.remove(said)
                self._new.append(event)
                self._has_text = True
            case Usage():
                self._tokens = event.output
            case FinishReason():
                return
        self._start_painting()
        self._wake.set()

    def _fitting(self, kind: type[Event], text: str) -> str:
        """Return the part of a growing text that can be shown."""
        room = self._room[kind]
        self._room[kind] = room - len(text)
        return text if len(text) <= room else text[: max(room, 0)]

    async def close(self, reply: Reply, *, header: str = "", ending: str = "") -> None:
        """Draw what is left and the static bundle; further calls do nothing.

        Raises FormatError for an answer that came to its end and is not what its format says.
        """
        if self._closed:
            return
        self._closed = True
        self.header = header or self.header
        above = min(len(self._above), len(reply.notices))
        end = _Ending(
            reply,
            self._format,
            self.header,
            ending,
            above,
            timed=self._is_timed(reply),
            thought=self._thinking_time if self._is_timed(reply) else None,
        )
        try:
            async with self._drawing:
                await self._stop_painting()
                data = await self._finish(end)
        except BaseException:
            # interrupted while it ends: what came is shown now, whole and without colours
            if self._painter is not None:
                self._painter.cancel()
            text = _shown(reply.text[:MAX_SHOWN])
            body = _Body(_plain(text), text)
            reasoning = _plain(_shown(reply.reasoning[:MAX_SHOWN]))
            self._send_last(end.bundle(body, reasoning), _metadata(reply))
            raise
        self._send_last(data, _metadata(reply))
        self._raise_what_painting_raised()
        if self._format == "json":
            check_json(reply)

    def _is_timed(self, reply: Reply) -> bool:
        return not (self._in_one or reply.cached)

    @property
    def _thinking_time(self) -> float | None:
        return self._thought[1] - self._thought[0] if len(self._thought) == 2 else None

    def _raise_what_painting_raised(self) -> None:
        painter = self._painter
        if painter is not None and not painter.cancelled() and (error := painter.exception()):
            raise error

    async def _finish(self, end: _Ending) -> dict[str, Any]:
        await _load()
        from ipychat.text import markup

        work = _Work()
        text = _shown(end.reply.text[:MAX_SHOWN])
        finished = "".join(self._done_source)
        if not finished or not text.startswith(finished) or markup.has_link_definitions(text):
            return await _final_data(end, work)
        rest = await _finished(text[len(finished) :], work)
        return await _final_data(end, work, "".join(self._done_html) + rest)

    def _send_last(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        if self._ids:
            first, *others = self._ids
            self._send(data or {"text/plain": ""}, first, update=True, metadata=metadata)
            for part in others:
                self._send({"text/plain": ""}, part, update=True)
        elif data:
            self._send(data, None, metadata=metadata)

    async def _stop_painting(self) -> None:
        if self._painter is not None:
            self._painter.cancel()
            await asyncio.wait([self._painter])

    # -- painting

    async def _keep_painting(self) -> None:
        loop = asyncio.get_running_loop()
        loading = loop.create_task(_load())
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK if self._ids else FIRST_SIGN):
                    await self._wake.wait()
            if self._has_text:
                await asyncio.shield(loading)
            if (wait := self._due - loop.time()) > 0:
                await asyncio.sleep(wait)
            async with self._drawing:
                self._wake.clear()
                work = _Work()
                await self._paint(work)
                cpu = work.end()
            self._pay()
            debt = max(0.0, -self._credit)
            self._due = loop.time() + max(GAP, CPU_SHARE * cpu, debt / RATE)

    def _pay(self) -> None:
        now = time.monotonic()
        self._credit = min(BURST, self._credit + (now - self._credited) * RATE)
        self._credited = now

    async def _paint(self, work: _Work) -> None:
        new, self._new = self._new, []
        for one in new:
            if isinstance(one, Step):
                await self._show_step(one, work)
            else:
                self._open += one
                self._tail += one
        if not self._has_text:
            self._draw(self._lead() + self._foot(), self._parts(""))
            return
        if self._in_one:
            await self._leave_out(work)
        else:
            if self._reasoning and not self._lead_is_done:
                await self._finish_lead(work)
            await self._freeze(work)
        tail = _shown(self._tail[: settled(self._tail)])
        if self._is_markdown:
            html = await work.do(partial(_render_settled, tail), heavy=_takes_long(tail))
        else:
            html = _plain(tail)
        self._draw(self._lead() + html + self._foot(), self._parts(tail))

    @property
    def _is_markdown(self) -> bool:
        return self._format in {"markdown", "code", "html"}

    def _lead(self) -> str:
        """What stands above the text, in the first part."""
        if self._lead_is_done:
            return ""
        html = _MOVING + small(self.header) + _smalls(self._above)
        if thought := self._thoughts():
            if len(thought) > REASONING_TAIL:
                thought = f"… {thought[-REASONING_TAIL:]}"
            html += _folded("Thinking…", small(thought), kind="reasoning")
        if self._left_out:
            html += small(f"… {self._left_out:,} characters above")
        return html

    def _foot(self) -> str:
        """What stands below the text while it grows. Sent with every paint, so short."""
        status = " · ".join(filter(None, [self._model, *self._status(), self._stopping]))
        return f"{_smalls(self._below)}<small>{_DOT} {escape(status)}</small>{_STRANDED}"

    def _status(self) -> list[str]:
        said = [f"{time.monotonic() - self._begin:.0f} s"]
        if self._tokens:
            said.append(f"{self._tokens:,} tokens")
        if (room := self._room[Text]) < 0:
            said.append(f"{-room:,} more characters came, which are not shown")
        return said

    def _thoughts(self) -> str:
        thought = "".join(self._reasoning)
        return _shown(thought[: settled(thought)]) if thought else ""

    def _parts(self, tail: str, step: Step | None = None) -> dict[str, Any] | None:
        """Write the newest part for the extension."""
        if self._format != "markdown" or self._window is not None:
            return None
        thought = self._thoughts()
        newest = "" if self._lead_is_done else thought[-REASONING_TAIL:]
        at = answer.units(thought) - answer.units(newest)
        return answer.payload(
            "streaming" if self._has_text else "waiting",
            [
                *answer.notices([self.header, *self._above]),
                answer.reasoning(newest, at, seconds=self._thinking_time),
                answer.text(tail, self._at),
                {**steps.part(step), "at": self._at, "number": self._steps} if step else None,
                *answer.notices(self._below),
            ],
            live=self._live_id,
            footer={"model": self._model, "status": [*self._status(), self._stopping]},
        )

    async def _show_step(self, step: Step, work: _Work) -> None:
        """Leave for good what came before a step, and the step."""
        if self._in_one:
            self._above.append(steps.line(step))
            return
        if self._reasoning and not self._lead_is_done:
            await self._finish_lead(work)
        if text := self._tail.strip("\n"):
            html = await _finished(_shown(text), work)
            self._draw(self._lead() + html, self._parts(_shown(self._tail)))
            self._end_part(_shown(self._tail))
        self._draw(self._lead() + steps.html(step), self._parts("", step))
        self._end_part("")
        self._steps += 1
        self._open = self._tail = ""

    async def _finish_lead(self, work: _Work) -> None:
        """Fold the reasoning into a part of its own, so that it isn't sent again with the text."""
        reasoning = await _finished(_shown("".join(self._reasoning)), work)
        self._draw(
            _MOVING
            + small(self.header)
            + _smalls(self._above)
            + _folded_thought(reasoning, self._thinking_time),
            self._parts(""),
        )
        self._end_part("")

    async def _freeze(self, work: _Work) -> None:
        """Leave what is finished in the newest part for good; what is not goes into the next."""
        if not self._is_markdown:
            if len(self._tail) > FREEZE_LINES_OVER:
                self._freeze_lines(self._tail.rfind("\n") + 1)
            return
        if len(self._tail) <= FREEZE_OVER:
            return
        from ipychat.text import markup

        frozen_softly = len(self._open) - len(self._tail)
        finished = await work.do(
            partial(markup.safe_cut, self._open), heavy=_takes_long(self._open)
        )
        grows = not finished and len(self._tail) > SOFT  # a paragraph, perhaps
        soft = markup.soft_cut(self._tail[:MAX_SOFT]) if grows else 0
        cut = soft or finished - frozen_softly
        if cut < FREEZE_OVER or self._cuts_a_secret(cut):
            return
        source = _shown(self._tail[:cut])
        if finished:
            whole = _shown(self._open[:finished])
            html = await _finished(whole, work)
            self._done_source.append(whole)
            self._done_html.append(html)
            self._open = self._open[finished:]
            if frozen_softly:
                html = await _finished(source, work)
        else:
            html = await work.do(partial(_render, source), heavy=_takes_long(source))
        self._tail = self._tail[cut:]
        self._draw(self._lead() + html, self._parts(source))
        self._end_part(source)

    async def _leave_out(self, work: _Work) -> None:
        """Forget what stands above the window, some of it at a time: text that moves up jumps."""
        if self._window is None or len(self._tail) <= 2 * self._window:
            return
        from ipychat.text import markup

        above = self._tail[: -self._window]
        cut = (
            await work.do(partial(markup.safe_cut, above, SOFT), heavy=_takes_long(above))
            if self._is_markdown
            else above.rfind("\n") + 1
        )
        if cut and not self._cuts_a_secret(cut):
            self._tail = self._tail[cut:]
            self._left_out += cut

    def _freeze_lines(self, cut: int) -> None:
        if cut and not self._cuts_a_secret(cut):
            self._draw(self._lead() + _plain(_shown(self._tail[: cut - 1])))
            self._tail = self._tail[cut:]
            self._end_part("")

    def _cuts_a_secret(self, cut: int) -> bool:
        return _shown(self._tail[:cut]) + _shown(self._tail[cut:]) != _shown(self._tail)

    def _end_part(self, source: str) -> None:
        self._at += answer.units(source)
        self._lead_is_done = True
        self._wants_part = True

    # -- sending

    def _draw(self, html: str, parts: dict[str, Any] | None = None) -> None:
        """Show `html` in the newest part, and `parts` where the extension draws them."""
        if update := not self._wants_part:
            part = self._ids[-1]
        else:
            part = os.urandom(8).hex()
            self._ids.append(part)
            self._wants_part = False
        data = {"text/html": html, **({answer.MIME: parts} if parts else {})}
        self._send(data, part, update=update)

    def _send(
        self,
        data: dict[str, Any],
        part: str | None,
        *,
        update: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        data = _masked(data)
        self._credit -= MESSAGE + _size(data)
        self._publish(data, metadata or {}, display_id=part, update=update)
