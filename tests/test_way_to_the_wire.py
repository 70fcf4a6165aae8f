"""From a cell's start to the first byte written, the loop's thread touches no file and no socket."""

import json
import socket

import pytest

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
def silent():
    """Five ports that take connections and say nothing."""
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    for one in ports:
        one.setblocking(False)
    yield ports
    for one in ports:
        one.close()


def was_asked(port: socket.socket) -> bool:
    """Whether anyone has connected."""
    try:
        port.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(("cell", "asked"), [("%chat -m openai:m hi", False), ("%chat hi", True)])
def test_who_names_a_model_waits_for_no_other_server_on_this_machine(
    kernel, service, silent, cell, asked
):
    service.on(PATH, echo)
    notebook = kernel(IPYCHAT_SERVERS="", IPYCHAT_MODEL="", OLLAMA_HOST="192.0.2.1")
    if asked:
        notebook.run("import os; del os.environ['OPENAI_API_KEY']")
    ports = [one.getsockname()[1] for one in silent]
    notebook.run(
        "from ipychat.local import servers; servers.PORTS.clear()\n"
        f"servers.PORTS.update(dict.fromkeys({ports}, 'vllm'))"
    )
    assert notebook.run(cell).status == "ok"
    assert [was_asked(one) for one in silent] == [asked] * 5
