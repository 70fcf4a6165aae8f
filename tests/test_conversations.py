"""Conversations: what goes along, what is kept, what a re-run replaces, what survives a kill."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import ipychat
from ipychat import config, errors, secrets
from ipychat.catalog import registry
from ipychat.chat import continuation, conversations, journal, search, turn as turn_
from ipychat.chat.conversations import Conversation, conversation
from ipychat.chat.records import fold
from ipychat.display import export
from ipychat.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    ModelId,
    Notice,
    Place,
    Reasoning,
    Text,
    TextPart,
    ToolCall,
    Usage,
)
from ipychat.store import files, transcripts
from ipychat.store.transcripts import Transcript
from tests.protocols import OPENAI
from tests.test_magics import PATH
from tests.test_store import held_elsewhere


class Echo:
    """Answers `re QUESTION`, or what it is told to."""

    asked: list[list[dict]]
    options: dict
    pieces: list | None

    @classmethod
    async def create_async_generator(cls, model, messages, **options):
        cls.asked.append(messages)
        cls.options = options
        for piece in [f"re {messages[-1]['content']}"] if cls.pieces is None else cls.pieces:
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif callable(piece):
                piece()
            else:
                await asyncio.sleep(0)
                yield piece


def open_notebook(path: str | None, *, keep: bool = True) -> None:
    config.use(config.Config(notebook=path, keep=keep))


@pytest.fixture(autouse=True)
def echo(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setenv("IPYCHAT_MODEL", "echo:m")
    Echo.asked, Echo.pieces = [], None
    registry.register(Echo)
    yield Echo
    conversations._live.clear()


@pytest.fixture
def transcript(tmp_path):
    return Transcript(tmp_path / "notebook" / "talk.jsonl")


@pytest.fixture
def talk(transcript):
    return Conversation("talk", transcript)


PLACES = {"cell", "execution", "background"}


def begin(talk, prompt, *, history=True, model=None, system=None, **given):
    """Begin a turn as a cell does; what names no place is an option."""
    place = {name: given.pop(name) for name in PLACES & {*given}}
    where = Place(talk.name if history else None, **place)
    return talk.begin(talk.question(prompt, model=model, system=system, place=where, options=given))


async def ask(talk, question, **given):
    turn = begin(talk, question, **given)
    async with contextlib.aclosing(turn.events()) as events:
        turn.given = [event async for event in events]
    return turn


def sent(messages):
    """What was sent, as texts: questions as they are, answers in brackets, the system in braces."""
    form = {"user": "{}", "assistant": "[{}]", "system": "{{{}}}"}
    return " ".join(form[message["role"]].format(message["content"]) for message in messages)


def shape(talk):
    return [
        (turn.id, turn.cell, turn.execution, turn.question, turn.system, turn.model, turn.asked_at,
         turn.state, turn.stale, turn.background, turn.error, turn.text, turn.reply.reasoning,
         turn.finish, turn.usage, turn.seconds, turn.reply.tool_calls, turn.reply.first_text)
        for turn in talk.turns
    ]  # fmt: skip


def questions(talk):
    return " ".join(turn.question[-1].text + "*" * turn.stale for turn in talk.turns)


def settled(talk):
    """Wait until what was changed is written; gives the conversation."""
    for thread in threading.enumerate():
        if thread.name == journal.THREAD_NAME:
            thread.join()
    return talk


def on_disk(talk):
    return Conversation(talk.name, talk.journal.transcript)


# -- what goes along


async def test_a_question_goes_with_the_turns_before_it(talk, echo):
    for question in ("a", "b", "c"):
        await ask(talk, question)
    assert [sent(messages) for messages in echo.asked] == ["a", "a [re a] b", "a [re a] b [re b] c"]


async def test_a_limit_sends_the_newest_turns(talk, echo):
    for question in ("a", "b", "c"):
        await ask(talk, question)
    for limit, expected in [
        (2, "b [re b] c [re c] d"),
        (0, "d"),
        (9, "a [re a] b [re b] c [re c] d"),
    ]:
        config.use(config.Config(history=limit))
        await ask(talk, "d")
        assert sent(echo.asked[-1]) == expected
        talk.undo()


async def test_without_history_nothing_goes_along_and_nothing_is_kept(talk, echo, transcript):
    await ask(talk, "a")
    before = transcript.path.read_bytes()
    turn = await ask(talk, "b", history=False)
    assert (turn.text, turn.state) == ("re b", "done")
    assert sent(echo.asked[-1]) == "b"
    assert questions(talk) == "a"
    assert transcript.path.read_bytes() == before


async def test_the_system_message_is_the_arguments_else_the_conversations(talk, echo):
    talk.system = "Be short."
    await ask(talk, "a")
    await ask(talk, "b", system="Be long.")
    assert [sent(m) for m in echo.asked] == ["{Be short.} a", "{Be long.} a [re a] b"]
    assert [turn.system for turn in talk.turns] == ["Be short.", "Be long."]


async def test_the_model_is_the_arguments_else_the_conversations_else_the_default(talk):
    await ask(talk, "a")
    talk.model = "echo:n"
    await ask(talk, "b")
    await ask(talk, "c", model="echo:o")
    assert [turn.model for turn in talk.turns] == [ModelId("echo", name) for name in "mno"]


async def test_the_model_and_system_message_are_kept_and_survive_a_clean_start(talk):
    talk.model, talk.system = "echo:n", "Be short."
    talk.clear()
    again = on_disk(settled(talk))
    assert (again.model, again.system) == ("echo:n", "Be short.")
    talk.model = None
    assert on_disk(settled(talk)).model is None


async def test_an_answer_that_failed_or_was_stopped_goes_along_with_what_came(talk, echo):
    echo.pieces = [errors.ServerError("down")]
    with pytest.raises(errors.ServerError):
        await ask(talk, "a")
    echo.pieces = ["so far", errors.ServerError("down")]
    with pytest.raises(errors.ServerError):
        await ask(talk, "b")
    echo.pieces = ["half"]
    async with contextlib.aclosing(begin(talk, "c").events()) as events:
        await anext(events)
    echo.pieces = None
    await ask(talk, "d")
    assert [turn.state for turn in talk.turns] == ["failed", "failed", "stopped", "done"]
    assert sent(echo.asked[-1]) == "b [so far] c [half] d"


async def test_a_turn_that_is_running_does_not_go_along(talk, echo):
    go = asyncio.Event()
    echo.pieces = ["half", go]
    task = asyncio.create_task(ask(talk, "a", background=True))
    while not talk.turns or not talk.turns[0].text:
        await asyncio.sleep(0)
    echo.pieces = None
    await ask(talk, "b")
    assert sent(echo.asked[-1]) == "b"
    go.set()
    await task
    await ask(talk, "c")
    assert sent(echo.asked[-1]) == "a [half] b [re b] c"


async def test_images_and_files_go_along_and_are_kept(talk, echo):
    parts = (TextPart("What?"), ImagePart("data:image/png;base64,YQ=="), FilePart("a.csv", b"1"))
    await ask(talk, Message("user", parts))
    await ask(talk, "b")
    assert echo.asked[-1][0] == Message("user", parts).to_dict()
    assert on_disk(talk).turns[0].question == (Message("user", parts),)


async def test_an_empty_question_or_an_unknown_model_leaves_everything_as_it_was(talk, transcript):
    await ask(talk, "a", cell="1", execution="x")
    before = shape(talk), transcript.path.read_bytes()
    with pytest.raises(errors.UsageError, match="empty"):
        begin(talk, " ", cell="1", execution="y")
    with pytest.raises(errors.ModelNotSupportedError):
        begin(talk, "b", cell="1", execution="y", model="nonsense")
    assert before == (shape(talk), transcript.path.read_bytes())


# -- cells


async def test_a_cell_that_is_run_again_sees_what_stood_before_it_and_makes_the_rest_stale(
    talk, echo
):
    for cell, question in enumerate("abc"):
        await ask(talk, question, cell=str(cell), execution="1")
    await ask(talk, "x")
    await ask(talk, "B", cell="1", execution="2")
    assert sent(echo.asked[-1]) == "a [re a] B"
    assert questions(talk) == "a B c* x*"
    assert talk.stale_count == 2
    await ask(talk, "d", cell="3", execution="3")
    assert sent(echo.asked[-1]).startswith("a [re a] B [re B] c [re c] x [re x]")
    await ask(talk, "C", cell="2", execution="4")
    assert questions(talk) == "a B C x* d*"
    assert shape(on_disk(talk)) == shape(talk)


async def test_several_calls_in_one_run_are_several_turns_and_all_are_replaced_by_the_next(
    talk, echo
):
    await ask(talk, "a", cell="1", execution="1")
    await ask(talk, "c", cell="2", execution="2")
    await ask(talk, "b", cell="1", execution="1")
    assert sent(echo.asked[-1]) == "a [re a] b"
    assert questions(talk) == "a b c"
    await ask(talk, "A", cell="1", execution="3")
    assert sent(echo.asked[-1]) == "A"
    await ask(talk, "B", cell="1", execution="3")
    assert sent(echo.asked[-1]) == "A [re A] B"
    assert questions(talk) == "A B c*"


async def test_without_a_cell_every_run_is_a_new_turn_and_a_run_without_an_id_is_its_own(talk):
    await ask(talk, "a")
    await ask(talk, "a")
    await ask(talk, "b", cell="1")
    await ask(talk, "c", cell="1")
    assert questions(talk) == "a a c"


async def test_calls_at_once_are_all_kept_in_the_order_of_asking(talk):
    await asyncio.gather(*(ask(talk, str(number)) for number in range(20)))
    assert questions(talk) == " ".join(map(str, range(20)))
    assert all(turn.state == "done" for turn in talk.turns)
    assert shape(on_disk(talk)) == shape(talk)


async def test_a_turn_replaced_while_it_runs_does_not_come_back(talk, echo):
    go = asyncio.Event()
    echo.pieces = ["half", go]
    task = asyncio.create_task(ask(talk, "a", cell="1", execution="1", background=True))
    while not talk.turns or not talk.turns[0].text:
        await asyncio.sleep(0)
    echo.pieces = None
    await ask(talk, "b", cell="1", execution="2")
    go.set()
    await task
    assert questions(talk) == "b"
    assert shape(on_disk(talk)) == shape(talk)


# -- changes by hand


async def test_turns_are_dropped_by_number_and_from_the_end(talk):
    for question in "abcd":
        await ask(talk, question)
    talk.drop(1)
    talk.drop(2)
    assert questions(talk) == "b d"
    assert talk.undo().text == "re d"
    assert shape(on_disk(settled(talk))) == shape(talk)
    for wrong in (0, 2, -1):
        with pytest.raises(errors.UsageError, match="talk has 1"):
            talk.drop(wrong)
    talk.undo()
    with pytest.raises(errors.UsageError, match="no turns"):
        talk.undo()


async def test_a_clean_start_leaves_the_old_turns_in_the_file(talk, transcript):
    await ask(talk, "a")
    talk.clear()
    await ask(talk, "b")
    again = on_disk(talk)
    assert (questions(again), again.continues) == ("b", 1)
    assert b"re a" in transcript.path.read_bytes()


async def test_a_fork_goes_on_from_a_copy(echo):
    open_notebook("/n.ipynb")
    one = conversation("one")
    one.model = "echo:n"
    await ask(one, "a", cell="1", execution="1")
    await ask(one, "b", cell="2", execution="2")
    await ask(one, "A", cell="1", execution="3")
    begin(one, "running")
    two = one.fork("two")
    assert two is conversation("two")
    assert questions(two) == "A b*"
    assert two.model == "echo:n"
    assert shape(on_disk(settled(two))) == shape(two)
    await ask(two, "c")
    assert sent(echo.asked[-1]) == "A [re A] b [re b] c"
    two.drop(1)
    assert questions(one) == "A b* running"
    for taken in ("one", "two"):
        with pytest.raises(errors.UsageError, match="already"):
            one.fork(taken)


async def test_a_conversation_as_markdown(talk, echo):
    secrets.register(secret := "canary-of-markdown")
    await ask(talk, [Message("user", (TextPart("a\n# b"), ImagePart("x"), FilePart("f.csv", b"")))])
    echo.pieces = [f"half {secret}", errors.ServerError(f"down {secret}")]
    with pytest.raises(errors.ServerError):
        await ask(talk, "c", cell="1")
    talk.turns[0].stale = True
    text = talk.to_markdown()
    assert text.startswith("# talk: a\n\n## 1. echo:m · 20")
    assert " · stale\n\n> a\n> # b\n> [image]\n> [f.csv]\n\nre " in text
    assert " · failed\n\n> c\n\nhalf •••\n\n*down •••*\n" in text


async def test_reprs_are_short(talk):
    turn = await ask(talk, "a")
    turn.stale = True
    assert repr(talk) == "<Conversation 'talk': 1 turns, 1 stale>"
    assert repr(turn) == f"<Turn {turn.id[:8]} echo:m: done, 4 characters>"


# -- the life of a turn


async def test_a_turn_is_kept_whole(talk, echo):
    echo.pieces = [Reasoning("hm"), "a", "b", ToolCall("1", "f", "{}"), Usage(1, 2), Notice("n")]
    turn = await ask(talk, "?", cell="1", execution="2", background=True, temperature=0.5, top=None)
    assert (turn.text, turn.finish, turn.usage) == ("ab", "stop", Usage(1, 2))
    assert turn.options == echo.options == {"temperature": 0.5}
    [again] = on_disk(talk).turns
    assert shape(on_disk(talk)) == shape(talk)
    assert again.reply.notices == ("n",)
    assert again.options == {"temperature": 0.5}


async def test_a_turn_is_asked_once(talk):
    turn = await ask(talk, "a")
    for one in (turn, on_disk(talk).turns[0]):
        with pytest.raises(errors.UsageError, match="already"):
            await anext(one.events())


async def test_the_question_is_on_disk_before_anything_is_sent(talk, echo, transcript):
    seen = []
    echo.pieces = [lambda: seen.extend(transcript.read()), "a"]
    await ask(talk, "Hello?")
    assert seen[-1]["question"] == [{"role": "user", "content": "Hello?"}]


async def test_a_disk_that_is_slow_does_not_hold_up_the_loop(talk, echo, transcript):
    with files.locked(transcript.path):
        task = asyncio.create_task(ask(talk, "a"))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not task.done()
        assert not echo.asked
    assert (await task).text == "re a"


async def test_a_cancelled_answer_is_on_disk_with_what_came_when_the_task_has_ended(talk, echo):
    echo.pieces = ["so far", asyncio.Event()]
    task = asyncio.create_task(ask(talk, "a"))
    while not talk.turns or not talk.turns[0].text:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [again] = on_disk(talk).turns
    assert (again.state, again.text) == ("stopped", "so far")
    assert shape(on_disk(talk)) == shape(talk)


async def test_an_interrupt_does_not_wait_for_a_disk_that_is_stuck(talk, echo, transcript):
    with files.locked(transcript.path):
        task = asyncio.create_task(ask(talk, "a"))
        while not talk.turns:
            await asyncio.sleep(0)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 5
        assert (talk.turns[0].state, echo.asked) == ("stopped", [])
    talk.journal.save()
    assert shape(on_disk(talk)) == shape(talk)


async def test_an_answer_closed_after_its_finish_is_done(talk):
    async with contextlib.aclosing(begin(talk, "a").events()) as events:
        async for event in events:
            if isinstance(event, ipychat.FinishReason):
                break
    assert on_disk(talk).turns[0].state == talk.turns[0].state == "done"


async def test_a_failed_answer_raises_with_its_reply_and_its_error_is_kept_masked(talk, echo):
    secrets.register(secret := "canary-of-an-error")
    echo.pieces = ["so far", errors.ServerError(f"It fell over: {secret}.")]
    with pytest.raises(errors.ServerError) as caught:
        await ask(talk, "a")
    assert caught.value.reply.text == "so far"
    [turn], [again] = talk.turns, on_disk(talk).turns
    assert (
        (turn.state, turn.error) == (again.state, again.error) == ("failed", "It fell over: •••.")
    )


# -- on disk


def unwritable(transcript):
    """A folder that can't be, as a file stands in its place."""
    transcript.path.parent.touch()


