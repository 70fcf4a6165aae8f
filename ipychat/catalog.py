"""Names → provider and model: the built-in ones, those of installed packages, the registered ones.

A provider is imported when it is asked, or when a bare model name has to be looked up.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ipychat import config, provider, secrets
from ipychat.errors import ModelNotSupportedError, UsageError
from ipychat.messages import ChatRequest, Event, ModelId, Notice

if TYPE_CHECKING:
    from ipychat.provider import Provider

HELPER = "helper"
BUILT_IN = {
    HELPER: "ipychat.gateway.helper:Helper",
    "autonomous": "ipychat.providers.autonomous:AutonomousAI",
    "koala": "ipychat.providers.koala:Koala",
    "openai": "ipychat.providers.openai:OpenAI",
    "robocoders": "ipychat.providers.robocoders:RobocodersAPI",
}
ENTRY_POINTS = "ipychat.providers"
MODEL_VARIABLE = "IPYCHAT_MODEL"
KEYS = {"OPENAI_API_KEY": "openai"}
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
    return sorted({*BUILT_IN, *_entry_points(), *_registered})


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
    """A model that can be asked, and what is missing before it can."""

    model: ModelId
    missing: str | None = None


def offers() -> list[Offer]:
    """Return what each provider offers; one that can't be imported is logged and left out."""
    found: list[Offer] = []
    for name in names():
        try:
            cls = load(name)
        except UsageError as error:
            secrets.log.warning("%s", error)
            continue
        if issubclass(cls, provider.ProviderModelMixin):
            missing = _missing(name, cls)
            found += [Offer(ModelId(name, model), missing) for model in cls.get_models()]
    return found


def _missing(name: str, cls: type[Provider]) -> str | None:
    if not issubclass(cls, provider.AsyncGeneratorProvider):
        return None
    if _is_offline(name):
        return None if config.current().gateway else f"offline upstream: set {cls.url_variable}"
    return cls.missing()


def _is_offline(name: str) -> bool:
    """Whether a provider's service is gone and the user has named no other address for it."""
    cls = load(name)
    if not issubclass(cls, provider.AsyncGeneratorProvider) or cls.working:
        return False
    return not config.current().urls.get(name) and cls.root() == cls.base_url


class Models(tuple[Offer, ...]):
    """A list of offers that shows as a table."""

    __slots__ = ()

    def _rows(self) -> list[tuple[str, str]]:
        return [(str(offer.model), offer.missing or "ready") for offer in self]

    def __repr__(self) -> str:
        width = max((len(name) for name, _ in self._rows()), default=0)
        return "\n".join(f"{name:{width}}  {state}" for name, state in self._rows())

    def _repr_html_(self) -> str:
        cell = '<td style="text-align:left">'
        rows = "".join(
            f"<tr>{cell}<code>{escape(name)}</code></td>{cell}{escape(state)}</td></tr>"
            for name, state in self._rows()
        )
        return f"<table><tr><th>model</th><th>ready?</th></tr>{rows}</table>"


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
    keys = [Found("key", v, "set" if os.environ.get(v) else "not set") for v in KEYS]
    addresses = []
    for name in names():
        cls = load(name)
        if issubclass(cls, provider.AsyncGeneratorProvider):
            given = config.current().urls.get(name)
            root = secrets.without_login(cls.root(given))
            where = "%config IPyChat.urls" if given else cls.url_variable
            own = cls.root(given) == cls.base_url
            addresses.append(Found("address", name, root if own else f"{root} ({where})"))
    return keys + addresses


def address(request: ChatRequest) -> str:
    """Return the URL that `request` would go to, as it may be shown."""
    cls = load(request.model.provider)
    if not issubclass(cls, provider.AsyncGeneratorProvider):
        return "chosen by the provider"
    given = request.options.get("base_url") or config.current().urls.get(request.model.provider)
    if not given and _is_offline(request.model.provider) and config.current().gateway:
        return f"the notebook's own gateway: {cls.base_url} is offline"
    return secrets.without_login(cls.root(given) + cls.path(request.model.name))


def format_of(name: str | None) -> str | None:
    """Return the format that the model of that name answers in, if it has one of its own."""
    model = resolve(name)
    formats: dict[str, str] = getattr(load(model.provider), "formats", {})
    return formats.get(model.name)


def resolve(name: str | None = None) -> ModelId:
    """Return the model that `name` means; nothing means the default.

    Raises ModelNotSupportedError with what comes near, or with the full names to choose from.
    """
    for variable in KEYS:  # known before anything of the question is kept or shown
        secrets.register(os.environ.get(variable, ""))
    aliases = config.current().aliases
    name = (name or "").strip() or default()[0]
    followed: set[str] = set()
    while name in aliases and name not in followed:
        followed.add(name)
        name = aliases[name]
    before, _, after = name.partition(":")
    if before in names():
        cls = load(before)
        if issubclass(cls, provider.ProviderModelMixin):
            return ModelId(before, cls.get_model(after))
        return ModelId(before, after)
    return _look_up(name)


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
    """Ask the provider of the request's model, at the address that holds for it.

    That is the one given, else the user's, else the provider's own; and where that is gone, the
    gateway, if there is one. Then the answer says so.
    """
    name = request.model.provider
    options: dict[str, Any] = dict(request.options)
    if "base_url" not in options:
        if url := config.current().urls.get(name):
            options["base_url"] = url
        elif (gateway := config.current().gateway) and _is_offline(name):
            options["base_url"] = f"{await gateway()}/{name}"
            options["kept_as"] = "gateway"
            yield Notice(
                f"{load(name).__name__} · {request.model.name}: upstream is offline, "
                f"served here by {answering()}."
            )
    asked = replace(request, options=options)
    async with contextlib.aclosing(provider.events(load(name), asked)) as given:
        async for event in given:
            yield event
