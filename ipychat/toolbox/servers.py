"""MCP servers as they are configured: who is known, from where, and what a row says.

A row comes from `%config IPyChat.mcp`, from `mcp.json` in ipychat's folder, or from `.mcp.json` in
the notebook's folder, in this order. The last is untrusted, since a notebook's folder may be
anybody's: until the user allows such a row, nothing of it is started, asked or expanded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ipychat import config, secrets
from ipychat.errors import UsageError
from ipychat.store import files
from ipychat.text import words
from ipychat.text.characters import harmless, shortened

CONFIG = "%config IPyChat.mcp"
HOME_FILE = "mcp.json"
FOLDER_FILE = ".mcp.json"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}", re.ASCII)
"""`${NAME}`, or `${NAME:-what stands in for it}`."""
LIKE_A_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[/\\]")
ASSIGNED = re.compile(r"(-*[\w-]+)(?:=|:\s*)(.+)", re.DOTALL)
"""An argument that holds a name and its value."""
MAX_FILE = 1 << 20
"""Bytes of a file with rows."""
MAX_SHOWN = 300
"""Characters of a command that are shown."""
TIMEOUT = 60.0
"""Seconds that a server may take to answer, unless its row says otherwise."""
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
"""Flags to open a file that may be anything: don't block."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """A configured server."""

    name: str
    source: str
    """Where its row stands."""
    trusted: bool
    """Whether the row is the user's own, not the folder's."""
    row: Row = field(repr=False)
    fault: str | None = None
    """Why it can't be used; None if it can."""
    runs: bool = False

    @property
    def hash(self) -> str:
        """The hash of its row and of where that stands: what was allowed holds for it alone."""
        said = json.dumps([self.name, self.source, self.row], sort_keys=True, default=str)
        return hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()

    @property
    def where(self) -> str:
        """Its command or its address, without secrets."""
        if "url" in self.row:
            said = secrets.without_login(str(self.row["url"]))
        else:
            said = " ".join(map(str, [self.row.get("command", ""), *self.row.get("args", ())]))
        return shortened(secrets.mask(harmless(said)), MAX_SHOWN)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the environment that its row wants."""
        found = (one[1] for text in _texts(self.row) for one in VARIABLE.finditer(text))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Target:
    """A server's row with its variables expanded: what is started or asked."""

    name: str
    command: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = TIMEOUT


def known() -> list[Server]:
    """Return the configured servers. A folder's row never takes the name of a trusted one."""
    places = [(files.home() / HOME_FILE, True)]
    with contextlib.suppress(OSError):  # the folder is gone
        places.append((Path.cwd() / FOLDER_FILE, False))
    found: dict[str, Server] = {}
    for name, row in config.current().mcp.items():
        found[name] = Server(name, CONFIG, trusted=True, row=row, fault=fault(name, row))
    for path, trusted in places:
        for server in _in_file(path, trusted=trusted):
            found.setdefault(server.name, server)
    return list(found.values())


def find(name: str) -> Server:
    """Return a server that can be used. Raises UsageError, with near misses."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{shortened(harmless(name), 64)!r} can't be the name of an MCP server: it has "
            "letters, digits, _ and - only."
        )
    every = known()
    for server in every:
        if server.name == name:
            if server.fault:
                raise UsageError(server.fault)
            return server
    faults = [f"\n{one.fault}" for one in every if one.fault]
    near = words.near(name, [one.name for one in every if not one.fault])
    advice = f"\nAdd it to {CONFIG} or to {files.home() / HOME_FILE}." if not every else ""
    raise UsageError(f"No MCP server is called {name}.{near}{''.join(faults[:2])}{advice}")


def host(url: str) -> str:
    """Return the host of an address, as a policy names it; empty if it has none."""
    return (urlsplit(url).hostname or "").lower().rstrip(".")


def fault(name: object, row: object) -> str | None:
    """Say what is wrong with a row; None if nothing is."""
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        return (
            f"{shortened(harmless(str(name)), 64)!r} can't be the name of an MCP server: it has "
            "letters, digits, _ and - only."
        )
    if not isinstance(row, Mapping) or ("command" in row) == ("url" in row):
        return f"The MCP server {name} needs a command or a url, and not both."
    for key, (fits, wanted) in FIELDS.items():
        if key in row and not fits(row[key]):
            return f"The {key} of the MCP server {name} is {wanted}."
    return None


def _is_text(given: Any) -> bool:
    return isinstance(given, str) and bool(given.strip()) and "\0" not in given


def _is_list(given: Any) -> bool:
    return isinstance(given, list | tuple) and all(
        isinstance(one, str) and "\0" not in one for one in given
    )


def _is_dict(given: Any) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(one, str) and one.isprintable() for pair in given.items() for one in pair
    )


def _is_url(given: Any) -> bool:
    if not _is_text(given):
        return False
    try:
        return urlsplit(given).scheme in {"http", "https"} or given.startswith("${")
    except ValueError:
        return False


FIELDS = {
    "command": (_is_text, "a program's name or path"),
    "args": (_is_list, "a list of texts"),
    "env": (_is_dict, "a dict of texts"),
    "cwd": (_is_text, "a folder's path"),
    "url": (_is_url, "a web address"),
    "headers": (_is_dict, "a dict of texts"),
    "timeout": (
        lambda given: isinstance(given, int | float) and not isinstance(given, bool) and given > 0,
        "a number of seconds",
    ),
    "type": (
        lambda given: given in {"stdio", "http", "streamable-http", "streamableHttp"},
        "stdio or http: others are not spoken any more",
    ),
}
"""The fields of a row that count, what may stand in each, and that in words."""


def hidden(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return rows whose headers and variables no `repr` shows; they are registered as secrets."""
    return {name: _hidden(row) for name, row in rows.items()}


