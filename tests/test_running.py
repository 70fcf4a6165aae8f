"""Code that a model runs in the notebook: what it shows, what it may not do, and how it ends."""

import asyncio
import contextlib
import os
import signal
import statistics
import sys
import threading
from itertools import groupby

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ipychat.chat.question import question
from ipychat.errors import UsageError
from ipychat.messages import ImagePart, TextPart
from ipychat.toolbox import nested, results, running, shown
from ipychat.toolbox.tool import Failed, Ran
from tests.loopback import HANG, chunk, head
from tests.protocols import PROTOCOLS
from tests.test_toolbox import PNG

QUIET = Config({"HistoryManager": {"enabled": False}})  # no file of a test's is open at the end


@pytest.fixture
def shell():
    one = InteractiveShell(config=QUIET)
    one.run_cell("1 + 1", store_history=True)
    one.user_ns["asyncio"] = asyncio
    return one


@pytest.fixture
def run(shell):
    """Calls the tool as a model does; returns what it says, whether the code failed or not."""
    [tool, _] = running.Running(shell).tools()

    async def call(code: str) -> Ran | Failed:
        try:
            return await tool.run(tool.read({"code": code}))
        except Failed as failed:
            return failed

    return call


def text(said: Ran | Failed) -> str:
    assert all(isinstance(part, TextPart) for part in said.parts)
    return "\n".join(part.text for part in said.parts)


