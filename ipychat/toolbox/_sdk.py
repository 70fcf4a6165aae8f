"""A connection to an MCP server, by the official SDK, which speaks both eras of the protocol.

Importing this takes up to a second; `toolbox/mcp.py` does it in a thread, on first use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import mcp
import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import TypeAdapter, ValidationError

from ipychat import secrets
from ipychat.errors import ChatError, FormatError, ServerError, ServiceTimeoutError
from ipychat.text.characters import harmless, shortened
from ipychat.toolbox._links import link_to
from ipychat.toolbox.servers import Target
from ipychat.toolbox.tool import Failed, Json

START_TIMEOUT = 30.0
"""Seconds for a server to start and to agree on a protocol."""
CLOSE_TIMEOUT = 5.0
"""Seconds to say goodbye."""
MAX_PAGES = 50
"""Pages of a list."""
MAX_ITEMS = 1_000
"""Items of a list."""
MAX_DESCRIPTION = 2_000
"""Characters of a tool's description."""
MAX_SCHEMA = 100_000
"""Characters of a tool's schema."""
MAX_SAID = 300
"""Characters of what a server says of itself, in an error."""
NEWER_ERA = "2026"
"""With what the versions of the stateless protocol begin, or what is later."""
SESSION_LOST = "Session terminated"
"""How the SDK says that an HTTP server doesn't know the session any more."""
MAX_NAME = 128
"""Characters of a tool's name."""

RESULT: TypeAdapter[Any] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)
PROMPT: TypeAdapter[Any] = TypeAdapter(types.GetPromptResult | types.InputRequiredResult)
CONTENTS: TypeAdapter[Any] = TypeAdapter(types.ReadResourceResult | types.InputRequiredResult)

logging.getLogger("mcp").addHandler(logging.NullHandler())  # else its warnings go to the notebook


@dataclass(frozen=True, slots=True)
class Definition:
    """What a server says of a tool, cleaned and bounded."""

    name: str
    description: str
    schema: Json
    reads: bool


