"""What is known of models: the services' lists on disk, the table of prices, what answers cost."""

import json
import time

import pytest

import ipychat
from ipychat import config, errors
from ipychat.catalog import lists, offers, registry, resolve, routes
from ipychat.chat import conversations
from ipychat.messages import Message, ModelId, Question, Usage
from ipychat.providers.anthropic import Anthropic
from ipychat.providers.openai import OpenAI, compatible
from ipychat.providers.presets import PRESETS
from tests.loopback import answer
from tests.protocols import OPENAI

pytestmark = pytest.mark.usefixtures("sessions")
REQUEST = Question(ModelId("openai", "gpt-4o-mini"), (Message("user", "?"),))


def listing(*models):
    return answer(json.dumps({"data": list(models)}).encode(), content_type="application/json")


@pytest.fixture(autouse=True)
def _nothing_was_asked_in_vain():
    lists._not_before.clear()


@pytest.fixture
def openai(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    return service


def names():
    return [offer.model.name for offer in offers.offers() if offer.model.provider == "openai"]


def test_the_table_says_of_which_day_and_whence_it_is():
    date, source, known = lists.table()
    assert time.strptime(date, "%Y-%m-%d")
    assert "MIT" in source
    assert {"anthropic", "gemini", "openai"} <= known.keys()


@pytest.mark.parametrize("provider", sorted(lists.table().cards))
def test_every_model_of_the_table_has_a_price_and_its_provider_exists(provider):
    assert provider in registry.names()
    for card in lists.table().cards[provider].values():
        assert card.input is not None
        assert card.output is not None
        assert card.context is None or card.context > 1000


def test_the_default_models_are_in_the_table_where_it_knows_their_service():
    for name, known in lists.table().cards.items():
        assert registry.load(name).default_model in known, name


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(1_000_000, 0), 0.15),
        (Usage(0, 1_000_000), 0.6),
        (Usage(1_000_000, 0, cached=1_000_000), 0.075),
        (Usage(1000, 200, reasoning=100, cached=400), (600 * 0.15 + 400 * 0.075 + 200 * 0.6) / 1e6),
    ],
)
def test_what_an_answer_cost_is_its_tokens_at_their_prices(usage, dollars):
    assert routes.cost(REQUEST, usage) == pytest.approx(dollars)