def ways_out(shell):
    """What a run diverts."""
    names = ("_showtraceback", "set_next_input", "system", "debugger")
    held = [(shell.display_pub, "publish"), *((shell, name) for name in names)]
    return [
        *(getattr(one, name) for one, name in held),
        *(name in vars(one) for one, name in held),
        *("stand_in" in repr(stream.write) for stream in (sys.stdout, sys.stderr)),
        sys.displayhook, sys.breakpointhook, sys.gettrace(), threading.Thread.start,
        signal.getsignal(signal.SIGINT), input,
        shell.displayhook.exec_result, shell.last_execution_result, os.fstat(1), os.fstat(2),
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def _all_is_put_back(request, capsys):
    """Nothing of a run stays behind, however it ends, and nothing of it is shown here."""
    if "shell" not in request.fixturenames:
        yield
        return
    shell = request.getfixturevalue("shell")
    before = ways_out(shell)
    capsys.readouterr()
    yield
    assert ways_out(shell) == before
    assert nested.current() is None
    assert capsys.readouterr() == ("", "")
    assert shell.user_ns["_"] == 2
    assert shell.user_ns["Out"] == {1: 2}
    assert shell.user_ns["In"] == ["", "1 + 1"]


async def test_what_code_prints_and_its_last_value_come_back_in_order(run):
    said = await run(
        "import sys\nprint('one')\nprint('two', file=sys.stderr)\nsys.stdout.write('three\\n');\n40 + 2"
    )
    assert text(said) == "one\ntwo\nthree\n42\n"


async def test_variables_stay_and_are_named(run, shell):
    said = await run("x = 1\n_hidden = 2\ndef f(): pass")
    assert said.made == ("x", "f")
    assert shell.user_ns["x"] == 1
    assert (await run("x = 1")).made == ()
    assert (await run("x = 2; 1 / 0")).made == ("x",)


async def test_code_that_shows_nothing_says_so(run):
    for code in ("x = 1", "", "3;", "None", "# only a comment"):
        assert text(await run(code)) == "It ran, and showed nothing."
    assert results.parts_of(await run("x = 1")) == (TextPart("It ran, and showed nothing."),)


async def test_a_semicolon_at_the_end_holds_the_value_back(run):
    assert text(await run("print('a'); 3;")) == "a\n"


async def test_await_and_magics_work(run):
    assert text(await run("await asyncio.sleep(0)\nx = await asyncio.sleep(0, 5)\nx")) == "5\n"
    assert "Wall time" in text(await run("%time x = 6"))
    assert "capitalize" in text(await run("!echo capitalize"))
    assert "Docstring" in text(await run("len?"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f():\n    return 1 / 0\nf()", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("  x = 1\n y = 2", "IndentationError"),
        ("%nonsense", "Line magic function `%nonsense` not found"),
        ("raise ExceptionGroup('g', [ValueError('v')])", "ValueError: v"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise asyncio.CancelledError", "CancelledError"),
        ("x = '\\ud800'\nx.encode()", "UnicodeEncodeError"),
        ("x = '\ud800'\nraise ValueError(x)", "ValueError"),
    ],
)
async def test_an_error_is_told_with_a_plain_traceback(run, code, said):
    failed = await run(code)
    assert isinstance(failed, Failed)
    assert said in text(failed)
    assert "\x1b" not in text(failed)
    assert said in str(failed)
    assert "Cell In" not in text(failed), "it has no number"


async def test_an_error_comes_behind_what_was_shown_before(run):
    said = text(await run("print('before')\n1 / 0"))
    assert said.startswith("before\n")
    assert "----> 2 1 / 0" in said


async def test_a_long_traceback_is_cut_in_its_middle(run):
    failed = await run("raise ValueError('x' * 100_000 + 'end')")
    assert len(text(failed)) < shown.MAX_TRACEBACK + 100
    assert text(failed).strip().endswith("end")


@pytest.mark.parametrize("code", ["input()", "from getpass import getpass\ngetpass()"])
async def test_nobody_is_asked(run, code):
    failed = await run(code)
    assert isinstance(failed, Failed)
    assert "Nobody can answer" in text(failed)


async def test_no_debugger_opens(run):
    assert "No debugger was opened" in text(await run("breakpoint()\n3"))
    assert "No debugger was opened" in text(await run("%debug"))


async def test_code_asks_no_model_and_runs_no_tool(run, shell):
    shell.user_ns |= {"question": question, "run": run, "threading": threading}
    for code in (
        "question('hi')",
        "async def ask(): question('hi')\nawait asyncio.create_task(ask())",
        "await asyncio.to_thread(question, 'hi')",
        "raise (await run('1'))",
    ):
        failed = await run(code)
        assert "Code that a model runs can't" in text(failed), code
    code = "t = threading.Thread(target=question, args=['hi'])\nt.start()\nt.join()"
    assert isinstance(
        await run("threading.excepthook = lambda args: errors.append(args.exc_value)"), Ran
    )
    shell.user_ns["errors"] = errors = []
    await run(code)
    threading.excepthook = threading.__excepthook__
    assert isinstance(errors[0], UsageError)


async def test_what_it_leaves_running_asks_no_model_either(run, shell):
    shell.user_ns["question"] = question
    await run("async def later():\n    await asyncio.sleep(0)\n    question('hi')\n"
              "task = asyncio.create_task(later())")  # fmt: skip
    with pytest.raises(UsageError, match="can't ask a model: only the user can"):
        await shell.user_ns["task"]


async def test_functions_that_it_made_are_the_users_afterwards(run, shell):
    shell.user_ns["nested"] = nested
    await run("def look(): return nested.current()")
    assert shell.user_ns["look"]() is None


async def test_endless_output_ends_the_code(run):
    failed = await run(
        "while True:\n    try:\n        print('x' * 1000)\n    except Exception:\n        pass"
    )
    assert isinstance(failed, Failed)
    assert "The code showed more than 1,000,000 characters, and was stopped." in text(failed)
    assert len(text(failed)) < results.MAX_RESULT + 1000


async def test_what_others_show_meanwhile_is_theirs(run, capsys):
    async def other():
        await asyncio.sleep(0.01)
        print("theirs")

    task = asyncio.create_task(other())
    assert text(await run("await asyncio.sleep(0.05)\nprint('its own')")) == "its own\n"
    await task
    assert capsys.readouterr() == ("theirs\n", "")


async def test_threads_and_tasks_of_the_code_are_caught_and_let_go_when_it_ends(run, shell, capsys):
    shell.user_ns |= {"go": threading.Event(), "threading": threading}
    said = await run(
        "def work():\n    print('now')\n    go.wait()\n    print('later')\n"
        "t = threading.Thread(target=work)\nt.start()\n"
        "await asyncio.to_thread(print, 'a pool')\n"
        "async def more():\n    await asyncio.sleep(0.05)\n    print('a task')\n"
        "task = asyncio.create_task(more())"
    )
    assert set(text(said).split("\n")) == {"now", "a pool", ""}
    shell.user_ns["go"].set()
    shell.user_ns["t"].join()
    await shell.user_ns["task"]
    assert capsys.readouterr() == ("later\na task\n", "")


async def test_the_last_values_and_the_last_error_stay_the_users(run, shell):
    sys.last_value = error = ValueError("the user's")
    try:
        await run("_ = 5\nfor __ in range(3): pass\n1 / 0")
        assert sys.last_value is error
        assert (shell.user_ns["_"], shell.user_ns["__"]) == (2, "")
    finally:
        del sys.last_value


async def test_a_cell_around_it_keeps_its_result():
    one = InteractiveShell(config=QUIET)
    code = "await call('7')\n8"
    one.user_ns["call"] = running.Running(one).run
    result = await one.run_cell_async(code, transformed_cell=code)
    assert result.result == 8


async def test_a_cancelled_run_ends_as_cancelled_whatever_the_code_does(run, shell):
    for code in (
        "begun.set()\nawait asyncio.sleep(60)",
        "try:\n    begun.set()\n    await asyncio.sleep(60)\nexcept BaseException:\n    pass",
    ):
        shell.user_ns["begun"] = begun = asyncio.Event()
        task = asyncio.create_task(run(code))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_time_out_of_the_code_is_its_own(run):
    said = await run(
        "try:\n    async with asyncio.timeout(0.01):\n        await asyncio.sleep(60)\n"
        "except TimeoutError:\n    print('too late')"
    )
    assert text(said) == "too late\n"


async def test_an_interrupt_ends_the_code_and_what_waits_for_the_tool(run):
    code = "import os, signal, time\nprint('before')\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"
    with pytest.raises(running.InterruptedRunError) as caught:
        await run(code)
    said = text(caught.value.ran)
    assert said.startswith("before\n")
    assert "KeyboardInterrupt" in said
    with pytest.raises(running.InterruptedRunError):
        await run(
            f"import os, signal\ntry:\n    {code.splitlines()[2]}\nexcept BaseException:\n    pass"
        )


async def test_the_code_of_several_answers_runs_one_after_the_other(run):
    said = await asyncio.gather(
        *(run(f"print({n})\nawait asyncio.sleep(0.01)\nx{n} = 1\nprint({n})") for n in range(3))
    )
    assert [text(one) for one in said] == [f"{n}\n{n}\n" for n in range(3)]
    assert [one.made for one in said] == [(f"x{n}",) for n in range(3)]


async def test_hooks_of_cells_run_as_for_a_cell(run, shell):
    heard = []
    for name in ("pre_execute", "pre_run_cell", "post_execute", "post_run_cell"):
        shell.events.register(name, lambda *_, name=name: heard.append(name))
    await run("1 / 0")
    assert heard == ["pre_execute", "pre_run_cell", "post_execute", "post_run_cell"]


@pytest.mark.parametrize("arguments", [{}, {"code": 3}, {"code": "1", "other": 1}])
async def test_its_arguments_are_checked(shell, arguments):
    for tool in running.Running(shell).tools():
        with pytest.raises(ValueError, match=r"code|other"):
            tool.read(arguments)


def test_the_user_is_asked_before_code_runs_and_not_for_a_proposal(shell):
    run, propose = running.Running(shell).tools()
    assert (run.name, run.reads, run.beside, run.ask) == ("kernel.run", False, False, None)
    assert (propose.name, propose.reads, propose.ask) == ("kernel.propose", False, False)
    assert propose.schema["required"] == ["code"]


async def test_a_proposal_stands_at_the_next_prompt_and_several_stand_together(shell):
    _, propose = running.Running(shell).tools()

    async def call(**arguments):
        return await propose.run(propose.read(arguments))

    assert "did not run" in await call(code="x = 1\n", note="A start")
    assert shell.rl_next_input == "# A start\nx = 1"
    assert "control characters" in await call(code="y = '\x1b[2J'")
    assert shell.rl_next_input == "# A start\nx = 1\n\ny = '[2J'"
    with pytest.raises(ValueError, match="stands alone"):
        await call(code="%%bash\nls")
    assert "x" not in shell.user_ns
    shell.rl_next_input = None
    await call(code="%%bash\nls")
    assert shell.rl_next_input == "%%bash\nls"


# -- what was shown, by itself


def test_a_progress_bar_is_told_as_it_was_at_its_end():
    one = shown.Shown()
    one.write("\r 10%\r 50%\r\x1b[32m100%\x1b[0m\r\nnext\r\n")
    assert one.parts() == (TextPart("100%\nnext\n"),)


def test_a_display_that_is_updated_stands_in_its_place():
    one = shown.Shown()
    for n in range(5_000):
        one.display({"text/plain": f"{n:>1000}"}, "id")
        one.display({"image/png": PNG}, "picture")
        one.write("x" if n == 0 else "")
    first, picture, last = one.parts()
    assert (first.text.strip(), last.text) == ("4999", "x")
    assert isinstance(picture, ImagePart)


def test_too_many_pictures_end_the_code_and_the_first_are_kept():
    one = shown.Shown()
    with pytest.raises(shown.TooMuchOutputError, match="more than 16 pictures"):
        for n in range(100):
            one.display({"image/png": PNG + bytes([n])})
    assert len(one.parts()) == shown.MAX_PICTURES


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"text/plain": "a  b\n0 1", "text/html": "<table>"}, "a  b\n0 1\n"),
        ({"text/plain": "<IPython.core.display.Markdown object>", "text/markdown": "*m*"}, "*m*\n"),
        ({"image/png": "no base64!", "text/plain": "plain"}, "plain\n"),
        ({"image/png": b"<svg onload=alert(1)>", "text/plain": "plain"}, "plain\n"),
        ({"application/json": {"a": 1}}, "{'a': 1}\n"),
    ],
)
def test_of_a_display_a_model_is_told_what_it_can_read(data, said):
    one = shown.Shown()
    one.display(data)
    assert one.parts() == (TextPart(said),)