async def test_a_disk_that_takes_nothing_is_told_once_and_does_not_stop_the_answer(
    talk, transcript
):
    unwritable(transcript)
    turn = await ask(talk, "a")
    [notice] = [event for event in turn.given if isinstance(event, Notice)]
    assert notice.text.endswith("kept in this kernel only.")
    assert turn.reply.notices == (notice.text,)
    assert (turn.state, turn.text) == ("done", "re a")
    assert questions(talk) == "a"


async def test_what_the_disk_did_not_take_is_written_when_it_does(talk, transcript, caplog):
    unwritable(transcript)
    await ask(talk, "a")
    talk.model = "echo:n"
    settled(talk)
    assert "Can't" in caplog.text
    transcript.path.parent.unlink()
    turn = await ask(talk, "b")
    assert not turn.reply.notices
    assert shape(on_disk(talk)) == shape(talk)
    assert on_disk(talk).model == "echo:n"


async def test_a_disk_that_fails_at_the_end_is_told(talk, echo, transcript):
    def fail():
        for file in transcript.path.parent.iterdir():
            file.unlink()
        transcript.path.parent.rmdir()
        unwritable(transcript)

    echo.pieces = ["a", fail]
    turn = await ask(talk, "?")
    assert isinstance(turn.given[-1], Notice)
    assert turn.reply.notices == (turn.given[-1].text,)