def test_at_another_address_the_services_prices_do_not_hold(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example/v1")
    assert routes.cost(REQUEST, Usage(1000, 1000)) is None


def test_of_a_model_without_a_price_the_cost_is_not_known():
    unknown = Question(ModelId("openai", "nobody-knows-it"), REQUEST.messages)
    assert routes.cost(unknown, Usage(1000, 1000)) is None


async def test_a_services_list_is_asked_for_once_a_day(openai):
    openai.on("/models", listing({"id": "gpt-new", "context_window": 9000}))
    assert await offers.refresh() == {}
    assert names() == ["gpt-6-luna", "gpt-new"]
    assert await offers.refresh(stale_only=True) == {}
    assert len(openai.asked("/models")) == 1
    await offers.refresh()
    assert len(openai.asked("/models")) == 2


async def test_after_a_day_it_is_asked_for_again(openai, monkeypatch):
    openai.on("/models", listing({"id": "gpt-new"}))
    await offers.refresh(stale_only=True)
    now = time.time()
    monkeypatch.setattr(lists.time, "time", lambda: now + lists.MAX_AGE + 1)
    await offers.refresh(stale_only=True)
    assert len(openai.asked("/models")) == 2


async def test_a_list_of_another_address_does_not_count(openai, monkeypatch):
    openai.on("/models", listing({"id": "gpt-new"}))
    await offers.refresh()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{openai.url}/other")
    assert names() == ["gpt-6-luna"]


async def test_a_bare_name_of_the_list_finds_its_provider(openai):
    openai.on("/models", listing({"id": "gpt-new"}))
    await offers.refresh()
    assert resolve.resolve("gpt-new") == ModelId("openai", "gpt-new")


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_service_that_gives_no_list_is_named_with_its_reason(openai, status):
    openai.on(
        "/models", answer(b'{"error": "because"}', status=status, content_type="application/json")
    )
    faults = await offers.refresh()
    assert list(faults) == ["openai"]
    assert "because" in faults["openai"]
    assert len(openai.asked("/models")) == 1


async def test_a_damaged_list_on_disk_counts_as_none(openai):
    openai.on("/models", listing({"id": "gpt-new"}))
    await offers.refresh()
    for text in ['{"at": 1', json.dumps({"root": openai.url, "at": 1, "models": [{"name": 1}]})]:
        lists._file("openai").write_text(text)
        assert names() == ["gpt-6-luna"]


async def test_names_that_would_act_on_a_terminal_are_left_out(openai):
    openai.on("/models", listing({"id": "good"}, {"id": "evil\x1b[2J"}))
    await offers.refresh()
    assert names() == ["gpt-6-luna", "good"]


async def test_models_that_answer_no_chat_are_left_out(openai):
    ids = [
        "gpt-x",
        "text-embedding-3-small",
        "whisper-1",
        "tts-1-hd",
        "dall-e-3",
        "omni-moderation-latest",
    ]
    openai.on("/models", listing(*({"id": one} for one in ids)))
    assert [card.name for card in await OpenAI.cards()] == ["gpt-x"]


async def test_what_services_add_to_the_common_list_is_read(openai):
    openai.on(
        "/models",
        listing(
            {
                "id": "openrouter's",
                "context_length": 128000,
                "architecture": {"input_modalities": ["text", "image"]},
                "pricing": {
                    "prompt": "0.0000025",
                    "completion": "0.00001",
                    "input_cache_read": "0.00000125",
                },
                "supported_parameters": ["tools", "temperature"],
            },
            {
                "id": "mistral's",
                "max_context_length": 32768,
                "capabilities": {
                    "completion_chat": True,
                    "vision": False,
                    "function_calling": True,
                },
            },
            {"id": "mistral's embedding", "capabilities": {"completion_chat": False}},
            {"id": "vllm's", "max_model_len": 4096},
        ),
    )
    router, mistral, vllm = await OpenAI.cards()
    assert (router.context, router.vision, router.tools) == (128000, True, True)
    assert (router.input, router.output, router.cached) == (2.5, 10.0, 1.25)
    assert (mistral.context, mistral.vision, mistral.tools, mistral.input) == (
        32768,
        False,
        True,
        None,
    )
    assert (vllm.context, vllm.vision) == (4096, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"data": 5}',
        b'{"data": [{"id": 7}]}',
        b'{"data": [[]]}',
        b'[{"id": "x", "pricing": {"prompt": "dear"}}]',
    ],
)
async def test_a_list_of_another_shape_is_an_error(openai, body):
    openai.on("/models", answer(body, content_type="application/json"))
    with pytest.raises(errors.FormatError, match="list of models"):
        await OpenAI.cards()


async def test_what_the_service_says_comes_before_the_table(openai, monkeypatch):
    openai.on("/models", listing({"id": "gpt-4o-mini", "context_length": 1234}))
    monkeypatch.setattr(OpenAI, "base_url", openai.url)
    await offers.refresh()
    [card] = [offer.card for offer in offers.offers() if str(offer.model) == "openai:gpt-4o-mini"]
    assert (card.context, card.input, card.tools) == (1234, 0.15, True)


# -- presets, and services of the user's own