def test_long_texts_among_pictures_are_bounded_together():
    one = shown.Shown()
    for n in range(10):
        one.write("x" * 50_000)
        one.display({"image/png": PNG + bytes([n])})
    text, *pictures = one.parts()
    assert len(text.text) < results.MAX_RESULT + 100
    assert len(pictures) == 10


# -- in kernels

CALL = """\
import asyncio, os, threading, time
from ipychat.toolbox.running import Running
from ipychat.toolbox.tool import Failed
tools = {tool.name: tool for tool in Running(get_ipython()).tools()}
async def call(name="run", **arguments):
    tool = tools[f"kernel.{name}"]
    try:
        return await tool.run(tool.read(arguments))
    except Failed as failed:
        return failed
def watch():
    # code of a run can set it; a thread of the user's tells of it in the cell
    begun = threading.Event()
    threading.Thread(target=lambda: begun.wait() and print("begun", flush=True)).start()
    return begun
def told(said):
    return [type(said).__name__, [getattr(part, "text", None) or part.url[:24] for part in said.parts]]
"""
PICTURE = "data:image/png;base64,iV"


class Caller:
    """Calls `kernel.run` in a cell of a kernel."""

    def __init__(self, kernel):
        self.kernel = kernel
        assert kernel.run(CALL).status == "ok"

    def __call__(self, code):
        """Return the kind of what comes back, and its parts; the cell itself shows nothing."""
        ran = self.kernel.run(f"said = await call(code={code!r})")
        assert ran.status == "ok", ran.error
        assert outputs(ran) == []
        return self.kernel.value("told(said)")


