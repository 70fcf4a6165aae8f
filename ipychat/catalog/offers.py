"""Available models: whether each is ready, and what is known about it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ipychat import config, secrets
from ipychat.catalog import lists, registry
from ipychat.errors import ChatError
from ipychat.local import servers as local
from ipychat.messages import ModelId
from ipychat.store import replay
from ipychat.text import tables
from ipychat.wire import policy
from ipychat.wire.http import is_loopback

if TYPE_CHECKING:
    from ipychat.local.servers import Server
    from ipychat.providers.provider import Card, FullProvider

LISTING: dict[str, Any] = {"retries": 0, "connect_timeout": 3.0, "timeout": 10.0}
"""Transport options of a request for a list of models."""
FACTS = "context · takes · $ a million"
MAX_ROWS = 40
"""Above this many rows, unready models collapse to one row per provider."""
SERVERS_VARIABLE = "IPYCHAT_SERVERS"
"""If this is `off`, servers on this machine are not searched for."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be asked, what it still needs, and what is known about it."""

    model: ModelId
    missing: str | None = None
    card: Card | None = None
    at: str = ""
    """Its address, if it runs on this machine."""
    emulated_by: str = ""
    """The model that stands in for it, if its service is gone."""

    @property
    def state(self) -> str:
        """Whether it is ready, in words."""
        if self.emulated_by and not self.missing:
            return f"emulated by {self.emulated_by}"
        return self.missing or (f"ready at {self.at}" if self.at else "ready")


def offers() -> list[Offer]:
    """List every provider's models; a provider that can't be imported is logged and skipped."""
    look_for_servers()  # the search tells some providers their address
    return known()


def known() -> list[Offer]:
    """List them from what is already known, without searching for servers."""
    found: list[Offer] = []
    refused = policy.refusal()
    servers()  # tells some providers their address
    for name, cls in registry.loaded():
        missing, at = _missing(name, cls), _here(name, cls)
        for model, card in _known(name, cls).items():
            found.append(Offer(ModelId(name, model), refused(name, model) or missing, card, at))
    return found


def offer(model: ModelId) -> Offer:
    """Return the offer of one model, even if its provider does not list it."""
    cls = registry.load(model.provider)
    missing = policy.refusal()(model.provider, model.name) or _missing(model.provider, cls)
    return Offer(model, missing, at=_here(model.provider, cls))


def _here(name: str, cls: type[FullProvider]) -> str:
    """Return the address on this machine that a provider uses; empty if it uses none."""
    if cls.chooses_address:
        return ""
    root = registry.root(name, cls)
    return secrets.without_login(root) if is_loopback(root) else ""


def _known(name: str, cls: type[FullProvider]) -> dict[str, Card | None]:
    """Return a provider's models: its own fixed list, else its default and the listed ones."""
    if cls.models or cls.chooses_address:
        return dict.fromkeys(filter(None, cls.get_models()))
    known = lists.known(name, cls, registry.root(name, cls))
    first = [cls.default_model] if cls.default_model else []
    return {one: known.get(one) for one in [*first, *known]}


def _missing(name: str, cls: type[FullProvider]) -> str | None:
    if cls.chooses_address:
        return None
    if registry.is_offline(name, cls):
        gateway = config.current().gateway
        return None if gateway else f"offline upstream: set {cls.url_variables[0]}"
    return cls.missing(registry.root(name, cls))


async def refresh(*, stale_only: bool = False) -> dict[str, str]:
    """Request the lists of all services that are ready, concurrently; return errors by provider.

    With `stale_only`, lists younger than a day are not requested. Also searches for servers on this
    machine.
    """
    await search()
    asked = {}
    refused = policy.refusal()
    for name, cls in registry.loaded():
        if cls.chooses_address or cls.models:
            continue
        place = registry.root(name, cls)
        if refused(name, "") or cls.missing(place) is not None:
            continue
        if not stale_only or lists.is_stale(name, place):
            asked[name] = (cls, place)
    listing = (lists.refresh(name, *where, **LISTING) for name, where in asked.items())
    given = await asyncio.gather(*listing, return_exceptions=True)
    faults = {}
    for name, result in zip(asked, given, strict=True):
        if isinstance(result, asyncio.CancelledError):
            raise result
        if isinstance(result, BaseException):
            kind = "" if isinstance(result, ChatError) else f"{type(result).__name__}: "
            faults[name] = secrets.mask(f"{kind}{result}")
    return faults


