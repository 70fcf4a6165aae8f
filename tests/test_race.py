"""Races: several models asked the same at once, side by side in a cell, as a table in Python."""

import asyncio
import contextlib
import json
import re
import time

import pytest

import ipychat
from ipychat import config, errors
from ipychat.chat import conversations
from ipychat.chat.conversations import Conversation
from ipychat.chat.question import NO_OPTIONS, question as request
from ipychat.chat.race import Race
from ipychat.display.race import RaceView
from ipychat.messages import Place, Reply, Text
from ipychat.store.transcripts import Transcript
from tests import lab
from tests.loopback import END, HANG, Service, answer, chunk, head
from tests.protocols import OPENAI
from tests.test_conversations import on_disk, settled
from tests.test_magics import PATH, sent, stalled
from tests.test_usage import counted

pytestmark = pytest.mark.usefixtures("sessions")
A, B, C = MODELS = ["openai:a", "openai:b", "openai:c"]
RACE = "%%chat -m openai:a -m openai:b -m openai:c"
REFUSED = answer(b'{"error": {"message": "no such luck"}}', status=400)


def slowly(*steps):
    """An answer, with pauses where a step is a number."""
    said = [chunk(OPENAI.text(step)) if isinstance(step, str) else step for step in steps]
    return [head(), *said, chunk(OPENAI.finish()), END]


def answering(**scripts):
    """A service that answers as each model does."""
    return lambda received: scripts[received.json["model"]]


def asked(service, model):
    return next(one for one in reversed(service.asked(PATH)) if one.json["model"] == model)


def last(ran):
    """The output that stands in the cell."""
    [output] = [one for one in ran.outputs if one["data"].get("text/plain")]
    return output["data"]["text/html"], output["data"]["text/plain"], output["metadata"]


def columns(html):
    return html.split('<div style="flex:1')[1:]


@pytest.fixture(autouse=True)
def _a_kernel_of_its_own(monkeypatch):
    monkeypatch.setattr(conversations, "_live", {})


