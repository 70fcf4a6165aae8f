"""The magics in a real kernel, against a real server."""

import json
import re
import threading
import time
from pathlib import Path

import pytest

from tests.kernels import Kernel
from tests.loopback import END, HANG, answer, chunk, head
from tests.protocols import PROTOCOLS, completion, sse

OPENAI = PROTOCOLS[0]
PATH = OPENAI.path


def echo(received):
    """Answers with what was asked last."""
    content = received.json["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return OPENAI.whole(*(f"{word} " for word in f"You said: {text}".split()))


def sent(service, number: int = -1) -> list[dict]:
    return service.asked(PATH)[number].json["messages"]


def stalled(*texts: str) -> list:
    return [head(), *(chunk(OPENAI.text(text)) for text in texts), HANG]


# -- every way in


WAYS = {
    "a cell": "%%chat\nHello you",
    "a line": "%chat Hello you",
    "an assignment": "x = %chat Hello you\nprint(x)",
    "a loop": "for _ in range(1):\n    %chat Hello you",
    "an async function": "async def f():\n    %chat Hello you\nawait f()",
    "a plain function": "def f():\n    %chat Hello you\nf()",
    "run_cell_magic in a function": (
        "def f():\n    get_ipython().run_cell_magic('chat', '', 'Hello you')\nf()"
    ),
    "%%time": "%%time\n%chat Hello you",
    "%%time %%chat": "%%time\n%%chat\nHello you",
    "run_cell": "get_ipython().run_cell('%chat Hello you')",
    "a flag": "%chat --temperature 0.5 Hello you",
    "an automagic": "chat Hello you",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_question_is_answered_and_kept_the_same_in_every_way(shared, way):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run("%chat_new")
    ran = kernel.run(WAYS[way])
    assert ran.status == "ok", ran.error
    assert "You said: Hello you" in ran.shown() + ran.stdout
    after = kernel.run("%chat again")
    assert after.status == "ok", after.error
    assert [m["content"].strip() for m in sent(service)] == [
        "Hello you", "You said: Hello you", "again",
    ]  # fmt: skip


def test_capture_takes_the_answer_once(shared):
    kernel, service = shared
    service.on(PATH, echo)
    ran = kernel.run("%%capture caught\n%chat Hello you")
    assert ran.status == "ok", ran.error
    assert not ran.outputs
    shown = kernel.value("[o.data['text/plain'] for o in caught.outputs if o.data]")
    assert shown == ["You said: Hello you "]


def test_run_of_a_notebook_is_answered(shared, tmp_path):
    kernel, service = shared
    service.on(PATH, echo)
    cell = {"cell_type": "code", "source": "%%chat\nfrom inside", "metadata": {}, "outputs": []}
    book = {"cells": [cell | {"execution_count": None}], "metadata": {}, "nbformat": 4}
    (tmp_path / "b.ipynb").write_text(json.dumps(book | {"nbformat_minor": 4}))
    ran = kernel.run(f"%run '{tmp_path / 'b.ipynb'}'")
    assert "You said: from inside" in ran.shown(), ran


def test_without_autoawait_it_is_answered_too(shared):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run("%autoawait False")
    ran = kernel.run("%%chat\nHello you")
    kernel.run("%autoawait True")
    assert "You said: Hello you" in ran.shown(), ran.error


@pytest.mark.parametrize(
    "prompt",
    [
        "What is {x} and $HOME and %d and !ls and {{",
        "is it so?",
        "really??",
        "  indented\n\n    more\n",
        "quotes \" and ' and `ticks`",
        "ünïcödé ✓ 😀",
        '{"a": {"b": 1}}',
    ],
)
def test_a_prompt_is_sent_as_it_is_written(shared, prompt):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    ran = kernel.run(f"%%chat\n{prompt}")
    assert ran.status == "ok", ran.error
    assert sent(service)[-1]["content"] == prompt.strip("\n")


@pytest.mark.parametrize("line", ["what is df?", "why??", "it's what?", "2 {braces} $HOME?"])
def test_a_line_is_sent_as_it_is_written(shared, line):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    for way in (f"%chat {line}", f"y = %chat {line}"):
        ran = kernel.run(way)
        assert ran.status == "ok", ran.error
        assert sent(service)[-1]["content"] == line


def test_expressions_are_expanded_and_raw_leaves_them(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    kernel.run("a = 41")
    kernel.run("%%chat\n{{a + 1}} and {{ {'k': 'v'}['k'] }}")
    assert sent(service)[-1]["content"] == "42 and v"
    kernel.run("%%chat --raw\n{{a + 1}}")
    assert sent(service)[-1]["content"] == "{{a + 1}}"


def test_flags_may_be_quoted_and_expressions(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    kernel.run("name = 'openai:other'")
    ran = kernel.run("%%chat --model={{name}} -s 'Be very short.' --option stop='[\"x\"]'\nhi")
    assert ran.status == "ok", ran.error
    body = service.asked(PATH)[-1].json
    assert body["model"] == "other"
    assert body["stop"] == ["x"]
    assert sent(service)[0] == {"role": "system", "content": "Be very short."}


# -- errors


BAD = {
    "an unknown flag": ("%chat --modle x hi", "no flag --modle. Did you mean --model?"),
    "a flag without its value": ("%chat --model", "needs a value"),
    "a bad number": ("%chat --temperature hot hi", "temperature"),
    "words on a cell's line": ("%%chat explain\nthis", "flags only"),
    "an unknown model": ("%chat -m FrontendAgent hi", "Did you mean FrontEndAgent"),
    "an unknown provider": ("%chat -m opnai:x hi", "no model 'opnai:x'"),
    "an expression that fails": ("%chat {{nothing_here}}", "--raw"),
    "a variable that is not there": ("%chat --with nothing_here hi", "nothing_here"),
    "a file that is not there": ("%chat --file no/such/file hi", "no/such/file"),
    "an image that is none": ("%chat --image not_an_image hi", "not_an_image"),
    "an empty prompt": ("%chat", "empty"),
    "an empty cell": ("%%chat\n\n", "empty"),
    "a bad variable": ("%chat --to 1x hi", "name of a variable"),
    "a bad option": ("%chat --option 5 hi", "NAME=VALUE"),
    "a dead service": ("%chat --option base_url=http://127.0.0.1:9 hi", "No connection to 127"),
    "a turn that is not there": ("%chat_history --drop 99", "no turn 99"),
    "an unknown conversation": ("%chat_history nonsense", "no conversation 'nonsense'"),
    "an unknown conversation to drop from": ("%chat_undo nonsense", "no conversation 'nonsense'"),
    "no model named": ("%chat_use", "needs a model"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_a_failed_cell_and_one_to_five_lines(shared, what):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    asked = len(service.requests)
    cell, says = BAD[what]
    ran = kernel.run(cell)
    assert ran.status == "error"
    assert says in ran.error
    assert 1 <= len(ran.error.splitlines()) <= 5
    assert "Traceback" not in ran.error
    assert len(service.requests) == asked


def test_a_refusal_of_the_service_is_a_failed_cell(shared):
    kernel, service = shared
    service.on(PATH, answer(b'{"error": {"message": "bad key"}}', status=401))
    ran = kernel.run("%chat hi")
    assert ran.status == "error"
    assert ran.error.startswith("AuthenticationError: 127.0.0.1")
    assert "bad key" in ran.error


def test_an_answer_that_breaks_off_stays_in_the_cell_and_the_cell_fails(shared):
    kernel, service = shared
    service.on(PATH, [head(), chunk(OPENAI.text("so far so good")), "fin"])
    ran = kernel.run("%chat hi")
    assert ran.status == "error"
    assert "so far so good" in ran.shown()
    assert "Broken off" in ran.shown("text/html")


def test_a_prompt_of_five_megabytes_is_sent(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    ran = kernel.run("%%chat --no-history --large\n{{'x' * 5_000_000}}")
    assert ran.status == "ok", ran.error
    assert len(sent(service)[-1]["content"]) == 5_000_000


# -- the reply


def test_the_reply_is_in_out_and_underscore_and_shown_once(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    ran = notebook.run("%%chat\nhi")
    assert ran.shown() == "Hello"
    assert len([o for o in ran.outputs if o["data"].get("text/plain")]) == 1
    assert notebook.value("[_.text, str(Out[max(Out)]), type(_).__name__]") == ["Hello"] * 2 + [
        "Reply"
    ]
    assert "Hello" in notebook.run("Out[max(Out)]").shown()


def test_the_reply_goes_to_a_variable(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    notebook.run("%%chat --to first\nhi")
    notebook.run("second = %chat hi")
    assert notebook.value("[first.text, second.text]") == ["Hello", "Hello"]


def test_what_it_cost_stands_below_the_answer_and_in_the_metadata_and_not_in_its_text(
    notebook, service
):
    usage = sse('{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}')
    service.on(PATH, answer(completion({"content": "Hello"}, "stop"), usage, sse("[DONE]")))
    [output] = [o for o in notebook.run("%chat hi").outputs if o["data"].get("text/plain")]
    about = output["metadata"]["ipychat"]
    assert about["model"] == "openai:m"
    assert (about["usage"]["input"], about["usage"]["output"]) == (7, 5)
    assert "7 tokens in, 5 out" in output["data"]["text/html"]
    assert "tokens" not in output["data"]["text/plain"]


def test_headless_shows_the_finished_answer_once(notebook, service):
    service.on(PATH, OPENAI.whole("Hel", "lo"))
    ran = notebook.run("%%chat\nhi", watched=False)
    [output] = ran.outputs
    assert output["data"]["text/plain"] == "Hello"
    assert not [m for m in ran.messages if m["msg_type"] == "update_display_data"]


def test_a_header_says_who_answers_only_where_it_is_not_what_was_written(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    notebook.run("%config IPyChat.aliases = {'fast': 'openai:quick'}")
    assert notebook.run("%chat -m fast hi").shown("text/html").count("openai:quick") == 2
    for written in ("openai:m", "m"):
        notebook.run("%config IPyChat.aliases = {'m': 'openai:m'}")
        shown = notebook.run(f"%chat -m {written} hi").shown("text/html")
        assert shown.count("openai:m") == 1, "in the line below it alone"


def test_how_it_ended_is_shown_if_not_normally(notebook, service):
    service.on(PATH, OPENAI.whole("Hel"), answer(*OPENAI.pieces("Hel", reason="length")))
    assert "limit" not in notebook.run("%chat hi").shown("text/html")
    assert "reached its limit" in notebook.run("%chat hi").shown("text/html")


def test_code_goes_into_the_next_cell_once(notebook, service):
    service.on(PATH, OPENAI.whole("Do this:\n\n```python\nprint(1)\n```\n\nDone."))
    ran = notebook.run("%%chat --format code\nhi")
    assert ran.next_input == "print(1)"
    assert "python" in ran.shown("text/html")
    assert notebook.run("1").next_input is None


OFFERED = {
    "the last block that parses": ("```python\na = 1\n```\n```py\nb = 2\n```", "b = 2"),
    "with magics and the shell": ("```python\n%time x = 1\n!ls\n```", "%time x = 1\n!ls"),
    "awaiting": ("```python\nawait f()\n```", "await f()"),
    "not what is broken": ("```python\na = 1\n```\n```python\n→ 1 1/0\n```", "a = 1"),
    "not the output": ("```python\na = 1\n```\n```\n3\n```\n```json\n{}\n```", "a = 1"),
    "without a language": ("```\n1/0 fails →\n```\n```\nx = 2\n```\nDone", "x = 2"),
    "not the shell's beside Python": ("```python\na = 1\n```\n```bash\npip list\n```", "a = 1"),
    "the shell's alone": ("```bash\npip list\n```", "%%bash\npip list"),
    "a session's commands": ("```console\n$ echo a\na\n$ ls\n```", "%%bash\necho a\nls"),
}
"""Answers, and what of them goes into the next cell."""


@pytest.mark.parametrize("what", OFFERED)
def test_only_code_that_can_run_goes_into_the_next_cell(shared, what):
    kernel, service = shared
    text, wanted = OFFERED[what]
    service.on(PATH, OPENAI.whole(text))
    ran = kernel.run("%%chat --no-history --format code\nhi")
    assert ran.next_input == wanted
    assert not ran.stdout


def test_it_says_so_where_no_code_goes_into_the_next_cell(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("```sql\nselect 1\n```\n```\nno code here\n```"))
    ran = kernel.run("%%chat --no-history --format code\nhi")
    assert ran.next_input is None
    assert ran.stdout == "No cell was added: the answer has no Python code that parses.\n"


@pytest.mark.parametrize("model", ["helper:notebook", "robocoders:GeneralCodingAgent"])
def test_nothing_of_the_helper_goes_into_the_next_cell(shared, model):
    kernel, _ = shared
    kernel.run("%config IPyChat.model = 'helper:notebook'")  # also who is behind the gateway
    kernel.run("1/0")
    ran = kernel.run(f"%chat_fix -m {model}")
    assert ran.status == "ok", ran.error
    assert ran.next_input is None
    assert "the built-in helper writes no code" in ran.stdout
    kernel.run("%config IPyChat.model = None")


def test_json_is_parsed_and_shown_and_anything_else_fails(notebook, service):
    service.on(PATH, OPENAI.whole('```json\n{"b":1}\n```'), OPENAI.whole("not json"))
    assert notebook.run("%%chat -f json\nhi").shown() == '{\n  "b": 1\n}'
    ran = notebook.run("%%chat -f json\nhi")
    assert ran.status == "error"
    assert "not json" in ran.shown()


def test_hostile_answers_are_shown_inert(notebook, service):
    payload = "<script>alert(1)</script><img src=x onerror=alert(1)> [x](javascript:alert(1))"
    service.on(PATH, OPENAI.whole(payload))
    for form in ("markdown", "text", "code", "html"):
        html = notebook.run(f"%%chat -f {form}\nhi").shown("text/html")
        assert "<script" not in html
        assert "<img" not in html
        assert 'href="javascript' not in html


def test_a_dry_run_shows_everything_and_sends_nothing(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    notebook.run("%chat first question")
    asked = len(service.requests)
    notebook.run("key = 'sk-a-key-of-the-tests'; d = {'a': 1}")
    ran = notebook.run("%%chat --dry-run --with d --temperature 0.5\nuse {{key}}")
    assert ran.status == "ok", ran.error
    for said in (
        "first question",
        "Hello",
        "use •••",
        "openai:m",
        "127.0.0.1",
        "0.5",
        "d:",
        "about",
    ):
        assert said in ran.shown(), said
    assert "sk-a-key" not in ran.shown()
    assert len(service.requests) == asked
    notebook.run("%chat next")
    assert len(sent(service)) == 3, "a dry run leaves no turn"


# -- what goes along


def test_values_cells_files_and_images_go_along(notebook, service, tmp_path):
    service.on(PATH, OPENAI.whole("ok"))
    (tmp_path / "notes.txt").write_text("remember the milk")
    (tmp_path / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 20)
    notebook.run("table = {'one': 1}\ntable['one']")
    ran = notebook.run(
        "%%chat --with table --cells 1 --file notes.txt --image dot.png --no-history\nSee?"
    )
    assert ran.status == "ok", ran.error
    parts = sent(service)[-1]["content"]
    texts = "\n".join(part.get("text", "") for part in parts)
    for said in ("table: dict", "table['one']", "remember the milk", "See?"):
        assert said in texts, said
    [image] = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert image.startswith("data:image/png")


# -- interrupts


@pytest.mark.parametrize("way", ["%%chat\nhi", "%%time\n%chat hi"])
def test_an_interrupt_of_a_stalled_answer_lands_at_once_and_keeps_it(notebook, service, way):
    service.on(PATH, stalled("so far"))
    fails = way.startswith("%%chat") or notebook.fails_under_time()
    for attempt in range(2):
        running = notebook.send(way)
        cell = notebook.cells[running]
        notebook.wait_for(lambda cell=cell: "so far" in cell.shown("text/html"))
        begin = time.monotonic()
        notebook.interrupt()
        ran = notebook.wait(running)
        assert time.monotonic() - begin < 2
        assert ran.status == ("error" if fails else "ok")
        assert ran.error == "InterruptedAnswerError: Interrupted; what came is kept."
        assert "so far" in ran.shown()
        assert "Stopped" not in ran.shown("text/html"), "the error says it"
        assert service.asked(PATH)[attempt].gone.wait(2)
    service.on(PATH, OPENAI.whole("ok"))
    assert notebook.run("%chat go on").status == "ok"
    assert [m["content"] for m in sent(service)][1] == "so far"


def test_run_all_stops_at_an_interrupt(notebook, service):
    service.on(PATH, stalled("so far"))
    first, second = notebook.send("%%chat\nhi"), notebook.send("print('never')")
    notebook.wait_for(lambda: len(service.asked(PATH)) == 1)
    notebook.interrupt()
    assert notebook.wait(first).status == "error"
    assert notebook.wait(second).status == "aborted"


def test_a_timeout_of_the_users_own_is_not_swallowed(notebook, service):
    service.on(PATH, stalled("so far"))
    ran = notebook.run(
        "import asyncio\nasync def f():\n    %chat hi\n"
        "try:\n    await asyncio.wait_for(f(), 4)\nexcept TimeoutError:\n    print('in time')"
    )
    assert "in time" in ran.stdout, ran.error
    assert "so far" in ran.shown()


# -- in the background


def test_a_background_answer_returns_at_once_and_goes_on_in_its_own_cell(notebook, service):
    service.on(PATH, [head(), chunk(OPENAI.text("one ")), 0.6, chunk(OPENAI.text("two")), chunk(OPENAI.finish()), b"0\r\n\r\n"])  # fmt: skip
    started = notebook.send("job = %chat --background hi")
    ran = notebook.wait(started)
    assert ran.status == "ok", ran.error
    other = notebook.run("print(1 + 1)")
    assert "two" not in ran.shown()
    assert notebook.run("reply = await job\nprint(reply.text)").stdout == "one two\n"
    notebook.wait_for(lambda: "one two" in ran.shown())
    assert not other.shown()
    assert "chat job 1: done" in notebook.run("%chat_jobs").shown()


@pytest.mark.parametrize("end", ["done", "stopped", "failed"])
def test_the_cell_of_a_background_answer_says_how_it_stands_to_its_end(notebook, service, end):
    go = threading.Event()

    def script(_):
        if end == "failed":
            while not go.is_set():
                yield 0.02
            yield from answer(b'{"error": "no such luck"}', status=400)
            return
        yield head()
        yield chunk(OPENAI.text("so far"))
        while not go.is_set():
            yield 0.02
        yield chunk(OPENAI.finish())
        yield b"0\r\n\r\n"

    service.on(PATH, script)
    began = notebook.run("%%chat --background\nhi")
    assert "chat job 1: running - hi" in began.shown()
    shown = notebook.run("job = _\njob")
    assert shown.shown() == "chat job 1: running - hi"
    in_a_variable = notebook.run("in_a_variable = %chat -b hi\nin_a_variable.stop()")
    assert in_a_variable.shown() in {"", "Stopped before any answer."}, "its answer, and no job"
    if end == "stopped":
        notebook.run("job.stop()")
    go.set()
    for ran in (began, shown):
        notebook.wait_for(lambda ran=ran: f"chat job 1: {end} - hi" in ran.shown())
        assert "running" not in ran.shown()
    assert notebook.run("job").shown() == f"chat job 1: {end} - hi"


def test_a_background_answer_is_stopped(notebook, service):
    service.on(PATH, stalled("so far"))
    ran = notebook.run("%%chat --background\nhi")
    notebook.wait_for(lambda: "so far" in ran.shown("text/html"))
    notebook.run("%chat_stop 1")
    assert service.asked(PATH)[0].gone.wait(2)
    notebook.wait_for(lambda: "Stopped" in ran.shown("text/html"))
    assert "chat job 1: stopped" in notebook.run("%chat_jobs").shown()


def test_an_error_in_the_background_shows_in_the_jobs_cell(notebook, service):
    service.on(PATH, answer(b'{"error": "no such luck"}', status=400))
    ran = notebook.run("%%chat --background\nhi")
    notebook.wait_for(lambda: "no such luck" in ran.shown("text/html"))
    assert notebook.run("%chat_jobs wait").status == "ok"
    assert notebook.run("await _[0]").status == "error"


# -- the conversation


def test_a_cell_that_runs_again_replaces_its_turn_and_sees_only_what_stood_before(
    notebook, service
):
    service.on(PATH, echo)
    for cell in ("one", "two", "three"):
        notebook.run(f"%chat {cell}", cell=cell)
    ran = notebook.run("%chat two again", cell="two")
    assert [m["content"].strip() for m in sent(service)] == ["one", "You said: one", "two again"]
    assert "1 later turn is stale" in ran.shown("text/html")
    notebook.run("%chat four", cell="four")
    asked = [m["content"].strip() for m in sent(service) if m["role"] == "user"]
    assert asked == ["one", "two again", "three", "four"]


def test_several_calls_in_a_cell_are_several_turns(notebook, service):
    service.on(PATH, echo)
    for _ in range(2):
        notebook.run("%chat one\n%chat two", cell="a")
    notebook.run("%chat three", cell="b")
    asked = [m["content"].strip() for m in sent(service) if m["role"] == "user"]
    assert asked == ["one", "two", "three"]


def test_the_next_kernel_of_the_notebook_goes_on_and_says_so(kernel, service):
    service.on(PATH, echo)
    kernel().run("%chat remember me")
    second = kernel()
    ran = second.run("%chat go on")
    assert sent(service)[0]["content"] == "remember me"
    assert "continues 1 turn; %chat_new starts clean" in ran.shown("text/html")
    assert "continues" not in second.run("%chat more").shown("text/html")
    second.run("%chat_new")
    second.run("%chat fresh")
    assert len(sent(service)) == 1


def test_no_history_neither_reads_nor_writes(notebook, service):
    service.on(PATH, echo)
    notebook.run("%chat one")
    notebook.run("%chat --no-history two")
    assert len(sent(service)) == 1
    notebook.run("%chat three")
    assert [m["content"].strip() for m in sent(service)] == ["one", "You said: one", "three"]


def test_conversations_have_names_and_can_be_shown_forked_undone_and_exported(
    notebook, service, tmp_path
):
    service.on(PATH, echo)
    notebook.run("%chat -c work one")
    notebook.run("%chat two")
    assert len(sent(service)) == 1
    assert "one" in notebook.run("%chat_history work").shown()
    notebook.run("%chat_fork other")
    notebook.run("%chat_undo")
    notebook.run("%chat three")
    assert len(sent(service)) == 1
    notebook.run("%chat -c other four")
    assert sent(service)[0]["content"] == "two"
    notebook.run("%chat_history other --export talk.md")
    assert "You said: four" in (tmp_path / "talk.md").read_text()


def test_a_python_call_can_take_part_in_a_conversation(notebook, service):
    service.on(PATH, echo)
    notebook.run("import ipychat\nawait ipychat.ask('one', chat='work')")
    notebook.run("%chat -c work two")
    assert [m["content"].strip() for m in sent(service)] == ["one", "You said: one", "two"]
    notebook.run("await ipychat.ask('alone')")
    assert len(sent(service)) == 1


# -- fixing, completion, models, configuration


def test_fix_explains_the_last_error_and_puts_a_corrected_cell_below(notebook, service):
    service.on(PATH, OPENAI.whole("A typo.\n\n```python\nprint(value)\n```"))
    assert "no cell has failed" in notebook.run("%chat_fix").error
    notebook.run("value = 7")
    notebook.run("print(valeu + value)")
    ran = notebook.run("%chat_fix")
    assert ran.status == "ok", ran.error
    prompt = sent(service)[-1]["content"]
    assert "print(valeu + value)" in prompt
    assert "NameError" in prompt
    assert "^" not in prompt, "each Python underlines something else"
    assert "value: int" in prompt
    assert ran.next_input == "print(value)"


def test_an_answer_that_was_cut_off_says_how_to_go_on_and_does(notebook, service):
    service.on(PATH, [head(), chunk(OPENAI.text("one two")), chunk(OPENAI.finish("length")), END])
    assert "%chat_continue goes on" in notebook.run("%chat count").shown("text/html")
    service.on(PATH, OPENAI.whole("three"))
    assert notebook.run("%chat_continue").shown() == "three"
    assert [one["role"] for one in sent(service)] == ["user", "assistant", "user"]
    assert sent(service)[-1]["content"].startswith("Your answer was cut off")
    assert "nothing to continue" in notebook.run("%chat_continue").error


def test_a_conversation_has_a_title_is_found_and_becomes_a_page(notebook, service, tmp_path):
    service.on(PATH, OPENAI.whole("A **parrot** is a bird."))
    notebook.run("%chat What is a parrot?")
    assert "default: What is a parrot?" in notebook.run("%chat_history").shown()
    assert notebook.run("%chat_history --title 'On birds'").stdout.endswith("now: On birds\n")
    shown = notebook.run("%chat_history --search 'bird parrot'").shown()
    assert "What is a parrot? … A **parrot**" in shown
    assert "No turn" in notebook.run("%chat_history --search lizard").stdout
    notebook.run(f"%chat_history --export {tmp_path}/birds.html")
    assert "<h1>On birds</h1>" in (tmp_path / "birds.html").read_text()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("%%chat --mod", "--model"),
        ("%chat --model Front", "FrontEndAgent"),
        ("%chat -m robocoders:Fr", "robocoders:FrontEndAgent"),
        ("%chat -m sonnet55", "anthropic:claude-sonnet-5-5"),
        ("%chat --format js", "json"),
        ("%chat --with some_v", "some_variable"),
        ("%chat what's {{some_v", "{{some_variable"),
        ("%chat what is {{len(some_v", "{{len(some_variable"),
        ("%%chat\nWhat's in {{some_v", "{{some_variable"),
        ("%%chat\nWhat is {{some_variable.re", "{{some_variable.real"),
        ("%chat_login anth", "anthropic"),
        ("x = %chat -t some_v", "some_variable"),
        ("%chat --chat wo", "work"),
        ("%chat --file subf", "subfolder/"),
        ("%chat_use Front", "FrontEndAgent"),
        ("%chat_history --exp", "--export"),
    ],
)
def test_completion_on_the_magics_line(shared, line, wanted, tmp_path):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    (tmp_path / "subfolder").mkdir()
    kernel.run(f"some_variable = 1\n%cd -q {tmp_path}")
    kernel.run("%chat -c work hi")
    reply = kernel.client.complete(line, len(line), reply=True, timeout=20)["content"]
    completed = [line[: reply["cursor_start"]] + match for match in reply["matches"]]
    assert "lambda" not in reply["matches"]
    assert line.rpartition(" ")[0] + " " + wanted in completed


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("%chat --model ", "model"),
        ("%%chat --", "flag"),
        ("%chat --with ", "variable"),
        ("%chat_history ", "conversation"),
        ("%chat_login ", "service"),
    ],
)
def test_what_completes_says_of_what_kind_it_is(shared, line, kind):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("ok"))
    kernel.run("some_variable = 1\n%chat -c work hi")
    reply = kernel.client.complete(line, len(line), reply=True, timeout=20)["content"]
    found = reply["metadata"]["_jupyter_types_experimental"]
    assert {one["type"] for one in found} == {kind}


def test_models_complete_in_the_order_of_every_list(shared):
    kernel, _ = shared
    line = "%chat -m "
    found = kernel.client.complete(line, len(line), reply=True, timeout=20)["content"]["matches"]
    assert found[0] == "openai:m", "the one that answers"
    assert found[-1].startswith("robocoders:"), "which is emulated"
    assert found.index("helper:notebook") < found.index("anthropic:claude-sonnet-5-5")


def test_login_completes_to_providers_that_take_a_key(shared):
    kernel, _ = shared
    line = "%chat_login "
    found = kernel.client.complete(line, len(line), reply=True, timeout=20)["content"]["matches"]
    assert {"anthropic", "openai", "groq", "ollama"} <= set(found)
    assert not {"koala", "helper", "lambda", "import"} & set(found)


def test_it_says_so_where_there_is_nothing_to_stop_or_to_show(notebook, service):
    assert notebook.run("%chat_stop").stdout == (
        "Nothing to stop: no background answer is running.\n"
    )
    assert notebook.run("%chat_history").stdout == "Conversation default is empty.\n"
    service.on(PATH, OPENAI.whole("Hello"))
    notebook.run("%chat -b hi\n")
    notebook.run("%chat_jobs wait")
    assert notebook.run("%chat_stop 1").stdout == "Nothing to stop: it has ended already.\n"


def test_models_use_and_setup(notebook, service):
    service.on(PATH, OPENAI.whole("ok"))
    assert re.search(
        r"robocoders:GeneralCodingAgent, 2 more +emulated by openai:m$",
        notebook.run("%chat_models").shown(),
    )
    shown = notebook.run("%chat_models front").shown()
    assert "FrontEndAgent" in shown
    assert "koala" not in shown
    assert "No model matches" in notebook.run("%chat_models nonsense").error
    setup = notebook.run("%chat_setup").shown()
    assert "set by IPYCHAT_MODEL" in setup
    assert "OPENAI_API_KEY" in setup
    assert "sk-a-key" not in setup
    notebook.run("%chat_use openai:mine")
    notebook.run("%chat hi")
    assert service.asked(PATH)[-1].json["model"] == "mine"
    assert "%chat_use" in notebook.run("%chat_setup").shown()


def test_a_flag_comes_before_config_before_the_environment(notebook, service):
    service.on(PATH, OPENAI.whole("ok"))
    notebook.run("%chat hi")
    notebook.run("%config IPyChat.model = 'openai:configured'")
    notebook.run("%chat hi")
    notebook.run("%chat --model openai:flag hi")
    assert [r.json["model"] for r in service.asked(PATH)] == ["m", "configured", "flag"]
    assert "idle_timeout" in notebook.run("%config IPyChat").stdout


def test_help_begins_with_examples_and_has_the_flags_in_groups(notebook):
    text = notebook.run("%%chat?").reply["payload"][0]["data"]["text/plain"]
    wanted = ["%%chat\n", "%chat --with df", "%%chat -m", "What goes along:\n", "--with NAME",
              "The answer:\n", "--background", "How it is sent:\n", "--dry-run"]  # fmt: skip
    places = [text.index(one) for one in wanted]
    assert places == sorted(places)
    example = re.search(r"%%chat -m .*", text)[0]
    assert notebook.run(f"{example} --dry-run\nWhat?").status == "ok"


# -- loading


HOOKS = """
ip = get_ipython()
def hooks():
    magics = ip.magics_manager.magics
    return [
        sorted(n for kind in magics.values() for n in kind if n.startswith("chat")),
        len(ip.input_transformers_post),
        len(ip.input_transformer_manager.token_transformers),
        len(ip.events.callbacks["pre_run_cell"]),
        len(ip.configurables),
        len(ip.Completer.custom_matchers),
        sorted(map(str, ip.display_formatter.ipython_display_formatter.deferred_printers)),
        sorted(n for n in vars(ip) if "ipychat" in n),
        sorted(n for n in ip.magics_manager.registry if "Chat" in n),
    ]
"""


def test_loading_and_unloading_in_any_order_leaves_no_hook_behind(kernel, service):
    service.on(PATH, OPENAI.whole("ok"))
    notebook = kernel()
    notebook.run("%unload_ext ipychat")
    notebook.run(HOOKS)
    before = notebook.value("hooks()")
    assert before[0] == []
    for step in ("%reload_ext", "%load_ext", "%reload_ext", "%reload_ext", "%load_ext"):
        assert notebook.run(f"{step} ipychat").status == "ok"
        assert notebook.run("%chat hi").status == "ok"
    assert notebook.run("%unload_ext ipychat").status == "ok"
    assert notebook.value("hooks()") == before
    assert "not found" in notebook.run("%chat hi").stdout + notebook.run("%chat hi").error


def test_loading_imports_nothing_heavy(kernel):
    notebook = kernel()
    heavy = [
        "aiohttp",
        "bs4",
        "ipywidgets",
        "anywidget",
        "filelock",
        "nest_asyncio2",
        "markdown_it",
    ]
    loaded = notebook.value(f"[m for m in {heavy} if m in __import__('sys').modules]")
    assert set(loaded) <= {"nest_asyncio2"}, "which ipykernel itself imports"


def test_a_queue_of_ten_cells_runs_to_its_end(notebook, service):
    service.on(PATH, echo)
    cells = ["%%time\n%chat hi", "print('plain')", "%%chat\nhi", "%%time\n%%chat\nhi", "1 + 1"] * 2
    queued = [notebook.send(cell) for cell in cells]
    assert [notebook.wait(one).status for one in queued] == ["ok"] * 10


def test_loading_and_asking_in_one_cell(kernel, service):
    service.on(PATH, echo)
    notebook = kernel()
    notebook.run("%unload_ext ipychat")
    ran = notebook.run("%load_ext ipychat\n%chat Hello you")
    assert "You said: Hello you" in ran.shown(), ran.error
    assert "You said: again" in notebook.run("%chat again").shown()


def test_loaded_by_configuration(generation, service, monkeypatch, tmp_path):
    service.on(PATH, echo)
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(
        "c.InteractiveShellApp.extensions = ['ipychat']\n"
        "c.IPyChat.model = 'openai:configured'\n"
        "c.IPyChat.system = 'Be short.'\n"
        f"c.IPyChat.urls = {{'openai': {service.url!r}}}\n"
        "c.IPyChat.format = 'text'\n"
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = Kernel(generation)
    try:
        ran = notebook.run("%chat **Hello**")
        assert ran.status == "ok", ran.error
        assert sent(service)[0] == {"role": "system", "content": "Be short."}
        assert service.asked(PATH)[0].json["model"] == "configured"
        assert "**Hello**" in ran.shown("text/html"), "shown as text"
    finally:
        notebook.close()


def test_keeping_nothing_writes_nothing(notebook, service, home):
    service.on(PATH, echo)
    notebook.run("%config IPyChat.keep = False")
    notebook.run("%chat one")
    notebook.run("%chat two")
    assert len(sent(service)) == 3
    assert not list(home.rglob("*.jsonl"))


def test_a_history_length_can_be_set(notebook, service):
    service.on(PATH, echo)
    notebook.run("%config IPyChat.history = 1")
    for word in ("one", "two", "three"):
        notebook.run(f"%chat {word}")
    assert [m["content"].strip() for m in sent(service)] == ["two", "You said: two", "three"]


def test_the_notebook_of_vs_code_is_known(generation, service, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    service.on(PATH, echo)
    for word in ("one", "two"):
        notebook = Kernel(generation)
        notebook.run("__vsc_ipynb_file__ = '/somewhere/book.ipynb'\n%load_ext ipychat")
        assert notebook.run(f"%chat {word}").status == "ok"
        notebook.close()
    assert len(sent(service)) == 3


@pytest.mark.parametrize("way", ["%%chat -m {}\nhi", "%%time\n%chat -m {} hi"])
def test_services_that_are_gone_are_served_by_the_notebook_itself(notebook, service, way):
    service.on(PATH, OPENAI.whole("Hello"))
    for model in ("FrontEndAgent", "qwen_coder", "koala:gpt-4o-mini"):
        ran = notebook.run(way.format(model))
        assert ran.status == "ok", ran.error
        assert "Hello" in ran.shown()
        assert "upstream is offline, served here by openai:m" in ran.shown("text/html")
    kept = json.loads((Path(notebook.value("__import__('os').environ['IPYCHAT_HOME']")) / "robocoders.json").read_text())  # fmt: skip
    assert kept["root"] == "gateway"
    assert notebook.run("%unload_ext ipychat").status == "ok"
    from_now = notebook.run("from ipychat.gateway import server\nimport asyncio\nawait asyncio.sleep(0.5)\nprint(server._running)")  # fmt: skip
    assert from_now.stdout.strip() == "{}"


PAGE = "Here it is.\n\n```html\n<h1>Counter</h1><script>evil()</script>\n```\n"


def test_a_page_of_the_front_end_agent_is_previewed(notebook, service):
    service.on(PATH, OPENAI.whole(PAGE))
    shown = notebook.run("%chat -m FrontEndAgent a counter").shown("text/html")
    assert '<iframe sandbox=""' in shown
    assert "default-src &#x27;none&#x27;" in shown
    assert "Here it is." in shown
    plain = notebook.run("%chat -m FrontEndAgent -f markdown a counter").shown("text/html")
    assert "iframe" not in plain


def test_a_page_runs_its_scripts_only_on_request_and_in_nothing_that_is_saved(notebook, service):
    service.on(PATH, OPENAI.whole(PAGE))
    ran = notebook.run("%chat -m FrontEndAgent --run-scripts a counter")
    assert ran.status == "ok", ran.error
    static, live = ran.outputs
    assert '<iframe sandbox=""' in static["data"]["text/html"]
    assert set(live["data"]) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert "allow-scripts" not in json.dumps([output["data"] for output in ran.outputs])
    refused = notebook.run("%chat -f text --run-scripts hi")
    assert "--run-scripts shows pages" in refused.error


def test_an_answer_that_is_no_page_is_shown_as_markdown(notebook, service):
    service.on(PATH, OPENAI.whole("I *can't* do that."))
    shown = notebook.run("%chat -m FrontEndAgent a counter").shown("text/html")
    assert "<em>can't</em>" in shown
    assert "iframe" not in shown


def test_an_interrupt_reaches_through_the_gateway(notebook, service):
    service.on(PATH, stalled("so far"))
    running = notebook.send("%chat -m FrontEndAgent hi")
    cell = notebook.cells[running]
    notebook.wait_for(lambda: "so far" in cell.shown("text/html"))
    notebook.interrupt()
    assert notebook.wait(running).status == "error"
    assert service.asked(PATH)[0].gone.wait(2), "the model is not asked for nothing"


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
def test_without_a_key_the_built_in_helper_answers_and_says_what_it_is(generation, tmp_path, proxy):
    notebook = Kernel(generation | {"IPYCHAT_HOME": str(tmp_path), "HTTP_PROXY": proxy, "ALL_PROXY": proxy})  # fmt: skip
    try:
        notebook.run("%load_ext ipychat\nvalue = 7")
        notebook.run("print(valeu)")
        served = notebook.run("%%chat\nwhat went wrong?")
        assert served.status == "ok", served.error
        assert "no AI model" in served.shown()
        assert "valeu" in served.shown()
        assert "helper:notebook" in served.shown("text/html")
        for model in ("FrontEndAgent", "qwen_coder", "koala:gpt-4o-mini"):
            ran = notebook.run(f"%%chat --model {model}\nexplain the error")
            assert ran.status == "ok", ran.error
            assert "no AI model" in ran.shown()
            assert "valeu" in ran.shown()
            assert "served here by helper:notebook" in ran.shown("text/html")
    finally:
        notebook.close()
