"""Which models there are, whether they are ready, and which one a name means."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from ipychat import cards, config, policy, provider, registry, replay, secrets
from ipychat.errors import ChatError, ModelNotSupportedError, PolicyError, UsageError
from ipychat.messages import ModelId, Recorded
from ipychat.presets import PRESETS
from ipychat.store import credentials
from ipychat.wire.http import is_loopback

if TYPE_CHECKING:
    from ipychat.local.servers import Server
    from ipychat.provider import Card, Provider

GATEWAY = "(the gateway)"
"""What stands for the gateway among the names that a cassette keeps."""
RECORDED = re.compile(r"[\w@](?:[\w@:+-]|[./](?![./])){0,199}")
"""What a model's name may be that a cassette brings: no path and no markup."""
LISTING: dict[str, Any] = {"retries": 0, "connect_timeout": 3.0, "timeout": 10.0}
"""How a question for a list of models travels."""
FACTS = "context · takes · $ a million"
SCREEN = 40
"""Lines of a list from which on those that aren't ready are drawn together."""
MODEL_VARIABLE = "IPYCHAT_MODEL"
SERVERS_VARIABLE = "IPYCHAT_SERVERS"
"""Where it says off, servers on this machine are not looked for."""
KEYS = {
    "ANTHROPIC_API_KEY": "anthropic",
    "OPENAI_API_KEY": "openai",
    "GEMINI_API_KEY": "gemini",
    "GOOGLE_API_KEY": "gemini",
    **{preset.key_variable: name for name, preset in PRESETS.items() if preset.key_variable},
}
"""Which provider answers by default where its key is in the environment, the first one first."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be asked, what is missing before it can, and what is known of it."""

    model: ModelId
    missing: str | None = None
    card: Card | None = None
    at: str = ""
    """Where on this machine, if it is there."""

    @property
    def state(self) -> str:
        """Whether it is ready, in words."""
        return self.missing or (f"ready at {self.at}" if self.at else "ready")


def offers() -> list[Offer]:
    """Return what each provider offers; one that can't be imported is logged and left out."""
    found: list[Offer] = []
    refused = policy.refusal()
    servers()  # some providers ask where one was found
    for name, cls in registry.loaded():
        missing, at = _missing(name, cls), _here(name, cls)
        for model, card in _known(name, cls).items():
            found.append(Offer(ModelId(name, model), refused(name, model) or missing, card, at))
    return found


def _here(name: str, cls: type[Provider]) -> str:
    """Return where on this machine a provider asks, if it does."""
    if not issubclass(cls, provider.AsyncGeneratorProvider):
        return ""
    root = registry.root(name, cls)
    return secrets.without_login(root) if is_loopback(root) else ""


def _known(name: str, cls: type[Provider]) -> dict[str, Card | None]:
    """Return a provider's models: its own closed list, else its default and what is listed."""
    if not issubclass(cls, provider.ProviderModelMixin):
        return {}
    if cls.models or not issubclass(cls, provider.AsyncGeneratorProvider):
        return dict.fromkeys(filter(None, cls.get_models()))
    known = cards.known(name, cls, registry.root(name, cls))
    first = [cls.default_model] if cls.default_model else []
    return {one: known.get(one) for one in [*first, *known]}


def _missing(name: str, cls: type[Provider]) -> str | None:
    if not issubclass(cls, provider.AsyncGeneratorProvider):
        return None
    if registry.is_offline(name):
        gateway = config.current().gateway
        return None if gateway else f"offline upstream: set {cls.url_variables[0]}"
    return cls.missing(registry.root(name, cls))


