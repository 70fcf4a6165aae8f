"""MCP servers as tools: they start on use, are shared by conversations, and end with their loop.

Rows are in `servers.py`, a connection in `_sdk.py`, its wire in `_links.py`. What a server says of
its tools is somebody else's text: it is cleaned and bounded, and holds until it changes.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from ipychat import _lazy, requirements
from ipychat.errors import MissingRequirementsError, PolicyError, UsageError
from ipychat.messages import ImagePart, TextPart
from ipychat.store import files
from ipychat.text import schemas, words
from ipychat.text.characters import harmless, shortened
from ipychat.toolbox import results, servers as rows
from ipychat.toolbox.servers import Server, Target
from ipychat.toolbox.tool import MCP, Failed, Json, Tool
from ipychat.wire import aside, offload, policy

if TYPE_CHECKING:
    from ipychat.toolbox._sdk import Connection, Definition

Allowed: TypeAlias = Callable[[Server], Awaitable[bool]]
"""Asks the user whether a server of the folder's may be used; it may remember by `Server.hash`."""
Parts: TypeAlias = tuple[TextPart | ImagePart, ...]
NOT_CHECKED = {"pattern", "patternProperties"}
"""Keywords that are left to the server: an expression of its own could take for ever here."""
MAX_TITLE = 200
"""Characters of a title."""
MAX_NAME = 2_000
"""Characters of a URI or of a prompt's name; longer ones are not listed."""
STEP = 1 << 20
"""Characters of base64 that are decoded at once, a multiple of four."""

_running: dict[asyncio.AbstractEventLoop, dict[str, Connection]] = {}


@dataclass(frozen=True, slots=True)
class Listed:
    """A resource or a prompt that a server has."""

    name: str
    """A resource's URI, or a prompt's name."""
    description: str
    arguments: tuple[str, ...] = ()
    """The arguments of a prompt."""


def servers() -> list[Server]:
    """Return the configured servers, and whether each runs."""
    live = {
        (name, one.hash)
        for mine in list(_running.values())
        for name, one in mine.items()
        if not one.is_over
    }
    return [replace(one, runs=(one.name, one.hash) in live) for one in rows.known()]


async def tools_of(name: str, *, allowed: Allowed) -> list[Tool]:
    """Return the tools of a server, `NAME`, or one of them, `NAME.TOOL`.

    Starts the server if need be; `allowed` is asked about a folder's. Raises UsageError for an
    unknown name, with near misses, and ChatError if the server fails.
    """
    named, _, wanted = name.removeprefix(MCP).partition(".")
    server, connection = await _used(named, allowed)
    known = await connection.tools(anew=True)
    if wanted and wanted not in known:
        near = words.near(wanted, known)
        raise UsageError(f"The MCP server {named} has no tool {harmless(wanted)}.{near}")
    chosen = [known[wanted]] if wanted else list(known.values())
    tools = [_tool(server, one) for one in chosen]
    if wanted:
        policy.check_tool(tools[0].name)
    return [one for one in tools if _is_allowed(one)]


async def resources(name: str, *, allowed: Allowed) -> list[Listed]:
    """Return the resources that a server lists."""
    import mcp_types as types

    _, connection = await _used(name, allowed)
    found = await connection.listed(
        types.ListResourcesRequest, types.ListResourcesResult, "resources"
    )
    return [
        Listed(one.uri, _title(one.description or one.name)) for one in found if _is_name(one.uri)
    ]


async def resource(name: str, uri: str, *, allowed: Allowed) -> Parts:
    """Return what a resource of a server holds."""
    _, connection = await _used(name, allowed)
    from ipychat.toolbox import _sdk

    answer = await connection.ask(_sdk.reading(uri), _sdk.CONTENTS, what=f"read {uri}")
    return await _whole([part for one in answer.contents for part in _contents(one)])


