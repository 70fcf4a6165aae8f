"""Where a question goes, and what comes back from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ipychat import config, secrets
from ipychat.catalog import firewall, lists, registry, resolve
from ipychat.errors import ModelNotSupportedError, NotFoundError, PolicyError
from ipychat.messages import (
    ChatRequest,
    Event,
    FilePart,
    ImagePart,
    Message,
    ModelId,
    Notice,
    Part,
    TextPart,
    Usage,
)
from ipychat.providers import provider
from ipychat.store import replay
from ipychat.store.answers import Receipt, lines
from ipychat.text import shapes
from ipychat.wire import offload, policy
from ipychat.wire.http import Transport, is_loopback

if TYPE_CHECKING:
    from ipychat.providers.provider import Provider

ALLOW = " --allow-secrets sends it as it is, once."
HERE = "this machine"
"""Stands in a receipt for every service on loopback, whatever its port and path."""
GATEWAY_IDLE_TIMEOUT = 3600.0
"""Seconds that the notebook's gateway may be silent: who answers behind it has its own limit."""
TRAVEL = Transport.options() | {
    "api_key",
    "base_url",
    "concurrency",
    "connector",
    "kept_as",
    "stream",
}
"""Options that change no answer, or that a receipt says otherwise."""
CREDENTIALS = {
    "access_token", "api_key", "apikey", "auth", "authorization", "credentials", "passwd",
    "password", "secret", "token",
}  # fmt: skip
"""Options, and what is within them, that are never written down, however short."""
LOGIN = r"://[^/?#\s:@]*:[^/?#\s@]*@"


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


def receipt(request: ChatRequest) -> Receipt:
    """Return what of `request` can change its answer, as it counts and as it may be shown."""
    return receipts(request)(request.messages)


def receipts(request: ChatRequest) -> Callable[[Iterable[Message]], Receipt]:
    """Return what gives the receipts of questions that differ from `request` in messages alone."""
    return _receipts(request, Route.of(request))


@dataclass(frozen=True, slots=True)
class AsRecorded:
    """A question as it was when the cassette was recorded: it is looked up, and never sent."""

    request: ChatRequest
    receipt: Callable[[Iterable[Message]], Receipt]
    """Returns that of the question with these messages."""
    meant: dict[str, str]
    """What names stood for, where there is an answer."""


def as_recorded(request: ChatRequest) -> AsRecorded | None:
    """Return the question as a cassette has it; None where the user's own rules say the same."""
    then, meant = request, {}
    if request.recorded:
        then = replace(request, model=request.recorded.model, recorded=None)
        meant = dict.fromkeys(request.recorded.names, str(then.model))
    way = Route.of(then)
    behind = resolve.recorded_behind() if way.by_gateway and not replay.is_on() else None
    if behind:
        meant[resolve.GATEWAY] = str(behind)
    return AsRecorded(then, _receipts(then, way, behind), meant) if meant else None


def turn_from_recorded(request: ChatRequest) -> tuple[ChatRequest, str]:
    """Return the question as the user's own rules have it asked, and what is said of that.

    Raises ModelNotSupportedError where they name nobody.
    """
    if (recorded := request.recorded) is None:
        return request, ""
    check_named(request)
    resolve.remember(recorded.names, request.model)
    name = recorded.names[0] or "The default model"
    said = f"{name} stood for {recorded.model} when the cassette was recorded"
    return replace(request, recorded=None), f"{said}; your own settings ask {request.model}."


def check_named(request: ChatRequest) -> None:
    """Raise ModelNotSupportedError where a cassette alone says whom a question goes to."""
    if (recorded := request.recorded) and recorded.fault:
        name = recorded.names[0] or "the default model"
        raise ModelNotSupportedError(
            f"No answer to this is kept, and only the cassette says who {name} is: "
            f"nothing was sent.\n{recorded.fault}"
        )


def _receipts(
    request: ChatRequest, way: Route, behind: ModelId | None = None
) -> Callable[[Iterable[Message]], Receipt]:
    model = request.model
    seen = model.name in getattr(way.provider, "sees_more", ())
    if way.by_gateway:
        behind = behind or resolve.answering()
        at = str(behind)
        seen = seen or behind.name in getattr(registry.load(behind.provider), "sees_more", ())
    else:
        at = _at(request, way)
    options, unwritable = _options(request, way)
    asked = {"model": str(model), "at": at, "options": options, "messages": []}
    same = Receipt.of(asked, repeatable=not seen, unwritable=unwritable)
    return lambda messages: same.to([*map(_message, messages)])


