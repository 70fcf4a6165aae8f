"""An administrator's limits: what they allow, whose they are, and that they can't be got round."""

import json
from pathlib import Path

import pytest

import ipychat
from ipychat import config
from ipychat.catalog import offers, registry
from ipychat.errors import PolicyError
from ipychat.magics.settings import IPyChat
from ipychat.wire import policy
from tests.protocols import OPENAI

pytestmark = pytest.mark.usefixtures("sessions")


@pytest.fixture
def administrator(tmp_path, monkeypatch):
    """Writes what the administrator allows."""
    path = tmp_path / "etc" / "policy.json"
    path.parent.mkdir()
    monkeypatch.setattr(policy, "file", lambda: path)

    def write(text=None, **limits):
        path.write_text(json.dumps(limits) if text is None else text)

    return write


@pytest.fixture
def openai(service, monkeypatch):
    service.on(OPENAI.path, OPENAI.whole("Hello"))
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    return service


def test_its_file_stands_where_no_variable_of_the_environment_moves_it(monkeypatch, tmp_path):
    before = policy.file()
    for name in ("XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "HOME", "IPYCHAT_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert policy.file() == before
    assert policy.file().name == "policy.json"
    assert Path.home() not in policy.file().parents
    assert "ipychat" in policy.file().parts


async def test_without_a_file_all_is_allowed(administrator, openai):
    assert (await ipychat.ask("Hi", model="openai:m")).text == "Hello"
    assert policy.in_force() == []


@pytest.mark.parametrize("model", ["openai:m", "koala:gpt-4o-mini"])
async def test_a_model_that_is_not_allowed_is_refused_before_a_byte_is_sent(
    administrator, openai, model
):
    administrator(allowed_models=["openai:good-*", "helper:*"])
    with pytest.raises(
        PolicyError, match=r"does not allow .*\nAllowed are: openai:good-\*, helper:\*"
    ):
        await ipychat.ask("Hi", model=model, base_url=openai.url)
    assert openai.requests == []
    assert (await ipychat.ask("Hi", model="openai:good-one")).text == "Hello"


async def test_a_host_that_is_not_allowed_gets_no_byte(administrator, openai):
    administrator(allowed_hosts=["api.openai.com", "*.example.org"])
    with pytest.raises(PolicyError, match=r"does not allow requests to 127\.0\.0\.1"):
        await ipychat.ask("Hi", model="openai:m")
    assert openai.requests == []
    administrator(allowed_hosts=["127.0.0.1"])
    assert (await ipychat.ask("Hi", model="openai:m")).text == "Hello"


async def test_a_provider_that_is_used_directly_is_held_to_the_hosts_too(administrator, openai):
    administrator(allowed_hosts=[])
    with pytest.raises(PolicyError):
        async for _ in OPENAI.provider.create_async_generator(
            "m", [{"role": "user", "content": "Hi"}]
        ):
            pass
    assert openai.requests == []


async def test_a_user_narrows_the_limits_and_never_widens_them(administrator, openai):
    administrator(allowed_models=["openai:*"])
    config.use(config.Config(allowed_models=("openai:small", "anthropic:*")))
    assert (await ipychat.ask("Hi", model="openai:small")).text == "Hello"
    with pytest.raises(PolicyError, match="%config IPyChat does not allow openai:large"):
        await ipychat.ask("Hi", model="openai:large")
    with pytest.raises(PolicyError, match="administrator's policy does not allow anthropic:m"):
        await ipychat.ask("Hi", model="anthropic:m")


async def test_a_users_configuration_does_not_replace_the_administrators(administrator, openai):
    administrator(allowed_hosts=[])
    IPyChat(allowed_hosts=["127.0.0.1"], allowed_models=["*"])
    with pytest.raises(PolicyError, match="administrator"):
        await ipychat.ask("Hi", model="openai:m")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"allowed_model": []}',
        '{"allowed_hosts": "api.openai.com"}',
        '{"allowed_models": [1]}',
        '{"allowed_tools": "kernel.*"}',
        "[" * 100_000,
    ],
)
async def test_a_policy_that_can_not_be_read_allows_nothing(administrator, openai, text):
    administrator(text)
    with pytest.raises(PolicyError, match="can't be read, so nothing is sent"):
        await ipychat.ask("Hi", model="openai:m")
    assert openai.requests == []