async def prompts(name: str, *, allowed: Allowed) -> list[Listed]:
    """Return the prompts that a server lists."""
    import mcp_types as types

    _, connection = await _used(name, allowed)
    found = await connection.listed(types.ListPromptsRequest, types.ListPromptsResult, "prompts")
    return [
        Listed(
            one.name,
            _title(one.description or one.title or ""),
            tuple(argument.name for argument in one.arguments or () if _is_name(argument.name)),
        )
        for one in found
        if _is_name(one.name)
    ]


async def prompt(
    name: str, wanted: str, arguments: Mapping[str, str] | None = None, *, allowed: Allowed
) -> Parts:
    """Return a prompt of a server, filled in. Who says which part of it is not kept."""
    _, connection = await _used(name, allowed)
    from ipychat.toolbox import _sdk

    request = _sdk.prompting(wanted, dict(arguments or {}))
    answer = await connection.ask(request, _sdk.PROMPT, what=f"give its prompt {wanted}")
    return await _whole([part for one in answer.messages for part in _content(one.content)])


async def close_all() -> None:
    """End the servers of the running loop."""
    mine = _running.pop(asyncio.get_running_loop(), {})
    if mine:
        await asyncio.gather(*(one.close() for one in mine.values()))


# -- starting


async def _used(name: str, allowed: Allowed) -> tuple[Server, Connection]:
    """Return a server and its connection, once the user has allowed what needs it."""
    server = await aside.run(rows.find, name.removeprefix(MCP))
    if not server.trusted:
        if not server.variables:
            _checked(server)  # the user is not asked for what would be refused anyway
        if not await allowed(server):
            raise PolicyError(
                f"The MCP server {server.name} was not allowed: {server.source} stands in this "
                "folder, and may not be yours.\nRun the cell where you can be asked, or copy its "
                f"row into {files.home() / rows.HOME_FILE}."
            )
    return server, await _connected(server)


def _checked(server: Server) -> Target:
    """Return what to start or to ask. Raises PolicyError if it is not allowed."""
    target = rows.expand(server)
    policy.check_server(server.name, *_places(target))
    if target.url:
        policy.check_url(target.url)
    else:
        policy.check_command(*target.command)
    return target


async def _connected(server: Server) -> Connection:
    """Return the running connection to a server, started if there is none."""
    target = _checked(server)
    connect = await _sdk_loaded()
    # nothing waits from here until the new connection is known: who comes second must find it
    mine = _of_this_loop()
    connection = mine.get(server.name)
    if connection is None or connection.is_over or connection.hash != server.hash:
        old, connection = connection, connect(target, server.hash)
        mine[server.name] = connection
        if old is not None:
            await old.close()
    await connection.opened()
    return connection


async def _sdk_loaded() -> type[Connection]:
    if find_spec("mcp") is None:
        raise MissingRequirementsError(
            f"MCP servers need the package mcp: {requirements.install('mcp')}"
        )
    requirements.check("mcp")
    await _lazy.load("ipychat.toolbox._sdk")
    from ipychat.toolbox import _sdk

    return _sdk.Connection


def _of_this_loop() -> dict[str, Connection]:
    """Return the connections of the running loop; those of loops that are closed are ended."""
    for closed in [loop for loop in _running if loop.is_closed()]:
        for one in _running.pop(closed).values():
            one.kill()
    return _running.setdefault(asyncio.get_running_loop(), {})


def _places(target: Target) -> list[str]:
    """Return what a policy may know a server by besides its name: its command, or its host."""
    if target.url:
        return [rows.host(target.url)]
    return [target.command[0], " ".join(target.command)]


# -- tools


def _is_allowed(tool: Tool) -> bool:
    try:
        policy.check_tool(tool.name)
    except PolicyError:
        return False
    return True


def _tool(server: Server, definition: Definition) -> Tool:
    name = f"{MCP}{server.name}.{definition.name}"

    async def run(arguments: Mapping[str, Any]) -> Parts:
        policy.check_tool(name)
        connection = await _connected(server)  # again, if it has ended meanwhile
        now = (await connection.tools()).get(definition.name)
        if now != definition:
            what = "no longer has" if now is None else "has changed"
            raise UsageError(
                f"The MCP server {server.name} {what} its tool {definition.name} since it was "
                "given to the model, so it did not run. Ask again."
            )
        return await _called(connection, definition.name, dict(arguments))

    reads = definition.reads and server.trusted
    description, schema = definition.description, definition.schema
    return Tool(name, description, schema, reading(schema), run, reads=reads, beside=reads)


