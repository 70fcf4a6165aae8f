import logging
import os

import pytest

from ipychat import config
from ipychat.wire import http
from tests.loopback import Proxy, Service, SocksProxy

OURS = ("IPYCHAT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "OLLAMA_")


@pytest.fixture(autouse=True)
def _a_machine_of_its_own(tmp_path, monkeypatch):
    """No key, no proxy, no setting and no file of the machine's user is seen by a test."""
    for name in os.environ:
        if name.startswith(OURS) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("IPYCHAT_HOME", str(tmp_path / "home"))
    config.use(config.Config())
    yield
    config.use(config.Config())


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