def outputs(ran):
    """The kinds of a cell's outputs, in order; how many pieces a stream comes in is chance."""
    kinds = [one["msg_type"] for one in ran.messages]
    shown = [kind for kind in kinds if kind not in {"status", "execute_input"}]
    return [kind for kind, _ in groupby(shown)]


@pytest.fixture(scope="module")
def caller(shared):
    return Caller(shared[0])


@pytest.mark.kernel
def test_in_a_kernel_output_error_and_displays_come_back_and_the_cell_shows_nothing(caller):
    code = (
        "import sys\nfrom IPython.display import display, HTML, clear_output\nprint('gone')\n"
        "clear_output()\nprint('a')\nhandle = display('first', display_id=True)\n"
        "print('b', file=sys.stderr)\nhandle.update('second')\ndisplay(HTML('<b>x</b>'))\n{'k': 1}"
    )
    assert caller(code) == ["Ran", ["a\n'second'\nb\n<b>x</b>\n{'k': 1}\n"]]
    kind, [said] = caller("print('a')\n1 / 0")
    assert kind == "FailedRun"
    assert said.startswith("a\n")
    assert "Your code, line 2" in said
    assert said.strip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.kernel
def test_plots_come_back_and_those_of_the_cell_stay_its_own(caller):
    pytest.importorskip("matplotlib")
    assert caller("import matplotlib.pyplot as plt\nplt.plot([1, 2]);") == ["Ran", [PICTURE]]
    two = "plt.plot([1])\nplt.show()\nprint('between')\nplt.figure()\nplt.plot([2]);"
    assert caller(two) == ["Ran", [PICTURE, "between\n", PICTURE]]
    assert caller("fig, ax = plt.subplots()\nfig") == ["Ran", [PICTURE]], "once"
    assert caller("ax = plt.subplot()\nax") == ["Ran", ["<Axes: >\n", PICTURE]]
    kind, parts = caller("plt.plot([1])\n1 / 0")
    assert (kind, len(parts), parts[1]) == ("FailedRun", 2, PICTURE)
    ran = caller.kernel.run(
        "plt.plot([1, 2, 3])\nsaid = await call(code='plt.plot([3, 2]);')\nprint(len(plt.gca().lines))"
    )
    assert outputs(ran) == ["stream", "display_data"]
    assert ran.stdout == "1\n"
    assert caller.kernel.value("told(said)") == ["Ran", [PICTURE]]


