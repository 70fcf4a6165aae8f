"""What users do with a real model: the small one from the package index, on this machine."""

import os
import signal
import time

import psutil
import pytest
from playwright.sync_api import expect

from tests import lab, small_model
from tests.kernels import Kernel

pytest.importorskip("xllamacpp")
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]

REMARK = "very small and often wrong"
SHORT = "In one sentence: what is a Python list comprehension?"
LONG = "%%chat --no-history --option max_tokens=2000\nTell me a long story about a fox."


@pytest.fixture(scope="module")
def models():
    return small_model.fetch()


@pytest.fixture(scope="module")
def env(models, tmp_path_factory):
    """A user with no key and no server, but with the weights."""
    home = tmp_path_factory.mktemp("home")
    small_model.install(home, models)
    return {"IPYCHAT_HOME": str(home), "IPYCHAT_SERVERS": "off", "IPYCHAT_MODEL": ""}


@pytest.fixture(scope="module")
def shared_kernel(env):
    kernel = Kernel(env)
    kernel.run("%load_ext ipychat")
    yield kernel
    kernel.close()


@pytest.fixture
def notebook(shared_kernel):
    shared_kernel.run("%chat_new")
    return shared_kernel


def engines(kernel: Kernel) -> list[psutil.Process]:
    return [one for one in psutil.Process(kernel.pid).children() if "serve" in one.cmdline()]


def test_it_answers_where_nothing_is_named_and_says_what_it_is(notebook):
    ran = notebook.run(f"%%chat --to answer\n{SHORT}")
    assert ran.status == "ok", ran.error
    assert "list" in ran.shown()
    assert REMARK in ran.shown("text/html")
    assert "%chat_setup local" in ran.shown("text/html"), "how to get a better one"
    assert notebook.value("[str(answer.model), answer.finish]") == ["local:smollm2-135m", "stop"]
    pieces = [one for one in ran.messages if one["msg_type"] == "update_display_data"]
    assert len(pieces) > 1, "it streams"


def test_no_path_is_in_its_receipt(notebook, env):
    notebook.run(f"%chat {SHORT}")
    receipt = notebook.run("%chat_receipt").shown()
    assert "local:smollm2-135m" in receipt
    assert env["IPYCHAT_HOME"] not in receipt
    assert ".gguf" not in receipt


def test_an_interrupt_ends_it_and_the_next_question_is_answered(notebook):
    running = notebook.send(LONG)
    notebook.wait_for(lambda: "fox" in notebook.cells[running].shown("text/html"), 60)
    begin = time.monotonic()
    notebook.interrupt()
    ran = notebook.wait(running)
    assert time.monotonic() - begin < 2
    assert "Interrupted" in ran.error
    assert notebook.run(f"%chat --no-history {SHORT}").status == "ok"


FORMS = {
    "Literal['good', 'bad']": "lambda given: given in ('good', 'bad')",
    "bool": "lambda given: isinstance(given, bool)",
    "int": "lambda given: type(given) is int",
    "float": "lambda given: type(given) in (int, float)",
    "{'type': 'string', 'maxLength': 30}": "lambda given: type(given) is str and len(given) <= 30",
}
ROWS = [
    "Works as described.", "Broke after a day.", "Lovely colour.", "I want a refund.",
    "Arrived late and noisy.", "Great value.", "Never again.", "My third one, still happy.",
    "Too noisy at night.", "Easy to clean.",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_kept_to_ten_times_of_ten(notebook, form):
    """With five forms that is fifty of fifty."""
    ran = notebook.run(
        f"from typing import Literal\nimport ipychat\n"
        f"given = await ipychat.map({ROWS!r}, 'A review: {{{{it}}}} Rate it.', schema={form})"
    )
    assert ran.status == "ok", ran.error
    assert notebook.value("[str(row.error) for row in given if row.error]") == []
    assert notebook.value(f"[*map({FORMS[form]}, given.values)]") == [True] * len(ROWS)


def test_an_answer_that_is_cut_at_its_limit_counts_as_cut_off(notebook):
    reply = "reply = await ipychat.ask('Tell me a long story.', extra={'max_tokens': 5})"
    assert notebook.run(f"import ipychat\n{reply}").status == "ok"
    assert notebook.value("reply.finish") == "length"
    ran = notebook.run("%chat --no-history --option max_tokens=5 Tell me a long story.")
    assert "cut off" in ran.shown("text/html").lower()


def test_thirty_rows_are_labelled(notebook):
    notebook.run(f"import pandas as pd\ndf = pd.DataFrame({{'text': {ROWS * 3!r}}})")
    ran = notebook.run(
        "%%chat --each df.text --into df.label --schema \"Literal['good', 'bad']\"\n"
        "Is this review good or bad? {{it}}"
    )
    assert ran.status == "ok", ran.error
    labels = notebook.value("list(df.label)")
    assert len(labels) == 30
    assert set(labels) == {"good", "bad"}


def test_it_races_with_itself(notebook):
    ran = notebook.run(f"%%chat -m {small_model.NAME} -m {small_model.NAME}\n{SHORT}")
    assert ran.status == "ok", ran.error
    assert ran.shown("text/html").count("list comprehension") >= 2


def test_the_page_of_a_front_end_agent_is_previewed(notebook):
    ran = notebook.run(
        "%%chat --model FrontEndAgent --no-history --to page\n"
        "Write an HTML page with the heading Hello and a list of three colours."
    )
    assert ran.status == "ok", ran.error
    assert "served here by local:smollm2-135m" in ran.shown("text/html")
    assert "<iframe" in ran.shown("text/html")
    assert "Hello" in notebook.value("page.code[0]")


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_two_kernels_have_an_engine_each_which_ends_with_its_kernel(env, end):
    kernels = [Kernel(env), Kernel(env)]
    for kernel in kernels:
        kernel.run("%load_ext ipychat")
        assert kernel.run("%chat --no-history Hello").status == "ok"
    [[first], [second]] = map(engines, kernels)
    if end == "killed":
        os.kill(kernels[0].pid, signal.SIGKILL)
    else:
        kernels[0].close()
    psutil.wait_procs([first], timeout=5)
    assert not first.is_running()
    assert second.is_running()
    assert kernels[1].run("%chat --no-history Hello").status == "ok", "it has lost nothing"
    for kernel in kernels[end == "closed" :]:
        kernel.close()
    psutil.wait_procs([second], timeout=5)
    assert not second.is_running()


@pytest.mark.browser
def test_in_jupyterlab_it_streams_is_stopped_and_goes_on(env, models, tmp_path):
    lab.need_chromium()
    one = lab.Lab(tmp_path, {"IPYCHAT_SERVERS": "off"})
    try:
        small_model.install(tmp_path / "home", models)
        page = one.open("small.ipynb", "%load_ext ipychat", LONG, f"%%chat --no-history\n{SHORT}")
        lab.run(page, 0)
        lab.run(page, 1, wait=False)
        output = page.locator(".jp-OutputArea-output")
        expect(output.filter(has_text="fox").first).to_be_visible(timeout=60_000)
        lab.shoot(page, "the small model answers")
        page.keyboard.press("Escape")
        page.keyboard.press("i")
        page.keyboard.press("i")
        expect(output.filter(has_text="Interrupted").first).to_be_visible(timeout=20_000)
        lab.run(page, 2)
        expect(output.filter(has_text=REMARK).last).to_be_visible()
        expect(output.filter(has_text="list").last).to_be_visible(timeout=60_000)
        lab.shoot(page, "the small model goes on")
    finally:
        one.close()