def _at(request: ChatRequest, way: Route) -> str:
    """Return where the model answers, as far as that counts.

    In a replay, where nobody but the environment has named an address, it is where it was then.
    """
    if way.root is None:
        return "chosen by the provider"
    at = HERE if is_loopback(way.root) else secrets.without_login(way.root)
    name = request.model.provider
    if "base_url" in request.options or name in config.current().urls:
        return at
    place = f"@{request.model}"
    if replay.is_on() and (meant := replay.meaning(place)):
        return meant
    if at:
        replay.remember(place, at)
    return at


def _options(request: ChatRequest, way: Route) -> tuple[dict[str, Any], str]:
    """Return the options that can change an answer, and which of them can't be written down."""
    left_out = TRAVEL if way.root is not None else {"api_key", "proxy", "stream", "timeout"}
    options: dict[str, Any] = {}
    unwritable = ""
    for name, value in request.options.items():
        if name in left_out:
            continue
        try:
            written = _plain(value)
            json.dumps(written)
        except (TypeError, ValueError, RecursionError):
            unwritable = f"the option {name}, a {type(value).__name__},"
            written = f"({type(value).__name__})"
        options[name] = secrets.MASK if name.lower() in CREDENTIALS else shapes.masked(written)
    return options, unwritable


def _plain(value: Any) -> Any:
    """Return an option as JSON writes it and nothing else is written. Raises TypeError."""
    match value:
        case str():
            return re.sub(LOGIN, f"://{secrets.MASK}@", value)
        case None | bool() | int() | float():
            return value
        case dict() if all(isinstance(name, str) for name in value):
            return {
                name: secrets.MASK if name.lower() in CREDENTIALS else _plain(one)
                for name, one in value.items()
            }
        case list() | tuple():
            return [*map(_plain, value)]
        case type() if callable(getattr(value, "model_json_schema", None)):
            return value.model_json_schema()  # type: ignore[attr-defined] # a pydantic model
    raise TypeError(type(value))


def _message(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = shapes.masked(replace(message, content="").to_dict())
    del written["content"]
    if isinstance(message.content, str):
        return written | {"text": lines(message.content, shapes.mask)}
    return written | {"parts": [*map(_part, message.content)]}


def _part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"text": lines(text, shapes.mask)}
        case ImagePart(url) if url.startswith("data:"):
            head, _, data = url.partition(",")
            digest = hashlib.sha256(data.encode()).hexdigest()
            return {"image": head, "sha256": digest, **_detail(part)}
        case ImagePart(url):
            return {"image": secrets.without_login(url), **_detail(part)}
        case FilePart(name, data, media_type):
            digest = hashlib.sha256(data).hexdigest()
            return {"file": name, "type": media_type, "bytes": len(data), "sha256": digest}


def _detail(image: ImagePart) -> dict[str, str]:
    return {"detail": image.detail} if image.detail else {}


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
    return lists.cost(model.provider, way.provider, way.root, model.name, usage)  # type: ignore[arg-type] # has a root


async def events(request: ChatRequest) -> AsyncGenerator[Event, None]:
    """Ask the provider of the request's model, where its route says."""
    name = request.model.provider
    way = Route.of(request)
    _check(request, way)
    masked: list[str] = []
    if not request.allow_secrets:
        request, masked = await offload.run(firewall.masked, request)
    options: dict[str, Any] = dict(request.options)
    if way.by_gateway and (gateway := config.current().gateway):
        own = {"base_url": f"{await gateway()}/{name}", "kept_as": "gateway"}
        options = {"idle_timeout": GATEWAY_IDLE_TIMEOUT, **options, **own}
        yield Notice(
            f"{way.provider.__name__} · {request.model.name}: upstream is offline, "
            f"served here by {resolve.answering()}."
        )
    elif way.root and way.root != way.provider.root():  # type: ignore[attr-defined] # has a root
        options["base_url"] = way.root
    if masked:
        yield Notice(f"Masked in what was sent: {', '.join(masked)}.{ALLOW}")
    elif way.by_gateway and request.allow_secrets:
        yield Notice("The gateway masks secrets in what it sends on, --allow-secrets or not.")
    asked = replace(request, options=options)
    async with contextlib.aclosing(provider.events(way.provider, asked)) as given:
        try:
            async for event in given:
                if isinstance(event, Usage) and event.cost is None:
                    event = replace(event, cost=cost(request, event))  # noqa: PLW2901 - the same, priced
                yield event
        except NotFoundError as error:
            if said := resolve.unknown(request.model, way.root or ""):
                raise NotFoundError(f"{said}\n{error}", error.status) from None
            raise


def _check(request: ChatRequest, way: Route) -> None:
    """Raise UsageError for what is not allowed; hosts are looked at where requests are sent."""
    check_named(request)
    policy.check_model(str(request.model))
    if policy.limits_hosts() and not registry.is_ours(request.model.provider):
        raise PolicyError(
            f"{way.provider.__name__} has an HTTP client of its own, which can't be held to the "
            "allowed hosts."
        )
