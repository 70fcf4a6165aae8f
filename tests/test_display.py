"""What the user sees of an answer, in every moment and at the end."""

import asyncio
import html
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ipychat import secrets
from ipychat.chat.answer import Answer
from ipychat.display import cell
from ipychat.display.cell import CellView, bundle
from ipychat.display.terminal import TerminalView
from ipychat.errors import FormatError, UsageError
from ipychat.messages import (
    FinishReason,
    Message,
    ModelId,
    Notice,
    Question,
    Reasoning,
    Reply,
    Text,
    ToolCall,
    Usage,
)
from ipychat.text import markup
from ipychat.text.characters import harmless

REQUEST = Question(ModelId("openai", "gpt-4o-mini"), (Message("user", "?"),))
MARKDOWN = """\
# Title

Some *words* and `code`, enough of them that a block is worth freezing on its own, I think.

- one

- two

```python
for i in range(3):

    print(i)
```

| a | b |
|---|---|
| 1 | 2 |

> a quote

The end, with a [link](https://example.org) in it.
"""


class Page:
    """A notebook's cell: outputs, those with a display id are updated in place."""

    def __init__(self):
        self.outputs = []
        self.states = []
        self.messages = 0

    def publish(self, data, metadata, *, display_id=None, update=False):
        json.dumps(data, ensure_ascii=False).encode()
        json.dumps(metadata, allow_nan=False)
        self.messages += 1
        if update:
            assert display_id in [name for name, *_ in self.outputs]
            self.outputs = [
                (name, data, metadata) if name == display_id else (name, *rest)
                for name, *rest in self.outputs
            ]
        else:
            self.outputs.append((display_id, data, metadata))
        self.states.append(self.html)

    @property
    def html(self):
        return "".join(data.get("text/html", "") for _, data, _ in self.outputs)

    @property
    def plain(self):
        return "".join(data.get("text/plain", "") for _, data, _ in self.outputs)

    @property
    def shown(self):
        return [data for _, data, _ in self.outputs if any(data.values())]

    @property
    def last(self):
        (only,) = self.shown
        return only


def reply(text="", **more):
    return Reply(REQUEST, text, **({"finish": "stop"} | more))


def reply_of(events, **more):
    """The reply that these events make."""
    answer = Answer(REQUEST)
    for event in events:
        answer.add(event)
    made = answer.reply()
    given = (made.reasoning, made.notices, made.tool_calls)
    names = ("reasoning", "notices", "tool_calls")
    return reply(made.text, **dict(zip(names, given, strict=True)), **more)


async def show(events, *, pause=0.0, form="markdown", live=True, ending="", **more):
    """Feed the events to a view and close it; give the page."""
    page = Page()
    view = CellView(page.publish, format=form, live=live)
    for event in events:
        view.add(event)
        await asyncio.sleep(pause)
    await view.close(reply_of(events, **more), ending=ending)
    return page


@pytest.mark.parametrize("form", [form for form in cell.FORMATS if form != "json"])
@pytest.mark.parametrize("live", [True, False])
async def test_of_a_very_long_answer_the_beginning_is_shown_and_where_the_rest_is(
    monkeypatch, form, live
):
    monkeypatch.setattr(cell, "MAX_SHOWN", 1_000)
    thought, text = "thinking\n\n" * 300, "so many words\n\n" * 1_000
    page = await show([Reasoning(thought), *words(text, 700)], pause=0.001, form=form, live=live)
    assert 60 <= page.html.count("so many words") < 80
    assert 90 <= page.html.count("thinking") <= 100
    said = "The first 1,000 of 15,000 characters are shown; the reply's .text has them all."
    assert said in html.unescape(page.html)
    assert "of 3,000 characters are shown; the reply's .reasoning" in html.unescape(page.html)
    most = max(state.count("so many words") for state in page.states)
    assert most < 2 * 80, "the parts are emptied once the first has all"
    assert len(page.plain) < 1_500


async def test_a_live_answer_says_that_more_came_than_is_shown(monkeypatch):
    monkeypatch.setattr(cell, "MAX_SHOWN", 1_000)
    page = Page()
    view = CellView(page.publish)
    view.add(Text("word " * 500))
    while "1,500 more characters came, which are not shown" not in page.html:
        await asyncio.sleep(0.01)
    await view.close(reply("word " * 500))


async def test_a_tool_calls_arguments_are_shown_up_to_a_bound():
    page = await show([ToolCall("a", "f", "x" * 50_000)])
    assert "(40,000 more characters)" in page.html
    assert len(page.html) < 12_000