async def test_text_is_on_disk_while_the_answer_goes_on(talk, echo, transcript, monkeypatch):
    monkeypatch.setattr(turn_, "SNAPSHOT_INTERVAL", 0.0)
    go = asyncio.Event()
    secrets.register("three-is-a-secret")
    echo.pieces = [Reasoning("hm, "), "one ", "two ", "thre", go, "e"]
    task = asyncio.create_task(ask(talk, "a"))
    async with asyncio.timeout(10):
        while not (kept := on_disk(talk).turns) or kept[0].text != "one two ":
            await asyncio.sleep(0.001)
    assert (kept[0].state, kept[0].reply.reasoning) == ("lost", "hm, ")
    go.set()
    await task
    assert on_disk(talk).turns[0].text == "one two three"


async def test_snapshots_come_at_most_once_in_an_interval(talk, echo, transcript):
    echo.pieces = ["word "] * 5000
    await ask(talk, "a")
    kinds = [record["type"] for record in transcript.read()]
    assert kinds.count("arrived") <= talk.turns[0].seconds / turn_.SNAPSHOT_INTERVAL
    assert [kind for kind in kinds if kind != "arrived"] == ["named", "asked", "ended"]


STREAMS = """
import asyncio, itertools, sys, time
from pathlib import Path
from ipychat.catalog import registry
from ipychat.chat import conversations, turn
from ipychat.store.transcripts import Transcript
turn.SNAPSHOT_INTERVAL = 0.2
class Endless:
    @classmethod
    async def create_async_generator(cls, model, messages, **options):
        for number in itertools.count():
            await asyncio.sleep(0.005)
            yield f"{number} "
registry.register(Endless)
async def main():
    talk = conversations.Conversation("talk", Transcript(Path(sys.argv[1])))
    async for event in talk.begin(talk.question("Go on.", model="endless:m")).events():
        print(time.monotonic(), event.text, flush=True)
asyncio.run(main())
"""


