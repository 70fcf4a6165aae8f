"""Tools in a real kernel and at a terminal: asked by a prompt, interrupted like a cell, kept."""

import json
import time

import pytest

from tests.acting import COMPLETIONS, SPEAKERS
from tests.loopback import answer
from tests.watch import Watch, slowness

pytestmark = pytest.mark.kernel

DEFINE = """
import asyncio, time
def add(a: int, b: int = 1) -> int:
    "Add two numbers."
    return a + b
async def slow() -> str:
    "Wait for a moment."
    await asyncio.sleep(0.05)
    return "waited"
def fail() -> None:
    "Fail."
    raise LookupError("nothing there")
def block() -> None:
    "Never end."
    print("blocks", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.fixture
def acting(notebook, service):
    """A notebook with functions, and a function that asks with the model's rounds."""
    notebook.run(DEFINE)

    def ask(*rounds, flags="--no-history --tools add,slow,fail,block", answers=(), **how):
        service.on(COMPLETIONS.path, COMPLETIONS.script(*rounds))
        notebook.answers = [*answers]
        return notebook.run(f"%%chat {flags}\nDo it", **how)

    notebook.ask = ask
    return notebook


def steps(kernel):
    """What became of the calls of the last answer."""
    return kernel.value("[(s.tool, s.decision, s.error, s.text) for s in _.steps]")


def test_each_call_is_asked_about_by_a_prompt(acting):
    ran = acting.ask(
        [("add", {"a": 2, "b": 3})],
        [("add", {"a": 5}), ("slow", {})],
        "It is **5**.",
        answers=["what?", "y", "e", '{"a": "x"}', "e", '{"a": 7}', "n because no"],
    )
    assert ran.status == "ok", ran.error
    shown = ran.outputs[0]["data"]
    assert "add(a=2, b=3) · you allowed it" in shown["text/plain"]
    assert "It is <strong>5</strong>." in shown["text/html"]
    kinds = [one["type"] for one in shown["application/vnd.ipychat.answer+json"]["parts"]]
    assert kinds == ["step", "step", "step", "text"]
    said = steps(acting)
    assert said[0] == ["add", "once", False, "5"]
    assert said[1][:3] == ["add", "edited", False]
    assert said[1][3].endswith("8")
    assert said[2] == ["slow", "refused", True, "It was refused: no"]


def test_what_is_always_allowed_is_not_asked_again_until_it_is_revoked(acting):
    acting.ask([("add", {"a": 1})], "Done", answers=["a"])
    acting.ask([("add", {"a": 2})], "Done")
    assert steps(acting) == [["add", "always", False, "3"]]
    assert acting.run("%chat_approve").stdout.startswith("1. add\n")
    assert acting.run("%chat_approve revoke 1").stdout == "add asks again.\n"
    acting.ask([("add", {"a": 3})], "Done", answers=["n"])
    assert steps(acting)[-1][1] == "refused"


def test_what_was_allowed_holds_for_that_definition_alone(acting):
    acting.ask([("add", {"a": 1})], "Done", answers=["a"])
    acting.run('def add(a: int) -> int:\n    "Delete all."\n    return 0')
    acting.ask([("add", {"a": 2})], "Done", answers=["n"])
    assert steps(acting)[-1][1] == "refused"


def test_where_nobody_can_be_asked_it_is_refused_and_the_run_goes_on(acting):
    ran = acting.ask([("add", {"a": 1})], "Then not.", watched=False)
    assert ran.status == "ok"
    assert "nobody can be asked here" in steps(acting)[0][3]
    assert "Then not." in ran.outputs[0]["data"]["text/plain"]


def test_a_background_answer_asks_at_no_other_cells_prompt(acting):
    acting.ask([("add", {"a": 1})], "Then not.", flags="--no-history -b --tools add")
    acting.answers = ["y"]
    acting.run("job = _")
    acting.run("import asyncio; await asyncio.sleep(1)")  # nobody shows a card meanwhile
    acting.run("reply = await job")
    assert acting.answers == ["y"]
    assert "nobody can be asked here" in acting.value("reply.steps[0].text")


