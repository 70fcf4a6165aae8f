"""Facts about models: each service's own list, kept for a day, and a table with prices.

The table, `models.json`, states its date and sources. A service's facts about a model take
precedence over the table's. Prices apply only at the service's own address.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ipychat import config, secrets
from ipychat.errors import StoreError
from ipychat.messages import FilePart, ImagePart, Question, TextPart, ToolCall, Usage
from ipychat.providers.provider import AsyncGeneratorProvider, Card
from ipychat.store import files

MAX_MODELS = 5_000
"""Models kept per service."""
MAX_NAME = 200
"""Characters of a model's name."""
RETRY_AFTER = 300.0
"""Seconds before a failed listing is retried automatically."""
MAX_AGE = 86_400.0
"""Seconds for which a list is fresh."""
SAMPLING = {"temperature", "top_p", "top_k"}
"""Options that control sampling."""
TABLE = Path(__file__).with_name("models.json")

Provider = type[AsyncGeneratorProvider]

_not_before: dict[tuple[str, str], float] = {}
"""Monotonic time before which a failed listing is not retried, by provider and root."""


class Table(NamedTuple):
    """The table in the package."""

    date: str
    source: str
    cards: dict[str, dict[str, Card]]
    """By provider and model."""


@functools.cache
def table() -> Table:
    """Return the table, read on first use."""
    given = json.loads(TABLE.read_bytes())
    cards = {
        provider: {name: Card(name, **facts) for name, facts in models.items()}
        for provider, models in given["models"].items()
    }
    return Table(given["date"], given["source"], cards)


class Listed(NamedTuple):
    """A service's own list, and when it was requested."""

    at: float
    cards: dict[str, Card]


def known(name: str, cls: Provider, root: str) -> dict[str, Card]:
    """Return the models of a provider at `root`: from its last list, else from the table."""
    ours, listed = _ours(name, cls, root), _read(name, root)
    if listed is None:
        return ours
    return {one: _merged(card, ours.get(one)) for one, card in listed.cards.items()}


def _of(name: str, cls: Provider, root: str, model: str) -> Card | None:
    """Like `known`, for one model."""
    ours, listed = _ours(name, cls, root).get(model), _read(name, root)
    if listed is None:
        return ours
    said = listed.cards.get(model)
    return said and _merged(said, ours)


def _ours(name: str, cls: Provider, root: str) -> dict[str, Card]:
    return table().cards.get(name, {}) if root == cls.base_url.rstrip("/") else {}


def _merged(said: Card, ours: Card | None) -> Card:
    return dataclasses.replace(ours, **said.facts()) if ours else said


def is_stale(name: str, root: str) -> bool:
    """Whether the list of a provider at `root` is missing or older than a day.

    It is not while a failed listing is not to be retried.
    """
    if time.monotonic() < _not_before.get((name, root), 0.0):
        return False
    listed = _read(name, root)
    return listed is None or not 0 <= time.time() - listed.at < MAX_AGE


async def refresh(name: str, cls: Provider, root: str, **options: Any) -> None:
    """Request a provider's list, and store it. Raises ChatError if there is none."""
    _not_before[name, root] = time.monotonic() + RETRY_AFTER
    keep(name, root, await cls.cards(base_url=root, **options))


def keep(name: str, root: str, listed: Iterable[Card]) -> None:
    """Store the list of a provider at `root`, without names that would act on a terminal."""
    good = [card for card in listed if card.name.isprintable() and 0 < len(card.name) <= MAX_NAME]
    if len(good) > MAX_MODELS:
        secrets.log.warning(
            "%s lists %s models; the first %s are kept.", name, len(good), MAX_MODELS
        )
    good = good[:MAX_MODELS]
    if good:
        try:
            _write(name, root, good)
            _not_before.pop((name, root), None)
        except StoreError as error:
            secrets.log.warning("%s", error)


def card(name: str, cls: Provider, root: str, model: str) -> Card | None:
    """Return what is known about a model of the provider at `root`."""
    return _of(name, cls, root, model)


def effort(card: Card | None, level: str) -> str | None:
    """Return the model's own name for a level of effort; None if it has none.

    `max` is its highest. If nothing is known of the model, the level is returned as it is.
    """
    if card is None or card.efforts is None:
        return level
    if level == "max":
        return card.efforts[-1] if card.efforts and card.efforts[-1] != "none" else None
    return level if level in card.efforts else None