@pytest.fixture
def openai(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    service.on(PATH, answering(a=counted("one"), b=counted("two"), c=counted("three")))
    return service


@pytest.fixture
def talk(tmp_path):
    return Conversation("talk", Transcript(tmp_path / "talk.jsonl"))


def begin(talk, prompt, *models, history=True, options=NO_OPTIONS, **place):
    where = Place(talk.name if history else None, **place)
    asked = (talk.question(prompt, model=one, place=where, options=options) for one in models)
    return talk.begin(*asked)


async def race(talk, question, *models, first=False, **how):
    one = Race(talk, begin(talk, question, *models, **how), first=first)
    async with contextlib.aclosing(one.events()) as events:
        one.given = [given async for given in events]
    return one


def read_again(talk):
    return on_disk(settled(talk))


def texts(talk):
    return [turn.text for turn in talk.turns]


# -- in Python


async def test_a_comparison_tells_of_each_in_the_order_in_which_they_were_named(openai):
    openai.on(PATH, answering(a=[0.2, *counted("one")], b=counted("two"), c=counted("three")))
    found = await ipychat.chat.race.compare("Hi", MODELS)
    assert [str(one.model) for one in found] == MODELS
    assert [str(one.reply) for one in found] == ["one", "two", "three"]
    assert found[0].seconds >= found[0].first_text >= 0.2
    assert found[1].first_text < 0.2
    assert {one.tokens for one in found} == {1200}
    assert found.kept is found[0]


async def test_a_comparison_shows_as_a_table(openai):
    openai.on(PATH, answering(a=counted("<b>one</b> for $5"), b=REFUSED))
    found = await ipychat.chat.race.compare("Hi", [A, B])
    assert "&lt;b&gt;one" in found._repr_html_()
    heads, first, second = repr(found).splitlines()
    assert re.split("  +", heads) == [
        "model", "first text", "whole", "tokens in", "tokens out", "cost", "answer",
    ]  # fmt: skip
    assert re.search(r"openai:a +\d\.\d\d s +\d\.\d\d s +1,000 +200 .*for \$5", first)
    assert "RequestError: 127.0.0.1" in second


async def test_an_error_of_one_leaves_the_others_alone(openai):
    openai.on(PATH, answering(a=REFUSED, b=[0.2, *counted("two")], c=counted("three")))
    found = await ipychat.chat.race.compare("Hi", MODELS)
    assert [type(one.error) for one in found] == [errors.RequestError, type(None), type(None)]
    assert [one.reply.text for one in found] == ["", "two", "three"]
    assert found.kept is found[1], "the first of those named that has answered"


async def test_what_came_before_an_error_is_kept(openai):
    broken = [head(), chunk(OPENAI.text("so far")), "fin"]
    openai.on(PATH, answering(a=broken, b=counted("two")))
    found = await ipychat.chat.race.compare("Hi", [A, B])
    assert (found[0].reply.text, found[0].state) == ("so far", "failed")


async def test_of_three_servers_the_fastest_gives_the_first_text_and_the_race_ends_with_it():
    servers = [Service() for _ in range(3)]
    names = ["groq", "openai", "mistral"]
    try:
        for server, pause in zip(servers, (5, 0.1, 5), strict=True):
            server.on(PATH, [*slowly(pause, "here ", "I am")])
        urls = {name: one.url for name, one in zip(names, servers, strict=True)}
        config.use(config.Config(urls=urls))
        talk = Conversation("", None)
        models = [f"{name}:m" for name in names]
        options = {"api_key": "k"}
        begin = time.monotonic()
        one = await race(talk, "Hi", *models, first=True, history=False, options=options)
        took = time.monotonic() - begin
        texts = [turn for turn, event in one.given if isinstance(event, Text)]
        assert {str(turn.model) for turn in texts} == {"openai:m"}
        for server in (servers[0], servers[2]):
            assert server.requests[0].gone.wait(2)
        print(f"{took * 1000:.0f} ms, and all were closed at {time.monotonic() - begin:.3f} s")
        assert took < 4
        assert [result.state for result in one.results()] == ["stopped", "done", "stopped"]
        assert str(one.results().kept.model) == "openai:m"
    finally:
        for server in servers:
            server.close()


async def test_an_answer_without_a_word_does_not_win(openai):
    openai.on(PATH, answering(a=slowly(), b=[0.2, *counted("two")]))
    found = await ipychat.chat.race.compare("Hi", [A, B], first=True)
    assert found.kept.reply.text == "two"


async def test_a_race_that_is_left_closes_every_connection(openai):
    openai.on(PATH, stalled("so far"))
    begun = begin(Conversation("", None), "Hi", A, B, C, history=False)
    one = Race(Conversation("", None), begun)
    async with contextlib.aclosing(one.events()) as events:
        async for _ in events:
            if all(turn.text for turn in one.turns):
                break
    assert all(received.gone.wait(2) for received in openai.requests)
    assert [turn.state for turn in one.turns] == ["stopped"] * 3
    assert {turn.text for turn in one.turns} == {"so far"}


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ([], "a list of models"),
        ("openai:a", "a list of models"),
        ([A, "opnai:b"], "opnai:b"),
    ],
)
async def test_models_that_make_no_race_are_refused_before_anything_is_asked(openai, models, says):
    with pytest.raises(errors.UsageError, match=says):
        await ipychat.chat.race.compare("Hi", models, chat="talk")
    assert not openai.requests
    assert not ipychat.conversation("talk").turns


async def test_a_model_races_with_itself(openai, talk):
    openai.on(PATH, OPENAI.whole("one"), OPENAI.whole("another"))
    found = (await race(talk, "Hi", A, A)).results()
    assert sorted(one.reply.text for one in found) == ["another", "one"]
    assert talk.keep(2).text == found[1].reply.text


# -- in the conversation


async def test_the_question_stands_once_with_the_answer_of_the_first_named(openai, talk):
    await race(talk, "Hi", *MODELS)
    assert texts(talk) == ["one"]
    await race(talk, "And?", B)
    assert [one["content"] for one in openai.requests[-1].json["messages"]] == ["Hi", "one", "And?"]


