"""Servers of models that run on this machine, found where they usually listen.

What one is, and which models it has, is what its answer says, never its port alone. Refuses answers
that are late, long or of another form, redirects, and everything but this machine's loopback. Asks
without a key, without a proxy, and with nothing of the user's.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ipychat import config
from ipychat.text.characters import harmless

HOST = "127.0.0.1"
"""Never `localhost`: that may be another address, where another process listens."""
PORTS = {1234: "lmstudio", 8080: "llamacpp", 8000: "vllm", 1337: "jan"}
"""Where servers listen, the preferred first, and who asks one that doesn't say what it is."""
PRODUCTS = {
    "llama.cpp": ("llama.cpp", "llamacpp"),
    "llamacpp": ("llama.cpp", "llamacpp"),
    "vllm": ("vLLM", "vllm"),
}
"""What a server's header or each `owned_by` says → its name for people, and who asks it."""
UNNAMED = "a server that speaks OpenAI's protocol"
JAN = ("Invalid or missing authorization token", "Missing authorization header")
"""How Jan asks for its key, in plain text."""

LIMIT = 0.3
"""Seconds for all of it."""
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer with its headers, room for 5,000 models; a longer one counts as none."""
MAX_MODELS = 500
"""How many are kept."""
MAX_NAME = 200
"""Characters. A model with a longer name is left out: cut, it would be another's."""
NO_CHAT = re.compile(
    r"[-:]cloud$|embed|minilm|rerank|whisper|diffusion|\b(bge|gte|e5|tts)\b", re.IGNORECASE
)
"""Names of models that answer no chats, and of Ollama's that run at ollama.com."""

NOT_OURS = "it isn't known to be yours or the system's"
HUB = "others may share this machine: JupyterHub runs here"
KEY = "it wants a key"
NO_MODEL = "it has no model that answers chats"

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTENS = "0A"
FIRST_USER = 1000
DYNAMIC = range(61184, 65520)
"""Users that systemd makes up for its services: https://systemd.io/UIDS-GIDS/"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server on this machine, as it describes itself."""

    product: str
    """Its name for people."""
    provider: str
    """Who asks it, as the catalog calls it."""
    root: str
    """The root URL at which that provider asks it."""
    models: tuple[str, ...]
    """Those that answer chats, the best one first: loaded ones, then as the server lists them."""
    why_not: str | None
    """Why it isn't used unless the user names it; None: it may be, and has a model."""


_last: tuple[float, tuple[Server, ...]] | None = None
"""When it was last looked for servers, and which there were."""


def known(max_age: float = 30.0) -> list[Server]:
    """Return what `find` found last; it is asked again after `max_age` seconds."""
    if _last is None or time.monotonic() - _last[0] > max_age:
        return find()
    return list(_last[1])


