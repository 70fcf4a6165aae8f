"""The real engine, on weights that are written here: what it answers, and how it ends."""

import asyncio
import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ipychat import config, errors, secrets
from ipychat.chat.answer import Answer
from ipychat.local import engine, weights
from ipychat.local.provider import Local
from ipychat.messages import FinishReason, Message, ModelId, Question, Text, Usage
from tests import tiny_gguf
from tests.kernels import Kernel
from tests.loopback import Proxy
from tests.tiny_gguf import expected

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.heavy

SLOW = 65536
"""An inner width at which a token takes milliseconds."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return tiny_gguf.write(tmp_path_factory.mktemp("weights") / "slow.gguf", inner=SLOW)


@pytest.fixture(autouse=True)
async def _engines_end(sessions):
    yield
    await asyncio.to_thread(engine.end)


def events(asked):
    return Answer(asked).events(keeps=False)


def question(path, text="Hello", **options) -> Question:
    system = Message("system", "Be brief.")
    return Question(ModelId("local", str(path)), (system, Message("user", text)), options)


async def answer(path, text="Hello", **options) -> str:
    asked = events(question(path, text, **options))
    return "".join([event.text async for event in asked if isinstance(event, Text)])


async def begin(path, text, pieces=1, **options):
    """Ask, stop after some pieces of the answer, and leave."""
    async with contextlib.aclosing(events(question(path, text, **options))) as given:
        async for event in given:
            pieces -= isinstance(event, Text)
            if not pieces:
                return


def processes() -> list[psutil.Process]:
    """The engines of this process."""
    found = []
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "serve" in one.cmdline():
                found.append(one)
    return found


async def until(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.01)


# -- answers


@pytest.mark.parametrize("keyword", tiny_gguf.REPLIES)
async def test_it_answers_what_the_weights_say_to_the_message(model, keyword):
    given = [event async for event in events(question(model, f"What is {keyword}?"))]
    texts = [event.text for event in given if isinstance(event, Text)]
    assert "".join(texts) == expected(keyword)
    (usage,) = [event for event in given if isinstance(event, Usage)]
    assert usage.output == len(tiny_gguf.REPLIES[keyword]) + 1
    assert given[-1] == FinishReason("stop")


async def test_an_answer_comes_while_it_is_written(slow):
    asked = events(question(slow, "COUNT"))
    assert len([event async for event in asked if isinstance(event, Text)]) > 5


async def test_it_speaks_anthropics_protocol_too(model):
    running = await engine.running(model)
    asked = Question(
        ModelId("anthropic", "m"),
        (Message("system", "Be brief."), Message("user", "naïve?")),
        {"base_url": running.root, "api_key": running.key, "max_tokens": 99},
    )
    given = [event async for event in events(asked)]
    assert "".join(e.text for e in given if isinstance(e, Text)) == expected("naïve")
    assert given[-1] == FinishReason("stop")


async def test_an_answer_in_one_body_is_the_same(model):
    assert await answer(model, stream=False) == expected()


async def test_options_go_into_the_body(model):
    asked = events(question(model, "COUNT", max_tokens=3))
    assert [event async for event in asked][-1] == FinishReason("length")


async def test_a_prompt_that_is_too_long_is_not_cut_and_the_context_can_be_larger(model):
    text = "COUNT" + "x" * 9000
    with pytest.raises(
        errors.RequestError, match=r"context size.*\n.*context, now 8,192"
    ) as caught:
        await answer(model, text)
    assert len(str(caught.value).splitlines()) <= 5
    assert await answer(model, text, context=16384) == expected("COUNT")


async def test_those_who_ask_first_at_the_same_time_share_one_engine(model):
    given = await asyncio.gather(answer(model), answer(model, "COUNT"), answer(model))
    assert given == [expected(), expected("COUNT"), expected()]
    assert len(processes()) == 1


def test_event_loops_that_follow_each_other_share_one_engine(model):
    first, second = (asyncio.run(engine.running(model)) for _ in range(2))
    assert first == second
    assert first.process.poll() is None


async def test_the_loop_goes_on_while_the_engine_starts(slow):
    longest, last = 0.0, time.process_time()
    starting = asyncio.create_task(engine.running(slow))
    while not starting.done():
        await asyncio.sleep(0.001)
        now = time.process_time()
        longest, last = max(longest, now - last), now
    assert longest < 0.5


async def test_one_who_leaves_while_the_engine_starts_takes_it_from_nobody(model):
    leaving = asyncio.create_task(engine.running(model))
    await asyncio.sleep(0)
    staying = asyncio.create_task(engine.running(model))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await staying).process.poll() is None
    assert len(processes()) == 1


# -- stops


async def test_a_stop_ends_the_generation(slow):
    await answer(slow)
    await begin(slow, "COUNT", pieces=5)
    busy = processes()[0]
    await until(lambda: is_quiet(busy))


async def test_a_stop_ends_the_reading_of_a_long_prompt(slow):
    """Reading all of it would take the better part of a minute."""
    await answer(slow)
    (busy,) = processes()
    reading = asyncio.create_task(answer(slow, "x" * 16000, context=32768))
    await until(lambda: len(processes()) == 2)
    busy = next(one for one in processes() if one != busy)
    await until(lambda: busy.cpu_times().user > 1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: is_quiet(busy), timeout=10)
    assert busy.is_running()


def is_quiet(process) -> bool:
    before = process.cpu_times()
    time.sleep(0.2)
    after = process.cpu_times()
    return after.user + after.system - before.user - before.system < 0.05


# -- ends


async def test_an_engine_that_was_killed_is_started_anew(model):
    first = await engine.running(model)
    assert await answer(model) == expected()
    first.process.kill()
    first.process.wait()
    assert await answer(model) == expected()
    assert (await engine.running(model)).process.pid != first.process.pid


async def test_an_answer_whose_engine_is_killed_says_so_and_the_next_one_comes(slow):
    running = await engine.running(slow)
    text = ""
    with pytest.raises(errors.BrokenAnswerError, match="SIGKILL") as caught:
        async for event in events(question(slow, "COUNT")):
            text += getattr(event, "text", "")
            running.process.kill()
    assert len(str(caught.value).splitlines()) <= 5
    assert expected("COUNT").startswith(text)
    assert text
    assert await answer(slow) == expected()


async def test_idle_weights_leave_the_memory_and_come_back(slow):
    assert await answer(slow, idle=1 / 60) == expected()
    (process,) = processes()
    used = process.memory_info().rss
    await until(lambda: process.memory_info().rss < used - slow.stat().st_size / 2)
    assert await answer(slow, idle=1 / 60) == expected()
    assert processes() == [process]


START = """
import asyncio
from pathlib import Path
from ipychat.local import engine
pid = asyncio.run(engine.running(Path({path!r}))).process.pid
"""


def gone(pid: int, timeout: float) -> bool:
    """Whether the engine ends in time; who cleans up after it is the system's affair."""
    deadline = time.monotonic() + timeout
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
    return True


