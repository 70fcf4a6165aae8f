"""Endpoints of the user's own: each example of the documentation, sent to a server that looks."""

import ast
import re
import sys
from pathlib import Path

import pytest

import ipychat
from ipychat import errors, secrets
from ipychat.catalog import registry, routes
from ipychat.magics.settings import IPyChat
from ipychat.messages import ModelId
from ipychat.providers import _keyed
from tests.loopback import answer
from tests.protocols import PROTOCOLS

pytestmark = [pytest.mark.usefixtures("sessions"), pytest.mark.heavy]  # commands print keys

PAGE = Path(__file__).parents[1] / "docs" / "providers.md"
EXAMPLES = {
    name: fields
    for found in re.findall(r"%config IPyChat\.endpoints = (\{.*\})", PAGE.read_text())
    for name, fields in [
        (key if key != "azure" or "{model}" in value["url"] else "azure-v1", value)
        for key, value in ast.literal_eval(found).items()
    ]
}
KEY = "a-key-of-the-tests-0123456789"
SENT = {
    "work": ("llm.example.org", "/v1/chat/completions", "", {"Authorization": f"Bearer {KEY}"}),
    "azure": (
        "mine.openai.azure.com",
        "/openai/deployments/m/chat/completions",
        "api-version=2025-04-01-preview",
        {"api-key": KEY},
    ),
    "azure-v1": ("mine.openai.azure.com", "/openai/v1/responses", "", {"api-key": KEY}),
    "vertex": (
        "europe-west4-aiplatform.googleapis.com",
        "/v1/projects/my-project/locations/europe-west4/publishers/google/models/m:streamGenerateContent",
        "alt=sse",
        {"Authorization": f"Bearer {KEY}"},
    ),
    "minimax-messages": (
        "api.minimax.io",
        "/anthropic/v1/messages",
        "",
        {"Authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"},
    ),
    "deepseek-messages": (
        "api.deepseek.com",
        "/anthropic/v1/messages",
        "",
        {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
    ),
    "proxy": (
        "litellm.example.org",
        "/v1/responses",
        "",
        {"Authorization": f"Bearer {KEY}", "x-litellm-tags": "notebook", "x-team-token": "a-token-of-the-team"},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_key_of_another_test():
    yield
    _keyed._printed.clear()


def test_every_example_is_tried():
    assert EXAMPLES.keys() == SENT.keys()


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_sends_what_its_service_wants(service, monkeypatch, name):
    fields = dict(EXAMPLES[name])
    host, path, query, headers = SENT[name]
    if "key_command" in fields:
        fields["key_command"] = [sys.executable, "-c", f"print({KEY!r})"]
    if "key" in fields:
        monkeypatch.setenv(fields["key"], KEY)
    monkeypatch.setenv("TEAM_TOKEN", "a-token-of-the-team")
    fields["url"] = fields["url"].replace("https://", "http://")  # the service is its proxy
    IPyChat(endpoints={name: fields})
    spoken = routes.find(ModelId(name, "m"), {}).provider.protocol
    protocol = next(p for p in PROTOCOLS if p.provider.protocol == spoken)
    service.on(path, protocol.whole("Hi"))
    reply = await ipychat.ask("?", model=f"{name}:m", proxy=service.url)
    assert reply.text == "Hi"
    [asked] = service.requests
    assert (asked.headers["Host"], asked.path, asked.query) == (host, path, query)
    assert {one: asked.headers.get(one) for one in headers} == headers
    keys = {"Authorization", "api-key", "x-api-key", "x-goog-api-key"}
    assert keys & asked.headers.keys() == keys & headers.keys()
    assert "cache_control" not in asked.json


# -- the fields


def endpoint(url="http://127.0.0.1:9/v1", **fields):
    IPyChat(endpoints={"mine": {"url": url, **fields}})
    return registry.load("mine")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (7, "is a root URL, or a dict"),
        ({"key": "X"}, "is a root URL, or a dict"),
        ({"url": "nowhere"}, "url of the endpoint mine is a web address"),
        (
            {"url": "http://x", "protocol": "soap"},
            "one of completions, responses, anthropic, gemini",
        ),
        ({"url": "http://x", "protocal": "gemini"}, "no field 'protocal'.*protocol"),
        ({"url": "http://x", "headers": ["a"]}, "headers of the endpoint mine is a dict of texts"),
        ({"url": "http://x", "headers": {"a": "b\r\nc: d"}}, "dict of texts"),
        ({"url": "http://x", "key_command": "echo key"}, "list of words"),
        ({"url": "http://x", "key_command": []}, "list of words"),
        ({"url": "http://x", "key": "K", "key_command": ["x"]}, "a key or a key_command"),
    ],
)
def test_what_is_wrong_with_one_is_said(given, says):
    with pytest.raises(Exception, match=says):
        IPyChat(endpoints={"mine": given})


async def test_a_header_whose_variable_is_not_set_is_an_error_before_it_is_sent(service):
    endpoint(service.url, headers={"x-token": "$NOT_SET_ANYWHERE"})
    with pytest.raises(errors.MissingKeyError, match="NOT_SET_ANYWHERE"):
        await ipychat.ask("?", model="mine:m")
    assert not service.requests


async def test_a_headers_variable_is_a_secret(service, monkeypatch):
    monkeypatch.setenv("TEAM_TOKEN", "a-token-of-the-team")
    service.on("/chat/completions", PROTOCOLS[0].whole("Hi"))
    endpoint(service.url, headers={"x-token": "Token $TEAM_TOKEN"})
    await ipychat.ask("?", model="mine:m")
    assert service.requests[0].headers["x-token"] == "Token a-token-of-the-team"
    assert secrets.mask("a-token-of-the-team") == secrets.MASK


async def test_headers_and_keys_go_to_the_endpoints_own_address_only(service, monkeypatch):
    monkeypatch.setenv("MINE", KEY)
    service.on("/chat/completions", PROTOCOLS[0].whole("Hi"))
    endpoint("http://elsewhere.example/v1", key="MINE", headers={"x-token": "tell-nobody"})
    await ipychat.ask("?", model="mine:m", base_url=service.url)
    assert not {"Authorization", "x-token"} & service.requests[0].headers.keys()


async def test_a_model_in_the_address_is_quoted_and_nothing_is_listed_there(service):
    endpoint(service.url + "/d/{model}")
    service.on("/d/a%2Fb/chat/completions", PROTOCOLS[0].whole("Hi"))
    service.on("/d/a/b/chat/completions", PROTOCOLS[0].whole("Hi"))
    assert (await ipychat.ask("?", model="mine:a/b")).text == "Hi"
    assert await registry.load("mine").cards() == []
    assert len(service.requests) == 1


# -- the command


def command(tmp_path, *keys):
    """A command that prints one key after the other, the last one for ever."""
    counter = tmp_path / "runs"
    code = (
        f"import pathlib; p = pathlib.Path({str(counter)!r}); "
        "n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1)); "
        f"print({list(keys)!r}[min(n, {len(keys) - 1})])"
    )
    return counter, [sys.executable, "-c", code]


async def test_a_command_is_run_once_and_again_after_a_refusal(service, tmp_path):
    runs, key_command = command(tmp_path, "first-key-0123456789", "second-key-0123456789")
    endpoint(service.url, key_command=key_command)
    service.on("/chat/completions", PROTOCOLS[0].whole("Hi"))
    for _ in range(2):
        await ipychat.ask("?", model="mine:m")
    assert runs.read_text() == "x"
    service.on("/chat/completions", answer(b"{}", status=401), PROTOCOLS[0].whole("Ho"))
    assert (await ipychat.ask("?", model="mine:m")).text == "Ho"
    assert runs.read_text() == "xx"
    sent = [one.headers["Authorization"].split("-")[0] for one in service.requests]
    assert sent == ["Bearer first", "Bearer first", "Bearer first", "Bearer second"]
    service.on("/chat/completions", answer(b"{}", status=401))
    with pytest.raises(errors.AuthenticationError):
        await ipychat.ask("?", model="mine:m")
    assert runs.read_text() == "xxx"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["/no/such/command"], "can't be run"),
        ([sys.executable, "-c", "exit(3)"], "ended with 3"),
        ([sys.executable, "-c", ""], "printed nothing"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "took over 0.2 s"),
    ],
)
async def test_a_command_that_gives_no_key_is_an_error(service, monkeypatch, words, says):
    monkeypatch.setattr(_keyed, "COMMAND_TIMEOUT", 0.2 if "sleep" in words[-1] else 10)
    endpoint(service.url, key_command=words)
    with pytest.raises(errors.MissingKeyError, match=says):
        await ipychat.ask("?", model="mine:m")
    assert not service.requests


