"""What holds no loop: locks that others keep, transcripts that are large, files without an end."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ipychat
from ipychat import config, conversations, errors
from ipychat.context import attachments
from ipychat.conversations import conversation
from ipychat.messages import Notice
from ipychat.store import files
from ipychat.store.transcripts import Transcript
from ipychat.wire import aside
from tests.protocols import OPENAI
from tests.test_conversations import (  # noqa: F401 - fixtures
    ask,
    echo,
    on_disk,
    open_notebook,
    questions,
    settled,
    shape,
    talk,
    transcript,
)
from tests.test_magics import PATH
from tests.test_store import held_elsewhere

STEP = 0.5
"""Seconds that nothing here may hold the loop, on a machine that is busy."""


async def turns_of_the_loop(task):
    """How often the loop goes round until a task is done."""
    count = 0
    while not task.done():
        count += 1
        await asyncio.sleep(0)
    return count


# -- locks that others keep


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
        assert time.monotonic() - began < 0.15
    assert shape(on_disk(settled(talk))) == shape(talk)


SETS = """
import asyncio, sys
from pathlib import Path
from ipychat.conversations import Conversation
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


def lengthen(path: Path, count: int) -> None:
    """Have a transcript of one turn hold many."""
    [asked, ended] = [r for r in Transcript(path).read() if r["type"] in {"asked", "ended"}]
    ended["reply"]["text"] = "lorem ipsum " * 500
    with path.open("a") as file:
        for number in range(count):
            for record in (asked, ended):
                file.write(json.dumps({**record, "turn": f"{number:032x}"}) + "\n")


async def test_a_large_transcript_is_read_while_the_loop_goes_on(echo):  # noqa: F811 - a fixture
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="talk")
    [path] = files.home().rglob("talk.jsonl")
    lengthen(path, 2000)
    conversations._live.clear()
    talk = conversation("talk")  # noqa: F811 - another
    asking = [asyncio.create_task(ipychat.ask(f"{n}", chat="talk")) for n in range(5)]
    loading = asyncio.create_task(talk.load())
    assert await turns_of_the_loop(loading) > 20
    await asyncio.gather(*asking)
    assert [turn.question[0].text for turn in talk.turns[-5:]] == [*"01234"], "in order of asking"
    assert len(talk.turns) == 2006
    assert talk.continues == 2001


async def test_without_history_nothing_is_read_but_the_settings(echo):  # noqa: F811 - a fixture
    open_notebook("/n.ipynb")
    await ipychat.ask("a", chat="talk")
    settled(conversation("talk")).model = "echo:n"
    settled(conversation("talk"))
    [path] = files.home().rglob("talk.jsonl")
    with path.open("a") as file:
        file.write("this line is damaged, and whoever reads all warns of it\n")
    conversations._live.clear()
    await ipychat.ask("of none")
    talk = conversation("talk")  # noqa: F811 - another
    await talk.load(turns=False)
    turn = await ask(talk, "b", history=False)
    assert str(turn.model) == "echo:n"
    talk.system = "Be short."
    with pytest.warns(UserWarning, match="1 of 5 lines"):
        await talk.load()
    assert (questions(talk), talk.model, talk.system) == ("a", "echo:n", "Be short.")


# -- settings that change in the middle


@pytest.mark.parametrize("changed", [{"cassette": "__chat__"}, {"replay": "auto"}, {"keep": False}])
async def test_a_setting_loses_neither_the_conversation_nor_its_model(
    echo, tmp_path, monkeypatch, changed  # noqa: F811 - a fixture
):
    monkeypatch.chdir(tmp_path)
    open_notebook("/n.ipynb")
    conversation("talk").model = "echo:n"
    await ipychat.ask("a", chat="talk")
    before = config.current()
    for settings in (before._replace(**changed), before):
        config.use(settings)
        reply = await ipychat.ask("b", chat="talk")
        assert str(reply.model) == "echo:n"
    assert [m["content"] for m in echo.asked[-1]] == ["a", "re a", "b", "re b", "b"]
    conversations._live.clear()
    kept = "a b" if changed == {"keep": False} else "a b b"
    assert questions(conversation("talk")) == kept


async def test_a_replay_that_begins_in_the_middle_goes_on_and_writes_nothing(
    echo, tmp_path  # noqa: F811 - a fixture
):
    open_notebook("/n.ipynb")
    config.use(config.current()._replace(cassette=str(tmp_path / "__chat__")))
    await ipychat.ask("a", chat="talk")
    await ipychat.ask("b", chat="talk")
    talk = settled(conversation("talk"))  # noqa: F811 - another
    talk.undo()
    [path] = files.home().rglob("talk.jsonl")
    before = len(Transcript(path).read())
    config.use(config.current()._replace(replay="replay"))
    assert str(await ipychat.ask("b", chat="talk")) == "re b"
    assert questions(talk) == "a b"
    assert len(echo.asked) == 2
    assert len(Transcript(path).read()) == before


async def test_with_a_cassette_from_the_start_nothing_of_an_earlier_kernel_goes_along(
    echo, tmp_path  # noqa: F811 - a fixture
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


# -- files without an end


async def test_whoever_waits_for_a_disk_that_is_gone_can_leave():
    import threading

    gone = threading.Event()
    task = asyncio.create_task(aside.run(gone.wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone.set()


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="Linux has such files")
def test_a_file_of_the_system_that_never_ends_is_refused_with_the_reason():
    with pytest.raises(errors.UsageError, match=r"has no end|can't be read"):
        attachments.file_part("/proc/kmsg")


GONE = """
import os, threading, time
from pathlib import Path
Path("gone.txt").write_text("x")
opened = os.open
def open_on_a_mount_that_is_gone(path, *how, **more):
    if "gone.txt" in str(path):
        Path("begun").touch()
        time.sleep(60)
    return opened(path, *how, **more)
os.open = open_on_a_mount_that_is_gone
"""


@pytest.mark.parametrize("flag", ["--file", "--image"])
def test_a_file_on_a_mount_that_is_gone_holds_no_cell(kernel, service, tmp_path, flag):
    service.on(PATH, OPENAI.whole("ok"))
    notebook = kernel()
    assert notebook.run(GONE).status == "ok"
    sent = notebook.send(f"%chat {flag} gone.txt hi")
    notebook.wait_for(lambda: (tmp_path / "begun").exists())
    began = time.monotonic()
    notebook.interrupt()
    ran = notebook.wait(sent)
    assert (ran.status, ran.reply["ename"]) == ("error", "InterruptedAnswerError"), ran.error
    assert time.monotonic() - began < 5
    assert notebook.run("%chat hi").status == "ok"
    assert len(service.requests) == 1
