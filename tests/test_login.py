"""Keys: given once, kept privately, sent to one address, and seen nowhere else."""

import json
import os
import stat
import subprocess
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

import ipychat
from ipychat import errors, secrets
from ipychat.catalog import offers, resolve
from ipychat.providers.openai import OpenAI
from ipychat.providers.presets import PRESETS
from ipychat.store import credentials
from tests.loopback import answer
from tests.protocols import ONLINE, OPENAI

pytestmark = pytest.mark.usefixtures("sessions")
CANARY = "sk-canary-0123456789-abcdefghijklmnop"
MODELS = answer(b'{"data": [{"id": "m"}, {"id": "n"}]}', content_type="application/json")


class Ring(keyring.backend.KeyringBackend):
    priority = 1

    def __init__(self):
        super().__init__()
        self.kept = {}

    def get_password(self, service, username):
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password

    def delete_password(self, service, username):
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch):
    """No test sees the keyring of the machine's user."""
    from keyring.backends import fail

    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    credentials._from_keyring.clear()
    yield
    keyring.set_keyring(before)
    credentials._from_keyring.clear()


@pytest.fixture
def ring(_no_keyring):
    ring = Ring()
    keyring.set_keyring(ring)
    return ring


def key_file():
    return Path(os.environ["IPYCHAT_HOME"]) / "keys.json"


# -- where it is kept


def test_without_a_keyring_a_key_is_kept_in_a_private_file():
    assert credentials.keep_key("openai", "https://api.openai.com/v1", CANARY) == "a private file"
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert credentials.kept_key("openai", "https://api.openai.com/v1") == CANARY
    assert secrets.mask(CANARY) == "•••"


def test_with_a_keyring_it_is_kept_there_and_no_file_has_it(ring):
    assert (
        credentials.keep_key("openai", "https://api.openai.com/v1", CANARY)
        == "your system's keyring"
    )
    assert ring.kept == {("ipychat", "openai https://api.openai.com/v1"): CANARY}
    assert CANARY not in key_file().read_text()
    credentials._from_keyring.clear()
    assert credentials.kept_key("openai", "https://api.openai.com/v1") == CANARY


def test_a_keyring_that_takes_nothing_is_no_reason_to_lose_the_key(ring, monkeypatch):
    monkeypatch.setattr(Ring, "get_password", lambda *_: None)
    assert credentials.keep_key("openai", "https://api.openai.com/v1", CANARY) == "a private file"


@pytest.mark.parametrize(
    "root", ["https://api.openai.com/v2", "http://api.openai.com/v1", "https://evil.example/v1"]
)
def test_for_another_address_a_kept_key_counts_as_absent(root):
    credentials.keep_key("openai", "https://api.openai.com/v1", CANARY)
    assert credentials.kept_key("openai", root) is None
    assert OpenAI.key(root) is None


def test_a_forgotten_key_is_gone(ring):
    credentials.keep_key("openai", "https://api.openai.com/v1", CANARY)
    assert credentials.forget_key("openai")
    assert not credentials.forget_key("openai")
    assert ring.kept == {}
    assert credentials.kept_key("openai", "https://api.openai.com/v1") is None


