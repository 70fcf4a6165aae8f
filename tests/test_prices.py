"""What answers cost: forty by hand, with tiers and the cache; and which models are taken away."""

import datetime as dt
import json
from decimal import Decimal

import pytest

import ipychat
from ipychat.catalog import lists
from ipychat.display import usage
from ipychat.messages import Usage
from ipychat.providers.anthropic import Anthropic
from ipychat.providers.openai import OpenAI
from ipychat.providers.provider import Card
from ipychat.store import ledger
from tests.loopback import answer
from tests.protocols import completion, message_event, sse

pytestmark = pytest.mark.usefixtures("sessions")

LONG_OPENAI = {"above": 272_000, "input": 0.2, "output": 0.75, "cached": 0.02, "stored": 0.25}
LONG_HAIKU = {
    "above": 100_000, "input": 0.5, "output": 2.5, "cached": 0.05, "stored": 0.625, "stored_hour": 1.0
}  # fmt: skip
LUNA = Card("luna", input=0.1, output=0.5, cached=0.01, stored=0.125, long=LONG_OPENAI)
HAIKU = Card(
    "haiku", input=0.1, output=0.5, cached=0.01, stored=0.125, stored_hour=0.2, long=LONG_HAIKU
)
SONNET = Card("sonnet", input=2.0, output=10.0, cached=0.1, stored=2.5, stored_hour=4.0)
GROK = Card(
    "grok", input=2.0, output=6.0, cached=0.5,
    long={"above": 200_000, "input": 4.0, "output": 12.0, "cached": 1.0},
)  # fmt: skip
PLAIN = Card("plain", input=0.15, output=0.6)
ANY = Card("any", input=3.0, output=15.0, cached=0.3)

BY_HAND = [
    # card, input, output, cached, stored, of these for an hour, dollars
    (PLAIN, 0, 0, 0, 0, 0, "0"),
    (PLAIN, 1_000, 200, 0, 0, 0, "0.00027"),
    (PLAIN, 1_000_000, 0, 0, 0, 0, "0.15"),
    (PLAIN, 0, 1_000_000, 0, 0, 0, "0.6"),
    (PLAIN, 1, 1, 0, 0, 0, "0.00000075"),
    (PLAIN, 127_999, 4_001, 0, 0, 0, "0.02160045"),
    (ANY, 10_000, 1_000, 0, 0, 0, "0.045"),
    (ANY, 10_000, 1_000, 10_000, 0, 0, "0.018"),
    (ANY, 10_000, 1_000, 4_000, 0, 0, "0.0342"),
    (ANY, 10_000, 0, 9_999, 0, 0, "0.0030027"),
    (SONNET, 20_000, 500, 0, 20_000, 0, "0.055"),
    (SONNET, 20_600, 500, 20_000, 600, 0, "0.0085"),
    (SONNET, 20_600, 500, 20_000, 600, 600, "0.0094"),
    (SONNET, 20_600, 500, 20_000, 600, 200, "0.0088"),
    (SONNET, 20_600, 500, 20_000, 0, 0, "0.0082"),
    (SONNET, 1_000_000, 0, 0, 1_000_000, 1_000_000, "4"),
    (SONNET, 1_000_000, 0, 0, 1_000_000, 0, "2.5"),
    (SONNET, 1_000_000, 0, 1_000_000, 0, 0, "0.1"),
    (SONNET, 1_000_000, 64_000, 0, 0, 0, "2.64"),
    (SONNET, 3, 1, 1, 1, 0, "0.0000146"),
    (HAIKU, 100_000, 1_000, 0, 0, 0, "0.0105"),
    (HAIKU, 100_001, 1_000, 0, 0, 0, "0.0525005"),
    (HAIKU, 100_000, 1_000, 90_000, 10_000, 0, "0.00265"),
    (HAIKU, 150_000, 1_000, 140_000, 10_000, 0, "0.01575"),
    (HAIKU, 150_000, 1_000, 140_000, 10_000, 10_000, "0.0195"),
    (HAIKU, 150_000, 1_000, 140_000, 0, 0, "0.0145"),
    (HAIKU, 99_999, 0, 0, 99_999, 0, "0.012499875"),
    (HAIKU, 200_000, 0, 0, 200_000, 100_000, "0.1625"),
    (LUNA, 272_000, 10_000, 0, 0, 0, "0.0322"),
    (LUNA, 272_001, 10_000, 0, 0, 0, "0.0619002"),
    (LUNA, 272_000, 10_000, 272_000, 0, 0, "0.00772"),
    (LUNA, 300_000, 10_000, 250_000, 0, 0, "0.0225"),
    (LUNA, 300_000, 10_000, 250_000, 50_000, 0, "0.025"),
    (LUNA, 10_000, 1_000, 0, 8_000, 0, "0.0017"),
    (LUNA, 900_000, 128_000, 0, 0, 0, "0.276"),
    (GROK, 200_000, 1_000, 0, 0, 0, "0.406"),
    (GROK, 200_001, 1_000, 0, 0, 0, "0.812004"),
    (GROK, 250_000, 1_000, 250_000, 0, 0, "0.262"),
    (GROK, 250_000, 1_000, 100_000, 0, 0, "0.712"),
    (GROK, 4_096, 100, 4_000, 0, 0, "0.002792"),
]
"""Each by hand: what is fresh, cached, stored and written, each by its price, over a million."""


@pytest.mark.parametrize(
    ("card", "read", "written", "cached", "stored", "hour", "dollars"), BY_HAND
)
def test_a_cost_is_the_one_by_hand(card, read, written, cached, stored, hour, dollars):
    counted = Usage(read, written, cached=cached, stored=stored, stored_hour=hour)
    cost = lists.priced(card, counted).cost
    assert abs(Decimal(cost) - Decimal(dollars)) < Decimal("1e-9")


