"""Limits on models, hosts, tools and programs: an administrator sets them, a user narrows them.

They are read from a file that only an administrator can write; a user's configuration file would
override an administrator's:

    {"allowed_models": ["openai:*", "helper:*"], "allowed_hosts": ["api.openai.com"]}

Names may contain `*`. This is a guard-rail, not a wall: code in a kernel can do whatever Python
can.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ipychat import config
from ipychat.errors import PolicyError
from ipychat.store import files

NAME = "policy.json"

_own: set[str] = set()
"""Hosts and ports of this kernel's own gateway; the requests it makes itself are checked."""


class Limits(NamedTuple):
    """Patterns, one of which must match; None means no limit."""

    allowed_models: tuple[str, ...] | None = None
    allowed_hosts: tuple[str, ...] | None = None
    allowed_tools: tuple[str, ...] | None = None
    """Tools by name: `kernel.*`, `mcp:git.*`."""
    allowed_servers: tuple[str, ...] | None = None
    """MCP servers by name, by command or by host."""
    allowed_commands: tuple[str, ...] | None = None
    """Commands that start a program: by the program alone, or with all of its arguments."""


@functools.cache
def file() -> Path:
    """Return the path of an administrator's file; no environment variable can change it."""
    if sys.platform == "win32":
        import platformdirs  # reads the registry there

        return Path(platformdirs.site_config_dir("ipychat", appauthor=False)) / NAME
    if sys.platform == "darwin":
        return Path("/Library/Application Support/ipychat") / NAME
    return Path("/etc/ipychat") / NAME


def check_model(model: str) -> None:
    """Raise PolicyError if `model`, written provider:name, is not allowed."""
    _check(model, "allowed_models", model)


def refusal() -> Callable[[str, str], str | None]:
    """Return a function that says briefly why a model is not allowed, or None if it is.

    With an empty model it does so for a provider none of whose models is allowed.
    """
    limits = [(whose, one.allowed_models) for whose, one in _limits()]

    def refused(provider: str, model: str) -> str | None:
        name = f"{provider}:{model}" if model else provider
        for whose, patterns in limits:
            if patterns is not None and not model:
                patterns = tuple(one.partition(":")[0] for one in patterns)  # noqa: PLW2901
            if not _fits(name, patterns):
                return f"not allowed by {whose[0].lower()}{whose[1:]}"
        return None

    return refused


def check_url(url: str) -> None:
    """Raise PolicyError if requests to the host of `url` are not allowed."""
    if config.replay() == "replay":
        raise PolicyError("Nothing is sent while answers are replayed: IPyChat.replay is 'replay'.")
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    _check(host, "allowed_hosts", f"requests to {host}", own=parts.netloc in _own)


def check_tool(name: str) -> None:
    """Raise PolicyError if a tool, named as the user writes it, is not allowed."""
    _check(name, "allowed_tools", f"the tool {name}")


def check_server(name: str, *where: str) -> None:
    """Raise PolicyError if neither an MCP server's name is allowed nor its command or host."""
    _check(name, "allowed_servers", f"the server {name}", also=where)


def check_command(*command: str) -> None:
    """Raise PolicyError if a program may not be started; none is while answers are replayed."""
    program = command[0]
    if config.replay() == "replay":
        raise PolicyError(
            f"{program} is not started while answers are replayed: IPyChat.replay is 'replay'."
        )
    whole = " ".join(command)
    _check(program, "allowed_commands", f"starting {program}", also=[whole])


def _check(name: str, kind: str, what: str, *, own: bool = False, also: Iterable[str] = ()) -> None:
    """Raise PolicyError if neither `name` nor another matches a limit and it is not our own."""
    for whose, limits in _limits():  # a file that can't be read forbids our own, too
        patterns: tuple[str, ...] | None = getattr(limits, kind)
        if not (own or _fits(name, patterns) or any(_fits(one, patterns) for one in also)):
            raise PolicyError(
                f"{whose} does not allow {what}.\n"
                f"Allowed are: {', '.join(patterns or ()) or 'none'}."
            )


def limits_hosts() -> bool:
    """Whether there are limits on hosts."""
    return any(limits.allowed_hosts is not None for _, limits in _limits())


def own(root: str) -> None:
    """Allow this kernel's own gateway at `root`."""
    _own.add(urlsplit(root).netloc)


def in_force() -> list[tuple[str, str]]:
    """Return each limit in words, with its source."""
    return [
        (f"{kind.replace('_', ' ')}: {', '.join(patterns) or 'none'}", whose)
        for whose, limits in _limits()
        for kind, patterns in zip(Limits._fields, limits, strict=True)
        if patterns is not None
    ]


def _limits() -> list[tuple[str, Limits]]:
    """Return the limits in force, each with its source."""
    settings = config.current()
    path = file()
    try:
        version = files.version(path)
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    own = Limits(*[getattr(settings, kind) for kind in Limits._fields])
    if own.allowed_hosts is not None:
        own = own._replace(allowed_hosts=tuple(map(str.lower, own.allowed_hosts)))
    found = [("%config IPyChat", own)]
    if version:
        found.insert(0, ("The administrator's policy", _read(path, version)))
    return found


@functools.lru_cache(maxsize=4)
def _read(path: Path, _version: tuple[int, ...]) -> Limits:
    """Read the file; if it can't be read, allow nothing, since its limits are unknown."""
    try:
        given = json.loads(path.read_bytes())
        if not isinstance(given, dict) or given.keys() - {*Limits._fields}:
            raise ValueError(f"it holds an object with {', '.join(Limits._fields)} at most")
        return Limits(**{kind: _patterns(kind, value) for kind, value in given.items()})
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _unreadable(path, why) from None


def _patterns(kind: str, given: object) -> tuple[str, ...]:
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return tuple(one.lower() if kind == "allowed_hosts" else one for one in given)
    raise ValueError(f"{kind} must be a list of texts")


def _unreadable(path: Path, why: str | None) -> PolicyError:
    return PolicyError(
        f"The administrator's policy {path} can't be read, so nothing is sent: {why}."
    )


def _fits(name: str, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
