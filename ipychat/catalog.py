"""Names → provider and model: the built-in ones, those of installed packages, the registered ones.

A provider is imported when it is asked, or when a bare model name has to be looked up.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ipychat import cards, config, policy, provider, secrets
from ipychat.errors import ChatError, ModelNotSupportedError, PolicyError, UsageError
from ipychat.messages import ChatRequest, Event, ModelId, Notice, Usage
from ipychat.presets import PRESETS
from ipychat.store import credentials

if TYPE_CHECKING:
    from ipychat.provider import AsyncGeneratorProvider, Card, Provider

HELPER = "helper"
BUILT_IN = {
    HELPER: "ipychat.gateway.helper:Helper",
    "anthropic": "ipychat.providers.anthropic:Anthropic",
    "autonomous": "ipychat.providers.autonomous:AutonomousAI",
    "gemini": "ipychat.providers.gemini:Gemini",
    "koala": "ipychat.providers.koala:Koala",
    "ollama": "ipychat.providers.ollama:Ollama",
    "openai": "ipychat.providers.openai:OpenAI",
    "robocoders": "ipychat.providers.robocoders:RobocodersAPI",
}
OTHER_KEYS = ("OLLAMA_API_KEY",)
"""Keys that choose no default: they serve beside a server of one's own."""
LISTING: dict[str, Any] = {"retries": 0, "connect_timeout": 3.0, "timeout": 10.0}
"""How a question for a list of models travels."""
ENTRY_POINTS = "ipychat.providers"
MODEL_VARIABLE = "IPYCHAT_MODEL"
KEYS = {
    "ANTHROPIC_API_KEY": "anthropic",
    "OPENAI_API_KEY": "openai",
    "GEMINI_API_KEY": "gemini",
    "GOOGLE_API_KEY": "gemini",
    **{preset.key_variable: name for name, preset in PRESETS.items() if preset.key_variable},
}
"""Which provider answers by default where its key is in the environment, the first one first."""

_registered: dict[str, type[Provider]] = {}

P = TypeVar("P", bound=type)


def register(cls: P, name: str | None = None) -> P:
    """Make a provider of one's own known, by `name` or its class's name in small letters.

    Returns the class, so that it serves as a decorator. A later one of the same name replaces it.
    """
    if not callable(getattr(cls, "create_async_generator", None)):
        raise UsageError(f"{cls!r} is no provider: it has no create_async_generator.")
    name = name or cls.__name__.lower()
    if ":" in name or not name.strip():
        raise UsageError(f"A provider can't be called {name!r}.")
    _registered[name] = cls
    return cls


@functools.cache
def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


def names() -> list[str]:
    """Return the names of all providers."""
    own = config.current().endpoints
    return sorted({*BUILT_IN, *PRESETS, *own, *_entry_points(), *_registered})