@pytest.mark.kernel
def test_what_programs_write_comes_back_too(caller):
    code = "import subprocess\nprint(1)\nsubprocess.run(['echo', '2'])\nos.system('echo 3 >&2')\nprint(4)"
    assert caller(code) == ["Ran", ["1\n2\n3\n4\n"]]
    assert caller("%%bash\necho out; echo err >&2")[1] in (["out\nerr\n"], ["err\nout\n"])
    assert caller("!echo 5") == ["Ran", ["5\n"]]
    _, [said] = caller("status = os.system('yes')")
    assert "more than 1,000,000 characters" in said


@pytest.mark.kernel
def test_a_fork_prints_into_the_result(caller):
    code = (
        "from multiprocessing import get_context\nwith get_context('fork').Pool(1) as pool:\n"
        "    pool.map(print, [1, 2])"
    )
    assert caller(code) == ["Ran", ["1\n2\n"]]


@pytest.mark.kernel
def test_the_kernel_goes_on_and_nobody_is_asked(caller):
    kernel = caller.kernel
    for code in (
        "exit",
        "quit()",
        "exit(keep_kernel=True)",
        "raise SystemExit",
        "import sys; sys.exit(1)",
    ):
        kind, _ = caller(code)
        assert kind == "FailedRun", code
    kernel.run("from getpass import getpass")  # binds the kernel's own
    for code in ("input('?')", "getpass()", "import pdb; pdb.set_trace(); x = 1"):
        kind, [said] = caller(code)
        assert "Nobody can answer" in said, code
    assert caller("get_ipython().set_next_input('x', replace=True)")[0] == "FailedRun"
    ran = kernel.run("said = await call(code='exit')")
    assert ran.reply["payload"] == []
    assert kernel.run("1 + 1").shown() == "2"


@pytest.mark.kernel
def test_no_chat_magic_works_in_it(caller):
    magics = caller.kernel.value(
        "[(kind, name) for kind, names in get_ipython().magics_manager.magics.items()"
        " for name in names if name.startswith('chat')]"
    )
    assert len(magics) > 10
    for kind, name in magics:
        code = f"%{name} x" if kind == "line" else f"%%{name}\nx"
        kind, [said] = caller(code)
        refused = f"UsageError: Code that a model runs can't use %{name}: only the user can.\n"
        assert said == refused
        assert (
            "await"
            not in caller(
                f"try:\n    await get_ipython()._ipychat_line({name!r}, 'x')\n"
                "except Exception as error:\n    pass\nelse:\n    print('await')"
            )[1][0]
        )
    for code in (
        "await ipychat.ask('x')",
        "await ipychat.map([1], '{{it}}')",
        "await ipychat.compare('x', ['a:b', 'c:d'])",
    ):
        kind, [said] = caller(f"import ipychat\n{code}")
        assert "can't ask a model" in said
    for code in ("%config IPyChat.model = 'a:b'", "%unload_ext ipychat", "%reload_ext ipychat"):
        _, [said] = caller(code)
        assert "Code that a model runs can't" in said
    assert caller.kernel.run("%config IPyChat.model").shown() == ""
    assert caller.kernel.run("%chat_jobs").status == "ok"


