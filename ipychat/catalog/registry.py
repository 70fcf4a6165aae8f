"""The registry of providers: their names, classes and addresses.

Built-in ones, presets, the user's endpoints, entry points of installed packages, and registered
classes. A provider is imported when it is used, or when all are listed.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, TypeVar

from ipychat import config, secrets
from ipychat.errors import ModelNotSupportedError, UsageError
from ipychat.providers import provider
from ipychat.providers.presets import OWN_HOST, PRESETS
from ipychat.text import words
from ipychat.wire.http import Transport

if TYPE_CHECKING:
    from ipychat.providers.provider import FullProvider

HELPER = "helper"
LOCAL = "local"
BUILT_IN = {
    HELPER: "ipychat.helper.helper:Helper",
    "anthropic": "ipychat.providers.anthropic:Anthropic",
    "autonomous": "ipychat.providers.autonomous:AutonomousAI",
    "gemini": "ipychat.providers.gemini:Gemini",
    LOCAL: "ipychat.local.provider:Local",
    "koala": "ipychat.providers.koala:Koala",
    "ollama": "ipychat.providers.ollama:Ollama",
    "openai": "ipychat.providers.openai:OpenAI",
    "robocoders": "ipychat.providers.robocoders:RobocodersAPI",
}
SPEAKING = {
    "completions": "ipychat.providers.openai:OpenAI",
    "responses": "ipychat.providers.responses:Responses",
    "anthropic": "ipychat.providers.anthropic:Anthropic",
    "gemini": "ipychat.providers.gemini:Gemini",
}
"""The classes of protocols that several services share."""
SERVICE = (
    *("__doc__", "name", "label", "url", "base_url", "url_variables", "key_variables"),
    *("default_model", "check_path", "key_command", "endpoint"),
)
"""Attributes that belong to the service, not to the protocol."""
ENTRY_POINTS = "ipychat.providers"
NAME = re.compile(r"\w[\w.-]*")
"""Valid names of providers; files are named after them."""

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
ASKED = {"model", "messages", "hints"}
"""Parameters of providers that are not options."""

_registered: dict[str, type[FullProvider]] = {}
_found: dict[str, str] = {}
"""Addresses of providers' servers found on this machine, which replace their usual ones."""

P = TypeVar("P", bound=type)


def register(cls: P, name: str | None = None) -> P:
    """Register a provider class, under `name` or its class name in lower case.

    Returns the class, so this works as a decorator. It replaces one registered earlier under the
    same name.
    """
    if not callable(getattr(cls, "create_async_generator", None)):
        raise UsageError(f"{cls!r} is not a provider: it has no create_async_generator.")
    name = name or cls.__name__.lower()
    if not NAME.fullmatch(name):
        raise UsageError(
            f"A provider can't be called {name!r}: use letters, digits, _ . and - only."
        )
    _registered[name] = provider.completed(cls)
    return cls


@functools.cache
def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


def names() -> list[str]:
    """Return the names of all providers."""
    own = config.current().endpoints
    return sorted({*BUILT_IN, *PRESETS, *own, *_entry_points(), *_registered})


def is_known(name: str) -> bool:
    """Whether there is a provider of that name."""
    return (
        name in BUILT_IN
        or name in PRESETS
        or name in _registered
        or name in config.current().endpoints
        or name in _entry_points()
    )


def load(name: str) -> type[FullProvider]:
    """Return the provider of that name, importing it if necessary.

    Raises UsageError if there is none, or if its package can't be imported.
    """
    if name in _registered:
        return _registered[name]
    if name in BUILT_IN:
        module, _, cls = BUILT_IN[name].partition(":")
        found: type[FullProvider] = getattr(import_module(module), cls)
        return found
    if endpoint := PRESETS.get(name) or config.current().endpoints.get(name):
        made: type[FullProvider] = _speaker(endpoint.protocol or "completions").of_endpoint(
            name, endpoint
        )
        return made
    if point := _entry_points().get(name):
        try:
            register(point.load(), name)
            return _registered[name]
        except Exception as error:
            package = point.dist.name if point.dist else point.value
            raise UsageError(
                f"The provider {name}, of the package {package}, can't be imported:\n"
                f"{type(error).__name__}: {error}"
            ) from error
    raise ModelNotSupportedError(
        f"There is no provider {name!r}.{words.near(name, names())}\n"
        f"There are: {', '.join(names())}."
    )


def speaking(name: str, cls: type[FullProvider], root: str) -> type[FullProvider]:
    """Return the provider with the protocol that `root` is asked by.

    OpenAI's own addresses use Responses; the user can choose for any service that has both.
    """
    endpoint = config.current().endpoints.get(name)
    own = "responses" if OWN_HOST.match(root) else cls.protocol
    if endpoint and endpoint.protocol:
        own = endpoint.protocol
    wanted = config.current().protocols.get(name, own)
    if cls.protocol not in config.OPENAI_PROTOCOLS or wanted == cls.protocol:
        return cls
    return _twin(cls, wanted)  # type: ignore[arg-type] # classes are hashable


@functools.cache
def _twin(cls: type[FullProvider], protocol: str) -> type[FullProvider]:
    """Return a class for the same service in another protocol."""
    same = {one: getattr(cls, one) for one in SERVICE}
    return type(cls.__name__, (_speaker(protocol),), same)


def _speaker(protocol: str) -> type[Any]:
    module, _, spoken = SPEAKING[protocol].partition(":")
    speaker: type[Any] = getattr(import_module(module), spoken)
    return speaker


def loaded() -> Iterator[tuple[str, type[FullProvider]]]:
    """Yield every provider; one that can't be imported is logged and skipped."""
    for name in names():
        try:
            yield name, load(name)
        except UsageError as error:
            secrets.log.warning("%s", error)


def is_ours(name: str) -> bool:
    """Whether that provider belongs to this package, and so uses its wire."""
    known = {*BUILT_IN, *PRESETS, *config.current().endpoints}
    return name in known and name not in _registered


def known_options(name: str, cls: type[FullProvider]) -> frozenset[str] | None:
    """Return the names of a provider's options; None if it accepts any.

    A provider of another package accepts any, unless its signature says otherwise.
    """
    return _known_options(cls, is_ours(name))  # type: ignore[arg-type] # classes are hashable


@functools.lru_cache(maxsize=64)
def _known_options(cls: type[FullProvider], is_ours: bool) -> frozenset[str] | None:  # noqa: FBT001
    try:
        function: Any = (cls.wrapped or cls).create_async_generator
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature
        return None
    named = frozenset(one.name for one in parameters if one.kind in BY_NAME) - ASKED
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return named
    return named | cls.known_options | Transport.options() if is_ours else None


def root(name: str, cls: type[FullProvider]) -> str:
    """Return the address of a provider for questions that name none."""
    if given := config.current().urls.get(name):
        return cls.root(given)
    named = cls.root()
    return _found.get(name, named) if named == cls.base_url.rstrip("/") else named


def found_at(name: str, root: str) -> None:
    """Set the address where a provider's server was found; one that the user names wins."""
    _found[name] = root


def generation() -> tuple[Any, ...]:
    """Return a key that changes when a provider is registered or a server is found."""
    return (*_registered.items(), *_found.items())


def is_offline(name: str, cls: type[FullProvider] | None = None) -> bool:
    """Whether a provider's service is gone and the user has named no other address for it."""
    cls = cls or load(name)
    return not cls.working and not config.current().urls.get(name) and cls.root() == cls.base_url
