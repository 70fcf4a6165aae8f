"""Creates questions from whatever callers give, once for their whole way to the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set as AbstractSet
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ipychat import config, secrets
from ipychat.catalog import lists, registry, resolve, routes
from ipychat.errors import UnknownOptionError, UsageError
from ipychat.messages import (
    Message,
    ModelId,
    Place,
    Prompt,
    Question,
    Route,
    Usage,
    distinct,
    dollars,
)
from ipychat.providers.provider import read_messages
from ipychat.text import words
from ipychat.toolbox import nested
from ipychat.toolbox.given import GIVEN, TERMS

NOWHERE = Place()
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
TEXT_OPTIONS = {"api_key", "base_url", "proxy"}
"""Options that are texts with every provider."""
SERVICE_OPTIONS = {"api_key", "base_url"}
"""Options that belong to one service and are never sent to another."""
OUR_OPTIONS = {"cached", "allow_secrets", "large"}
"""ipychat's own options, which providers don't get."""
ARGUMENTS = {"model", "chat", "system", "extra", "tools", *TERMS, *OUR_OPTIONS}
"""Arguments of a question besides the provider's options."""


def question(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    before: Iterable[Message] = (),
    place: Place = NOWHERE,
    options: Mapping[str, Any] = NO_OPTIONS,
    taken: AbstractSet[str] = ARGUMENTS,
) -> Question:
    """Create a question; `options` go to the provider, except those that are None.

    The messages `before` precede the prompt. `extra` in the options holds some that the provider
    need not know. `taken` are the names of the caller's own arguments, for suggestions if an option
    is unknown.
    """
    nested.refuse("ask a model")
    own = read_messages(prompt)
    head = (Message("system", system),) if system else ()
    named = {name: value for name, value in options.items() if value is not None}
    extra = _read_extra(named)
    tools = named.pop(GIVEN, None)
    switches = {name: bool(named.pop(name)) for name in OUR_OPTIONS & named.keys()}
    given = {**named, **extra}
    for name, value in given.items():
        if name in {"model", "messages"}:
            raise UsageError(f"{name} is not a provider's option but an argument of its own.")
        if name in TEXT_OPTIONS and not isinstance(value, str):
            raise UsageError(f"The option {name} must be a text, not {type(value).__name__}.")
        try:
            given[name] = secrets.register_option(name, value)
        except RecursionError:
            raise UsageError(
                f"The option {name} contains itself, or is nested too deeply."
            ) from None
    meant, recorded = resolve.resolve_question(model)
    route = routes.find(meant, given)
    if tools is not None:
        given["tools"] = tools.to_option(route.provider.web)
    _check_names(meant, route, named, taken)
    if (level := given.get("effort")) and level not in config.EFFORTS:
        raise UsageError(
            f"The option effort is one of {', '.join(config.EFFORTS)}, not {level!r}.\n"
            "A service's own levels go to it by its own option, such as reasoning_effort."
        )
    made = Question(
        meant,
        distinct((*head, *before, *own)),
        MappingProxyType(given),
        route,
        own,
        system,
        place,
        recorded=recorded,
        given=tools,
        **switches,
    )
    if tools is not None:
        _check_tools(made)
    return _with_effort(made)


def _check_tools(made: Question) -> None:
    """Raise UsageError for a model that takes no tools."""
    card = routes.card(made)
    if not routes.of(made).provider.takes_tools or (card and card.tools is False):
        raise UsageError(f"{made.model} takes no tools. %chat_models marks the models that do.")
    if made.given.web and routes.of(made).provider.web is None:
        raise UsageError(f"{made.model} can't search the web: its service has no tool for that.")


def _with_effort(made: Question) -> Question:
    """Return a question with the effort that is set for all whose model can be told."""
    level = config.current().effort
    if level is None or "effort" in made.options or made.route is None:
        return made
    known = registry.known_options(made.model.provider, made.route.provider)
    if known is None or "effort" not in known or not lists.effort(routes.card(made), level):
        return made
    return replace(made, options=MappingProxyType({**made.options, "effort": level}))


def _read_extra(options: dict[str, Any]) -> Mapping[str, Any]:
    """Remove `extra` from the options, and return it."""
    extra = options.pop("extra", {})
    if not (isinstance(extra, Mapping) and all(isinstance(name, str) for name in extra)):
        raise UsageError(f"extra must be a dict of options, not {type(extra).__name__}.")
    if twice := sorted(extra.keys() & options.keys()):
        raise UsageError(f"The option {twice[0]} is given twice: by itself, and in extra.")
    return {name: value for name, value in extra.items() if value is not None}


def _check_names(
    model: ModelId, route: Route, options: Iterable[str], taken: AbstractSet[str]
) -> None:
    """Raise UnknownOptionError for an option that the provider doesn't have."""
    known = registry.known_options(model.provider, route.provider)
    if known is None:
        return
    for name in options:
        if name not in known:
            near = words.near(name, known | taken, most=1)
            raise UnknownOptionError(
                f"{model.provider} takes no option {name!r}.{near}\n"
                f"extra={{{name!r}: …}} sends it unchecked, as does --option {name}=… in a cell."
            )


def check_size(request: Question) -> None:
    """Raise UsageError if a question is too large to be sent without confirmation."""
    most = config.current().large
    if request.large or not most or (tokens := lists.estimate_tokens(request)) <= most:
        return
    price = routes.cost(request, Usage(tokens))
    cost = "" if price is None else f", {dollars(price)} to read"
    raise UsageError(
        f"The question has about {tokens:,} tokens{cost}: more than {most:,}. Nothing was sent.\n"
        "--large (in Python large=True) sends it; %config IPyChat.large sets the limit."
    )
