"""Names → providers and models."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ipychat
from ipychat import config, errors
from ipychat.catalog import offers, ranking, registry, resolve
from ipychat.messages import ModelId
from ipychat.providers.provider import AsyncGeneratorProvider, ProviderModelMixin
from ipychat.store import ledger


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


class Echo(AsyncGeneratorProvider, ProviderModelMixin):
    default_model = "plain"
    models = ["plain", "fancy", "llama"]
    model_aliases = {"p": "plain"}

    @classmethod
    async def create_async_generator(cls, model, messages, **options):
        yield f"{model}: {messages[-1]['content']}"
        for name, value in options.items():
            yield f" {name}={value}"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("robocoders:FrontEndAgent", ModelId("robocoders", "FrontEndAgent")),
        ("FrontEndAgent", ModelId("robocoders", "FrontEndAgent")),
        (" FrontEndAgent ", ModelId("robocoders", "FrontEndAgent")),
        ("qwen_coder", ModelId("autonomous", "qwen_coder")),
        ("qwen-2.5-coder-32b", ModelId("autonomous", "qwen_coder")),
        ("autonomous:llama-3.3-70b", ModelId("autonomous", "llama")),
        ("koala:", ModelId("koala", "gpt-4o-mini")),
        ("koala", ModelId("koala", "gpt-4o-mini")),
        ("openai:some-new-model", ModelId("openai", "some-new-model")),
        ("openai:org/model:free", ModelId("openai", "org/model:free")),
    ],
)
def test_a_name_means_a_model(name, model):
    assert resolve.resolve(name) == model
    assert resolve.resolve(str(model)) == model


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("FrontendAgent", "Did you mean FrontEndAgent"),
        ("robocoders:Front", "has no model 'Front'.\nIt has: GeneralCodingAgent"),
        ("qwen3:8b", "write provider:name, such as openai:qwen3:8b"),
        ("opnai:gpt-4o", "no model 'opnai:gpt-4o'"),
        ("utter nonsense", "There is no model 'utter nonsense'"),
    ],
)
def test_an_unknown_name_is_an_error_that_helps(name, says):
    with pytest.raises(errors.ModelNotSupportedError) as caught:
        resolve.resolve(name)
    assert says in str(caught.value)
    assert len(caught.value._render_traceback_()) <= 5


def test_a_name_that_one_ready_provider_offers_goes_there(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-some-key-for-tests")
    assert resolve.resolve("gpt-4o-mini") == ModelId("openai", "gpt-4o-mini")


def test_a_name_that_only_providers_offer_that_are_not_ready_lists_the_full_names():
    with pytest.raises(
        errors.ModelNotSupportedError, match="koala:gpt-4o-mini, openai:gpt-4o-mini"
    ):
        resolve.resolve("gpt-4o-mini")


def test_a_name_that_several_ready_providers_offer_lists_the_full_names(monkeypatch):
    monkeypatch.setenv("IPYCHAT_AUTONOMOUS_URL", "http://127.0.0.1:9")
    registry.register(Echo)
    with pytest.raises(errors.ModelNotSupportedError, match="autonomous:llama, echo:llama"):
        resolve.resolve("llama")


def test_a_provider_with_an_address_of_the_users_own_is_ready():
    missing = {str(offer.model): offer.missing for offer in offers.offers()}
    assert missing["koala:gpt-4o-mini"] == "offline upstream: set IPYCHAT_KOALA_URL"
    config.use(config.Config(urls={"koala": "http://127.0.0.1:9"}))
    missing = {str(offer.model): offer.missing for offer in offers.offers()}
    assert missing["koala:gpt-4o-mini"] is None


def test_an_alias_of_the_user_comes_before_all_but_full_names():
    config.use(
        config.Config(aliases={"fast": "smart", "smart": "FrontEndAgent", "a": "b", "b": "a"})
    )
    assert resolve.resolve("fast") == ModelId("robocoders", "FrontEndAgent")
    with pytest.raises(errors.ModelNotSupportedError):
        resolve.resolve("a")


def test_without_a_name_the_configuration_wins_then_the_environment_then_a_key(monkeypatch):
    assert resolve.resolve() == ModelId("helper", "notebook")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-some-key-for-tests")
    assert resolve.resolve() == ModelId("openai", "gpt-6-luna")
    monkeypatch.setenv("IPYCHAT_MODEL", "qwen_coder")
    assert resolve.resolve() == ModelId("autonomous", "qwen_coder")
    config.use(config.Config(model="FrontEndAgent"))
    assert resolve.resolve("") == ModelId("robocoders", "FrontEndAgent")


async def test_a_registered_class_can_be_asked_at_once():
    registry.register(Echo)
    assert (await ipychat.ask("Hi", model="echo:p")).text == "plain: Hi"
    assert (await ipychat.ask("Hi", model="fancy")).text == "fancy: Hi"


async def test_options_reach_the_provider_and_those_that_are_none_do_not():
    registry.register(Echo)
    assert (await ipychat.ask("Hi", model="echo", a=1, b=None)).text == "plain: Hi a=1"


async def test_the_configured_address_reaches_the_provider_unless_one_is_given():
    registry.register(Echo)
    config.use(config.Config(urls={"echo": "http://configured"}))
    assert "base_url=http://configured" in str(await ipychat.ask("Hi", model="echo"))
    assert "base_url=mine" in str(await ipychat.ask("Hi", model="echo", base_url="mine"))


async def test_any_class_with_the_one_method_can_be_registered_under_a_name():
    class Other:
        @classmethod
        async def create_async_generator(cls, model, messages, **options):
            yield {"content": model}

    registry.register(Other, "mine")
    assert (await ipychat.ask("Hi", model="mine:whatever")).text == "whatever"


def test_register_returns_the_class_and_refuses_what_is_no_provider():
    assert registry.register(Echo) is Echo
    with pytest.raises(errors.UsageError, match="no create_async_generator"):
        ipychat.register(int)
    for name in ("a:b", " "):
        with pytest.raises(errors.UsageError, match="can't be called"):
            ipychat.register(Echo, name)


def test_an_unknown_provider_is_an_error_that_lists_them():
    with pytest.raises(errors.ModelNotSupportedError, match="Did you mean robocoders") as caught:
        registry.load("robocoder")
    assert "There are: anthropic, autonomous, cerebras, " in str(caught.value)


INSTALLED = """
import asyncio, json, sys
import ipychat
from ipychat.catalog import offers, registry
assert "ipychat_parrot" not in sys.modules
names = registry.names()
assert "ipychat_parrot" not in sys.modules, "imported before it was asked"
reply = asyncio.run(ipychat.ask("hello you", model="parrot:loud"))
try:
    registry.load("broken-parrot")