@pytest.mark.heavy
def test_a_process_killed_in_mid_stream_loses_at_most_its_last_snapshot(transcript):
    child = subprocess.Popen(
        [sys.executable, "-c", STREAMS, str(transcript.path)], stdout=subprocess.PIPE, text=True
    )
    lines = [child.stdout.readline()]
    while float(lines[-1].split()[0]) - float(lines[0].split()[0]) < 2:
        lines.append(child.stdout.readline())
    killed = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)
    lines += child.communicate()[0].splitlines()
    [turn] = Conversation("talk", transcript).turns
    assert turn.state == "lost"
    kept = turn.text.split()
    assert kept == [str(number) for number in range(len(kept))]
    old = [line for line in lines if len(line.split()) == 2 and float(line.split()[0]) < killed - 1]
    assert len(kept) >= len(old) > 20


async def test_a_known_secret_is_in_no_byte_on_disk(talk, echo, transcript, monkeypatch):
    monkeypatch.setattr(turn_, "SNAPSHOT_INTERVAL", 0.0)
    secrets.register(secret := "canary/of+conversations")
    echo.pieces = ["It is ", *secret, " and ", *secret, Reasoning(secret), ToolCall("1", "f", secret),
                   Notice(secret), errors.ServerError(secret)]  # fmt: skip
    talk.system = f"Keep {secret}."
    key = "sk-a-key-that-is-not-known-yet"
    with pytest.raises(errors.ServerError):
        await ask(talk, f"What is {secret}?", cell=secret, execution=secret, api_key=key, limit=3)
    arrived = [record for record in transcript.read() if record["type"] == "arrived"]
    texts = "".join(record["text"] for record in arrived)
    assert arrived
    assert secret not in texts
    for file in transcript.path.parent.iterdir():
        content = file.read_text()
        assert secret not in content, file
        assert key not in content, file
    assert on_disk(talk).turns[0].text == "It is ••• and •••"


def test_records_that_are_unknown_or_make_no_sense_are_skipped():
    asked = {
        "type": "asked", "turn": "1", "at": "2026-01-01", "cell": None, "execution": None,
        "background": True, "stale": False, "model": "p:n:x", "system": None, "options": {},
        "question": [{"role": "user", "content": "?"}], "of a later version": 1,
    }  # fmt: skip
    reply = {"text": "a", "reasoning": "", "tool_calls": [], "notices": [], "finish": "stop",
             "usage": {"input": 1, "of a later version": 1}, "later": 1}  # fmt: skip
    records = [
        {}, {"type": "of a later version"}, {"type": "asked"}, {"type": "asked", **asked, "question": 7},
        {"type": "ended", "turn": "unknown"}, {"type": "dropped", "turn": "unknown"}, asked,
        {"type": "arrived", "turn": "1"}, {"type": "arrived", "turn": "1", "text": "a", "reasoning": ""},
    ]  # fmt: skip
    [turn], set_to = fold(records)
    assert (turn.state, turn.text, str(turn.model)) == ("lost", "a", "p:n:x")
    assert set_to == {"model": None, "system": None, "title": None}
    ended = {"type": "ended", "turn": "1", "state": "done", "error": None, "reply": reply}
    late = {"type": "arrived", "turn": "1", "text": "late", "reasoning": ""}
    [turn], _ = fold([*records, ended, late])
    assert (turn.state, turn.text, turn.usage) == ("done", "a", Usage(1))


