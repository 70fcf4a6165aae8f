"""A kernel that the tests fork is like one that was started: what they find holds for both."""

import signal

import psutil
import pytest

from tests.kernels import Kernel

pytestmark = pytest.mark.kernel
LOOK = """
import os, sys
modules = set(sys.modules)
import gc, json, signal, threading, time, warnings
kernel = {
    "modules": sorted(modules),
    "path": sys.path,
    "program": sys.argv[0],
    "arguments": [one for one in sys.argv[1:] if ".json" not in one],
    "flags": [str(sys.flags), sys._xoptions, str(warnings.filters)],
    "variables": {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"},
    "folder": os.getcwd(),
    "zone": time.tzname,
    "signals": {one.name: str(signal.getsignal(one)).split(" at ")[0] for one in signal.Signals},
    "masked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "threads": sorted(type(one).__name__ for one in threading.enumerate()),
    "files": [os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in range(3)],
    "streams": [sys.__stdin__.encoding, sys.__stdout__.encoding, sys.__stdout__.errors],
    "limits": [sys.getrecursionlimit(), gc.get_threshold(), gc.get_freeze_count()],
    "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "parent": os.environ["JPY_PARENT_PID"] == str(os.getppid()),
}
"""


def seen(env, *, fork):
    one = Kernel(env, fork=fork)
    try:
        assert one.run(LOOK).status == "ok"
        return one.value("kernel")
    finally:
        one.close()


def test_a_forked_kernel_is_like_one_that_was_started(generation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = generation | {"A_VARIABLE": "of this test", "TZ": "Asia/Tokyo"}
    forked = seen(env, fork=True)
    assert forked["folder"] == str(tmp_path)
    assert forked["zone"] == ["JST", "JST"]
    assert forked["variables"]["A_VARIABLE"] == "of this test"
    assert forked == seen(env, fork=False)


def test_nothing_of_one_forked_kernel_is_in_the_next(generation):
    first = Kernel(generation, fork=True)
    first.run("import os, sys, ipychat, aiohttp\nos.environ['LEFT'] = sys.left = 'behind'")
    first.close()
    second = Kernel(generation, fork=True)
    left = second.value(
        "[__import__('os').environ.get('LEFT'), hasattr(__import__('sys'), 'left')]"
    )
    loaded = second.value("sorted({'ipychat', 'aiohttp'} & set(__import__('sys').modules))")
    second.close()
    assert (left, loaded) == ([None, False], [])


def test_two_forked_kernels_draw_other_numbers(generation):
    kernels = [Kernel(generation, fork=True), Kernel(generation, fork=True)]
    drawn = [one.value("[__import__('random').random(), __import__('uuid').uuid4().hex]") for one in kernels]  # fmt: skip
    for one in kernels:
        one.close()
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_what_an_interpreter_starts_with_counts_for_a_forked_kernel(generation):
    given = []
    for fork in (True, False):
        one = Kernel(generation | {"PYTHONWARNINGS": "error", "PYTHONHASHSEED": "5"}, fork=fork)
        given.append(one.value("[__import__('sys').warnoptions, hash('a')]"))
        one.close()
    assert given[0] == given[1]


def test_a_forked_kernel_is_interrupted_killed_and_gone(generation):
    one = Kernel(generation, fork=True)
    process = psutil.Process(one.pid)
    waiting = one.send("import time\nprint('begun', flush=True)\ntime.sleep(60)")
    one.wait_for(lambda: "begun" in one.cells[waiting].stdout)
    one.interrupt()
    assert one.wait(waiting).reply["ename"] == "KeyboardInterrupt"
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    one.close()
    assert not psutil.pid_exists(process.pid)


def test_a_closed_kernel_is_gone_with_what_it_started(generation):
    one = Kernel(generation, fork=True)
    child = psutil.Process(one.value("__import__('subprocess').Popen(['sleep', '60']).pid"))
    process = psutil.Process(one.pid)
    one.close()
    assert not process.is_running()
    child.wait(5)