async def test_all_see_the_turns_before_and_none_sees_another(openai, talk):
    await race(talk, "Hi", A)
    await race(talk, "And?", *MODELS, cell="x", execution="1")
    said = [[m["content"] for m in one.json["messages"]] for one in openai.requests[1:]]
    assert said == [["Hi", "one", "And?"]] * 3


async def test_another_answer_can_be_kept_also_after_a_restart(openai, talk):
    await race(talk, "Hi", *MODELS)
    assert talk.keep(2).text == "two"
    assert texts(talk) == texts(read_again(talk)) == ["two"]
    again = read_again(talk)
    assert again.keep(3).text == "three"
    assert texts(again) == texts(read_again(talk)) == ["three"]
    assert again.keep(1).text == "one"
    assert texts(read_again(talk)) == ["one"]


async def test_turns_after_one_that_is_kept_later_are_stale(openai, talk):
    await race(talk, "Hi", A, B)
    await race(talk, "And?", C)
    talk.keep(2)
    assert [turn.stale for turn in talk.turns] == [False, True]
    assert [turn.stale for turn in read_again(talk).turns] == [False, True]


async def test_a_failure_without_an_answer_does_not_become_stale(openai, talk):
    await race(talk, "Hi", A, B)
    openai.on(PATH, answering(c=REFUSED))
    await race(talk, "And?", C)
    talk.keep(2)
    assert [turn.state for turn in talk.turns] == ["done", "failed"]
    assert not talk.stale_count
    assert not read_again(talk).stale_count


async def test_what_can_not_be_kept_is_said(openai, talk):
    with pytest.raises(errors.UsageError, match="talk has no race"):
        talk.keep(1)
    openai.on(PATH, answering(a=counted("one"), b=REFUSED))
    await race(talk, "Hi", A, B)
    with pytest.raises(errors.UsageError, match=r"no answer 3: 2 models"):
        talk.keep(3)
    with pytest.raises(errors.UsageError, match="openai:b gave no answer"):
        talk.keep(2)


async def test_where_the_first_named_fails_the_next_one_stands_for_the_race(openai, talk):
    openai.on(PATH, answering(a=REFUSED, b=counted("two"), c=counted("three")))
    await race(talk, "Hi", *MODELS)
    assert texts(talk) == texts(read_again(talk)) == ["two"]


async def test_the_winner_stands_for_a_race_of_which_the_first_is_kept(openai, talk):
    openai.on(PATH, answering(a=stalled("so far"), b=[0.1, *counted("two")]))
    await race(talk, "Hi", A, B, first=True)
    assert texts(talk) == texts(read_again(talk)) == ["two"]
    assert talk.keep(1).text == "so far", "what came of it is there"


async def test_a_cell_that_runs_again_replaces_its_race(openai, talk):
    for execution in "12":
        await race(talk, "Hi", *MODELS, cell="x", execution=execution)
    assert texts(talk) == texts(read_again(talk)) == ["one"]
    talk.keep(3)
    await race(talk, "Hi", B, cell="x", execution="3")
    assert texts(talk) == texts(read_again(talk)) == ["two"]


async def test_a_race_that_all_have_lost_brings_the_earlier_answer_back(openai, talk):
    await race(talk, "Hi", A, cell="x", execution="1")
    openai.on(PATH, REFUSED)
    await race(talk, "Hi", *MODELS, cell="x", execution="2")
    assert texts(talk) == texts(read_again(talk)) == ["one", ""]


async def test_a_race_that_one_has_won_does_not(openai, talk):
    await race(talk, "Hi", A, cell="x", execution="1")
    openai.on(PATH, answering(a=REFUSED, b=[0.2, *counted("two")]))
    await race(talk, "Hi", A, B, cell="x", execution="2")
    assert texts(talk) == texts(read_again(talk)) == ["two"]