async def test_a_lost_background_turn_without_text_does_not_go_along(talk, echo):
    begin(talk, "lost", background=True)
    talk.journal.save()
    again = on_disk(talk)
    assert [turn.state for turn in again.turns] == ["lost"]
    await ask(again, "b")
    assert sent(echo.asked[-1]) == "b"


# -- random lives

CELLS = st.sampled_from(["1", "2", "3", None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), CELLS, st.integers(1, 3)),
        st.tuples(st.just("at once"), CELLS, CELLS),
        st.tuples(st.just("more"), CELLS),
        st.tuples(st.just("stop"), CELLS),
        st.tuples(st.just("drop"), st.integers(1, 5)),
        st.sampled_from([("undo",), ("new",), ("reload",)]),
    ),
    max_size=14,
)


@pytest.mark.heavy
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
def test_whatever_happens_memory_and_disk_agree(steps):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_live(steps, Transcript(Path(folder) / "talk.jsonl")))


async def _live(steps, transcript):
    talk, last = Conversation("talk", transcript), {}
    for runs, step in enumerate(steps):
        expected = None
        match step:
            case ("run", cell, calls):
                last[cell] = str(runs)
                for call in range(calls):
                    await ask(talk, f"{runs}.{call}", cell=cell, execution=str(runs))
            case ("at once", one, other):
                last[one] = last[other] = str(runs)
                await asyncio.gather(
                    *(ask(talk, f"{runs}", cell=c, execution=str(runs)) for c in (one, other))
                )
            case ("more", cell):
                await ask(talk, f"{runs}", cell=cell, execution=last.get(cell))
            case ("stop", cell):
                last[cell] = str(runs)
                async with contextlib.aclosing(
                    begin(talk, f"{runs}", cell=cell, execution=str(runs)).events()
                ) as events:
                    await anext(events)
            case ("drop", number) if number <= len(talk.turns):
                expected = len(talk.turns) - 1
                talk.drop(number)
            case ("undo",) if talk.turns:
                expected = len(talk.turns) - 1
                talk.undo()
            case ("new",):
                talk.clear()
                expected = 0
            case ("reload",):
                expected = len(talk.turns)
                talk = Conversation("talk", transcript)
                assert talk.continues == expected
        again = on_disk(settled(talk))
        assert shape(again) == shape(talk)
        assert expected is None or len(talk.turns) == expected
        # the turns of a cell stand together, and are of one run
        runs_of = [(t.cell, t.execution) for t in talk.turns if t.cell is not None]
        cells = [run for at, run in enumerate(runs_of) if at == 0 or runs_of[at - 1] != run]
        assert len({cell for cell, _ in cells}) == len({*runs_of})
        assert all(turn.text == f"re {turn.question[0].text}" for turn in talk.turns)


# -- the kernel's conversations, and the public functions


async def test_without_a_name_nothing_is_read_or_written(echo):
    open_notebook("/n.ipynb")
    assert str(await ipychat.ask("a")) == "re a"
    assert [text async for text in ipychat.stream("b")] == ["re b"]
    assert Text("re c") in [event async for event in ipychat.events("c")]
    assert [sent(messages) for messages in echo.asked] == ["a", "b", "c"]
    assert conversations.names() == []
    assert not files.home().exists()


async def test_with_a_name_the_three_are_turns_of_that_conversation(echo):
    open_notebook("/n.ipynb")
    reply = await ipychat.ask("a", chat="talk")
    assert [text async for text in ipychat.stream("b", chat="talk")] == ["re b"]
    events = [event async for event in ipychat.events("c", chat="talk", temperature=1)]
    assert events == [Text("re c"), ipychat.FinishReason("stop")]
    assert reply.text == "re a"
    assert sent(echo.asked[-1]) == "a [re a] b [re b] c"
    assert echo.options == {"temperature": 1}
    assert questions(ipychat.conversation("talk")) == "a b c"


async def test_a_notebook_goes_on_after_a_restart():
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="default")
    assert conversation().continues == 0
    conversations._live.clear()
    open_notebook("/n.ipynb")
    assert conversation() is conversation("default")
    assert (questions(conversation()), conversation().continues) == ("a", 1)


async def test_each_notebook_has_conversations_of_its_own():
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="..")
    open_notebook("/m.ipynb")
    assert conversations.names() == []
    await ipychat.ask("b", chat="x/y")
    conversation("live only")
    assert conversations.names() == ["live only", "x/y"]
    open_notebook("/n.ipynb")
    assert conversations.names() == [".."]


@pytest.mark.parametrize("notebook", [None, "/n.ipynb"])
async def test_a_script_and_a_notebook_that_keeps_nothing_write_nothing(notebook):
    if notebook:
        open_notebook(notebook, keep=False)
    await ipychat.ask("a", chat="talk")
    assert questions(conversation("talk")) == "a"
    assert conversations.names() == ["talk"]
    assert not files.home().exists()


async def test_keeping_can_be_switched_off_while_a_conversation_goes_on():
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="talk")
    open_notebook("/n.ipynb", keep=False)
    await ipychat.ask("not to be kept", chat="talk")
    assert questions(conversation("talk")) == "a not to be kept"
    [file] = files.home().rglob("talk.jsonl")
    assert "not to be kept" not in file.read_text()


async def test_keeping_that_is_switched_on_keeps_what_is_asked_from_then_on():
    open_notebook("/n.ipynb", keep=False)
    await ipychat.ask("not to be kept", chat="talk " * 50)
    open_notebook("/n.ipynb")
    await ipychat.ask("b", chat="talk " * 50)
    conversations._live.clear()
    assert conversations.names() == ["talk " * 50]
    assert questions(conversation("talk " * 50)) == "b"


