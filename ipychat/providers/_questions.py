"""What of a question in OpenAI's words has to be read to be written otherwise. Shared by protocols.

Refuses what no service could take, with a UsageError that is worded the same for all of them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from ipychat.errors import UsageError
from ipychat.messages import STEP, FilePart, Message, TextPart, ToolCall
from ipychat.providers.provider import NO_HINTS, Hints
from ipychat.text import schemas

Json: TypeAlias = dict[str, Any]
Conversation: TypeAlias = tuple[Message, ...]

PDF = "application/pdf"
BASE64 = re.compile("[A-Za-z0-9+/]*={0,2}")


class Draft(NamedTuple):
    """All that a body is written of."""

    model: str
    messages: Conversation
    options: Json
    stream: bool
    hints: Hints = NO_HINTS
    further: tuple[Json, ...] = ()
    """The beginning of an answer in which the service paused."""


# -- messages


def read_arguments(call: ToolCall) -> Json:
    """Return the arguments of a call as an object, wrapping malformed ones.

    They are the model's mistake; the call's result tells it.
    """
    arguments = read_object(call.arguments or "{}")
    return {"malformed": call.arguments} if arguments is None else arguments


def read_object(text: str) -> Json | None:
    """Parse a JSON object; return None for any other text."""
    with contextlib.suppress(ValueError):
        read = schemas.read(text)
        if isinstance(read, dict):
            return read
    return None


def opened(seal: str, *names: str) -> Json:
    """Return the named fields of a seal and nothing else: anyone may have written it."""
    sealed = read_object(seal) or {}
    return {name: sealed[name] for name in names if name in sealed}


def split_data_url(url: str) -> tuple[str, str] | None:
    """Return the media type and the base64 of a data URL; None for an address."""
    if not url.startswith("data:"):
        return None
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, *parameters = head.split(";")
    steps = range(0, len(data), STEP)
    is_base64 = not len(data) % 4 and all(BASE64.fullmatch(data, at, at + STEP) for at in steps)
    if not (media_type and parameters[-1:] == ["base64"] and data and is_base64):
        raise UsageError("The data URL of an image is not base64 with a media type.")
    return media_type, data


def read_text(file: FilePart, takes: str) -> str:
    """Return the text of a file; `takes` says what the service takes, where it is none."""
    with contextlib.suppress(UnicodeDecodeError):
        text = file.data.decode("utf-8-sig")
        if "\0" not in text:
            return text
    raise UsageError(f"{takes} in UTF-8 only, which {file.name} ({file.media_type}) is not.")


def write_text(file: FilePart, takes: str) -> str:
    """Return a file as a text with its name above it."""
    return f"{file.name}:\n{read_text(file, takes)}"


def check_last(written: list[Json], service: str) -> None:
    """Raise if the messages, as they are written, leave nothing to answer."""
    if not written or written[-1]["role"] != "user":
        raise UsageError(f"{service} answers a user or a tool: the last message must be of one.")


def check_text(messages: Conversation, roles: set[str], service: str) -> None:
    """Raise if a message of one of the roles, which take text only, has something else."""
    for one in messages:
        if one.role in roles and not all(isinstance(part, TextPart) for part in one.said_parts):
            raise UsageError(f"{service} takes only text in a message of the role {one.role}.")


# -- options


def read_options(given: Mapping[str, Any]) -> Json:
    """Return the options that are set, the limit of tokens in its older word."""
    options = {name: value for name, value in given.items() if value is not None}
    if "max_completion_tokens" in options:
        options.setdefault("max_tokens", options.pop("max_completion_tokens"))
    return options


def read_dict(options: Mapping[str, Any], name: str) -> Json:
    """Return the option of that name, which is a dict; an empty one where it is not set."""
    given = options.get(name)
    if not isinstance(given, Mapping | None):
        raise UsageError(f"The option {name} wants a dict, not {type(given).__name__}.")
    return dict(given or {})


def read_stop(given: Any) -> Any:
    """Return `stop` as a list, which may be written as a text."""
    return [given] if isinstance(given, str) else given


def read_format(given: Any) -> Literal["json"] | Json | None:
    """Parse a `response_format`: a schema, any JSON, or nothing."""
    match given:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return "json"
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return schema
    raise UsageError("A response_format's type is text, json_object, or json_schema with a schema.")


def read_tools(given: Any) -> tuple[list[Json], list[Json]]:
    """Return the functions, without what is None in them, and the service's own tools."""
    if not isinstance(given, list | tuple | None):
        raise UsageError(f"The option tools wants a list, not {type(given).__name__}.")
    functions: list[Json] = []
    own: list[Json] = []
    for tool in given or ():
        match tool:
            case {"type": "function", "function": {"name": str()} as function}:
                functions.append({k: value for k, value in function.items() if value is not None})
            case {"type": "function"}:
                raise UsageError("A tool of the type function has a function, which has a name.")
            case Mapping():
                own.append(dict(tool))
            case _:
                raise UsageError(f"A tool is a dict, not {type(tool).__name__}.")
    return functions, own


class Choice(NamedTuple):
    """Whether tools are to be called, and which one is if it must be a certain one."""

    mode: Literal["auto", "none", "required"]
    function: str | None = None


def read_choice(given: Any) -> Choice:
    """Parse a `tool_choice`."""
    match given:
        case "auto" | "none" | "required":
            return Choice(given)
        case {"type": "function", "function": {"name": str(name)}}:
            return Choice("required", name)
    raise UsageError("A tool_choice is auto, none, required, or a dict that names a function.")