async def test_of_a_race_whose_kernel_is_killed_what_came_is_there(openai, talk):
    openai.on(PATH, answering(a=stalled("so far a"), b=stalled("so far b")))
    running = asyncio.create_task(race(talk, "Hi", A, B))
    while sum("arrived" in line for line in talk_lines(talk)) < 2:
        await asyncio.sleep(0.05)
    again = read_again(talk)
    assert [(turn.state, turn.text) for turn in again.turns[0].race] == [
        ("lost", "so far a"),
        ("lost", "so far b"),
    ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def talk_lines(talk):
    path = talk.journal.transcript.path
    return path.read_text().splitlines() if path.exists() else []


async def test_a_fork_goes_on_with_the_answer_that_stands(openai, talk):
    config.use(config.Config(notebook=str(talk.journal.transcript.path.parent / "n.ipynb")))
    await race(talk, "Hi", A, B)
    talk.keep(2)
    assert texts(talk.fork("other")) == ["two"]
    assert texts(read_again(ipychat.conversation("other"))) == ["two"]


async def test_every_answer_costs_what_it_costs(openai, talk):
    from ipychat.store import ledger

    await race(talk, "Hi", *MODELS)
    entries = list(ledger.entries())
    assert sorted(one["model"] for one in entries) == MODELS
    assert {one["chat"] for one in entries} == {"talk"}


# -- how often it is drawn


def shown():
    """A race's view, and what it has sent."""
    sent = []
    view = RaceView(lambda data, _, **how: sent.append(data), MODELS, ["markdown"] * 3)
    return view, sent


async def end(view, texts):
    for number, text in enumerate(texts):
        reply = Reply(request("Hi", model=MODELS[number]), text, seconds=1.0, finish="stop")
        await view.end(number, reply)
    await view.close()


async def test_three_fast_services_do_not_flood_the_front_end(openai):
    view, sent = shown()
    begin = time.monotonic()
    word, said = "a word of an answer, ", ""
    while time.monotonic() - begin < 2:
        said += word
        for number in range(3):
            view.add(number, Text(word))
        await asyncio.sleep(0.001)
    took = time.monotonic() - begin
    await end(view, [said] * 3)
    *live, _ = [len(data["text/html"]) for data in sent]
    assert 3 < len(live) < took * 22 + 3
    assert sum(live) < 40_000 + 48_000 * took + 2 * max(live)


@pytest.mark.parametrize("between", [" ", "\n\n"])
async def test_of_long_answers_the_end_is_seen_to_grow_and_all_stands_there_at_last(
    openai, between
):
    view, sent = shown()
    said = between.join(f"This is sentence {number} of many." for number in range(300))
    view.add(1, Text(said))
    for _ in range(200):
        if sent and "characters above" in sent[-1]["text/html"]:
            break
        await asyncio.sleep(0.02)
    live = sent[-1]["text/html"]
    assert "sentence 299" in live
    assert "sentence 9 " not in live
    await end(view, ["", said, ""])
    html = sent[-1]["text/html"]
    assert all(f"sentence {number} " in html for number in range(300))
    assert "characters above" not in html


# -- in a cell


def test_answers_stand_side_by_side_in_one_output(shared):
    kernel, service = shared
    service.on(PATH, answering(a=counted("**one**"), b=[0.3, *counted("two")], c=counted("three")))
    ran = kernel.run(f"{RACE} --no-history\nhi")
    assert ran.status == "ok", ran.error
    html, plain, metadata = last(ran)
    for column, model, said in zip(
        columns(html), MODELS, ("<strong>one</strong>", "two", "three"), strict=True
    ):
        assert model in column
        assert said in column
        assert "1,000 tokens in, 200 out" in column
        assert re.search(r"\d\.\d\d s to the first text · \d\.\d\d s", column)
    assert [plain.index(model) for model in MODELS] == sorted(map(plain.index, MODELS))
    known = metadata["ipychat"]["race"]
    assert [one["model"] for one in known] == MODELS
    assert {"hash", "at", "usage", "seconds", "first_text"} <= known[0].keys()


def test_all_are_seen_to_grow_at_once(notebook, service):
    service.on(PATH, answering(a=stalled("so far a"), b=stalled("so far b"), c=HANGING))
    running = notebook.send(f"{RACE}\nhi")
    cell = notebook.cells[running]
    notebook.wait_for(lambda: all(f"so far {one}" in cell.shown("text/html") for one in "ab"))
    assert len(columns(cell.shown("text/html"))) == 3
    assert len(cell.outputs) == 1
    notebook.wait_for(
        lambda: re.search(r"● ?</span> [1-9] s</small>", columns(cell.shown("text/html"))[2])
    )
    notebook.interrupt()
    notebook.wait(running)


HANGING = [head(), HANG]


def test_an_interrupt_keeps_what_came_in_every_column(notebook, service):
    service.on(PATH, answering(a=counted("whole"), b=stalled("so far"), c=HANGING))
    running = notebook.send(f"{RACE} --to race\nhi")
    cell = notebook.cells[running]
    notebook.wait_for(lambda: all(one in cell.shown("text/html") for one in ("whole", "so far")))
    begin = time.monotonic()
    notebook.interrupt()
    ran = notebook.wait(running)
    assert time.monotonic() - begin < 2
    assert ran.error == "InterruptedAnswerError: Interrupted; what came is kept."
    first, second, third = columns(last(ran)[0])
    assert "whole" in first
    assert "Stopped" not in first
    assert "so far" in second
    assert "Stopped: what came is kept." in second
    assert "Stopped" in third
    for model in "bc":
        assert asked(service, model).gone.wait(2)
    assert notebook.value("[r.state for r in race]") == ["done", "stopped", "stopped"]
    service.on(PATH, OPENAI.whole("ok"))
    notebook.run("%chat go on")
    assert [m["content"] for m in sent(service)] == ["hi", "whole", "go on"]


def test_a_column_shows_its_error_and_the_cell_fails_only_if_all_do(notebook, service):
    service.on(PATH, answering(a=REFUSED, b=[0.3, *counted("two")]))
    ran = notebook.run("%%chat -m openai:a -m openai:b\nhi")
    assert ran.status == "ok", ran.error
    failed, other = columns(last(ran)[0])
    assert "RequestError: 127.0.0.1" in failed
    assert "no such luck" in failed
    assert "two" in other
    service.on(PATH, REFUSED)
    ran = notebook.run("%%chat -m openai:a -m openai:b\nhi")
    assert ran.status == "error"
    assert ran.error.startswith("RequestError: 127.0.0.1")
    assert len(columns(last(ran)[0])) == 2


def test_html_in_one_answer_stays_in_its_column_and_is_inert(shared):
    kernel, service = shared
    hostile = "</div></div></div><script>alert(1)</script><img src=x onerror=alert(1)>\n\n</div>\n\n<div style='position:fixed'>"
    service.on(
        PATH,
        answering(
            a=OPENAI.whole(hostile), b=OPENAI.whole("</div>", "</section>"), c=OPENAI.whole("three")
        ),
    )
    for form in ("markdown", "text", "code", "html"):
        html = last(kernel.run(f"{RACE} --no-history -f {form}\nhi"))[0]
        assert "<script" not in html
        assert "<img" not in html
        assert "position:fixed'" not in re.sub("&#x27;|&lt;.*", "", html)
        opened = re.findall(r"<div|</div", html)
        assert opened.count("<div") == opened.count("</div")
        depth = 0
        for tag in opened:
            depth += 1 if tag == "<div" else -1
            assert depth >= 0
        assert len(columns(html)) == 3
        assert "three" in columns(html)[2]


def test_a_known_secret_is_masked_in_every_column(shared):
    kernel, service = shared
    service.on(PATH, answering(a=OPENAI.whole("sk-a-key-", "of-the-tests"), b=OPENAI.whole("two")))
    ran = kernel.run("%%chat -m openai:a -m openai:b --no-history\nhi")
    assert "•••" in last(ran)[0]
    assert "sk-a-key-of-the-tests" not in json.dumps([m["content"] for m in ran.messages])


def test_the_first_is_kept_and_the_others_connections_are_closed(notebook, service):
    service.on(PATH, answering(a=stalled("so far"), b=[0.3, *counted("two")], c=HANGING))
    ran = notebook.run(f"{RACE} --first\nhi")
    assert ran.status == "ok", ran.error
    for model in "ac":
        assert asked(service, model).gone.wait(2)
    html, plain, metadata = last(ran)
    [column] = columns(html)
    assert "2. openai:b" in column
    assert "so far" not in html
    assert "The first of 3, before openai:a, openai:c." in plain
    assert [one["model"] for one in metadata["ipychat"]["race"]] == [B]
    service.on(PATH, OPENAI.whole("ok"))
    notebook.run("%chat more")
    assert [m["content"] for m in sent(service)] == ["hi", "two", "more"]


def test_the_first_of_those_that_do_not_fail_is_kept(notebook, service):
    service.on(PATH, answering(a=REFUSED, b=[0.3, *counted("two")]))
    ran = notebook.run("%%chat -m openai:a -m openai:b --first\nhi")
    assert ran.status == "ok", ran.error
    assert "two" in last(ran)[1]


def test_one_answer_is_kept_with_a_magic_also_in_the_next_kernel(kernel, service):
    service.on(PATH, answering(a=counted("one"), b=counted("two"), c=counted("three")))
    first = kernel()
    assert "has no race" in first.run("%chat_keep 1").error
    ran = first.run(f"{RACE}\nhi", cell="a")
    assert "goes on with answer 1; %chat_keep N takes another" in last(ran)[1]
    assert (
        first.run("%chat_keep 2").stdout
        == "This conversation now continues from the answer of openai:b.\n"
    )
    first.run("%chat -m openai:a more", cell="b")
    assert [m["content"] for m in sent(service)] == ["hi", "two", "more"]
    second = kernel()
    second.run("%chat_keep 3")
    ran = second.run("%chat -m openai:a and more", cell="c")
    assert [m["content"] for m in sent(service)] == ["hi", "three", "more", "one", "and more"]
    assert "1 later turn is stale" in ran.shown("text/html")
    for line in ("", "two", "9"):
        assert second.run(f"%chat_keep {line}").status == "error"


def test_the_table_is_the_cells_value_and_shown_once(notebook, service):
    service.on(PATH, answering(a=counted("one"), b=counted("two"), c=counted("three")))
    ran = notebook.run(f"{RACE} --to race\nhi")
    assert len(ran.outputs) == 1
    assert notebook.value("[_ is race, [str(r.reply) for r in race]]") == [
        True,
        ["one", "two", "three"],
    ]
    assert "first text" in notebook.run("race").shown()
    ran = notebook.run("x = %chat -m openai:a -m openai:b hi")
    assert len(ran.outputs) == 1
    assert notebook.value("[r.reply.text for r in x]") == ["one", "two"]
    ran = notebook.run("%%time\n%chat -m openai:a -m openai:b hi")
    assert len(columns(ran.shown("text/html"))) == 2


def test_python_compares_in_a_cell(notebook, service):
    service.on(PATH, answering(a=counted("one"), b=counted("two")))
    ran = notebook.run(
        "from ipychat.chat.race import compare\nawait compare('hi', ['openai:a', 'openai:b'])"
    )
    assert "<table" in ran.shown("text/html")
    assert "two" in ran.shown()


def test_headless_shows_the_race_once_when_it_is_over(notebook, service):
    service.on(PATH, answering(a=counted("one"), b=counted("two"), c=counted("three")))
    ran = notebook.run(f"{RACE}\nhi", watched=False)
    assert len(ran.outputs) == 1
    assert "three" in ran.shown()
    assert not [m for m in ran.messages if m["msg_type"] == "update_display_data"]


def test_each_column_has_the_format_that_is_asked_for(notebook, service):
    service.on(PATH, answering(a=OPENAI.whole('{"b":1}'), b=OPENAI.whole("not json")))
    ran = notebook.run("%%chat -m openai:a -m openai:b -f json --to race\nhi")
    assert ran.status == "ok", ran.error
    assert '{\n  "b": 1\n}' in last(ran)[1]
    assert "FormatError: The answer is not JSON" in columns(last(ran)[0])[1]
    assert notebook.value("[type(r.error).__name__ for r in race]") == ["NoneType", "FormatError"]
    page = "```html\n<h1>Hi</h1>\n```"
    service.on(PATH, OPENAI.whole(page))
    ran = notebook.run("%%chat -m openai:a -m FrontEndAgent\nhi")
    assert ["<iframe" in one for one in columns(last(ran)[0])] == [False, True]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%chat --first hi", "--first needs several models"),
        ("%chat --first -m openai:a hi", "--first needs several models"),
        ("%chat -m openai:a -m openai:b --background hi", "--background is for one model"),
        ("%chat -m openai:a -m openai:b --run-scripts hi", "--run-scripts is for one model"),
        ("%chat -m openai:a -m opnai:b hi", "opnai:b"),
    ],
)
def test_what_makes_no_race_is_refused_and_asks_nothing(shared, cell, says):
    kernel, service = shared
    before = len(service.requests)
    ran = kernel.run(cell)
    assert ran.status == "error"
    assert says in ran.error
    assert len(service.requests) == before