def words(text, size=7):
    return [Text(text[i : i + size]) for i in range(0, len(text), size)]


@pytest.fixture
def hasty(monkeypatch):
    """Paints whenever the loop has a turn, and freezes what it can."""
    monkeypatch.setattr(cell, "GAP", 0)
    monkeypatch.setattr(cell, "CPU_SHARE", 0)
    monkeypatch.setattr(cell, "RATE", 1e12)
    monkeypatch.setattr(cell, "FREEZE_OVER", 0)
    monkeypatch.setattr(cell, "FREEZE_LINES_OVER", 20)
    monkeypatch.setattr(cell, "SOFT", 60)
    cell._render("")
    cell._loaded.add("markup")


# -- the final page


async def test_the_page_ends_as_one_output_that_holds_the_whole_answer(hasty):
    page = await show(words(MARKDOWN))
    assert page.plain == MARKDOWN
    assert page.last["text/html"] == bundle(reply(MARKDOWN))[0]["text/html"]
    assert markup.to_html(MARKDOWN, final=True) in page.html
    assert len(page.outputs) > 5
    assert page.outputs[0][1] is page.last
    assert all(data == {"text/plain": ""} for _, data, _ in page.outputs[1:])


async def test_what_is_frozen_does_not_change_until_the_end(hasty):
    page = Page()
    view = CellView(page.publish)
    frozen = []
    for event in words(MARKDOWN):
        view.add(event)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        *finished, _ = [data for _, data, _ in page.outputs] or [None]
        assert finished[: len(frozen)] == frozen
        frozen = finished
    assert len(frozen) > 4
    await view.close(reply(MARKDOWN))