def find(limit: float = LIMIT) -> list[Server]:
    """Return the servers that answer within `limit` seconds, the preferred one first."""
    global _last  # noqa: PLW0603 - the one value that `known` returns
    places = _places()
    until = time.monotonic() + limit
    found: dict[str, Server] = {}
    threads = [
        threading.Thread(target=_note, args=(root, usual, until, found), daemon=True)
        for root, usual in places.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    servers = tuple(found[root] for root in places if root in found)
    _last = time.monotonic(), servers
    return list(servers)


def _places() -> dict[str, str]:
    """Return the addresses that are asked, and the usual provider of each."""
    from ipychat.providers.ollama import Ollama

    places = {}
    root = Ollama.root(config.current().urls.get("ollama")).replace("//localhost", f"//{HOST}")
    with contextlib.suppress(ValueError):  # where it names no address of this machine
        parts = urlsplit(root)
        ours = ip_address(parts.hostname or "").is_loopback
        if ours and parts.scheme == "http" and not parts.username:
            places[root] = "ollama"
    for port, usual in PORTS.items():
        places.setdefault(f"http://{HOST}:{port}", usual)
    return places


def _note(root: str, usual: str, until: float, found: dict[str, Server]) -> None:
    with contextlib.suppress(OSError, ValueError, HTTPException, RecursionError):
        if server := _look(root, usual, until):
            found[root] = server


# -- what is asked


def _look(root: str, usual: str, until: float) -> Server | None:
    if usual == "ollama":
        answer = _get(root, "/api/tags", until)
        rows = answer.rows("name")
        # llama.cpp has the list as well, and speaks OpenAI's protocol behind it
        if rows is None or answer.server in PRODUCTS:
            return None
        return _server("Ollama", usual, root, _names(rows, "name"))
    base = f"{root}/v1"
    if usual == "lmstudio":  # its own list says what is loaded
        rows = _get(root, "/api/v0/models", until).rows("id")
        if rows is not None:
            return _server("LM Studio", usual, base, _names(rows, "id"))
    answer = _get(root, "/v1/models", until)
    if answer.status == 401:
        product = _wants_key(answer)
        return _server(product, usual, base, (), KEY) if product else None
    rows = answer.rows("id")
    if rows is None:
        return None
    owners = {str(row.get("owned_by")) for row in rows}
    owner = owners.pop() if len(owners) == 1 else ""  # one that serves others' has several
    product, provider = PRODUCTS.get(answer.server) or PRODUCTS.get(owner) or (UNNAMED, usual)
    # whoever has no key is shown its models all the same
    locked = product == "llama.cpp" and _get(root, "/props", until).status == 401
    return _server(product, provider, base, _names(rows, "id"), KEY if locked else None)


def _server(
    product: str, provider: str, root: str, models: tuple[str, ...], why_not: str | None = None
) -> Server:
    if not _is_trusted(urlsplit(root).port or 80):
        why_not = NOT_OURS
    elif any(name.startswith("JUPYTERHUB_") for name in os.environ):
        why_not = HUB
    elif why_not is None and not models:
        why_not = NO_MODEL
    return Server(product, provider, root, models, why_not)


def _is_trusted(port: int) -> bool:
    """Whether all that listens there is this user's or the system's, as far as can be told."""
    if sys.platform != "linux":
        return True
    rows: list[list[str]] = []
    for table in TABLES:
        with contextlib.suppress(OSError):
            rows += map(str.split, table.read_text().splitlines()[1:])
    users = {int(row[7]) for row in rows if row[3] == LISTENS and row[1].endswith(f":{port:04X}")}
    ours = (one == os.getuid() or one < FIRST_USER or one in DYNAMIC for one in users)
    return bool(users) and all(ours)


# -- what is answered


class _Answer(NamedTuple):
    status: int
    server: str
    """What its header of that name says."""
    text: str

    @property
    def json(self) -> Any:
        """What the text says; None where it is no JSON."""
        with contextlib.suppress(ValueError):
            return json.loads(self.text)
        return None

    def rows(self, key: str) -> list[dict[str, Any]] | None:
        """Return the models of a list that names them by `key`; None where it is no such list."""
        if self.status != 200:
            return None
        match key, self.json:
            case ("name", {"models": [*rows]}) | ("id", {"object": "list", "data": [*rows]}):
                whole = (isinstance(row, dict) and isinstance(row.get(key), str) for row in rows)
                return rows if all(whole) else None
        return None


class _Bounded(io.RawIOBase):
    """What comes through a connection, for as long and as much as it may."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection, self._until, self._left = connection, until, MAX_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left(self._until))
        size = self._connection.recv_into(buffer)
        self._left -= size
        if self._left < 0:
            raise ValueError("too long")
        return size

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 - a socket's
        """Return what is read from, as an HTTPResponse asks its socket for it."""
        return io.BufferedReader(self)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _get(root: str, path: str, until: float) -> _Answer:
    parts = urlsplit(root)
    head = f"GET {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    address = parts.hostname or HOST, parts.port or 80
    with socket.create_connection(address, _left(until)) as connection:
        connection.sendall(head.encode())
        received: Any = _Bounded(connection, until)
        with HTTPResponse(received, method="GET") as answer:
            answer.begin()
            # in pieces: memory for a whole body is taken before it comes
            body = b"".join(iter(lambda: answer.read(65536), b""))
            said = str(answer.headers.get("Server"))
            return _Answer(answer.status, said, body.decode(errors="replace"))


def _wants_key(answer: _Answer) -> str | None:
    """Return the name of the server that refuses to answer; None where it is none of models."""
    if answer.text.strip() in JAN:
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
    fitting = (one for one in names if 0 < len(one) <= MAX_NAME and not NO_CHAT.search(one))
    return tuple(dict.fromkeys(fitting))[:MAX_MODELS]


def _chats(row: dict[str, Any]) -> bool:
    """Whether a model answers chats, and on this machine, as far as its row says."""
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