def test_a_dry_run_shows_what_each_would_be_sent(shared):
    kernel, service = shared
    before = len(service.requests)
    ran = kernel.run(f"{RACE} --no-history --dry-run\nhi")
    assert ran.status == "ok", ran.error
    assert all(model in ran.shown() for model in MODELS)
    assert len(service.requests) == before


# -- replayed


@pytest.mark.parametrize("how", ["", "--first"])
def test_a_race_is_replayed_to_the_byte_watched_or_not(kernel, service, how):
    service.on(
        PATH,
        answering(
            a=slowly("one ", 0.2, "more"),
            b=[0.1, *counted("two")],
            c=stalled("x") if how else counted("three"),
        ),
    )
    cells = [f"{RACE} {how}\nhi", "%chat -m openai:b and?"]
    recording = kernel(IPYCHAT_CASSETTE="__chat__")
    recorded = [recording.run(cell).outputs for cell in cells]
    count = len(service.requests)
    for watched in (True, False):
        replaying = kernel(IPYCHAT_CASSETTE="__chat__", IPYCHAT_REPLAY="replay")
        replayed = [replaying.run(cell, watched=watched) for cell in cells]
        assert all(ran.status == "ok" for ran in replayed), [ran.error for ran in replayed]
        assert [ran.outputs for ran in replayed] == recorded
    assert len(service.requests) == count


# -- in a browser


@pytest.mark.browser
@pytest.mark.skipif(not lab.CHROMIUM, reason="there is no Chromium")
def test_columns_stand_beside_each_other_and_below_where_it_is_narrow(tmp_path, service):
    service.on(PATH, answering(a=counted("one " * 30), b=counted("two"), c=counted("three")))
    env = {"OPENAI_BASE_URL": service.url, "OPENAI_API_KEY": "k", "IPYCHAT_MODEL": A}
    jupyter = lab.Lab(tmp_path, env)
    try:
        page = jupyter.open("n.ipynb", "%load_ext ipychat", f"{RACE}\nhi", width=1500)
        for number in range(2):
            lab.run(page, number)
        race = page.locator(".ipychat-race > div")
        assert race.count() == 3
        assert len({box["y"] for box in boxes(race)}) == 1
        page.set_viewport_size({"width": 620, "height": 1000})
        assert len({box["x"] for box in boxes(race)}) == 1
        lab.reload(page)
        assert race.count() == 3, "what is saved stands there without a kernel's help"
    finally:
        jupyter.close()


def boxes(columns):
    return [columns.nth(number).bounding_box() for number in range(columns.count())]