def load(name: str) -> type[Provider]:
    """Return the provider of that name, imported now if it was not.

    Raises UsageError where there is none, or where the package that brings it fails to import.
    """
    if name in _registered:
        return _registered[name]
    if name in BUILT_IN:
        module, _, cls = BUILT_IN[name].partition(":")
        found: type[Provider] = getattr(import_module(module), cls)
        return found
    if endpoint := PRESETS.get(name) or config.current().endpoints.get(name):
        from ipychat.providers.openai import compatible

        return compatible(name, endpoint)
    if point := _entry_points().get(name):
        try:
            registered: type[Provider] = register(point.load(), name)
            return registered
        except Exception as error:
            package = point.dist.name if point.dist else point.value
            raise UsageError(
                f"The provider {name}, of the package {package}, can't be imported:\n"
                f"{type(error).__name__}: {error}"
            ) from error
    raise ModelNotSupportedError(
        f"There is no provider {name!r}.{_near(name, names())}\nThere are: {', '.join(names())}."
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be asked, what is missing before it can, and what is known of it."""

    model: ModelId
    missing: str | None = None
    card: Card | None = None


def offers() -> list[Offer]:
    """Return what each provider offers; one that can't be imported is logged and left out."""
    found: list[Offer] = []
    for name in names():
        try:
            cls = load(name)
        except UsageError as error:
            secrets.log.warning("%s", error)
            continue
        missing = _missing(name, cls)
        for model, card in _known(name, cls).items():
            id_ = ModelId(name, model)
            found.append(Offer(id_, _refused(id_) or missing, card))
    return found


def _refused(model: ModelId) -> str | None:
    """Say in a few words that a model is not allowed; None where it is."""
    try:
        policy.check_model(str(model))
    except PolicyError as error:
        whose, _, _ = str(error).partition(" does not allow")
        return f"not allowed by {whose[0].lower()}{whose[1:]}"
    return None


def _known(name: str, cls: type[Provider]) -> dict[str, Card | None]:
    """Return a provider's models: its own closed list, else its default and what is listed."""
    if not issubclass(cls, provider.ProviderModelMixin):
        return {}
    if cls.models or not issubclass(cls, provider.AsyncGeneratorProvider):
        return dict.fromkeys(filter(None, cls.get_models()))
    known = cards.known(name, cls, root(name, cls))
    first = [cls.default_model] if cls.default_model else []
    return {one: known.get(one) for one in [*first, *known]}


def root(name: str, cls: type[AsyncGeneratorProvider]) -> str:
    """Return where a provider is asked if the question does not say where."""
    return cls.root(config.current().urls.get(name))


def _missing(name: str, cls: type[Provider]) -> str | None:
    if not issubclass(cls, provider.AsyncGeneratorProvider):
        return None
    if _is_offline(name):
        gateway = config.current().gateway
        return None if gateway else f"offline upstream: set {cls.url_variables[0]}"
    return cls.missing(root(name, cls))


async def refresh(*, stale_only: bool = False) -> dict[str, str]:
    """Ask every service that is ready for its models, side by side; return who gave none, and why.

    Those whose list is younger than a day are not asked if `stale_only`.
    """
    asked = {}
    for name in names():
        cls = load(name)
        if not issubclass(cls, provider.AsyncGeneratorProvider) or getattr(cls, "models", None):
            continue
        place = root(name, cls)
        if cls.missing(place) is None and not (stale_only and not cards.is_stale(name, place)):
            asked[name] = cards.refresh(name, cls, place, **LISTING)
    given = await asyncio.gather(*asked.values(), return_exceptions=True)
    faults = {}
    for name, result in zip(asked, given, strict=True):
        if isinstance(result, ChatError):
            faults[name] = str(result)
        elif isinstance(result, BaseException):
            raise result
    return faults


def _is_offline(name: str) -> bool:
    """Whether a provider's service is gone and the user has named no other address for it."""
    cls = load(name)
    if not issubclass(cls, provider.AsyncGeneratorProvider) or cls.working:
        return False
    return not config.current().urls.get(name) and cls.root() == cls.base_url


class Models(tuple[Offer, ...]):
    """A list of offers that shows as a table."""

    __slots__ = ()

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(str(o.model), o.missing or "ready", _facts(o.card)) for o in self]

    def __repr__(self) -> str:
        rows = self._rows()
        width = max((len(name) for name, _, _ in rows), default=0)
        states = max((len(state) for _, state, _ in rows), default=0)
        return "\n".join(f"{n:{width}}  {s:{states}}  {facts}".rstrip() for n, s, facts in rows)

    def _repr_html_(self) -> str:
        cell = '<td style="text-align:left">'
        rows = "".join(
            f"<tr>{cell}<code>{escape(name)}</code></td>{cell}{escape(state)}</td>"
            f"{cell}{escape(facts)}</td></tr>"
            for name, state, facts in self._rows()
        )
        heads = "<tr><th>model</th><th>ready?</th><th>what is known of it</th></tr>"
        return f'<table class="mathjax_ignore">{heads}{rows}</table>'


def _facts(card: Card | None) -> str:
    """Say in a line what is known of a model."""
    if card is None:
        return ""
    said = [f"{card.context:,} tokens"] if card.context else []
    said += ["images"] if card.vision else []
    said += ["tools"] if card.tools else []
    if card.input is not None and card.output is not None:
        said.append(f"${card.input:g} in, ${card.output:g} out a million")
    return " · ".join(said)


