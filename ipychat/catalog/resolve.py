"""Resolves model names, and chooses the default model."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ipychat import config, secrets
from ipychat.catalog import lists, offers, registry
from ipychat.catalog.offers import every_name, is_ready, offering, servers
from ipychat.errors import ModelNotSupportedError, PolicyError, UsageError
from ipychat.messages import ModelId, Recorded
from ipychat.providers.presets import KEY_VARIABLES, PRESETS
from ipychat.store import credentials, replay
from ipychat.text import words
from ipychat.wire import aside, policy

GATEWAY = "(the gateway)"
"""The entry for the gateway among a cassette's names."""
RECORDED_NAME = re.compile(r"[\w@](?:[\w@:+-]|[./](?![./])){0,199}")
"""Valid model names in a cassette: no path and no markup."""
MODEL_VARIABLE = "IPYCHAT_MODEL"
PROVIDER_OF_KEY = {
    **{variable: name for name, variables in KEY_VARIABLES.items() for variable in variables},
    **{preset.key_variable: name for name, preset in PRESETS.items() if preset.key_variable},
}
"""The provider that answers by default if this variable is set; the first one set counts."""


def resolve(name: str | None = None) -> ModelId:
    """Return the model that `name` means by the user's own rules; without a name, the default.

    In replay mode, what the name stood for in the cassette comes first. Raises
    ModelNotSupportedError, which suggests close or full names.
    """
    learn_secrets()
    names = _names(name)
    recorded = _recorded(names[-1])
    found = recorded if recorded and replay.is_on() else _own(names[-1])
    if recorded in {None, found}:
        remember(names, found)
    policy.check_model(str(found))
    return found


async def ready(name: str | None = None) -> None:
    """Load what is known of models and keys in a thread, before a question is made.

    If no model is named at all, this also searches for servers on this machine, for a third of a
    second at most. A named model is asked without a search.
    """
    if not offers.is_read():
        await aside.run(_read)
    if offers.needs_search() and _is_left_to_the_rules(name):
        await offers.search()


def _read() -> None:
    learn_secrets()
    offers.read()
    policy.in_force()


def _is_left_to_the_rules(name: str | None) -> bool:
    """Whether neither a key nor a setting determines the model."""
    if next(_named_rules(), None):
        return False
    written, followed = _names(name)
    if not written:
        return True
    try:
        return registry.is_offline(_resolve(followed).provider)  # the default model answers for it
    except UsageError:
        return False


def resolve_question(name: str | None = None) -> tuple[ModelId, Recorded | None]:
    """Return the model for a question, and the recorded one if the cassette disagrees.

    If the user's own rules name no model, the question can only be looked up.
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
    """Return the name to store for `name`: the full one, or as written if a cassette overrides it.

    So the cassette's meaning ends with the cassette, and the user's own rules apply again.
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
    """Record, along with the next answer, that these names meant `model`."""
    for name in {*names}:
        replay.remember(name, str(model))


def _names(name: str | None) -> tuple[str, str]:
    """Return a name as written, and after the user's aliases."""
    written = (name or "").strip() or config.current().model or ""
    return written, _followed(written)


def _own(name: str) -> ModelId:
    return _resolve(name or _followed(default().name))


def _recorded(name: str) -> ModelId | None:
    """Return what a name stood for in the cassette, which anyone may have written.

    A full name stands for itself. Invalid names, and models that are not allowed, are ignored.
    """
    before, colon, _ = name.partition(":")
    if colon and registry.is_known(before):
        return None
    if (meaning := replay.meaning(name)) is None:
        return None
    model = ModelId.parse(meaning)
    if not registry.is_known(model.provider) or not RECORDED_NAME.fullmatch(model.name):
        return None
    try:
        closed = registry.load(model.provider).models
        policy.check_model(str(model))
    except UsageError as error:
        if replay.is_on() and isinstance(error, PolicyError):
            raise
        return None
    return None if closed and model.name not in closed else model


def learn_secrets() -> None:
    """Register all secrets, before any text is cut, sent, stored or shown."""
    settings = config.current()
    own = (endpoint.key_variable for endpoint in settings.endpoints.values())
    secrets.register_environment(os.environ, filter(None, (*settings.secrets, *own)))
    credentials.register_kept()


def _followed(name: str) -> str:
    """Follow the user's aliases."""
    aliases = config.current().aliases
    followed: set[str] = set()
    while name in aliases and name not in followed:
        followed.add(name)
        name = aliases[name]
    return name


def _resolve(name: str) -> ModelId:
    before, _, after = name.partition(":")
    if registry.is_known(before):
        return ModelId(before, registry.load(before).get_model(after))
    return _look_up(name)