@pytest.mark.parametrize("name", sorted(PRESETS))
async def test_a_preset_is_asked_at_its_address_with_its_own_key(name, service, monkeypatch):
    preset = PRESETS[name]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    if preset.key_variable:
        monkeypatch.setenv(preset.key_variable, f"key-of-{name}-for-tests")
    cls = compatible(name, preset._replace(base_url=f"{service.url}/{name}"))
    service.on(f"/{name}/chat/completions", OPENAI.whole("Hello"))
    given = [
        event async for event in cls.create_async_generator("m", [{"role": "user", "content": "?"}])
    ]
    assert given
    [asked] = service.requests
    expected = f"Bearer key-of-{name}-for-tests" if preset.key_variable else None
    assert asked.headers.get("Authorization") == expected
    assert registry.load(name).base_url == preset.base_url


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.key_variable])
async def test_a_preset_without_its_key_says_which_variable_and_which_command(name):
    with pytest.raises(
        errors.MissingKeyError, match=f"{PRESETS[name].key_variable}, run %chat_login {name}"
    ):
        await ipychat.ask("Hi", model=f"{name}:m")


@pytest.mark.parametrize("name", ["lmstudio", "vllm"])
async def test_a_server_with_no_default_model_wants_a_name(name):
    with pytest.raises(errors.ModelNotSupportedError, match="no default model"):
        await ipychat.ask("Hi", model=name)


async def test_a_service_of_the_users_own_is_asked_by_its_name(service, monkeypatch):
    service.on(OPENAI.path, OPENAI.whole("Hello"))
    monkeypatch.setenv("WORK_KEY", "key-of-work-for-tests")
    from ipychat.magics.settings import IPyChat

    IPyChat(endpoints={"work": {"url": f"{service.url}/", "key": "WORK_KEY", "model": "house"}})
    reply = await ipychat.ask("Hi", model="work")
    assert (reply.text, str(reply.model)) == ("Hello", "work:house")
    assert service.requests[0].headers["Authorization"] == "Bearer key-of-work-for-tests"


@pytest.mark.parametrize(
    "given",
    [
        5,
        "no address",
        {"url": 5},
        {"key": "K"},
        {"url": "https://x.example", "what": "else"},
        {"url": "https://x.example", "key": 5},
    ],
)
def test_an_endpoint_that_is_none_is_an_error_that_says_what_one_is(given):
    from traitlets import TraitError

    from ipychat.magics.settings import IPyChat

    with pytest.raises(TraitError, match=r"The (url |key )?.*endpoint work (is|has)"):
        IPyChat(endpoints={"work": given})


def test_an_endpoint_can_not_take_the_name_of_a_provider():
    from traitlets import TraitError

    from ipychat.magics.settings import IPyChat

    for name in ("openai", "groq", "helper"):
        with pytest.raises(TraitError, match="There is a provider"):
            IPyChat(endpoints={name: "https://x.example"})


def test_with_several_keys_anthropic_comes_first_then_openai_gemini_and_the_presets(monkeypatch):
    expected = ["anthropic", "openai", "gemini", "openrouter", "groq"]
    variables = [
        "ANTHROPIC_API_KEY",
        "OPENAI_API_KEY",
        "GOOGLE_API_KEY",
        "OPENROUTER_API_KEY",
        "GROQ_API_KEY",
    ]
    for variable in variables:
        monkeypatch.setenv(variable, f"a-key-for-{variable}")
    for variable, name in zip(variables, expected, strict=True):
        assert resolve.resolve().provider == name
        monkeypatch.delenv(variable)
    assert resolve.resolve().provider == "helper"


def test_anthropics_own_table_is_known():
    assert lists.known("anthropic", Anthropic, Anthropic.base_url)["claude-sonnet-5-5"].vision


# -- when one fails


@pytest.fixture
def two(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{service.url}/one")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key-of-the-first-service")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{service.url}/two")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-key-of-the-second-service")
    config.use(config.Config(fallbacks={"openai:m": ("anthropic:other",)}, retries=0))
    return service


def second(service, text="from the second"):
    from tests.protocols import ONLINE

    service.on("/two/v1/messages", ONLINE[0].whole(text))