def reading(schema: Json) -> Callable[[Json], Mapping[str, Any]]:
    """Return what checks arguments by a schema that somebody else wrote."""
    checked = _checkable(schema)

    def read(arguments: Json) -> Mapping[str, Any]:
        if not isinstance(arguments, dict):
            raise ValueError("The arguments are no object.")  # noqa: TRY004 - one kind for all
        try:
            schemas.check(checked, arguments)
        except (LookupError, TypeError, AttributeError, RecursionError):
            return arguments  # a schema that can't be checked here: the server does it
        return arguments

    return read


def _checkable(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _checkable(one) for key, one in schema.items() if key not in NOT_CHECKED}
    return [_checkable(one) for one in schema] if isinstance(schema, list) else schema


async def _called(connection: Connection, name: str, arguments: Json) -> Parts:
    from ipychat.toolbox import _sdk

    answer = await connection.ask(_sdk.calling(name, arguments), _sdk.RESULT, what=f"end {name}")
    found = [part for one in answer.content for part in _content(one)]
    has_text = any(isinstance(one, TextPart) for one in found)
    if answer.structured_content is not None and not has_text:
        found.append(TextPart(json.dumps(answer.structured_content, ensure_ascii=False)))
    parts = results.parts_of(_joined(found))
    if answer.is_error:
        raise Failed(*parts)
    return parts


# -- what a server returns


def _content(block: Any) -> list[TextPart | ImagePart]:
    """Return a content block as parts."""
    match block.type:
        case "text":
            return [TextPart(block.text)]
        case "image":
            return [_binary(block.data, block.mime_type, "picture")]
        case "audio":
            return [_binary(block.data, block.mime_type, "recording")]
        case "resource":
            return _contents(block.resource)
        case "resource_link":
            described = f" — {block.description}" if block.description else ""
            return [TextPart(f"[{block.name}]({block.uri}){described}")]
    return [TextPart(f"(something of the type {block.type}, which is left out)")]


def _contents(held: Any) -> list[TextPart | ImagePart]:
    """Return a resource's contents as parts."""
    text = getattr(held, "text", None)
    if isinstance(text, str):
        return [TextPart(text)]
    return [_binary(held.blob, held.mime_type or "", f"file {held.uri}")]


def _binary(written: str, media_type: str, what: str) -> TextPart | ImagePart:
    """Return bytes in base64 as a picture if they are one; else say what they were."""
    steps = range(0, len(written), STEP)  # the loop goes on between them
    try:
        data = b"".join(base64.b64decode(written[at : at + STEP], validate=True) for at in steps)
    except ValueError:
        data = b""
    if picture := results.picture_of(data):
        return picture
    kind = f" ({media_type})" if media_type else ""
    return TextPart(f"(a {what}{kind} of {len(data):,} bytes, which can't be shown)")


def _joined(found: list[TextPart | ImagePart]) -> Parts:
    """Return parts with all their text in one, so that it can be bounded; pictures follow it."""
    text = "\n".join(one.text for one in found if isinstance(one, TextPart))
    pictures = [one for one in found if isinstance(one, ImagePart)]
    if not text and not pictures:
        text = results.NOTHING
    return (*([TextPart(text)] if text else []), *pictures)


async def _whole(found: list[TextPart | ImagePart]) -> Parts:
    """Return what the user asked for by name: with its text uncut."""
    return await offload.run(_cleaned, _joined(found))


def _cleaned(parts: Parts) -> Parts:
    return tuple(
        TextPart(harmless(one.text)) if isinstance(one, TextPart) else one for one in parts
    )


def _is_name(text: str) -> bool:
    """Whether a name can be shown, and written by a user, as it is."""
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def _title(text: str) -> str:
    return shortened(" ".join(harmless(text).split()), MAX_TITLE)
