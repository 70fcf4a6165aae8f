"""The route of a question: where it goes, determined once, without asking anyone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipychat import config, secrets
from ipychat.catalog import lists, registry, resolve
from ipychat.messages import ModelId, Question, Route, Usage
from ipychat.providers.provider import Card


def find(model: ModelId, options: Mapping[str, Any]) -> Route:
    """Return the route to `model`: the given address, the user's, or the service's own.

    If the service is gone and nobody named another address, the gateway serves it.
    """
    provider = registry.load(model.provider)
    if provider.chooses_address:
        return Route(provider, None)
    given = options.get("base_url")
    root = provider.root(given) if given else registry.root(model.provider, provider)
    provider = registry.speaking(model.provider, provider, root)
    if given:
        return Route(provider, root)
    served_here = config.current().gateway and registry.is_offline(model.provider, provider)
    return Route(provider, root, resolve.answering() if served_here else None)


def of(question: Question) -> Route:
    """Return a question's route; for one read from disk, the route it would take now."""
    return question.route or find(question.model, question.options)


def address(question: Question) -> str:
    """Return the URL that a question would go to, without secrets."""
    way = of(question)
    if way.root is None:
        return "chosen by the provider"
    if way.behind:
        return f"the notebook's own gateway: {way.root} is offline"
    name = question.model.name
    return secrets.without_login(
        way.root.replace(config.MODEL_IN_URL, name) + way.provider.path(name)
    )


def format_of(question: Question) -> str | None:
    """Return the format that the model prefers for its answers, if any."""
    formats: dict[str, str] = of(question).provider.formats
    return formats.get(question.model.name)


def card(question: Question) -> Card | None:
    """Return what is known about the model that answers."""
    way, model = of(question), question.model
    if way.root is None or way.behind:
        return None
    return lists.card(model.provider, way.provider, way.root, model.name)


def priced(question: Question, usage: Usage) -> Usage:
    """Return the usage of an answer with its cost in dollars, at the known prices."""
    way = of(question)
    if way.root is None or way.root != way.provider.base_url.rstrip("/"):
        return usage  # prices hold at the service itself
    known = card(question)
    return lists.priced(known, usage) if known else usage


def cost(question: Question, usage: Usage) -> float | None:
    """Return an answer's cost in dollars, or None if a price is unknown."""
    return priced(question, usage).cost