async def test_where_the_first_fails_the_next_answers_and_that_is_said(two):
    two.on(
        "/one/chat/completions",
        answer(b'{"error": "overloaded"}', status=503, content_type="application/json"),
    )
    second(two)
    reply = await ipychat.ask("Hi", model="openai:m")
    assert reply.text == "from the second"
    assert str(reply.model) == "anthropic:other"
    [notice] = reply.notices
    assert "openai:m did not answer" in notice
    assert "overloaded" in notice
    assert "anthropic:other answers instead" in notice


async def test_without_a_chain_nobody_else_is_asked(two):
    config.use(config.Config(retries=0))
    two.on("/one/chat/completions", answer(b"no", status=503))
    second(two)
    with pytest.raises(errors.ServerError):
        await ipychat.ask("Hi", model="openai:m")
    assert two.asked("/two/v1/messages") == []


async def test_an_answer_that_had_begun_is_not_begun_again_by_another(two):
    from tests.loopback import FIN, chunk, head

    two.on("/one/chat/completions", [head(), chunk(OPENAI.text("so far")), FIN])
    second(two)
    with pytest.raises(errors.BrokenAnswerError) as caught:
        await ipychat.ask("Hi", model="openai:m")
    assert caught.value.reply.text == "so far"
    assert two.asked("/two/v1/messages") == []


async def test_when_all_fail_the_last_error_is_raised_and_the_others_are_told(two):
    two.on("/one/chat/completions", answer(b"no", status=503))
    two.on(
        "/two/v1/messages",
        answer(
            b'{"error": {"message": "second too"}}', status=529, content_type="application/json"
        ),
    )
    with pytest.raises(errors.ServerError, match="second too") as caught:
        await ipychat.ask("Hi", model="openai:m")
    assert "openai:m did not answer" in caught.value.reply.notices[0]


async def test_the_address_and_key_of_one_question_do_not_go_to_the_next_model(two):
    two.on("/three/chat/completions", answer(b"no", status=503))
    second(two)
    reply = await ipychat.ask(
        "Hi", model="openai:m", base_url=f"{two.url}/three", api_key="a-key-for-one-question"
    )
    assert reply.text == "from the second"
    [asked] = two.asked("/two/v1/messages")
    assert asked.headers["x-api-key"] == "sk-key-of-the-second-service"
    assert b"a-key-for-one-question" not in asked.body


async def test_the_conversation_keeps_who_spoke_also_over_a_restart(two, tmp_path):
    config.use(config.current()._replace(notebook=str(tmp_path / "a.ipynb")))
    two.on("/one/chat/completions", answer(b"no", status=503))
    second(two)
    await ipychat.ask("Hi", model="openai:m", chat="a")
    assert str(ipychat.conversation("a").turns[-1].model) == "anthropic:other"
    conversations._live.clear()
    [turn] = ipychat.conversation("a").turns
    assert str(turn.model) == "anthropic:other"
    assert "openai:m did not answer" in turn.reply.notices[0]


async def test_a_chain_that_names_nobody_does_not_disturb_another_models_question(two):
    config.use(
        config.Config(
            fallbacks={"zzz": ("anthropic:other",), "openai:m": ("yyy", "anthropic:other")},
            retries=0,
        )
    )
    two.on("/one/chat/completions", OPENAI.whole("Hello"))
    assert (await ipychat.ask("Hi", model="openai:m")).text == "Hello"
    two.on("/one/chat/completions", answer(b"no", status=503))
    second(two)
    reply = await ipychat.ask("Hi", model="openai:m")
    assert reply.text == "from the second"
    assert "yyy can't be asked" in reply.notices[0]