def test_a_tool_may_ask_a_model_whose_tools_are_asked_about(acting, service):
    acting.run(
        "import ipychat\nasync def other() -> str:\n    'Ask another.'\n"
        "    return (await ipychat.ask('inner', model='openai:m', tools=[add])).text"
    )

    def respond(received):
        inner = received.json["messages"][0]["content"] == "inner"
        rounds = [[("add", {"a": 1})], "said"] if inner else [[("other", {})], "Done"]
        return COMPLETIONS.script(*rounds)(received)

    service.on(COMPLETIONS.path, respond)
    acting.answers = ["y", "y"]
    acting.run("%%chat --no-history --tools other\nDo it")
    assert steps(acting) == [["other", "once", False, "said"]]
    assert acting.answers == []


def test_an_interrupt_of_a_thread_says_that_it_had_begun(acting, service):
    acting.run("from ipychat import tool\nforever = tool(name='forever', thread=True)(block)")
    service.on(COMPLETIONS.path, COMPLETIONS.script([("forever", {})], "Done"))
    sent = acting.send("%%chat --no-history --approve all --tools forever\nDo it")
    acting.wait_for(lambda: "blocks" in acting.cells[sent].stdout)
    acting.interrupt()
    assert "while it ran: what it had done" in acting.wait(sent).shown()
    assert acting.run("1 + 1").status == "ok"


def test_the_loop_goes_on_while_the_user_thinks_and_other_cells_queue(acting, service):
    acting.ask([("add", {"a": 1})], "Done", answers=["y"])  # what is imported on use is there
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 1})], "Done"))
    with Watch(acting) as watch:
        sent = acting.send("%%chat --no-history --tools add\nDo it")
        acting.wait_for(acting.client.stdin_channel.msg_ready)
        later = acting.send("queued = True")
        acting.pump(0.5)
        assert not acting.cells[later].idle
        acting.answers = ["y"]
        assert acting.wait(sent).status == "ok"
        assert acting.wait(later).status == "ok"
    assert watch.longest <= 0.010 * slowness(), str(watch)


def test_an_interrupt_ends_a_waiting_prompt_and_keeps_what_came(acting, service):
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 1}), ("add", {"a": 2})], "Done"))
    sent = acting.send("%%chat --tools add\nDo it")
    acting.wait_for(acting.client.stdin_channel.msg_ready)
    begin = time.monotonic()
    acting.interrupt()
    ran = acting.wait(sent)
    took = time.monotonic() - begin
    assert ran.status == "error"
    assert ran.reply["ename"] == "InterruptedAnswerError"
    assert took < 1
    history = acting.run("%chat_history")
    assert history.status == "ok"
    assert acting.value("2 + 2") == 4


def test_a_tool_that_blocks_is_interrupted_like_a_cell(acting, service):
    service.on(COMPLETIONS.path, COMPLETIONS.script([("block", {})], "Done"))
    sent = acting.send("%%chat --tools block --approve all\nDo it")
    acting.wait_for(lambda: "blocks" in acting.cells[sent].stdout)
    begin = time.monotonic()
    acting.interrupt()
    ran = acting.wait(sent)
    assert time.monotonic() - begin < 1
    assert ran.reply["ename"] == "InterruptedAnswerError"
    assert acting.value("2 + 2") == 4


def test_the_kernels_tools_only_read(acting):
    ran = acting.ask(
        [("kernel__variables", {}), ("kernel__inspect", {"name": "add"})],
        [("kernel__documentation", {"name": "add"}), ("kernel__cells", {"n": 2})],
        "Seen.",
        flags="--tools kernel --approve reads",
    )
    assert ran.status == "ok", ran.error
    assert all(decision == "unasked" and not error for _, decision, error, _ in steps(acting))


