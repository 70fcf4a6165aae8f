"""The magics in a real terminal: IPython under a pseudo-terminal, against a real server."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.acting import COMPLETIONS
from tests.loopback import END, HANG, answer, chunk, head
from tests.protocols import PROTOCOLS, completion, sse

pexpect = pytest.importorskip("pexpect", reason="Windows has no pseudo-terminals")

pytestmark = pytest.mark.kernel

OPENAI = PROTOCOLS[0]
PATH = OPENAI.path
IPYTHON = ["-m", "IPython", "--no-banner", "--no-confirm-exit"]
STYLE = r"(?:\x1b\[[0-9;?]*[A-Za-z])*"
PULSE = r"(?:\r\x1b\[K\x1b\[2m[^\r]*)+\r\x1b\[K"
NOISE = re.compile("Unclosed|never awaited|was destroyed|never retrieved|Traceback|ignored in")
INTERRUPTED = "InterruptedAnswerError: Interrupted; what came is kept."
CODE = 'Do\x1b]0;evil\x07\x1b[2J this:\n\n```python\nprint("x", 1)\n```\n\nDone.\n'


class Terminal:
    """One IPython under a pseudo-terminal; `run` is what a user does at its prompt."""

    def __init__(self, env, *, simple=True):
        args = [*IPYTHON, "--simple-prompt"] if simple else IPYTHON
        self._child = pexpect.spawn(
            sys.executable, args, env=env, encoding="utf-8", timeout=30, dimensions=(40, 160)
        )
        self._child.delaybeforesend = None
        # prompt-toolkit redraws what is typed; the end of its bracketed paste is where output begins
        self._enter, self._output = ("\n", r"\r\n") if simple else ("\r", r"\x1b\[\?2004l")
        self._cell = 0
        self.wait_for_prompt()

    def wait_for(self, pattern):
        self._child.expect(pattern)
        return self._child.before

    def wait_for_prompt(self):
        """Return what came before the next prompt."""
        self._cell += 1
        return self.wait_for(rf"In {STYLE}\[{STYLE}{self._cell}{STYLE}\]: ").replace("\r\n", "\n")

    def begin(self, *lines):
        """Type a cell; what comes from then on is its output."""
        *first, last = lines
        for line in first:
            self._child.send(line + self._enter)
            self.wait_for(r"\.\.\.: ")
        self._child.send(last + self._enter)
        self.wait_for(self._output)

    def run(self, *lines):
        """Type a cell and return what it showed."""
        self.begin(*lines)
        return self.wait_for_prompt()

    def interrupt(self, how):
        if how == "Ctrl-C":
            self._child.send("\x03")
        else:
            os.kill(self._child.pid, signal.SIGINT)

    def exit(self):
        """Leave; return the exit status and what was said last."""
        self.begin("exit")
        said = self.wait_for(pexpect.EOF)
        self._child.close()
        return self._child.exitstatus, said

    def close(self):
        self._child.close(force=True)


@pytest.fixture
def env(service, tmp_path):
    return {
        **os.environ,
        **service.env,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "TERM": "dumb",
    }


@pytest.fixture
def terminal(env):
    made = []

    def start(*, simple=True, **more):
        one = Terminal(env | more, simple=simple)
        made.append(one)
        assert "Error" not in one.run("%load_ext ipychat")
        return one

    yield start
    for one in made:
        one.close()


@pytest.fixture
def shell(terminal):
    return terminal()


@pytest.fixture
def prompt_toolkit(terminal):
    """A shell with IPython's real prompt."""
    return terminal(simple=False, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1")


def echo(received):
    words = f"You said: {question(received)}".split()
    return OPENAI.whole(*re.findall(r"\S+ ?", " ".join(words)))


def question(received):
    return received.json["messages"][-1]["content"].strip()


def sent(service):
    """What was sent last, message by message."""
    return [m["content"].strip() for m in service.asked(PATH)[-1].json["messages"]]


def stalled(*texts):
    return [head(), *(chunk(OPENAI.text(text)) for text in texts), HANG]


def answering(**scripts):
    return lambda received: scripts[received.json["model"]]


def counted(text):
    usage = sse('{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}')
    return answer(OPENAI.text(text), completion(finish="stop"), usage, sse("[DONE]"))


def slow(*texts):
    pieces = [step for text in texts for step in (chunk(OPENAI.text(text)), 0.2)]
    return [head(), *pieces, chunk(OPENAI.finish()), END]


def plainly(shown):
    """What was shown, without styles and what stood there until the first word came."""
    return re.sub(STYLE, "", re.sub(PULSE, "", shown))


def ipython(env, *args, **how):
    """Run IPython with no terminal at all."""
    command = [sys.executable, *IPYTHON, *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, **how)


# -- asking


def test_an_answer_streams_in_and_is_shown_once(shell, service):
    service.on(PATH, stalled("Hello ", "you "))
    shell.begin("%chat hi")
    shell.wait_for("Hello you ")
    shell.interrupt("Ctrl-C")
    shell.wait_for_prompt()
    service.on(PATH, OPENAI.whole("Hello ", "you"))
    assert shell.run("%chat hi") == "Hello you\n\n"
    assert shell.run("type(_).__name__, _.text").endswith("('Reply', 'Hello you')\n\n")
    assert shell.run("Out[3]").endswith("Hello you\n\n")


def test_a_cell_of_lines_is_asked_in_one_go(shell, service):
    service.on(PATH, echo)
    shown = shell.run("%%chat --no-history", "What is {this}?", "  And that?", "", "")
    assert shown == "You said: What is {this}? And that?\n\n"
    assert question(service.asked(PATH)[-1]) == "What is {this}?\n  And that?"


def test_an_assignment_gives_the_reply(shell, service):
    service.on(PATH, OPENAI.whole("Hello"))
    assert shell.run("x = %chat hi") == "Hello\n\n"
    assert shell.run("print(type(x).__name__, x)") == "Reply Hello\n\n"


def test_the_conversation_is_the_same_awaited_and_timed(shell, service):
    service.on(PATH, echo)
    for way in ("%chat one", "%time %chat two", "%chat three"):
        assert "You said:" in shell.run(way)
    assert sent(service) == ["one", "You said: one", "two", "You said: two", "three"]


def test_the_real_prompt_does_it_all_too(prompt_toolkit, service):
    service.on(PATH, echo)
    assert plainly(prompt_toolkit.run("%chat hi")) == "You said: hi\n\n"
    shown = prompt_toolkit.run("%%chat --no-history", "one", "two", "", "")
    assert plainly(shown) == "You said: one two\n\n"
    service.on(PATH, stalled("so far "))
    for _ in range(2):
        prompt_toolkit.begin("%chat hi")
        prompt_toolkit.wait_for("so far ")
        prompt_toolkit.interrupt("Ctrl-C")
        assert plainly(prompt_toolkit.wait_for_prompt()).strip("^C\n") == INTERRUPTED
    service.on(PATH, OPENAI.whole(CODE))
    assert plainly(prompt_toolkit.run("%chat -f code hi")).count("print") == 1
    assert "print" in plainly(prompt_toolkit.wait_for(r"\)"))  # it stands in the next input


# -- how it looks


def test_no_escape_sequence_of_an_answer_reaches_the_terminal(shell, service):
    service.on(PATH, OPENAI.whole(*CODE))
    for form in ("markdown", "text", "code", "json", "html"):
        shown = shell.run(f"%chat -f {form} hi")
        assert "Do]0;evil[2J this" in shown
        assert "\x1b]0;evil" not in shown
        assert "\x1b[2J" not in shown
        assert "\x07" not in shown


def test_code_is_written_once_and_coloured_where_someone_sees_it(terminal, service, env):
    service.on(PATH, OPENAI.whole(*CODE))
    shown = terminal(TERM="xterm").run("%chat -f code hi")
    assert "\x1b[36mprint" in shown
    assert shown.count("print") == 1
    plain = 'Do]0;evil[2J this:\n\n```python\nprint("x", 1)\n```\n\nDone.\n'
    assert plainly(shown) == plain + "\n"
    assert terminal().run("%chat -f code hi") == plain + "\n", "a terminal without colours"
    assert terminal(TERM="xterm", NO_COLOR="1").run("%chat -f code hi") == plain + "\n"
    piped = ipython(env | {"TERM": "xterm"}, "-c", "%load_ext ipychat\n%chat -f code hi")
    assert piped.stdout == plain


def test_markdown_is_styled_where_someone_sees_it(terminal, service):
    service.on(PATH, OPENAI.whole("# A title\n\nSome **bo", "ld** and `code`.\n\n- one\n"))
    xterm = terminal(TERM="xterm")
    shown = xterm.run("%chat hi")
    assert "\x1b[1mbold\x1b[0m" in shown
    assert plainly(shown) == "A title\n\nSome bold and code.\n\n• one\n\n"
    assert plainly(xterm.run("%chat -f text hi")).startswith("# A title")
    assert xterm.run("_.text").count("**bold**") == 1


def test_until_the_first_word_a_line_says_who_is_asked_and_leaves_no_trace(terminal, service):
    service.on(PATH, [head(), 0.5, chunk(OPENAI.text("Hello ")), chunk(OPENAI.finish()), END])
    shown = terminal(TERM="xterm").run("%chat hi")
    assert "openai:m · 0 s · Ctrl-C stops" in shown
    assert shown.endswith("\r\x1b[KHello \n\n")
    service.on(PATH, [head(), HANG])
    one = terminal(TERM="xterm")
    one.begin("%chat hi")
    one.wait_for("openai:m")
    one.interrupt("Ctrl-C")
    last = one.wait_for_prompt().rpartition("\x1b[K")[2]
    assert last.strip("\n") == "InterruptedAnswerError: Interrupted before any answer."


def test_code_that_is_cut_off_is_shown(shell, service):
    service.on(PATH, stalled("Do:\n```python\nprint(1)\nprint(2"))
    shell.begin("%chat -f code hi")
    shell.wait_for("Do:")
    shell.wait_for("python")
    shell.interrupt("Ctrl-C")
    assert "print(1)\nprint(2" in plainly(shell.wait_for_prompt()).replace("^C", "")


def test_json_is_shown_once_and_pretty(shell, service):
    service.on(PATH, OPENAI.whole('{"b":', '"é"}'), OPENAI.whole("no ", "json"))
    assert shell.run("%chat -f json hi") == '{\n  "b": "é"\n}\n\n'
    shown = shell.run("%chat -f json hi")
    assert shown.startswith("no json\nFormatError: The answer is not JSON")


def test_half_a_character_is_no_reason_to_lose_an_answer(shell, service):
    service.on(PATH, OPENAI.whole("a\ud83d b"))
    assert shell.run("%chat hi") == "a\N{REPLACEMENT CHARACTER} b\n\n"


# -- without a terminal


def test_a_command_prints_the_answer_and_succeeds(env, service):
    service.on(PATH, OPENAI.whole("Hel", "lo"))
    done = ipython(env, "-c", "%load_ext ipychat\n%chat hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello\n", "")


@pytest.mark.parametrize("line", ["%chat --modle x hi", "%chat hi"])
def test_a_command_that_fails_says_so_in_one_line(env, service, line):
    service.on(PATH, answer(b'{"error": {"message": "bad key"}}', status=401))
    done = ipython(env, "-c", f"%load_ext ipychat\n{line}")
    assert done.returncode == 1
    assert re.fullmatch(r"\w+Error: .*", done.stdout.strip())
    assert done.stderr == ""


def test_a_piped_session_works(env, service):
    service.on(PATH, echo)
    typed = "%load_ext ipychat\n%chat hi\n%%chat\na cell\n\n\n_.text\n%chat --modle x\n1 + 1\n"
    done = ipython(env, input=typed)
    assert done.returncode == 0
    for said in ("You said: hi\n", "You said: a cell\n", "'You said: a cell'", "--model", "]: 2"):
        assert said in done.stdout, said
    assert done.stdout.count("You said: hi") == 1
    assert not NOISE.search(done.stdout + done.stderr)


# -- several models


def test_a_terminal_writes_the_answers_as_they_end(env, service):
    service.on(
        PATH,
        answering(a=[0.5, *counted("one")], b=answer(b"{}", status=400), c=counted("th\x1b[2Jree")),
    )
    line = "%chat -m openai:a -m openai:b -m openai:c hi"
    done = ipython(env, "-c", f"%load_ext ipychat\n{line}")
    assert (done.returncode, done.stderr) == (0, "")
    heads = re.findall(r"^(\d)\. openai:\w", done.stdout, re.MULTILINE)
    assert heads[-1] == "1"
    assert set(heads) == {"1", "2", "3"}
    assert re.search(r"3\. openai:c · .* s\nth\[2Jree\n7 tokens in, 5 out", done.stdout)
    assert "RequestError: 127.0.0.1" in done.stdout
    assert done.stdout.endswith(
        "The conversation goes on with answer 1; %chat_keep N takes another.\n"
    )


def test_a_terminal_writes_the_first_alone(env, service):
    service.on(PATH, answering(a=stalled("so far"), b=counted("two")))
    done = ipython(env, "-c", "%load_ext ipychat\n%chat --first -m openai:a -m openai:b hi")
    assert done.returncode == 0
    assert "so far" not in done.stdout
    assert "two" in done.stdout
    assert "The first of 2, before openai:a." in done.stdout


def test_an_interrupt_in_a_terminal_writes_what_came(shell, service):
    service.on(PATH, answering(a=[0.5, *counted("whole")], b=stalled("so far")))
    shell.begin("%chat -m openai:a -m openai:b hi")
    shell.wait_for("whole")
    shell.interrupt("Ctrl-C")
    shown = shell.wait_for_prompt()
    for said in ("2. openai:b", "so far", INTERRUPTED):
        assert said in shown, shown
    assert "whole" not in shown, "it stands above already"
    assert shell.run("1 + 1").endswith("2\n\n")


def test_no_way_of_showing_an_answer_sends_its_escape_sequences(shell, service):
    evil = "\x1b]52;c;aGFja2Vk\x07"
    service.on(PATH, OPENAI.whole(f"before {evil}\x9b2J after"))
    shell.run("import ipychat")
    for way in (
        "%chat hi",
        "_",
        "await ipychat.ask('x', chat='c')",
        "reply = await ipychat.ask('x'); reply",
        "[reply]",
        "%chat_history",
        "ipychat.conversation('c').turns",
        "await ipychat.compare('x', ['openai:a', 'openai:b'])",
        "%chat -f json --no-history x",
    ):
        shown = shell.run(way)
        assert "before" in shown or "Reply" in shown or "Turn" in shown, (way, shown)
        assert evil not in shown, way
        assert "\x9b" not in shown, way
    assert evil in shell.run("print(reply)"), "what the user prints is the user's"


# -- interrupts


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGINT"])
@pytest.mark.parametrize("way", ["%chat hi", "%time %chat hi"])
def test_an_interrupt_of_a_stalled_answer_gives_the_prompt_back(shell, service, way, how):
    service.on(PATH, stalled("so ", "far "))
    for attempt in range(3):
        shell.begin(way)
        shell.wait_for("so far ")
        begin = time.monotonic()
        shell.interrupt(how)
        shown = shell.wait_for_prompt()
        took = time.monotonic() - begin
        print(f"{how}, {way}: {took * 1000:.1f} ms to the prompt")
        assert took < 2
        said = [line for line in shown.splitlines() if "time" not in line]
        assert "".join(said).removeprefix("^C") == INTERRUPTED
        assert service.asked(PATH)[attempt].gone.wait(2)
    assert shell.run("1+1").endswith("2\n\n")
    service.on(PATH, echo)
    shell.run("%chat go on")
    assert sent(service)[:2] == ["hi", "so far"]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGINT"])
@pytest.mark.parametrize("way", ["hear()", "asyncio.gather(hear(), ipychat.ask('hi'))"])
def test_an_interrupt_ends_what_a_cell_of_a_terminal_awaits(shell, service, way, how):
    service.on(PATH, stalled("so far"))
    shell.run("import asyncio, ipychat")
    shell.run(
        "async def hear():",
        "    asyncio.create_task(tell(heard := []))",
        "    async for text in ipychat.stream('x'): heard.append(text)",
        "",
    )
    shell.run(
        "async def tell(heard):",
        "    while not heard: await asyncio.sleep(0.01)",
        "    print('it ' + 'came')",
        "",
    )
    for _ in range(2):
        service.requests.clear()
        shell.begin(f"await {way}")
        shell.wait_for("it came")
        begin = time.monotonic()
        shell.interrupt(how)
        shown = shell.wait_for_prompt()
        took = time.monotonic() - begin
        print(f"{how}, {way}: {took * 1000:.1f} ms to the prompt")
        assert took < 2
        assert shown.strip("^C\n ") == INTERRUPTED
        assert all(one.gone.wait(2) for one in service.asked(PATH))
    assert shell.run("1 + 1").endswith("2\n\n")
    shell.run("def for_ever():", "    print('it' + ' runs')", "    while True: pass", "")
    shell.begin("for_ever()")
    shell.wait_for("it runs")
    shell.interrupt(how)
    assert "KeyboardInterrupt" in shell.wait_for_prompt()


# -- in the background


def test_a_background_answer_says_that_it_stands_still_and_can_be_awaited(shell, service):
    service.on(PATH, slow("one ", "two"))
    shown = shell.run("job = %chat --background hi")
    assert shown.splitlines() == [
        "It does not run at the prompt: await it, or use %gui asyncio.",
        "",
    ]
    assert shell.run("reply = await job") == "one two\n\n"
    assert "chat job 1: done" in shell.run("%chat_jobs")


@pytest.mark.parametrize("way", ["await job", "%chat_jobs wait"])
def test_an_interrupt_of_the_wait_for_a_background_answer_leaves_it_running(shell, service, way):
    service.on(PATH, stalled("so ", "far "))
    shell.run("job = %chat --background hi")
    shell.begin(way)
    shell.wait_for("far ")
    begin = time.monotonic()
    shell.interrupt("Ctrl-C")
    shown = shell.wait_for_prompt()
    assert time.monotonic() - begin < 2
    said = "InterruptedAnswerError: Interrupted; the answer goes on: %chat_stop stops it."
    assert shown.strip("^C\n") == said
    assert "running" in shell.run("job.state")
    shell.run("%chat_stop")
    assert "Stopped" in shell.run("reply = await job")
    assert service.asked(PATH)[0].gone.wait(2)


def test_a_background_answer_comes_in_above_the_prompt_with_gui_asyncio(prompt_toolkit, service):
    service.on(PATH, slow("one ", "two\nthree ", "four"))
    prompt_toolkit.run("%gui asyncio")
    assert "does not run at the prompt" not in prompt_toolkit.run("job = %chat --background hi")
    for line in ("one two", "three four"):
        prompt_toolkit.wait_for(line + "\r\n")
    prompt_toolkit.begin("job.state")
    assert "done" in prompt_toolkit.wait_for_prompt()


# -- leaving


def test_unloading_leaves_the_shell_as_it_was(shell, service):
    service.on(PATH, stalled("so far "))
    shell.run("%unload_ext ipychat")
    shell.run("import sys; ip = get_ipython()")
    hooks = (
        "(ip.display_trap.hook is ip.displayhook, sys.displayhook is ip.displayhook, "
        "len(ip.input_transformers_post), sorted(n for n in vars(ip) if 'ipychat' in n))"
    )
    clean = "(True, True, 0, [])"
    assert clean in shell.run(hooks)
    for turn in range(2):
        shell.run("%load_ext ipychat")
        shell.run("job = %chat --background hi")
        while len(service.asked(PATH)) == turn:
            shell.run("import asyncio; await asyncio.sleep(0.05)")
        assert "Stopped" in shell.run("%unload_ext ipychat")
        assert service.asked(PATH)[-1].gone.wait(2)
        assert "stopped" in shell.run("job.state")
        assert clean in shell.run(hooks)
    assert "not found" in shell.run("%chat hi")
    assert shell.run("1 + 1").endswith("2\n\n")


@pytest.mark.parametrize(
    "before",
    [
        [],
        ["%chat hi"],
        ["%time %chat hi"],
        ["job = %chat -b hi"],
        ["job = %chat -b hi", "import asyncio; await asyncio.sleep(0.1)"],
    ],
    ids=" ; ".join,
)
def test_leaving_makes_no_noise(terminal, service, before):
    service.on(PATH, slow("so far ", "and on ", "and on ") if "-b" in str(before) else echo)
    one = terminal(PYTHONWARNINGS="default::ResourceWarning")
    for line in before:
        assert "Error" not in one.run(line)
    status, said = one.exit()
    assert status == 0
    assert not NOISE.search(said), said


def test_a_tool_is_asked_about_by_keys_at_the_prompt(prompt_toolkit, service):
    shell = prompt_toolkit
    service.on(
        COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 2})], [("add", {"a": 3})], "Five.")
    )
    shell.run("add = lambda a: a + 1; add.__annotations__['a'] = int; add.__name__ = 'add'")
    shell.begin("%chat --tools add Do it")
    shell.wait_for("refuse:")
    shell._child.send("y\r")
    shell.wait_for("a=3")
    shell.wait_for("refuse:")
    shell._child.send("n because no\r")
    said = shell.wait_for_prompt()
    assert "Five." in said
    assert "refused: no" in said
    results = COMPLETIONS.results(service.asked(COMPLETIONS.path)[-1].json)
    assert results == ["3", "It was refused: no"]


