"""An interrupt ends whatever a cell awaits, as fast as it ends a %%chat, and in one line."""

import time

import pytest

from tests.loopback import HANG, chunk, head
from tests.protocols import PROTOCOLS

OPENAI = PROTOCOLS[0]
PATH = OPENAI.path
KEPT = "InterruptedAnswerError: Interrupted; what came is kept."
NOTHING = "InterruptedAnswerError: Interrupted before any answer."

# what a cell runs first: it tells when the answer of a conversation has come so far
WATCH = """\
import asyncio, ipychat, time
from ipychat.errors import InterruptedAnswerError
async def watch(name="c"):
    while not any(turn.text == "so far" for turn in ipychat.conversation(name).turns):
        await asyncio.sleep(0.01)
    print("it came")
def begin(name="c"):
    ipychat.conversation(name).clear()
    return asyncio.create_task(watch(name))
"""

WAYS = {
    "ask": "await ipychat.ask('x', chat='c')",
    "stream": "async for text in ipychat.stream('x', chat='c'):\n    pass",
    "events": "async for event in ipychat.events('x', chat='c'):\n    pass",
    "compare": "await ipychat.compare('x', ['openai:a', 'openai:b'], chat='c')",
    "deep in a coroutine": (
        "async def deep():\n    return await ipychat.ask('x', chat='c')\n"
        "async def deeper():\n    return await deep()\n"
        "await deeper()"
    ),
    "a time-out": "async with asyncio.timeout(50):\n    await ipychat.ask('x', chat='c')",
    "wait_for": "await asyncio.wait_for(ipychat.ask('x', chat='c'), 50)",
    "a task": "task = asyncio.create_task(ipychat.ask('x', chat='c'))\nawait task",
    "gather": "await asyncio.gather(ipychat.ask('x', chat='c'), ipychat.ask('y'))",
    "a task group": (
        "async with asyncio.TaskGroup() as group:\n"
        "    group.create_task(ipychat.ask('x', chat='c'))\n"
        "    group.create_task(ipychat.ask('y'))"
    ),
}


def stalled(*texts):
    return [head(), *(chunk(OPENAI.text(text)) for text in texts), HANG]


@pytest.fixture
def here(shared):
    kernel, service = shared
    service.requests.clear()
    service.on(PATH, stalled("so far"))
    assert kernel.run(WATCH).status == "ok"
    return kernel, service


def interrupted(kernel, code, *, said="it came"):
    """Interrupt a cell when it has said so; return what became of it, and how long it took."""
    running = kernel.send(f"came = begin()\n{code}")
    kernel.wait_for(lambda: said in kernel.cells[running].stdout)
    begin = time.monotonic()
    kernel.interrupt()
    ran = kernel.wait(running, timeout=5)
    print(f"{(time.monotonic() - begin) * 1000:.1f} ms")
    return ran


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_ends_what_a_cell_awaits_in_one_line(here, way):
    kernel, service = here
    ran = interrupted(kernel, WAYS[way])
    assert (ran.status, ran.error) == ("error", KEPT)
    assert ran.reply["ename"] == "InterruptedAnswerError"
    assert all(one.gone.wait(2) for one in service.asked(PATH))
    assert kernel.run("1 + 1").shown() == "2"


def test_an_interrupt_of_a_run_over_rows_says_how_far_it_came(here):
    kernel, service = here
    running = kernel.send("await ipychat.map(['a', 'b'], 'say {{it}}')")
    kernel.wait_for(lambda: len(service.asked(PATH)) == 2)
    kernel.interrupt()
    ran = kernel.wait(running, timeout=5)
    assert ran.error == (
        "InterruptedAnswerError: Interrupted; 0 of 2 rows are answered and kept. "
        "Run it again to ask for the others."
    )


def test_an_interrupt_before_the_first_word_does_not_say_that_something_is_kept(here):
    kernel, service = here
    service.on(PATH, [head(), HANG])
    for code in ("await ipychat.ask('x')", "%chat --no-history x"):
        service.requests.clear()
        running = kernel.send(code)
        kernel.wait_for(lambda: len(service.asked(PATH)) == 1)
        kernel.interrupt()
        ran = kernel.wait(running, timeout=5)
        assert ran.error == NOTHING
        assert "kept" not in ran.shown("text/html") + ran.shown()