def test_it_ends_with_the_interpreter(model):
    code = START.format(path=str(model)) + "print(pid)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert not run.stderr
    assert not psutil.pid_exists(int(run.stdout))


@pytest.fixture
def kernel(model):
    one = Kernel()
    code = START.format(path=str(model)).replace("asyncio.run", "")
    ran = one.run(code.replace("pid = (", "pid = (await "))
    assert ran.status == "ok", ran.error
    yield one
    one.close()


def test_it_ends_within_a_second_when_the_kernel_is_killed(kernel):
    pid = kernel.value("pid")
    os.kill(kernel.pid, signal.SIGKILL)
    assert gone(pid, timeout=1)


def test_it_ends_even_where_an_orphan_of_the_kernel_lives_on(kernel):
    """A forked child, such as a worker of multiprocessing, has all open files of the kernel."""
    pid = kernel.value("pid")
    assert psutil.Process(pid).is_running()
    kernel.run("import os, time\norphan = os.fork()\nif not orphan: time.sleep(60); os._exit(0)")
    orphan = kernel.value("orphan")
    os.kill(kernel.pid, signal.SIGKILL)
    assert gone(pid, timeout=engine.PARENT_POLL + 2)
    os.kill(orphan, signal.SIGKILL)


def test_an_interrupt_of_all_that_a_terminal_runs_is_not_the_engines(kernel):
    pid = kernel.value("pid")
    sleeping = kernel.send("print('sleeping'); import time; time.sleep(30)")
    kernel.wait_for(lambda: kernel.cells[sleeping].stdout)
    os.killpg(kernel.pid, signal.SIGINT)
    assert kernel.wait(sleeping).status == "error"
    assert not gone(pid, timeout=0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="others notice it once all is loaded")