async def test_what_is_forgotten_while_nothing_is_kept_stays_forgotten():
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="talk")
    open_notebook("/n.ipynb", keep=False)
    conversation("talk").clear()
    await ipychat.ask("not to be kept", chat="talk")
    conversations._live.clear()
    open_notebook("/n.ipynb")
    assert questions(conversation("talk")) == ""


async def test_a_transcript_that_cannot_be_read_is_told_with_the_answer_and_left_alone():
    open_notebook("/n.ipynb")
    path = transcripts.notebook_folder("/n.ipynb") / "talk.jsonl"
    path.mkdir(parents=True)
    talk = conversation("talk")
    await talk.load()
    assert talk is conversation("talk")
    assert talk.journal.transcript is None
    [notice] = (await ipychat.ask("a", chat="talk")).notices
    assert "Can't read" in notice
    assert "kept in this kernel only" in notice


async def test_what_is_cleared_is_no_longer_continued():
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="talk")
    await ipychat.ask("b", chat="talk")
    conversations._live.clear()
    talk = conversation("talk")
    talk.undo()
    assert talk.continues == 1
    talk.clear()
    assert talk.continues == 0


@pytest.mark.parametrize(
    "failure", [[errors.ServerError("down")], [" ", errors.ServerError("down")]]
)
async def test_an_answer_is_replaced_by_an_answer_only(talk, echo, failure):
    await ask(talk, "a", cell="1", execution="x")
    for run in "yz":
        echo.pieces = failure
        with pytest.raises(errors.ServerError):
            await ask(talk, "a2", cell="1", execution=run)
    echo.pieces = None
    assert questions(talk) == "a a2"
    assert shape(on_disk(talk)) == shape(talk)
    await ask(talk, "b", cell="2", execution="x")
    assert sent(echo.asked[-1]) == "a [re a] b"
    await ask(talk, "a3", cell="1", execution="v")
    assert questions(talk) == "a3 b*"
    assert shape(on_disk(talk)) == shape(talk)


async def test_a_fence_that_an_answer_leaves_open_takes_in_no_other_turn(talk, echo):
    echo.pieces = ["```python\nx = 1"]
    await ask(talk, "a")
    echo.pieces = ["fine"]
    await ask(talk, "b")
    text = talk.to_markdown()
    assert "x = 1\n```\n\n## 2." in text
    assert text.count("```") == 2


async def test_a_character_cut_in_two_is_whole_and_a_half_is_replaced(talk, echo):
    echo.pieces = ["a\ud83d", "\ude00b", Reasoning("\ude00"), "c\ud83d"]
    reply = (await ask(talk, "a")).reply
    assert (reply.text, reply.reasoning) == (
        "a😀bc\N{REPLACEMENT CHARACTER}",
        "\N{REPLACEMENT CHARACTER}",
    )


async def test_a_known_secret_in_an_answer_is_masked_in_the_reply(talk, echo):
    secrets.register(key := "sk-0123456789abcdef")
    echo.pieces = [f"It is {key[:8]}", key[8:]]
    reply = (await ask(talk, "a", api_key=key)).reply
    assert (str(reply), reply.text) == ("It is •••", "It is •••")
    assert key not in f"{reply!r} {reply.request!r}"


def test_every_record_is_a_line_of_json_that_says_its_type(talk, transcript):
    talk.model = "echo:m"
    talk.clear()
    lines = transcript.path.read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["named", "set", "new"]


# -- locks that others keep

STEP = 0.5
"""Seconds that nothing here may hold the loop, on a machine that is busy."""


@pytest.mark.heavy
async def test_a_lock_that_is_held_costs_one_wait_and_is_told_once(talk, transcript, monkeypatch):
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 3.0)
    with held_elsewhere(transcript.path):
        began = time.monotonic()
        first = await ask(talk, "a")
        assert 3.0 <= time.monotonic() - began < 5.0, "each record by itself would wait as long"
        began = time.monotonic()
        second = await ask(talk, "b")
        assert time.monotonic() - began < 2.0
    [notice] = [event for event in first.given if isinstance(event, Notice)]
    assert notice.text.splitlines()[0].startswith("Another process has held")
    assert notice.text.endswith("Until it is free, this conversation is kept in this kernel only.")
    assert not second.reply.notices
    await ask(talk, "c")
    assert shape(on_disk(talk)) == shape(talk)


@pytest.mark.heavy
async def test_what_changes_under_a_held_lock_leaves_the_loop_and_is_written_in_order(
    talk, transcript
):
    await ask(talk, "a")
    with held_elsewhere(transcript.path):
        began = time.monotonic()
        talk.model = "echo:n"
        talk.clear()
        talk.system = "Be short."
        talk.model = "echo:o"
        assert time.monotonic() - began < STEP
    settled(talk)
    kinds = [record["type"] for record in transcript.read()]
    assert kinds == ["named", "asked", "ended", "set", "new", "set", "set"]
    again = on_disk(talk)
    assert (again.turns, again.model, again.system) == ([], "echo:o", "Be short.")


@pytest.mark.heavy
async def test_whoever_leaves_an_answer_that_waits_for_a_lock_leaves_at_once(talk, transcript):
    with held_elsewhere(transcript.path):
        task = asyncio.create_task(ask(talk, "a"))
        while not talk.turns or talk.journal._began is None:
            await asyncio.sleep(0)
        await asyncio.sleep(0.3)  # so long the disk may take
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 5, "it waits for the lock"
    assert shape(on_disk(settled(talk))) == shape(talk)