def unknown(model: ModelId, root: str) -> str:
    """Say that a provider at `root` doesn't list this model, if it lists a similar one."""
    cls = registry.load(model.provider)
    if cls.chooses_address:
        return ""
    known = lists.known(model.provider, cls, root)
    near = "" if model.name in known else words.near(model.name, known)
    return near and f"{model.provider} has no model {model.name} (404).{near}"


def fallbacks(model: ModelId) -> list[str]:
    """Return the models to ask if `model` fails; none unless the user set some."""
    for name, others in config.current().fallbacks.items():
        with contextlib.suppress(UsageError):  # models that can't be asked are skipped
            if resolve(name) == model:
                return list(others)
    return []


def named_by_the_environment() -> str | None:
    """Return the model that the environment names, if any."""
    return os.environ.get(MODEL_VARIABLE)


class Default(NamedTuple):
    """The default model."""

    name: str
    rule: str
    """Why it was chosen."""
    announced: str = ""
    """A notice above the answer, if nothing the user did led to this choice."""


def default() -> Default:
    """Return the default model: the choice of the first rule that applies."""
    return next(_rules())


def _rules() -> Iterator[Default]:
    """Yield the choice of each rule that applies, in order; the last always does."""
    yield from _named_rules()
    for server in servers():
        if server.why_not is None:
            said = f"{server.product} runs at {server.root}"
            yield Default(f"{server.provider}:{server.models[0]}", said, said)
    if _has_weights():
        yield Default(registry.LOCAL, "its weights are on this machine")
    yield Default(
        registry.HELPER, "no key, server or weights: the built-in helper, which is no AI model"
    )


def _named_rules() -> Iterator[Default]:
    """Yield the choices that settings and keys make."""
    if model := config.current().model:
        yield Default(model, "set by %config IPyChat.model")
    elif replay.is_on() and (recorded := _recorded("")):
        yield Default(str(recorded), "it answered when the cassette was recorded")
    if model := named_by_the_environment():
        yield Default(model, f"set by {MODEL_VARIABLE}")
    for variable, name in PROVIDER_OF_KEY.items():
        if os.environ.get(variable):
            yield Default(name, f"{variable} is in the environment")
    kept = credentials.services()
    for name in dict.fromkeys(PROVIDER_OF_KEY.values()):
        if name in kept and _has_kept_key(name):
            yield Default(name, f"%chat_login {name} has kept a key")


def _has_weights() -> bool:
    from ipychat.local.provider import Local

    return Local.missing("") is None


def _has_kept_key(name: str) -> bool:
    cls = registry.load(name)
    place = registry.root(name, cls)
    return credentials.kept_key(name, place) is not None


def answering() -> ModelId:
    """Return the model behind the gateway: the first default that it doesn't serve itself."""
    recorded = recorded_behind()
    if recorded and replay.is_on():
        return recorded
    models = (resolve(rule.name) for rule in _rules())
    found = next(model for model in models if not registry.is_offline(model.provider))
    if config.current().model is None and recorded in {None, found}:
        remember([GATEWAY], found)
    return found


def meaning(name: str) -> ModelId | None:
    """Return the model that `name` means by the user's rules, if any, and record nothing."""
    with contextlib.suppress(UsageError):
        return _own(_followed(name.strip()))
    return None


def stand_in() -> ModelId | None:
    """Return the model that would answer behind the gateway now, and record nothing."""
    if replay.is_on() and (recorded := recorded_behind()):
        return recorded
    models = filter(None, (meaning(rule.name) for rule in _rules()))
    return next((one for one in models if not registry.is_offline(one.provider)), None)


def recorded_behind() -> ModelId | None:
    """Return the model that was behind the gateway when the cassette was recorded."""
    return None if config.current().model is not None else _recorded(GATEWAY)


def _look_up(name: str) -> ModelId:
    """Find a bare name among the providers' models."""
    found = offering(name)
    ready = [model for model in found if is_ready(model)] if len(found) > 1 else found
    if len(ready) == 1:
        return ready[0]
    if found:
        full = ", ".join(map(str, found))
        raise ModelNotSupportedError(f"Several providers offer {name!r}. Name one of: {full}.")
    before, colon, after = name.partition(":")
    if colon and (near := words.nearest(before, registry.names(), 1)):
        hint = f" Did you mean {near[0]}:{after}?"
    else:
        hint = words.near(name, {*registry.names(), *every_name()})
    nor = f", and no provider {before!r}" if colon else ""
    said = f"There is no model {name!r}{nor}.{hint}"
    if not (hint and colon):
        said += f"\nFor a model that isn't listed, write provider:name, such as openai:{name}."
    raise ModelNotSupportedError(said)
