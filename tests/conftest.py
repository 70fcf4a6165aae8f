import asyncio
import gc
import itertools
import logging
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

import pytest

from ipychat import config, secrets
from ipychat.catalog import registry
from ipychat.store import ledger
from ipychat.wire import http
from tests.kernels import Kernel
from tests.loopback import Proxy, Service, SocksProxy

# jsonschema, which comes with notebooks, compiles a grammar with it for over a second in each process
sys.modules.setdefault("rfc3987_syntax", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts jobs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else no child hears an interrupt
OURS = ("IPYCHAT_", "JUPYTERHUB_", "HF_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "OLLAMA_")
KEYS = ("_API_KEY", "HF_TOKEN")
KERNEL = {"generation", "kernel"}
BROWSER = {"jupyter", "browser"}


def is_of_the_user(name):
    """Whether a variable of the environment is a setting, a key or a proxy of the machine's user."""
    return name.startswith(OURS) or name.endswith(KEYS) or name.lower().endswith("_proxy")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests, too")


def pytest_xdist_auto_num_workers():
    """Tests wait for kernels, pages and time-outs about half of their time."""
    return 2 * len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config, items):
    """Mark each test with what it starts.

    A worker takes a file at a time. Those that start something take longest and come first, so that
    at the end no worker has to be waited for.
    """
    for item in items:
        for mark, fixtures in (("kernel", KERNEL), ("browser", BROWSER)):
            if not fixtures.isdisjoint(item.fixturenames):
                item.add_marker(mark)
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.timeout(300))
        slow = item.get_closest_marker("slow")
        if slow and not config.option.slow:
            item.add_marker(pytest.mark.skip(f"slow, {slow.args[0]}: make slow runs it"))
    items.sort(key=lambda item: not any(map(item.get_closest_marker, ("kernel", "browser"))))


LIGHT = {"git", "openssl"}
_light_tests = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    heavy = any(map(item.get_closest_marker, ("kernel", "browser", "heavy", "slow")))
    _light_tests[:] = () if heavy else (item.nodeid,)


def _look_for_programs(event, details):
    if event == "subprocess.Popen" and _light_tests and Path(details[0]).name not in LIGHT:
        raise RuntimeError(f"{details[0]} is started: mark {_light_tests[0]} as heavy")


sys.addaudithook(_look_for_programs)  # make quick is for tests that start nothing


_begin = asyncio.BaseEventLoop.__init__
_repr = asyncio.BaseEventLoop.__repr__


def _begin_loop(loop):
    _begin(loop)
    frames = itertools.islice(traceback.walk_stack(sys._getframe(1)), 8)
    at = [f"{Path(one.f_code.co_filename).name}:{line}" for one, line in frames]
    loop._made = f"{os.environ.get('PYTEST_CURRENT_TEST')}, {' < '.join(at)}"


# a loop that is left open is only noticed when it is collected, in some later test
asyncio.BaseEventLoop.__init__ = _begin_loop
asyncio.BaseEventLoop.__repr__ = lambda loop: f"{_repr(loop)} made by {loop.__dict__.get('_made')}"


_run = asyncio.run


def pytest_runtest_teardown():
    """Take back what a test's synchronous magic has patched: that `asyncio.run` closes no loop."""
    asyncio.run = _run


def pytest_collection_finish():
    """What was collected stays: no collection of garbage need look at it again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _an_ipython_of_its_own(tmp_path_factory):
    """No start-up file of the user's, and no history that kernels of other workers lock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        yield


HOMES = itertools.count(1)


@pytest.fixture
def home(tmp_path_factory):
    """The user's folder, which is not there before something is written to it."""
    path = tmp_path_factory.getbasetemp() / f"home-{next(HOMES)}"
    yield path
    if path.exists():
        shutil.rmtree(path)


@pytest.fixture(autouse=True)
def _a_machine_of_its_own(home, monkeypatch):
    """No key, no proxy, no setting, no file of the machine's user and no secret is seen by a test."""
    for name in os.environ:
        if is_of_the_user(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("IPYCHAT_HOME", str(home))
    monkeypatch.setenv("IPYCHAT_SERVERS", "off")
    monkeypatch.setattr(registry, "_found", {})
    for name in ("_known", "_in_bytes", "_in_urls", "_looked_at"):
        monkeypatch.setattr(secrets, name, {})  # else each test looks for those of all before it
    config.use(config.Config())
    yield
    config.use(config.Config())
    ledger.save()  # what is gathered behind the answers is this test's, and no later one's
    ledger._unsaved.clear()
    ledger._kept.clear()


@pytest.fixture
async def sessions():
    """Closes the HTTP sessions that a test opened on its loop."""
    yield
    await http.close()


def _running(make):
    server = make()
    yield server
    server.close()


@pytest.fixture
def service():
    yield from _running(Service)


@pytest.fixture
def proxy():
    yield from _running(Proxy)


@pytest.fixture
def socks_proxy():
    yield from _running(SocksProxy)


@pytest.fixture(autouse=True)
def _quiet_event_loops():
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


# -- real kernels, of both generations

OLD = Path(sys.prefix) / "ipykernel-6.31"
KERNELS = {"newest": {}, "6.31": {"PYTHONPATH": str(OLD)}}


@pytest.fixture(scope="module", params=KERNELS)
def generation(request):
    """The environment in which a kernel of one generation starts."""
    if request.param == "6.31" and not OLD.exists():
        pytest.skip("ipykernel 6.31 is not installed beside the newest: make test does it")
    return KERNELS[request.param]


@pytest.fixture(scope="module")
def fork():
    """Whether kernels are forked; a module that measures CPU time has them started."""
    return True


@pytest.fixture
def kernel(generation, fork, service, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "a notebook.ipynb"))
    monkeypatch.chdir(tmp_path)
    made = []

    def start(**env):
        one = Kernel(generation | env, fork=fork)
        made.append(one)
        assert one.run("%load_ext ipychat").status == "ok"
        return one

    yield start
    for one in made:
        one.close()


@pytest.fixture
def notebook(kernel):
    return kernel()


@pytest.fixture(scope="module")
def shared(generation, fork, tmp_path_factory):
    """One kernel and one service for the tests that leave nothing behind."""
    service = Service()
    env = {
        **service.env,
        "IPYCHAT_HOME": str(tmp_path_factory.mktemp("home")),
    }
    kernel = Kernel(generation | env, fork=fork)
    assert kernel.run("%load_ext ipychat").status == "ok"
    yield kernel, service
    kernel.close()
    service.close()
