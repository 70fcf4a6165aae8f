"""From a cell's start to the first byte written, the loop's thread touches no file and no socket."""

import json
import socket
import time

import pytest

from tests.kernels import Kernel
from tests.loopback import Service
from tests.protocols import PROTOCOLS
from tests.test_magics import PATH, echo

pytestmark = pytest.mark.kernel
OPENAI = PROTOCOLS[0]
EXCEPTIONS = {
    "socket.connect": "aiohttp's, to the service: it does not wait",
    "socket.__new__": "the same",
    "socket.getaddrinfo": "of an address that is a number: nobody is asked",
}
"""What the loop's thread may do on the way, by the audit event; and why."""
WATCH = """
import sys, threading
watched = {"open", "os.listdir", "os.scandir", "socket.__new__", "socket.connect",
           "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "glob.glob"}
seen, watching, mine = [], False, threading.get_ident()

def watch(event, details):
    if watching and event in watched and threading.get_ident() == mine:
        frame = sys._getframe(1)
        while frame and "ipychat" not in frame.f_code.co_filename:
            frame = frame.f_back
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
        if where:
            seen.append((event, str(details[0]), where))

def until_the_first_byte(module):
    send = module.Call._send
    async def sent(self):
        global watching
        response = await send(self)
        watching = False
        return response
    module.Call._send = sent

sys.addaudithook(watch)
from ipychat.wire import http
until_the_first_byte(http)
"""


@pytest.mark.parametrize("turns", [0, 20])
def test_the_loops_thread_touches_no_file_and_no_socket_of_its_own(shared, turns):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run("%chat_new")
    for _ in range(max(turns, 1)):
        kernel.run("%chat hi")
    kernel.run(WATCH)
    asked = len(service.requests)
    kernel.run("watching = True\n%chat hi")
    assert len(service.requests) == asked + 1
    seen = json.loads(kernel.run("import json; print(json.dumps(seen))").stdout)
    assert [one for one in seen if one[0] not in EXCEPTIONS] == []


@pytest.fixture
def silent(monkeypatch):
    """Five ports that take connections and say nothing."""
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    yield [one.getsockname()[1] for one in ports]
    for one in ports:
        one.close()


def first_byte(env, ports) -> float:
    """Seconds from the start of a kernel's first question to the first byte at the service."""
    service = Service()
    arrived = []

    def answering(received):
        arrived.append(time.monotonic())
        return echo(received)

    service.on(PATH, answering)
    kernel = Kernel(
        {**env, "OPENAI_BASE_URL": service.url, "OPENAI_API_KEY": "sk-a-key-of-the-tests"}
    )
    kernel.run("%load_ext ipychat")
    kernel.run(
        "from ipychat.local import servers; servers.PORTS.clear()\n"
        f"servers.PORTS.update(dict.fromkeys({ports}, 'vllm')); import aiohttp, ipychat.wire.http"
    )
    begin = time.monotonic()
    assert kernel.run("%chat -m openai:m hi").status == "ok"
    kernel.close()
    service.close()
    return arrived[0] - begin


def test_silent_servers_on_this_machine_delay_no_one_who_names_a_model(
    generation, silent, tmp_path
):
    env = {**generation, "IPYCHAT_HOME": str(tmp_path), "IPYCHAT_SERVERS": ""}
    closed = [9, 11, 13, 17, 19]
    # best of three of each, in turns: what shares the machine's cores is no part of it
    took = [[first_byte(env, ports) for ports in (closed, silent)] for _ in range(3)]
    none, five = (min(one) for one in zip(*took, strict=True))
    assert five < none + 0.1
