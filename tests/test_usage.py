"""What answers cost: in the reply, in what is shown, in the sums over days and notebooks."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ipychat
from ipychat import config
from ipychat.messages import Usage
from ipychat.providers.openai import OpenAI
from ipychat.store import ledger
from tests.loopback import answer
from tests.protocols import OPENAI, completion, sse
from tests.test_magics import PATH

pytestmark = pytest.mark.usefixtures("sessions")


def counted(text="Hello", *, tokens=(1000, 200), **usage):
    count = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], **usage}
    last = sse(json.dumps({"choices": [], "usage": count}))
    return answer(completion({"content": text}), completion(finish="stop"), last, sse("[DONE]"))


@pytest.fixture(autouse=True)
def _own_ledger():
    yield
    ledger.save()
    ledger._kept.clear()


@pytest.fixture
def openai(service, monkeypatch):
    """A service at whose address OpenAI's prices hold."""
    monkeypatch.setattr(OpenAI, "base_url", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    service.on(PATH, counted())
    return service


COST = (1000 * 0.15 + 200 * 0.6) / 1e6


async def test_a_reply_says_what_it_cost(openai):
    reply = await ipychat.ask("Hi", model="openai:gpt-4o-mini")
    assert reply.usage == Usage(1000, 200, cost=pytest.approx(COST))
    assert reply.cost == pytest.approx(COST)


async def test_what_the_service_says_it_cost_comes_before_the_table(openai):
    openai.on(PATH, counted(cost=0.5))
    assert (await ipychat.ask("Hi", model="openai:gpt-4o-mini")).cost == 0.5


async def test_without_a_price_the_cost_is_not_known_and_no_guess_is_made(openai):
    reply = await ipychat.ask("Hi", model="openai:nobody-knows-it")
    assert reply.usage == Usage(1000, 200)
    assert reply.cost is None


async def test_every_answer_is_in_the_ledger_with_its_conversation(openai):
    await ipychat.ask("Hi", model="openai:gpt-4o-mini")
    await ipychat.ask("Hi", model="openai:gpt-4o-mini", chat="a")
    alone, talk = list(ledger.entries())
    assert (alone["chat"], talk["chat"]) == (None, "a")
    assert (talk["model"], talk["input"], talk["output"]) == ("openai:gpt-4o-mini", 1000, 200)
    assert talk["cost"] == pytest.approx(COST)
    assert len(talk["at"]) >= 19


async def test_an_answer_that_was_not_counted_is_there_without_a_count(openai):
    openai.on(PATH, OPENAI.whole("Hello"))
    await ipychat.ask("Hi", model="openai:m")
    [entry] = ledger.entries()
    assert entry["input"] is None
    assert entry["cost"] is None


async def test_a_question_that_no_answer_began_to_is_not_there(openai):
    openai.on(PATH, answer(b"no", status=400))
    with pytest.raises(ipychat.ChatError):
        await ipychat.ask("Hi", model="openai:m")
    assert list(ledger.entries()) == []


async def test_where_nothing_is_kept_the_ledger_stays_in_memory(openai):
    config.use(config.Config(keep=False))
    await ipychat.ask("Hi", model="openai:gpt-4o-mini")
    assert len(list(ledger.entries())) == 1
    assert not (Path(os.environ["IPYCHAT_HOME"]) / "usage.jsonl").exists()


ADD = "from ipychat.store import ledger; from ipychat.messages import ModelId, Usage; ledger.add"


@pytest.mark.heavy
def test_what_is_gathered_when_a_process_ends_is_written(tmp_path):
    subprocess.run(
        [sys.executable, "-c", f"{ADD}(ModelId('p', 'm'), Usage(1, 2))"], check=True, timeout=60
    )
    [entry] = ledger.entries()
    assert (entry["model"], entry["input"], entry["output"]) == ("p:m", 1, 2)


def test_what_is_added_while_the_ledger_is_written_is_written_too(monkeypatch):
    from ipychat.messages import ModelId
    from ipychat.store.transcripts import Transcript

    append, begun, go_on = Transcript.append, threading.Event(), threading.Event()

    def slow(self, *records):
        begun.set()
        go_on.wait(10)
        append(self, *records)

    monkeypatch.setattr(Transcript, "append", slow)
    ledger.add(ModelId("p", "first"), None)
    assert begun.wait(10)
    ledger.add(ModelId("p", "second"), None)
    go_on.set()
    monkeypatch.setattr(Transcript, "append", append)
    assert [entry["model"] for entry in ledger.entries()] == ["p:first", "p:second"]


def test_what_the_disk_refused_is_written_when_it_takes_it_again(monkeypatch):
    from ipychat.errors import StoreError
    from ipychat.messages import ModelId
    from ipychat.store.transcripts import Transcript

    append = Transcript.append

    def full(self, *records):
        raise StoreError("the disk is full")

    monkeypatch.setattr(Transcript, "append", full)
    ledger.add(ModelId("p", "m"), None)
    ledger.save()
    monkeypatch.setattr(Transcript, "append", append)
    ledger.save()
    assert len(ledger._file().read()) == 1


@pytest.mark.heavy
def test_of_eight_kernels_that_end_at_once_no_line_is_lost():
    code = f"{ADD}\nfor n in range(50): ledger.add(ModelId('p', 'm'), Usage(n, n))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(8)]
    assert [one.wait(60) for one in running] == [0] * 8
    assert len(list(ledger.entries())) == 400


# -- what is shown


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (Usage(1000, 200), "1,000 tokens in, 200 out"),
        (Usage(1000, 200, cached=600), "1,000 tokens in (600 cached), 200 out"),
        (Usage(1, 1, cost=0.0), "1 token in, 1 out · $0"),
        (Usage(10, 10, cost=0.000042), "10 tokens in, 10 out · $0.000042"),
        (Usage(10, 10, cost=0.0123), "10 tokens in, 10 out · $0.012"),
        (Usage(10, 10, cost=1.239), "10 tokens in, 10 out · $1.24"),
        (Usage(10, 10, cost=12345.6), "10 tokens in, 10 out · $12,345.60"),
    ],
)
def test_usage_says_itself_in_words(usage, said):
    assert str(usage) == said


