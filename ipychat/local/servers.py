"""Model servers running on this machine, found at their usual ports.

Its responses, not its port, tell what a server is and which models it has. Ignores responses that
are late, long or of an unknown form, redirects, and anything but loopback. Sends no key and nothing
of the user's, and uses no proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ipychat import config
from ipychat._lazy import load
from ipychat.providers.provider import NO_CHAT
from ipychat.text.characters import harmless

if TYPE_CHECKING:
    import aiohttp

HOST = "127.0.0.1"
"""Never `localhost`: that may be another address, where another process listens."""
PORTS = {1234: "lmstudio", 8080: "llamacpp", 8000: "vllm", 1337: "jan"}
"""Usual ports in order of preference, and the provider for a server that doesn't say what it is."""
PRODUCTS = {
    "llama.cpp": ("llama.cpp", "llamacpp"),
    "llamacpp": ("llama.cpp", "llamacpp"),
    "vllm": ("vLLM", "vllm"),
}
"""A server's `Server` header, or its models' `owned_by` → its label, and its provider."""
UNNAMED = "a server that speaks OpenAI's protocol"
JAN_REFUSALS = ("Invalid or missing authorization token", "Missing authorization header")
"""How Jan asks for its key, in plain text."""

SEARCH_TIMEOUT = 0.3
"""Seconds for the whole search."""
MAX_AGE = 30.0
"""Seconds before another search starts by itself."""
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of a response, enough for 5,000 models; a longer one is ignored."""
MAX_MODELS = 500
"""Models that are listed for one server."""
MAX_NAME = 200
"""Characters. Models with longer names are left out: a shortened name might be another model's."""
CLOUD = ("-cloud", ":cloud")
"""How the names of Ollama's models end that run at ollama.com."""

NOT_OURS = "it isn't known to be yours or the system's"
ON_JUPYTERHUB = "others may share this machine: JupyterHub runs here"
NEEDS_KEY = "it needs a key"
NO_MODEL = "it has no chat model"

SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTENING = "0A"
FIRST_USER = 1000
DYNAMIC_USERS = range(61184, 65520)
"""User ids that systemd creates for its services: https://systemd.io/UIDS-GIDS/"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server on this machine, as it describes itself."""

    product: str
    """Its label."""
    provider: str
    """Its provider's name in the catalog."""
    root: str
    """The root URL at which the provider asks it."""
    models: tuple[str, ...]
    """Its chat models, the best first: loaded ones, then in the server's order."""
    why_not: str | None
    """Why it isn't used unless the user names it; None if it may be used and has a model."""


_last: tuple[float, tuple[Server, ...]] | None = None
"""When the last search ended, and the servers it found."""
_search: asyncio.Task[list[Server]] | None = None
"""The last search that a question started."""


def known() -> list[Server]:
    """Return the servers found by the last search."""
    return list(_last[1]) if _last else []


def is_fresh() -> bool:
    """Whether the last search for servers ended less than `MAX_AGE` seconds ago."""
    return _last is not None and time.monotonic() - _last[0] <= MAX_AGE


def search() -> asyncio.Task[list[Server]]:
    """Start a search for servers on the running loop, unless one is in progress."""
    global _search  # noqa: PLW0603 - the only search in progress
    loop = asyncio.get_running_loop()
    if _search is None or _search.done() or _search.get_loop() is not loop:
        _search = loop.create_task(look())
    return _search