def test_it_ends_even_while_it_loads_and_holds_the_interpreters_lock(tmp_path):
    (tmp_path / "xllamacpp.py").write_text("print('loading', flush=True); sum(range(10**12))")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ipychat.local", "serve"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    asked = b'{"path": "x", "context": 1, "idle": 1, "key": "k", "parent": %d}\n' % os.getpid()
    with process:
        try:
            process.stdin.write(asked)
            process.stdin.flush()
            assert process.stdout.readline() == b"loading\n"
            process.stdin.close()
            assert process.wait(5) == -signal.SIGIO
        finally:
            process.kill()


# -- secrets, proxies, limits


async def test_its_key_is_seen_nowhere(model, caplog):
    running = await engine.running(model)
    (process,) = processes()
    assert running.key not in repr(running)
    assert running.key not in " ".join(process.cmdline())
    assert running.key not in str(process.environ())
    assert secrets.mask(running.key) == secrets.MASK
    secrets.log.warning("the key is %s", running.key)
    assert running.key not in caplog.text


async def test_nobody_without_its_key_is_answered(model):
    running = await engine.running(model)
    asked = {"base_url": running.root, "api_key": "another-key-than-that"}
    with pytest.raises(errors.AuthenticationError):
        await events(
            Question(ModelId("anthropic", "m"), question(model).messages, asked)
        ).__anext__()