class Models(tuple[Offer, ...]):
    """Offers, displayed as a table."""

    __slots__ = ()

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield one line per model; in a long list, one per provider for unready ones."""
        for _, (first, *others) in itertools.groupby(self, _provider_unless_ready):
            if others and len(self) > MAX_ROWS and _provider_unless_ready(first):
                yield f"{first.model}, {len(others)} more", first.state, _facts(first.card)
                continue
            for one in (first, *others):
                yield str(one.model), one.state, _facts(one.card)

    def __repr__(self) -> str:
        return tables.plain([*self._rows()])

    def _repr_html_(self) -> str:
        return tables.html(self._rows(), ("model", "ready?", FACTS), names=True)


def _provider_unless_ready(offer: Offer) -> str:
    return offer.model.provider if offer.missing or offer.emulated_by else ""


def _facts(card: Card | None) -> str:
    """Return the known facts about a model in one line."""
    if card is None:
        return ""
    said = [_rounded(card.context)] if card.context else []
    said += ["images"] if card.vision else []
    said += ["tools"] if card.tools else []
    if card.input is not None and card.output is not None:
        said.append(f"${card.input:g} / ${card.output:g}")
    said += [f"retires {card.retires}"] if card.retires else []
    return " · ".join(said)


def _rounded(tokens: int) -> str:
    if tokens >= 1_000_000:
        return f"{tokens / 1_000_000:.3g}M"
    return f"{tokens / 1_000:.0f}k" if tokens >= 1_000 else str(tokens)


class Found(NamedTuple):
    """A key, an address or a server that was found, and its effect."""

    kind: str
    name: str
    state: str


def found() -> list[Found]:
    """Return the keys, addresses and servers that were found, and where; never a key itself."""
    keys, addresses = [], []
    for name, cls in registry.loaded():
        if cls.chooses_address:
            continue
        place = registry.root(name, cls)
        if where := cls.key_found(place):
            keys.append(Found("key", name, where))
        if place != cls.base_url.rstrip("/"):
            given = name in config.current().urls
            where = "%config IPyChat.urls" if given else " or ".join(cls.url_variables)
            addresses.append(Found("address", name, f"{secrets.without_login(place)} ({where})"))
    here = [Found("server", one.product, _told(one)) for one in look_for_servers()]
    no_key = Found("key", "none", "%chat_login PROVIDER asks for one")
    return [*(keys or [no_key]), *addresses, *here]


def _told(server: Server) -> str:
    first, *others = server.models or ("no model",)
    models = f"{first}, {len(others)} more" if others else first
    why_not = f"; not used unasked: {server.why_not}" if server.why_not else ""
    return f"{models}, at {server.root}{why_not}"


def looks_for_servers() -> bool:
    """Whether to search for servers on this machine, which the user can forbid."""
    return os.environ.get(SERVERS_VARIABLE) != "off" and not replay.is_on()


def servers() -> list[Server]:
    """Return the servers known to run on this machine, the preferred one first.

    From then on, their providers use these addresses.
    """
    if not looks_for_servers():
        return []
    found = local.known()
    for server in reversed(found):
        if server.why_not is None:
            registry.found_at(server.provider, server.root)
    return found


def needs_search() -> bool:
    """Whether a search for servers is allowed, and the last one is over half a minute old."""
    return looks_for_servers() and not local.is_fresh()


async def search() -> None:
    """Search for servers on this machine, if needed."""
    if needs_search():
        await asyncio.shield(local.search())


def look_for_servers() -> list[Server]:
    """Return the servers on this machine; waits for a search if there has been none."""
    if needs_search():
        local.find()
    return servers()


def _names_of(cls: type[FullProvider], model: str) -> set[str]:
    """Return a model's own name and its aliases."""
    return {model, *(alias for alias, target in cls.model_aliases.items() if target == model)}


class _Index(NamedTuple):
    """The providers of each bare name, valid while `state` is the same."""

    state: tuple[Any, ...]
    variables: tuple[str, ...]
    """Environment variables that say where services are."""
    models: dict[str, list[ModelId]]


_index: _Index | None = None


def offering(name: str) -> list[ModelId]:
    """Return the models with this bare name at any provider, ready or not."""
    return _current_index().models.get(name, [])


def every_name() -> Iterator[str]:
    """Yield every bare name."""
    yield from _current_index().models


def is_read() -> bool:
    """Whether the index has been built and is still valid."""
    return _index is not None and _index.state == _state(_index.variables)


def read() -> None:
    """Build the index: this reads files, which may be slow."""
    _current_index()


def _current_index() -> _Index:
    """Return the index, rebuilt if anything it depends on has changed."""
    global _index  # noqa: PLW0603 - the index, until something it depends on changes
    if _index is None or not is_read():
        variables: dict[str, None] = {}
        models: dict[str, list[ModelId]] = {}
        for provider, cls in registry.loaded():
            variables |= dict.fromkeys(cls.url_variables)
            for model in _known(provider, cls):
                for name in _names_of(cls, model):
                    models.setdefault(name, []).append(ModelId(provider, model))
        _index = _Index(_state(tuple(variables)), tuple(variables), models)
    return _index


def _state(variables: tuple[str, ...]) -> tuple[Any, ...]:
    """Return a key that changes whenever the index has to be rebuilt."""
    return (
        config.current(),
        registry.generation(),
        lists.version(),
        *map(os.environ.get, variables),
    )


def is_ready(model: ModelId) -> bool:
    """Whether a model can be asked now."""
    cls = registry.load(model.provider)
    refused = policy.refusal()
    return not (refused(model.provider, model.name) or _missing(model.provider, cls))