class Connection:
    """A running server.

    Its own task opens the SDK's client, waits, and closes it: the SDK's cancel scopes want one task
    for all three. Whoever waits is told the link's fault.
    """

    def __init__(self, target: Target, hash_: str) -> None:
        self.hash = hash_
        self._name = target.name
        self._timeout = target.timeout
        self._link = link_to(target)
        self._client: mcp.Client | None = None
        self._tools: dict[str, Definition] | None = None
        """As listed last; None if they may have changed."""
        self._changes = 0
        """How often the server said that its tools have changed."""
        self._opened = asyncio.Event()
        self._owner = asyncio.create_task(self._own(), name=f"ipychat MCP {target.name}")

    @property
    def is_over(self) -> bool:
        """Whether it can't be used any more."""
        return self._link.over.is_set() or self._owner.done()

    async def opened(self) -> None:
        """Wait until the server is ready. Raises ChatError if it does not become so."""
        await self._opened.wait()
        self._check()

    async def close(self) -> None:
        """Let the server end, and see that it does."""
        self._link.over.set()
        await asyncio.wait([self._owner])

    def kill(self) -> None:
        """End the server at once, without its loop."""
        self._link.kill()

    # -- the owner

    async def _own(self) -> None:
        loop = asyncio.get_running_loop()
        client = mcp.Client(
            self._link.open(),
            client_info=types.Implementation(name="ipychat", version="0"),
            message_handler=self._heard,
            cache=None,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT) as limit, client:
                limit.reschedule(None)
                self._client = client
                self._opened.set()
                await self._wait_for_the_end(client)
                limit.reschedule(loop.time() + CLOSE_TIMEOUT)
        except (Exception, BaseExceptionGroup, asyncio.CancelledError) as error:  # noqa: BLE001 - kept, and told
            self._link.fail(self._fault(error))
        finally:
            self._link.over.set()
            self._link.kill()
            self._opened.set()

    async def _wait_for_the_end(self, client: mcp.Client) -> None:
        """Wait; a server of the newer era tells of changed tools only where someone listens."""
        tools = client.server_capabilities.tools
        listens = None
        if tools and tools.list_changed and client.protocol_version >= NEWER_ERA:
            listens = asyncio.create_task(self._listen(client))
        try:
            await self._link.over.wait()
        finally:
            if listens is not None:
                listens.cancel()
                await asyncio.wait([listens])

    async def _listen(self, client: mcp.Client) -> None:
        with contextlib.suppress(Exception):  # that it ended counts as a change
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._forget_tools()
        self._forget_tools()

    async def _heard(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._forget_tools()

    def _forget_tools(self) -> None:
        self._tools = None
        self._changes += 1

    def _fault(self, error: BaseException) -> ChatError:
        """Return the error for what ended the owner, where nothing more exact is known."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ChatError):
            return error
        if self._opened.is_set():
            return self._broken("broke off.")
        if isinstance(error, TimeoutError):
            said = f"did not start within {START_TIMEOUT:g} s, and {self._link.given_up}."
            return ServiceTimeoutError(str(self._broken(said)))
        if isinstance(error, MCPError):
            return self._broken(f"did not start: {_said(error.message)}")
        return self._broken(f"did not start ({type(error).__name__}).")

    def _broken(self, how: str) -> ServerError:
        return ServerError(f"The MCP server {self._name} {how}{self._link.last_words}")

    def _check(self) -> mcp.Client:
        """Return the client. Raises ChatError if the server is not there."""
        if (fault := self._link.fault) is not None:
            raise type(fault)(*fault.args)  # many may wait: each gets its own
        if self._client is None or self._link.over.is_set():
            raise ServerError(f"The MCP server {self._name} was ended.")
        return self._client

    # -- requests

    async def ask(self, request: Any, kind: Any, *, what: str) -> Any:
        """Send a request. Raises Failed if the server refuses it, and ChatError if it is broken.

        `what` says what the server is asked to do, for an error.
        """
        session = self._check().session
        try:
            async with asyncio.timeout(self._timeout):
                answer = await session.send_request(request, kind)
        except TimeoutError:
            said = f"did not {what} within {self._timeout:g} s, and {self._link.given_up}."
            advice = "\nIts row may allow more: timeout."
            self._link.fail(ServiceTimeoutError(f"{self._broken(said)}{advice}"))
            self._check()
        except MCPError as error:
            self._raise(error)
        except ValidationError:
            self._check()
            raise FormatError(
                f"The MCP server {self._name} answered against its protocol."
            ) from None
        if isinstance(answer, types.InputRequiredResult):
            raise Failed(
                f"{self._name} asks back, for the user's input or for a model's: that is refused."
            )
        return answer

    def _raise(self, error: MCPError) -> NoReturn:
        """Raise what a JSON-RPC error means."""
        is_lost = error.code == types.CONNECTION_CLOSED or error.message == SESSION_LOST
        if is_lost and not self._link.over.is_set():
            self._link.fail(self._broken("broke off."))
        self._check()
        raise Failed(_said(error.message) or f"error {error.code}") from None

    async def tools(self, *, anew: bool = False) -> dict[str, Definition]:
        """Return the tools by name; `anew` asks the server even if it told of no change."""
        if self._tools is not None and not anew:
            return self._tools
        changes = self._changes
        listed = await self.listed(types.ListToolsRequest, types.ListToolsResult, "tools")
        tools = await asyncio.to_thread(_definitions, listed, self._name)  # it may be much
        if changes == self._changes:  # else it must be asked again
            self._tools = tools
        return tools

    async def listed(self, request: Any, kind: Any, what: str) -> list[Any]:
        """Return all pages of a list; empty if the server has no such thing."""
        if getattr(self._check().server_capabilities, what) is None:
            return []
        items: list[Any] = []
        cursor = None
        for _ in range(MAX_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self.ask(request(params=params), kind, what=f"list its {what}")
            items += getattr(page, what)
            cursor = page.next_cursor
            if len(items) > MAX_ITEMS:
                break
            if not cursor:
                return items
        raise FormatError(f"The MCP server {self._name} lists too many {what}: {len(items):,}.")


def calling(name: str, arguments: Json) -> Any:
    """Return the request that calls a tool.

    Not `Client.call_tool`: that checks the result by a schema of the server's, whose expressions
    could hold the loop.
    """
    params = types.CallToolRequestParams(name=name, arguments=arguments)
    return types.CallToolRequest(params=params)


def reading(uri: str) -> Any:
    """Return the request that reads a resource."""
    return types.ReadResourceRequest(params=types.ReadResourceRequestParams(uri=uri))


def prompting(name: str, arguments: dict[str, str]) -> Any:
    """Return the request that gets a prompt."""
    params = types.GetPromptRequestParams(name=name, arguments=arguments)
    return types.GetPromptRequest(params=params)


def _said(text: str) -> str:
    """Return what a server says, on one line."""
    return shortened(" ".join(harmless(text[: 10 * MAX_SAID]).split()), MAX_SAID)


def _definitions(listed: list[types.Tool], server: str) -> dict[str, Definition]:
    found = filter(None, (_definition(one, server) for one in listed))
    return {one.name: one for one in found}


def _definition(tool: types.Tool, server: str) -> Definition | None:
    """Return a tool's definition; None, and a line in the log, if it can't be given to a model."""
    schema = {"type": "object", "properties": {}, **clean(tool.input_schema)}
    wrong = None
    if not 0 < len(tool.name) <= MAX_NAME or not tool.name.isprintable() or " " in tool.name:
        wrong = "its name can't be one"
    elif len(str(schema)) > MAX_SCHEMA:
        wrong = "its schema is too long"
    if wrong:
        name = shortened(harmless(tool.name), MAX_NAME)
        secrets.log.warning(
            "The tool %s of the MCP server %s is left out: %s.", name, server, wrong
        )
        return None
    description = shortened(harmless(tool.description or tool.title or ""), MAX_DESCRIPTION)
    reads = tool.annotations is not None and tool.annotations.read_only_hint is True
    return Definition(tool.name, description, schema, reads)


def clean(value: Any) -> Any:
    """Return JSON without characters that act on a terminal or a page."""
    match value:
        case str():
            return harmless(value)
        case Mapping():
            return {harmless(str(key)): clean(one) for key, one in value.items()}
        case list():
            return [clean(one) for one in value]
    return value