async def test_a_printed_key_is_a_secret(service, tmp_path):
    _, key_command = command(tmp_path, "a-printed-key-0123456789")
    endpoint(service.url, key_command=key_command)
    service.on("/chat/completions", answer(b'{"error": "a-printed-key-0123456789"}', status=400))
    with pytest.raises(errors.RequestError) as caught:
        await ipychat.ask("?", model="mine:m")
    assert "a-printed-key" not in str(caught.value)


# -- the environment's names


async def test_anthropics_token_goes_as_a_bearer_and_its_key_as_its_own_header(
    service, monkeypatch
):
    anthropic = next(p for p in PROTOCOLS if str(p) == "Anthropic")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", service.url)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    service.on(anthropic.path, anthropic.whole("Hi"))
    await ipychat.ask("?", model="anthropic:m")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another-key-0123456789")
    await ipychat.ask("?", model="anthropic:m")
    first, second = (one.headers for one in service.requests)
    assert (first["Authorization"], first.get("x-api-key")) == (f"Bearer {KEY}", None)
    assert (second.get("Authorization"), second["x-api-key"]) == (None, "another-key-0123456789")


def test_geminis_address_has_two_names(monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "https://gemini.example")
    assert routes.find(ModelId("gemini", "m"), {}).root == "https://gemini.example/v1beta"


@pytest.mark.parametrize(
    "name",
    ["cerebras", "perplexity", "zai", "dashscope", "moonshot", "minimax", "nvidia", "sambanova", "deepinfra"],
)  # fmt: skip
async def test_the_presets_are_asked_with_their_own_keys(service, monkeypatch, name):
    cls = registry.load(name)
    monkeypatch.setenv(cls.key_variables[0], KEY)
    root = cls.base_url.replace("https://", "http://")
    path = f"{root.partition('//')[2].partition('/')[1]}{root.partition('//')[2].partition('/')[2]}"
    service.on(f"{path}/chat/completions", PROTOCOLS[0].whole("Hi"))
    asked = {"base_url": root, "proxy": service.url, "api_key": KEY}
    assert (await ipychat.ask("?", model=f"{name}:m", **asked)).text == "Hi"
    assert cls.find_key(cls.base_url).value == KEY