async def test_the_first_token_is_shown_at_once():
    page = Page()
    await cell._load()
    view = CellView(page.publish)
    view.add(Text("Hel"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert "Hel" in page.html
    view.add(Text("lo"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert page.messages == 1
    await asyncio.sleep(0.08)
    assert "Hello" in page.html
    assert page.messages == 2
    await view.close(reply("Hello"))


PIECES = st.sampled_from(
    [
        "word ", "two words ", "\n", "\n\n", "\n\n", "\n\n", "# ", "## Head\n", "- ", "\n- item\n", "1. ", "10) ",
        "  ", "    ", "\t", "> ", "```", "\n```python\n", "\n```\n", "\n~~~\n", "`", "*", "**", "_", "$", "$$", "\n$$\n", "x^2",
        "\\(", "\\)", "\n\\[\n", "\n\\]\n", "[", "](http://a.b)", "[a]: http://x.y\n", "[a]", "<b>", "<script>", "&amp;", "|", "| a | b |\n",
        "|---|---|\n", "\n---\n", "===\n", "\\", "é", "漢字", "😀", "\ud83d", "\ude00", "\r\n", "\r", "\x00", "'", '"', "x = 1\n",
    ]
)  # fmt: skip


@pytest.mark.heavy
@given(
    st.lists(PIECES, max_size=60).map("".join),
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
    st.lists(st.integers(0, 3), min_size=1, max_size=20),
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_markdown_in_random_pieces_ends_as_if_it_were_rendered_at_once(
    hasty, text, sizes, turns
):
    async def run():
        page = Page()
        view = CellView(page.publish)
        rest, i = text, 0
        while rest:
            size = sizes[i % len(sizes)]
            view.add(Text(rest[:size]))
            rest = rest[size:]
            for _ in range(turns[i % len(turns)]):
                await asyncio.sleep(0)
            i += 1
        await view.close(reply(text))
        return page

    page = asyncio.run(run())
    data, _ = bundle(reply(text))
    assert (page.shown == [data]) or (not data and not page.shown)
    if data:
        assert page.last["text/plain"] == harmless(cell._shown(text))
    assert markup.to_html(text, final=True) in page.html
    for state in page.states:
        assert_harmless(state)


async def test_an_endless_paragraph_is_cut_while_it_grows_and_whole_at_the_end(hasty):
    text = "so many words " * 100
    page = await show(words(text, 14))
    assert len(page.outputs) > 10
    assert page.html.count("<p>") == 1
    assert page.plain == text


async def test_nothing_comes_but_one_output_where_no_one_watches():
    events = [Reasoning("hm"), *words(MARKDOWN), Notice("note"), Usage(1, 2), FinishReason("stop")]
    page = await show(events, live=False)
    ((display_id, data, _),) = page.outputs
    assert display_id is None
    assert page.messages == 1
    assert data["text/plain"] == MARKDOWN


async def test_an_answer_that_never_began_shows_how_it_ended_or_nothing():
    for live in (True, False):
        page = Page()
        await CellView(page.publish, live=live).close(reply(finish=None))
        assert not page.outputs
        await CellView(page.publish, live=live).close(
            reply(finish=None), ending="The service is down."
        )
        ((display_id, data, _),) = page.outputs
        assert display_id is None
        assert data["text/plain"] == "The service is down."
        assert "The service is down." in data["text/html"]


async def test_a_second_close_does_nothing():
    page = Page()
    view = CellView(page.publish)
    await view.close(reply("one"))
    await view.close(reply("two"))
    assert page.plain == "one"


async def test_the_reply_is_what_counts_even_where_other_text_was_added(hasty):
    page = Page()
    view = CellView(page.publish)
    for event in words(MARKDOWN):
        view.add(event)
        await asyncio.sleep(0)
    await view.close(reply("Something else"))
    assert page.plain == "Something else"


async def test_the_metadata_says_who_answered_how_it_ended_and_what_it_cost():
    known = {"at": "2026-11-21T12:00:00+00:00", "hash": "ab12"}
    page = await show(
        words("hi"), usage=Usage(3, 5, cost=0.1), seconds=1.23456, first_text=0.5, **known
    )
    assert page.outputs[0][2] == {
        "ipychat": {
            "model": "openai:gpt-4o-mini",
            "provider": "openai",
            "hash": "ab12",
            "at": "2026-11-21T12:00:00+00:00",
            "finish": "stop",
            "usage": {"input": 3, "output": 5, "reasoning": 0, "cached": 0, "cost": 0.1},
            "cost": 0.1,
            "seconds": 1.235,
            "first_text": 0.5,
        }
    }
    assert "1.2 s" in page.html


# -- what else is shown


async def test_a_notice_before_the_text_stands_above_it_and_one_after_it_below(hasty):
    page = await show([Notice("Trying again"), *words("The text"), Notice("Refused")])
    assert (
        page.html.index("Trying again") < page.html.index("The text") < page.html.index("Refused")
    )
    assert "Trying again" in page.states[0]
    assert page.plain == "The text"


async def test_a_notice_of_a_retry_takes_the_place_of_the_one_before(hasty):
    again = [Notice(f"Retrying in {seconds} s", kind="retry") for seconds in (1, 2)]
    page = await show([Notice("First"), *again, *words("The text")], pause=0.01)
    assert any("Retrying in 1 s" in state for state in page.states)
    assert "Retrying in 1 s" not in page.html
    assert page.html.index("First") < page.html.index("Retrying in 2 s") < page.html.index("text")


async def test_header_and_ending_stand_around_the_answer(hasty):
    page = Page()
    view = CellView(page.publish)
    view.header = "openai:<gpt>"
    view.add(Text("Half an ans"))
    await asyncio.sleep(0.02)
    assert "openai:&lt;gpt&gt;" in page.html
    await view.close(reply("Half an ans", finish=None), ending="Stopped: partial answer kept.")
    assert (
        page.html.index("&lt;gpt&gt;") < page.html.index("Half an ans") < page.html.index("Stopped")
    )
    assert page.plain == "Half an ans\n\nStopped: partial answer kept."


async def test_the_status_line_is_live_only(hasty, monkeypatch):
    monkeypatch.setattr(cell, "TICK", 0.01)
    page = await show([Text("hi"), Usage(1, 4321), Text(" there")], pause=0.03)
    assert any("4,321 tokens" in state for state in page.states)
    assert page.messages > 5, "time goes on while nothing comes"
    assert "tokens" not in page.html
    assert "0 s" not in page.html


async def test_an_answer_that_is_never_closed_says_so_once_in_each_moment(hasty):
    said = cell.STRANDED
    page = await show([Reasoning("hm, "), *words(MARKDOWN * 3)])
    growing = [state for state in page.states if not state.startswith('<div class="ipychat"')]
    with_a_foot = [state for state in growing if "<small>" in state]
    assert len(with_a_foot) > len(growing) / 2, "the others have just frozen a part"
    for state in with_a_foot:
        assert state.count(said) == 1
        assert state.count("@keyframes ic-cut") == 1, "it is hidden where a paint has come just now"
    assert said not in page.html
    assert "@keyframes" not in page.html


async def test_reasoning_is_shown_while_it_grows_then_folded(hasty):
    events = [Reasoning(f"thought {i} <b>") for i in range(200)]
    page = await show([*events, *words("The *answer*.")])
    growing = [state for state in page.states if "Thinking…" in state]
    assert growing[0] == page.states[0]
    assert max(map(len, growing)) < 2_500
    assert any("thought 150" in state for state in growing)
    assert "<details" in page.html
    assert "<details open" not in page.html
    assert page.html.count("thought") == 200
    assert page.html.index("thought 199") < page.html.index("<em>answer</em>")
    assert page.plain == "The *answer*."
    assert_harmless(page.html)


async def test_reasoning_alone_is_kept(hasty):
    page = await show([Reasoning("only a thought")], finish=None, ending="Stopped.")
    assert "only a thought" in page.html
    assert page.plain == "Stopped."


async def test_tool_calls_are_shown(hasty):
    page = await show([*words("I look."), ToolCall("1", "look<up>", '{"q": "<script>"}')])
    assert "look&lt;up&gt;({&quot;q&quot;" in page.html
    assert_harmless(page.html)


# -- formats


async def test_an_unknown_format_is_refused():
    with pytest.raises(UsageError, match="markdown, text"):
        CellView(Page().publish, format="pdf")


async def test_text_is_shown_as_it_is(hasty):
    text = "".join(f"line *{i}* <b>\n" for i in range(50))
    page = await show(words(text), form="text")
    assert page.plain == text
    assert html.escape(text) in page.html
    assert "<em>" not in "".join(page.states)
    assert len(page.outputs) > 10


async def test_code_shows_the_blocks_with_their_language_and_folds_the_rest(hasty):
    page = await show(
        words("Do this:\n\n```python\nx = 1\n```\n\nthen\n\n```bash\nls\n```\n"), form="code"
    )
    assert page.plain == "x = 1\n\nls"
    top, _, folded = page.html.partition("<details")
    assert top.index("python") < top.index('x <span class="o">=</span>') < top.index("bash")
    assert "Do this" not in top
    assert "Do this" in folded


async def test_code_without_a_block_is_the_text():
    page = await show(words("No code needed."), form="code")
    assert page.plain == "No code needed."


@pytest.mark.parametrize(
    "text",
    [
        '{"b": [1, 2.5], "a": "é<b>"}',
        '```json\n{"b": [1, 2.5], "a": "é<b>"}\n```\n',
        '\n~~~\n{"b":[1,2.5],"a":"é<b>"}\n~~~',
    ],
)
async def test_json_is_pretty_printed(text):
    page = await show(words(text), form="json")
    assert page.plain == json.dumps({"b": [1, 2.5], "a": "é<b>"}, indent=2, ensure_ascii=False)
    assert "highlight" in page.html
    assert_harmless(page.html)


@pytest.mark.parametrize(
    "text", ["Sure! {}", "", "[NaN]", "{", "[" * 100_000, "```json\n{}\n```\ntext\n```\n{}\n```"]
)
async def test_what_is_not_json_is_shown_and_then_an_error(text):
    page = Page()
    view = CellView(page.publish, format="json")
    for event in words(text, 999):
        view.add(event)
    with pytest.raises(FormatError, match="JSON") as error:
        await view.close(reply(text))
    assert page.plain == text
    assert error.value.reply.text == text


async def test_json_that_was_stopped_is_no_second_error():
    page = await show(words('{"a": '), form="json", finish=None, ending="Stopped.")
    assert page.plain == '{"a": '


@pytest.mark.parametrize("text", ['["\\ud83d"]', "[" * 800 + "]" * 800])
async def test_strange_json_is_shown(text):
    page = await show(words(text, 99), form="json")
    assert json.loads(page.plain) == json.loads(text)


EVIL_PAGE = """<!doctype html><html><head><link rel=stylesheet href=https://x.example/a.css>
<LINK/rel="dns-prefetch" href="//x.example"><meta http-equiv=refresh content="0;url=https://x.example"><base href="https://x.example/">
<script>parent.document.title='x'</script></head><body onload="alert(1)"><h1 title='"'>Hi &amp; bye</h1>
<img src=https://x.example/a.png></body></html>"""


@pytest.mark.parametrize(
    "text", [EVIL_PAGE, f"Here:\n\n```html\n{EVIL_PAGE}\n```\nDone.", f"```html\n{EVIL_PAGE}\n```"]
)
async def test_html_is_previewed_where_nothing_runs_or_loads(text):
    page = await show(words(text, 20), form="html")
    frames = [attributes for tag, attributes in parse(page.html) if tag == "iframe"]
    (frame,) = frames
    assert set(frame) == {"sandbox", "srcdoc", "style", "title"}
    assert frame["sandbox"] == ""
    [inner] = [attributes for tag, attributes in parse(frame["srcdoc"]) if tag == "iframe"]
    assert inner["sandbox"] == ""
    for one in (frame, inner):
        assert one["srcdoc"].startswith(
            '<!doctype html><meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        )
    assert "<h1 title='\"'>Hi &amp; bye</h1>" in inner["srcdoc"]
    inside = [tag for tag, _ in parse(inner["srcdoc"])]
    assert inside.count("meta") == 1
    assert inside.count("base") == 1
    assert "link" not in inside
    assert page.plain == EVIL_PAGE
    for state in page.states:
        assert_harmless(state)
    assert ("Done." in page.html) == ("Done." in text)


async def test_every_format_ends_with_one_output_and_as_its_bundle(hasty):
    text = 'Text\n\n```json\n{"a": 1}\n```\n'
    for form in cell.FORMATS:
        if form != "json":
            page = await show(words(text), form=form)
            assert page.last == bundle(reply(text), form)[0]


# -- harm


OUR_TAGS = {"div", "small", "details", "summary", "pre", "iframe"}
MARKDOWN_TAGS = {
    *(
        "a",
        "blockquote",
        "br",
        "code",
        "em",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "span",
        "strong",
        "sup",
        "ul",
    ),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "tbody", "td", "th", "thead", "tr"),
}


def parse(text):
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    parser = Parser()
    parser.feed(text)
    parser.close()
    return found


def assert_harmless(text):
    for tag, attributes in parse(text.replace(cell._MOVING, "")):
        assert tag in OUR_TAGS | MARKDOWN_TAGS, tag
        for name, value in attributes.items():
            match name:
                case "href":
                    assert value.startswith(("http://", "https://", "mailto:"))
                case "style":
                    assert "url(" not in value
                case "srcdoc" | "sandbox":
                    assert tag == "iframe"
                case _:
                    assert name in {"class", "title", "start", "rel", "open"}, name


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "</pre></div></details><iframe srcdoc='<script>1</script>'>",
    "[x](javascript:alert(1)) ![i](https://x.example/leak.png)",
    "```\n</code></pre><script>alert(1)</script>\n```",
    "```<script>\nx\n```",
    '```python"onmouseover="alert(1)\nx\n```',
    "$<img src=x onerror=alert(1)>$ \\(<script>\\) $$</p><script>$$",
    '"><svg/onload=alert(1)>',
    "<style>*{background:url(//x.example)}</style>",
]


@pytest.mark.parametrize("form", cell.FORMATS)
@pytest.mark.parametrize("payload", HOSTILE)
async def test_a_hostile_answer_is_harmless_in_every_moment(hasty, payload, form):
    text = f"{payload}\n\nwords {payload}\n\n- {payload}\n\n{payload}"
    page = Page()
    view = CellView(page.publish, format=form)
    view.header = payload
    events = [
        Notice(payload),
        Reasoning(payload),
        *words(text),
        Notice(payload),
        ToolCall(payload, payload, payload),
    ]
    for event in events:
        view.add(event)
        await asyncio.sleep(0)
    try:
        await view.close(reply_of(events), ending=payload)
    except FormatError:
        assert form == "json"
    for state in page.states:
        assert_harmless(state)


@pytest.mark.parametrize("form", cell.FORMATS)
async def test_a_known_secret_is_never_shown(hasty, form):
    secrets.register(secret := "sk-canary-0123456789abcdef")
    text = f'Words.\n\nThe key is {secret}, and\n\n```json\n{{"key": "{secret}"}}\n```\n\nas I said: {secret}\n'
    events = [
        Notice(secret),
        Reasoning(f"I know {secret} " * 50),
        *words(text, 5),
        ToolCall("1", "f", secret),
    ]
    page = Page()
    view = CellView(page.publish, format=form)
    for event in events:
        view.add(event)
        await asyncio.sleep(0)
    view.header = secret
    try:
        await view.close(reply_of(events), ending=secret)
    except FormatError as refused:
        said = str(refused)
    else:
        said = ""
    assert secret not in said
    assert all(secret not in html.unescape(state) for state in page.states)
    assert all("0123456789abcdef" not in state for state in page.states)
    assert secret not in page.plain
    assert secrets.MASK in page.plain


# -- interruptions


async def test_a_close_that_is_interrupted_still_shows_the_whole_answer(hasty, monkeypatch):
    code = "x = 1\n" * 2_000
    text = f"Words.\n\n{'More words. ' * 20}\n\n```python\n{code}```\n"
    page = Page()
    view = CellView(page.publish)
    for event in [Reasoning("because"), *words(text, 500)]:
        view.add(event)
        await asyncio.sleep(0)
    closing = asyncio.create_task(view.close(reply(text, reasoning="because"), ending="Stopped."))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert page.plain == f"{text}\n\nStopped."
    assert "because" in page.html
    messages = page.messages
    await asyncio.sleep(0.1)
    assert page.messages == messages, "the painter has ended"


async def test_an_error_of_the_publisher_is_raised_by_close():
    def publish(*_, **__):
        raise ConnectionError("gone")

    view = CellView(publish)
    view.add(Text("hi"))
    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionError):
        await view.close(reply("hi"))


async def test_many_chunks_at_once_are_few_messages():
    events = [Text(f"word{i} ") for i in range(10_000)]
    page = Page()
    view = CellView(page.publish)
    for i, event in enumerate(events):
        view.add(event)
        if i % 20 == 0:
            await asyncio.sleep(0)
    await view.close(reply_of(events))
    assert page.messages <= 10


# -- the terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def terminal(events, stream, *, ending="", header="", form="markdown", **more):
    view = TerminalView(stream, format=form)
    view.header = header
    for event in events:
        view.add(event)
    await view.close(reply_of(events, **more), ending=ending)
    return stream.getvalue()


async def test_a_terminal_gets_the_text_as_it_comes():
    stream = io.StringIO()
    view = TerminalView(stream)
    view.add(Text("Hello the"))
    assert stream.getvalue() == "Hello "
    view.add(Text("re, *you*\nand you"))
    assert stream.getvalue() == "Hello there, *you*\nand "
    await view.close(reply("Hello there, *you*\nand you"))
    await view.close(reply("Hello there, *you*\nand you"))
    assert stream.getvalue() == "Hello there, *you*\nand you\n"


async def test_a_terminal_gets_no_control_characters():
    text = "a\x1b[31mred\x1b]0;title\x07\x9b2J\r\tb\n\x00\x7f\x08"
    out = await terminal([*words(text, 3), Notice("\x1b[2Jx")], io.StringIO())
    assert out == "a[31mred]0;title2J\tb\n[2Jx\n"


async def test_a_terminal_shows_everything_on_lines_of_its_own():
    events = [Notice("Again"), Reasoning("hm, well"), Text("The answer"), ToolCall("1", "f", "{}")]
    out = await terminal(events, io.StringIO(), header="openai:m", ending="Stopped.", finish=None)
    assert out == "openai:m\nAgain\nhm, well\nThe answer\nAsks for the tool f({})\nStopped.\n"
    assert "\x1b" not in out


async def test_a_terminal_dims_the_reasoning_and_colours_code_once(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = "```python\nx = 1\n```\n\n```nonsense\n\x1b[2Jy\n```"
    out = await terminal([Reasoning("hm, well"), Text(text)], Terminal(), form="code")
    assert "\x1b[2mhm, \x1b[22m" in out
    assert out.count("\x1b[2J") == 0
    assert re.sub(r"\x1b\[[\d;]*m", "", out).count("x = 1") == 1
    assert "x = 1" not in out, "it is coloured"
    plain = await terminal([Reasoning("hm, well"), Text(text)], io.StringIO(), form="code")
    assert "\x1b" not in plain


async def test_a_terminal_masks_a_secret_that_comes_in_pieces():
    secrets.register(secret := "sk-canary-0123456789abcdef")
    out = await terminal(words(f"The key is {secret}. Or so", 4), io.StringIO(), ending=secret)
    assert "canary" not in out
    assert out.startswith("The key is •••. Or so\n")


async def test_a_terminal_shows_an_answer_that_came_whole_and_refuses_what_is_not_json():
    stream = io.StringIO()
    with pytest.raises(FormatError):
        await TerminalView(stream, format="json").close(reply("{"))
    assert stream.getvalue() == "{\n"