def test_there_are_forty_of_them():
    assert len(BY_HAND) == 40


@pytest.mark.parametrize(
    ("counted", "saved"),
    [
        (Usage(10_000, 0), None),
        (Usage(10_000, 0, cached=10_000), 0.019),
        (Usage(10_000, 0, stored=10_000), -0.005),
        (Usage(20_000, 9, cached=10_000, stored=10_000), 0.014),
    ],
)
def test_what_the_cache_saved_is_known_and_may_be_a_loss(counted, saved):
    assert lists.priced(SONNET, counted).saved == (saved and pytest.approx(saved))


@pytest.mark.parametrize(
    "counted", [Usage(10, 1, cached=5), Usage(10, 1, stored=5), Usage(300_000, 1, stored=5)]
)
def test_without_a_price_for_a_part_no_cost_is_guessed(counted):
    card = Card("x", input=1, output=1, long={"above": 200_000, "input": 2, "output": 2})
    assert lists.priced(card, counted) == counted


def test_every_price_of_the_table_is_one_and_tiers_cost_more():
    for models in lists.table().cards.values():
        for card in models.values():
            assert card.input is not None
            assert 0 <= card.input <= card.output or card.output == 0
            if card.long:
                assert card.long["input"] >= card.input
                assert card.long["above"] >= 100_000
            if card.retires:
                dt.date.fromisoformat(card.retires)
            assert card.sampling in {None, "none", "without effort"}


def test_the_table_says_whence_it_is():
    assert "litellm-1." in lists.table().source
    assert dt.date.fromisoformat(lists.table().date)


# -- on the way


@pytest.fixture
def anthropic(service, monkeypatch):
    """A service at whose address Anthropic's prices hold."""
    monkeypatch.setattr(Anthropic, "base_url", service.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-a-key-of-the-tests")
    counts = {
        "input_tokens": 600, "cache_read_input_tokens": 20_000, "output_tokens": 500,
        "cache_creation_input_tokens": 400, "cache_creation": {"ephemeral_1h_input_tokens": 100},
    }  # fmt: skip
    service.on(
        "/v1/messages",
        answer(
            message_event("message_start", message={"usage": counts}),
            message_event(
                "content_block_start", index=0, content_block={"type": "text", "text": "Hi"}
            ),
            message_event("message_delta", delta={"stop_reason": "end_turn"}, usage={}),
            message_event("message_stop"),
        ),
    )
    return service


COST = (600 * 2 + 20_000 * 0.1 + 300 * 2.5 + 100 * 4 + 500 * 10) / 1e6


async def test_reads_and_writes_of_the_cache_are_counted_priced_and_in_the_ledger(anthropic):
    reply = await ipychat.ask("Hi", model="anthropic:claude-sonnet-5-5", chat="a")
    assert (reply.usage.input, reply.usage.cached, reply.usage.stored) == (21_000, 20_000, 400)
    assert reply.cost == pytest.approx(COST)
    [entry] = ledger.entries()
    assert entry["saved"] == pytest.approx(21_000 * 2 / 1e6 + 0.005 - COST)
    ledger.save()
    assert "saved by caching" in usage.table([entry])["text/plain"]
    assert "$0.038" in usage.table([entry])["text/plain"]


async def test_a_question_that_may_go_on_is_cached_and_one_of_its_own_is_not(anthropic):
    model = "anthropic:claude-sonnet-5-5"
    await ipychat.ask("Hi", model=model)
    await ipychat.ask("Hi", model=model, chat="b")
    await ipychat.ask(["Hi", {"role": "assistant", "content": "Ho"}, "And?"], model=model)
    await ipychat.ask("Hi", model=model, chat="c", extra={"cache_control": False})
    sent = [one.json.get("cache_control") for one in anthropic.requests]
    assert sent == [None, {"type": "ephemeral"}, {"type": "ephemeral"}, None]


@pytest.mark.parametrize("details", ["prompt_tokens_details"])
async def test_writes_that_openai_and_openrouter_count_are_read(service, monkeypatch, details):
    monkeypatch.setattr(OpenAI, "base_url", service.url)
    count = {"prompt_tokens": 100, "completion_tokens": 1, details: {"cache_write_tokens": 60}}
    last = sse(json.dumps({"choices": [], "usage": count}))
    service.on("/chat/completions", answer(completion(finish="stop"), last, sse("[DONE]")))
    reply = await ipychat.ask("Hi", model="openai:gpt-6-luna", api_key="sk-a-key-of-the-tests")
    assert reply.usage.stored == 60
    assert reply.cost == pytest.approx((40 * 0.1 + 60 * 0.125 + 0.5) / 1e6)


@pytest.mark.parametrize(("days", "says"), [(30, True), (31, False), (0, True), (-1, True)])
async def test_a_model_that_retires_within_a_month_says_so(anthropic, monkeypatch, days, says):
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)
    table = lists.table()
    cards = {"anthropic": {"claude-x": Card("claude-x", retires=day.isoformat())}}
    monkeypatch.setattr(lists, "table", lambda: table._replace(cards=cards))
    reply = await ipychat.ask("Hi", model="anthropic:claude-x")
    assert bool([one for one in reply.notices if day.isoformat() in one]) == says


def test_counts_that_say_nothing_stay_out_of_what_notebooks_show():
    assert repr(Usage(1, 2)) == "Usage(input=1, output=2, reasoning=0, cached=0, cost=None)"
    assert repr(Usage(1, 2, stored=3)).endswith("cost=None, stored=3)")