def models(words: str = "") -> Models:
    """Return what can be asked and whether it is ready, narrowed to names with all the words."""
    wanted = words.lower().split()
    return Models(o for o in offers() if all(word in str(o.model).lower() for word in wanted))


class Found(NamedTuple):
    """A key or an address that the environment or the configuration may name, and what it does."""

    kind: str
    name: str
    state: str


def found() -> list[Found]:
    """Return which keys and addresses were found and where; never a key itself."""
    keys, addresses = [], []
    for name in names():
        cls = load(name)
        if not issubclass(cls, provider.AsyncGeneratorProvider):
            continue
        place = root(name, cls)
        if where := cls.key_found(place):
            keys.append(Found("key", name, where))
        if place != cls.base_url.rstrip("/"):
            given = name in config.current().urls
            where = "%config IPyChat.urls" if given else " or ".join(cls.url_variables)
            addresses.append(Found("address", name, f"{secrets.without_login(place)} ({where})"))
    return [*(keys or [Found("key", "none", "%chat_login PROVIDER asks for one")]), *addresses]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes."""

    cls: type[Provider]
    root: str | None
    """None: the provider alone knows."""
    by_gateway: bool = False

    @property
    def is_own(self) -> bool:
        """Whether it goes to the service itself: its prices hold there."""
        return self.root == getattr(self.cls, "base_url", "").rstrip("/") and not self.by_gateway


def route(request: ChatRequest) -> Route:
    """Return where `request` goes: to the address given, else the user's, else its service's own.

    Where the service is gone, and nobody has named another address, the gateway serves it.
    """
    name = request.model.provider
    cls = load(name)
    if not issubclass(cls, provider.AsyncGeneratorProvider):
        return Route(cls, None)
    if given := request.options.get("base_url"):
        return Route(cls, cls.root(given))
    return Route(cls, root(name, cls), bool(_is_offline(name) and config.current().gateway))


def address(request: ChatRequest) -> str:
    """Return the URL that `request` would go to, as it may be shown."""
    way = route(request)
    if way.root is None:
        return "chosen by the provider"
    if way.by_gateway:
        return f"the notebook's own gateway: {way.root} is offline"
    path: str = way.cls.path(request.model.name)  # type: ignore[attr-defined] # one with a root has it
    return secrets.without_login(way.root + path)


def cost(request: ChatRequest, usage: Usage) -> float | None:
    """Return what an answer cost in dollars, by the prices that are known; None where none is."""
    way = route(request)
    if not way.is_own or way.root is None:
        return None
    return cards.cost(request.model.provider, way.cls, way.root, request.model.name, usage)  # type: ignore[arg-type] # as above


def format_of(name: str | None) -> str | None:
    """Return the format that the model of that name answers in, if it has one of its own."""
    model = resolve(name)
    formats: dict[str, str] = getattr(load(model.provider), "formats", {})
    return formats.get(model.name)


def resolve(name: str | None = None) -> ModelId:
    """Return the model that `name` means; nothing means the default.

    Raises ModelNotSupportedError with what comes near, or with the full names to choose from.
    """
    own = (endpoint.key_variable for endpoint in config.current().endpoints.values())
    for variable in (*KEYS, *OTHER_KEYS, *own):  # known before anything of it is kept or shown
        secrets.register(os.environ.get(variable, ""))
    credentials.register_kept()
    aliases = config.current().aliases
    name = (name or "").strip() or default()[0]
    followed: set[str] = set()
    while name in aliases and name not in followed:
        followed.add(name)
        name = aliases[name]
    found = _resolve(name)
    policy.check_model(str(found))
    return found


def _resolve(name: str) -> ModelId:
    before, _, after = name.partition(":")
    if before in names():
        cls = load(before)
        if issubclass(cls, provider.ProviderModelMixin):
            return ModelId(before, cls.get_model(after))
        return ModelId(before, after)
    return _look_up(name)


def fallbacks(model: ModelId) -> list[ModelId]:
    """Return who is asked where `model` does not answer; nobody unless the user says so."""
    for name, others in config.current().fallbacks.items():
        if resolve(name) == model:
            return [resolve(other) for other in others]
    return []


def named_by_the_environment() -> str | None:
    """Return the model that the user's environment names, if it does."""
    return os.environ.get(MODEL_VARIABLE)


