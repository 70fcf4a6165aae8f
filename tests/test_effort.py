"""How hard a model thinks: one word for all, in each protocol; and what a model refuses."""

import json

import pytest

import ipychat
from ipychat import config, errors
from ipychat.catalog import lists, registry, routes
from ipychat.messages import FilePart, ImagePart, Message, ModelId
from ipychat.providers.anthropic import Anthropic
from ipychat.providers.gemini import Gemini
from ipychat.providers.ollama import Ollama
from ipychat.providers.openai import OpenAI
from ipychat.providers.provider import Card, Hints, read_messages
from ipychat.providers.responses import Responses
from tests.acting import PIXEL
from tests.loopback import answer
from tests.protocols import PROTOCOLS, completion, sse

pytestmark = pytest.mark.usefixtures("sessions")


def look(n: int) -> int:
    """Look."""
    return n


def written(cls, model="m", hints=None, **options):
    return cls._read_and_write(model, read_messages("?"), options, True, hints or Hints())


ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("cls", "model", "effort", "body"),
    [
        (Responses, "gpt-6-luna", "low", {"reasoning": {"summary": "auto", "effort": "low"}}),
        (Responses, "gpt-6-luna", "none", {"reasoning": {"summary": "auto", "effort": "none"}}),
        (OpenAI, "m", "high", {"reasoning_effort": "high"}),
        (OpenAI, "m", "none", {"reasoning_effort": "none"}),
        (Anthropic, "claude-sonnet-5-5", "low", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}),
        (Anthropic, "claude-opus-4-6", "max", {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}),
        (Anthropic, "claude-haiku-5-5", "none", {"thinking": {"type": "disabled"}}),
        (Anthropic, "claude-haiku-4-5", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (Anthropic, "claude-opus-4-5-20251101", "max", {"thinking": {"type": "enabled", "budget_tokens": 24_576}}),
        (Gemini, "gemini-3.6-flash", "low", {"generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"}}}),
        (Gemini, "gemini-3.6-flash", "none", {"generationConfig": {"thinkingConfig": {"thinkingLevel": "minimal"}}}),
        (Gemini, "gemini-2.5-flash-lite", "medium", {"generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 8192}}}),
        (Gemini, "gemini-2.5-flash-lite", "none", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}),
        (Ollama, "m", "high", {"think": "high"}),
        (Ollama, "m", "none", {"think": False}),
    ],
)  # fmt: skip
def test_a_level_is_each_protocols_own(cls, model, effort, body):
    assert {**written(cls, model, effort=effort), **body} == written(cls, model, effort=effort)
    assert "effort" not in written(cls, model, effort=effort)


THOUGHTS = {"thinking", "output_config", "generationConfig", "think", "reasoning_effort"}


@pytest.mark.parametrize("cls", [OpenAI, Anthropic, Gemini, Ollama])
def test_unset_nothing_is_said_of_it(cls):
    assert not written(cls).keys() & THOUGHTS
    assert not written(cls, hints=Hints(reasons=False)).keys() & THOUGHTS


def test_where_a_model_reasons_anyway_what_can_be_shown_is_asked_for():
    reasons = Hints(reasons=True)
    assert written(Anthropic, hints=reasons)["thinking"] == ADAPTIVE
    thoughts = {"thinkingConfig": {"includeThoughts": True}}
    assert written(Gemini, hints=reasons)["generationConfig"] == thoughts
    assert written(Responses, hints=reasons)["reasoning"] == {"summary": "auto"}
    assert "reasoning" not in written(Responses, hints=Hints(reasons=False))