LOOK = """\
import builtins, signal, sys, threading
async def look():
    while "ipychat-programs" in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0.01)
    shell = get_ipython()
    return [repr(one) for one in (
        vars(sys.stdout).get("write"), vars(sys.stderr).get("write"), sorted(vars(shell)),
        sorted(vars(shell.kernel)), sorted(vars(shell.display_pub)), sys.displayhook,
        vars(shell)["_showtraceback"], signal.getsignal(signal.SIGINT), builtins.input,
        threading.Thread.start, os.fstat(1).st_ino, os.fstat(2).st_ino,
        sum("pipe:" in os.path.realpath(f"/dev/fd/{n}") for n in os.listdir("/dev/fd")),
        threading.active_count(),
    )]
"""


@pytest.mark.kernel
def test_a_run_leaves_the_kernel_as_it_was(caller):
    assert caller.kernel.run(LOOK).status == "ok"
    for code in ("1", "1 / 0", "%debug", "import subprocess; subprocess.run(['true'])"):
        ran = caller.kernel.run(
            f"before = await look()\nawait call(code={code!r})\nafter = await look()"
        )
        assert ran.status == "ok", ran.error
        changed = "[pair for pair in zip(before, after) if pair[0] != pair[1]]"
        assert caller.kernel.value(changed) == []


@pytest.mark.kernel
def test_in_and_out_go_on_counting_without_it(caller):
    kernel = caller.kernel
    kernel.run("40 + 2")
    ran = kernel.run("said = await call(code='43')\nprint(_, len(In), len(Out))")
    last, ins, outs = map(int, ran.stdout.split())
    assert last == 42
    ran = kernel.run("await asyncio.sleep(0)\nprint(len(In), len(Out))")
    assert [*map(int, ran.stdout.split())] == [ins + 1, outs]


@pytest.mark.kernel
def test_a_proposal_becomes_the_next_cell_and_several_become_one(caller):
    kernel = caller.kernel
    ran = kernel.run(
        "await call('propose', code='x = 1', note='first')\nsaid = await call('propose', code='y = 2')"
    )
    assert ran.next_input == "# first\nx = 1\n\ny = 2"
    assert "did not run" in kernel.value("said")
    assert kernel.run("pass").next_input is None


BLOCKS = "begun.set()\n"
AWAITS = "asyncio.get_running_loop().call_soon(begun.set)\nawait asyncio.sleep(60)"


def interrupted(kernel, code):
    """Interrupt a cell when the code that it runs has begun.

    Python loses a signal that comes between its last look for one and the system call that blocks,
    of any code's; on a busy machine that happens. Then a user interrupts again.
    """
    sent = kernel.send(f"begun = watch()\n{code}")
    kernel.wait_for(lambda: "begun" in kernel.cells[sent].stdout)
    kernel.interrupt()
    with contextlib.suppress(AssertionError):
        return kernel.wait(sent, timeout=5)
    kernel.interrupt()
    return kernel.wait(sent, timeout=5)


@pytest.mark.kernel
@pytest.mark.parametrize("code", [
    "time.sleep(60)",
    "try:\n    time.sleep(60)\nexcept BaseException:\n    pass",
    "import subprocess\nsubprocess.run(['sleep', '60'])",
])  # fmt: skip
def test_an_interrupt_of_blocking_code_ends_the_cell_that_waits(caller, code):
    kernel = caller.kernel
    cell = f"asked = asyncio.create_task(call(code={BLOCKS + code!r}))\nawait asked"
    for one in (cell, cell.replace("asyncio.create_task", "")):
        ran = interrupted(kernel, one)
        assert ran.reply["ename"] == "InterruptedRunError", ran.error
        assert ran.error == "InterruptedRunError: Interrupted while a tool ran code."
        assert outputs(ran) in (["stream", "error"], ["stream"])
        assert kernel.run("1 + 1").shown() == "2"


@pytest.mark.kernel
def test_an_interrupt_of_awaiting_code_ends_the_cell_that_waits(caller):
    ran = interrupted(caller.kernel, f"await call(code={AWAITS!r})")
    assert ran.reply["ename"] == "CancelledError"
    assert caller("print('as before')") == ["Ran", ["as before\n"]]


ANSWER = """\
from ipychat.kernel.run import Run, in_front
async def answer(code):
    run = Run(call(code=code))
    with in_front(run):
        await run.wait()
    raise RuntimeError(f"interrupted: {run.interrupted}")
"""


