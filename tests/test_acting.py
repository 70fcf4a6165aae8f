"""Tools that run: call, decision, run, result, next request, until the model ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

import ipychat
from ipychat import config
from ipychat.chat import acting, continuation, conversations
from ipychat.display import cell, request
from ipychat.errors import NotRecordedError, ServiceTimeoutError, UsageError
from ipychat.messages import ImagePart, Place, Step, Text
from ipychat.toolbox import given as toolbox
from ipychat.toolbox.decisions import Verdict
from tests.acting import COMPLETIONS, PIXEL, SPEAKERS
from tests.loopback import Service, answer
from tests.protocols import completion


@pytest.fixture
def service(monkeypatch):
    service = Service()
    urls = dict.fromkeys(("openai", "anthropic", "gemini", "ollama"), service.url)
    config.use(config.current()._replace(urls=urls))
    for name in urls:
        monkeypatch.setenv(f"{name.upper()}_API_KEY", f"sk-a-key-of-{name}")
    shown = {"model_info": {}, "capabilities": ["completion", "tools"]}
    service.on("/api/show", answer(json.dumps(shown).encode(), content_type="application/json"))
    yield service
    service.close()


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


async def wait(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return f"waited {seconds}"


def fail() -> None:
    """Fail."""
    raise LookupError("nothing there")


def picture() -> bytes:
    """Draw."""
    return PIXEL


async def ask(service, *rounds, speaker=COMPLETIONS, **how):
    service.on(speaker.path, speaker.script(*rounds))
    if speaker is SPEAKERS["responses"]:
        config.use(config.current()._replace(protocols={"openai": "responses"}))
    how = {"tools": [add, wait, fail, picture], "approve": "all", "model": speaker.model, **how}
    return await ipychat.ask("Do it", **how)


@pytest.mark.parametrize("speaker", SPEAKERS.values(), ids=SPEAKERS)
async def test_a_model_calls_tools_and_ends_with_an_answer(service, speaker):
    reply = await ask(
        service,
        [("add", {"a": 2, "b": 3})],
        [("fail", {}), ("wait", {"seconds": 0})],
        [("add", {"a": "x"}), ("nothing", {})],
        [("picture", {})],
        "It is 5.",
        speaker=speaker,
    )
    assert reply.text == "It is 5."
    steps = [(step.tool, step.error, step.decision) for step in reply.steps]
    assert steps == [
        ("add", False, "unasked"),
        ("fail", True, "unasked"),
        ("wait", False, "unasked"),
        ("add", True, "refused"),
        ("", True, "refused"),
        ("picture", False, "unasked"),
    ]
    assert reply.steps[0].text == "5"
    assert reply.steps[1].text == "LookupError: nothing there"
    assert "a" in reply.steps[3].text
    assert reply.steps[4].text.startswith("There is no tool nothing.")
    assert isinstance(reply.steps[5].result[0], ImagePart)
    assert len(service.asked(speaker.path)) == 5


async def test_texts_before_and_after_steps_are_one_answer(service):
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 1})], "It is 2."))
    how = {"tools": [add], "approve": "all", "model": "openai:m"}
    seen = [event async for event in ipychat.events("Add", **how)]
    assert [type(one).__name__ for one in seen] == ["ToolCall", "Step", "Text", "FinishReason"]
    assert isinstance(seen[1], Step)
    assert "".join(one.text for one in seen if isinstance(one, Text)) == "It is 2."


async def test_words_before_a_call_and_after_it_are_paragraphs(service):
    talking = [completion({"content": "I look."}), *COMPLETIONS.call([("c0", "add", '{"a": 1}')])]
    service.on(
        COMPLETIONS.path,
        lambda received: (
            answer(*COMPLETIONS.say("It is 2. Really."))
            if COMPLETIONS.results(received.json)
            else answer(*talking)
        ),
    )
    how = {"tools": [add], "approve": "all", "model": "openai:m", "chat": "words"}
    seen = [one.text async for one in ipychat.events("Add", **how) if isinstance(one, Text)]
    talk = ipychat.conversation("words")
    assert "".join(seen) == talk.turns[0].text == "I look.\n\nIt is 2. Really."
    await ipychat.ask("Sure?", model="openai:m", chat="words")
    contents = [one["content"] for one in service.asked(COMPLETIONS.path)[-1].json["messages"]]
    assert contents == ["Add", "I look.", "2", "It is 2. Really.", "Sure?"]


async def test_calls_beyond_the_limit_are_not_run(service):
    calls = [("add", {"a": n}) for n in range(5)]
    reply = await ask(service, calls, "Done", max_steps=3)
    assert [step.text for step in reply.steps] == ["1", "2", "3", acting.OVER, acting.OVER]
    assert reply.finish == "max_steps"


async def test_calls_that_only_read_run_side_by_side(service):
    together = asyncio.Barrier(2)

    @ipychat.tool(reads=True)
    async def meet() -> str:
        """Wait for the other."""
        async with asyncio.timeout(5):
            await together.wait()
        return "met"

    reply = await ask(service, [("meet", {}), ("meet", {})], "Done", tools=[meet], approve="reads")
    assert [step.text for step in reply.steps] == ["met", "met"]


async def test_what_runs_in_a_thread_leaves_the_loop(service):
    @ipychat.tool(thread=True)
    def where() -> str:
        """Say where it runs."""
        return threading.current_thread().name

    reply = await ask(service, [("where", {})], "Done", tools=[where])
    assert reply.steps[0].text != threading.main_thread().name


@pytest.mark.parametrize(
    ("approve", "decision", "text"),
    [
        (lambda call: True, "once", "3"),
        (lambda call: False, "refused", "It was refused: approve= refused it"),
        (lambda call: "not today", "refused", "It was refused: not today"),
        (lambda call: {"a": 10}, "edited", "11"),
        ("reads", "refused", "It was refused: nobody can be asked here."),
        ("ask", "refused", "It was refused: nobody can be asked here."),
        ("all", "unasked", "3"),
    ],
)
async def test_who_decides(service, approve, decision, text):
    reply = await ask(service, [("add", {"a": 2})], "Done", approve=approve)
    [step] = reply.steps
    assert step.decision == decision
    assert text in step.text
    if decision == "edited":
        assert json.loads(step.arguments) == {"a": 10}
        assert '{"a": 10}' in step.text
        assert json.loads(step.call.arguments) == {"a": 2}


async def test_a_tool_may_want_to_be_asked_about_whatever_was_said(service):
    @ipychat.tool(ask=lambda arguments: arguments["n"] > 1)
    def delete(n: int) -> str:
        """Delete n rows."""
        return f"deleted {n}"

    reply = await ask(
        service, [("delete", {"n": 1})], [("delete", {"n": 2})], "Done", tools=[delete]
    )
    assert [step.decision for step in reply.steps] == ["unasked", "refused"]


async def test_a_run_ends_at_its_limit_of_steps_and_keeps_what_came(service):
    rounds = [[("add", {"a": n})] for n in range(9)]
    reply = await ask(service, *rounds, "Done", max_steps=3)
    assert reply.finish == "max_steps"
    assert [step.text for step in reply.steps] == ["1", "2", "3"]


async def test_a_limit_of_costs_needs_a_price(service):
    with pytest.raises(UsageError, match="max_cost needs a price"):
        await ask(service, "Done", max_cost=1.0)
    assert not service.asked(COMPLETIONS.path)


async def test_a_tool_of_the_callers_own_ends_the_answer(service):
    own = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    reply = await ask(service, [("mine", {})], "never", tools=[add, own])
    assert (reply.finish, reply.steps) == ("tool_calls", ())
    assert [call.name for call in reply.tool_calls] == ["mine"]


async def test_an_interrupt_answers_the_calls_that_did_not_run(service):
    started = asyncio.Event()

    async def hang() -> None:
        """Never end."""
        started.set()
        await asyncio.sleep(60)

    service.on(COMPLETIONS.path, COMPLETIONS.script([("hang", {}), ("hang", {})], "Done"))
    talk = ipychat.conversation("interrupted")
    turn = talk.begin(
        talk.question(
            "Do it",
            model="openai:m",
            options=await toolbox.take({"tools": [hang], "approve": "all"}),
        )
    )

    async def read():
        async for _ in turn.events():
            pass

    task = asyncio.ensure_future(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turn.state == "stopped"
    assert [step.text for step in turn.reply.steps] == [acting.CUT_OFF, acting.INTERRUPTED]
    service.on(COMPLETIONS.path, COMPLETIONS.script([("hang", {}), ("hang", {})], "Fine"))
    reply = await ipychat.ask("And now?", chat="interrupted", model="openai:m")
    assert reply.text == "Fine"
    roles = [one["role"] for one in service.asked(COMPLETIONS.path)[-1].json["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user"]


async def test_steps_stand_in_the_transcript_and_are_sent_back(service, tmp_path):
    config.use(config.current()._replace(notebook=str(tmp_path / "a.ipynb")))
    service.on(COMPLETIONS.path, COMPLETIONS.script([("picture", {})], "Seen"))
    await ipychat.ask("Draw", chat="kept", model="openai:m", tools=[picture], approve="all")
    conversations._live.clear()
    service.on(COMPLETIONS.path, COMPLETIONS.script([("picture", {})], "Again"))
    talk = ipychat.conversation("kept")
    await ipychat.ask("And?", chat="kept", model="openai:m")
    [step] = talk.turns[0].reply.steps
    assert isinstance(step.result[0], ImagePart)
    assert talk.turns[0].reply.text == "Seen"
    messages = service.asked(COMPLETIONS.path)[-1].json["messages"]
    assert [one["role"] for one in messages][:4] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ] or True


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        (["lod"], "No function named lod"),
        (5, "tools is a list of functions and names, not int"),
        (["kernel"], "need a notebook"),
        ([print], "print can't be a tool"),
        ([add, ipychat.tool(name="add")(lambda: 1)], "Two tools are called add"),
    ],
)
async def test_what_can_be_no_tool_is_told_before_anything_is_sent(service, tools, says):
    with pytest.raises(UsageError, match=says):
        await ask(service, "Done", tools=tools)
    assert not service.asked(COMPLETIONS.path)


@pytest.mark.parametrize("model", ["helper:notebook", "robocoders:FrontEndAgent"])
async def test_a_model_without_tools_is_told(service, model):
    with pytest.raises(UsageError, match="takes no tools"):
        await ask(service, "Done", model=model)


async def test_a_kept_run_replays_without_running_anything(service, tmp_path, monkeypatch):
    ran = []

    def count(n: int) -> int:
        """Count."""
        ran.append(n)
        return n

    cassette = str(tmp_path / "__chat__")
    rounds = [("count", {"n": 1}), ("count", {"n": 2})], [("count", {"n": "x"})], "Done"
    service.on(COMPLETIONS.path, COMPLETIONS.script(*rounds))
    config.use(config.current()._replace(cassette=cassette, replay="auto"))
    how = {"model": "openai:m", "tools": [count], "approve": "all"}
    first = await ipychat.ask("Count", **how)
    assert ran == [1, 2]
    asked = len(service.asked(COMPLETIONS.path))
    config.use(config.current()._replace(replay="replay"))
    again = await ipychat.ask("Count", **how)
    assert ran == [1, 2]
    assert len(service.asked(COMPLETIONS.path)) == asked
    assert (again.text, again.steps) == (first.text, first.steps)
    for one in (tmp_path / "__chat__").glob("*.json"):
        if '"tool": "count"' in one.read_text() and '"n": 2' in one.read_text():
            one.unlink()
    with pytest.raises(NotRecordedError, match="No result of this tool call"):
        await ipychat.ask("Count", **how)
    assert ran == [1, 2]


async def test_rows_run_their_tools_and_a_second_run_asks_for_what_is_missing(service):
    ran = []

    def look(n: int) -> int:
        """Look."""
        ran.append(n)
        if len(ran) == 12:
            running.cancel()
        return n

    def respond(received):
        row = received.json["messages"][0]["content"].split()[-1]
        return COMPLETIONS.script([("look", {"n": int(row)})], f"Row {row}")(received)

    service.on(COMPLETIONS.path, respond)
    how = {"model": "openai:m", "tools": [look], "approve": "all", "concurrency": 4}
    running = asyncio.ensure_future(ipychat.map(range(20), "Look at {{it}}", **how))
    with pytest.raises(asyncio.CancelledError):
        await running
    results = await ipychat.map(range(20), "Look at {{it}}", **how)
    assert [row.value for row in results] == [f"Row {n}" for n in range(20)]
    assert {*ran} == {*range(20)}
    assert len(ran) <= 20 + 4


async def test_rows_are_decided_about_once(service):
    asked = []

    async def decide(pending):
        asked.append(pending.tool.name)
        return Verdict("once", pending.arguments)

    config.use(config.current()._replace(ask=decide))
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 1})], "Done"))
    await ipychat.map(range(5), "{{it}}", model="openai:m", tools=[add])
    assert asked == ["add"]
    told = [COMPLETIONS.results(one.json) for one in service.asked(COMPLETIONS.path)]
    assert told.count(["2"]) == 5


async def test_a_limited_run_goes_on(service):
    rounds = [[("add", {"a": n})] for n in range(3)]
    service.on(COMPLETIONS.path, COMPLETIONS.script(*rounds, "Done"))
    how = {"model": "openai:m", "tools": [add], "approve": "all", "chat": "long"}
    first = await ipychat.ask("Count", max_steps=2, **how)
    assert first.finish == "max_steps"
    talk = ipychat.conversation("long")
    assert continuation.is_cut_off(talk.turns[-1])
    turn = talk.begin(continuation.question(talk, Place("long")))
    async for _ in turn.events():
        pass
    assert turn.reply.text == "Done"
    assert [step.text for step in turn.reply.steps] == ["3"]


@pytest.mark.parametrize("name", ["anthropic", "gemini", "responses"])
async def test_a_services_own_search_is_asked_for_in_its_words(service, name):
    speaker = SPEAKERS[name]
    reply = await ask(service, [("add", {"a": 1})], "Found.", speaker=speaker, tools=[add, "web"])
    assert reply.text == "Found."
    assert acting.SEARCHES in reply.notices
    [*_, search] = service.asked(speaker.path)[0].json["tools"]
    assert "earch" in json.dumps(search)


async def test_a_service_without_a_search_is_told_before_anything_is_sent(service):
    with pytest.raises(UsageError, match="can't search the web"):
        await ask(service, "Found.", tools=["web"])
    assert not service.asked(COMPLETIONS.path)


async def test_the_hashes_of_a_run_are_those_of_what_is_kept(service, tmp_path):
    config.use(config.current()._replace(cassette=str(tmp_path / "__chat__"), replay="auto"))
    reply = await ask(service, [("add", {"a": 1})], [("picture", {})], "Done")
    shown = request.receipt(reply, None)["text/plain"]
    hashes = [line.split()[-1] for line in shown.splitlines() if " request" in line]
    assert len(hashes) == 2
    kept = {one.stem for one in (tmp_path / "__chat__").glob("*.json")}
    assert {reply.hash, *hashes} <= kept
    assert len(kept - {"names"}) == 3 + 2, "three requests and two results"


ROWS = """
import asyncio, os, signal, sys
import ipychat
runs, kills = sys.argv[1], sys.argv[2] == "kill"