def refused(card: Card, options: Mapping[str, Any]) -> str:
    """Return which options the model is known to reject, and what to do; empty if none."""
    level = options.get("effort")
    if level is not None and effort(card, level) is None:
        known = [one for one in config.EFFORTS if effort(card, one)]
        if not known and level == "none":
            return ""  # it does not think
        says = f"has the efforts {', '.join(known)}" if known else "has no efforts"
        return f"{card.name} {says}, not {level!r}.\nLeave it out, or choose another model."
    if given := sorted(SAMPLING & options.keys()):
        if card.sampling == "none":
            return f"{card.name} doesn't accept {' or '.join(given)}.\nLeave it out."
        if card.sampling == "without effort" and level != "none":
            return (
                f"{card.name} accepts {' and '.join(given)} only with the effort none.\n"
                "Leave it out, or add --effort none (in Python effort='none')."
            )
    choice = options.get("tool_choice")
    if card.forced_tools is False and (choice == "required" or isinstance(choice, Mapping)):
        return (
            f"{card.name} can't be forced to call a tool.\n"
            "Set tool_choice to 'auto' or 'none', and ask for the tool in the prompt."
        )
    return ""


def priced(card: Card, usage: Usage) -> Usage:
    """Return the usage with its cost and with what the cache saved, as far as prices are known."""
    known = {
        name: card.price(name, usage.input)
        for name in ("input", "output", "cached", "stored", "stored_hour")
    }
    counts = {
        "input": max(usage.input - usage.cached - usage.stored, 0),
        "output": usage.output,
        "cached": usage.cached,
        "stored": usage.stored - usage.stored_hour,
        "stored_hour": usage.stored_hour,
    }
    if any(known[name] is None for name in {"input", "output", *(n for n in counts if counts[n])}):
        return usage
    prices = {name: price or 0.0 for name, price in known.items()}
    cost = sum(count * prices[name] for name, count in counts.items()) / 1e6
    if not (usage.cached or usage.stored):
        return dataclasses.replace(usage, cost=cost)
    whole = (usage.input * prices["input"] + usage.output * prices["output"]) / 1e6
    return dataclasses.replace(usage, cost=cost, saved=whole - cost)


# -- what a request weighs

CHARACTERS_PER_TOKEN = 4
"""Characters per token: three to five in English text and code; good enough for decisions."""
PDF_BYTES_PER_TOKEN = 30
"""Bytes per token of a PDF: a page has some 50 to 100 kB, and costs two to three thousand tokens.
"""
TOKENS_PER_IMAGE = 1000
"""Services count 85 to 1,600 tokens, depending on size and detail."""
TOKENS_PER_MESSAGE = 4
"""Overhead per message."""


def estimate_tokens(request: Question) -> int:
    """Estimate the number of tokens in the messages of `request`."""
    tokens = 0
    for message in request.messages:
        texts = [len(part.text) + 1 for part in message.parts if isinstance(part, TextPart)]
        tokens += TOKENS_PER_MESSAGE + max(sum(texts) - 1, 0) // CHARACTERS_PER_TOKEN
        for part in message.parts:
            match part:
                case ImagePart():
                    tokens += TOKENS_PER_IMAGE
                case FilePart(data=data, media_type="application/pdf"):
                    tokens += len(data) // PDF_BYTES_PER_TOKEN
                case ToolCall(arguments=arguments):
                    tokens += len(arguments) // CHARACTERS_PER_TOKEN
                case FilePart(data=data):
                    tokens += len(data) // CHARACTERS_PER_TOKEN
    return tokens


# -- on disk


def version() -> tuple[int, ...] | None:
    """Return a key that changes whenever a list is written."""
    return files.version(files.home() / "lists")


def _file(name: str) -> Path:
    return files.home() / "lists" / f"{name}.json"


def _read(name: str, root: str) -> Listed | None:
    path = _file(name)
    try:
        version = files.version(path)
    except OSError:
        return None
    return _parsed(path, version, root) if version else None


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, _version: tuple[int, ...], root: str) -> Listed | None:
    """Parse a stored list; a damaged one, or one of another root, counts as missing."""
    try:
        given = json.loads(path.read_bytes())
        if given["root"] != secrets.without_login(root):
            return None
        cards = [_card(facts) for facts in given["models"]]
        return Listed(float(given["at"]), {card.name: card for card in cards})
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        secrets.log.info("The list %s can't be read: %r", path.name, error)
        return None


def _card(facts: dict[str, Any]) -> Card:
    if not isinstance(facts["name"], str) or not all(
        isinstance(value, int | float) for k, value in facts.items() if k != "name"
    ):
        raise TypeError(facts["name"])
    return Card(**{k: value for k, value in facts.items() if k in Card.__dataclass_fields__})


def _write(name: str, root: str, cards: Iterable[Card]) -> None:
    models = [card.facts() for card in cards]
    listed = {"root": secrets.without_login(root), "at": time.time(), "models": models}
    files.write(_file(name), json.dumps(listed, ensure_ascii=False).encode("utf-8", "replace"))