except ipychat.ChatError as error:
    print(json.dumps([names, reply.text, str(error), [str(o.model) for o in offers.offers()]]))
"""


@pytest.mark.heavy
def test_a_third_partys_package_is_found_by_its_entry_point(tmp_path):
    package = tmp_path / "package"
    shutil.copytree(Path(__file__).parent / "example_package", package)
    with (package / "pyproject.toml").open("a") as project:
        project.write('broken-parrot = "ipychat_parrot_that_is_not_there:Parrot"\n')
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--no-build-isolation", "--target", str(tmp_path), str(package)]
    subprocess.run(install, check=True)
    run = subprocess.run(
        [sys.executable, "-c", INSTALLED],
        env={"PYTHONPATH": str(tmp_path), "IPYCHAT_HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    names, text, error, offers = json.loads(run.stdout)
    assert {"parrot", "broken-parrot", "robocoders"} <= set(names)
    assert text == "HELLO YOU "
    assert "The provider broken-parrot, of the package ipychat-parrot, can't be imported" in error
    assert "robocoders:RepoAgent" in offers, "one broken package does not hide the others"


def test_in_a_long_list_those_that_are_not_ready_take_a_line_for_each_provider():
    everything = ranking.models()
    lines = repr(everything).splitlines()
    assert len(everything) > offers.MAX_ROWS > len(lines)
    assert lines[0].startswith("helper:notebook")
    [anthropic] = [line for line in lines if line.startswith("anthropic:")]
    assert "claude-sonnet-5-5, 14 more" in anthropic
    assert "no key: %chat_login anthropic" in anthropic
    assert "1M · images · tools · $2 / $10" in anthropic
    assert len(repr(ranking.models("anthropic")).splitlines()) == len(ranking.models("anthropic"))


def test_what_is_ready_comes_first_and_what_is_emulated_last(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", "xai-some-key-for-tests")
    config.use(config.Config(gateway=True))
    states = [offer.state for offer in ranking.models()]
    kinds = [re.split(r"[ :]", state)[0] for state in states]
    assert [kind for kind, _ in itertools.groupby(kinds) if kind in {"ready", "emulated"}] == [
        "ready", "emulated",
    ]  # fmt: skip
    assert kinds[-1] == "emulated"
    assert states[-1] == "emulated by xai:grok-4.7"


def test_the_current_model_stands_first_then_those_that_answered_last(monkeypatch):
    monkeypatch.setenv("XAI_API_KEY", "xai-some-key-for-tests")
    for name in ("xai:grok-4", "helper:notebook", "xai:not-listed", "helper:notebook"):
        ledger.add(ModelId.parse(name), None)
    ledger.save()
    ledger.add(ModelId("openai", "gpt-6-luna"), None)  # which has no key here
    names = [str(offer.model) for offer in ranking.models(current="xai:grok-4.7")]
    assert names[:4] == ["xai:grok-4.7", "helper:notebook", "xai:not-listed", "xai:grok-4"]
    assert names.index("openai:gpt-6-luna") > names.index("xai:grok-4.6")
    assert [str(one.model) for one in ranking.models("grok47", current="helper")] == [
        "xai:grok-4.7"
    ]


def test_what_answered_last_is_looked_for_at_the_end_of_a_long_ledger():
    for number in range(1_000):
        ledger.add(ModelId("helper", f"m{number}"), None)
    ledger.save()
    assert ledger.recent(3) == ["helper:m999", "helper:m998", "helper:m997"]