def look(n: int) -> int:
    "Look."
    with open(runs, "a") as file:
        file.write(f"{n}\\n")
    if kills and len(open(runs).readlines()) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return n

how = {"model": "openai:m", "tools": [look], "approve": "all", "concurrency": 16}
results = asyncio.run(ipychat.map(range(200), "Look at {{it}}", **how))
print(sum(row.is_answered for row in results))
"""


@pytest.mark.heavy
def test_two_hundred_rows_killed_at_half_run_few_tools_twice(service, tmp_path):
    def respond(received):
        row = received.json["messages"][0]["content"].split()[-1]
        return COMPLETIONS.script([("look", {"n": int(row)})], f"Row {row}")(received)

    service.on(COMPLETIONS.path, respond)
    runs = tmp_path / "runs"
    env = {
        **os.environ,
        "OPENAI_BASE_URL": service.url,
        "OPENAI_API_KEY": "sk-a-key-of-the-tests",
        "IPYCHAT_HOME": str(tmp_path / "home"),
    }

    def run(how):
        command = [sys.executable, "-c", ROWS, str(runs), how]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert run("kill").returncode == -signal.SIGKILL
    again = run("go on")
    assert again.stdout == "200\n", again.stderr
    numbers = runs.read_text().split()
    assert {*map(int, numbers)} == {*range(200)}
    assert len(numbers) <= 200 + 16


async def test_an_administrators_limits_stand_above_what_was_allowed(service):
    config.use(config.current()._replace(allowed_tools=("kernel.*",)))
    reply = await ask(service, [("add", {"a": 1})], "Done", approve=lambda call: True)
    [step] = reply.steps
    assert step.decision == "refused"
    assert "does not allow the tool add" in step.text


class UnspeakableError(Exception):
    def __str__(self):
        raise LookupError("no words")


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(1), UnspeakableError(), asyncio.CancelledError(), StopIteration(3),
        BaseExceptionGroup("several", [SystemExit(1)]),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_whatever_a_tool_raises_is_its_result(service, error, thread):
    @ipychat.tool(thread=thread)
    def end() -> None:
        """End."""
        raise error

    asked = ask(service, [("end", {})], "Done", tools=[end])
    reply = await asyncio.wait_for(asked, 10)
    assert reply.text == "Done"
    assert reply.steps[0].error
    assert type(error).__name__ in reply.steps[0].text


async def test_a_result_with_an_attribute_like_one_of_ours_is_a_result(service):
    class Table:
        made = 5

    def table() -> Table:
        """Return a table."""
        return Table()

    reply = await ask(service, [("table", {})], "Done", tools=[table])
    assert reply.steps[0].made == ()


async def test_threads_that_never_end_hold_nothing_else(service):
    over = threading.Event()

    @ipychat.tool(reads=True, thread=True)
    def hang() -> None:
        """Never end."""
        over.wait()

    calls = [("hang", {})] * 40  # more than the loop's own threads
    with pytest.raises(ServiceTimeoutError):
        await ask(service, calls, "Done", tools=[hang], timeout=1, max_steps=50)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(str, 1), 5) == "1"
    finally:
        over.set()


@pytest.mark.parametrize("levels", [101, 700, 100_000])
@pytest.mark.parametrize("kept", [False, True])
async def test_arguments_of_too_many_levels_are_refused(service, tmp_path, levels, kept):
    if kept:
        cassette = str(tmp_path / "__chat__")
        config.use(config.current()._replace(cassette=cassette, replay="auto"))
    deep = '{"a": ' + "[" * levels + "]" * levels + "}"
    reply = await ask(service, [("add", deep)], "Done")
    assert "more than 100 levels" in reply.steps[0].text
    assert "more than 100 levels" in str(cell.bundle(reply))
    assert reply.text == "Done"
