"""Where a question goes: found once, with all that is known, and without asking anyone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipychat import config, secrets
from ipychat.catalog import lists, registry, resolve
from ipychat.messages import ModelId, Question, Route, Usage


def find(model: ModelId, options: Mapping[str, Any]) -> Route:
    """Return where a question to `model` goes: the address given, the user's, or its service's own.

    Where the service is gone, and nobody has named another address, the gateway serves it.
    """
    provider = registry.load(model.provider)
    if provider.chooses_address:
        return Route(provider, None)
    if given := options.get("base_url"):
        return Route(provider, provider.root(given))
    root = registry.root(model.provider, provider)
    served_here = config.current().gateway and registry.is_offline(model.provider, provider)
    return Route(provider, root, resolve.answering() if served_here else None)


def of(question: Question) -> Route:
    """Return the route of a question; of one that was read from disk, where it would go now."""
    return question.route or find(question.model, question.options)


def address(question: Question) -> str:
    """Return the URL that a question would go to, as it may be shown."""
    way = of(question)
    if way.root is None:
        return "chosen by the provider"
    if way.behind:
        return f"the notebook's own gateway: {way.root} is offline"
    return secrets.without_login(way.root + way.provider.path(question.model.name))


def format_of(question: Question) -> str | None:
    """Return the format that the model answers in, if it has one of its own."""
    formats: dict[str, str] = of(question).provider.formats
    return formats.get(question.model.name)


def cost(question: Question, usage: Usage) -> float | None:
    """Return an answer's cost in dollars at the known prices, or None."""
    way, model = of(question), question.model
    if way.root is None or way.behind or way.root != way.provider.base_url.rstrip("/"):
        return None  # prices hold at the service itself
    return lists.cost(model.provider, way.provider, way.root, model.name, usage)