@pytest.mark.kernel
def test_an_interrupt_ends_an_answer_that_waits_for_the_tool(caller):
    assert caller.kernel.run(ANSWER).status == "ok"
    for code, said in (
        (f"{BLOCKS}time.sleep(60)", "InterruptedRunError: Interrupted while a tool ran code."),
        (AWAITS, "RuntimeError: interrupted: True"),
    ):
        ran = interrupted(caller.kernel, f"await answer({code!r})")
        assert ran.reply["ename"] + ": " + ran.reply["evalue"] == said
        assert caller("print('as before')") == ["Ran", ["as before\n"]]


@pytest.mark.kernel
def test_after_runs_an_interrupt_of_an_answer_is_in_one_line_as_before(caller, shared):
    _, service = shared
    service.on(PROTOCOLS[0].path, [head(), chunk(PROTOCOLS[0].text("so far")), HANG])
    code = "await call(code='1')\nawait ipychat.ask('x')"
    caller.kernel.run("import ipychat")
    sent = caller.kernel.send(code)
    caller.kernel.wait_for(lambda: len(service.asked(PROTOCOLS[0].path)) == 1)
    caller.kernel.interrupt()
    ran = caller.kernel.wait(sent, timeout=5)
    assert ran.error.startswith("InterruptedAnswerError: Interrupted"), ran.error


@pytest.mark.kernel
def test_the_loop_goes_on_while_code_awaits_and_a_run_costs_little(caller):
    ran = caller.kernel.run(
        "ticks = []\nasync def tick():\n    while True:\n        ticks.append(time.monotonic())\n"
        "        await asyncio.sleep(0.005)\nticking = asyncio.create_task(tick())\n"
        "said = await call(code='await asyncio.sleep(0.2)')\nticking.cancel()\ncosts = []\n"
        "for _n in range(20):\n    begin = time.process_time()\n    await call(code='x = 1')\n"
        "    costs.append(time.process_time() - begin)"
    )
    assert ran.status == "ok", ran.error
    assert caller.kernel.value("len(ticks)") > 20
    costs = caller.kernel.value("costs")
    print(f"{statistics.median(costs) * 1000:.2f} ms")
    assert statistics.median(costs) < 0.003


# -- in a terminal


@pytest.fixture
def terminal(tmp_path):
    pytest.importorskip("pexpect", reason="Windows has no pseudo-terminals")
    from tests.test_terminal import Terminal

    module = tmp_path / "calls.py"
    module.write_text(f"from IPython import get_ipython\n{CALL}\nANSWER = {ANSWER!r}\n")
    env = {
        **os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "TERM": "dumb",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }  # fmt: skip
    one = Terminal(env)
    assert "Error" not in one.run("%load_ext ipychat")
    assert one.run("from calls import *") == "\n"
    yield one
    one.close()


@pytest.mark.kernel
def test_in_a_terminal_it_is_the_same(terminal):
    def call(code):
        assert terminal.run(f"said = await call(code={code!r})") == "\n", code
        return terminal.run("print(told(said))")

    assert "['Ran', ['a\\n3\\n']]" in call("print('a')\n1 + 2")
    assert "ZeroDivisionError: division by zero" in call("1 / 0")
    assert "['Ran', ['hi\\n']]" in call("!echo hi")
    assert "Docstring" in call("len?")
    assert "Nobody can answer input()" in call("input()")
    assert "would end the user" in call("exit()")
    assert "can't use %chat: only the user can" in call("%chat hi")
    assert "image/png" in call(
        "class Picture:\n    def _repr_png_(self):\n        return " + repr(PNG) + "\nPicture()"
    )
    assert terminal.run("exec(ANSWER)") == "\n"
    for ask, code, said in (
        ("call", f"{BLOCKS}time.sleep(60)", "InterruptedRunError: Interrupted while a tool ran"),
        ("answer", AWAITS, "interrupted: True"),
    ):
        assert terminal.run("begun = watch()") == "\n"
        terminal.begin(f"await {ask}(code={code!r})")
        terminal.wait_for("begun")
        terminal.interrupt("Ctrl-C")
        assert said in terminal.wait_for_prompt()
    assert "['Ran', ['a\\n']]" in call("print('a')")
    propose = "said = await call('propose', code='print(7)'); print(get_ipython().rl_next_input)"
    assert terminal.run(propose) == "print(7)\n\n"