async def test_no_proxy_sees_it(model, proxy: Proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("all_proxy", proxy.url)
    config.use(config.Config(proxy=proxy.url))
    assert await answer(model, proxy=proxy.url) == expected()
    assert not proxy.seen


async def test_limits_on_hosts_leave_this_machine_out(model):
    config.use(config.Config(allowed_hosts=("api.example",)))
    assert await answer(model) == expected()


@pytest.mark.parametrize("option", ["base_url", "api_key"])
async def test_it_takes_neither_address_nor_key(model, option):
    with pytest.raises(errors.UsageError, match="on this machine"):
        await answer(model, **{option: "http://127.0.0.1:9"})
    assert not processes()


# -- what is said before it is tried


async def refused(path, kind, words, **options) -> str:
    with pytest.raises(kind, match=words) as caught:
        await answer(path, **options)
    assert 1 <= len(str(caught.value).splitlines()) <= 5
    assert not processes()
    return str(caught.value)


async def test_an_engine_that_is_not_installed(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    await refused(model, errors.MissingRequirementsError, r'pip install .*"xllamacpp')
    assert "not installed" in Local.missing("")


async def test_a_machine_that_no_engine_is_built_for(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    await refused(model, errors.MissingRequirementsError, "no engine is built for .* riscv64")


@pytest.mark.skipif(sys.platform != "linux", reason="tells its CPU's abilities in a file")
async def test_a_cpu_without_avx2(model, monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(engine, "CPUINFO", tmp_path / "cpuinfo")
    engine.CPUINFO.write_text("processor: 0\nflags\t\t: fpu sse4_2 avx avx512 xavx2\n")
    await refused(model, errors.MissingRequirementsError, "AVX2")
    engine.CPUINFO.write_text("processor: 0\nflags\t\t: fpu avx avx2 bmi2\n")
    assert engine.missing() is None


async def test_too_little_memory(tmp_path):
    large = tiny_gguf.write(tmp_path / "large.gguf")
    os.truncate(large, 4 * psutil.virtual_memory().total)
    said = await refused(large, errors.UsageError, r"large.gguf needs about \d+\.\d\d GB of memory")
    assert "smaller" in said


async def test_too_little_memory_in_a_container(model, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CGROUP", tmp_path)
    for name, text in {
        "memory.max": "400000000\n",
        "memory.current": "300000000\n",
        "memory.stat": "anon 250000000\nactive_file 20000000\ninactive_file 30000000\n",
    }.items():
        (tmp_path / name).write_text(text)
    await refused(model, errors.UsageError, r"0\.26 GB of memory .* 0\.15 GB are free")
    (tmp_path / "memory.max").write_text("max\n")
    assert await answer(model) == expected()


def test_a_container_has_the_cores_that_it_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CGROUP", tmp_path)
    every = engine._cores()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert engine._cores() == every
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert engine._cores() == 1


async def test_a_context_or_a_time_that_is_none(model):
    await refused(model, errors.UsageError, "context takes tokens", context="large")
    await refused(model, errors.UsageError, "idle takes minutes", idle=0)


# -- files that are no weights


async def test_a_page_in_place_of_weights(tmp_path):
    page = tmp_path / "page.gguf"
    page.write_text("<html>Not found</html>")
    await refused(page, errors.StoreError, "not a GGUF file")


async def test_a_file_that_is_not_whole(model, tmp_path):
    part = tmp_path / "part.gguf"
    part.write_bytes(model.read_bytes()[:900_000])
    await refused(part, errors.StoreError, "incomplete")


async def test_weights_of_a_kind_that_the_engine_does_not_know(model, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(model.read_bytes().replace(b"llama", b"\x1b[31m"))
    said = await refused(other, errors.StoreError, "unknown model architecture")
    assert "\x1b" not in said


async def test_an_error_is_each_askers_own(tmp_path):
    page = tmp_path / "page.gguf"
    page.write_text("<html>Not found</html>")
    faults = await asyncio.gather(*[engine.running(page) for _ in range(3)], return_exceptions=True)
    assert len({id(fault) for fault in faults}) == 3


async def test_an_engine_that_falls_while_it_starts(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # of the same second's file, as long
    fall = "import os, signal; print('a last word', flush=True); os.kill(os.getpid(), signal.{})"
    for name, kind, words in (
        ("SIGABRT", errors.ServerError, "Aborted.* instead of starting: a last word"),
        ("SIGKILL", errors.ServerError, "memory runs out"),
        ("SIGILL", errors.MissingRequirementsError, "AVX2"),
    ):
        (tmp_path / "xllamacpp.py").write_text(fall.format(name))
        await refused(model, kind, words)
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('libgomp.so.1 is not there')")
    await refused(model, errors.ServerError, r"ImportError: libgomp\.so\.1 is not there")


# -- names


def test_a_name_of_the_table_or_a_path_is_a_model(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Local.get_model("qwen2.5-0.5b") == "qwen2.5-0.5b"
    assert Local.get_model("x.GGUF") == str(tmp_path / "x.GGUF")
    assert Local.get_model("~/x.gguf") == str(Path.home() / "x.gguf")
    with pytest.raises(errors.ModelNotSupportedError, match=r"qwen2\.5-0\.5b.*path"):
        Local.get_model("qwen")


async def test_weights_that_are_not_there_are_offered_and_not_fetched(tmp_path):
    offer = r"0\.49 GB, Apache-2\.0.*\n.*pull qwen2\.5-0\.5b"
    await refused("qwen2.5-0.5b", errors.UsageError, offer)
    await refused(tmp_path / "none.gguf", errors.UsageError, "no file")
    assert Local.missing("") == "no weights: %chat_setup local"
    assert Local.get_models() == list(weights.OFFERS)
    assert not weights.folder().exists()


async def test_weights_answer_once_they_are_there(model, monkeypatch):
    monkeypatch.setitem(
        weights.OFFERS, "tiny", weights.Offer("someone/tiny", "tiny.gguf", 1, "CC0", "tests")
    )
    weights.folder().mkdir(parents=True)
    weights.place("tiny").write_bytes(model.read_bytes())
    assert Local.missing("") is None
    assert Local.get_model("") == "tiny"
    assert [card.name for card in await Local.cards()] == ["tiny"]
    assert await answer("tiny") == expected()
