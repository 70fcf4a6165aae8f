"""Receipts: the canonical form of a question, which can be hashed and shown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ipychat import config, secrets
from ipychat.catalog import registry, resolve, routes
from ipychat.errors import ModelNotSupportedError
from ipychat.messages import (
    FilePart,
    ImagePart,
    Message,
    ModelId,
    Question,
    Route,
    TextPart,
)
from ipychat.store import replay
from ipychat.store.answers import Receipt, lines
from ipychat.text import shapes
from ipychat.wire.http import Transport, is_loopback

THIS_MACHINE = "this machine"
"""Stands in a receipt for every loopback service, whatever its port and path."""
IGNORED = Transport.options() | {
    "api_key",
    "base_url",
    "concurrency",
    "connector",
    "kept_as",
    "stream",
}
"""Options that don't change answers, or that a receipt represents otherwise."""
CREDENTIALS = {
    "access_token", "api_key", "apikey", "auth", "authorization", "credentials", "passwd",
    "password", "secret", "token",
}  # fmt: skip
"""Options, at any depth, that are never written down, however short they are."""
LOGIN = r"://[^/?#\s:@]*:[^/?#\s@]*@"


def receipt(request: Question) -> Receipt:
    """Return the canonical, masked form of a question, and its hash."""
    return receipts(request)(request.messages)


def receipts(request: Question) -> Callable[[Iterable[Message]], Receipt]:
    """Return a function that builds receipts for questions that differ only in their messages."""
    model, way = request.model, routes.of(request)
    seen = model.name in way.provider.sees_more
    if way.behind:
        at = str(way.behind)
        seen = seen or way.behind.name in registry.load(way.behind.provider).sees_more
    else:
        at = _at(request, way)
    options, unwritable = _options(request, way)
    asked = {"model": str(model), "at": at, "options": options, "messages": []}
    same = Receipt.of(asked, repeatable=not seen, unwritable=unwritable)
    own = _origin(way, model, at)
    return lambda messages: same.to([_message(one, own) for one in messages])


def origin(request: Question) -> str:
    """Return the origin of a question's seals: the protocol and address of its service."""
    way = routes.of(request)
    return _origin(way, request.model, str(way.behind) if way.behind else _at(request, way))


def _origin(way: Route, model: ModelId, at: str) -> str:
    return f"{way.provider.protocol or model.provider} at {at}"


@dataclass(frozen=True, slots=True)
class AsRecorded:
    """A question as it was when the cassette was recorded: for looking up, never for sending."""

    request: Question
    receipt: Callable[[Iterable[Message]], Receipt]
    """Returns the receipt of the question with these messages."""
    meant: dict[str, str]
    """What names stood for, if there is an answer."""


def as_recorded(request: Question) -> AsRecorded | None:
    """Return the question as the cassette has it; None if the user's own rules agree."""
    then, meant = request, {}
    if request.recorded:
        model = request.recorded.model
        then = replace(
            request, model=model, route=routes.find(model, request.options), recorded=None
        )
        meant = dict.fromkeys(request.recorded.names, str(model))
    way, looked_up = routes.of(then), then
    if way.behind and not replay.is_on() and (behind := resolve.recorded_behind()):
        meant[resolve.GATEWAY] = str(behind)
        looked_up = replace(then, route=replace(way, behind=behind))
    return AsRecorded(then, receipts(looked_up), meant) if meant else None


def turn_from_recorded(request: Question) -> tuple[Question, str]:
    """Return the question under the user's own rules, and a notice about that.

    Raises ModelNotSupportedError if these rules name no model.
    """
    if (recorded := request.recorded) is None:
        return request, ""
    check_named(request)
    resolve.remember(recorded.names, request.model)
    name = recorded.names[0] or "The default model"
    said = f"{name} stood for {recorded.model} when the cassette was recorded"
    return replace(request, recorded=None), f"{said}; your own settings ask {request.model}."


def check_named(request: Question) -> None:
    """Raise ModelNotSupportedError if only a cassette says which model is meant."""
    if (recorded := request.recorded) and recorded.fault:
        name = recorded.names[0] or "the default model"
        raise ModelNotSupportedError(
            f"No answer to this is kept, and only the cassette says who {name} is: "
            f"nothing was sent.\n{recorded.fault}"
        )


def _at(request: Question, way: Route) -> str:
    """Return the address of the model, as far as it can change answers.

    In a replay, unless the environment names an address, it is the recorded one.
    """
    if way.root is None:
        return "chosen by the provider"
    at = THIS_MACHINE if is_loopback(way.root) else secrets.without_login(way.root)
    name = request.model.provider
    if "base_url" in request.options or name in config.current().urls:
        return at
    place = f"@{request.model}"
    if replay.is_on() and (meant := replay.meaning(place)):
        return meant
    if at:
        replay.remember(place, at)
    return at


def _options(request: Question, way: Route) -> tuple[dict[str, Any], str]:
    """Return the options that can change an answer, and which one can't be serialised."""
    left_out = IGNORED if way.root is not None else {"api_key", "proxy", "stream", "timeout"}
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
    """Return an option as unambiguous JSON. Raises TypeError."""
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


def _message(message: Message, origin: str) -> dict[str, Any]:
    """Serialise a message; thoughts that are sent along, which nobody reads, as hashes."""
    written: dict[str, Any] = {"role": message.role}
    if calls := message.tool_calls:
        written["tool_calls"] = shapes.masked([call.to_dict() for call in calls])
    if message.tool_call_id is not None:
        written["tool_call_id"] = shapes.masked(message.tool_call_id)
    if message.failed:
        written["failed"] = True
    if seals := message.seals(origin):
        written["sealed"] = [hashlib.sha256(seal.encode()).hexdigest() for seal in seals]
    if isinstance(message.said, str):
        return written | {"text": lines(message.said, shapes.mask)}
    return written | {"parts": [*map(_part, message.said_parts)]}


def _part(part: TextPart | ImagePart | FilePart) -> dict[str, Any]:
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