def test_an_interrupt_at_the_keys_ends_the_answer(prompt_toolkit, service):
    shell = prompt_toolkit
    service.on(COMPLETIONS.path, COMPLETIONS.script([("add", {"a": 2})], "Five."))
    shell.run("add = lambda a: a + 1; add.__name__ = 'add'")
    shell.begin("%chat --tools add Do it")
    shell.wait_for("refuse:")
    shell.interrupt("Ctrl-C")
    assert "InterruptedAnswerError" in shell.wait_for_prompt()
    assert "4" in shell.run("2 + 2")


def test_tools_run_at_a_terminal_as_in_a_notebook(prompt_toolkit, service):
    shell = prompt_toolkit
    rounds = [("kernel__run", {"code": "made = 6 * 7"})], [("kernel__run", {"code": "1 / 0"})]
    mistakes = [("nothing", {})], [("kernel__inspect", {"name": "made"})], "It is 42."
    service.on(COMPLETIONS.path, COMPLETIONS.script(*rounds, *mistakes))
    said = shell.run("%chat --tools kernel --approve all Do it")
    assert "It is 42." in said
    assert "ZeroDivisionError" in said
    assert "42" in shell.run("made")
    results = COMPLETIONS.results(service.asked(COMPLETIONS.path)[-1].json)
    assert "ZeroDivisionError" in results[1]
    assert results[2].startswith("There is no tool nothing.")
    assert "42" in results[3]
