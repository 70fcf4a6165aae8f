"""Models on this machine, as a user meets them: found, offered, fetched, asked."""

import pytest

from tests import tiny_gguf
from tests.hub import Hub, stopped
from tests.tiny_gguf import expected

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("weights") / "tiny.gguf").read_bytes()


@pytest.fixture
def hub(weights):
    one = Hub(weights)
    yield one
    one.close()


@pytest.fixture
def notebook(kernel, hub):
    """A machine with no key and no server, and a hub that has one file."""
    nothing = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "IPYCHAT_MODEL": ""}
    one = kernel(HF_ENDPOINT=hub.url, **nothing)
    offer = f"weights.OFFERS.clear(); weights.OFFERS['tiny'] = weights.{hub.offer()!r}"
    ran = one.run(f"from ipychat.local import weights; {offer}")
    assert ran.status == "ok", ran.error
    return one


def test_weights_are_offered_fetched_and_asked_without_a_restart(notebook, hub, home):
    notebook.answers = ["tiny"]
    ran = notebook.run("%chat_setup local")
    assert ran.status == "ok", ran.error
    for said in ("tiny", "CC0", "tests", "MB"):
        assert said in ran.shown(), said
    assert f"They are fetched from {hub.url} into {home / 'models'}." in ran.stdout
    assert "tiny.gguf is here: %%chat --model local:tiny asks it." in ran.stdout
    assert "<progress" in ran.shown("text/html")
    answer = notebook.run("%%chat --model local:tiny\nWhat about ZeroDivisionError?")
    assert answer.shown() == expected("ZeroDivisionError")


def test_with_the_weights_there_they_answer_where_nothing_is_named(notebook):
    assert notebook.run("%chat_setup local tiny").status == "ok"
    assert "its weights are on this machine" in notebook.run("%chat_setup").shown()
    html = notebook.run("%%chat --model FrontEndAgent\nZeroDivisionError").shown("text/html")
    assert "served here by local:tiny" in html
    assert "You divided by zero" in html
    assert "local:tiny" in notebook.run("%chat_models local").shown()


def test_nothing_is_fetched_unasked(notebook, hub, home):
    notebook.answers = [""]
    assert notebook.run("%chat_setup local").status == "ok"
    ran = notebook.run("%chat --model local:tiny hi")
    assert "local pull tiny" in ran.error
    assert not hub.hub.requests
    assert not (home / "models" / "tiny.gguf").exists()


def test_where_nobody_can_be_asked_the_name_on_the_line_will_do(notebook):
    assert "name it on the line" in notebook.run("%chat_setup local", watched=False).error
    assert notebook.run("%chat_setup local tiny", watched=False).status == "ok"


def test_what_had_come_is_kept_where_the_user_interrupts(notebook, hub, weights, home):
    hub.faults = [stopped(len(weights) // 2)]
    running = notebook.send("%chat_setup local tiny")
    part = home / "models" / "tiny.gguf.part"
    notebook.wait_for(part.exists)
    notebook.interrupt()
    ran = notebook.wait(running, 20)
    assert "What was received is kept" in ran.error
    there = part.stat().st_size
    assert notebook.run("%chat_setup local tiny").status == "ok"
    assert hub.ranges == [None, f"bytes={there}-" if there else None]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%chat_setup local nobody", "no weights called 'nobody'"),
        ("%chat_setup everything", "takes nothing, or local"),
        ("%chat --model local:/nowhere/x.gguf hi", "There is no file /nowhere/x.gguf"),
    ],
)
def test_what_is_not_there_is_said(notebook, line, said):
    assert said in notebook.run(line).error


def test_any_file_of_weights_answers(notebook, weights, tmp_path):
    path = tmp_path / "my own.gguf"
    path.write_bytes(weights)
    assert notebook.run(f'%%chat --model "local:{path}"\nhi').shown() == expected("")