async def refresh(*, stale_only: bool = False) -> dict[str, str]:
    """Ask every service that is ready for its models, side by side; return who gave none, and why.

    Those whose list is younger than a day are not asked if `stale_only`.
    """
    asked = {}
    refused = policy.refusal()
    for name, cls in registry.loaded():
        if not issubclass(cls, provider.AsyncGeneratorProvider) or getattr(cls, "models", None):
            continue
        place = registry.root(name, cls)
        if refused(name, "") or cls.missing(place) is not None:
            continue
        if not stale_only or cards.is_stale(name, place):
            asked[name] = (cls, place)
    listing = (cards.refresh(name, *where, **LISTING) for name, where in asked.items())
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
    """A list of offers that shows as a table."""

    __slots__ = ()

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """Give what is ready, then the rest: in a long list one line for each provider."""
        for offer in self:
            if offer.missing is None:
                yield str(offer.model), offer.state, _facts(offer.card)
        rest = [offer for offer in self if offer.missing is not None]
        for _, group in itertools.groupby(rest, lambda offer: offer.model.provider):
            first, *others = group
            if others and len(self) > SCREEN:
                yield f"{first.model}, {len(others)} more", str(first.missing), _facts(first.card)
                continue
            for offer in (first, *others):
                yield str(offer.model), offer.state, _facts(offer.card)

    def __repr__(self) -> str:
        rows = list(self._rows())
        width = max((len(name) for name, _, _ in rows), default=0)
        states = max((len(state) for _, state, _ in rows), default=0)
        return "\n".join(f"{n:{width}}  {s:{states}}  {facts}".rstrip() for n, s, facts in rows)

    def _repr_html_(self) -> str:
        name = '<td style="text-align:left;min-width:18em;overflow-wrap:anywhere">'
        cell = '<td style="text-align:left">'
        rows = "".join(
            f"<tr>{name}<code>{escape(model)}</code></td>{cell}{escape(state)}</td>"
            f"{cell}{escape(facts)}</td></tr>"
            for model, state, facts in self._rows()
        )
        head = '<th style="text-align:left">'
        heads = "".join(f"{head}{text}</th>" for text in ("model", "ready?", FACTS))
        return f'<table class="mathjax_ignore"><tr>{heads}</tr>{rows}</table>'


def _facts(card: Card | None) -> str:
    """Say in a line what is known of a model."""
    if card is None:
        return ""
    said = [_rounded(card.context)] if card.context else []
    said += ["images"] if card.vision else []
    said += ["tools"] if card.tools else []
    if card.input is not None and card.output is not None:
        said.append(f"${card.input:g} / ${card.output:g}")
    return " · ".join(said)


def _rounded(tokens: int) -> str:
    if tokens >= 1_000_000:
        return f"{tokens / 1_000_000:.3g}M"
    return f"{tokens / 1_000:.0f}k" if tokens >= 1_000 else str(tokens)


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
    for name, cls in registry.loaded():
        if not issubclass(cls, provider.AsyncGeneratorProvider):
            continue
        place = registry.root(name, cls)
        if where := cls.key_found(place):
            keys.append(Found("key", name, where))
        if place != cls.base_url.rstrip("/"):
            given = name in config.current().urls
            where = "%config IPyChat.urls" if given else " or ".join(cls.url_variables)
            addresses.append(Found("address", name, f"{secrets.without_login(place)} ({where})"))
    here = [Found("server", one.product, _told(one)) for one in servers()]
    no_key = Found("key", "none", "%chat_login PROVIDER asks for one")
    return [*(keys or [no_key]), *addresses, *here]


def _told(server: Server) -> str:
    first, *others = server.models or ("no model",)
    models = f"{first}, {len(others)} more" if others else first
    why_not = f"; not used unasked: {server.why_not}" if server.why_not else ""
    return f"{models}, at {server.root}{why_not}"


def format_of(name: str | None) -> str | None:
    """Return the format that the model of that name answers in, if it has one of its own."""
    model, _ = resolve_question(name)
    formats: dict[str, str] = getattr(registry.load(model.provider), "formats", {})
    return formats.get(model.name)