def find(limit: float = SEARCH_TIMEOUT) -> list[Server]:
    """Like `look`, for callers without a loop."""
    found: list[Server] = []

    def work() -> None:
        with asyncio.Runner() as runner:  # asyncio.run may be nest_asyncio's, which closes no loop
            found.extend(runner.run(look(limit)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    return found


async def look(limit: float = SEARCH_TIMEOUT) -> list[Server]:
    """Return the servers that answer within `limit` seconds, the preferred one first."""
    global _last  # noqa: PLW0603 - the value that `known` returns
    await load("aiohttp")
    import aiohttp

    places = _places()
    found: dict[str, Server] = {}
    alone = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=alone) as session:
        asked = (_note(session, root, usual, found) for root, usual in places.items())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await asyncio.gather(*asked)
    servers = tuple(found[root] for root in places if root in found)
    _last = time.monotonic(), servers
    return list(servers)


def _places() -> dict[str, str]:
    """Return the addresses to ask, and the usual provider for each."""
    from ipychat.providers.ollama import Ollama

    places = {}
    root = Ollama.root(config.current().urls.get("ollama")).replace("//localhost", f"//{HOST}")
    with contextlib.suppress(ValueError):  # if it names no address of this machine
        parts = urlsplit(root)
        ours = ip_address(parts.hostname or "").is_loopback
        if ours and parts.scheme == "http" and not parts.username:
            places[root] = "ollama"
    for port, usual in PORTS.items():
        places.setdefault(f"http://{HOST}:{port}", usual)
    return places


async def _note(
    session: aiohttp.ClientSession, root: str, usual: str, found: dict[str, Server]
) -> None:
    import aiohttp

    with contextlib.suppress(OSError, ValueError, aiohttp.ClientError, RecursionError):
        if server := await _look(session, root, usual):
            found[root] = server


# -- what is asked


async def _look(session: aiohttp.ClientSession, root: str, usual: str) -> Server | None:
    if usual == "ollama":
        answer = await _get(session, root, "/api/tags")
        rows = answer.rows("name")
        # llama.cpp has this list as well, and speaks OpenAI's protocol too
        if rows is None or answer.server in PRODUCTS:
            return None
        return await _server("Ollama", usual, root, _names(rows, "name"))
    base = f"{root}/v1"
    if usual == "lmstudio":  # its own list says what is loaded
        rows = (await _get(session, root, "/api/v0/models")).rows("id")
        if rows is not None:
            return await _server("LM Studio", usual, base, _names(rows, "id"))
    answer = await _get(session, root, "/v1/models")
    if answer.status == 401:
        product = _wants_key(answer)
        return await _server(product, usual, base, (), NEEDS_KEY) if product else None
    rows = answer.rows("id")
    if rows is None:
        return None
    owners = {str(row.get("owned_by")) for row in rows}
    owner = owners.pop() if len(owners) == 1 else ""  # a server that relays others has several
    product, provider = PRODUCTS.get(answer.server) or PRODUCTS.get(owner) or (UNNAMED, usual)
    # the list of models is open even to those without a key
    locked = product == "llama.cpp" and (await _get(session, root, "/props")).status == 401
    why_not = NEEDS_KEY if locked else None
    return await _server(product, provider, base, _names(rows, "id"), why_not)


async def _server(
    product: str, provider: str, root: str, models: tuple[str, ...], why_not: str | None = None
) -> Server:
    if not await asyncio.to_thread(_is_trusted, urlsplit(root).port or 80):
        why_not = NOT_OURS
    elif any(name.startswith("JUPYTERHUB_") for name in os.environ):
        why_not = ON_JUPYTERHUB
    elif why_not is None and not models:
        why_not = NO_MODEL
    return Server(product, provider, root, models, why_not)


def _is_trusted(port: int) -> bool:
    """Whether all that listens there is this user's or the system's, as far as can be told."""
    if sys.platform != "linux":
        return True
    rows: list[list[str]] = []
    for table in SOCKET_TABLES:
        with contextlib.suppress(OSError):
            rows += map(str.split, table.read_text().splitlines()[1:])
    users = {int(row[7]) for row in rows if row[3] == LISTENING and row[1].endswith(f":{port:04X}")}
    ours = (one == os.getuid() or one < FIRST_USER or one in DYNAMIC_USERS for one in users)
    return bool(users) and all(ours)


# -- what is answered


class _Answer(NamedTuple):
    status: int
    server: str
    """Its `Server` header."""
    text: str

    @property
    def json(self) -> Any:
        """The parsed body; None if it is not JSON."""
        with contextlib.suppress(ValueError):
            return json.loads(self.text)
        return None

    def rows(self, key: str) -> list[dict[str, Any]] | None:
        """Return the models of a list that names them by `key`; None if it is no such list."""
        if self.status != 200:
            return None
        match key, self.json:
            case ("name", {"models": [*rows]}) | ("id", {"object": "list", "data": [*rows]}):
                whole = (isinstance(row, dict) and isinstance(row.get(key), str) for row in rows)
                return rows if all(whole) else None
        return None


async def _get(session: aiohttp.ClientSession, root: str, path: str) -> _Answer:
    """Request `path`. Raises ValueError if the response is too long."""
    headers = {"Accept-Encoding": "identity", "Connection": "close"}
    asked = session.get(f"{root}{path}", headers=headers, allow_redirects=False)
    async with asked as answer:
        body = bytearray()
        while chunk := await answer.content.readany():
            body += chunk
            if len(body) > MAX_ANSWER:
                raise ValueError("too long")
        said = str(answer.headers.get("Server"))
        return _Answer(answer.status, said, body.decode(errors="replace"))


def _wants_key(answer: _Answer) -> str | None:
    """Return the label of a model server that requires a key; None if it is no such server."""
    if answer.text.strip() in JAN_REFUSALS:
        return "Jan"
    match answer.json:
        case {"error": {"message": str(said)}}:
            return "LM Studio" if "LM Studio" in said else UNNAMED
        case {"error": "Unauthorized"}:  # vLLM's
            return UNNAMED
    return None


def _names(rows: list[dict[str, Any]], key: str) -> tuple[str, ...]:
    rows = sorted(filter(_chats, rows), key=lambda row: not _is_loaded(row))
    names = (harmless(" ".join(row[key].split())) for row in rows)
    fitting = (name for name in names if 0 < len(name) <= MAX_NAME and _names_a_chat_model(name))
    return tuple(dict.fromkeys(fitting))[:MAX_MODELS]


def _names_a_chat_model(name: str) -> bool:
    return not (NO_CHAT.search(name) or name.lower().endswith(CLOUD))


def _chats(row: dict[str, Any]) -> bool:
    """Whether a row of a list describes a chat model that runs on this machine."""
    match row:
        case {"type": "embeddings"}:  # LM Studio's
            return False
        case {"details": {"family": str(family)}} if "bert" in family:  # Ollama's
            return False
        case {"owned_by": "remote"}:  # Jan's
            return False
    return not row.get("remote_host")  # Ollama's


def _is_loaded(row: dict[str, Any]) -> bool:
    match row:
        case {"state": "loaded"} | {"status": {"value": "loaded"}}:  # LM Studio's, llama.cpp's
            return True
    return False
