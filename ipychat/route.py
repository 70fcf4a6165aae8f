"""Where a question goes, and what comes back from there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ipychat import cards, catalog, config, policy, provider, registry, secrets
from ipychat.errors import PolicyError
from ipychat.messages import ChatRequest, Event, Notice, Usage

if TYPE_CHECKING:
    from ipychat.provider import Provider


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes."""

    provider: type[Provider]
    root: str | None
    """None: the provider alone knows."""
    by_gateway: bool = False

    @classmethod
    def of(cls, request: ChatRequest) -> Route:
        """Return where `request` goes: to the address given, the user's, or its service's own.

        Where the service is gone, and nobody has named another address, the gateway serves it.
        """
        name = request.model.provider
        asked = registry.load(name)
        if not issubclass(asked, provider.AsyncGeneratorProvider):
            return cls(asked, None)
        if given := request.options.get("base_url"):
            return cls(asked, asked.root(given))
        served_here = bool(registry.is_offline(name) and config.current().gateway)
        return cls(asked, registry.root(name, asked), served_here)

    @property
    def is_own(self) -> bool:
        """Whether it goes to the service itself: its prices hold there."""
        return (
            self.root == getattr(self.provider, "base_url", "").rstrip("/") and not self.by_gateway
        )


def address(request: ChatRequest) -> str:
    """Return the URL that `request` would go to, as it may be shown."""
    way = Route.of(request)
    if way.root is None:
        return "chosen by the provider"
    if way.by_gateway:
        return f"the notebook's own gateway: {way.root} is offline"
    path: str = way.provider.path(request.model.name)  # type: ignore[attr-defined] # has a root
    return secrets.without_login(way.root + path)


def cost(request: ChatRequest, usage: Usage) -> float | None:
    """Return what an answer cost in dollars, by the prices that are known; None where none is."""
    way = Route.of(request)
    if not way.is_own or way.root is None:
        return None
    model = request.model
    return cards.cost(model.provider, way.provider, way.root, model.name, usage)  # type: ignore[arg-type] # has a root


async def events(request: ChatRequest) -> AsyncGenerator[Event, None]:
    """Ask the provider of the request's model, where its route says."""
    name = request.model.provider
    options: dict[str, Any] = dict(request.options)
    way = Route.of(request)
    _check(request, way)
    if way.by_gateway and (gateway := config.current().gateway):
        options |= {"base_url": f"{await gateway()}/{name}", "kept_as": "gateway"}
        yield Notice(
            f"{way.provider.__name__} · {request.model.name}: upstream is offline, "
            f"served here by {catalog.answering()}."
        )
    elif url := config.current().urls.get(name):
        options.setdefault("base_url", url)
    asked = replace(request, options=options)
    async with contextlib.aclosing(provider.events(way.provider, asked)) as given:
        async for event in given:
            if isinstance(event, Usage) and event.cost is None:
                event = replace(event, cost=cost(request, event))  # noqa: PLW2901 - the same, priced
            yield event


def _check(request: ChatRequest, way: Route) -> None:
    """Raise PolicyError for what is not allowed; hosts are looked at where requests are sent."""
    policy.check_model(str(request.model))
    if policy.limits_hosts() and not registry.is_ours(request.model.provider):
        raise PolicyError(
            f"{way.provider.__name__} has an HTTP client of its own, which can't be held to the "
            "allowed hosts."
        )
