"""What MCP servers said of their tools, kept beside the answers: a replay starts no server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipychat import config
from ipychat.errors import StoreError, UsageError
from ipychat.messages import Result, ToolCall, read_result
from ipychat.store import replay
from ipychat.store.answers import Receipt
from ipychat.toolbox import mcp
from ipychat.toolbox.decisions import Pending
from ipychat.toolbox.servers import Server
from ipychat.toolbox.tool import MCP, Failed, Json, Tool


async def tools(name: str) -> list[Tool]:
    """Return the tools of a server, `mcp:NAME`, or one of them, `mcp:NAME.TOOL`.

    Where they are recorded, the server is only started for a call that is not.
    """
    receipt = Receipt.of({"tools of": name})
    if kept := await _kept(receipt, "list of this server's tools"):
        return [_tool(one) for one in _definitions(name, kept)]
    found = await mcp.tools_of(name, allowed=allowed)
    await _keep(receipt, {"tools": [_definition(one) for one in found]})
    return found


async def resource(name: str) -> Result:
    """Return what a resource holds, `mcp:NAME/URI`, or a prompt says, `mcp:NAME/PROMPT`.

    Where that is recorded, it is as it was then.
    """
    server, slash, uri = name.removeprefix(MCP).partition("/")
    if not slash:
        raise UsageError(f"{name} names no resource: write mcp:{server}/URI, or a prompt's name.")
    receipt = Receipt.of({"resource": name})
    if kept := await _kept(receipt, "resource of this name"):
        return read_result(kept.get("parts"))
    try:
        if "://" in uri:
            parts = await mcp.resource(server, uri, allowed=allowed)
        else:
            parts = await mcp.prompt(server, uri, allowed=allowed)
    except Failed as error:
        raise UsageError(f"{name} can't be read: {error}") from None
    await _keep(receipt, {"parts": [part.to_dict() for part in parts]})
    return parts


async def _kept(receipt: Receipt, what: str) -> Json | None:
    """Return what a cassette has of this, where answers are looked up."""
    looks = bool(config.cassette()) and config.replay() in {"auto", "replay"}
    return await replay.find_record(receipt, is_kept=looks, what=what)


async def _keep(receipt: Receipt, record: Json) -> None:
    if config.cassette():
        await replay.keep_record(receipt, record)


def _definition(tool: Tool) -> Json:
    return {
        "name": tool.name,
        "description": tool.description,
        "schema": tool.schema,
        "reads": tool.reads,
    }


def _definitions(name: str, kept: Mapping[str, Any]) -> list[Json]:
    """Return what is kept, which anyone may have written: only what could come from the server."""
    server, listed = name.partition(".")[0], kept.get("tools")
    rows: list[Any] = listed if isinstance(listed, list) else [None]
    for one in rows:
        match one:
            case {"name": str(name), "description": str(), "schema": dict(), "reads": bool()} if (
                name.startswith(f"{server}.") and name.isprintable()
            ):
                continue
        raise StoreError("The tools of an MCP server were not stored by ipychat.")
    return rows


def _tool(kept: Json) -> Tool:
    async def run(arguments: Mapping[str, Any]) -> Any:
        [live] = await mcp.tools_of(kept["name"], allowed=allowed)
        if live.hash != tool.hash:
            raise Failed(f"The server says something else of {live.name} now: record it again.")
        return await live.run(live.read(dict(arguments)))

    # that it only reads is the server's word, which the cassette may have changed: ask
    schema = kept["schema"]
    tool = Tool(kept["name"], kept["description"], schema, mcp.reading(schema), run)
    return tool


async def allowed(server: Server) -> bool:
    """Ask the user whether a server of the folder's may be started."""
    from ipychat.toolbox import decisions

    tool = Tool(
        f"{MCP}{server.name}",
        f"Start this server, which {server.source} names. The file came with this folder.",
        {"type": "object", "properties": {}, "row": server.hash},
        lambda arguments: arguments,
        _not_run,
        ask=True,
    )
    shown: Json = {"command": server.where}
    asks = (
        f"Start the MCP server {server.name}? Its row came with this folder, in {server.source}:\n"
        f"    {server.where}"
    )
    if server.variables:
        shown["reads of the environment"] = ", ".join(server.variables)
        asks = f"{asks}\nIt reads from the environment: {', '.join(server.variables)}"
    pending = Pending(tool, ToolCall("", tool.name, ""), shown, asks=asks)
    verdict = await decisions.decide(pending, "ask", config.current().ask)
    return verdict.decision in {"once", "always"}


async def _not_run(_: Mapping[str, Any]) -> None:
    raise AssertionError("a server is no tool")