def test_a_cell_shows_what_it_cost_and_its_metadata_hold_it(notebook, service):
    service.on(PATH, counted(cost=0.0123))
    ran = notebook.run("%chat hi")
    assert "1,000 tokens in, 200 out · $0.012" in ran.shown("text/html")
    assert ran.outputs[0]["metadata"]["ipychat"]["usage"]["cost"] == 0.0123
    assert ran.shown("text/plain").strip() == "Hello"


def test_the_sums_are_by_model_conversation_and_day(notebook, service):
    service.on(PATH, counted(cost=0.5))
    notebook.run("%chat -m openai:a hi")
    notebook.run("%chat -m openai:a -c other hi")
    notebook.run("%chat -m openai:b hi")
    service.on(PATH, OPENAI.whole("uncounted"))
    notebook.run("%chat -m openai:b hi")
    shown = notebook.run("%chat_usage").shown()
    lines = {line.split("  ")[0].strip(): " ".join(line.split()) for line in shown.splitlines()}
    assert lines["openai:a"] == "openai:a 2 2,000 400 $1.00"
    assert lines["openai:b"] == "openai:b 2, 1 not counted 1,000 200 $0.50"
    assert lines["default"] == "default 3, 1 not counted 2,000 400 $1.00"
    assert lines["other"] == "other 1 1,000 200 $0.50"
    assert lines["all"] == "all 4, 1 not counted 3,000 600 $1.50"


def test_the_sums_of_another_notebook_are_shown_when_asked_for(kernel, service, tmp_path, home):
    service.on(PATH, counted(cost=0.5))
    one = kernel()
    one.run("%chat hi")
    lines = home / "usage.jsonl"  # written behind the answer
    one.wait_for(lambda: lines.exists() and lines.read_text().endswith("\n"))
    one.run("%unload_ext ipychat")
    two = kernel(JPY_SESSION_NAME=str(tmp_path / "another.ipynb"))
    assert "No answers yet" in two.run("%chat_usage").stdout
    assert "$0.50" in two.run("%chat_usage --all").shown()


def test_what_the_gateway_asks_for_a_service_that_is_gone_is_counted(notebook, service):
    service.on(PATH, counted("<p>Hello</p>", cost=0.25))
    assert notebook.run("%chat -m FrontEndAgent hi").status == "ok"
    shown = notebook.run("%chat_usage").shown()
    assert "openai:m" in shown
    assert "$0.25" in shown