def default() -> tuple[str, str]:
    """Return the name that answers where none is given, and the rule that chose it."""
    return next(_rules())


def _rules() -> Iterator[tuple[str, str]]:
    """Give what each rule that holds chooses, the first one first; the last always holds."""
    if model := config.current().model:
        yield model, "set by %config IPyChat.model"
    if model := named_by_the_environment():
        yield model, f"set by {MODEL_VARIABLE}"
    for variable, name in KEYS.items():
        if os.environ.get(variable):
            yield name, f"{variable} is in the environment"
    kept = credentials.services()
    for name in dict.fromkeys(KEYS.values()):
        if name in kept:
            yield name, f"%chat_login {name} has kept a key"
    yield HELPER, "no key was found: the built-in helper, which is no AI model"


def answering() -> ModelId:
    """Return who answers behind the gateway: the first rule's that is not served by it."""
    models = (resolve(name) for name, _ in _rules())
    return next(model for model in models if not _is_offline(model.provider))


def _look_up(name: str) -> ModelId:
    """Find a bare name among what the providers offer."""
    everything = offers()
    found = [offer for offer in everything if name in _names_of(offer.model)]
    ready = [offer for offer in found if offer.missing is None]
    if len(found) == 1 or len(ready) == 1:
        return (ready or found)[0].model
    if found:
        full = ", ".join(str(offer.model) for offer in found)
        raise ModelNotSupportedError(f"Several providers offer {name!r}. Name one of: {full}.")
    before, colon, after = name.partition(":")
    if colon and (near := difflib.get_close_matches(before, names(), n=1)):
        hint = f" Did you mean {near[0]}:{after}?"
    else:
        hint = _near(name, {*names(), *(n for o in everything for n in _names_of(o.model))})
    nor = f", and no provider {before!r}" if colon else ""
    raise ModelNotSupportedError(
        f"There is no model {name!r}{nor}.{hint}\n"
        f"Models that aren't listed are asked as provider:name, such as openai:{name}."
    )


def _names_of(model: ModelId) -> set[str]:
    cls = load(model.provider)
    aliases = cls.model_aliases if issubclass(cls, provider.ProviderModelMixin) else {}
    return {model.name, *(alias for alias, target in aliases.items() if target == model.name)}


def _near(name: str, known: Iterable[str]) -> str:
    by_small_letters = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_small_letters, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(by_small_letters[one] for one in near)}?" if near else ""


async def events(request: ChatRequest) -> AsyncGenerator[Event, None]:
    """Ask the provider of the request's model, where `route` says."""
    name = request.model.provider
    options: dict[str, Any] = dict(request.options)
    way = route(request)
    _check(request, way)
    if way.by_gateway and (gateway := config.current().gateway):
        options |= {"base_url": f"{await gateway()}/{name}", "kept_as": "gateway"}
        yield Notice(
            f"{way.cls.__name__} · {request.model.name}: upstream is offline, "
            f"served here by {answering()}."
        )
    elif url := config.current().urls.get(name):
        options.setdefault("base_url", url)
    asked = replace(request, options=options)
    async with contextlib.aclosing(provider.events(way.cls, asked)) as given:
        async for event in given:
            if isinstance(event, Usage) and event.cost is None:
                event = replace(event, cost=cost(request, event))  # noqa: PLW2901 - the same, priced
            yield event


def _check(request: ChatRequest, way: Route) -> None:
    """Raise PolicyError for what is not allowed; hosts are looked at where requests are sent."""
    policy.check_model(str(request.model))
    own = way.cls.__module__.partition(".")[0] == __name__.partition(".")[0]
    if policy.limits_hosts() and not own:
        raise PolicyError(
            f"{way.cls.__name__} has an HTTP client of its own, which can't be held to the "
            "allowed hosts."
        )