async def test_a_change_of_the_file_holds_at_once(administrator, openai):
    administrator(allowed_models=[])
    with pytest.raises(PolicyError, match="Allowed are: none"):
        await ipychat.ask("Hi", model="openai:m")
    administrator(allowed_models=["openai:*"])
    assert (await ipychat.ask("Hi", model="openai:m")).text == "Hello"


async def test_patterns_of_hosts_are_of_any_case_and_a_last_dot_is_none_of_the_name(administrator):
    administrator(allowed_hosts=["LLM.Example.org"])
    policy.check_url("https://llm.example.ORG./v1")
    with pytest.raises(PolicyError):
        policy.check_url("https://llm.example.org.evil.example/v1")


async def test_with_limits_on_hosts_a_provider_with_a_client_of_its_own_is_refused(administrator):
    @ipychat.register
    class Stranger:
        @classmethod
        async def create_async_generator(cls, model, messages, **options):
            yield "sent past everybody"

    try:
        assert (await ipychat.ask("Hi", model="stranger:m")).text == "sent past everybody"
        administrator(allowed_hosts=["api.openai.com"])
        with pytest.raises(PolicyError, match="can't be limited to the allowed hosts"):
            await ipychat.ask("Hi", model="stranger:m")
    finally:
        del registry._registered["stranger"]


def test_what_is_not_allowed_is_shown_as_not_ready(administrator):
    administrator(allowed_models=["helper:*"])
    states = {str(offer.model): offer.missing for offer in offers.offers()}
    assert states["helper:notebook"] is None
    assert states["koala:gpt-4o-mini"] == "not allowed by the administrator's policy"


def test_the_limits_in_force_are_told_with_whose_they_are(administrator):
    administrator(allowed_hosts=["api.openai.com"])
    config.use(config.Config(allowed_models=()))
    assert policy.in_force() == [
        ("allowed hosts: api.openai.com", "The administrator's policy"),
        ("allowed models: none", "%config IPyChat"),
    ]


def test_tools_servers_and_commands_are_limited_by_patterns(administrator):
    administrator(
        allowed_tools=["kernel.*", "mcp:git.*"],
        allowed_servers=["git", "uvx", "*.example.org"],
        allowed_commands=["uvx", "npx @modelcontextprotocol/*"],
    )
    for name in ("kernel.variables", "mcp:git.git_status"):
        policy.check_tool(name)
    for named in (["git"], ["other", "uvx", "uvx x"], ["other", "mcp.example.org"]):
        policy.check_server(*named)
    for command in (["uvx", "anything"], ["npx", "@modelcontextprotocol/server-memory"]):
        policy.check_command(*command)
    with pytest.raises(PolicyError, match="policy does not allow the tool mcp:files"):
        policy.check_tool("mcp:files.read")
    with pytest.raises(PolicyError, match="policy does not allow the server other"):
        policy.check_server("other", "npx", "example.org.evil.example")
    for command in (["npx", "evil"], ["/tmp/uvx"], ["sh", "-c", "uvx"]):
        with pytest.raises(PolicyError, match=f"policy does not allow starting {command[0]}"):
            policy.check_command(*command)


def test_a_user_narrows_tools_servers_and_commands_too(administrator):
    administrator(allowed_tools=["kernel.*"])
    settings = IPyChat(allowed_tools=["*"], allowed_servers=["git"], allowed_commands=[])
    policy.check_tool("kernel.variables")
    with pytest.raises(PolicyError, match="administrator"):
        policy.check_tool("load")
    with pytest.raises(PolicyError, match="%config IPyChat does not allow starting uvx"):
        policy.check_command("uvx")
    settings.allowed_tools = ["kernel.inspect"]
    with pytest.raises(PolicyError, match="%config IPyChat does not allow the tool"):
        policy.check_tool("kernel.variables")


def test_no_program_is_started_while_answers_are_replayed(administrator):
    config.use(config.Config(replay="replay"))
    with pytest.raises(PolicyError, match="uvx is not started while answers are replayed"):
        policy.check_command("uvx", "mcp-server-git")