def _hidden(row: Row) -> Row:
    """Return a row with what may be secret in it wrapped, and registered."""
    hides = dict(row)
    hides["args"] = _hidden_arguments(list(row.get("args", ())))
    for key in ("env", "headers"):
        if given := row.get(key):
            hides[key] = {name: secrets.Secret(one) for name, one in given.items()}
            for name, one in given.items():
                _register(name, VARIABLE.sub("", one), is_header=key == "headers")
    if "url" in row:
        hides["url"] = secrets.register_url(row["url"])
    return {key: hides[key] for key in row}


def _register(name: str, value: str, *, is_header: bool) -> None:
    """Register a value as a secret.

    In `env` that is one with a secret's name or with a digit, unless it is a path or an address:
    from then on it is masked everywhere, which would garble `America/New_York`.
    """
    is_plain = LIKE_A_PATH.match(value) or "://" in value or not re.search(r"\d", value)
    if is_header or not is_plain:
        secrets.register(value.strip(), name)
    else:
        secrets.register_environment({name: value})


def _hidden_arguments(arguments: list[str]) -> list[str]:
    """Wrap the secrets among arguments: `--api-key …`, `--token=…`, `Authorization: …`."""
    found: list[str] = []
    before = ""
    for one in arguments:
        assigned = ASSIGNED.match(one)
        if VARIABLE.search(one):
            found.append(one)
        elif not one.startswith("-") and secrets.is_name(before):
            found.append(_secret(before, one, one))
        elif assigned and secrets.is_name(assigned[1]):
            found.append(_secret(assigned[1], assigned[2], one))
        else:
            found.append(secrets.register_url(one))
        before = one if one.startswith("-") else ""
    return found


def _secret(name: str, value: str, argument: str) -> str:
    secrets.register(value, name)
    return secrets.Secret(argument)


def expand(server: Server) -> Target:
    """Return what to start or to ask, for a server that was allowed. Raises UsageError.

    Only now is `${NAME}` read from the environment; what it holds there is a secret if its name
    says so, or if it stands in a header or in `env`.
    """
    row = _hidden({key: _expanded(one, server.name) for key, one in server.row.items()})
    command = (row["command"], *row.get("args", ())) if "command" in row else ()
    cwd = row.get("cwd")
    return Target(
        server.name,
        command=command,
        env=row.get("env", {}),
        cwd=os.path.expanduser(cwd) if cwd else None,  # noqa: PTH111 - stays a text
        url=row.get("url", ""),
        headers=row.get("headers", {}),
        timeout=float(row.get("timeout", TIMEOUT)),
    )


def _expanded(value: Any, name: str) -> Any:
    match value:
        case str():
            return VARIABLE.sub(lambda found: _variable(found, name), value)
        case Mapping():
            return {key: _expanded(one, name) for key, one in value.items()}
        case list() | tuple():
            return [_expanded(one, name) for one in value]
    return value


def _variable(found: re.Match[str], name: str) -> str:
    variable: str = found[1]
    value: str | None = os.environ.get(variable, found[2])
    if value is None:
        raise UsageError(
            f"The MCP server {name} needs the variable {variable}, which the environment lacks.\n"
            f'Set it: %env {variable}=…, or os.environ["{variable}"] = …'
        )
    if secrets.is_name(variable):
        secrets.register(value.strip(), variable)
    return value


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for one in value.values():
                yield from _texts(one)
        case list() | tuple():
            for one in value:
                yield from _texts(one)


# -- files


def _in_file(path: Path, *, trusted: bool) -> Iterator[Server]:
    """Yield the servers of a file; one with a fault if the file can't be read."""
    try:
        rows = _read(path)
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        unread = f"{path} can't be read: {why}."
        yield Server(path.name, str(path), trusted=trusted, row={}, fault=unread)
        return
    for name, row in rows.items():
        if isinstance(row, Mapping) and row.get("disabled") is True:
            continue
        wrong = fault(name, row)
        shown = shortened(harmless(name), 64)
        said = f"{wrong}\nIts row stands in {path}." if wrong else None
        kept = {} if wrong else _hidden(row) if trusted else row
        yield Server(shown, str(path), trusted=trusted, row=kept, fault=said)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        descriptor = os.open(path, READ)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE:
        raise ValueError(f"it has over {MAX_FILE >> 20} MiB")
    try:
        given = json.loads(data.decode("utf-8-sig"))
    except ValueError:
        raise ValueError("it is not valid JSON") from None
    rows = given.get("mcpServers") if isinstance(given, dict) else None
    if not isinstance(rows, dict):
        raise ValueError("it holds no object with the key mcpServers")  # noqa: TRY004 - one kind
    return rows