def test_the_list_of_tools_names_functions_and_the_kernels(acting):
    shown = acting.run("%chat_tools").shown()
    for name in ("add", "kernel.variables"):
        assert name in shown
    assert "Add two numbers." in shown
    assert acting.run("%chat_tools nothing of the kind").status == "error"


def test_a_race_runs_only_tools_that_read(acting, service):
    acting.run(
        "import ipychat\n@ipychat.tool(reads=True)\ndef look() -> str:\n    'Look.'\n    return 'seen'"
    )
    service.on(COMPLETIONS.path, COMPLETIONS.script([("look", {}), ("add", {"a": 1})], "Done"))
    ran = acting.run("%%chat -m openai:m -m openai:n --tools look,add --approve all --to r\nDo it")
    assert ran.status == "ok", ran.error
    said = acting.value("[(s.tool, s.decision) for one in r for s in one.reply.steps]")
    assert said == [["look", "unasked"], ["add", "refused"]] * 2


def test_code_runs_in_the_notebook_and_its_error_and_plot_are_told(acting):
    ran = acting.ask(
        [("kernel__run", {"code": "made = 21 * 2\nprint('now', made)\nmade"})],
        [("kernel__run", {"code": "1 / 0"})],
        [("kernel__run", {"code": "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])"})],
        [("kernel__run", {"code": "%chat_approve"}), ("kernel__run", {"code": "input('Name?')"})],
        "It is 42.",
        flags="--no-history --tools kernel.run --approve all",
    )
    assert ran.status == "ok", ran.error
    said = acting.value("[(s.error, s.text, len(s.result), list(s.made)) for s in _.steps]")
    assert said[0][:2] == [False, "now 42\n42\n"]
    assert said[0][3] == ["made"]
    assert said[1][0]
    assert "ZeroDivisionError" in said[1][1]
    assert acting.value("any(type(p).__name__ == 'ImagePart' for s in _.steps for p in s.result)")
    assert all(error for error, *_ in said[3:])
    assert acting.value("made") == 42
    assert len(ran.outputs) <= 6
    assert all("ZeroDivisionError" not in str(one.get("traceback", "")) for one in ran.outputs)


def test_code_that_blocks_is_interrupted_like_a_cell(acting, service, tmp_path):
    begun = tmp_path / "begun"
    code = {"code": f"print('blocks')\nopen({str(begun)!r}, 'w').close()\nwhile True: pass"}
    service.on(COMPLETIONS.path, COMPLETIONS.script([("kernel__run", code)], "Done"))
    sent = acting.send("%%chat --tools kernel.run --approve all\nDo it")
    acting.wait_for(begun.exists)
    begin = time.monotonic()
    acting.interrupt()
    ran = acting.wait(sent)
    assert time.monotonic() - begin < 1
    assert ran.reply["ename"] == "InterruptedAnswerError"
    shown = acting.run(
        "import ipychat; print(ipychat.conversation().turns[-1].reply.steps[0].text)"
    )
    assert "blocks" in shown.stdout
    assert "interrupted" in shown.stdout


def test_a_proposal_stands_below_and_does_not_run(acting):
    ran = acting.ask(
        [("kernel__propose", {"code": "x = 1"})],
        "Look below.",
        flags="--no-history --tools kernel.propose",
    )
    assert ran.next_input == "x = 1"
    assert "x" not in acting.value("list(globals())")


def test_the_receipt_shows_the_run_with_the_hash_of_each_request(acting, service):
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 1})], [("slow", {})], "Done"))
    assert acting.run("%%chat --tools add,slow --approve all\nDo it").status == "ok"
    shown = acting.run("%chat_receipt").shown()
    lines = [line.split() for line in shown.splitlines() if line.startswith(("├", "└"))]
    assert [line[1] for line in lines] == ["step", "request", "step", "request"]
    assert "add(a=1)" in shown
    hashes = {line[2] for line in lines if line[1] == "request"}
    assert len(hashes) == 2
    assert all(len(one) == 64 for one in hashes)