def test_the_error_of_an_interrupt_has_what_came_and_each_interrupt_counts(here):
    kernel, _ = here
    again = "came = begin('d')\nawait ipychat.ask('y', chat='d')"
    caught = (
        "try:\n    await ipychat.ask('x', chat='c')\nexcept InterruptedAnswerError as error:\n"
        f"    print('kept:', error.reply.text, asyncio.current_task().cancelling())\n{again}"
    )
    running = kernel.send(f"came = begin()\n{caught}")
    for said in ("it came", "it came\nkept: so far 0\nit came"):
        kernel.wait_for(lambda said=said: said in kernel.cells[running].stdout)
        kernel.interrupt()
    assert kernel.wait(running, timeout=5).error == KEPT


def test_between_two_pieces_an_interrupt_is_the_users(here):
    kernel, service = here
    ran = interrupted(
        kernel,
        "async for text in ipychat.stream('x', chat='c'):\n    print('it came')\n    time.sleep(60)",
    )
    assert ran.reply["ename"] == "KeyboardInterrupt"
    service.requests.clear()
    ran = interrupted(
        kernel,
        "async for text in ipychat.stream('x', chat='c'):\n    await asyncio.sleep(60)",
    )
    assert ran.reply["ename"] == "CancelledError"  # the kernel's own word for it


def test_an_interrupt_ends_other_things_that_a_cell_awaits_too(here):
    kernel, _ = here
    running = kernel.send("print('it runs')\nawait asyncio.sleep(60)")
    kernel.wait_for(lambda: "it runs" in kernel.cells[running].stdout)
    kernel.interrupt()
    assert kernel.wait(running, timeout=5).reply["ename"] == "CancelledError"


def test_a_time_out_around_a_call_stays_a_time_out(here):
    kernel, _ = here
    ran = kernel.run(
        "try:\n    async with asyncio.timeout(0.5):\n        await ipychat.ask('x')\n"
        "except TimeoutError:\n    print('in time', asyncio.current_task().cancelling())"
    )
    assert ran.stdout == "in time 0\n", ran.error
    ran = kernel.run("task = asyncio.create_task(ipychat.ask('x'))\ntask.cancel()\nawait task")
    assert ran.reply["ename"] == "CancelledError"


def test_an_interrupt_ends_the_wait_for_a_background_answer_which_goes_on(here):
    kernel, service = here
    kernel.run("job = %chat --background --no-history hi")
    ran = interrupted(kernel, "print('it came')\nawait job")
    said = "InterruptedAnswerError: Interrupted; the answer goes on: %chat_stop stops it."
    assert ran.error == said
    assert kernel.value("job.state") == "running"
    kernel.run("%chat_stop")
    assert service.asked(PATH)[0].gone.wait(2)


def test_unloading_gives_signals_and_errors_back(kernel):
    one = kernel()
    one.run("%unload_ext ipychat")
    ran = one.run(
        "import signal\nip = get_ipython()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, ip.custom_exceptions,"
        " [len(ip.events.callbacks[name]) for name in ('pre_run_cell', 'post_run_cell')])"
    )
    assert ran.stdout.startswith("True () "), ran.stdout
    fresh = one.run("%load_ext ipychat\n%unload_ext ipychat")
    assert fresh.status == "ok"
    assert (
        one.run(
            "print([len(ip.events.callbacks[n]) for n in ('pre_run_cell', 'post_run_cell')])"
        ).stdout.strip()
        in ran.stdout
    )


@pytest.mark.heavy
def test_a_script_of_plain_python_keeps_pythons_own_interrupt(service, tmp_path):
    import os
    import signal
    import subprocess
    import sys

    service.on(PATH, stalled("so far"))
    env = {
        **os.environ,
        **service.env,
    }
    code = (
        "import asyncio, signal, ipychat\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job may ignore it\n"
        "async def main():\n"
        "    async for text in ipychat.stream('x'):\n        print(text, flush=True)\n"
        "try:\n    asyncio.run(main())\nexcept KeyboardInterrupt:\n    print('KeyboardInterrupt')"
    )
    script = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True
    )
    assert script.stdout.readline() == "so far\n"
    script.send_signal(signal.SIGINT)
    said, _ = script.communicate(timeout=10)
    assert said == "KeyboardInterrupt\n"