async def test_what_the_first_counted_is_not_charged_to_the_second(two):
    from ipychat.store import ledger
    from tests.protocols import completion, sse

    usage = sse(
        json.dumps(
            {"choices": [], "usage": {"prompt_tokens": 999, "completion_tokens": 77, "cost": 5}}
        )
    )
    two.on("/one/chat/completions", answer(completion({"role": "assistant"}), usage))
    second(two)
    before = len(list(ledger.entries()))
    reply = await ipychat.ask("Hi", model="openai:m")
    assert str(reply.model) == "anthropic:other"
    assert reply.cost is None
    first, last = list(ledger.entries())[before:]
    assert (first["model"], first["cost"]) == ("openai:m", 5)
    assert (last["model"], last["cost"]) == ("anthropic:other", None)


async def test_what_an_option_says_is_secret_stays_with_the_first(two):
    two.on("/one/chat/completions", answer(b"no", status=503))
    second(two)
    await ipychat.ask(
        "Hi",
        model="openai:m",
        extra={
            "token": "a-token-of-the-first",
            "headers": {"Authorization": "Bearer of-the-first"},
        },
        top_k=5,
    )
    [asked] = two.asked("/two/v1/messages")
    assert b"of-the-first" not in asked.body
    assert asked.json["top_k"] == 5


@pytest.mark.parametrize("name", ["../keys", "a/b", "a:b", "", ".hidden", "a\0b", "a b"])
def test_a_name_that_is_no_name_of_a_file_is_no_name_of_an_endpoint(name):
    from traitlets import TraitError

    from ipychat.magics.settings import IPyChat

    with pytest.raises(TraitError, match="can't be called"):
        IPyChat(endpoints={name: "https://x.example"})


@pytest.mark.parametrize(
    "url", ["http://[::1", "ftp://x.example", "x.example", "http://", "http://x.example:99999"]
)
def test_an_address_that_is_none_is_refused_where_it_is_set(url):
    from traitlets import TraitError

    from ipychat.magics.settings import IPyChat

    with pytest.raises(TraitError):
        IPyChat(urls={"openai": url})
    with pytest.raises(TraitError):
        IPyChat(endpoints={"mine": url})


async def test_a_service_that_gave_no_list_is_not_waited_for_again_at_once(openai):
    openai.on("/models", answer(b"no", status=500))
    assert await offers.refresh(stale_only=True)
    assert await offers.refresh(stale_only=True) == {}
    assert len(openai.asked("/models")) == 1


async def test_a_provider_of_another_package_that_lists_badly_is_a_fault_and_no_traceback(openai):
    from ipychat.providers.provider import AsyncGeneratorProvider

    class Odd(AsyncGeneratorProvider):
        @classmethod
        async def cards(cls, base_url=None, **options):
            raise KeyError("oops")

    ipychat.register(Odd, "odd")
    try:
        openai.on("/models", listing({"id": "m"}))
        assert await offers.refresh() == {"odd": "KeyError: 'oops'"}
    finally:
        del registry._registered["odd"]


async def test_a_line_end_in_a_name_fakes_no_row(openai):
    openai.on(
        "/models",
        listing({"id": "m\nanthropic:claude-fake  ready"}, {"id": "x" * 10_000}, {"id": "good"}),
    )
    await offers.refresh()
    assert names() == ["gpt-6-luna", "good"]


def test_input_from_the_cache_without_a_known_price_makes_the_cost_unknown(monkeypatch):
    card = lists.table().cards["groq"]["openai/gpt-oss-20b"]
    assert (
        routes.cost(
            Question(ModelId("groq", "openai/gpt-oss-20b"), REQUEST.messages), Usage(100, 1)
        )
        is not None
    )
    monkeypatch.setitem(
        lists.table().cards["groq"],
        "openai/gpt-oss-20b",
        ipychat.providers.provider.Card(card.name, input=1.0, output=1.0),
    )
    assert (
        routes.cost(
            Question(ModelId("groq", "openai/gpt-oss-20b"), REQUEST.messages),
            Usage(100, 1, cached=50),
        )
        is None
    )