def test_a_background_answer_opens_no_prompt(acting, service):
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 1})], "Then not."))
    acting.run("%%chat --background --tools add --to r\nDo it")
    acting.run("%chat_jobs wait")
    assert acting.value("[s.decision for s in r.steps]") == ["refused"]
    assert not acting.client.stdin_channel.msg_ready()


def test_a_prompt_says_what_it_asks(acting, service):
    """About a call, a tool in every row, and a server that came with the folder."""
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 1})], "Done"))
    row = json.dumps({"mcpServers": {"theirs": {"command": "no-program", "args": ["${MY_PIN}"]}}})
    acting.run(
        f"import os, tempfile\nos.chdir(tempfile.mkdtemp())\nopen('.mcp.json', 'w').write({row!r})"
    )
    cells = {
        "%%chat --no-history --tools add\nDo it": "The model wants to run add(a=1)\n[y] once, [a] always, [e] edit,",
        "%%chat --each [1] --tools add\n{{it}}": "May the model run add in every row, with any arguments?\n[y] once, [a] always, [n",
        "%chat --no-history --tools mcp:theirs Do it": "Start the MCP server theirs?",
    }
    for cell, asks in cells.items():
        sent = acting.send(cell)
        acting.wait_for(acting.client.stdin_channel.msg_ready)
        prompt = acting.client.stdin_channel.get_msg(timeout=1)["content"]["prompt"]
        acting.client.input("n")
        acting.wait(sent)
        assert prompt.startswith(asks)
    assert "no-program ${MY_PIN}\nIt reads from the environment: MY_PIN" in prompt


def test_a_function_is_found_by_the_name_that_models_know(acting):
    acting.run(
        "import ipychat\n@ipychat.tool(name='sum_of')\ndef total(a: int) -> int:\n    return a"
    )
    acting.ask([("sum_of", {"a": 3})], "Done", flags="--no-history --tools sum_of --approve all")
    assert steps(acting) == [["sum_of", "unasked", False, "3"]]
    assert "sum_of" in acting.run("%chat_tools").shown()


@pytest.mark.parametrize("name", SPEAKERS)
def test_every_protocol_runs_tools_in_a_notebook(acting, service, name):
    """A function, an awaited one, code with an error and a plot, two at once, and two mistakes."""
    speaker = SPEAKERS[name]
    shown = json.dumps({"model_info": {}, "capabilities": ["completion", "tools"]})
    service.on("/api/show", answer(shown.encode(), content_type="application/json"))
    urls = dict.fromkeys(("openai", "anthropic", "gemini", "ollama"), service.url)
    acting.run(f"%config IPyChat.urls = {urls}")
    acting.run(
        "import os; os.environ |= {n: 'sk-a-key-of-the-tests' for n in ('ANTHROPIC_API_KEY', 'GEMINI_API_KEY')}"
    )
    if name == "responses":
        acting.run("%config IPyChat.protocols = {'openai': 'responses'}")
    plot = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n1 / 0"
    rounds = (
        [("add", {"a": 2, "b": 3})],
        [("kernel__run", {"code": plot})],
        [("kernel__variables", {}), ("slow", {})],
        [("add", {"a": "x"}), ("nothing", {})],
        "It is 5.",
    )
    service.on(speaker.path, speaker.script(*rounds))
    flags = f"--no-history --tools add,slow,kernel --approve all -m {speaker.model}"
    ran = acting.run(f"%%chat {flags}\nDo it")
    assert ran.status == "ok", ran.error
    said = steps(acting)
    tools = ["add", "kernel.run", "kernel.variables", "slow", "add", ""]
    assert [tool for tool, *_ in said] == tools
    assert [error for _, _, error, _ in said] == [False, True, False, False, True, True]
    assert "ZeroDivisionError" in said[1][3]
    assert acting.value("any(type(p).__name__ == 'ImagePart' for p in _.steps[1].result)")
    assert "It is 5." in ran.outputs[0]["data"]["text/plain"]