@pytest.mark.parametrize(
    ("cls", "own"),
    [
        (Responses, {"reasoning": {"effort": "xhigh"}}),
        (OpenAI, {"reasoning_effort": "xhigh"}),
        (Anthropic, {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
        (Gemini, {"generationConfig": {"thinkingConfig": {"thinkingBudget": 7}}}),
        (Ollama, {"think": "xhigh"}),
    ],
)
def test_the_services_own_option_comes_before_it(cls, own):
    [(name, value)] = own.items()
    body = written(cls, effort="low", **own)
    assert body[name] == (value if name != "reasoning" else {"summary": "auto", **value})


KNOWN = Card("m", efforts=["none", "low", "medium", "high", "xhigh"])


@pytest.mark.parametrize(
    ("card", "level", "word"),
    [
        (None, "max", "max"),
        (Card("m"), "low", "low"),
        (KNOWN, "max", "xhigh"),
        (KNOWN, "none", "none"),
        (Card("m", efforts=["none", "high"]), "low", None),
        (Card("m", efforts=["none", "high"]), "max", "high"),
        (Card("m", efforts=[]), "max", None),
        (Card("m", efforts=[]), "none", None),
    ],
)
def test_a_level_becomes_the_models_word(card, level, word):
    assert lists.effort(card, level) == word


# -- on the way


@pytest.fixture
def service_(service, monkeypatch):
    """A service at whose address the table holds, whoever is asked."""
    for cls in (OpenAI, Anthropic, Gemini):
        monkeypatch.setattr(cls, "base_url", cls.root(service.url))
    for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-a-key-of-the-tests")
    registry._twin.cache_clear()  # OpenAI in its other protocol is where it was before
    config.use(config.Config(protocols={"openai": "responses"}))
    for protocol in PROTOCOLS:
        service.on(protocol.path, protocol.whole("Hi"))
    yield service
    registry._twin.cache_clear()


@pytest.fixture
def knows(monkeypatch):
    """Say what is known of the model m of each provider."""

    def run(**facts):
        cards = {name: {"m": Card("m", **facts)} for name in ("openai", "anthropic", "gemini")}
        known = lists.table()._replace(cards=cards)
        monkeypatch.setattr(lists, "table", lambda: known)

    return run


async def test_max_is_the_most_that_the_model_knows(service_, knows):
    knows(efforts=["low", "high", "xhigh"], reasons=True)
    await ipychat.ask("?", model="openai:m", effort="max")
    assert service_.requests[-1].json["reasoning"]["effort"] == "xhigh"


async def test_a_word_that_is_none_is_refused(service_):
    with pytest.raises(errors.UsageError, match=r"one of none, low, medium, high, max, not 'big'"):
        await ipychat.ask("?", model="openai:m", effort="big")
    assert not service_.requests


REFUSED = [
    ({"efforts": ["low", "high"]}, {"effort": "none"}, "has the efforts low, high, max, not 'none'"),
    ({"efforts": []}, {"effort": "low"}, "has no efforts, not 'low'"),
    ({"sampling": "none"}, {"temperature": 0}, "doesn't accept temperature"),
    ({"sampling": "none"}, {"temperature": 0, "top_p": 1}, "doesn't accept temperature or top_p"),
    ({"sampling": "without effort", "efforts": ["none", "low"]}, {"temperature": 0}, "only with the effort none"),
    ({"sampling": "without effort", "efforts": ["none", "low"]}, {"top_p": 0.5, "effort": "low"}, "only with the effort none"),
    ({"forced_tools": False}, {"tool_choice": "required"}, "can't be forced to call a tool"),
    ({"forced_tools": False}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}, "can't be forced"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize(("facts", "options", "says"), REFUSED)
async def test_what_a_model_refuses_is_told_before_it_is_sent(
    service_, knows, name, facts, options, says
):
    knows(**facts)
    with pytest.raises(errors.UsageError, match=says) as caught:
        await ipychat.ask("?", model=f"{name}:m", **options)
    assert len(str(caught.value).splitlines()) == 2
    assert not service_.requests


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({"efforts": []}, {"effort": "none"}),
        ({"sampling": "without effort", "efforts": ["none"]}, {"temperature": 0, "effort": "none"}),
        ({"forced_tools": False}, {"tool_choice": "auto"}),
        ({}, {"temperature": 0, "effort": "high", "tool_choice": "auto"}),
    ],
)
async def test_what_it_takes_is_sent(service_, knows, facts, options):
    knows(**facts)
    assert (await ipychat.ask("?", model="openai:m", **options)).text == "Hi"


async def test_at_another_address_nothing_is_known_and_all_is_sent(service):
    service.on("/v1/messages", next(p for p in PROTOCOLS if p.path == "/v1/messages").whole("Hi"))
    model = "anthropic:claude-sonnet-5-5"
    reply = await ipychat.ask("?", model=model, base_url=service.url, temperature=0.5)
    assert (reply.text, service.requests[0].json["temperature"]) == ("Hi", 0.5)


@pytest.mark.parametrize(
    ("facts", "sent"), [({"efforts": ["low", "high"]}, "high"), ({"efforts": ["low"]}, None)]
)
async def test_the_setting_is_for_models_that_take_it(service_, knows, facts, sent):
    config.use(config.current()._replace(effort="high"))
    knows(**facts, reasons=True)
    await ipychat.ask("?", model="openai:m")
    assert service_.requests[-1].json["reasoning"].get("effort") == sent
    assert (await ipychat.ask("What can you do?", model="helper:")).text


async def test_an_effort_of_its_own_comes_before_the_setting(service_, knows):
    config.use(config.current()._replace(effort="high"))
    knows(efforts=["low", "high"])
    await ipychat.ask("?", model="openai:m", effort="low")
    assert service_.requests[-1].json["reasoning"]["effort"] == "low"


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"temperature": 0.5},
        {"max_tokens": 9},
        *({"effort": level} for level in config.EFFORTS),
        {"system": "Be brief."},
        {"timeout": 5.0},
        {"cached": True},
        {"large": True},
        {"allow_secrets": True},
        {"tools": [look], "approve": "all"},
        {"tools": [look, "web"], "approve": "all", "effort": "low", "max_tokens": 9},
        {"image": True},
        {"file": True},
    ],
    ids=lambda flags: " ".join(
        f"{key} {one}" if isinstance(one, str) else key for key, one in flags.items()
    ),
)
@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini"])
async def test_the_defaults_take_what_a_cell_can_say_or_it_is_told(service_, name, flags):
    """By the rules of the services: no sampling at the newest models, no word that is not theirs."""
    cls = registry.load(name)
    model = ModelId(name, cls.default_model)
    card = lists.table().cards[name][cls.default_model]
    spoken = routes.find(model, {}).provider
    protocol = next(p for p in PROTOCOLS if p.provider.protocol == spoken.protocol)
    path = spoken.path(model.name).partition("?")[0]
    service_.on(f"/v1beta{path}" if name == "gemini" else path, protocol.whole("Hi"))
    along = [ImagePart.of_bytes(PIXEL, "image/png")] if flags.get("image") else []
    along += [FilePart("a.txt", b"words", "text/plain")] if flags.get("file") else []
    given = {key: one for key, one in flags.items() if key not in {"image", "file"}}
    try:
        await ipychat.ask([Message.asking("?", along)], model=str(model), **given)
    except errors.UsageError:
        assert (card.sampling and "temperature" in flags) or flags.get("effort") == "none"
        return
    body = json.dumps(service_.requests[-1].json)
    assert "reasoning_effort" not in body
    assert not (card.sampling and "temperature" in body)


# -- how long it thought


async def test_how_long_it_thought_is_told(service):
    slow = [completion({"reasoning_content": "Hm"}), completion({"reasoning_content": "."})]
    first, second = map(answer, slow)
    head, [one], [other] = first[0], first[1:2], second[1:2]
    end = answer(completion({"content": "Yes"}), completion(finish="stop"), sse("[DONE]"))[1:]
    service.on("/chat/completions", [head, 0.1, one, 0.2, other, *end[:1], 0.2, *end[1:]])
    reply = await ipychat.ask("?", model="openai:m", base_url=service.url)
    assert 0.25 <= reply.thought_for < 0.45 + 0.5
    assert reply.thought_for <= reply.seconds - 0.15


async def test_an_answer_without_a_thought_took_none(service):
    service.on("/chat/completions", PROTOCOLS[0].whole("Hi"))
    assert not (await ipychat.ask("?", model="openai:m", base_url=service.url)).thought_for