def resolve(name: str | None = None) -> ModelId:
    """Return the model that `name` means by the user's own rules; nothing means the default.

    Where nothing is ever sent, what the name stood for in the cassette comes before them. Raises
    ModelNotSupportedError with what comes near, or with the full names to choose from.
    """
    learn_secrets()
    names = _names(name)
    recorded = _recorded(names[-1])
    found = recorded if recorded and replay.is_on() else _own(names[-1])
    if recorded in {None, found}:
        remember(names, found)
    policy.check_model(str(found))
    return found


def resolve_question(name: str | None = None) -> tuple[ModelId, Recorded | None]:
    """Return the model that a question goes to, and what the cassette says where that differs.

    Where the user's own rules name nobody, the question can be looked up only.
    """
    names = _names(name)
    recorded = None if replay.is_on() else _recorded(names[-1])
    try:
        found = resolve(name)
    except UsageError as error:
        if recorded is None:
            raise
        return recorded, Recorded(recorded, names, str(error))
    return found, Recorded(recorded, names) if recorded not in {None, found} else None


def lasting(name: str) -> str:
    """Return what `name` is kept as: in full, or as it stands where a cassette has its own word.

    So what a cassette says ends with it, and the user's own rules hold again.
    """
    written, followed = _names(name)
    if recorded := _recorded(followed):
        try:
            own = _own(followed)
        except UsageError:
            return written
        if own != recorded:
            return written
    return str(resolve(name))


def remember(names: Iterable[str], model: ModelId) -> None:
    """Have it kept, with the next answer, that names stood for `model`."""
    for name in {*names}:
        replay.remember(name, str(model))


def _names(name: str | None) -> tuple[str, str]:
    """Return a name as it is written, and what the user's aliases make of it."""
    written = (name or "").strip() or config.current().model or ""
    return written, _followed(written)


def _own(name: str) -> ModelId:
    return _resolve(name or _followed(default().name))


def _recorded(name: str) -> ModelId | None:
    """Return the model that a name stood for in the cassette, which anyone may have written.

    A full name stands for itself. What is no model's name, or may not be asked, counts as nothing.
    """
    before, colon, _ = name.partition(":")
    if colon and before in registry.names():
        return None
    model = ModelId.parse(replay.meaning(name) or "")
    if model.provider not in registry.names() or not RECORDED.fullmatch(model.name):
        return None
    try:
        closed = getattr(registry.load(model.provider), "models", None)
        policy.check_model(str(model))
    except UsageError as error:
        if replay.is_on() and isinstance(error, PolicyError):
            raise
        return None
    return None if closed and model.name not in closed else model


def learn_secrets() -> None:
    """Make known what is a secret, before anything of it is cut, sent, kept or shown."""
    settings = config.current()
    own = (endpoint.key_variable for endpoint in settings.endpoints.values())
    secrets.register_environment(os.environ, filter(None, (*settings.secrets, *own)))
    credentials.register_kept()


def _followed(name: str) -> str:
    """Return what the user's aliases make of a name."""
    aliases = config.current().aliases
    followed: set[str] = set()
    while name in aliases and name not in followed:
        followed.add(name)
        name = aliases[name]
    return name


def _resolve(name: str) -> ModelId:
    before, _, after = name.partition(":")
    if before in registry.names():
        cls = registry.load(before)
        if issubclass(cls, provider.ProviderModelMixin):
            return ModelId(before, cls.get_model(after))
        return ModelId(before, after)
    return _look_up(name)


def unknown(model: ModelId, root: str) -> str:
    """Say that a provider at `root` lists no such model, if one comes near that it lists."""
    cls = registry.load(model.provider)
    if not issubclass(cls, provider.AsyncGeneratorProvider):
        return ""
    known = cards.known(model.provider, cls, root)
    near = "" if model.name in known else registry.near(model.name, known)
    return near and f"{model.provider} has no model {model.name} (404).{near}"