SETS = """
import asyncio, sys
from pathlib import Path
from ipychat.chat.conversations import Conversation
from ipychat.store import files
from ipychat.store.transcripts import Transcript
files.LOCK_TIMEOUT = 0.2
async def main():
    talk = Conversation("talk", Transcript(Path(sys.argv[1])))
    talk.model = "echo:n"
    await talk.journal.save_now()
    print("set", flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.mark.heavy
@pytest.mark.parametrize("held", [False, True])
def test_what_is_not_written_when_the_process_ends_is_written_then(transcript, held):
    def begin():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", SETS, str(transcript.path)], **pipes)

    if held:
        with held_elsewhere(transcript.path):
            process = begin()
            assert process.stdout.readline() == b"set\n"
            time.sleep(0.5)  # its wait is over
            assert not transcript.path.exists()
    else:
        process = begin()
        assert process.stdout.readline() == b"set\n"
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert transcript.read()[-1] == {"type": "set", "model": "echo:n"}


WATCH = """
import asyncio, ipychat, threading
from ipychat.store import files
files.LOCK_TIMEOUT = 600.0
async def watch():
    while ipychat.conversation().journal._began is None:
        await asyncio.sleep(0.01)
    print("it waits")
watching = asyncio.ensure_future(watch())
"""


def test_a_cell_that_waits_for_a_held_lock_is_interrupted_and_others_go_on(kernel, service):
    service.on(PATH, OPENAI.whole("ok"))
    notebook = kernel()
    assert notebook.run("%chat first").status == "ok"
    ledger_file = files.home() / "usage.jsonl"
    [path] = files.home().rglob("default.jsonl")
    with held_elsewhere(path), held_elsewhere(ledger_file):
        watching = notebook.send(WATCH)
        sent = notebook.send("%chat waits")
        notebook.wait_for(lambda: "it waits" in notebook.cells[watching].stdout)
        began = time.monotonic()
        notebook.interrupt()
        ran = notebook.wait(sent)
        assert (ran.status, ran.reply["ename"]) == ("error", "InterruptedAnswerError"), ran.error
        for code in ("%chat_use openai:n", "%chat_new", "ipychat.conversation().system = 'x'"):
            assert notebook.run(code).status == "ok"
        assert notebook.run("%chat_usage").status == "ok"
        assert time.monotonic() - began < 10
    kinds = []
    while kinds[-4:] != ["ended", "set", "new", "set"]:
        notebook.pump(0.05)
        kinds = [record["type"] for record in Transcript(path).read()]


# -- transcripts that are large


async def turns_of_the_loop(task):
    """How often the loop goes round until a task is done."""
    count = 0
    while not task.done():
        count += 1
        await asyncio.sleep(0)
    return count


def lengthen(path: Path, count: int) -> None:
    """Have a transcript of one turn hold many."""
    [asked, ended] = [r for r in Transcript(path).read() if r["type"] in {"asked", "ended"}]
    ended["reply"]["text"] = "lorem ipsum " * 500
    with path.open("a") as file:
        for number in range(count):
            for record in (asked, ended):
                file.write(json.dumps({**record, "turn": f"{number:032x}"}) + "\n")


@pytest.mark.heavy
async def test_a_large_transcript_is_read_while_the_loop_goes_on(echo):
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="talk")
    [path] = files.home().rglob("talk.jsonl")
    lengthen(path, 2000)
    conversations._live.clear()
    talk = conversation("talk")
    asking = [asyncio.create_task(ipychat.ask(f"{n}", chat="talk", large=True)) for n in range(5)]
    loading = asyncio.create_task(talk.load())
    assert await turns_of_the_loop(loading) > 20
    await asyncio.gather(*asking)
    assert [turn.question[0].text for turn in talk.turns[-5:]] == [*"01234"], "in order of asking"
    assert len(talk.turns) == 2006
    assert talk.continues == 2001


async def test_without_history_nothing_is_read_but_the_settings(echo):
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="talk")
    settled(conversation("talk")).model = "echo:n"
    settled(conversation("talk"))
    [path] = files.home().rglob("talk.jsonl")
    with path.open("a") as file:
        file.write("this line is damaged, and whoever reads all warns of it\n")
    conversations._live.clear()
    await ipychat.ask("of none")
    talk = conversation("talk")
    await talk.load(turns=False)
    turn = await ask(talk, "b", history=False)
    assert str(turn.model) == "echo:n"
    talk.system = "Be short."
    with pytest.warns(UserWarning, match="1 of . lines"):
        await talk.load()
    assert (questions(talk), talk.model, talk.system) == ("a", "echo:n", "Be short.")


# -- settings that change in the middle


@pytest.mark.parametrize("changed", [{"cassette": "__chat__"}, {"replay": "auto"}, {"keep": False}])
async def test_a_setting_loses_neither_the_conversation_nor_its_model(
    echo, tmp_path, monkeypatch, changed
):
    monkeypatch.chdir(tmp_path)
    open_notebook("/n.ipynb")
    conversation("talk").model = "echo:n"
    await ipychat.ask("a", chat="talk")
    before = config.current()
    for one in (before._replace(**changed), before):
        config.use(one)
        reply = await ipychat.ask("b", chat="talk")
        assert str(reply.model) == "echo:n"
    assert [m["content"] for m in echo.asked[-1]] == ["a", "re a", "b", "re b", "b"]
    conversations._live.clear()
    kept = "a b" if changed == {"keep": False} else "a b b"
    assert questions(conversation("talk")) == kept


async def test_a_replay_that_begins_in_the_middle_goes_on_and_writes_nothing(echo, tmp_path):
    open_notebook("/n.ipynb")
    config.use(config.current()._replace(cassette=str(tmp_path / "__chat__")))
    await ipychat.ask("a", chat="talk")
    await ipychat.ask("b", chat="talk")
    talk = conversation("talk")
    talk.undo()
    settled(talk)
    [path] = files.home().rglob("talk.jsonl")
    before = len(Transcript(path).read())
    config.use(config.current()._replace(replay="replay"))
    assert str(await ipychat.ask("b", chat="talk")) == "re b"
    assert questions(talk) == "a b"
    assert len(echo.asked) == 2
    assert len(Transcript(path).read()) == before


async def test_with_a_cassette_from_the_start_nothing_of_an_earlier_kernel_goes_along(
    echo, tmp_path
):
    open_notebook("/n.ipynb")
    conversation("talk").model = "echo:n"
    await ipychat.ask("of an earlier kernel", chat="talk")
    for _ in range(2):
        conversations._live.clear()
        open_notebook("/n.ipynb")
        config.use(config.current()._replace(cassette=str(tmp_path / "__chat__")))
        assert str((await ipychat.ask("a", chat="talk")).model) == "echo:m"
        assert [m["content"] for m in echo.asked[-1]] == ["a"]
        conversation("talk").model = "echo:o"
        config.use(config.current()._replace(cassette=None))
        assert str((await ipychat.ask("b", chat="talk")).model) == "echo:o"
        settled(conversation("talk"))
    conversations._live.clear()
    open_notebook("/n.ipynb")
    assert questions(conversation("talk")) == "of an earlier kernel"


def test_a_cassette_that_is_switched_on_in_a_notebook_changes_nothing_else(kernel, service):
    service.on(PATH, *[OPENAI.whole("ok")] * 3)
    notebook = kernel()
    notebook.run("%chat_use openai:chosen")
    notebook.run("%chat one")
    for setting in ("cassette = True", "replay = 'auto'"):
        notebook.run(f"%config IPyChat.{setting}")
        assert notebook.run(f"%chat {setting}").status == "ok"
    last = service.asked(PATH)[-1].json
    assert (last["model"], len(last["messages"])) == ("chosen", 5)


# -- titles, search, going on


async def test_a_title_comes_from_the_first_question_until_it_is_set(talk, transcript):
    assert talk.title == ""
    await ask(
        talk, "\n```\nWhy is the second column of this table\x1b[2J emptier than the others?\nx"
    )
    assert talk.title == "Why is the second column of this table[2J emptier than the …"
    await ask(talk, "And now?")
    talk.title = "  Gaps \n in a table "
    assert talk.title == "Gaps in a table"
    assert settled(talk).title == Conversation("talk", transcript).title
    talk.title = None
    assert talk.title.startswith("Why")


async def test_a_title_is_of_what_was_typed_and_holds_no_secret(talk):
    along = Message.asking("Is sk-proj-0123456789abcdefghijklmnop valid?", [TextPart("df: 3 rows")])
    await ask(talk, [along])
    assert "df" not in talk.title
    assert "0123" not in talk.title


async def test_words_are_looked_for_in_all_conversations_of_the_notebook(tmp_path):
    open_notebook(str(tmp_path / "book.ipynb"))
    for name, question in [("a", "Where are parrots?"), ("b", "Parrots that TALK"), ("c", "x")]:
        await ask(conversation(name), question)
    settled(conversation("a")), settled(conversation("b")), settled(conversation("c"))
    conversations._live.clear()
    found = search.search("parrots")
    assert {(one.chat, one.number) for one in found} == {("a", 1), ("b", 1)}
    [one] = search.search("talk PARROTS")
    assert (one.chat, one.excerpt) == ("b", "Parrots that TALK … re Parrots that TALK")
    assert search.search("") == search.search("nothing of it") == []
    assert not conversations._live, "they are read, and forgotten"
    assert search.titles() == {"a": "Where are parrots?", "b": "Parrots that TALK", "c": "x"}


async def test_an_answer_that_was_cut_off_goes_on_as_it_was_asked(talk, echo):
    echo.pieces = ["one\n```python\ntwo", FinishReason("length")]
    cut = await ask(talk, "Count", system="Be brief.", cell="c1", execution="1", temperature=0.5)
    echo.pieces = ["```python\nthree\n```"]
    place = Place(talk.name, "c2", "2")
    question = continuation.question(talk, place, hint="In French.")
    turn = talk.begin(question)
    async for _ in turn.events():
        pass
    assert continuation.is_cut_off(cut)
    assert not continuation.is_cut_off(turn)
    assert sent(echo.asked[-1]) == (
        "{Be brief.} Count [one\n```python\ntwo] "
        "Your answer was cut off. Go on exactly where it ends, and repeat nothing of it. "
        "It ends within a code block: begin with the line that opens one, then go on. In French."
    )
    assert echo.options["temperature"] == 0.5
    again = continuation.question(talk, Place(talk.name, "c2", "3"))
    assert sent([m.to_dict() for m in again.messages]).startswith("{Be brief.} Count [one")
    with pytest.raises(
        errors.UsageError, match="nothing to continue: the last answer of talk is complete"
    ):
        continuation.question(talk, Place(talk.name, "c3", "4"))


def test_nothing_is_continued_where_nothing_was_answered(talk):
    with pytest.raises(errors.UsageError, match="talk has no answer yet"):
        continuation.question(talk, Place(talk.name))


async def test_a_page_of_a_conversation_runs_and_loads_nothing(talk, echo):
    secrets.register("sk-canary-0123456789abcdef")
    echo.pieces = [
        "**bold** <script>x</script> ![x](https://evil.example/1) sk-canary-0123456789abcdef"
    ]
    await ask(talk, "<img src=x onerror=y> sk-canary-0123456789abcdef")
    page = export.page(talk)
    assert "<strong>bold</strong>" in page
    assert "&lt;img src=x" in page
    assert "canary" not in page
    assert not re.search(r"<(?:script|img|link|iframe)|https?://(?!evil)", page)
    assert "default-src 'none'" in page