def test_the_environments_key_comes_before_a_kept_one(monkeypatch):
    credentials.keep_key("openai", "https://api.openai.com/v1", CANARY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    assert OpenAI.key(OpenAI.base_url) == "sk-of-the-environment"
    assert OpenAI.key_found(OpenAI.base_url) == "OPENAI_API_KEY"


def test_a_kept_key_makes_its_provider_the_default_and_says_so():
    credentials.keep_key("groq", PRESETS["groq"].base_url, CANARY)
    name, rule, _ = resolve.default()
    assert (name, rule) == ("groq", "%chat_login groq has kept a key")


def test_a_damaged_file_of_keys_is_moved_aside_and_said():
    key_file().parent.mkdir(parents=True)
    key_file().write_text("{")
    with pytest.warns(UserWarning, match="could not be read"):
        assert credentials.kept_key("openai", "https://api.openai.com/v1") is None


def test_a_key_in_the_keyring_that_the_file_does_not_say_fits_no_other_address(ring, monkeypatch):
    credentials.keep_key("groq", "https://a.example", CANARY)

    def full(*_):
        raise errors.StoreError("the disk is full")

    monkeypatch.setattr(credentials.files, "update_json", full)
    with pytest.raises(errors.StoreError):
        credentials.keep_key("groq", "https://b.example", "sk-the-key-of-another-place")
    credentials._from_keyring.clear()
    assert credentials.kept_key("groq", "https://a.example") == CANARY
    assert credentials.kept_key("groq", "https://b.example") is None


def test_a_keyring_that_does_not_let_go_is_said(ring, monkeypatch):
    credentials.keep_key("groq", "https://a.example", CANARY)

    def locked(*_):
        raise keyring.errors.KeyringLocked

    monkeypatch.setattr(Ring, "delete_password", locked)
    with pytest.raises(errors.StoreError, match="could not delete"):
        credentials.forget_key("groq")
    assert credentials.services() == ["groq"]


def test_a_key_that_is_kept_for_another_address_chooses_no_default():
    credentials.keep_key("groq", "https://elsewhere.example/v1", CANARY)
    assert resolve.default()[0] == "helper"


@pytest.mark.parametrize(
    "key", ["sk-\udcff-not-utf-8-in-the-shell", "sk with a blank in it", "  ", "sk-\x00-nul" * 2]
)
def test_an_odd_key_in_the_environment_is_said_in_a_line(monkeypatch, key):
    environ = {**os.environ, "XAI_API_KEY": key}
    monkeypatch.setattr(os, "environ", environ)
    states = {str(offer.model): offer.missing for offer in offers.offers()}
    assert "key" in states["xai:grok-4.7"]
    assert offers.found()
    assert resolve.resolve("helper") == resolve.resolve("helper:notebook")


# -- the command


@pytest.fixture
def typed(notebook):
    """Runs code in a kernel whose user types these answers."""

    def run(code, *answers):
        notebook.answers = list(answers)
        return notebook.run(code)

    return run


def kept(notebook):
    path = key_file()
    return json.loads(path.read_text()) if path.exists() else {}


def endpoint(service, name="groq"):
    return f"%config IPyChat.urls = {{'{name}': '{service.url}/{name}'}}\n"


def test_it_asks_checks_keeps_and_says_what_it_found(typed, notebook, service):
    service.on("/groq/models", MODELS)
    service.on("/groq/chat/completions", OPENAI.whole("Hello"))
    ran = typed(f"{endpoint(service)}%chat_login groq", CANARY)
    assert ran.status == "ok", ran.error
    assert "2 models" in ran.stdout
    assert "a private file" in ran.stdout
    assert f"127.0.0.1:{service.port}" in ran.stdout
    [asked] = service.requests
    assert asked.headers["Authorization"] == f"Bearer {CANARY}"
    assert notebook.run("%chat -m groq:m hi").status == "ok"
    assert service.requests[-1].headers["Authorization"] == f"Bearer {CANARY}"
    assert CANARY not in json.dumps(
        [message["content"] for c in notebook.cells.values() for message in c.messages]
    )


def test_a_key_that_the_service_does_not_accept_is_not_kept(typed, notebook, service):
    service.on(
        "/groq/models",
        answer(b'{"error": {"message": "bad key"}}', status=401, content_type="application/json"),
    )
    ran = typed(f"{endpoint(service)}%chat_login groq", CANARY)
    assert ran.status == "error"
    assert "bad key" in ran.error
    assert "was not stored" in ran.error
    assert kept(notebook) == {}


def test_where_it_can_not_be_checked_it_is_kept_and_that_is_said(typed, notebook, service):
    ran = typed(f"{endpoint(service)}%chat_login groq", CANARY)
    assert ran.status == "ok", ran.error
    assert "could not be checked" in ran.stdout
    assert list(kept(notebook)) == ["groq"]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_service_that_says_400_to_a_wrong_key_keeps_nothing_either(
    typed, notebook, service, status
):
    service.on(
        "/xai/models",
        answer(
            b'{"error": "Incorrect API key provided"}',
            status=status,
            content_type="application/json",
        ),
    )
    ran = typed(f"{endpoint(service, 'xai')}%chat_login xai", CANARY)
    assert "was not stored" in ran.error
    assert kept(notebook) == {}


def test_an_interrupt_while_the_key_is_typed_ends_it_in_a_line(notebook, service):
    running = notebook.send(f"{endpoint(service)}%chat_login groq")
    notebook.wait_for(lambda: notebook.client.stdin_channel.msg_ready())
    notebook.interrupt()
    ran = notebook.wait(running, 20)
    assert ran.status == "error"
    assert "nothing has changed" in ran.error
    assert ran.error.count("\n") < 5


def test_a_provider_that_the_policy_forbids_is_asked_for_no_key_and_no_list(notebook, service):
    service.on("/groq/models", MODELS)
    notebook.run(
        f"{endpoint(service)}%config IPyChat.allowed_models = ['helper:*']\nimport os; os.environ['GROQ_API_KEY'] = '{CANARY}'"
    )
    ran = notebook.run("%chat_login groq")
    assert "groq is not allowed by %config IPyChat" in ran.error
    notebook.run("%chat_models --refresh")
    assert service.requests == []


def test_an_endpoint_of_the_users_own_takes_a_key_too(typed, notebook, service, monkeypatch):
    ran = typed(
        "%config IPyChat.endpoints = {'mine': {'url': 'http://192.0.2.1/v1', 'key': 'MINE'}}\n%config IPyChat.connect_timeout = 0.2\n%chat_login mine",
        CANARY,
    )
    assert ran.status == "ok", ran.error
    assert "only sent to 192.0.2.1" in ran.stdout


def test_it_forgets(typed, notebook, service):
    service.on("/groq/models", MODELS)
    typed(f"{endpoint(service)}%chat_login groq", CANARY)
    assert "deleted" in notebook.run("%chat_login groq --forget").stdout
    assert kept(notebook) == {}
    assert "no key of groq" in notebook.run("%chat_login groq --forget").stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "needs a provider"),
        ("opnai", "no provider"),
        ("koala", "needs no key"),
        ("helper", "needs no key"),
        ("lmstudio", "needs no key"),
        ("openai extra", "needs a provider"),
    ],
)
def test_a_provider_without_keys_is_told(notebook, line, says):
    ran = notebook.run(f"%chat_login {line}")
    assert ran.status == "error"
    assert says in ran.error