def fallbacks(model: ModelId) -> list[str]:
    """Return who is asked where `model` does not answer; nobody unless the user says so."""
    for name, others in config.current().fallbacks.items():
        with contextlib.suppress(UsageError):  # what can't be asked is not asked
            if resolve(name) == model:
                return list(others)
    return []


def named_by_the_environment() -> str | None:
    """Return the model that the user's environment names, if it does."""
    return os.environ.get(MODEL_VARIABLE)


class Default(NamedTuple):
    """Who answers where no model is named."""

    name: str
    rule: str
    """Why."""
    announced: str = ""
    """What is said of it above the answer, where the user has done nothing that would choose it."""


def default() -> Default:
    """Return who answers where no model is named, by the first rule that holds."""
    return next(_rules())


def _rules() -> Iterator[Default]:
    """Give what each rule that holds chooses, the first one first; the last always holds."""
    if model := config.current().model:
        yield Default(model, "set by %config IPyChat.model")
    elif replay.is_on() and (recorded := _recorded("")):
        yield Default(str(recorded), "it answered when the cassette was recorded")
    if model := named_by_the_environment():
        yield Default(model, f"set by {MODEL_VARIABLE}")
    for variable, name in KEYS.items():
        if os.environ.get(variable):
            yield Default(name, f"{variable} is in the environment")
    kept = credentials.services()
    for name in dict.fromkeys(KEYS.values()):
        if name in kept and _has_kept_key(name):
            yield Default(name, f"%chat_login {name} has kept a key")
    for server in servers():
        if server.why_not is None:
            said = f"{server.product} runs at {server.root}"
            yield Default(f"{server.provider}:{server.models[0]}", said, said)
    if _has_weights():
        yield Default(registry.LOCAL, "its weights are on this machine")
    yield Default(
        registry.HELPER, "no key, server or weights: the built-in helper, which is no AI model"
    )


def _has_weights() -> bool:
    from ipychat.local.provider import Local

    return Local.missing("") is None


def servers() -> list[Server]:
    """Return the servers that run on this machine, the preferred one first.

    They are looked for twice a minute at most. The user can forbid it. From now on their providers
    ask them where they are.
    """
    if os.environ.get(SERVERS_VARIABLE) == "off" or replay.is_on():
        return []
    from ipychat.local import servers

    found = servers.known()
    for server in reversed(found):
        if server.why_not is None:
            registry.found_at(server.provider, server.root)
    return found


def _has_kept_key(name: str) -> bool:
    cls = registry.load(name)
    place = registry.root(name, cls)  # type: ignore[arg-type] # every provider with a key has an address
    return credentials.kept_key(name, place) is not None


def answering() -> ModelId:
    """Return who answers behind the gateway: the first rule's that is not served by it."""
    recorded = recorded_behind()
    if recorded and replay.is_on():
        return recorded
    models = (resolve(rule.name) for rule in _rules())
    found = next(model for model in models if not registry.is_offline(model.provider))
    if config.current().model is None and recorded in {None, found}:
        remember([GATEWAY], found)
    return found


def recorded_behind() -> ModelId | None:
    """Return who answered behind the gateway when the cassette was recorded."""
    return None if config.current().model is not None else _recorded(GATEWAY)


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
    if colon and (near := difflib.get_close_matches(before, registry.names(), n=1)):
        hint = f" Did you mean {near[0]}:{after}?"
    else:
        models = (known for offer in everything for known in _names_of(offer.model))
        hint = registry.near(name, {*registry.names(), *models})
    nor = f", and no provider {before!r}" if colon else ""
    said = f"There is no model {name!r}{nor}.{hint}"
    if not (hint and colon):
        said += f"\nModels that aren't listed are asked as provider:name, such as openai:{name}."
    raise ModelNotSupportedError(said)


def _names_of(model: ModelId) -> set[str]:
    cls = registry.load(model.provider)
    aliases = cls.model_aliases if issubclass(cls, provider.ProviderModelMixin) else {}
    return {model.name, *(alias for alias, target in aliases.items() if target == model.name)}