def test_nothing_typed_keeps_nothing(typed, notebook):
    ran = typed("%chat_login groq", "  ")
    assert ran.status == "error"
    assert "No key was entered" in ran.error
    assert kept(notebook) == {}


def test_where_nobody_can_be_asked_it_says_so(notebook):
    ran = notebook.run("%chat_login groq", watched=False)
    assert ran.status == "error"
    assert "GROQ_API_KEY" in ran.error
    assert "Traceback" not in ran.error


# -- seen nowhere else


HOSTILE = {
    "echoed in an error": lambda key: answer(
        json.dumps({"error": {"message": f"bad {key}"}}).encode(),
        status=401,
        content_type="application/json",
    ),
    "echoed with a 200": lambda key: answer(
        json.dumps({"error": f"bad {key}"}).encode(), content_type="application/json"
    ),
    "in a redirect": lambda key: answer(
        b"", status=307, Location=f"http://evil.example/{key}?key={key}"
    ),
    "in a page": lambda key: answer(
        f"<html>{key}</html>".encode(), status=502, content_type="text/html"
    ),
}


@pytest.mark.parametrize("protocol", [OPENAI, *ONLINE], ids=str)
@pytest.mark.parametrize("how", HOSTILE)
def test_a_canary_key_is_in_no_output_error_or_file(notebook, service, protocol, how):
    if protocol.provider.__name__ == "Ollama":
        protocol.prepare(service)
    variable, name = protocol.provider.key_variables[0], protocol.provider.name
    service.on(protocol.path, HOSTILE[how](CANARY))
    setup = f"import os; os.environ['{variable}'] = '{CANARY}'\nos.environ['{protocol.provider.url_variables[0]}'] = '{service.url}'"
    notebook.run(setup)
    ran = notebook.run(f"%chat -m {name}:m --option retries=0 my key is {CANARY}, look after it")
    assert ran.status == "error"
    notebook.run(
        "import ipychat; t = ipychat.conversation('default').turns[-1]; print(t.error, t, t.request, t.reply); ipychat.models()"
    )
    notebook.run("%chat_history")
    notebook.run("%chat_setup")
    notebook.run("%chat_usage")
    notebook.run(f"%chat -m {name}:m --dry-run hello")
    notebook.run("%tb")
    said = [
        m["content"]
        for cell in notebook.cells.values()
        for m in cell.messages
        if m["msg_type"] != "execute_input"
    ]
    assert CANARY not in json.dumps(said)
    home = Path(os.environ["IPYCHAT_HOME"])
    for file in filter(Path.is_file, home.rglob("*")):
        assert CANARY.encode() not in file.read_bytes(), file


def test_no_key_is_written_anywhere_in_this_repository():
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=Path(__file__).parents[1], capture_output=True, check=False
    )
    for name in filter(None, tracked.stdout.decode().split("\0")):
        assert ".json" not in name or "keys" not in name


async def test_the_prompt_still_reaches_the_service_when_a_key_is_kept(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    credentials.keep_key("openai", service.url, CANARY)
    service.on(OPENAI.path, OPENAI.whole("Hello"))
    assert (await ipychat.ask("Hi", model="openai:m")).text == "Hello"
    assert service.requests[0].headers["Authorization"] == f"Bearer {CANARY}"
    with pytest.raises(errors.ServiceError):
        await ipychat.ask("Hi", model="openai:m", base_url=f"{service.url}/other", retries=0)
    assert "Authorization" not in service.requests[-1].headers
